"""Antialiased drawing straight at the target size: how much of each pixel a shape covers, from its distance.

Coordinates are in world units, `scale` pixels each; pixel (i, j) is the unit square whose centre lies at
(j + 0.5, i + 0.5). The share of a pixel inside an edge is taken as linear in the distance of the
pixel's centre from that edge, so a frame changes smoothly with every position and angle, far below one pixel.
"""

from __future__ import annotations

import math

import numpy as np

Region = tuple[slice, slice]


def covered(inside: np.ndarray) -> np.ndarray:
    """Share of each pixel, 0 to 1, that a shape covers; its centre is `inside` pixels inside the edge."""
    return (inside + 0.5).clip(0.0, 1.0)


def mix(shares: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Colours (K, 3) added up with the weights `shares` (K, h, w) of every pixel: (h, w, 3)."""
    return (shares.reshape(len(shares), -1).T @ colours).reshape(*shares.shape[1:], 3)


def blend(under: np.ndarray, colour: np.ndarray, share: np.ndarray) -> np.ndarray:
    """`under` (h, w, 3) with `share` (h, w) of each pixel painted in `colour` (3,)."""
    return under + (colour - under) * share[..., None]


class Grid:
    """The pixel centres of a square frame, and the parts of it that a shape can touch."""

    def __init__(self, size: int, scale: float) -> None:
        self.size, self.scale = size, scale
        self._centres = np.arange(size, dtype=np.float32) + np.float32(0.5)

    def region(self, left: float, top: float, right: float, bottom: float) -> Region | None:
        """Rows and columns that a shape between these bounds can touch; None when it is outside the frame."""
        scale, size = self.scale, self.size
        first_column, columns = (
            max(math.floor(left * scale - 0.5), 0),
            min(math.ceil(right * scale + 0.5), size),
        )
        first_row, rows = max(math.floor(top * scale - 0.5), 0), min(math.ceil(bottom * scale + 0.5), size)
        if first_row >= rows or first_column >= columns:
            return None
        return slice(first_row, rows), slice(first_column, columns)

    def offsets(self, region: Region, x: float, y: float) -> tuple[np.ndarray, np.ndarray]:
        """Pixels from (x, y) to the pixel centres of `region`: dx (w,) and dy (h, 1)."""
        scale, centres = self.scale, self._centres
        return centres[region[1]] - np.float32(x * scale), (centres[region[0]] - np.float32(y * scale))[
            :, None
        ]

    def distance(self, region: Region, x: float, y: float) -> np.ndarray:
        """Pixels (h, w) from (x, y) to the pixel centres of `region`."""
        dx, dy = self.offsets(region, x, y)
        return np.sqrt(dx * dx + dy * dy)

    def everything(self) -> Region:
        """The region that is the whole frame."""
        return slice(0, self.size), slice(0, self.size)


class Boxes:
    """Rectangles fixed to one body, each with an outline, painted one after the other.

    Args:
        centres: (K, 2) centre of each box in the body's frame.
        halves: (K, 2) half width and half height of each box.
        stroke: half the thickness of the outline, which is centred on the edge.
    """

    def __init__(self, centres: np.ndarray, halves: np.ndarray, stroke: float, grid: Grid) -> None:
        self.grid = grid
        self._bounds = np.hstack([centres, halves + stroke]).tolist()
        self._centres = (centres.T * grid.scale).astype(np.float32)[:, :, None, None]  # (axis, K, 1, 1)
        sizes = np.stack([halves + stroke, halves - stroke]).swapaxes(1, 2)  # outer and inner: (2, axis, K)
        # In pixels, with the half pixel over which coverage fades.
        self._sizes = (sizes * grid.scale + 0.5).astype(np.float32)[..., None, None]

    def region(self, x: float, y: float, angle: float) -> Region | None:
        """What the boxes can touch when the body stands at (x, y), turned by `angle`."""
        cos, sin = math.cos(angle), math.sin(angle)
        spans = []
        for cu, cv, hu, hv in self._bounds:
            px, py = x + cos * cu - sin * cv, y + sin * cu + cos * cv
            rx, ry = abs(cos) * hu + abs(sin) * hv, abs(sin) * hu + abs(cos) * hv
            spans.append((px - rx, py - ry, px + rx, py + ry))
        left, top, right, bottom = zip(*spans)
        return self.grid.region(min(left), min(top), max(right), max(bottom))

    def shares(self, region: Region, x: float, y: float, angle: float) -> np.ndarray:
        """Shares (2, h, w) of each pixel: what lies under the boxes, and their fill. The rest is outline.

        The body stands at (x, y), turned by `angle` radians from x towards y.
        """
        dx, dy = self.grid.offsets(region, x, y)
        cos, sin = math.cos(angle), math.sin(angle)
        turned = np.empty((2, 1, len(dy), len(dx)), np.float32)
        np.add(np.float32(cos) * dx, np.float32(sin) * dy, out=turned[0, 0])
        np.add(np.float32(-sin) * dx, np.float32(cos) * dy, out=turned[1, 0])
        inside = self._sizes - np.abs(turned - self._centres)  # (outer or inner, axis, K, h, w)
        inside = inside.clip(0.0, 1.0, out=inside)
        both = inside[:, 0] * inside[:, 1]
        free, fills = 1.0 - both[0], both[1]  # (K, h, w)
        shares = np.stack([free[0], fills[0]])
        for left, fill in zip(free[1:], fills[1:]):
            shares *= left
            shares[1] += fill
        return shares
