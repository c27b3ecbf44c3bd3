"""Frames of any size averaged down into squares."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from PIL import Image


def squeezed(frame: np.ndarray, size: int) -> np.ndarray:
    """uint8 (H, W, 3) -> (size, size, 3), averaged over areas (bilinear if larger), oblong ones squeezed."""
    if frame.shape[:2] == (size, size):
        return np.array(frame)
    if min(frame.shape[:2]) < size:
        return np.array(Image.fromarray(frame).resize((size, size), Image.Resampling.BILINEAR))
    height, width = frame.shape[:2]
    across = _shares(height, size) @ frame.reshape(height, -1).astype(np.float32)
    averaged = _shares(width, size) @ across.reshape(size, width, 3)
    return (averaged + np.float32(0.5)).astype(np.uint8)


@lru_cache(maxsize=16)
def _shares(side: int, size: int) -> np.ndarray:
    """(size, side): the share that each old pixel has in each new one, in one dimension."""
    edges, old = np.arange(size + 1) * (side / size), np.arange(side)
    covered = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    return (covered.clip(0) * (size / side)).astype(np.float32)
