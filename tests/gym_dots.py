"""Gymnasium environments that are nearly nothing, for the tests: a dot that actions push over a board.

Registered when it is imported, as a module of a user's would be.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces


class Dot(gymnasium.Env):
    """The dot moves by a tenth of the action; `wall` ends the episode where x is larger."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 20}

    def __init__(self, render_mode: str | None = None, wall: float = 99.0, kind: str = "box") -> None:
        self.render_mode, self.wall, self.kind = render_mode, wall, kind
        low, high = np.array([-1.0, -3.0], np.float32), np.array([2.0, 1.0], np.float32)
        actions: dict[str, Any] = {
            "box": spaces.Box(low, high),
            "discrete": spaces.Discrete(4),
            "text": spaces.Text(4),
            "grip": spaces.Dict({"push": spaces.Box(low, high), "squeeze": spaces.Discrete(2)}),
            "unbounded": spaces.Box(-np.inf, np.inf, (2,)),
            "whole": spaces.Box(0, 5, (2,), np.int64),
        }
        self.action_space = actions.get(kind, actions["box"])
        self.observation_space: Any = spaces.Box(-np.inf, np.inf, (4,))
        if kind == "picture":
            self.observation_space = spaces.Box(0, 255, (30, 40, 3), np.uint8)
        if kind == "blind":
            self.metadata = {"render_modes": []}

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        chance = np.random.default_rng() if self.kind == "chance" else self.np_random
        self.place, self.speed, self.held = chance.uniform(2, 6, 2), np.zeros(2), False
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        assert self.action_space.contains(action), action
        self.speed = 0.1 * self._push(action)
        self.place = self.place + self.speed
        if self.kind != "chance":  # where everything ends in the same corner, chance would not show
            self.place = np.clip(self.place, 0, 9)
        return self._seen(), 0.0, bool(self.place[0] > self.wall), False, {}

    def _push(self, action: Any) -> np.ndarray:
        if self.kind == "discrete":  # left, right, up, down
            return np.array([(-2.0, 0.0), (2.0, 0.0), (0.0, -2.0), (0.0, 2.0)][action])
        if self.kind == "grip":  # which can be seen, and holds the dot where it is
            self.held = bool(action["squeeze"])
            return np.zeros(2) if self.held else np.asarray(action["push"], float)
        return np.asarray(action, float)

    def render(self) -> np.ndarray:
        frame = np.zeros((30, 40, 3), np.uint8)
        frame[..., 2] = 160 * self.held
        column, row = (4 * self.place[0]).astype(int), (3 * self.place[1]).astype(int)
        frame[row : row + 3, column : column + 4] = (255, 200, 0)
        return frame

    def _seen(self) -> Any:
        return (
            self.render()
            if self.kind == "picture"
            else np.concatenate([self.place, self.speed], dtype=np.float32)
        )


def push(observation: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A behaviour policy: towards the middle of the board, with noise."""
    return 2 * (5 - observation[:2]) + random.normal(0, 2, 2)


def grip(observation: np.ndarray, random: np.random.Generator) -> dict[str, Any]:
    """One for the dot that can be held."""
    return {"push": np.clip(5 - observation[:2], -1, 1), "squeeze": int(random.integers(2))}


def wrong(observation: np.ndarray, random: np.random.Generator) -> list[float]:
    """One that gives too many numbers."""
    return [0.0, 0.0, 0.0]


for _kind in ("box", "discrete", "grip", "text", "unbounded", "whole", "picture", "blind", "chance"):
    _id = f"Dot{_kind.capitalize()}-v0"
    if _id not in gymnasium.registry:
        gymnasium.register(_id, entry_point=Dot, max_episode_steps=30, kwargs={"kind": _kind})
