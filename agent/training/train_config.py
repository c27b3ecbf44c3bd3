"""How a world model is trained, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

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
    precision: str = "auto"  # auto, float32 or bfloat16
    seed: int = 0
    log_every: int = 25  # steps; evaluations and saves wait for such a step
    evaluate_every_minutes: float | None = 5.0
    evaluate_every_steps: int | None = None  # instead of minutes
    save_every_minutes: float = 2.0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.minutes is None):
            raise TrainingError(
                "the budget is either steps or minutes: set one of them and leave the other null"
            )
        for name in ("steps", "minutes", "batch_size", "learning_rate", "log_every", "rollout_steps", "clip"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise TrainingError(f"{name} must be above 0, not {value}")
        if not 0 < self.freeze_encoder <= 1:
            raise TrainingError(
                f"freeze_encoder is a share of the budget, above 0 and at most 1, not {self.freeze_encoder}"
            )
        if not 0 <= self.warmup < 1:
            raise TrainingError(f"warmup is a share of the budget, at least 0 and below 1, not {self.warmup}")
        if self.precision not in PRECISIONS:
            raise TrainingError(f"precision is one of {', '.join(PRECISIONS)}, not {self.precision!r}")
        if self.rollout_steps >= self.num_frames:
            raise TrainingError(f"rollout_steps={self.rollout_steps} needs num_frames of at least one more")
