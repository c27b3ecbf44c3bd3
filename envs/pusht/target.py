"""The target of the published look: find the green T that all its frames show, and paint it away.

Where it shows, a pixel mixes green, white ground, the disc's rim and the block's outline, linearly, as
drawing and resizing do. Three channels, and shares that add up to 1, give those four shares exactly.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from .frames import AGENT, BLOCK, GOAL, GROUND
from .geometry import AGENT_RADIUS, BOARD, gap

SEEN = 0.03  # share of the T's area that must be green for the T to be there
CLOSE = 40.0  # grey levels by which green may be off: compressed pictures
STRAY = 0.2  # most green elsewhere, as a share of the green in the T
FAINT = 0.02  # a smaller share of green in a pixel is rounding
_COLOURS = np.stack([GOAL, GROUND, AGENT[1], BLOCK[1]]).astype(float)
_SHARES = np.linalg.inv(np.vstack([_COLOURS.T / 255.0, np.ones(4)]))  # (r, g, b, 1) -> shares of _COLOURS


def shows(frame: np.ndarray, marker: np.ndarray) -> bool:
    """Whether the frame, uint8 (H, W, 3), shows the green T of the state `marker` (7,), and nothing else that
    is green."""
    inside = _distance(frame.shape[0], frame.shape[1], marker[2:5].tobytes()) < 0
    green = np.abs(frame.astype(float) - GOAL).max(-1) < CLOSE
    there = int((green & inside).sum())
    return there > SEEN * inside.sum() and int((green & ~inside).sum()) <= STRAY * there


def painted_away(frame: np.ndarray, marker: np.ndarray) -> np.ndarray:
    """A copy of the frame, uint8 (H, W, 3), in which ground is where the green T of `marker` (7,) shows."""
    height, width = frame.shape[:2]
    reach = 2.0 * BOARD / min(height, width)  # the edge is drawn smooth
    near = _distance(height, width, marker[2:5].tobytes()) < reach
    pixels = frame[near].astype(float)
    shares = np.column_stack([pixels / 255.0, np.ones(len(pixels))]) @ _SHARES.T
    green = np.where(shares[:, 0] > FAINT, shares[:, 0].clip(0.0, 1.0), 0.0)
    plain = frame.copy()
    plain[near] = (pixels + green[:, None] * (GROUND - GOAL) + 0.5).clip(0, 255).astype(np.uint8)
    return plain


@lru_cache(maxsize=8)
def _distance(height: int, width: int, pose: bytes) -> np.ndarray:
    """How far each pixel's middle lies from the T with this pose, px of the board; below 0 inside: (H, W)."""
    y, x = np.meshgrid(
        (np.arange(height) + 0.5) * (BOARD / height),
        (np.arange(width) + 0.5) * (BOARD / width),
        indexing="ij",
    )
    states = np.zeros((height, width, 7))
    states[..., 0], states[..., 1] = x, y
    states[..., 2:5] = np.frombuffer(pose)
    distance: np.ndarray = gap(states) + AGENT_RADIUS
    return distance
