"""Where things are on the PushT board, in px of 512: sizes, corners of the T, the gap to the agent."""

from __future__ import annotations

import math

import numpy as np

BOARD = 512.0
WALLS = (5.0, 506.0)
AGENT_RADIUS = 15.0
# The T, in its own frame: a bar and a stem, each given by its centre and half sizes.
T_CENTRES = np.array([[0.0, 15.0], [0.0, 75.0]])
T_HALVES = np.array([[60.0, 15.0], [15.0, 45.0]])
T_BAR = np.array([[-60.0, 30.0], [60.0, 30.0], [60.0, 0.0], [-60.0, 0.0]])
T_STEM = np.array([[-15.0, 30.0], [-15.0, 120.0], [15.0, 120.0], [15.0, 30.0]])
T_CORNERS = np.array(
    [[-60, 0], [60, 0], [60, 30], [15, 30], [15, 120], [-15, 120], [-15, 30], [-60, 30]], float
)
T_COG = np.array([0.0, 45.0])


def block_corners(state: np.ndarray) -> np.ndarray:
    """Board coordinates (8, 2) of the T's corners in `state` (7,)."""
    return block_points(state, T_CORNERS)


def block_points(state: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (K, 2) of the T's own frame, in board coordinates, for `state` (7,)."""
    cos, sin = math.cos(state[4]), math.sin(state[4])
    return points @ np.array([[cos, sin], [-sin, cos]]) + np.asarray(state[2:4])


def gap(states: np.ndarray) -> np.ndarray:
    """Distance in px of agent and block, for states (..., 7): 0 when they touch, less when they overlap."""
    states = np.asarray(states, dtype=np.float64)
    offset = states[..., :2] - states[..., 2:4]
    cos, sin = np.cos(states[..., 4]), np.sin(states[..., 4])
    local = np.stack(
        [cos * offset[..., 0] + sin * offset[..., 1], cos * offset[..., 1] - sin * offset[..., 0]], axis=-1
    )
    beyond = np.abs(local[..., None, :] - T_CENTRES) - T_HALVES
    outside = np.linalg.norm(np.maximum(beyond, 0.0), axis=-1)
    return (outside + np.minimum(beyond.max(axis=-1), 0.0)).min(axis=-1) - AGENT_RADIUS
