"""How the report draws: small charts in colours that colour-blind readers tell apart, legible on a phone.

Each chart is about as wide as a phone, so that its letters keep their size there; the page puts several
beside each other where there is room. Ink, grey and paper become those of the page, light or dark.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..evaluation.plots import CAPTION

INK, GREY = "#262c34", "#7d858f"
# Okabe and Ito, "Color universal design" (2008), without yellow, which is faint on paper
BLUE, VERMILION, GREEN, ORANGE, PINK, SKY = "#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9"
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, PINK, SKY, GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")  # colour is never the only sign
MAP = "viridis"
SIZE = (3.7, 2.7)  # inches


def chart(along: str, up: str, *, height: float = SIZE[1], width: float = SIZE[0]) -> tuple[Figure, Axes]:
    """An empty chart; along, up: what its axes are, with units."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    axis.set_xlabel(along, fontsize=CAPTION, color=INK)
    axis.set_ylabel(up, fontsize=CAPTION, color=INK)
    axis.tick_params(which="both", labelsize=CAPTION, colors=INK)
    axis.grid(True, alpha=0.3, linewidth=0.6, color=GREY)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axis.spines[side].set_color(INK)
    return figure, axis


def legend(axis: Axes, **options: Any) -> None:
    axis.legend(**({"fontsize": CAPTION - 1, "frameon": False, "labelcolor": INK} | options))


def bars(axis: Axes, names: Sequence[str], series: Mapping[str, Sequence[float]]) -> None:
    """Horizontal bars, one group a name, one bar a series."""
    height = 0.8 / len(series)
    for index, (label, values) in enumerate(series.items()):
        y = np.arange(len(names)) + (index - (len(series) - 1) / 2) * height
        axis.barh(y, values, height * 0.9, color=COLOURS[index], label=label)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    if len(series) > 1:
        legend(axis)


def strip(
    rows: Sequence[Sequence[np.ndarray] | np.ndarray],
    left: Sequence[str],
    above: Sequence[str] = (),
    *,
    side: float = 0.8,
) -> Figure:
    """Frames (h, w, 3) in rows, each row with its name, columns with theirs: for `Shown(…, wide=True)`."""
    columns, label = max(map(len, rows)), 1.15
    size = (label + columns * side, len(rows) * side + 0.3 * bool(above))
    figure = Figure(figsize=size)
    for r, row in enumerate(rows):
        bottom = (len(rows) - 1 - r) * side / size[1]
        figure.text((label - 0.08) / size[0], bottom + side / 2 / size[1], left[r], fontsize=CAPTION,
                    color=INK, ha="right", va="center")  # fmt: skip
        for c, frame in enumerate(row):
            where = ((label + c * side) / size[0], bottom, 0.94 * side / size[0], 0.94 * side / size[1])
            axis = figure.add_axes(where)
            axis.imshow(frame, interpolation="nearest", vmin=0, vmax=255)
            axis.set_axis_off()
    for c, text in enumerate(above):
        figure.text((label + (c + 0.47) * side) / size[0], 1 - 0.05 / size[1], text, fontsize=CAPTION - 1,
                    color=INK, ha="center", va="top")  # fmt: skip
    return figure
