"""Frames of PushT, drawn at any size with antialiasing, in the colours and shapes of the published ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..drawing.antialiased import Boxes, Grid, Region, blend, covered, mix
from .geometry import AGENT_RADIUS, BOARD, T_CENTRES, T_HALVES, WALLS

if TYPE_CHECKING:
    from .world import Simulation


def _colours(*rgb: tuple[int, int, int]) -> np.ndarray:
    return np.array(rgb, dtype=np.float32)


GROUND, WALL, GOAL = _colours((255, 255, 255), (211, 211, 211), (144, 238, 144))
BLOCK = _colours((143, 163, 184), (119, 136, 153))  # fill, outline
AGENT = _colours((78, 126, 255), (65, 105, 225))  # fill, rim
_AGENT_STEPS = np.stack([AGENT[1] - GROUND, AGENT[0] - AGENT[1]])  # from ground to rim, from rim to fill
_BLOCK_STEPS = np.stack([GROUND - BLOCK[1], BLOCK[0] - BLOCK[1]])  # from outline to ground, and to fill
STROKE = 2.0  # half the thickness of walls and of the T's outline
RIM = 4.0  # thickness of the agent's rim


def wall_shares(grid: Grid) -> np.ndarray:
    """Share (H, W) of each pixel that the walls cover."""
    low, high = WALLS
    dx, dy = grid.offsets(grid.everything(), (low + high) / 2, (low + high) / 2)

    def square(half: float) -> np.ndarray:
        reach = np.float32(half * grid.scale)
        return covered(reach - abs(dx)) * covered(reach - abs(dy))

    return square((high - low) / 2 + STROKE) - square((high - low) / 2 - STROKE)


class SmoothFrames:
    """Draws the board at `size` px, smooth in every position and angle."""

    def __init__(self, size: int) -> None:
        self._grid = grid = Grid(size, size / BOARD)
        self._block = Boxes(T_CENTRES, T_HALVES, STROKE, grid)
        self._goal = Boxes(T_CENTRES, T_HALVES, 0.0, grid)
        radii = np.array([AGENT_RADIUS, AGENT_RADIUS - RIM]) * grid.scale + 0.5
        self._radii = radii.astype(np.float32)[:, None, None]
        self._walls = wall_shares(grid)
        self._ground = self._finish(blend(np.broadcast_to(GROUND, (size, size, 3)), WALL, self._walls))
        # The first and last row or column between the walls that no wall touches.
        middle = size // 2
        clear = int((self._walls[middle, middle:] == 0).argmin()) or size - middle
        self._inside = middle - clear + 1, middle + clear
        # What stands still from frame to frame: pose and goal, the frame without the agent, where the block
        # is in it, and what all that shows behind the walls, minus white.
        self._still: tuple | None = None
        self._block_at: Region | None = None
        self._frame = self._ground
        self._over_white = np.zeros((size, size, 3), np.float32)
        self._marked: tuple[bytes | None, np.ndarray, np.ndarray] = None, self._ground, self._over_white

    def draw(self, simulation: Simulation, marker: np.ndarray | None, moment: float = 0.0) -> np.ndarray:
        """The frame uint8 (H, W, 3), over the goal T of the state `marker` (7,) when that is given.

        moment: makes no difference here, where nothing moves by itself.
        """
        self._update(simulation, marker)
        frame = self._frame.copy()
        x, y = simulation.agent.position
        agent = self._grid.region(x - AGENT_RADIUS, y - AGENT_RADIUS, x + AGENT_RADIUS, y + AGENT_RADIUS)
        if agent is not None:
            shares = (self._radii - self._grid.distance(agent, x, y)).clip(0.0, 1.0)
            disc = mix(shares, _AGENT_STEPS)  # of the whole disc, and of its fill on top
            disc += self._over_white[agent] * (1.0 - shares[0])[..., None]
            disc += GROUND
            frame[agent] = self._finish(self._behind_walls(disc, agent))
        return frame

    def _update(self, simulation: Simulation, marker: np.ndarray | None) -> None:
        """Draw block and goal again where they are not as they were."""
        (x, y), angle = simulation.block.position, simulation.block.angle
        goal = None if marker is None else marker[2:5].tobytes()
        pose = x, y, angle, goal
        if self._still == pose:
            return
        if marker is not None and goal != self._marked[0]:
            self._marked = goal, *self._mark(marker)
        ground, under = (self._ground, 0.0) if marker is None else self._marked[1:]
        if self._still is None or self._still[3] != goal:
            self._over_white[...] = under
        elif self._block_at is not None:
            self._over_white[self._block_at] = 0.0 if marker is None else self._marked[2][self._block_at]
        self._frame, self._block_at = ground.copy(), self._block.region(x, y, angle)
        region = self._block_at
        if region is not None:
            shares = self._block.shares(region, x, y, angle)
            painted = mix(shares, _BLOCK_STEPS)
            painted += BLOCK[1]
            if marker is not None:
                painted += self._over_white[region] * shares[0][..., None]
            self._frame[region] = self._finish(self._behind_walls(painted, region))
            self._over_white[region] = painted - GROUND
        self._still = pose

    def _behind_walls(self, painted: np.ndarray, region: Region) -> np.ndarray:
        rows, columns = region
        low, high = self._inside
        if rows.start >= low and columns.start >= low and rows.stop <= high and columns.stop <= high:
            return painted
        return blend(painted, WALL, self._walls[region])

    def _mark(self, marker: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The finished ground (H, W, 3) with the goal T, and what it shows behind the walls minus white."""
        x, y, angle = marker[2:5].tolist()
        share = 1.0 - self._goal.shares(self._grid.everything(), x, y, angle)[0]
        under = blend(np.broadcast_to(GROUND, (*share.shape, 3)), GOAL, share)
        return self._finish(blend(under, WALL, self._walls)), under - GROUND

    @staticmethod
    def _finish(painted: np.ndarray) -> np.ndarray:
        return (painted + np.float32(0.5)).astype(np.uint8)
