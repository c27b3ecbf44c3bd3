"""A purposeful hand for PushT: approach the block, push along, let go, go round, turn it.

It reads the state, plans in the block's frame and steers one control step at a time. Meant to teach a world
model: every episode differs in targets, contact points, speeds and noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..angles import wrapped
from ..scripted import ScriptedPolicy
from .geometry import AGENT_RADIUS, BOARD, T_COG, T_CORNERS, block_corners, block_points, gap

# A full action moves the agent about this far (px) in its first control step, and each px/s that it has
# adds this much.
_FIRST_STEP, _PER_SPEED = 26.4, 0.0368
_MARGIN = 22.0  # the agent keeps this far from the board's edge
_EDGES = np.stack([T_CORNERS, np.roll(T_CORNERS, -1, axis=0)], axis=1)
_LENGTHS = np.linalg.norm(_EDGES[:, 1] - _EDGES[:, 0], axis=1)
_INWARD = (_EDGES[:, 1] - _EDGES[:, 0])[:, ::-1] * [-1, 1] / _LENGTHS[:, None]
_DETOUR = AGENT_RADIUS + 16.0
# Points round the T's outer corners by which it can be passed, in its own frame.
_PASSAGES = np.array(
    [[-60, 0], [60, 0], [60, 30], [15, 120], [-15, 120], [-60, 30]], float
) + _DETOUR * np.array([[-1, -1], [1, -1], [1, 1], [1, 0.7], [-1, 0.7], [-1, 1]])


class PushTPolicy(ScriptedPolicy):
    """States (7,), actions (2,). A wish is how far the agent should move in this step, px (2,)."""

    def reset(self, rng: np.random.Generator) -> None:
        super().reset(rng)
        self._target = np.array([*rng.uniform(130, BOARD - 130, 2), rng.uniform(0, 2 * math.pi)])
        self._noise_scale = float(rng.choice([0.0, 0.05, 0.15]))

    def _to_action(self, wish: np.ndarray) -> np.ndarray:
        return (wish - 0.5 * _PER_SPEED * self._state[5:]) / (_FIRST_STEP + 7.0)

    def _behave(self) -> Iterator[np.ndarray]:
        rng = self._rng
        while True:
            self._noise_scale = float(rng.choice([0.0, 0.03, 0.08, 0.2], p=[0.3, 0.3, 0.3, 0.1]))
            if rng.random() < 0.08:
                self._target = np.array([*rng.uniform(130, BOARD - 130, 2), rng.uniform(0, 2 * math.pi)])
            choice = rng.random()
            if choice < 0.06:
                yield from self._wander()
            elif choice < 0.10:
                yield from self._fidget()
            else:
                yield from self._push_once()

    def _wander(self) -> Iterator[np.ndarray]:
        """Go straight to any place on the board, through the block if it is in the way."""
        place = self._rng.uniform(_MARGIN + 10, BOARD - _MARGIN - 10, 2)
        pace = self._rng.uniform(8, 36)
        for _ in range(int(self._rng.integers(3, 15))):
            if math.dist(place, self._state[:2]) < 10:
                return
            yield self._towards(place, pace)

    def _fidget(self) -> Iterator[np.ndarray]:
        for _ in range(int(self._rng.integers(1, 6))):
            yield self._rng.normal(0.0, 3.0, 2)

    def _push_once(self) -> Iterator[np.ndarray]:
        rng = self._rng
        plan = self._choose_push()
        if plan is None:
            yield from self._wander()
            return
        path, direction, length = plan
        yield from self._follow(path, rng.uniform(18, 40))
        pace = rng.uniform(4, 12) if rng.random() < 0.4 else rng.uniform(10, 26)
        yield from self._push(direction, length, pace)
        if rng.random() < 0.6:
            back = -(block_points(self._state, direction[None]) - self._state[2:4])[0]
            for _ in range(int(rng.integers(1, 3))):
                yield self._inside(back * rng.uniform(6, 20))

    def _follow(self, path: np.ndarray, pace: float) -> Iterator[np.ndarray]:
        """Along points (K, 2) of the block's frame."""
        for i, point in enumerate(path):
            near = 6.0 if i == len(path) - 1 else 16.0
            for _ in range(25):
                place = block_points(self._state, point[None])[0]
                if math.dist(place, self._state[:2]) < near:
                    break
                yield self._inside(self._towards(place, pace))

    def _push(self, direction: np.ndarray, length: float, pace: float) -> Iterator[np.ndarray]:
        """Press into the block along `direction` (2,) of its frame, which turns with it or does not."""
        rng = self._rng
        turns_along = rng.random() < 0.5
        bend = rng.normal(0.0, 0.05)
        angle, gone, lost = 0.0, 0.0, 0
        heading = block_points(self._state, direction[None])[0] - self._state[2:4]
        while gone < length and lost < 2:
            if turns_along:
                heading = block_points(self._state, direction[None])[0] - self._state[2:4]
            angle += bend
            step = _rotate(heading, angle) * pace
            if self._against_wall(step):
                return
            before = self._state[:2].copy()
            yield self._inside(step)
            gone += math.dist(before, self._state[:2])
            lost = lost + 1 if gone > 45 and gap(self._state) > 6 else 0

    # Choices ----------------------------------------------------------------------------------------------

    def _choose_push(self) -> tuple[np.ndarray, np.ndarray, float] | None:
        """The next push: a path to it and its direction, both in the block's frame, and its length, px."""
        rng, state = self._rng, self._state
        count = 24
        edge = rng.choice(len(_EDGES), count, p=_LENGTHS / _LENGTHS.sum())
        along = rng.uniform(0.03, 0.97, (count, 1))
        contact = _EDGES[edge, 0] * (1 - along) + _EDGES[edge, 1] * along
        direction = np.stack([_rotate(_INWARD[e], rng.normal(0.0, 0.35)) for e in edge])
        stand = contact - direction * (AGENT_RADIUS + rng.uniform(5, 18, (count, 1)))
        length = rng.uniform(30, 180, count)
        places = block_points(state, stand)
        fits = (np.abs(places - BOARD / 2) < BOARD / 2 - _MARGIN).all(axis=1) & (self._gaps(places) > 2)
        if not fits.any():
            return None
        score = self._score(contact, direction, length * rng.choice([0.4, 0.7]), rng.random() < 0.5)
        score = score - np.linalg.norm(places - state[:2], axis=1) / 120 + rng.gumbel(0.0, 0.7, count)
        for i in np.argsort(-np.where(fits, score, -np.inf))[:4]:
            path = self._path(stand[i]) if fits[i] else None
            if path is not None:
                return path, direction[i], float(length[i]) + 15.0
        return None

    def _score(self, contact: np.ndarray, direction: np.ndarray, length: np.ndarray, aim: bool) -> np.ndarray:
        """How good pushes (K, 2) are: they keep the block off the walls and, with `aim`, near the target."""
        state = self._state
        heading = block_points(state, direction) - state[2:4]
        centre = block_points(state, T_COG[None])[0] + heading * length[:, None]
        arm = contact - T_COG
        turn = length * (arm[:, 0] * direction[:, 1] - arm[:, 1] * direction[:, 0]) / 60.0**2
        out = np.maximum(np.abs(centre - BOARD / 2) - (BOARD / 2 - 115), 0.0).sum(axis=1)
        score = -out / 15.0
        if aim:
            wrong = np.abs(wrapped(state[4] + turn - self._target[2]))
            score = score - np.linalg.norm(centre - self._target[:2], axis=1) / 30 - wrong / 0.4
        return score

    def _path(self, stand: np.ndarray) -> np.ndarray | None:
        """Shortest way (K, 2) round the block to `stand`, all in the block's frame; None when barred."""
        state = self._state
        nodes = np.vstack([state[:2], block_points(state, np.vstack([_PASSAGES, stand]))])
        local = np.vstack([np.zeros(2), _PASSAGES, stand])
        count = len(nodes)
        usable = np.all(np.abs(nodes - BOARD / 2) < BOARD / 2 - _MARGIN + 4, axis=1)
        usable[0] = True
        share = np.linspace(0.08, 1.0, 12)[:, None]
        lines = nodes[:, None, None] * (1 - share) + nodes[None, :, None] * share
        start_gap = float(gap(state))
        clear = (self._gaps(lines) > min(3.0, start_gap - 1.0)).all(axis=2) & usable[:, None] & usable[None]
        reach = np.where(clear, np.linalg.norm(nodes[:, None] - nodes[None], axis=2), np.inf)
        cost, last, done = np.full(count, np.inf), np.zeros(count, int), np.zeros(count, bool)
        cost[0] = 0.0
        for _ in range(count):
            here = int(np.argmin(np.where(done, np.inf, cost)))
            done[here] = True
            better = cost[here] + reach[here] < cost
            cost, last = np.where(better, cost[here] + reach[here], cost), np.where(better, here, last)
        if not np.isfinite(cost[-1]):
            return None
        order = [count - 1]
        while order[-1]:
            order.append(int(last[order[-1]]))
        return local[order[-2::-1]]

    # Small helpers ----------------------------------------------------------------------------------------

    def _gaps(self, places: np.ndarray) -> np.ndarray:
        """What `gap` would be with the agent at `places` (..., 2)."""
        states = np.broadcast_to(self._state, (*places.shape[:-1], 7)).copy()
        states[..., :2] = places
        return gap(states)

    def _towards(self, place: np.ndarray, pace: float) -> np.ndarray:
        way = place - self._state[:2]
        return way * min(1.0, pace / max(float(np.linalg.norm(way)), 1e-9))

    def _inside(self, step: np.ndarray) -> np.ndarray:
        """`step`, cut where it would lead the agent off the board."""
        return np.clip(self._state[:2] + step, _MARGIN - 4, BOARD - _MARGIN + 4) - self._state[:2]

    def _against_wall(self, step: np.ndarray) -> bool:
        """Whether a push by `step` presses the block into a wall that it has reached."""
        corners = block_corners(self._state)
        low, high = corners.min(axis=0) < 14.0, corners.max(axis=0) > BOARD - 14.0
        return bool(((low & (step < 0)) | (high & (step > 0))).any())


def _rotate(vector: np.ndarray, angle: float) -> np.ndarray:
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([cos * vector[0] - sin * vector[1], sin * vector[0] + cos * vector[1]])
