"""How a world model is trained, and for how long."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from latent_planner.common.kinds import SEED, Choice, Kind, Number, Whole

from ..model.device import PRECISIONS
from .run_state import TrainingError


@dataclass(frozen=True)
class TrainConfig:
    """How to train, and how long: steps, or minutes with evaluations. Wrong values: TrainingError."""

    steps: int | None = None
    minutes: float | None = None
    batch_size: int = 128  # windows a step, over all processes together
    num_frames: int = 4  # frames a window
    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    warmup: float = 0.01  # share of the budget
    clip: float = 1.0  # largest norm of the gradient
    sigreg_weight: float = 0.09
    sigreg_directions: int = 1024
    sigreg_knots: int = 17
    rollout_steps: int = 1
    freeze_encoder: float = 1.0  # share of the budget after which only predictor and proposer learn
    sense_dropout: float = 0.3  # chance that a camera, of several, or the vector is missing in a window
    precision: str = "auto"  # auto, float32 or bfloat16
    seed: int = 0
    log_every: int = 25  # steps; evaluations and saves wait for such a step
    evaluate_every_minutes: float | None = 5.0
    evaluate_every_steps: int | None = None  # instead of minutes
    save_every_minutes: float = 2.0

    KINDS: ClassVar[Mapping[str, Kind]] = {
        "steps": Whole(optional=True, low=1, high=10**12),
        "minutes": Number(optional=True, low=0, above=True),
        "batch_size": Whole(low=1, high=10**6),
        "num_frames": Whole(low=2, high=1000),
        "learning_rate": Number(low=0, high=1, above=True),
        "weight_decay": Number(low=0, high=1),
        "warmup": Number(low=0, high=1, below=True),
        "clip": Number(low=0, high=math.inf, above=True),
        "sigreg_weight": Number(low=0, high=1000),
        "sigreg_directions": Whole(low=1, high=10**6),
        "sigreg_knots": Whole(low=2, high=10**4),
        "rollout_steps": Whole(low=1, high=1000),
        "freeze_encoder": Number(low=0, high=1, above=True),
        "sense_dropout": Number(low=0, high=1, below=True),
        "precision": Choice(names=PRECISIONS),
        "seed": SEED,
        "log_every": Whole(low=1, high=10**9),
        "evaluate_every_minutes": Number(optional=True, low=0),
        "evaluate_every_steps": Whole(optional=True, low=1, high=10**12),
        "save_every_minutes": Number(low=0),
    }

    def __post_init__(self) -> None:
        for name, kind in self.KINDS.items():
            try:
                kind.check(name, getattr(self, name))
            except ValueError as error:
                raise TrainingError(str(error)) from None
        if (self.steps is None) == (self.minutes is None):
            raise TrainingError(
                "the budget is either steps or minutes: set one of them and leave the other null"
            )
        if self.rollout_steps >= self.num_frames:
            raise TrainingError(f"rollout_steps={self.rollout_steps} needs num_frames of at least one more")
