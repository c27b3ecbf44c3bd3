"""Frames of TwoRoom: as published at 224 px, and smooth at any other size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np

from ..drawing.antialiased import Grid
from ..looks.clutter import SOME_MOMENT, Ground
from ..looks.grounds import ground

SIDE = 224.0
RADIUS = 7.0


class Layout(NamedTuple):
    """Where the rooms part, px of 224: the x of the wall's middle, the y of its door's."""

    wall: float
    door: float


LAYOUT = Layout(112.0, 49.0)  # of TwoRoom


SHAPES = ("circle", "square", "diamond")


@dataclass(frozen=True)
class Look:
    """Colours, shapes, clutter; each as it is called in `envs.rooms.two_room.FACTORS`."""

    agent: tuple[int, int, int] = (255, 0, 0)
    wall: tuple[int, int, int] = (0, 0, 0)
    shape: str = "circle"
    size: float = 1.0
    ground: tuple[int, int, int] = (255, 255, 255)
    pattern: str = "plain"
    still: str = "none"
    moving: str = "none"

    @staticmethod
    def of(varied: Mapping[str, Any]) -> Look:
        """The look under these values of factors."""
        names = {
            "agent": "agent.color", "wall": "wall.color", "shape": "agent.shape", "size": "agent.size",
            "ground": "background.color", "pattern": "background.pattern", "still": "clutter.still",
            "moving": "clutter.moving",
        }  # fmt: skip
        return Look(**{own: varied[name] for own, name in names.items() if name in varied})


LOOK = Look()
_MARKER = (0, 255, 0)
_HALF_TURN = np.float32(math.sqrt(0.5))


def inked(layout: Layout) -> list[tuple[float, float, float, float]]:
    """Black rectangles (x from, x to, y from, y to): four border lines, the wall beside its door."""
    wall, door = layout
    borders = [(0, 224, 10, 14), (0, 224, 210, 214), (10, 14, 0, 224), (210, 214, 0, 224)]
    return [*borders, (wall - 5, wall + 6, 0, door - 14), (wall - 5, wall + 6, door + 15, 224)]


Point = tuple[float, float]


class Frames(Protocol):
    """Draws the rooms with the agent's dot at (x, y), over the green dot of a goal when one is given."""

    def draw(
        self, x: float, y: float, marker: Point | None, layout: Layout = LAYOUT, moment: float = SOME_MOMENT
    ) -> np.ndarray:
        """The frame, uint8 (H, W, 3). Clutter that moves is where it is after `moment` control steps."""


class SmoothFrames:
    """Frames of `size` px, smooth in the dot's position and in the layout."""

    def __init__(self, size: int, look: Look = LOOK) -> None:
        self._grid, self._look = Grid(size, size / SIDE), look
        # Of both dots, the channels that are not dark and how bright they are.
        self._colours = [[(i, float(v)) for i, v in enumerate(rgb) if v] for rgb in (look.agent, _MARKER)]
        under = ground(size, look.ground, look.pattern)
        self._under = Ground(self._grid, under, look.still, look.moving, (look.agent, look.wall))
        self._lay_out(LAYOUT)

    def draw(
        self, x: float, y: float, marker: Point | None, layout: Layout = LAYOUT, moment: float = SOME_MOMENT
    ) -> np.ndarray:
        if layout != self._layout:
            self._lay_out(layout)
        frame = self._plain.copy()
        self._under.add_mover(frame, moment, self._free)
        if marker is not None:
            self._dot(frame, *marker, self._colours[1])
        self._dot(frame, x, y, self._colours[0])
        return frame

    def _lay_out(self, layout: Layout) -> None:
        """Draw the rooms with nobody in them; a pixel is inked as much as its square is covered."""
        size = self._grid.size
        edges = np.arange(size + 1) * (SIDE / size)
        ink = np.zeros((size, size))
        for x0, x1, y0, y1 in inked(layout):
            columns, rows = (np.diff(edges.clip(a, b)) * (size / SIDE) for a, b in ((x0, x1), (y0, y1)))
            ink = np.maximum(ink, rows[:, None] * columns)
        self._layout, self._free = layout, 1.0 - ink
        painted = self._under.still * self._free[..., None] + np.array(self._look.wall) * ink[..., None]
        self._plain = (painted.astype(np.float32) + 0.5).astype(np.uint8)

    def _dot(self, frame: np.ndarray, x: float, y: float, colour: list[tuple[int, float]]) -> None:
        """Blend a Gaussian of this colour, round unless the look says otherwise, at (x, y) of 224."""
        radius = RADIUS * self._look.size
        reach = 4.0 * radius
        region = self._grid.region(x + 0.5 - reach, y + 0.5 - reach, x + 0.5 + reach, y + 0.5 + reach)
        if region is None:
            return
        dx, dy = self._grid.offsets(region, x + 0.5, y + 0.5)
        if self._look.shape == "circle":
            width = np.float32(-0.5 / (radius * self._grid.scale) ** 2)
            share = np.exp(dy * dy * width) * np.exp(dx * dx * width)
        else:  # of the fourth power: flat on top, with straight sides
            if self._look.shape == "diamond":
                dx, dy = (dx + dy) * _HALF_TURN, (dx - dy) * _HALF_TURN
            width = np.float32(-0.5 / (1.3 * radius * self._grid.scale) ** 4)
            share = np.exp(dy**4 * width) * np.exp(dx**4 * width)
        part = frame[region]
        painted = part * (1.0 - share)[..., None]
        for channel, brightness in colour:
            painted[..., channel] += brightness * share
        part[...] = painted + np.float32(0.5)


class PublishedFrames:
    """Frames of 224 px, equal to the published ones in every bit.

    They were computed in float32 and cut, not rounded, to bytes, so a last bit of the exponential shows.
    They know one layout.
    """

    def __init__(self) -> None:
        size = int(SIDE)
        self._ground = np.full((size, size, 3), 255, np.uint8)
        for x0, x1, y0, y1 in inked(LAYOUT):
            self._ground[int(y0) : int(y1), int(x0) : int(x1)] = 0
        self._centres = np.arange(size, dtype=np.float32)

    def draw(
        self, x: float, y: float, marker: Point | None, layout: Layout = LAYOUT, moment: float = SOME_MOMENT
    ) -> np.ndarray:
        frame = self._ground.copy()
        if marker is not None:
            self._dot(frame, *marker, 1)
        self._dot(frame, x, y, 0)
        return frame

    def _dot(self, frame: np.ndarray, x: float, y: float, channel: int) -> None:
        reach = 43  # further out, 1 - share is 1 in float32 and nothing changes
        left, right = max(math.floor(x) - reach, 0), min(math.ceil(x) + reach + 1, len(frame))
        top, bottom = max(math.floor(y) - reach, 0), min(math.ceil(y) + reach + 1, len(frame))
        dx = self._centres[left:right] - np.float32(x)
        dy = (self._centres[top:bottom] - np.float32(y))[:, None]
        share = exp32(-(dx * dx + dy * dy) / np.float32(2 * RADIUS * RADIUS))
        share /= share.max()
        rest = np.float32(1) - share
        part = frame[top:bottom, left:right]
        for c in range(3):
            painted = part[..., c] * rest
            part[..., c] = painted + np.float32(255) * share if c == channel else painted


_STEPS = 128  # the exponential is looked up at multiples of log(2) / 128
_POWERS = 2.0 ** (np.arange(_STEPS) / _STEPS)
_POWER_HIGH = _POWERS.astype(np.float32)
_POWER_LOW = (_POWERS - _POWER_HIGH).astype(np.float32)
_STEP_HIGH = np.float32(355 / 2**16)  # log(2) / 128 to nine bits, so that whole multiples of it are exact
_STEP_LOW = np.float32(math.log(2) / _STEPS - float(_STEP_HIGH))


def exp32(z: np.ndarray) -> np.ndarray:
    """exp of float32 `z` <= 0, rounded as by the library that drew the published frames.

    That is the table method, all in float32: z = n log(2) / 128 + r, and exp(r) = 1 + r + r^2 / 2. Its last
    bit differs from the nearest float32 in a few values of a hundred, and the frames show that.
    """
    n = np.rint(z * np.float32(_STEPS / math.log(2)))
    r = (z - n * _STEP_HIGH) - n * _STEP_LOW
    whole = n.astype(np.int32)
    index = whole & (_STEPS - 1)
    high = _POWER_HIGH[index]
    value = high + (high * (r + r * r * np.float32(0.5)) + _POWER_LOW[index])
    return np.ldexp(value, whole >> 7)
