"""Tables drawn as coloured squares with their numbers in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from ..evaluation.plots import CAPTION
from .charts import INK, MAP, SIZE

NUMBERS = 8  # rows of a table whose numbers can still be read


def heat(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    low: float,
    high: float,
    along: str = "",
    up: str = "",
    form: str = "{:.2f}",
) -> Figure:
    """values (R, C) as a chart. Beyond low and high the colour stays, the number does not; NaN is empty."""
    side = max(SIZE[0], 1.5 + 0.42 * len(columns))
    figure = Figure(figsize=(side, max(SIZE[1], 1.1 + 0.34 * len(rows))), layout="constrained")
    axis = figure.subplots()
    shown = np.ma.masked_invalid(values)
    image = axis.imshow(shown, vmin=low, vmax=high, cmap=MAP, aspect="auto")
    axis.set_xticks(range(len(columns)), columns, rotation=35, ha="right", fontsize=CAPTION - 1, color=INK)
    axis.set_yticks(range(len(rows)), rows, fontsize=CAPTION - 1, color=INK)
    axis.set_xlabel(along, fontsize=CAPTION, color=INK)
    axis.set_ylabel(up, fontsize=CAPTION, color=INK)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    if len(rows) <= NUMBERS:
        for r, c in np.argwhere(np.isfinite(values)):
            light = (values[r, c] - low) / (high - low) > 0.6  # viridis is dark at its low end
            axis.text(c, r, form.format(values[r, c]), ha="center", va="center", fontsize=CAPTION - 1,
                      color="#14181d" if light else "#ffffff")  # fmt: skip
    else:
        bar = figure.colorbar(image, ax=axis, shrink=0.9)
        bar.ax.tick_params(labelsize=CAPTION - 1, colors=INK)
    return figure
