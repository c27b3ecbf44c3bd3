"""Frames of PushT at 224 px, equal to the published ones in every pixel.

The board is drawn in whole pixels at 512 px, one small number a pixel for what it shows, and shrunk to 224
px. Only what moved is drawn again, and four numbers with their place in the pattern of the shrinking give a
pixel's colour from a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from ..drawing import raster
from .geometry import BOARD, T_BAR, T_STEM, WALLS, block_points

if TYPE_CHECKING:
    from .world import Simulation

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
_INSIDE = slice(_PAD + int(WALLS[0]) + 4, _PAD + int(WALLS[1]) - 4)  # where the plane has no walls
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
        self._still: _Still | None = None

    def draw(self, simulation: Simulation, marker: np.ndarray | None, moment: float = 0.0) -> np.ndarray:
        """The frame uint8 (224, 224, 3), over the goal T of the state `marker` (7,) when that is given.

        moment: makes no difference here, where nothing moves by itself.
        """
        frame = self._with_block(simulation, marker).copy()
        x, y = simulation.agent.position
        x, y = round(x), round(y)
        agent = _box([(x, y)], 16)
        if agent is not None:
            before = self._plane[agent].copy()
            place = (y + _PAD) * _STRIDE + x + _PAD
            self._pixels[place + _RIM_PIXELS] = _RIM
            self._pixels[place + _DISC_PIXELS] = _DISC
            self._finish(frame, agent)
        contacts = simulation.contacts()
        if contacts:
            self._draw_contacts(frame, contacts)
        if agent is not None:
            self._plane[agent] = before
        return frame

    def _with_block(self, simulation: Simulation, marker: np.ndarray | None) -> np.ndarray:
        """The frame without the agent; the plane is left showing the same."""
        goal = b"" if marker is None else marker[2:5].tobytes()
        corners = [(round(x), round(y)) for part in simulation.block_parts() for x, y in part]
        still = self._still
        if still is None or still.goal != goal:
            still = self._ground(marker, goal)
        elif still.corners == corners:
            return still.frame
        if still.box is not None:
            self._plane[still.box] = still.ground[still.box]
        still.frame, still.corners, still.box = still.ground_frame.copy(), corners, _box(corners, 5)
        if still.box is not None:
            self._paint_boxes(np.array(corners).reshape(2, 4, 2), _FILL, _OUTLINE)
            self._finish(still.frame, still.box)
        self._still = still
        return still.frame

    def _finish(self, frame: np.ndarray, box: Box) -> None:
        """Put the walls over what was drawn in a box of the plane, and bring that box into the frame."""
        if any(part.start < _INSIDE.start or part.stop > _INSIDE.stop for part in box):
            np.copyto(self._plane[box], _WALL, where=self._walls[box])
        down, across = (self._shrink.touched(part.start - _PAD, part.stop - _PAD) for part in box)
        if down.start < down.stop and across.start < across.stop:
            frame[down, across] = self._colours(down, across)

    def _paint_boxes(self, corners: np.ndarray, fill: int | None, outline: int) -> None:
        """Paint boxes with corners (K, 4, 2), one by one; a line, a strip and two dots edge each side."""
        ends = corners[:, [1, 2, 3, 0]]
        way = ends - corners
        aside = np.abs(way[..., ::-1]) * (2.0 / np.sqrt((way * way).sum(axis=-1, keepdims=True)))
        aside = np.rint(aside).astype(np.int64)
        polygons = np.empty((len(corners), 5, 4, 2), np.int64)  # the box itself and four strips
        polygons[:, 0] = corners
        for i, point in enumerate((corners - aside, corners + aside, ends + aside, ends - aside)):
            polygons[:, 1:, i] = point
        inner, strips = self._rows(polygons.reshape(-1, 4, 2), len(corners))
        lines = raster.thick_lines(corners.reshape(-1, 2) + _PAD, ends.reshape(-1, 2) + _PAD, _STRIDE)
        dots = _flat(corners)[..., None] + _CORNER_PIXELS
        for k in range(len(corners)):
            if fill is not None:
                self._pixels[inner[k]] = fill
            self._pixels[strips[k]] = outline
            self._pixels[lines[4 * k : 4 * k + 4]] = outline
            self._pixels[dots[k]] = outline

    def _rows(self, polygons: np.ndarray, boxes: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Flat places of the pixels of each box, and of its four strips, for polygons (5 * boxes, 4, 2)."""
        y, first, length = raster.polygon_rows(polygons)
        pixels = raster.spread(((y + _PAD) * _STRIDE + first + _PAD).ravel(), length.ravel())
        bounds = [0, *np.cumsum(length.sum(axis=1)).tolist()]
        inner = [pixels[bounds[5 * k] : bounds[5 * k + 1]] for k in range(boxes)]
        return inner, [pixels[bounds[5 * k + 1] : bounds[5 * k + 5]] for k in range(boxes)]

    def _colours(self, down: slice, across: slice) -> np.ndarray:
        """The part of the frame (h, w, 3) that the plane shows there."""
        rows, columns = self._shrink.first[down] + _PAD, self._shrink.first[across] + _PAD
        y, x = int(rows[0]), int(columns[0])
        part = self._plane[y : int(rows[-1]) + 2, x : int(columns[-1]) + 2]
        pairs = part[rows - y] * np.uint8(7) + part[rows - (y - 1)]
        left, right = pairs.take(columns - x, axis=1), pairs.take(columns - (x - 1), axis=1)
        return self._table.take((left * np.int32(49) + right) * 49 + self._pattern[down, across], axis=0)

    def _draw_contacts(
        self, frame: np.ndarray, contacts: list[tuple[tuple[int, int], tuple[int, int]]]
    ) -> None:
        """Contacts are faint lines, blended into what they cross; that part is computed in colours."""
        lines = np.array(contacts)
        (left, top), (right, bottom) = lines.min(axis=(0, 1)).tolist(), lines.max(axis=(0, 1)).tolist()
        down, across = self._shrink.touched(top, bottom + 1), self._shrink.touched(left, right + 1)
        if down.start >= down.stop or across.start >= across.stop:
            return
        rows, columns = self._shrink.first[down], self._shrink.first[across]
        y, x = int(rows[0]), int(columns[0])
        seen = self._plane[_PAD + y : _PAD + rows[-1] + 2, _PAD + x : _PAD + columns[-1] + 2]
        image = _COLOURS[seen]
        for ends in lines:
            raster.faint_line(image, _CONTACT, ends, (x, y))
        rows, columns = rows[:, None] - y, columns - x
        mixed = np.array(
            [
                [image[rows, columns], image[rows, columns + 1]],
                [image[rows + 1, columns], image[rows + 1, columns + 1]],
            ]
        )
        weights = self._shrink.weights
        frame[down, across] = raster.Shrink.mix(
            mixed, weights[:, None, across, None], weights[:, down, None, None]
        )

    def _ground(self, marker: np.ndarray | None, goal: bytes) -> _Still:
        """Start again with nothing but walls and the goal T on the plane."""
        self._plane.fill(_GROUND)
        if marker is not None:
            corners = [
                (round(x), round(y)) for x, y in block_points(marker, np.vstack([T_BAR, T_STEM])).tolist()
            ]
            if _box(corners, 5) is not None:
                y, first, length = raster.polygon_rows(np.array(corners).reshape(2, 4, 2))
                starts = (y + _PAD) * _STRIDE + first + _PAD
                self._pixels[raster.spread(starts.ravel(), length.ravel())] = _GOAL
        self._plane[self._walls] = _WALL
        frame = self._colours(slice(0, SIZE), slice(0, SIZE))
        return _Still(goal, self._plane.copy(), frame, frame, [], None)


@dataclass
class _Still:
    """What stands still from frame to frame: the ground, and on it the block as it was drawn last."""

    goal: bytes
    ground: np.ndarray
    ground_frame: np.ndarray
    frame: np.ndarray
    corners: list[tuple[int, int]]
    box: Box | None


def _flat(points: np.ndarray) -> np.ndarray:
    """Places of whole points (..., 2) in the flattened plane."""
    return (points[..., 1] + _PAD) * _STRIDE + points[..., 0] + _PAD


def _box(points: list[tuple[int, int]], reach: int) -> Box | None:
    """Rows and columns of the plane within `reach` of whole points; None when it does not hold them all."""
    columns, rows = zip(*points)
    left, right, top, bottom = min(columns), max(columns), min(rows), max(rows)
    if min(left, top) - reach < -_PAD or max(right, bottom) + reach >= BOARD + _PAD:
        return None
    start, stop = _PAD - reach, _PAD + reach + 1
    return slice(top + start, bottom + stop), slice(left + start, right + stop)


@cache
def _colour_table() -> tuple[np.ndarray, np.ndarray]:
    """Colours (7^4 * 49, 3) of four neighbours at each place of the shrinking's pattern, and that pattern
    (224, 224).

    512 to 224 is 16 to 7, so the weights come again every seven pixels.
    """
    weights = raster.Shrink(int(BOARD), SIZE).weights[:, :7]
    labels = (
        np.indices((7, 7, 7, 7)).reshape(2, 2, -1).swapaxes(0, 1)
    )  # column first in the code, row first in mix
    mixed = raster.Shrink.mix(
        _COLOURS[labels][:, :, :, None, None],
        weights[:, None, None, :, None],
        weights[:, None, :, None, None],
    )
    place = np.arange(SIZE) % 7
    return mixed.reshape(-1, 3), (place[:, None] * 7 + place).astype(np.int32)
