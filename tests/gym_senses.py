"""A Gymnasium environment whose observation is a dictionary of two pictures and two vectors, for the tests.

Registered when it is imported, as a module of a user's would be.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from two_cameras import FRONT, WRIST, look


class TwoCameras(gymnasium.Env):
    """The square of `two_cameras`, which keeps nine tenths of its speed. `render` shows both pictures, one
    above the other; `lies` declares a picture that is not there."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = None, lies: bool = False) -> None:
        self.render_mode, self.lies = render_mode, lies
        self.action_space = spaces.Box(-1.0, 1.0, (2,))
        self.observation_space = spaces.Dict(
            {
                "front": spaces.Box(0, 255, (*FRONT, 3), np.uint8),
                "wrist": spaces.Box(0, 255, (3, *WRIST), np.uint8),  # channels first, as some have them
                "place": spaces.Box(0, 1, (2,)),
                "speed": spaces.Box(-1, 1, (2,)),
            }
        )

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.place, self.speed = self.np_random.uniform(0.2, 0.8, 2), np.zeros(2)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.speed = 0.9 * self.speed + 0.02 * np.asarray(action, float)
        place = np.clip(self.place + self.speed, 0, 1)
        self.speed, self.place = place - self.place, place
        return self._seen(), 0.0, False, False, {}

    def render(self) -> np.ndarray:
        seen = look(self.place)
        return np.concatenate([seen["front"], seen["wrist"][:, :32]])

    def _seen(self) -> dict[str, np.ndarray]:
        seen = look(self.place)
        values = {"place": self.place.astype(np.float32), "speed": self.speed.astype(np.float32)}
        pictures = {"front": seen["front"], "wrist": seen["wrist"].transpose(2, 0, 1)}
        return values | ({"front": pictures["front"]} if self.lies else pictures)


if "TwoCameras-v0" not in gymnasium.registry:
    gymnasium.register("TwoCameras-v0", entry_point=TwoCameras, max_episode_steps=30)
