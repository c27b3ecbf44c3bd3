"""Light and camera: what is done to a finished frame, the same for every world.

Everything is computed in whole numbers, or in floats that hold them exactly, so that a frame is the same on
every machine and with any number of threads; JPEG alone depends on the library.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from ..factors import pictured

_USUAL = {name: factor.default for name, factor in pictured().items() if factor.group != "clutter"}
_LIGHT = ("light.brightness", "light.contrast", "light.gamma", "light.cast")
_ONE = 256  # of weights
_FINE = 16  # parts of a pixel, where a frame is turned


class Finish:
    """What light and camera do to frames of `size` px under these values of factors."""

    def __init__(self, size: int, varied: Mapping[str, Any]) -> None:
        self._size, self._values = size, {**_USUAL, **{k: v for k, v in varied.items() if k in _USUAL}}
        self._table = light_table(varied)
        self._field = _vignette(size, self._values["light.vignette"])
        self._matrices: tuple[np.ndarray, np.ndarray] | None = None  # for columns, and for rows
        self._corners: tuple[list[np.ndarray], list[np.ndarray]] | None = None
        seen, blur = self._geometry(), self._values["camera.blur"] / 100.0 * size
        straight = not any(
            self._values[f"camera.{name}"] for name in ("rotation", "perspective_x", "perspective_y")
        )
        if not straight:
            self._corners = _corners(size, seen)
            seen = np.eye(3)
        if blur or not np.array_equal(seen, np.eye(3)):
            self._matrices = (
                _along(size, seen[0, 0], seen[0, 2], blur),
                _along(size, seen[1, 1], seen[1, 2], blur),
            )

    @staticmethod
    def of(size: int, varied: Mapping[str, Any]) -> Finish | None:
        """None where neither light nor camera are other than usual."""
        changed = any(name in _USUAL and value != _USUAL[name] for name, value in varied.items())
        return Finish(size, varied) if changed else None

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """`frame` uint8 (size, size, 3) -> a new one."""
        if self._table is not None:
            frame = _through(self._table, frame)
        if self._field is not None:
            frame = ((frame * self._field + np.uint16(128)) >> 8).astype(np.uint8)
        if self._corners is not None:
            frame = _turned(frame, *self._corners)
        if self._matrices is not None:
            frame = _moved(frame, *self._matrices)
        quality = round(self._values["camera.jpeg"])
        return frame if quality >= 100 else _jpeg(frame, quality)

    def _geometry(self) -> np.ndarray:
        """(3, 3): where, in shares of the side from the middle, a pixel of the picture is taken from."""
        value = {name: self._values[f"camera.{name}"] for name in ("shift_x", "shift_y", "zoom", "rotation")}
        move = np.array([[1, 0, -value["shift_x"] / 100], [0, 1, -value["shift_y"] / 100], [0, 0, 1.0]])
        turn = math.radians(value["rotation"])
        cos, sin = math.cos(turn), math.sin(turn)
        spin = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1.0]])
        tilt = np.eye(3)
        # the far side is shorter by this share
        tilt[2, :2] = [self._values[f"camera.perspective_{axis}"] / 100 for axis in "xy"]
        zoom = np.diag([1 / value["zoom"], 1 / value["zoom"], 1.0])
        return zoom @ spin @ tilt @ move


def _moved(frame: np.ndarray, across: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Shifted, zoomed and blurred: columns and rows each through a matrix of whole 1/256."""
    size = len(frame)
    rows = down @ frame.reshape(size, 3 * size).astype(np.float32)
    both = across @ rows.reshape(size, size, 3)
    moved: np.ndarray = (both + np.float32(_ONE * _ONE / 2)) * np.float32(1 / (_ONE * _ONE))
    return moved.astype(np.uint8)


def _turned(frame: np.ndarray, indices: list[np.ndarray], weights: list[np.ndarray]) -> np.ndarray:
    flat = frame.reshape(-1, 3)
    total = np.full((len(flat), 3), _ONE // 2, np.uint16)
    for index, weight in zip(indices, weights):
        total += flat.take(index, axis=0) * weight
    return (total >> 8).astype(np.uint8).reshape(frame.shape)


def light_table(varied: Mapping[str, Any]) -> np.ndarray | None:
    """What the light makes of each brightness of red, green and blue, uint8 (3, 256); None: nothing else."""
    values = {name: varied.get(name, _USUAL[name]) for name in _LIGHT}
    if all(values[name] == _USUAL[name] for name in _LIGHT):
        return None
    grey = np.arange(256.0) / 255.0
    lit = grey ** values["light.gamma"] * values["light.brightness"]
    lit = lit * np.array(values["light.cast"], float)[:, None] / 255.0
    lit = 0.5 + values["light.contrast"] * (lit - 0.5)
    table: np.ndarray = np.rint((255.0 * lit.clip(0.0, 1.0)).round(6)).astype(np.uint8)
    return table


def _through(table: np.ndarray, frame: np.ndarray) -> np.ndarray:
    if (table == table[0]).all():  # Python's own tables are several times as quick as numpy's
        return np.frombuffer(bytearray(frame).translate(table[0].tobytes()), np.uint8).reshape(frame.shape)
    lit = np.empty_like(frame)
    for c in range(3):
        plane = frame[..., c].tobytes().translate(table[c].tobytes())
        lit[..., c] = np.frombuffer(plane, np.uint8).reshape(frame.shape[:2])
    return lit


def _vignette(size: int, lost: float) -> np.ndarray | None:
    """Light (size, size, 1) of 256 that is left."""
    if not lost:
        return None
    far = (np.arange(size) + 0.5) / size * 2.0 - 1.0
    away = (far**2 + far[:, None] ** 2) / 2.0
    return np.rint(_ONE * (1.0 - lost * away)).astype(np.uint16)[..., None]


def _whole(weights: np.ndarray) -> np.ndarray:
    """Rows (n, m) of weights as whole numbers that add up to 256."""
    parts = np.rint(weights / weights.sum(1, keepdims=True) * _ONE)
    most = parts.argmax(1)
    parts[np.arange(len(parts)), most] += _ONE - parts.sum(1)
    return parts.astype(np.float32)


def _along(size: int, scale: float, offset: float, blur: float) -> np.ndarray:
    """(size, size): the share, of 256, of each old pixel in each new one, in one dimension."""
    new, old = (np.arange(size) + 0.5) / size - 0.5, np.arange(size)
    source = ((scale * new + offset + 0.5) * size - 0.5).clip(0.0, size - 1.0)
    weights = (1.0 - abs(source[:, None] - old)).clip(0.0)
    if blur > 0.05:
        reach = math.ceil(3 * blur)
        near = np.arange(size)[:, None] + np.arange(-reach, reach + 1)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / blur) ** 2)
        soft = np.zeros((size, size))
        np.add.at(soft, (np.arange(size)[:, None], near.clip(0, size - 1)), kernel / kernel.sum())
        weights = soft @ weights
    return _whole(weights)


def _corners(size: int, seen: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Of each new pixel the four old ones that it mixes, flat (N,), and their weights of 256, (N, 1)."""
    side = (np.arange(size) + 0.5) / size - 0.5
    x, y = np.meshgrid(side, side)
    points = seen @ np.stack([x.ravel(), y.ravel(), np.ones(size * size)])
    source = ((points[:2] / points[2] + 0.5) * size - 0.5).clip(0.0, size - 1.0)
    fine = np.rint(source * _FINE).astype(np.int64)
    whole, part = fine // _FINE, fine % _FINE
    after = (whole + 1).clip(None, size - 1)
    (x0, y0), (x1, y1), (u, v) = whole, after, part
    indices = [y0 * size + x0, y0 * size + x1, y1 * size + x0, y1 * size + x1]
    weights = [(_FINE - u) * (_FINE - v), u * (_FINE - v), (_FINE - u) * v, u * v]
    return indices, [weight.astype(np.uint16)[:, None] for weight in weights]


def _jpeg(frame: np.ndarray, quality: int) -> np.ndarray:
    held = io.BytesIO()
    Image.fromarray(frame).save(held, "JPEG", quality=quality)
    return np.array(Image.open(held))


class _Finished:
    """Frames of a world, with light and camera of a look."""

    def __init__(self, frames: Any, finish: Finish) -> None:
        self._frames, self._finish = frames, finish

    def draw(self, *args: Any, **more: Any) -> np.ndarray:
        return self._finish(self._frames.draw(*args, **more))


def finished(frames: Any, size: int, varied: Mapping[str, Any]) -> Any:
    """`frames`, whose `draw` makes frames of `size` px, with light and camera as these factors say."""
    finish = Finish.of(size, varied)
    return frames if finish is None else _Finished(frames, finish)
