"""Frames of Gymnasium's environments: as they draw them, and averaged down into squares."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
from PIL import Image

from envs.world import WorldError


def rendered(name: str, env: gymnasium.Env) -> np.ndarray:
    """The environment's own frame, uint8 (H, W, 3), of whatever size it draws."""
    try:
        frame: Any = env.render()
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise lacking(name, error) from error
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise WorldError(f"{name} draws {frame.dtype} of shape {frame.shape}: uint8 (H, W, 3) is needed.")
    return frame


def squeezed(frame: np.ndarray, size: int) -> np.ndarray:
    """uint8 (H, W, 3) -> (size, size, 3), averaged over areas; oblong ones are squeezed."""
    if frame.shape[:2] == (size, size):
        return np.array(frame)
    if min(frame.shape[:2]) < size:
        return np.array(Image.fromarray(frame).resize((size, size), Image.Resampling.BICUBIC))
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


def lacking(name: str, error: Exception) -> WorldError:
    """What to say of an environment for which a package is missing."""
    reason = " ".join(str(error).split())
    ours = any(word in reason.lower() for word in ("pygame", "mujoco", "imageio"))
    return WorldError(
        f"{name} needs what is not installed: " + (f"pip install -e '.[gym]' ({reason})" if ours else reason)
    )
