"""Clutter on the ground: things that lie around, and one that moves by itself, all under what matters.

Everything is a function of a value such as "discs 12", of the colours that it must not have, and of the
moment, so it is the same at every size and in every process.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..drawing.antialiased import Grid, Region, blend, covered
from ..factors import MOVING, STILL, kind_and_number

Rgb = tuple[int, int, int]
SOME_MOMENT = 25.0  # at which a picture of a state alone shows what moves by itself
APART = 60.0  # RGB distance at least, of 441, between clutter and what matters


class Thing(NamedTuple):
    """A flat shape; x, y and radius are shares of the side, `long` says how often it is longer than wide."""

    shape: str
    x: float
    y: float
    radius: float
    angle: float
    long: float
    colour: np.ndarray


def lying(value: str, others: Sequence[Rgb]) -> list[Thing]:
    """What "discs 12" means: up to seven small things, none in a colour of `others`."""
    kind, number = kind_and_number(value)
    rng = np.random.default_rng([100 + STILL.index(kind), number or 0])
    if kind == "none":
        return []
    if kind == "writing":
        return _writing(rng, others)
    shape, radius, long = {
        "discs": ("disc", (0.02, 0.05), (1.0, 1.0)),
        "boxes": ("box", (0.02, 0.045), (1.0, 2.0)),
        "lines": ("box", (0.006, 0.012), (15.0, 50.0)),
    }[kind]
    found = []
    for _ in range(int(rng.integers(3, 8))):
        x, y = rng.uniform(0.05, 0.95, 2).tolist()
        size, angle, times = rng.uniform(*radius), rng.uniform(0.0, math.pi), rng.uniform(*long)
        found.append(Thing(shape, x, y, size, angle, times, _colour(rng, others)))
    return found


def _writing(rng: np.random.Generator, others: Sequence[Rgb]) -> list[Thing]:
    """Two or three lines of short strokes, as of a text that is too small to be read."""
    angle, colour, found = rng.uniform(-0.4, 0.4), _colour(rng, others), []
    cos, sin = math.cos(angle), math.sin(angle)
    x0, y0 = rng.uniform(0.1, 0.55), rng.uniform(0.15, 0.7)
    for line in range(int(rng.integers(2, 4))):
        along = 0.0
        while along < 0.35:
            length = rng.uniform(0.015, 0.06)
            middle, down = along + length / 2, 0.06 * line
            x, y = x0 + cos * middle - sin * down, y0 + sin * middle + cos * down
            found.append(Thing("box", x, y, 0.012, angle, length / 0.024, colour))
            along += length + 0.02
    return found


class Mover:
    """What "disc 12" means: a thing on a smooth closed path, there at every moment (control steps)."""

    def __init__(self, value: str, others: Sequence[Rgb]) -> None:
        kind, number = kind_and_number(value)
        rng = np.random.default_rng([200 + MOVING.index(kind), number or 0])
        self._thing = Thing(kind, 0.5, 0.5, rng.uniform(0.03, 0.055), 0.0, 1.0, _colour(rng, others))
        self._turns = rng.uniform(0.02, 0.06, 2) * rng.choice([-1.0, 1.0], 2)  # a step
        self._phases, self._reach = rng.uniform(0.0, 1.0, 2), rng.uniform(0.2, 0.42, 2)

    def at(self, moment: float) -> Thing:
        x, y = 0.5 + self._reach * np.sin(2.0 * math.pi * (self._phases + self._turns * moment))
        return self._thing._replace(x=float(x), y=float(y), angle=0.1 * moment)


def paint(picture: np.ndarray, grid: Grid, thing: Thing, share: np.ndarray | None = None) -> None:
    """Paint `thing` into `picture` (H, W, 3), floats or bytes, in place.

    share: (H, W) of each pixel that may be painted; None for all.
    """
    place = _place(grid, thing)
    if place is None:
        return
    region, inside = place
    painted = covered(inside) if share is None else covered(inside) * share[region]
    mixed = blend(picture[region], thing.colour, painted)
    picture[region] = mixed + 0.5 if picture.dtype == np.uint8 else mixed


def _place(grid: Grid, thing: Thing) -> tuple[Region, np.ndarray] | None:
    """The pixels that the thing can touch, and how far inside its edge each is, px."""
    side = grid.size / grid.scale
    x, y, radius = thing.x * side, thing.y * side, thing.radius * side
    reach = radius * math.hypot(1.0, thing.long)
    region = grid.region(x - reach, y - reach, x + reach, y + reach)
    if region is None:
        return None
    dx, dy = grid.offsets(region, x, y)
    size, cos, sin = np.float32(radius * grid.scale), math.cos(thing.angle), math.sin(thing.angle)
    if thing.shape == "disc":
        return region, size - np.sqrt(dx * dx + dy * dy)
    across, down = np.float32(cos) * dx + np.float32(sin) * dy, np.float32(cos) * dy - np.float32(sin) * dx
    if thing.shape == "box":
        return region, np.minimum(size * np.float32(thing.long) - abs(across), size - abs(down))
    away, points = np.sqrt(dx * dx + dy * dy), np.cos(5.0 * np.arctan2(down, across)).astype(np.float32)
    return region, size * (np.float32(0.7) + np.float32(0.3) * points) - away


def _colour(rng: np.random.Generator, others: Sequence[Rgb]) -> np.ndarray:
    """Any colour (3,) that is at least APART from all others."""
    while True:
        hsv = rng.uniform(0.0, 1.0), rng.uniform(0.2, 1.0), rng.uniform(0.15, 1.0)
        colour = np.array([round(255 * part) for part in colorsys.hsv_to_rgb(*hsv)], np.float32)
        if all(math.dist(colour.tolist(), other) >= APART for other in others):
            return colour


class Ground:
    """The ground of a look at any moment, with its clutter.

    others: colours that no clutter has.   still: float (H, W, 3), without what moves.
    """

    def __init__(
        self, grid: Grid, picture: np.ndarray, still: str, moving: str, others: Sequence[Rgb]
    ) -> None:
        self._grid, self.still = grid, picture.copy()
        for thing in lying(still, others):
            paint(self.still, grid, thing)
        self.mover = None if kind_and_number(moving)[0] == "none" else Mover(moving, others)

    def add_mover(self, picture: np.ndarray, moment: float, share: np.ndarray | None = None) -> None:
        """Paint what moves into `picture` (H, W, 3), where it is at this moment; see `paint`."""
        if self.mover is not None:
            paint(picture, self._grid, self.mover.at(moment), share)
