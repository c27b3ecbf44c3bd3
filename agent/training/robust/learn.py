"""Teaching an encoder to see the same under other looks, without labels: by what the trained encoder says.

A trained model knows one look. A second encoder learns to give, for another look of a recorded frame, the
latent that the trained encoder gives for the frame as recorded. The other looks are rendered (a recording
with the column that `data.vary` adds) or made by image operations (`augment`). Predictor, proposer and
landmarks stay as they are, because latents keep their meaning; SIGReg's work on them is done.

Pictures that show no scene are to give a latent that no frame has, as far off as others are from each other,
in the direction in which they differ least: what cannot be read is noticed there (`looks`). Outliers in
training: Hendrycks et al., arXiv 1812.04606.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latent_planner.common.progress import Bar

from ...model.device import choose_precision
from ...model.encoder import RobustEncoder
from ...model.world_model import WorldModel, WorldModelConfig
from ..budget import Budget, CtrlC
from ..dataset import ENCODED_AT_ONCE, DatasetError, Split, WindowDataset
from ..optimization import learning_rate_scale, make_optimizer
from ..run_state import load_state, save_state
from .augment import GROUND_FRAMES, Augmentation

logger = logging.getLogger(__name__)

SHARE = 0.5  # of the time that the model itself was trained
BATCH, LEARNING_RATE, WEIGHT_DECAY, WARMUP, CLIP = 256, 2e-3, 1e-3, 0.02, 1.0
KINDS = ("no scene", "recorded", "rendered")
BATCH_SHARES = {"no scene": 1 / 16, "recorded": 3 / 16, "rendered": 3 / 8}  # the rest is augmented
AGREEING, MARGIN = 0.999, 1.5  # share of frames as recorded where both encoders are to agree; times that
LOG_EVERY, SAVE_EVERY = 50, 120.0  # steps, seconds
STATE: dict[str, Any] = {"step": int, "seconds": float}


def check_teachable(config: WorldModelConfig) -> None:
    """DatasetError for models that cannot learn other looks."""
    if config.several or config.encoder != "keypoint":
        raise DatasetError(
            "other looks are learned by models of one camera with encoder=keypoint: leave out data.vary"
        )


def trained_part(world_model: WorldModel) -> WorldModel:
    """The model as it was before it learned other looks; itself where it has learned none."""
    if world_model.config.encoder != "robust":
        return world_model
    before, inside = WorldModel(replace(world_model.config, encoder="keypoint")), "encoder.trained."
    weights = {
        name.replace(inside, "encoder.", 1): value
        for name, value in world_model.state_dict().items()
        if name.startswith(inside) or not name.startswith("encoder.")
    }
    before.load_state_dict(weights)
    return before.to(next(world_model.parameters()).device)


class RobustTraining:
    """Makes of a trained `world_model` one whose encoder knows other looks, too.

    world_model  trained, with encoder "keypoint"; it is not changed
    dataset      the recording; where it has no column of other looks, they are made by image operations
    steps, minutes   how long: one of them
    batch_size   frames a step
    state_path   where to keep what is needed to go on after an interruption; None: nowhere
    log          called with rows {"robust/step", "robust/loss", …}

    found: after `learn`, how many steps it took and what `explained` says; the last row that is logged.

    Raises DatasetError as `check_teachable` does.
    """

    def __init__(
        self,
        world_model: WorldModel,
        dataset: WindowDataset,
        *,
        steps: int | None = None,
        minutes: float | None = None,
        batch_size: int = BATCH,
        precision: str = "auto",
        seed: int = 0,
        state_path: Path | None = None,
        log: Callable[[Mapping[str, Any]], None] | None = None,
        progress: bool = True,
    ) -> None:
        config = world_model.config
        check_teachable(config)
        self.teacher, self.dataset, self.seed = world_model.eval(), dataset, seed
        self.batch_size = batch_size
        self.log, self.progress, self.state_path = log, progress, state_path
        self.found: dict[str, Any] = {}
        self.budget = Budget(steps=steps, minutes=minutes)
        self.device = next(world_model.parameters()).device
        self.precision = choose_precision(precision, self.device)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.student = WorldModel(replace(config, encoder="robust")).to(self.device)
        trained = {
            name.replace("encoder.", "encoder.trained.", 1) if name.startswith("encoder.") else name: value
            for name, value in world_model.state_dict().items()
        }
        self.student.load_state_dict(trained, strict=False)
        self.student.requires_grad_(False)
        assert isinstance(self.student.encoder, RobustEncoder)
        self.encoder = self.student.encoder
        parts = {name: part for name, part in self.encoder.named_children() if name != "trained"}
        self.pupil = nn.ModuleDict(parts).requires_grad_(True)
        self.optimizer = make_optimizer(self.pupil, learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        frames, _ = dataset.sample(GROUND_FRAMES, split="train", seed=seed)
        self.augment = Augmentation.of(frames.permute(0, 2, 3, 1))
        self.nowhere = self._nowhere()

    def learn(self) -> WorldModel:
        """The new model, in eval mode. Ctrl-C saves, then is raised."""
        step, seconds = self._resume()
        self.budget.begin(step=step, seconds=seconds)
        saved, losses, ctrl_c = self.budget.seconds, [], CtrlC()
        bar = Bar(total=100, desc="other looks", bar_format="{l_bar}{bar}| {note}", disable=not self.progress)
        with bar, ctrl_c:
            while (spent := self.budget.spent(step)) < 1:
                if ctrl_c.asked:
                    self._save(step)
                    raise KeyboardInterrupt
                losses.append(self._step(step, spent))
                step += 1
                bar.update(min(100.0, 100 * spent) - bar.n)
                if step % LOG_EVERY == 0:
                    loss = float(torch.stack(losses).mean())
                    bar.set_postfix_str(f"step {step}, distance from the trained latents {loss:.3f}")
                    self._write({"robust/step": step, "robust/loss": loss})
                    losses = []
                if self.budget.seconds - saved > SAVE_EVERY:
                    self._save(step)
                    saved = self.budget.seconds
        self._save(step)
        self.student.eval()
        self._settle()
        self.found = {"robust/step": step, **self.explained()}
        self._write(self.found)
        return self.student

    def _step(self, step: int, spent: float) -> Tensor:
        for group in self.optimizer.param_groups:
            group["lr"] = LEARNING_RATE * learning_rate_scale(spent, WARMUP)
        rows = self._rows(self.batch_size, "train", step)
        frames, targets = self._frames(rows, step, BATCH_SHARES)
        self.encoder.train()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            latents = self.student.encode(frames)
        loss = (latents.float() - targets).square().mean()
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.pupil.parameters(), CLIP)
        self.optimizer.step()
        return loss.detach()

    def _rows(self, count: int, split: Split, step: int) -> np.ndarray:
        rows = self.dataset.rows[split]
        return rows[np.random.default_rng([self.seed, 0x100C, step]).integers(len(rows), size=count)]

    def _frames(self, rows: np.ndarray, step: int, shares: Mapping[str, float]) -> tuple[Tensor, Tensor]:
        """uint8 (B, 1, 3, h, w) of the kinds in `shares`, the rest augmented, and the latents (B, 1, D) that
        they should have."""
        clean = self.dataset.frames.gather(rows).to(self.device)
        with torch.no_grad():
            targets = self.teacher.encode(_as_input(clean)).float()
        looks = self.dataset.looks
        empty, recorded, rendered = (round(shares.get(kind, 0.0) * len(rows)) for kind in KINDS)
        usual = empty + recorded  # where it ends, as each of the others
        drawn = usual + (rendered if looks is not None else 0)
        targets[:empty] = self.nowhere
        parts = [self.augment.without_scene(clean[:empty], [self.seed, step, 1]), clean[empty:usual]]
        if looks is not None:
            parts.append(looks.gather(rows[usual:drawn]).to(self.device))
        parts.append(self.augment(clean[drawn:], [self.seed, step]))
        return _as_input(torch.cat(parts)), targets

    @torch.no_grad()
    def _nowhere(self) -> Tensor:
        """(D,): the latent of pictures that show no scene."""
        clean = self.dataset.frames.gather(self._rows(4 * ENCODED_AT_ONCE, "train", 0)).to(self.device)
        parts = [self.teacher.encode(_as_input(some))[:, 0].float() for some in clean.split(ENCODED_AT_ONCE)]
        latents = torch.cat(parts).cpu()
        mean, directions = latents.mean(0), torch.linalg.eigh(latents.double().T.cov()).eigenvectors.float()
        return (mean + (latents - mean).norm(dim=1).mean() * directions[:, 0]).to(self.device)

    @torch.no_grad()
    def _settle(self) -> None:
        """Weights as they will be stored, and up to where both encoders agree."""
        for weights in self.encoder.parameters():
            if weights.ndim > 1:
                weights.copy_(weights.half())
        rows = self._rows(2 * ENCODED_AT_ONCE, "held_out", 1)
        parts = [self._frames(some, 0, {"recorded": 1.0}) for some in np.array_split(rows, 4)]
        apart = [(self.student.encode(frames).float() - wanted).square().mean(-1) for frames, wanted in parts]
        self.encoder.tolerance.fill_(MARGIN * float(torch.cat(apart).quantile(AGREEING)))

    @torch.no_grad()
    def explained(self) -> dict[str, float]:
        """Of held-out frames, the share of the latents' variance that the new encoder gives: as recorded, and
        in other looks."""
        rows = self._rows(2 * ENCODED_AT_ONCE, "held_out", 0)
        found = {}
        for name, kind in (("as_recorded", "recorded"), ("other_looks", "rendered")):
            parts = [self._frames(some, 0, {kind: 1.0}) for some in np.array_split(rows, 4)]
            latents = torch.cat([self.student.encode(frames).float() for frames, _ in parts])
            targets = torch.cat([wanted for _, wanted in parts])
            error, spread = (latents - targets).square().mean(), targets.var(0).mean()
            found[f"robust/{name}"] = float(1 - error / spread) if spread > 0 else math.nan
        return found

    def _save(self, step: int) -> None:
        if self.state_path is not None:
            values = {"step": step, "seconds": self.budget.seconds}
            save_state(self.state_path, self.pupil, self.optimizer, values)

    def _resume(self) -> tuple[int, float]:
        if self.state_path is None or not self.state_path.exists():
            return 0, 0.0
        values = load_state(self.state_path, self.pupil, self.optimizer, STATE)
        logger.info("other looks: going on from step %d", values["step"])
        return values["step"], values["seconds"]

    def _write(self, row: Mapping[str, Any]) -> None:
        if self.log is not None:
            self.log(row)


def _as_input(frames: Tensor) -> Tensor:
    """(B, h, w, 3) -> (B, 1, 3, h, w)"""
    return frames.permute(0, 3, 1, 2)[:, None]
