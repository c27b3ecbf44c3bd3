"""Frames of PushT in other colours, shapes and sizes: simpler and slower than envs.pusht.frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..drawing.antialiased import Boxes, Grid, Region, blend, covered
from ..looks.clutter import SOME_MOMENT, Ground
from ..looks.grounds import ground
from .frames import AGENT, BLOCK, GOAL, RIM, STROKE, WALL, wall_shares
from .geometry import AGENT_RADIUS, BOARD
from .shapes import BLOCKS, TOOLS, Bodies, tool_inside

if TYPE_CHECKING:
    from .world import Simulation

Rgb = tuple[int, int, int]
_RIM_SHADE = 5 / 6  # of a fill, where it is not the usual one


def _rgb(colour: np.ndarray) -> Rgb:
    red, green, blue = colour.astype(int).tolist()
    return red, green, blue


@dataclass(frozen=True)
class Look:
    """Colours of fills and ground, and clutter; each as it is called in `envs.pusht.world.FACTORS`."""

    agent: Rgb = _rgb(AGENT[0])
    block: Rgb = _rgb(BLOCK[0])
    ground: Rgb = (255, 255, 255)
    pattern: str = "plain"
    still: str = "none"
    moving: str = "none"

    @staticmethod
    def of(varied: Mapping[str, Any]) -> Look:
        """The look under these values of factors."""
        names = {
            "agent": "agent.color", "block": "block.color", "ground": "background.color",
            "pattern": "background.pattern", "still": "clutter.still", "moving": "clutter.moving",
        }  # fmt: skip
        return Look(**{own: varied[name] for own, name in names.items() if name in varied})


class VariedFrames:
    """Draws the board at `size` px, smooth in every position and angle."""

    def __init__(self, size: int, look: Look, bodies: Bodies) -> None:
        self._grid = grid = Grid(size, size / BOARD)
        self._bodies = bodies
        self._radius = AGENT_RADIUS * bodies.agent_size
        centres, halves = BLOCKS[bodies.block]
        centres, halves = centres * bodies.block_size, halves * bodies.block_size
        self._block = Boxes(centres, halves, STROKE, grid)
        self._goal = Boxes(centres, halves, 0.0, grid)
        self._block_colours = _shades(look.block, BLOCK)
        self._agent_colours = _shades(look.agent, AGENT)
        under = ground(size, look.ground, look.pattern).astype(np.float32)
        self._ground = Ground(grid, under, look.still, look.moving, (look.agent, look.block))
        walls = wall_shares(grid).ravel()
        self._at_walls = np.flatnonzero(walls)
        self._walls = walls[self._at_walls]

    def draw(
        self, simulation: Simulation, marker: np.ndarray | None, moment: float = SOME_MOMENT
    ) -> np.ndarray:
        """The frame uint8 (H, W, 3), over the goal of the state `marker` (7,) when that is given.

        moment: control steps since the episode began; clutter that moves is where it is then.
        """
        painted = self._ground.still.copy()
        self._ground.add_mover(painted, moment)
        if marker is not None:
            x, y, angle = marker[2:5].tolist()
            region = self._goal.region(x, y, angle)
            if region is not None:
                share = 1.0 - self._goal.shares(region, x, y, angle)[0]
                painted[region] = blend(painted[region], GOAL, share)
        (x, y), angle = simulation.block.position, simulation.block.angle
        region = self._block.region(x, y, angle)
        if region is not None:
            free, fill = self._block.shares(region, x, y, angle)
            painted[region] = self._two(painted[region], self._block_colours, 1.0 - free, fill)
        x, y = simulation.agent.position
        reach = self._radius * TOOLS[self._bodies.agent]
        region = self._grid.region(x - reach, y - reach, x + reach, y + reach)
        if region is not None:
            whole, fill = self._agent_shares(region, x, y)
            painted[region] = self._two(painted[region], self._agent_colours, whole, fill)
        flat = painted.reshape(-1, 3)
        flat[self._at_walls] = blend(flat[self._at_walls], WALL, self._walls)
        painted += np.float32(0.5)
        return painted.astype(np.uint8)

    def _agent_shares(self, region: Region, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
        scale = self._grid.scale
        dx, dy = self._grid.offsets(region, x, y)
        inside = tool_inside(self._bodies.agent, dx, dy, self._radius * scale)
        return covered(inside), covered(inside - np.float32(RIM * scale))

    @staticmethod
    def _two(
        under: np.ndarray, colours: tuple[np.ndarray, np.ndarray], whole: np.ndarray, fill: np.ndarray
    ) -> np.ndarray:
        """`under` with a share `whole` painted over, of which `fill` in the fill's colour."""
        fill_colour, rim_colour = colours
        painted = under * (1.0 - whole)[..., None] + rim_colour * (whole - fill)[..., None]
        result: np.ndarray = painted + fill_colour * fill[..., None]
        return result


def _shades(fill: Rgb, usual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours (3,) of fill and rim."""
    if fill == _rgb(usual[0]):
        return usual[0], usual[1]
    colour = np.array(fill, np.float32)
    return colour, (colour * _RIM_SHADE).round()
