"""What can be pushed in PushT and what can push, for the physics and for the pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymunk

from .geometry import AGENT_RADIUS, T_CENTRES, T_HALVES

# Each block is boxes in the T's own frame, px: centres (K, 2) and half sizes (K, 2).
BLOCKS: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "T": (T_CENTRES, T_HALVES),
    "L": (np.array([[0.0, 15.0], [-45.0, 75.0]]), T_HALVES),
    "I": (np.array([[0.0, 45.0]]), np.array([[15.0, 75.0]])),
    "plus": (np.array([[0.0, 60.0], [0.0, 60.0]]), np.array([[60.0, 15.0], [15.0, 60.0]])),
}
_SQUARE = math.sqrt(math.pi) / 2  # half a side, in radii of the disc of the same area
TOOLS = {
    "circle": 1.0,
    "square": _SQUARE,
    "diamond": math.sqrt(2) * _SQUARE,
}  # how far each reaches, in radii


@dataclass(frozen=True)
class Bodies:
    """Shapes, sizes and ways to move; each as it is called in `latent_planner.envs.pusht.world.FACTORS`."""

    agent: str = "circle"
    block: str = "T"
    agent_size: float = 1.0
    block_size: float = 1.0
    speed: float = 1.0
    friction: float = 0.0
    slide: float = 0.0

    @staticmethod
    def of(varied: Mapping[str, Any]) -> Bodies:
        """The bodies under these values of factors."""
        names = {
            "agent": "agent.shape", "block": "block.shape", "agent_size": "agent.size",
            "block_size": "block.size", "speed": "agent.speed", "friction": "block.friction",
            "slide": "block.slide",
        }  # fmt: skip
        return Bodies(**{own: varied[name] for own, name in names.items() if name in varied})

    def tool(self, body: pymunk.Body) -> pymunk.Shape:
        """The agent's shape."""
        radius = AGENT_RADIUS * self.agent_size
        if self.agent == "circle":
            return pymunk.Circle(body, radius)
        far = radius * TOOLS[self.agent]
        corners = {
            "square": [(-far, -far), (far, -far), (far, far), (-far, far)],
            "diamond": [(-far, 0), (0, -far), (far, 0), (0, far)],
        }
        return pymunk.Poly(body, corners[self.agent])

    def parts(self) -> list[list[tuple[float, float]]]:
        """Corners, four each, of the block's boxes, in its own frame."""
        centres, halves = BLOCKS[self.block]
        corners = np.array([[-1.0, 1.0], [1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
        boxes = (centres[:, None] + corners * halves[:, None]) * self.block_size
        return [[(x, y) for x, y in box] for box in boxes.tolist()]


BODIES = Bodies()


def tool_inside(shape: str, dx: np.ndarray, dy: np.ndarray, radius: float) -> np.ndarray:
    """How far points at (dx, dy) from the agent's centre lie inside its edge; all in the same unit."""
    far = np.float32(radius * TOOLS[shape])
    if shape == "circle":
        return far - np.sqrt(dx * dx + dy * dy)
    if shape == "square":
        return far - np.maximum(abs(dx), abs(dy))
    result: np.ndarray = (far - abs(dx) - abs(dy)) / np.float32(math.sqrt(2))
    return result
