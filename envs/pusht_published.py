"""Frames of PushT at 224 px, equal to the published ones in every pixel.

The board is drawn in whole pixels at 512 px, one small number a pixel for what it shows, and shrunk to 224 px. Only
what moved is drawn again, and four numbers with their place in the pattern of the shrinking give a pixel's colour
from a table.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from envs import raster
from envs.pusht_geometry import BOARD, T_BAR, T_STEM, WALLS, block_points

if TYPE_CHECKING:
    from envs.pusht import Simulation

SIZE = 224
_PAD = 300  # the drawing plane reaches this far beyond the board, so nothing needs clipping
_STRIDE = int(BOARD) + 2 * _PAD
_GROUND, _GOAL, _WALL, _OUTLINE, _FILL, _RIM, _DISC = range(7)
_COLOURS = np.array(
    [(255, 255, 255), (144, 238, 144), (211, 211, 211), (119, 136, 153), (143, 163, 184), (65, 105, 225),
     (78, 126, 255)], np.uint8,
)  # fmt: skip
_CONTACT = (231, 76, 60)
_RIM_PIXELS = raster.disc((3, 6, 8, 9, 10, 11, 12, 13, 13, 14, 14, 14, 15, 15, 15), _STRIDE)
_DISC_PIXELS = raster.disc((3, 5, 6, 8, 8, 9, 10, 10, 11, 11, 11), _STRIDE)
_CORNER_PIXELS = raster.disc((1, 2), _STRIDE)
Box = tuple[slice, slice]


class PublishedFrames:
    """Draws the board at 224 px as published, contacts included."""

    def __init__(self) -> None:
        self._shrink = raster.Shrink(int(BOARD), SIZE)
        self._table, self._pattern = _colour_table()
        self._plane = np.full((_STRIDE, _STRIDE), _GROUND, np.uint8)
        self._pixels = self._plane.reshape(-1)
        low, high = int(WALLS[0]), int(WALLS[1])
        self._paint_boxes(np.array([[[low, low], [high, low], [high, high], [low, high]]]), None, _WALL)
        self._walls = self._plane == _WALL
        self._bare = self._finished_ground()
        self._marked: tuple[bytes, tuple[np.ndarray, np.ndarray]] | None = None

    def draw(self, simulation: Simulation, marker: np.ndarray | None) -> np.ndarray:
        """The frame uint8 (224, 224, 3) of the simulation, over the goal T of the state `marker` (7,) when given."""
        ground, frame = self._ground(marker)
        frame = frame.copy()
        dirty = [box for box in (self._draw_block(simulation), self._draw_agent(simulation)) if box is not None]
        for box in dirty:
            np.copyto(self._plane[box], _WALL, where=self._walls[box])
        for box in dirty:
            down, across = (self._shrink.touched(part.start - _PAD, part.stop - _PAD) for part in box)
            if down.start < down.stop and across.start < across.stop:
                frame[down, across] = self._colours(down, across)
        contacts = simulation.contacts()
        if contacts:
            self._draw_contacts(frame, contacts)
        for box in dirty:
            self._plane[box] = ground[box]
        return frame

    def _draw_block(self, simulation: Simulation) -> Box | None:
        corners = np.array([[(round(x), round(y)) for x, y in part] for part in simulation.block_parts()])
        box = _box(corners.reshape(-1, 2), 5)
        if box is not None:
            self._paint_boxes(corners, _FILL, _OUTLINE)
        return box

    def _draw_agent(self, simulation: Simulation) -> Box | None:
        x, y = simulation.agent.position
        middle = np.array([[round(x), round(y)]])
        box = _box(middle, 16)
        if box is not None:
            place = _flat(middle)
            self._pixels[place + _RIM_PIXELS] = _RIM
            self._pixels[place + _DISC_PIXELS] = _DISC
        return box

    def _paint_boxes(self, corners: np.ndarray, fill: int | None, outline: int) -> None:
        """Boxes with corners (K, 4, 2), one after the other: filled, then edged by a line, a strip and two dots each."""
        starts, ends = corners, np.roll(corners, -1, axis=1)
        way = ends - starts
        length = np.sqrt((way * way).sum(axis=-1, keepdims=True))
        aside = np.rint(np.abs(way[..., ::-1]) * (2.0 / length)).astype(np.int64)
        strips = np.stack([starts - aside, starts + aside, ends + aside, ends - aside], axis=2)
        polygons = np.concatenate([corners[:, None], strips], axis=1)  # (K, 5, 4, 2)
        which, y, first, last = raster.polygon_rows(polygons.reshape(-1, 4, 2))
        from_, lengths = (y + _PAD) * _STRIDE + first + _PAD, last - first + 1
        line, on_lines = raster.thick_lines(starts.reshape(-1, 2) + _PAD, ends.reshape(-1, 2) + _PAD, _STRIDE)
        bounds = np.searchsorted(which, np.arange(0, 5 * len(corners) + 1))
        line_bounds = np.searchsorted(line, np.arange(0, 4 * len(corners) + 1, 4))
        for k in range(len(corners)):
            inner = slice(bounds[5 * k], bounds[5 * k + 1])
            edge = slice(bounds[5 * k + 1], bounds[5 * k + 5])
            if fill is not None:
                self._pixels[raster.spread(from_[inner], lengths[inner])] = fill
            self._pixels[raster.spread(from_[edge], lengths[edge])] = outline
            self._pixels[on_lines[line_bounds[k] : line_bounds[k + 1]]] = outline
            self._pixels[_flat(corners[k])[:, None] + _CORNER_PIXELS] = outline

    def _colours(self, down: slice, across: slice) -> np.ndarray:
        """The part of the frame (h, w, 3) that the plane shows there."""
        rows, columns = self._shrink.first[down] + _PAD, self._shrink.first[across] + _PAD
        part = self._plane[rows[0] : rows[-1] + 2, columns[0] : columns[-1] + 2]
        columns = columns - columns[0]
        pairs = (part.take(columns, axis=1) * 7 + part.take(columns + 1, axis=1)).astype(np.int32)
        rows = rows - rows[0]
        return self._table.take((pairs[rows] * 49 + pairs[rows + 1]) * 49 + self._pattern[down, across], axis=0)

    def _draw_contacts(self, frame: np.ndarray, contacts: list[tuple[tuple[int, int], tuple[int, int]]]) -> None:
        """Contacts are faint lines, blended into what they cross: that part of the frame is computed in colours."""
        ends = np.array(contacts).reshape(-1, 2)
        (left, top), (right, bottom) = ends.min(axis=0).tolist(), ends.max(axis=0).tolist()
        down, across = self._shrink.touched(top, bottom + 1), self._shrink.touched(left, right + 1)
        if down.start >= down.stop or across.start >= across.stop:
            return
        rows, columns = self._shrink.first[down], self._shrink.first[across]
        y, x = int(rows[0]), int(columns[0])
        seen = self._plane[_PAD + y : _PAD + rows[-1] + 2, _PAD + x : _PAD + columns[-1] + 2]
        image = _COLOURS[seen]
        for (x1, y1), (x2, y2) in contacts:
            raster.faint_line(image, _CONTACT, (x1 - x, y1 - y), (x2 - x, y2 - y))
        rows, columns = rows[:, None] - y, columns - x
        mixed = np.array(
            [[image[rows, columns], image[rows, columns + 1]], [image[rows + 1, columns], image[rows + 1, columns + 1]]]
        )
        weights = self._shrink.weights
        frame[down, across] = raster.Shrink.mix(
            mixed, weights[:, None, across, None], weights[:, down, None, None]
        )

    def _ground(self, marker: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The plane with nothing but walls and the goal T on it, and its frame; both are left on the plane."""
        key = b"" if marker is None else marker.tobytes()
        if self._marked is None or self._marked[0] != key:
            self._plane.fill(_GROUND)
            if marker is not None:
                parts = np.array([[_rounded(p) for p in block_points(marker, part)] for part in (T_BAR, T_STEM)])
                if _box(parts.reshape(-1, 2), 5) is not None:
                    _, y, first, last = raster.polygon_rows(parts)
                    starts = (y + _PAD) * _STRIDE + first + _PAD
                    self._pixels[raster.spread(starts, last - first + 1)] = _GOAL
            self._plane[self._walls] = _WALL
            self._marked = key, self._finished_ground()
        return self._marked[1]

    def _finished_ground(self) -> tuple[np.ndarray, np.ndarray]:
        return self._plane.copy(), self._colours(slice(0, SIZE), slice(0, SIZE))


def _rounded(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def _flat(points: np.ndarray) -> np.ndarray:
    """Places of whole points (N, 2) in the flattened plane."""
    return (points[:, 1] + _PAD) * _STRIDE + points[:, 0] + _PAD


def _box(points: np.ndarray, reach: int) -> Box | None:
    """Rows and columns of the plane within `reach` of points (N, 2); None when the plane does not hold them."""
    (left, top), (right, bottom) = points.min(axis=0).tolist(), points.max(axis=0).tolist()
    if min(left, top) - reach < -_PAD or max(right, bottom) + reach >= BOARD + _PAD:
        return None
    return (
        slice(top - reach + _PAD, bottom + reach + 1 + _PAD),
        slice(left - reach + _PAD, right + reach + 1 + _PAD),
    )


@cache
def _colour_table() -> tuple[np.ndarray, np.ndarray]:
    """Colours (7^4 * 49, 3) of four neighbours at each place of the shrinking's pattern, and that pattern (224, 224).

    512 to 224 is 16 to 7, so the weights come again every seven pixels.
    """
    weights = raster.Shrink(int(BOARD), SIZE).weights[:, :7]
    labels = np.indices((7, 7, 7, 7)).reshape(2, 2, -1)
    mixed = raster.Shrink.mix(
        _COLOURS[labels][:, :, :, None, None], weights[:, None, None, :, None], weights[:, None, :, None, None]
    )
    place = np.arange(SIZE) % 7
    return mixed.reshape(-1, 3), (place[:, None] * 7 + place).astype(np.int32)
