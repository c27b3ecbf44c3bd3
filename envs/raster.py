"""Drawing on a grid of whole pixels, as pygame 2 does it, and shrinking as OpenCV does it.

The published frames of PushT were made by these rules, so frames that shall equal them follow the rules to the last
pixel: polygons row by row, thick lines by Bresenham's steps, faint lines as two weighted pixels a column.
"""

from __future__ import annotations

import numpy as np

_SHARP = 2048  # weights of the shrinking are whole multiples of 1 / 2048


def polygon_rows(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The rows of filled convex polygons with corners (P, K, 2), whole numbers.

    Returns polygon, y, first x and last x of every row, each (R,), ordered by polygon.
    """
    x, y = corners[..., 0].astype(np.float64), corners[..., 1]
    before_x, before_y = np.roll(x, 1, axis=1), np.roll(y, 1, axis=1)
    down = before_y < y
    x1, y1 = np.where(down, before_x, x)[..., None], np.where(down, before_y, y)[..., None]
    x2, y2 = np.where(down, x, before_x)[..., None], np.where(down, y, before_y)[..., None]
    top, bottom = y.min(axis=1), y.max(axis=1)
    rows = top[:, None] + np.arange(int((bottom - top).max()) + 1)
    row, last = rows[:, None], bottom[:, None, None]
    crossed = (row >= y1) & ((row < y2) | ((row == last) & (y2 == last))) & (y1 != y2)
    meets = np.trunc((row - y1) * (x2 - x1) / np.maximum(y2 - y1, 1) + x1)
    first = np.where(crossed, meets, np.inf).min(axis=1)
    final = np.where(crossed, meets, -np.inf).max(axis=1)
    which, place = np.nonzero(first <= final)
    return which, rows[which, place], first[which, place].astype(np.int64), final[which, place].astype(np.int64)


def thick_lines(starts: np.ndarray, ends: np.ndarray, stride: int) -> tuple[np.ndarray, np.ndarray]:
    """Lines 4 px thick between whole points (L, 2).

    Returns line and flat index y * stride + x of every pixel, each (N,). A line is thick along the axis in which it
    is short: one pixel before its own, two behind.
    """
    way = ends - starts
    dx, dy = np.abs(way).T
    steep = dx <= dy
    count, minor = np.maximum(dx, dy), np.minimum(dx, dy)
    step = np.arange(int(count.max()) + 1)
    # Steps along the short axis that Bresenham's error term has taken by each step along the long one.
    taken = -((count[:, None] // 2 - step * minor[:, None]) // np.maximum(count, 1)[:, None])
    sign_x, sign_y = np.where(way > 0, 1, -1).T
    along = np.where(steep, sign_y * stride, sign_x)[:, None] * step
    across = np.where(steep, sign_x, sign_y * stride)[:, None] * taken
    middle = (starts[:, 1] * stride + starts[:, 0])[:, None] + along + across
    offsets = np.where(steep, 1, stride)[:, None] * np.arange(-1, 3)
    which, place = np.nonzero(step <= count[:, None])
    pixels = middle[which, place][:, None] + offsets[which]
    return np.repeat(which, 4), pixels.ravel()


def spread(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The whole numbers from each start on, `lengths` of them, one run after the other."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1])


def disc(halves: tuple[int, ...], stride: int) -> np.ndarray:
    """Flat offsets of a disc's pixels; `halves` are its half widths from the top row to the one above its middle."""
    rows = [*halves, *reversed(halves)]
    runs = [np.arange(-half, half) + (y - len(halves)) * stride for y, half in enumerate(rows)]
    return np.concatenate(runs)


def faint_line(image: np.ndarray, colour: tuple[int, int, int], start: tuple[int, int], end: tuple[int, int]) -> None:
    """Draw an antialiased line 1 px thick between whole points (x, y) into `image` (h, w, 3) uint8, in place."""
    (x1, y1), (x2, y2) = start, end
    steep = abs(x2 - x1) < abs(y2 - y1)
    if steep:
        image = image.transpose(1, 0, 2)
        x1, y1, x2, y2 = y1, x1, y2, x2
    if x2 < x1:
        x1, y1, x2, y2 = x2, y2, x1, y1
    paint = np.array(colour, np.float32)

    def dab(x: int, y: int, share: np.float32) -> None:
        if 0 <= y < image.shape[0] and 0 <= x < image.shape[1]:
            image[y, x] = share * paint + (np.float32(1) - share) * image[y, x]

    dab(x1, y1, np.float32(1))
    if x1 == x2:
        return
    dab(x2, y2, np.float32(1))
    slope = np.float32(y2 - y1) / np.float32(x2 - x1)
    height = np.float32(y1 + 1)  # one more than where it is, so that cutting rounds down
    for x in range(x1 + 1, x2):
        height = height + slope
        y = int(height)
        share = np.float32(1) - height + np.float32(y)
        dab(x, y - 1, share)
        if y < height:
            dab(x, y, np.float32(1) - share)


class Shrink:
    """Bilinear shrinking of a square image in whole numbers: from `source` to `target` pixels a side."""

    def __init__(self, source: int, target: int) -> None:
        place = (np.arange(target) + 0.5) * (source / target) - 0.5
        self.first = np.floor(place).astype(np.int64)  # of the two source pixels that each target pixel mixes
        second = np.rint((place - self.first).astype(np.float32) * _SHARP).astype(np.int64)
        self.weights = np.stack([_SHARP - second, second])  # (2, target)

    def touched(self, low: int, high: int) -> slice:
        """Target pixels that depend on source pixels `low` to `high` - 1, along one axis."""
        start, stop = np.searchsorted(self.first, (low - 1, high))
        return slice(int(start), int(stop))

    @staticmethod
    def mix(corners: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
        """Mix four source pixels `corners` (2, 2, ...), row first, by weights (2, ...) each; uint8 (...)."""
        corners = corners.astype(np.int64)
        rows = (corners[:, 0] * across[0] + corners[:, 1] * across[1]) >> 4
        return ((((rows[0] * down[0]) >> 16) + ((rows[1] * down[1]) >> 16) + 2) >> 2).astype(np.uint8)
