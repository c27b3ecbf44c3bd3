"""A roller for PointMaze: from cell to cell by the shortest way, at many paces, with stops and detours."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from ..scripted import ScriptedPolicy
from .point_maze import DAMPING, FORCE, MEDIUM_MAZE, U_MAZE, cell_centre, cell_of, free_cells


class PointMazePolicy(ScriptedPolicy):
    """For the U maze; states (4,), actions (2,)."""

    maze: tuple[str, ...] = U_MAZE

    def __init__(self) -> None:
        self._cells = [tuple(cell) for cell in free_cells(self.maze).tolist()]

    def _behave(self) -> Iterator[np.ndarray]:
        rng = self._rng
        while True:
            self._noise_scale = float(rng.choice([0.0, 0.05, 0.15, 0.3]))
            choice = rng.random()
            if choice < 0.65:
                yield from self._travel(self._cells[rng.integers(len(self._cells))])
            elif choice < 0.85:
                yield from self._go(self._beside(cell_of(self.maze, self._state)), rng.uniform(0.3, 2.0), 20)
            else:
                yield from self._drift()

    def _travel(self, target: tuple[int, ...]) -> Iterator[np.ndarray]:
        """Through the maze to `target`, near the middle of each cell on the way; then stay a moment."""
        rng = self._rng
        pace = rng.uniform(0.5, 1.5) if rng.random() < 0.3 else rng.uniform(1.5, 3.0)
        for cell in self._way(cell_of(self.maze, self._state), target):
            yield from self._go(self._beside(cell), pace, 12, near=0.35)
        stay = self._state[:2]
        for _ in range(int(rng.integers(0, 8))):
            yield self._towards(stay, pace)

    def _beside(self, cell: tuple[int, ...]) -> np.ndarray:
        """A place in `cell`; one in five lies beyond its edge, to lean on a wall if there is one."""
        spread = 0.7 if self._rng.random() < 0.2 else 0.27
        return cell_centre(self.maze, cell) + self._rng.uniform(-spread, spread, 2)

    def _go(self, place: np.ndarray, pace: float, patience: int, near: float = 0.1) -> Iterator[np.ndarray]:
        """Towards `place` (2,) at `pace` m/s or less."""
        for _ in range(patience):
            if math.dist(place, self._state[:2]) < near:
                return
            yield self._towards(place, pace)

    def _towards(self, place: np.ndarray, pace: float) -> np.ndarray:
        """The force that brings the ball to the speed that it should have, in about 0.2 s."""
        speed = 2.5 * (place - self._state[:2])
        speed *= min(1.0, pace / max(float(np.linalg.norm(speed)), 1e-9))
        return (DAMPING * speed + 20.0 * (speed - self._state[2:])) / FORCE

    def _drift(self) -> Iterator[np.ndarray]:
        """One force for a while, wherever it leads; or none, to see the ball run out."""
        angle, size = (
            self._rng.uniform(0, 2 * math.pi),
            self._rng.uniform(0.0, 1.2) * (self._rng.random() > 0.2),
        )
        for _ in range(int(self._rng.integers(2, 10))):
            yield size * np.array([math.cos(angle), math.sin(angle)])

    def _way(self, start: tuple[int, ...], target: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The cells of the shortest way, the first left out: breadth-first search from the target back."""
        nearer: dict[tuple[int, ...], tuple[int, ...]] = {target: target}
        queue = [target]
        for cell in queue:
            for step in ((0, 1), (1, 0), (0, -1), (-1, 0)):
                beside = cell[0] + step[0], cell[1] + step[1]
                if beside in self._cells and beside not in nearer:
                    nearer[beside] = cell
                    queue.append(beside)
        way = [start]
        while way[-1] in nearer and way[-1] != target:
            way.append(nearer[way[-1]])
        return way[1:] or [target]


class PointMazeMediumPolicy(PointMazePolicy):
    """The same in the medium maze."""

    maze = MEDIUM_MAZE
