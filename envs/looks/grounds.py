"""Pictures of the ground: functions of a colour, a kind and a number, the same at every size."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from ..factors import GROUNDS, kind_and_number

Rgb = tuple[int, int, int]
_Plane = np.ndarray  # (size, size), 0 to 1


@lru_cache(maxsize=8)
def ground(size: int, colour: Rgb, pattern: str) -> np.ndarray:
    """The ground, float64 (size, size, 3), read only: `colour`, with a pattern such as "noise 12" in it.

    Stripes and checks without a number are eight bands, every other one a little darker.
    """
    kind, number = kind_and_number(pattern)
    if kind == "plain" or " " not in pattern and kind in ("stripes", "checks"):
        picture = _bands(size, colour, kind)
    else:
        rng = np.random.default_rng([GROUNDS.index(kind), number or 0])
        y, x = np.meshgrid(*2 * [(np.arange(size) + 0.5) / size], indexing="ij")
        picture = _DRAWN[kind](x, y, np.array(colour, float), rng).clip(0.0, 255.0)
    picture.flags.writeable = False
    return picture


def _bands(size: int, colour: Rgb, kind: str) -> np.ndarray:
    plain = np.full((size, size, 3), colour, np.float64)
    band = (np.arange(size) + 0.5) * 8 // size % 2
    dark = {"plain": 0.0 * band, "stripes": band, "checks": abs(band[:, None] - band)}[kind]
    return plain * (1.0 - 0.15 * np.broadcast_to(dark, (size, size))[..., None])


def _mixed(share: _Plane, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return first + (second - first) * share[..., None]


def _related(colour: np.ndarray, rng: np.random.Generator, most: float = 70.0) -> np.ndarray:
    """Another colour, not far from this one."""
    return (colour + rng.uniform(-most, most, 3)).clip(0.0, 255.0)


def _smooth(x: _Plane, y: _Plane, cells: float, rng: np.random.Generator, stretch: float = 1.0) -> _Plane:
    """Random values on a grid of `cells` cells, smooth between them; `stretch` times longer along x."""
    across, down = x * cells / stretch, y * cells
    grid = rng.random((int(cells) + 3, int(cells / stretch) + 3))
    i, j = np.floor(down).astype(int), np.floor(across).astype(int)
    i, j = i.clip(0, grid.shape[0] - 2), j.clip(0, grid.shape[1] - 2)
    v, u = down - i, across - j
    v, u = v * v * (3.0 - 2.0 * v), u * u * (3.0 - 2.0 * u)
    above = grid[i, j] * (1 - u) + grid[i, j + 1] * u
    below = grid[i + 1, j] * (1 - u) + grid[i + 1, j + 1] * u
    result: np.ndarray = above * (1 - v) + below * v
    return result


def _octaves(x: _Plane, y: _Plane, cells: float, rng: np.random.Generator, count: int) -> _Plane:
    """Smooth noise at `count` scales, each twice as fine and half as strong as the one before."""
    parts = [_smooth(x, y, cells * 2**k, rng) * 0.5**k for k in range(count)]
    result: np.ndarray = np.sum(parts, axis=0) / sum(0.5**k for k in range(count))
    return result


def _turned(x: _Plane, y: _Plane, angle: float) -> tuple[_Plane, _Plane]:
    dx, dy, cos, sin = x - 0.5, y - 0.5, math.cos(angle), math.sin(angle)
    return cos * dx + sin * dy, cos * dy - sin * dx


def _wave(phase: _Plane, sharp: float = 4.0) -> _Plane:
    """0 and 1 in turn, once in each whole number of `phase`, with soft edges."""
    return (0.5 + sharp * np.sin(2.0 * math.pi * phase)).clip(0.0, 1.0)


def _stripes(x: _Plane, y: _Plane, colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    along, _ = _turned(x, y, rng.uniform(0.0, math.pi))
    return _mixed(_wave(along * rng.uniform(3.0, 9.0)), colour, _related(colour, rng))


def _checks(x: _Plane, y: _Plane, colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sides, count = _turned(x, y, rng.uniform(0.0, math.pi / 2)), rng.uniform(2.0, 6.0)
    one, other = (_wave(side * count) for side in sides)
    return _mixed(one + other - 2.0 * one * other, colour, _related(colour, rng))


def _gradient(x: _Plane, y: _Plane, colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    along, _ = _turned(x, y, rng.uniform(0.0, 2.0 * math.pi))
    share = along / math.sqrt(2.0) + 0.5
    if rng.random() < 0.4:  # around a spot
        away = np.hypot(x - rng.uniform(0.2, 0.8), y - rng.uniform(0.2, 0.8))
        share = away.clip(0.0, 1.0)
    return _mixed(share, colour, _related(colour, rng, 110.0))


def _noise(x: _Plane, y: _Plane, colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    share = _octaves(x, y, rng.uniform(2.0, 7.0), rng, 3)
    return _mixed((0.5 + 1.8 * (share - 0.5)).clip(0.0, 1.0), colour, _related(colour, rng, 90.0))


def _wood(x: _Plane, y: _Plane, colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Boards: long grain, each board with a shade of its own, dark joints."""
    if rng.random() < 0.5:
        x, y = y, x
    boards = int(rng.integers(3, 6))
    board = np.floor(y * boards).astype(int).clip(0, boards - 1)
    shade = rng.uniform(0.88, 1.06, boards)[board]
    offset = rng.uniform(0.0, 30.0, boards)[board]
    bent = y + 0.05 * _smooth(x, y, 6.0, rng, stretch=2.0)
    grain = 0.5 + 0.5 * np.sin(2.0 * math.pi * (bent * rng.uniform(16.0, 24.0) + offset))
    fine = _smooth(x, y, 48.0, rng, stretch=16.0)
    joint = np.minimum(y * boards % 1.0, 1.0 - y * boards % 1.0) < 0.03
    light = shade * (0.86 + 0.1 * grain + 0.1 * fine) * np.where(joint, 0.75, 1.0)
    return colour * light[..., None]


def _photo(x: _Plane, y: _Plane, colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Like a photograph out of focus: regions of a few colours, blobs, shadows, fine detail."""
    picture = _mixed(_octaves(x, y, 2.0, rng, 4), colour, _related(colour, rng, 120.0))
    for _ in range(int(rng.integers(4, 9))):
        cx, cy, reach = rng.uniform(0.0, 1.0, 2).tolist() + [rng.uniform(0.05, 0.25)]
        edge = reach * rng.uniform(0.15, 0.6)
        away = np.hypot((x - cx) * rng.uniform(0.6, 1.6), y - cy)
        share = ((reach - away) / edge + 0.5).clip(0.0, 1.0) * rng.uniform(0.4, 0.9)
        picture = _mixed(share, picture, _related(colour, rng, 90.0))
    slope, _ = _turned(x, y, rng.uniform(0.0, 2.0 * math.pi))
    light = 1.0 + rng.uniform(0.1, 0.35) * slope + 0.12 * (_octaves(x, y, 9.0, rng, 3) - 0.5)
    return picture * light[..., None]


_DRAWN = {
    "stripes": _stripes, "checks": _checks, "gradient": _gradient, "noise": _noise, "wood": _wood,
    "photo": _photo,
}  # fmt: skip
