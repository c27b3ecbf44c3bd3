"""A hand for Reacher: from pose to pose, briskly or slowly, a while at each, and some free swinging."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..angles import wrapped
from ..scripted import ScriptedPolicy
from .reacher import WRIST

_NEAR = 0.06  # rad of each joint: there
_SLOW = 0.4  # rad/s: at rest


class ReacherPolicy(ScriptedPolicy):
    """States (4,), actions (2,)."""

    def _behave(self) -> Iterator[np.ndarray]:
        rng = self._rng
        while True:
            self._noise_scale = float(rng.choice([0.0, 0.03, 0.1, 0.25], p=[0.3, 0.3, 0.25, 0.15]))
            choice = rng.random()
            if choice < 0.55:
                yield from self._go(self._anywhere())
            elif choice < 0.85:
                yield from self._go(self._nearby())
            else:
                yield from self._swing()

    def _anywhere(self) -> np.ndarray:
        return np.array([self._rng.uniform(-math.pi, math.pi), self._rng.uniform(-WRIST, WRIST)])

    def _nearby(self) -> np.ndarray:
        """A pose a little away from this one; one in three differs in one joint only."""
        move = self._rng.normal(0.0, 0.5, 2)
        if self._rng.random() < 1 / 3:
            move[self._rng.integers(2)] = 0.0
        pose = self._state[:2] + move
        return np.array([pose[0], min(max(pose[1], -WRIST), WRIST)])

    def _go(self, pose: np.ndarray) -> Iterator[np.ndarray]:
        """To `pose` (2,) as a spring with a damper would pull, then stay a while."""
        rng = self._rng
        stiffness = np.array([rng.uniform(1.5, 6.0), rng.uniform(0.6, 3.0)])
        damping = np.array([rng.uniform(0.15, 0.6), 0.0])  # the wrist is light: its own damping is enough
        strongest = rng.uniform(0.15, 1.0)
        patience, stay = int(rng.integers(10, 40)), int(rng.integers(0, 12))
        for _ in range(patience):
            yield self._pull(pose, stiffness, damping).clip(-strongest, strongest)
            away = self._away(pose)
            if np.abs(away).max() < _NEAR and np.abs(self._state[2:]).max() < _SLOW:
                break
        for _ in range(stay):
            yield self._pull(pose, stiffness, damping)

    def _pull(self, pose: np.ndarray, stiffness: np.ndarray, damping: np.ndarray) -> np.ndarray:
        return stiffness * self._away(pose) - damping * self._state[2:]

    def _away(self, pose: np.ndarray) -> np.ndarray:
        return np.array([wrapped(pose[0] - self._state[0]), pose[1] - self._state[1]])

    def _swing(self) -> Iterator[np.ndarray]:
        """Torques that change smoothly, wherever they lead; or none, to see the arm run out."""
        rng = self._rng
        torque = rng.uniform(-1.0, 1.0, 2) * (rng.random() > 0.2)
        keep, spread = rng.uniform(0.6, 0.95), rng.uniform(0.0, 0.5)
        for _ in range(int(rng.integers(4, 20))):
            yield torque
            torque = keep * torque + rng.normal(0.0, spread * math.sqrt(1.0 - keep**2), 2)
