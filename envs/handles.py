"""Handles: what a person can take hold of in a frame, to drag or turn it. Each world says which it has.

A handle only computes states. Whether the world can be in such a state, `World.check_state` says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]


@dataclass(frozen=True)
class Handle:
    """One thing in the frame. Places are shares of the frame, 0 to 1 from its top left corner.

    at: state (S,) -> the place of its middle.
    move: state (S,), x, y -> new state (S,) with its middle there, or as near as it can be.
    turn: state (S,), radians clockwise as seen -> new state (S,); None for what has no direction.
    """

    at: Callable[[np.ndarray], Point]
    move: Callable[[np.ndarray, float, float], np.ndarray]
    turn: Callable[[np.ndarray, float], np.ndarray] | None = None
