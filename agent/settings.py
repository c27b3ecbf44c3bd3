"""What an Agent is told beside its PlanConfig: the defaults, and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from latent_planner.planners import PlanError

from . import objective
from .model.device import PRECISIONS

DEFAULTS: dict[str, Any] = {
    "objective": "closest",
    "max_change": None,
    "precision": "float32",
    "deadline": None,
}


def check(settings: dict[str, Any]) -> None:
    """Raise PlanError unless these values of all of DEFAULTS make sense."""
    objective.parse(settings["objective"])
    checked_change(settings["max_change"])
    checked_precision(settings["precision"])
    checked_deadline(settings["deadline"])


def checked_precision(name: str) -> str:
    if name not in PRECISIONS:
        raise PlanError(f"precision must be one of {', '.join(PRECISIONS)}, not {name!r}.")
    return name


def checked_deadline(seconds: float | None) -> float | None:
    usable = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and not math.isnan(seconds)
    if seconds is not None and not usable:
        raise PlanError(f"deadline must be a number of seconds, not {seconds!r}.")
    return seconds


def checked_change(
    max_change: float | Sequence[float] | None, action_dim: int | None = None
) -> Tensor | None:
    """() or (A,), float64; None for no limit."""
    if max_change is None:
        return None
    try:
        wanted = torch.as_tensor(max_change, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        wanted = torch.zeros(())
    fits = wanted.ndim == 0 or (wanted.ndim == 1 and action_dim in (None, len(wanted)))
    if not fits or not (wanted > 0).all():
        count = "several" if action_dim is None else action_dim
        raise PlanError(
            f"max_change must be above 0, one number or {count}, one per action component, "
            f"not {max_change!r}."
        )
    return wanted
