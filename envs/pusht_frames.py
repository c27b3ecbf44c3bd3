"""Frames of PushT, drawn at any size with antialiasing, in the colours and shapes of the published ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from envs.drawing import Boxes, Grid, Region, blend, covered, mix
from envs.pusht_geometry import AGENT_RADIUS, BOARD, T_CENTRES, T_HALVES, WALLS

if TYPE_CHECKING:
    from envs.pusht import Simulation


def _colours(*rgb: tuple[int, int, int]) -> np.ndarray:
    return np.array(rgb, dtype=np.float32)


GROUND, WALL, GOAL = _colours((255, 255, 255), (211, 211, 211), (144, 238, 144))
BLOCK = _colours((143, 163, 184), (119, 136, 153))  # fill, outline
AGENT = _colours((78, 126, 255), (65, 105, 225))  # fill, rim
STROKE = 2.0  # half the thickness of walls and of the T's outline
RIM = 4.0  # thickness of the agent's rim


# A frame without the agent, what its ground shows minus white, where the block is drawn, and what is drawn there.
_Still = tuple[np.ndarray, np.ndarray | None, Region | None, np.ndarray | None]


class SmoothFrames:
    """Draws the board at `size` px, smooth in every position and angle."""

    def __init__(self, size: int) -> None:
        self._grid = grid = Grid(size, size / BOARD)
        self._block = Boxes(T_CENTRES, T_HALVES, STROKE, grid)
        self._goal = Boxes(T_CENTRES, T_HALVES, 0.0, grid)
        self._disc = np.array([AGENT_RADIUS - RIM, AGENT_RADIUS], np.float32)[:, None, None] * np.float32(grid.scale)
        self._on_white = np.vstack([GROUND, BLOCK]), np.vstack([GROUND, AGENT])
        self._walls = self._wall_shares()
        self._ground = self._finish(blend(np.broadcast_to(GROUND, (size, size, 3)), WALL, self._walls))
        # The first and last row or column between the walls that no wall touches.
        middle = size // 2
        clear = int((self._walls[middle, middle:] == 0).argmin()) or size - middle
        self._inside = middle - clear + 1, middle + clear
        self._marked: tuple[bytes, np.ndarray, np.ndarray] | None = None
        self._still: tuple[tuple, _Still] | None = None

    def draw(self, simulation: Simulation, marker: np.ndarray | None) -> np.ndarray:
        """The frame uint8 (H, W, 3) of the simulation, over the goal T of the state `marker` (7,) when given."""
        still, over_white, block, painted = self._with_block(simulation, marker)
        frame = still.copy()
        x, y = simulation.agent.position
        agent = self._grid.region(x, y, AGENT_RADIUS)
        if agent is not None:
            shares = self._agent_shares(agent, x, y)
            disc = mix(shares, self._on_white[1])
            beneath = self._beneath(agent, block, painted, over_white)
            if beneath is not None:
                disc += beneath * shares[0][..., None]
            frame[agent] = self._finish(self._behind_walls(disc, agent))
        return frame

    def _with_block(self, simulation: Simulation, marker: np.ndarray | None) -> _Still:
        """The frame without the agent; kept until block or goal move."""
        (x, y), angle = simulation.block.position, simulation.block.angle
        key = x, y, angle, None if marker is None else marker[2:5].tobytes()
        if self._still is None or self._still[0] != key:
            ground, over_white = self._look_under(marker)
            frame, painted, region = ground.copy(), None, self._block.region(x, y)
            if region is not None:
                shares = self._block.shares(region, x, y, angle)
                painted = mix(shares, self._on_white[0])
                if over_white is not None:
                    painted += over_white[region] * shares[0][..., None]
                frame[region] = self._finish(self._behind_walls(painted, region))
            self._still = key, (frame, over_white, region, painted)
        return self._still[1]

    def _agent_shares(self, region: Region, x: float, y: float) -> np.ndarray:
        """Shares (3, h, w): what lies under the agent, its fill, its rim."""
        fill, disc = covered(self._disc - self._grid.distance(region, x, y))
        return np.stack([1.0 - disc, fill, disc - fill])

    def _beneath(
        self, agent: Region, block: Region | None, painted: np.ndarray | None, over_white: np.ndarray | None
    ) -> np.ndarray | None:
        """What lies under the agent's region, minus white; None when that is all white."""
        beneath = None if over_white is None else over_white[agent].copy()
        if painted is None or block is None:
            return beneath
        overlap = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(agent, block, strict=True)]
        if any(part.start >= part.stop for part in overlap):
            return beneath
        if beneath is None:
            beneath = np.zeros((agent[0].stop - agent[0].start, agent[1].stop - agent[1].start, 3), np.float32)
        here = tuple(slice(o.start - a.start, o.stop - a.start) for o, a in zip(overlap, agent, strict=True))
        there = tuple(slice(o.start - b.start, o.stop - b.start) for o, b in zip(overlap, block, strict=True))
        beneath[here] = painted[there] - GROUND
        return beneath

    def _behind_walls(self, painted: np.ndarray, region: Region) -> np.ndarray:
        rows, columns = region
        low, high = self._inside
        if rows.start >= low and columns.start >= low and rows.stop <= high and columns.stop <= high:
            return painted
        return blend(painted, WALL, self._walls[region])

    def _look_under(self, marker: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
        """The finished ground (H, W, 3), and what it shows behind the walls minus white (None: all white)."""
        if marker is None:
            return self._ground, None
        key = marker[2:5].tobytes()
        if self._marked is None or self._marked[0] != key:
            x, y, angle = marker[2:5].tolist()
            share = 1.0 - self._goal.shares(self._grid.everything(), x, y, angle)[0]
            under = blend(np.broadcast_to(GROUND, (*share.shape, 3)), GOAL, share)
            self._marked = key, self._finish(blend(under, WALL, self._walls)), under - GROUND
        return self._marked[1:]

    def _wall_shares(self) -> np.ndarray:
        """Share (H, W) of each pixel that the walls cover."""
        grid, (low, high) = self._grid, WALLS
        dx, dy = grid.offsets(grid.everything(), (low + high) / 2, (low + high) / 2)

        def square(half: float) -> np.ndarray:
            reach = np.float32(half * grid.scale)
            return covered(reach - abs(dx)) * covered(reach - abs(dy))

        return square((high - low) / 2 + STROKE) - square((high - low) / 2 - STROKE)

    @staticmethod
    def _finish(painted: np.ndarray) -> np.ndarray:
        return (painted + np.float32(0.5)).astype(np.uint8)
