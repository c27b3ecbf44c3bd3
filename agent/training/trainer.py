"""Training a world model: one loop, on one process or many, that can be stopped and taken up again.

Every random draw of a step is a function of (seed, step) alone, so a resumed run draws what the uninterrupted
one would have drawn. The run folder gets the checkpoint that planned best (without planning: the last one),
`state.safetensors` to go on from, and `metrics.jsonl`.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from latent_planner.common.files import remove_leftovers
from latent_planner.common.progress import Bar

from ..checkpoints import checkpoint
from ..model.device import choose_precision
from ..model.world_model import WorldModel
from ..settings import AgentSettings
from . import landmarks as landmark
from . import sharding
from .budget import Budget, CtrlC
from .collapse import CollapseWatch, effective_rank
from .connection import check_kind, others_may_go
from .dataset import Batch, Journeys, WindowDataset
from .frame_store import prefetch
from .loss import LatentLoss
from .optimization import learning_rate_scale, make_optimizer
from .optimization import training_device as training_device
from .probe import probe as probe_state
from .run_state import LATER, VALUES, MetricsFile, TrainingError, alone_in, load_state, save_state
from .sharding import Divided
from .sigreg import SIGReg
from .train_config import TrainConfig

logger = logging.getLogger(__name__)
Row = dict[str, Any]
PAIRS_A_STEP = 4  # of latents, for each step of the run: landmarks are learned in a part of its time
JOURNEYS = 4  # that the proposer learns from, for each window that the predictor learns from


class Trainer:
    """Trains `world_model` on `dataset`, where the dataset keeps its batches (device), and fills `run_dir`.

    evaluate  called now and then with the model in eval mode; returns {"success": float, …}. The checkpoint
              of the highest success stays (of equals the later). Without evaluate, the last one.
    log       called with every row that goes to metrics.jsonl
    probe     whether evaluations also measure how well recorded state can be read from the latents
    planner   how the checkpoint will plan, see latent_planner.checkpoints.checkpoint.save
    encoder_done  whether the encoder has learned before: it stays as it is, and only what predicts learns
    share     the part of the budget, from 0 to 1, that `fit` uses up: of a run in rounds, one round's. What
              comes after the last step of a run is done where it ends at 1.

    Raises DatasetError when model and data do not match, TrainingError for settings that cannot work.
    """

    def __init__(
        self,
        world_model: WorldModel,
        dataset: WindowDataset,
        config: TrainConfig,
        *,
        run_dir: str | Path,
        evaluate: Callable[[WorldModel], Mapping[str, Any]] | None = None,
        log: Callable[[Row], None] | None = None,
        probe: bool = True,
        planner: AgentSettings | Mapping[str, Any] | None = None,
        encoder_done: bool = False,
        share: tuple[float, float] = (0.0, 1.0),
        progress: bool = True,
    ) -> None:
        dataset.check(world_model.config)
        if dataset.num_frames != config.num_frames:
            raise TrainingError(
                f"num_frames is {config.num_frames} but windows have {dataset.num_frames} frames"
            )
        self.dataset, self.config, self.run_dir = dataset, config, Path(run_dir)
        self.evaluate, self.log, self.planner, self.progress = evaluate, log, planner, progress
        self.probe, self.share = probe and dataset.state is not None, share
        self.encoder_done = encoder_done
        self.freeze_at = 0.0 if encoder_done else config.freeze_encoder  # of this share

        if world_model.proposer is not None and self.freeze_at == 1:
            raise TrainingError(
                "proposals are learned once the encoder is done: set freeze_encoder below 1, or the model's "
                "proposals to 0"
            )
        AcceleratorState._reset_state()  # so that a second Trainer in this process may have another precision
        self.precision = choose_precision(config.precision, dataset.device)
        self.accelerator = Accelerator(
            cpu=dataset.device.type == "cpu",
            mixed_precision="bf16" if self.precision == "bfloat16" else "no",
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],  # equal already
        )
        check_kind(self.accelerator.distributed_type)
        self.rank, self.ranks = self.accelerator.process_index, self.accelerator.num_processes
        if config.batch_size % self.ranks:
            raise TrainingError(
                f"batch_size {config.batch_size} is not divisible by the {self.ranks} processes"
            )
        self.world_model = world_model.to(self.accelerator.device)
        self.optimizer = self._make_optimizer(world_model)
        sigreg = SIGReg(config.sigreg_knots, config.sigreg_directions, seed=config.seed)
        weight, rollout = config.sigreg_weight, config.rollout_steps
        self.latent_loss = LatentLoss(
            world_model,
            sigreg,
            sigreg_weight=weight,
            rollout_steps=rollout,
            sense_dropout=config.sense_dropout,
        )
        self.divided: Divided | None = None
        self._prepare()
        self.held_out = self._batch(0, split="held_out")
        self.metrics = MetricsFile(self.run_dir / "metrics.jsonl")
        self.state_path = self.run_dir / "state.safetensors"
        self.budget = Budget(steps=config.steps, minutes=config.minutes)
        self.watch, self.ctrl_c = CollapseWatch(), CtrlC()
        self.step, self.seconds, self.spent = 0, 0.0, 0.0  # the last two as all processes agree
        self.best: Row = {"success": -math.inf, "step": 0}
        self.evaluated: Row = {"step": 0, "seconds": 0.0, "took": 0.0}
        self.saved = 0.0
        self.recent: list[dict[str, Tensor]] = []  # losses and gradient norms of the steps since the last row
        self.part = (0.0, 1.0)  # the share of the budget over which the learning rate rises and falls
        self.in_step, self.shown = False, ""
        self.began = 0  # step at which this process took over
        self.frozen: int | None = None  # step at which it froze the encoder
        self.waited, self.row_at = 0.0, time.perf_counter()  # for batches, and when the last row was logged

    def _make_optimizer(self, model: nn.Module) -> torch.optim.AdamW:
        config = self.config
        return make_optimizer(model, learning_rate=config.learning_rate, weight_decay=config.weight_decay)

    def _prepare(self) -> None:
        """`loss` is what a step calls, and `moved` the optimizer that it moves, as Accelerate says."""
        self.loss: Any = self.latent_loss
        self.moved: torch.optim.Optimizer = self.optimizer
        if sharding.is_wanted(self.accelerator):
            self.divided = Divided(self.accelerator, self.latent_loss, self.optimizer, self._make_optimizer)
            self.loss, self.moved = self.divided, self.divided.optimizer
            logger.info("weights, gradients and moments are divided over %d processes", self.ranks)
        else:
            self.loss = self.accelerator.prepare(self.latent_loss)

    def fit(self) -> Row:
        """Train until this share of the budget is spent, going on from the run folder's saved state, if any.

        Returns, in the main process, {"steps", "minutes", "frozen", "best_step", "success"}: the last two are
        those of the checkpoint that stays (success None without planning), frozen is the step at which the
        encoder was, or None. TrainingError when the loss stops being
        finite, what was saved before stays; when another process trains in the run folder; when that holds
        links. Ctrl-C saves, then is raised.
        """
        alone = alone_in(self.run_dir) if self.rank == 0 else nullcontext()
        with alone, others_may_go(self.ranks, self.run_dir):
            return self._fit()

    def _fit(self) -> Row:
        self._resume()
        self.began = self.step
        bar = Bar(
            total=100, desc="train", bar_format="{l_bar}{bar}| {note}",
            disable=not (self.progress and self.accelerator.is_main_process),
        )  # fmt: skip
        try:
            with bar, self.ctrl_c:
                begin, end = self.share
                frozen = begin + (end - begin) * self.freeze_at
                if self.freeze_at > 0:
                    self._learn(bar, begin, frozen)
                if self.freeze_at < 1 and self._agree_on_time(bar) < end:
                    self._freeze_encoder()
                    self._learn(bar, frozen, end)
                if end == 1:
                    self._learn_landmarks(self.world_model)
                if self.evaluated["step"] < self.step:
                    self._evaluate()
                self._save()
                if end == 1:
                    self._complete_best()
        except KeyboardInterrupt:
            if not self.in_step:  # a second Ctrl-C may come in the middle of an update
                self._save()
            logger.warning("stopped at step %d; to go on: python train.py resume=%s", self.step, self.run_dir)
            raise
        success = self.best["success"] if self.evaluate else None
        best = {"best_step": self.best["step"], "success": success}
        return {"steps": self.step, "minutes": self.seconds / 60, "frozen": self.frozen, **best}

    def _learn(self, bar: Bar, begin: float, until: float) -> None:
        """Steps, with logging, evaluations and saves, between these shares of the budget."""
        self.part = min(begin, self._agree_on_time(bar)), until  # it may begin early, with a larger budget
        with prefetch(self._batch, self.step, workers=self.dataset.workers) as batches:
            while self._agree_on_time(bar) < until:
                before = time.perf_counter()
                batch = next(batches)
                self.waited += time.perf_counter() - before
                self._train_step(batch)
                if self.step % self.config.log_every == 0:
                    self._log_row()
                    if self._evaluation_is_due():
                        self._evaluate()
                    if self.seconds - self.saved >= 60 * self.config.save_every_minutes:
                        self._save()
        self._log_row()

    def _freeze_encoder(self) -> None:
        """From here on the latents stay as they are: predictor and proposer go on, in much quicker steps."""
        logger.info("step %d: the encoder is done, encoding all frames; what predicts goes on", self.step)
        if self.step > self.began or not self.began:  # else it was frozen before this process took over
            self.frozen = self.step
        if self.divided is not None:
            self.divided.give_moments()
        with self.ctrl_c.at_once(), torch.no_grad(), self.accelerator.autocast():
            if not self.encoder_done:
                self._settle_statistics()
            self.world_model.eval()
            self.dataset.encode_frames(self.world_model.encode)
            self.latent_loss.freeze_encoder(self.world_model.encode(self.held_out.pixels))
        self.world_model.train()
        if self.ranks > 1:  # so that no process waits for gradients of the encoder
            self._prepare()

    def _learn_landmarks(self, world_model: WorldModel) -> None:
        """What plans to far goals lead over: once, in the main process, which alone plans and saves."""
        landmarks = world_model.landmarks
        if self.rank == 0 and landmarks is not None and not landmarks.known:
            pairs = max(2, min(landmark.PAIRS, PAIRS_A_STEP * self.step))
            with self.ctrl_c.at_once(), torch.random.fork_rng():
                landmark.learn_landmarks(
                    world_model, self.dataset, pairs=pairs, seed=self.config.seed, progress=self.progress
                )
            self.world_model.train()

    def _complete_best(self) -> None:
        """Give the checkpoint that stays its landmarks, if it is of an earlier step, when there were none."""
        if self.rank == 0 and self.best["step"] < self.step and self.world_model.landmarks is not None:
            world_model, info = checkpoint.load(self.run_dir, self.accelerator.device)
            if world_model.landmarks is not None and not world_model.landmarks.known:
                self._learn_landmarks(world_model)
                checkpoint.save(world_model, self.run_dir, planner=self.planner, training=info["training"])

    def _settle_statistics(self, batches: int = 20) -> None:
        """BatchNorm's running statistics trail the weights: average the encoder's anew.

        The same batches every time, so that a resumed run gets the same statistics.
        """
        norms = [m for m in self.world_model.encoder.modules() if isinstance(m, nn.BatchNorm1d)]
        before = [(norm.momentum, int(norm.get_buffer("num_batches_tracked"))) for norm in norms]
        self.world_model.train()
        for k in range(batches):
            for norm in norms:
                norm.momentum = 1 / (k + 1)
            self.world_model.encode(self._batch(k).pixels)
        for norm, (momentum, count) in zip(norms, before):
            norm.momentum = momentum
            norm.get_buffer("num_batches_tracked").fill_(count)  # these batches are no training

    def _train_step(self, batch: Batch) -> None:
        config = self.config
        self.in_step = True
        half = 0.5 / config.steps if config.steps else 0.0
        begin, until = self.part
        scale = learning_rate_scale((self.spent + half - begin) / (until - begin), config.warmup)
        for group in self.moved.param_groups:
            group["lr"] = config.learning_rate * scale
        noise = np.random.SeedSequence([config.seed, self.step, self.rank])  # of dropout
        torch.manual_seed(int(noise.generate_state(1)[0]))
        losses = self.loss(batch.pixels, batch.actions, self._journeys(), step=self.step)
        self.accelerator.backward(losses["loss"])
        if self.divided is None:
            norm = self.accelerator.clip_grad_norm_(self.world_model.parameters(), config.clip)
        else:
            norm = self.divided.clip(config.clip)
        self.moved.step()
        self.moved.zero_grad()
        measured = {**losses, "gradient_norm": norm}
        self.recent.append({name: value.detach() for name, value in measured.items()})
        self.step += 1
        self.in_step = False

    def _batch(self, k: int, split: Any = "train") -> Batch:
        config = self.config
        return self.dataset.batch(
            k, config.batch_size, seed=config.seed, split=split, rank=self.rank, world_size=self.ranks
        )

    def _journeys(self) -> Journeys | None:
        """What the proposer learns from in this step, once there are latents to go between."""
        config, proposer = self.config, self.world_model.proposer
        if proposer is None or self.dataset.latents is None:
            return None
        return self.dataset.journeys(
            self.step, JOURNEYS * config.batch_size, longest=proposer.longest, seed=config.seed,
            rank=self.rank, world_size=self.ranks,
        )  # fmt: skip

    def _agree_on_time(self, bar: Bar) -> float:
        """The share of the budget that is spent, by the clock of the main process. Raises a noted Ctrl-C."""
        seconds, spent, stop = self.budget.seconds, self.budget.spent(self.step), float(self.ctrl_c.asked)
        if self.ranks > 1:
            mine = [seconds, spent] if self.rank == 0 else [0.0, 0.0]
            told = torch.tensor([*mine, stop], device=self.accelerator.device)
            seconds, spent, stop = self.accelerator.reduce(told, "sum").tolist()
        self.seconds, self.spent = seconds, spent
        if stop:
            raise KeyboardInterrupt
        left = int(self.budget.left(self.step))
        bar.set_postfix_str(f"step {self.step}{self.shown}, {left // 60}:{left % 60:02d} left", refresh=False)
        bar.update(min(100.0, 100 * spent) - bar.n)
        return spent

    def _evaluation_is_due(self) -> bool:
        steps, minutes = self.config.evaluate_every_steps, self.config.evaluate_every_minutes
        if steps is not None:
            return self.step - self.evaluated["step"] >= steps
        if minutes is None:
            return False
        if self.config.minutes is not None and not self.evaluated["step"]:
            minutes = min(minutes, self.config.minutes / 2)  # tells how long the last will take
        return self.seconds - self.evaluated["seconds"] >= 60 * minutes

    def _log_row(self) -> None:
        """One row for the steps since the last; TrainingError if the loss or its gradient was not finite."""
        if not self.recent:
            return
        if self.divided is not None:
            self.divided.give()
        names = tuple(self.recent[0])
        recent = torch.stack([torch.stack([step[name] for name in names]) for step in self.recent])
        means = self.accelerator.reduce(recent.mean(0), "mean").tolist()
        steps, now = len(self.recent), time.perf_counter()
        if not all(map(math.isfinite, means)):
            raise TrainingError(
                f"the loss or its gradient stopped being finite in steps {self.step - steps + 1} to "
                f"{self.step}: lower learning_rate; what {self.run_dir} held before is still there"
            )
        row: Row = {"step": self.step, "minutes": self.seconds / 60, **dict(zip(names, means))}
        row |= self._measure_held_out()
        row["learning_rate"] = self.moved.param_groups[0]["lr"]
        row["steps_per_second"] = steps / (now - self.row_at)
        row["data_wait"] = self.waited / (now - self.row_at)  # share of the time
        self._write(row)
        self.shown = (
            f", prediction {row['prediction']:.3f} (held out {row['held_out']:.3f}), sigreg "
            f"{row['sigreg']:.2f}, rank {row['effective_rank']:.0f}/{self.world_model.config.latent_dim}"
        )
        self.recent, self.waited, self.row_at = [], 0.0, time.perf_counter()

    @torch.no_grad()
    def _measure_held_out(self) -> Row:
        """One-step prediction error on fixed held-out windows; effective rank and spread of their latents."""
        self.world_model.eval()
        with self.accelerator.autocast():
            latents, predicted = self.world_model(self.held_out.pixels, self.held_out.actions)
        self.world_model.train()
        error = self.accelerator.reduce((predicted - latents[:, 1:]).float().square().mean(), "mean")
        flat = latents.float().flatten(0, 1)
        rank, std = effective_rank(flat), flat.std(0)
        if self.rank == 0 and self.spent > 0.05:  # before, everything moves
            self.watch.check(rank, std, self.step)
        return {"held_out": float(error), "effective_rank": rank, "latent_std": float(std.mean())}

    def _evaluate(self) -> None:
        """Probes and planning success; the checkpoint, if none was better."""
        self._log_row()
        start = time.perf_counter()
        row: Row = {"step": self.step, "minutes": self.seconds / 60}
        if self.rank == 0:
            self.world_model.eval()
            with self.ctrl_c.at_once(), torch.no_grad():
                if self.probe:
                    found = probe_state(self.world_model, self.dataset, seed=self.config.seed)
                    row |= {f"probe/{name}/{key}": r for name, fit in found.items() for key, r in fit.items()}
                if self.evaluate is not None:
                    row |= self.evaluate(self.world_model)
            self.world_model.train()
            success = float(row["success"]) if self.evaluate else 0.0
            if success >= self.best["success"]:
                self.best = {"success": success, "step": self.step}
                training = {**row, "precision": self.precision, "config": asdict(self.config)}
                checkpoint.save(self.world_model, self.run_dir, planner=self.planner, training=training)
            self._write({**row, "evaluation_seconds": time.perf_counter() - start})
        self.accelerator.wait_for_everyone()
        self.evaluated = {"step": self.step, "seconds": self.seconds, "took": time.perf_counter() - start}
        self.budget.reserve = self.evaluated["took"]
        self.row_at = time.perf_counter()

    def note(self, row: Mapping[str, Any]) -> None:
        """A row of what was found after `fit`, in metrics.jsonl and the log."""
        self._write({"step": self.step, "minutes": self.seconds / 60, **row})

    def _write(self, row: Row) -> None:
        if self.rank == 0:
            self.metrics.append(row)
            if self.log is not None:
                self.log(row)

    def _save(self) -> None:
        self._log_row()
        if self.divided is not None:
            self.divided.give_moments()
        if self.rank == 0:
            values = {name: getattr(self, name) for name in ("step", "seconds", "best", "evaluated")}
            values["watch"] = self.watch.best
            save_state(self.state_path, self.world_model, self.optimizer, values)
        self.saved = self.seconds

    def _resume(self) -> None:
        if self.state_path.exists():
            still = LATER if self.freeze_at > 0 else (*LATER, "encoder.")
            values = load_state(self.state_path, self.world_model, self.optimizer, VALUES, still)
            self.step, self.seconds, self.watch.best = values["step"], values["seconds"], values["watch"]
            self.best, self.evaluated = values["best"], values["evaluated"]
            if self.divided is not None:
                self.divided.take()
            logger.info("going on from step %d", self.step)
        if self.rank == 0:
            self.metrics.keep_until(self.step)
            for path in (self.state_path, self.metrics.path, *checkpoint.files(self.run_dir)):
                remove_leftovers(path)
        self.accelerator.wait_for_everyone()
        self.budget.begin(step=self.step, seconds=self.seconds)
        self.budget.reserve = self.evaluated["took"]
        self.saved, self.waited, self.row_at = self.seconds, 0.0, time.perf_counter()
        self.world_model.train()
