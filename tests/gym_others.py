"""Environments as other people write them, for the tests: each odd in one way. Registered when imported."""

from __future__ import annotations

import os
import time
from typing import Any

import gym_dots
import gymnasium
import numpy as np
from gymnasium import spaces


class Dark(gym_dots.Dot):
    """Draws nothing where SDL has no screen, as highway-env."""

    def render(self) -> np.ndarray:
        frame = super().render()
        return np.zeros_like(frame) if os.environ.get("SDL_VIDEODRIVER") == "dummy" else frame


class Frozen(gym_dots.Dot):
    """Draws the same picture for ever."""

    def render(self) -> np.ndarray:
        return np.tile(np.arange(40, dtype=np.uint8)[None, :, None], (30, 1, 3))


class Late(gym_dots.Dot):
    """Stands still for its first thirty steps."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self.count += 1
        return super().step(np.zeros(2, np.float32) if self.count < 30 else action)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.place, self.count = np.full(2, 4.0), 0
        return self._seen(), {}


class Slow(gym_dots.Dot):
    """Takes a while to draw."""

    def render(self) -> np.ndarray:
        time.sleep(0.01)
        return super().render()


class Breaks(gym_dots.Dot):
    """Raises where its name says: make, reset, step, late (after 60 steps), render, assert, lacks, opengl."""

    def __init__(self, render_mode: str | None = None, where: str = "step", **options: Any) -> None:
        super().__init__(render_mode, **options)
        self.where, self.count = where, 0
        self._break("make")

    def _break(self, place: str) -> None:
        if place == self.where:
            raise RuntimeError("the robot\nfell off the table.")

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        self._break("reset")
        self.count = 0
        return super().reset(seed=seed)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        self._break("step")
        self.count += 1
        if self.where == "late" and self.count > 60:
            raise RuntimeError("the robot fell off the table")
        if self.where == "assert":
            assert self.count == 0
        return super().step(action)

    def render(self) -> np.ndarray:
        self._break("render")
        if self.where == "lacks":
            raise gymnasium.error.DependencyNotInstalled("Box2D is not installed, run `pip install box2d`")
        if self.where == "opengl":
            raise RuntimeError("gladLoadGL error")
        if self.where == "memory":
            raise MemoryError
        return super().render()


class Goals(gym_dots.Dot):
    """A GoalEnv as Gymnasium-Robotics has them; `reports` says what of its success it tells, `rule` how."""

    def __init__(
        self, render_mode: str | None = None, reports: str = "is_success", rule: str = "method"
    ) -> None:
        super().__init__(render_mode)
        box = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.observation_space = spaces.Dict(
            {"observation": spaces.Box(-np.inf, np.inf, (4,)), "achieved_goal": box, "desired_goal": box}
        )
        self.reports = reports
        if rule == "method":
            self._is_success = self.near
        if rule == "sparse":
            self.compute_reward = lambda reached, wanted, info: float(self.near(reached, wanted)) - 1
        if rule == "dense":
            self.compute_reward = lambda reached, wanted, info: -float(np.linalg.norm(reached - wanted))
        if rule == "other":
            self._is_success = lambda reached, wanted: True

    def near(self, reached: np.ndarray, wanted: np.ndarray) -> bool:
        return bool(np.linalg.norm(reached - wanted) < 0.5)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict]:
        super().reset(seed=seed)
        self.target = self.np_random.uniform(2, 6, 2)
        return self._seen(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict]:
        seen, *rest, info = super().step(action)
        if self.reports != "nothing":
            info = {self.reports: self.near(self.place, self.target)}
        return seen, *rest, info

    def _seen(self) -> Any:
        if not hasattr(self, "target"):
            return None
        flat = np.concatenate([self.place, self.speed], dtype=np.float32)
        return {"observation": flat, "achieved_goal": self.place.copy(), "desired_goal": self.target}


class Bounds(gym_dots.Dot):
    """Bounds of its actions that stand for none."""

    def __init__(self, render_mode: str | None = None, bound: float = 1.0, wide: bool = False) -> None:
        super().__init__(render_mode)
        self.action_space = spaces.Box(-bound, bound, (2,), np.float64 if wide else np.float32)


for _kind in (Dark, Frozen, Late, Slow, Breaks, Goals):
    _id = f"{_kind.__name__}-v0"
    if _id not in gymnasium.registry:
        gymnasium.register(_id, entry_point=_kind)
for _name, _options in {
    "Float": {"bound": float(np.finfo(np.float32).max)},
    "Double": {"bound": 1e300, "wide": True},
    "Wide": {"bound": 1e9, "wide": True},
}.items():
    if f"{_name}Bounds-v0" not in gymnasium.registry:
        gymnasium.register(f"{_name}Bounds-v0", entry_point=Bounds, kwargs=_options)
