"""A walker for TwoRoom and Wall: from target to target, through the door, into corners and along walls."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..scripted import ScriptedPolicy
from .frames import LAYOUT, Layout
from .two_room import FACE, HIGH, LOW, SPEED


class TwoRoomPolicy(ScriptedPolicy):
    """States (2,), or with a layout (4,); actions (2,)."""

    def _see(self, state: np.ndarray) -> None:
        self._place = state[:2]
        self._layout = Layout(*state[2:].tolist()) if len(state) > 2 else LAYOUT

    def _behave(self) -> Iterator[np.ndarray]:
        rng = self._rng
        while True:
            self._noise_scale = float(rng.choice([0.0, 0.1, 0.3]))
            pace = rng.uniform(0.1, 0.8) if rng.random() < 0.3 else rng.uniform(0.8, 1.4)
            choice = rng.random()
            if choice < 0.08:
                yield from self._drift()
            elif choice < 0.6:
                yield from self._cross(max(pace, 0.6))
            else:
                yield from self._go(self._target(self._place[0] < self._layout.wall), pace)

    def _target(self, left: bool) -> np.ndarray:
        """A place in the left or right room; one in three may lie behind its walls, to lean on them."""
        wall = self._layout.wall
        low, high = (LOW, wall - FACE) if left else (wall + FACE, HIGH)
        over = 40.0 if self._rng.random() < 0.35 else 0.0
        x, y = self._rng.uniform([low - over, LOW - over], [high + over, HIGH + over])
        return np.array([x, y])

    def _cross(self, pace: float) -> Iterator[np.ndarray]:
        """Through the door to a place in the other room."""
        wall, door = self._layout
        left, beside = self._place[0] < wall, FACE + 4
        before, behind = (wall - beside, wall + beside) if left else (wall + beside, wall - beside)
        height = door + self._rng.uniform(-10.0, 10.0)
        yield from self._go(np.array([before, height]), pace)
        yield from self._go(np.array([behind, height]), pace)
        yield from self._go(self._target(not left), pace)

    def _go(self, target: np.ndarray, pace: float) -> Iterator[np.ndarray]:
        """Straight to `target`; gives up after a while where nothing moves any more."""
        stuck, patience = 0, int(self._rng.integers(2, 9))
        while stuck < patience:
            way = target - self._place
            distance = math.hypot(*way)
            if distance < 4.0:
                return
            before = self._place
            yield way / distance * min(pace, distance / SPEED)
            stuck = stuck + 1 if math.dist(before, self._place) < 1.0 else 0

    def _drift(self) -> Iterator[np.ndarray]:
        """One direction for a while, wherever it leads."""
        angle, pace = self._rng.uniform(0, 2 * math.pi), self._rng.uniform(0.0, 1.2)
        for _ in range(int(self._rng.integers(3, 15))):
            yield pace * np.array([math.cos(angle), math.sin(angle)])
