"""Drawing on a grid of whole pixels, as pygame 2 does it, and shrinking as OpenCV does it.

The published frames of PushT were made by these rules, so frames that shall equal them follow the rules to
the last pixel: polygons row by row, thick lines by Bresenham's steps, faint lines as two weighted pixels a
column.
"""

from __future__ import annotations

import numpy as np

_SHARP = 2048  # weights of the shrinking are whole multiples of 1 / 2048


def polygon_rows(corners: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The rows of filled convex polygons with corners (P, K, 2), whole numbers below a few thousand.

    Returns y, first x and length of every row, each (P, R); rows that a polygon does not have are 0 long.
    """
    ends = corners.astype(np.float32).transpose(2, 1, 0)[..., None]  # (x or y, K, P, 1)
    (x, y), (before_x, before_y) = ends, ends[:, np.arange(-1, len(ends[0]) - 1)]
    down = before_y < y
    x1, y1 = np.where(down, before_x, x), np.where(down, before_y, y)
    dx, dy = np.where(down, x - before_x, before_x - x), np.abs(y - before_y)
    top, bottom = y.min(axis=0), y.max(axis=0)
    row = top + np.arange(int((bottom - top).max()) + 1, dtype=np.float32)
    # An edge counts from its upper end to the row above its lower end, or to the polygon's last row.
    beyond = np.where(dy > 0, dy + (y1 + dy == bottom), np.float32(0))
    below = row - y1
    crossed = (below >= 0) & (below < beyond)
    meets = np.trunc(below * dx / np.maximum(dy, 1) + x1)
    first = np.where(crossed, meets, np.float32(1e6)).min(axis=0)
    last = np.where(crossed, meets, np.float32(-1e6)).max(axis=0)
    length = np.maximum(last - first + 1, 0)
    return row.astype(np.int64), first.astype(np.int64), length.astype(np.int64)


def thick_lines(starts: np.ndarray, ends: np.ndarray, stride: int) -> np.ndarray:
    """Lines 4 px thick between whole points (L, 2): flat index y * stride + x of their pixels, (L, N, 4).

    A line is thick along the axis in which it is short: one pixel before its own, two behind. Shorter lines
    repeat their last pixels.
    """
    way = ends - starts
    size = np.abs(way)
    steep = size[:, 0] <= size[:, 1]
    count, minor = size.max(axis=1)[:, None], size.min(axis=1)[:, None]
    step = np.minimum(np.arange(int(count.max()) + 1), count)
    # Steps along the short axis that Bresenham's error term has taken by each step along the long one.
    taken = -((count // 2 - step * minor) // np.maximum(count, 1))
    move = np.where(way > 0, 1, -1) * (1, stride)  # one step in x and in y
    along, across = np.where(steep[:, None], move[:, ::-1], move).T[..., None]
    middle = starts @ (1, stride)
    pixels = middle[:, None] + along * step + across * taken
    return pixels[..., None] + np.where(steep, 1, stride)[:, None, None] * np.arange(-1, 3)


def spread(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The whole numbers from each start on, `lengths` of them, one run after the other."""
    ends = np.cumsum(lengths)
    return np.repeat(starts - ends + lengths, lengths) + np.arange(ends[-1])


def disc(halves: tuple[int, ...], stride: int) -> np.ndarray:
    """Flat offsets of a disc's pixels; `halves` are its half widths from the top row down to the middle."""
    rows = [*halves, *reversed(halves)]
    runs = [np.arange(-half, half) + (y - len(halves)) * stride for y, half in enumerate(rows)]
    return np.concatenate(runs)


def faint_line(
    image: np.ndarray, colour: tuple[int, int, int], ends: np.ndarray, corner: tuple[int, int]
) -> None:
    """Draw an antialiased line 1 px thick into `image` (h, w, 3) uint8, in place.

    `ends` (2, 2) are whole points (x, y), and `corner` is the point that the image's first pixel shows.
    Heights add up in float32 and in the coordinates of `ends`, because their rounding shows.
    """
    (x1, y1), (x2, y2) = ends.tolist()
    left, top = corner
    if abs(x2 - x1) < abs(y2 - y1):
        image, left, top = image.transpose(1, 0, 2), top, left
        x1, y1, x2, y2 = y1, x1, y2, x2
    if x2 < x1:
        x1, y1, x2, y2 = x2, y2, x1, y1
    slope = np.float32(y2 - y1) / np.float32(max(x2 - x1, 1))
    # One more than where the line is, so that cutting rounds down.
    height = np.cumsum(np.array([y1 + 1] + [slope] * (x2 - x1), np.float32))
    height[-1] = y2 + 1
    lower = height.astype(np.int64)
    share = np.float32(1) - height + lower.astype(np.float32)
    x = np.arange(x1, x2 + 1) - left
    for y, part in ((lower - 1 - top, share), (lower - top, np.float32(1) - share)):
        seen = (y >= 0) & (y < image.shape[0]) & (x >= 0) & (x < image.shape[1]) & (part > 0)
        at, part = (y[seen], x[seen]), part[seen, None]
        image[at] = part * np.array(colour, np.float32) + (np.float32(1) - part) * image[at]


class Shrink:
    """Bilinear shrinking of a square image in whole numbers: from `source` to `target` pixels a side."""

    def __init__(self, source: int, target: int) -> None:
        place = (np.arange(target) + 0.5) * (source / target) - 0.5
        self.first = np.floor(place).astype(np.int64)  # of the two source pixels that each target pixel mixes
        second = np.rint((place - self.first).astype(np.float32) * _SHARP).astype(np.int64)
        self.weights = np.stack([_SHARP - second, second])  # (2, target)
        self._source = source
        self._start = np.searchsorted(self.first, np.arange(-1, source)).tolist()
        self._stop = np.searchsorted(self.first, np.arange(source + 1)).tolist()

    def touched(self, low: int, high: int) -> slice:
        """Target pixels that depend on source pixels `low` to `high` - 1, along one axis."""
        low, high = min(max(low, 0), self._source), min(max(high, 0), self._source)
        return slice(self._start[low], self._stop[high])

    @staticmethod
    def mix(corners: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
        """Mix four source pixels `corners` (2, 2, ...), row first, by weights (2, ...) each; uint8 (...)."""
        corners = corners.astype(np.int64)
        rows = (corners[:, 0] * across[0] + corners[:, 1] * across[1]) >> 4
        return ((((rows[0] * down[0]) >> 16) + ((rows[1] * down[1]) >> 16) + 2) >> 2).astype(np.uint8)
