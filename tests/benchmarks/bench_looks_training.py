"""Ways of training a model to see through other looks: success in the usual look and in unseen ones.

    latent-planner collect two_room looks.h5 --vary trained
    python tests/benchmarks/bench_looks_training.py looks.h5 --out runs/looks --minutes 5
    python tests/benchmarks/bench_looks_training.py looks.h5 --out runs/looks --minutes 5   # goes on

Every way has the same minutes of processor time, so that a busy machine changes nothing but the wait, and the
same settings but for what its name says (WAYS). Each leaves a run folder with a checkpoint and result.json in
--out. What was interrupted is taken up again; what is there already is not done again.

Two ways learn at once to see and to predict, from each window twice: as recorded and in another look. Targets
of a prediction are the latents of the same look, or of the window as recorded (clean targets). A consistency
term is the squared distance between the two latents of a frame. "taught" is what data.vary does: a model that
learns from the frames as recorded, and then a second encoder that learns what the first says of them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latent_planner import envs
from latent_planner.agent import Agent
from latent_planner.checkpoints import checkpoint
from latent_planner.common.files import write_text
from latent_planner.envs.goals import pairs as lists
from latent_planner.envs.recordings.episodes import EpisodeReader
from latent_planner.evaluation import benchmark
from latent_planner.model.world_model import WorldModel, WorldModelConfig
from latent_planner.training import budget
from latent_planner.training.dataset import Batch, Journeys, WindowDataset
from latent_planner.training.loss import LatentLoss
from latent_planner.training.optimization import learning_rate_scale
from latent_planner.training.robust import learn
from latent_planner.training.robust.augment import Augmentation
from latent_planner.training.train_config import TrainConfig
from latent_planner.training.trainer import Trainer

VALIDATION_SEED = 777
USUAL = "usual"
LOOKS = (USUAL, "unseen.color", "unseen.background")
RESULT = "result.json"
ROLLOUT, CONTEXT, FRAMESKIP, PROPOSALS = 3, 3, 5, 8  # as configs/model/small.yaml
PLANNER = {"num_samples": 64, "num_elites": 8, "iterations": 2, "init_std": 0.7, "proposal_share": 0.65}


@dataclass(frozen=True)
class Way:
    """looks: "" for the frames as recorded alone, "rendered", or "augment".   encoder: of the world model.
    clean: whether targets are the latents of the frames as recorded.   consistency: weight of that term.
    taught: whether a second encoder learns, in a third of the minutes, what the first says."""

    about: str
    looks: str = ""
    encoder: str = "robust"
    clean: bool = False
    consistency: float = 0.0
    taught: bool = False


WAYS = {
    "usual": Way("the usual look alone", encoder="keypoint"),
    "augment": Way("augmented frames, targets from them", "augment"),
    "rendered": Way("rendered looks, targets from them", "rendered"),
    "rendered-consistent": Way("the same with a consistency term", "rendered", consistency=1.0),
    "clean": Way("rendered looks, clean targets, at once", "rendered", clean=True),
    "clean-consistent": Way("the same with a consistency term", "rendered", clean=True, consistency=1.0),
    "taught": Way("rendered looks, clean targets, a second encoder", "rendered", "keypoint", taught=True),
    "taught-consistent": Way(
        "the same with a consistency term", "rendered", "keypoint", consistency=1.0, taught=True
    ),
}


class TwoLooks(WindowDataset):
    """Batches for training hold half as many windows, each as recorded and then in another look."""

    augment: Augmentation | None = None

    def batch(self, k: int, size: int, *, seed: int = 0, split: Any = "train", **others: Any) -> Batch:
        if split != "train" or self.latents is not None:
            return super().batch(k, size, seed=seed, split=split, **others)
        starts = self.starts["train"]
        chosen = starts[np.random.default_rng([seed, 0x2100, k]).integers(len(starts), size=size // 2)]
        clean = self.windows(chosen)
        rows = (chosen[:, None] + np.arange(0, self.span, self.frameskip)).reshape(-1)
        if self.augment is None:
            frames = self.looks.gather(rows)  # type: ignore[union-attr]
            other = frames.permute(0, 3, 1, 2).unflatten(0, (size // 2, self.num_frames))
        else:  # one look for all frames of a window
            by_time = clean.pixels.permute(1, 0, 3, 4, 2)
            other = torch.stack([self.augment(some, [seed, k]) for some in by_time], 1).permute(0, 1, 4, 2, 3)
        return Batch(torch.cat([clean.pixels, other]), torch.cat([clean.actions] * 2)).to(self.device)


class TwoLooksLoss(LatentLoss):
    """The loss of such batches."""

    way: Way

    def forward(
        self, pixels: Tensor, actions: Tensor, journeys: Journeys | None = None, *, step: int = 0
    ) -> dict[str, Tensor]:
        if self.frozen_sigreg is not None:
            return super().forward(pixels, actions, journeys, step=step)
        latents = self.world_model.encode(pixels)
        recorded, other = latents.chunk(2)
        targets = torch.cat([recorded, recorded]) if self.way.clean else latents
        predicted, errors = latents, []
        for k in range(1, self.rollout_steps + 1):
            predicted = self.world_model.predict(predicted[:, :-1], actions[:, k - 1 :])
            errors.append((predicted - targets[:, k:]).float().square().mean())
        prediction, sigreg = torch.stack(errors).mean(), self._sigreg(latents, step)
        consistency = (recorded - other).float().square().mean()
        loss = prediction + self.sigreg_weight * sigreg + self.way.consistency * consistency
        return {"loss": loss, "prediction": prediction, "sigreg": sigreg, "consistency": consistency}


class TwoLooksTrainer(Trainer):
    """A Trainer with that loss."""

    way: Way

    def _prepare(self) -> None:
        plain = self.latent_loss
        self.latent_loss = TwoLooksLoss(
            self.world_model, plain.sigreg, sigreg_weight=plain.sigreg_weight,
            rollout_steps=plain.rollout_steps,
        )  # fmt: skip
        self.latent_loss.way = self.way
        super()._prepare()


class ConsistentTraining(learn.RobustTraining):
    """Learns from each frame twice, as recorded and in another look, that both latents are one."""

    weight: float = 1.0

    def _step(self, step: int, spent: float) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = learn.LEARNING_RATE * learning_rate_scale(spent, learn.WARMUP)
        rows = self._rows(self.batch_size // 2, "train", step)
        recorded, targets = self._frames(rows, step, {"recorded": 1.0})
        other, _ = self._frames(rows, step, {"rendered": 1.0})
        self.encoder.train()
        latents = self.student.encode(torch.cat([recorded, other])).float()
        one, two = latents.chunk(2)
        loss = (latents - torch.cat([targets, targets])).square().mean()
        self.optimizer.zero_grad()
        (loss + self.weight * (one - two).square().mean()).backward()
        nn.utils.clip_grad_norm_(self.pupil.parameters(), learn.CLIP)
        self.optimizer.step()
        return loss.detach()


def count_processor_time() -> None:
    """Let budgets believe that only the time that this process computes goes by."""
    budget.time = SimpleNamespace(perf_counter=time.process_time)  # type: ignore[attr-defined]


def train(way: Way, folder: Path, reader: EpisodeReader, args: argparse.Namespace) -> dict[str, Any]:
    """Train in `folder`, or go on there; returns {"steps", …} of what was trained."""
    done = folder / "trained.json"
    if done.exists():
        return dict(json.loads(done.read_text()))
    minutes = args.minutes * (1 - 1 / 3 * way.taught)
    if way.taught:  # both taught ways have the same teacher
        home = args.out / "teacher"
        found = train(replace(way, looks="", taught=False), home, reader, _with(args, minutes=minutes))
        teacher, info = checkpoint.load(home)
        made = ConsistentTraining if way.consistency else learn.RobustTraining
        data = WindowDataset(
            reader, num_frames=CONTEXT + 1, frameskip=FRAMESKIP, looks=True, memory_gb=args.memory_gb
        )
        lesson = made(teacher, data, minutes=args.minutes / 3, state_path=folder / "robust.safetensors")
        checkpoint.save(lesson.learn(), folder, planner=info["planner"], training=lesson.found)
        found = {**found, **lesson.found}
    else:
        data_of, trainer_of = (TwoLooks, TwoLooksTrainer) if way.looks else (WindowDataset, Trainer)
        data = data_of(
            reader, num_frames=CONTEXT + 1, frameskip=FRAMESKIP, looks=way.looks == "rendered",
            memory_gb=args.memory_gb,
        )  # fmt: skip
        if way.looks == "augment":
            frames, _ = data.sample(learn.GROUND_FRAMES, split="train")
            data.augment = Augmentation.of(frames.permute(0, 2, 3, 1))  # type: ignore[attr-defined]
        own = {"env": reader.env, "encoder": way.encoder, "encoder_width": args.width, "proposals": PROPOSALS}
        torch.manual_seed(0)
        model = WorldModel(WorldModelConfig.from_dict({**data.statistics(), **own}))
        settings = TrainConfig(
            minutes=minutes, num_frames=CONTEXT + 1, rollout_steps=ROLLOUT, batch_size=args.batch_size,
            freeze_encoder=args.freeze, evaluate_every_minutes=None,
        )  # fmt: skip
        TwoLooksTrainer.way = way
        found = trainer_of(model, data, settings, run_dir=folder, probe=False, planner=PLANNER).fit()
    write_text(done, json.dumps(found))
    return found


def _with(args: argparse.Namespace, **changed: Any) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(args), **changed})


def measure(folder: Path, count: int, known: dict[str, Any]) -> dict[str, Any]:
    """Success of the checkpoint in folder in each of LOOKS; what is known is not measured again."""
    model, info = checkpoint.load(folder)
    agent = Agent(model, checkpoint.agent_settings(info["planner"]))
    size, name = model.config.image_size, model.config.env
    goals = lists.draw(name, count, VALIDATION_SEED)
    for look in LOOKS:
        if look not in known:
            asked = goals if look == USUAL else lists.shifted(goals, look)
            found = benchmark.run(agent, lambda: envs.make(name, image_size=size), asked, quick=True)
            known[look] = {key: found[key] for key in ("success", "interval", "seconds")}
    return known


def told(name: str, found: dict[str, Any]) -> str:
    """A row of the table."""
    cells = [
        f"{one['success']:.0%} ({one['interval'][0]:.0%} to {one['interval'][1]:.0%})"
        for one in (found[look] for look in LOOKS)
    ]
    steps = f"{found['steps']}" + (f" + {found['robust/step']}" if "robust/step" in found else "")
    return " | ".join([f"| {WAYS[name].about}", f"{found['minutes']:g}", steps, *cells]) + " |"


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recording", type=Path, help="with other looks, as collect --vary trained makes it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=5.0, help="of processor time, for each way")
    parser.add_argument("--pairs", type=int, default=50)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--batch-size", type=int, default=128, help="windows a step")
    parser.add_argument("--width", type=int, default=64, help="of encoders, in filters")
    parser.add_argument("--freeze", type=float, default=0.45, help="share after which the encoder is frozen")
    parser.add_argument("--memory-gb", type=float, help="most memory for frames")
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    count_processor_time()
    head = ["way", "minutes", "steps", *(f"success, {look}" for look in LOOKS)]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    with EpisodeReader(args.recording) as reader:
        for name in args.ways:
            folder = args.out / name
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / RESULT
            found = json.loads(path.read_text()) if path.exists() else {}
            if not all(look in found for look in LOOKS):
                trained = train(WAYS[name], folder, reader, args)
                found = {**trained, "minutes": args.minutes, **measure(folder, args.pairs, found)}
                write_text(path, json.dumps(found, indent=1) + "\n")
            print(told(name, found), flush=True)


if __name__ == "__main__":
    main()
