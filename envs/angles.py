"""Angles in radians."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def wrapped(angle: Any) -> np.ndarray:
    """`angle` (...) in [-pi, pi): of a difference, the short way round. What is there already stays as it is
    to the last bit."""
    angle = np.asarray(angle, dtype=np.float64)
    inside = (-math.pi <= angle) & (angle < math.pi)
    return np.where(inside, angle, (angle + math.pi) % (2.0 * math.pi) - math.pi)
