"""A purposeful hand for Cube: fetch the cube, carry it about, put it down or drop it, push it, wander.

It reads the state and steers one control step at a time. Every episode differs in places, heights, paces,
grips and noise, and some grips are meant to miss, so that a world model sees those too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..angles import wrapped
from ..scripted import ScriptedPolicy

_LOW, _HIGH = np.array([0.27, -0.33, 0.02]), np.array([0.58, 0.33, 0.33])  # where the effector is sent, m
_FLOOR_LOW, _FLOOR_HIGH = np.array([0.30, -0.30]), np.array([0.55, 0.30])  # where cubes are put down, m
_REACH, _TURN = 0.05, 0.3  # of a full action, m and rad
_OPEN, _SHUT = -1.0, 1.0


class CubePolicy(ScriptedPolicy):
    """States (45,), actions (5,). A wish is how far to move in this step (4,), as shares of a full action.

    The gripper goes to `_grip`, without noise.
    """

    wish_size = 4

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """The next action, float32 (5,) in [-1, 1]."""
        move = super().act(obs)
        return np.append(move, np.float32(np.clip(self._grip, -1.0, 1.0)))

    def _see(self, state: np.ndarray) -> None:
        self._hand, self._yaw, self._cube, self._cube_yaw = state[:3], state[3], state[4:7], _yaw(state[7:11])

    def _behave(self) -> Iterator[np.ndarray]:
        rng = self._rng
        self._noise_scale, self._grip = 0.05, _OPEN
        if rng.random() < 0.2:
            yield from self._wander()
        while True:
            self._noise_scale = float(rng.choice([0.02, 0.08, 0.2], p=[0.4, 0.45, 0.15]))
            choice = rng.random()
            if choice < 0.72:
                yield from self._fetch()
            elif choice < 0.84:
                yield from self._push()
            elif choice < 0.94:
                yield from self._wander()
            else:
                yield from self._pause(int(rng.integers(2, 7)))

    def _fetch(self) -> Iterator[np.ndarray]:
        """Pick the cube up, carry it past a few places, let go of it."""
        rng = self._rng
        if not _in_reach(self._cube):
            yield from self._wander()
            return
        pace = rng.uniform(0.5, 1.0)
        self._grip = _OPEN
        yaw = self._aligned(int(rng.integers(4)) if rng.random() < 0.1 else 0)
        miss = rng.normal(0.0, rng.choice([0.003, 0.02], p=[0.85, 0.15]), 2)
        above = self._cube + [*miss, rng.uniform(0.05, 0.10)]
        yield from self._go(above, yaw, pace, near=0.02, settle=0.2)
        yield from self._go(self._cube + [*miss, rng.uniform(-0.005, 0.004)], yaw, pace, near=0.009)
        self._grip = _SHUT * rng.uniform(0.6, 1.0)
        yield from self._pause(int(rng.integers(3, 7)))
        for _ in range(int(rng.choice([1, 2, 3], p=[0.5, 0.35, 0.15]))):
            height = rng.uniform(0.03, 0.12) if rng.random() < 0.6 else rng.uniform(0.08, 0.28)
            place = np.append(rng.uniform(_FLOOR_LOW, _FLOOR_HIGH), height)
            turn = yaw + rng.normal(0.0, 0.7) * (rng.random() < 0.6)
            if rng.random() < 0.7:
                yield from self._go(np.append(self._hand[:2], height), yaw, pace, near=0.03)
            yield from self._go(place, turn, rng.uniform(0.5, 1.0), near=0.03)
        if rng.random() < 0.8:
            down = np.append(self._hand[:2], rng.uniform(0.018, 0.035))
            yield from self._go(down, self._yaw, pace, near=0.012)
        self._grip = _OPEN * rng.uniform(0.6, 1.0)
        yield from self._pause(int(rng.integers(2, 5)))
        up = self._hand + [*rng.normal(0.0, 0.03, 2), rng.uniform(0.05, 0.15)]
        yield from self._go(up, self._yaw, pace, near=0.03)

    def _push(self) -> Iterator[np.ndarray]:
        """Push the cube over the floor with a shut gripper, roughly towards a place on it."""
        rng = self._rng
        place = rng.uniform(_FLOOR_LOW, _FLOOR_HIGH)
        way = place - self._cube[:2]
        length = float(np.linalg.norm(way))
        stand = self._cube[:2] - way / max(length, 1e-6) * rng.uniform(0.05, 0.08)
        if not (_in_reach(self._cube) and length > 0.05 and np.all((stand > _LOW[:2]) & (stand < _HIGH[:2]))):
            yield from self._wander()
            return
        self._grip = _SHUT
        low = rng.uniform(0.02, 0.035)
        yaw = math.atan2(way[1], way[0]) % math.pi if rng.random() < 0.5 else self._yaw
        yaw = self._yaw + (yaw - self._yaw + math.pi / 2) % math.pi - math.pi / 2
        if np.linalg.norm(self._hand[:2] - stand) > 0.03:
            yield from self._go(np.append(stand, rng.uniform(0.1, 0.14)), yaw, 1.0, near=0.025)
        yield from self._go(np.append(stand, low), yaw, 0.8, near=0.015)
        end = stand + way * min(1.0, rng.uniform(0.1, 0.25) / length)
        yield from self._go(np.append(end, low), yaw, rng.uniform(0.25, 0.7), near=0.01)
        back = self._hand + [0.0, 0.0, rng.uniform(0.08, 0.12)]
        yield from self._go(back, self._yaw, 0.8, near=0.03)

    def _wander(self) -> Iterator[np.ndarray]:
        """Go anywhere; sometimes open or shut the gripper on the way."""
        rng = self._rng
        if rng.random() < 0.4:
            self._grip = rng.uniform(-1.0, 1.0)
        place = rng.uniform(_LOW, _HIGH)
        yield from self._go(
            place, self._yaw + rng.normal(0.0, 0.8), rng.uniform(0.3, 1.0), near=0.04, most=15
        )

    def _pause(self, steps: int) -> Iterator[np.ndarray]:
        for _ in range(steps):
            yield np.zeros(4)

    def _go(
        self, place: np.ndarray, yaw: float, pace: float, near: float, settle: float = 1.0, most: int = 30
    ) -> Iterator[np.ndarray]:
        """To `place` (3,) with `yaw`, until within `near` m and `settle` rad or `most` steps have passed."""
        place = np.clip(place, _LOW, _HIGH)
        gain = self._rng.uniform(0.9, 1.4)
        for _ in range(most):
            way, turn = place - self._hand, wrapped(yaw - self._yaw)
            if np.linalg.norm(way) < near and abs(turn) < settle:
                return
            step = gain * way / _REACH
            step *= min(1.0, pace / max(float(np.abs(step).max()), 1e-9))
            yield np.append(step, np.clip(gain * turn / _TURN, -1.0, 1.0))

    # Small helpers ------------------------------------------------------------------------------------------

    def _aligned(self, quarters: int) -> float:
        """The nearest yaw at which the fingers close on two faces of the cube, and `quarters` turns on."""
        off = (self._cube_yaw - self._yaw + math.pi / 4) % (math.pi / 2) - math.pi / 4
        return float(self._yaw + off + quarters * math.pi / 2)


def coverage(states: np.ndarray, offset: int) -> dict[str, Any]:
    """What episodes (E, T, 45) cover, in plain numbers."""
    cube = states[..., 4:7]
    moved = np.linalg.norm(cube[:, offset:] - cube[:, :-offset], axis=-1)
    way = np.linalg.norm(states[:, offset:, :3] - states[:, :-offset, :3], axis=-1)
    held = cube[..., 2] > 0.03
    places = np.histogram2d(cube[..., 0].ravel(), cube[..., 1].ravel(), 8, [[0.25, 0.6], [-0.35, 0.35]])[0]
    share = {
        f"share of {offset}-step windows in which the cube moves more than 4 cm": moved > 0.04,
        "share of frames with the cube in the air": held,
        "share of episodes in which it is lifted": held.any(axis=1),
        "share of episodes that end with it out of reach": ~_in_reach(cube[:, -1]),
        "share of the floor's 64 cells visited by the cube": places >= 0.001 * places.sum(),
    }
    travel = {"cube": moved, "effector": way}
    return {
        **{
            f"{name} displacement over {offset} steps, m": {
                f"{q}%": round(float(np.percentile(values, q)), 3) for q in (10, 25, 50, 75, 90)
            }
            for name, values in travel.items()
        },
        **{name: round(float(values.mean()), 3) for name, values in share.items()},
    }


def demands(start: np.ndarray, goal: np.ndarray) -> dict[str, float]:
    """What pairs of states (P, 45) ask for."""
    asked = {
        "cube must move, median m": np.median(np.linalg.norm(goal[:, 4:7] - start[:, 4:7], axis=1)),
        "share where the gripper has the cube at the start": _held(start).mean(),
        "share where the goal has the cube in the air": (goal[:, 6] > 0.03).mean(),
    }
    return {name: round(float(value), 3) for name, value in asked.items()}


def _held(states: np.ndarray) -> np.ndarray:
    """Whether the cube is between the finger tips, for states (..., 45)."""
    return np.linalg.norm(states[..., :3] - states[..., 4:7], axis=-1) < 0.025


def _in_reach(cube: np.ndarray) -> np.ndarray:
    """Whether the effector can come to cubes (..., 3)."""
    place = cube[..., :2]
    return np.all((place > _LOW[:2] - 0.02) & (place < _HIGH[:2] + 0.02), axis=-1)


def _yaw(quaternion: np.ndarray) -> float:
    """The direction over the floor of the cube's most level edge, rad, from its (w, x, y, z)."""
    w, x, y, z = quaternion
    edges = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y + w * z), 2 * (x * z - w * y)],
            [2 * (x * y - w * z), 1 - 2 * (x * x + z * z), 2 * (y * z + w * x)],
            [2 * (x * z + w * y), 2 * (y * z - w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    level = edges[np.argmin(np.abs(edges[:, 2]))]
    return math.atan2(level[1], level[0])
