"""The one function that every command to an arm passes: finite, inside bounds, not too far from the last."""

from __future__ import annotations

from typing import Any

import numpy as np


class Bounds:
    """What every command keeps to.

    safe: (A,), finite, what to do where nothing better is known.
    low, high: one number or (A,), None: no bound on that side.
    max_change: the most that a command may differ from the one before, one number or (A,); None: any change.
    All in environment units. ValueError where they do not fit together.
    """

    def __init__(
        self, safe: Any, *, low: Any = None, high: Any = None, max_change: Any = None, strict: bool = True
    ) -> None:
        self.safe = np.array(safe, np.float32)
        if self.safe.ndim != 1 or not np.isfinite(self.safe).all():
            raise ValueError(f"safe is one action, (A,) finite numbers, not {safe!r}.")
        self.low, self.high = self._sized("low", low, -np.inf), self._sized("high", high, np.inf)
        self.max_change = self._sized("max_change", max_change, np.inf)
        if not (self.low <= self.high).all() or not (self.max_change > 0).all():
            raise ValueError("low must not be above high, and max_change must be above 0.")
        if strict and not np.array_equal(self.safe, self.clip(self.safe)):
            raise ValueError(
                f"safe is outside the bounds of the actions, which are {self.low.tolist()} to "
                f"{self.high.tolist()}: {self.safe.tolist()}."
            )
        self.safe = self.clip(self.safe)

    @classmethod
    def of(cls, planner: Any, safe: Any, strict: bool = True, **given: Any) -> Bounds:
        """Bounds as given, or else as the planner knows them."""
        names = {"low": "action_low", "high": "action_high", "max_change": "max_change"}
        chosen = {one: own_setting(planner, name, given.get(one)) for one, name in names.items()}
        return cls(safe, strict=strict, **chosen)

    def clip(self, actions: np.ndarray) -> np.ndarray:
        """(..., A) -> float32 (..., A), inside the bounds."""
        return np.clip(actions, self.low, self.high).astype(np.float32)

    def command(self, wanted: np.ndarray, before: np.ndarray | None) -> np.ndarray:
        """What may be sent where `wanted` (A,) is wanted and `before` was sent last (None: nothing was):
        float32 (A,), finite, inside the bounds. What is no number gives way to `before`, or to `safe`."""
        stay = self.safe if before is None else before
        action = np.where(np.isfinite(wanted), wanted, stay)
        if before is not None:
            action = np.clip(action, before - self.max_change, before + self.max_change)
        return self.clip(action)

    def _sized(self, name: str, value: Any, otherwise: float) -> np.ndarray:
        """float32 (A,)"""
        try:
            with np.errstate(over="ignore"):
                numbers = np.asarray(otherwise if value is None else value, np.float32)
            sized = np.broadcast_to(numbers, self.safe.shape)
        except (TypeError, ValueError):
            sized = np.full(self.safe.shape, np.nan)
        if np.isnan(sized).any():
            raise ValueError(
                f"{name} must be one number or {len(self.safe)}, as safe has, not {str(value)[:60]}."
            )
        return sized


def own_setting(planner: Any, name: str, given: Any = None) -> Any:
    """What is given, or else what a planner knows by this name: an Agent by its settings or its model's
    config, a Client by what its server said; None where it knows nothing."""
    if given is not None:
        return given
    for place in (planner, getattr(planner, "settings", None), getattr(planner, "config", None)):
        if (value := getattr(place, name, None)) is not None:
            return value
    metadata = getattr(planner, "metadata", None)
    return metadata.get(name) if isinstance(metadata, dict) else None


def between(one: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """float32 (A,): one at share 0, other at 1 and above, and never outside of the two."""
    mixed = (1 - share) * one + share * other if 0 < share < 1 else one if share <= 0 else other
    return np.clip(mixed, np.minimum(one, other), np.maximum(one, other)).astype(np.float32)
