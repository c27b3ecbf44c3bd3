"""Pictures of a run, drawn from its metrics.jsonl: how the loss fell, how often goals were reached."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from latent_planner.common.files import beside

Row = Mapping[str, Any]

INK, BLUE, ORANGE, GREEN, GREY = "#262c34", "#2662c4", "#d9761a", "#168c4a", "#969ca4"
COLOURS = (BLUE, ORANGE, GREEN, "#8a4fbf", "#c23b5a", "#2a9aa8", "#8a6d3b", GREY)
CAPTION = 9  # points


def read_rows(path: str | os.PathLike) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl, without lines that are none, as a last one that was cut off, and without
    values that are no numbers to draw.

    A missing file has none.
    """
    rows = []
    if Path(path).exists():
        for line in Path(path).read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict) and _is_number(row.get("step")):
                rows.append({key: value for key, value in row.items() if _is_number(value)})
    return rows


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and abs(value) < 1e300


def probes(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """{quantity: {kind of probe: value}} of the last row that has any, as {"block_x": {"linear": 0.98}}."""
    for row in reversed(rows):
        found: dict[str, dict[str, float]] = {}
        for key, value in row.items():
            if key.startswith("probe/"):
                quantity, _, kind = key.removeprefix("probe/").rpartition("/")
                found.setdefault(quantity, {})[kind] = value
        if found:
            return found
    return {}


def plot_loss(rows: Sequence[Row], path: str | os.PathLike) -> Path:
    """Prediction error (batches and held-out), SIGReg, effective rank, and probes where there are any."""
    panels = 4 if probes(rows) else 3
    figure = Figure(figsize=(4.2 * panels, 3.4), layout="constrained")
    axes = figure.subplots(1, panels)

    _lines(axes[0], rows, {"prediction": ("training", BLUE), "held_out": ("held out", ORANGE)})
    axes[0].set_yscale("log")
    dress(axes[0], "prediction error of the latent")
    _lines(axes[1], rows, {"sigreg": ("SIGReg", BLUE)})
    axes[1].axhline(1.05, color=GREY, linewidth=1, linestyle=":", label="expected of a Gaussian")
    axes[1].legend(fontsize=CAPTION, frameon=False)
    axes[1].set_yscale("log")
    dress(axes[1], "SIGReg")
    _lines(axes[2], rows, {"effective_rank": ("effective rank", BLUE)})
    axes[2].set_ylim(bottom=0)
    dress(axes[2], "effective rank of the latents")
    if panels == 4:
        _plot_probes(axes[3], rows)
    return save(figure, path)


def plot_success(
    rows: Sequence[Row], path: str | os.PathLike, benchmark: Mapping[str, Any] | None = None
) -> Path | None:
    """Share of goals reached on the way, with 95 % intervals; the benchmark and its baselines next to it.

    None, and no file, where no goal was planned to.
    """
    tested = [row for row in rows if "success" in row]
    if not tested and benchmark is None:
        return None
    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    if tested:
        steps, success = [row["step"] for row in tested], [row["success"] for row in tested]
        for row in tested:
            if "success_low" in row and "success_high" in row:
                bar = row["success_low"], row["success_high"]
                axis.vlines(row["step"], *bar, color=BLUE, alpha=0.35, linewidth=3)
        axis.plot(steps, success, "o-", color=BLUE, markersize=5, label="while training (validation goals)")
    if benchmark is not None:
        at = 1.03 * max((row["step"] for row in rows), default=0)  # beside the last test, not over it
        low, high = benchmark["interval"]
        share = benchmark["success"]
        axis.errorbar(
            [at],
            [share],
            [[share - low], [high - share]],
            fmt="D",
            color=GREEN,
            capsize=4,
            label=f"benchmark, best model: {share:.0%}",
        )
        for (name, floor), style in zip(benchmark["floors"].items(), ("--", ":")):
            label = {"random": "random actions", "still": "standing still"}.get(name, name)
            axis.axhline(
                floor["success"],
                color=GREY,
                linestyle=style,
                linewidth=1.2,
                label=f"{label}: {floor['success']:.0%}",
            )
    axis.set_ylim(-0.03, 1.03)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    dress(axis, "goals reached, 95 % intervals")
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=CAPTION, frameon=False, loc="best")
    return save(figure, path)


def _plot_probes(axis: Axes, rows: Sequence[Row]) -> None:
    """R² of each quantity over the steps: lines for the linear probe, dashes for the MLP."""
    for colour, quantity in zip(COLOURS, probes(rows)):
        for kind, style in (("linear_r2", "-"), ("mlp_r2", "--")):
            key = f"probe/{quantity}/{kind}"
            seen = [row for row in rows if key in row]
            axis.plot(
                [row["step"] for row in seen],
                [max(-0.05, row[key]) for row in seen],
                style,
                color=colour,
                marker="o",
                markersize=3,
                label=quantity if style == "-" else None,
            )
    axis.set_ylim(-0.08, 1.03)
    dress(axis, "read from the latent, R² (dashes: MLP)")
    axis.legend(fontsize=CAPTION - 1, frameon=False, loc="best")


def _lines(axis: Axes, rows: Sequence[Row], series: Mapping[str, tuple[str, str]]) -> None:
    for key, (label, colour) in series.items():
        seen = [row for row in rows if key in row]
        if seen:
            steps, values = [row["step"] for row in seen], [row[key] for row in seen]
            axis.plot(
                steps,
                values,
                color=colour,
                linewidth=1.4,
                label=label,
                marker="o" if len(seen) == 1 else None,
            )
    if len(axis.lines) > 1:
        axis.legend(fontsize=CAPTION, frameon=False)


def dress(axis: Axes, title: str, along: str = "training step") -> None:
    """Title, name of the x axis, and little else."""
    axis.set_title(title, fontsize=CAPTION + 1, color=INK, loc="left")
    axis.set_xlabel(along, fontsize=CAPTION, color=INK)
    axis.set_xlim(left=0)
    if axis.get_yscale() == "log":
        for formatted in (axis.yaxis.set_major_formatter, axis.yaxis.set_minor_formatter):
            formatted(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "1235" else "")
    axis.tick_params(which="both", labelsize=CAPTION, colors=INK)
    axis.grid(True, alpha=0.25, linewidth=0.6)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)


def as_written(figure: Figure) -> None:
    """Have the texts of a figure drawn as they stand: a name from a file may hold a $, which is no formula.

    Ticks of logarithmic axes are numbers, and may be formulas.
    """
    axes = [axis for one in figure.axes for axis in (one.xaxis, one.yaxis) if axis.get_scale() == "log"]
    ticks = {id(text) for axis in axes for text in axis.findobj(Text)} - {id(axis.label) for axis in axes}
    for text in figure.findobj(Text):
        if id(text) not in ticks and isinstance(text, Text):
            text.set_parse_math(False)


def save(figure: Figure, path: str | os.PathLike) -> Path:
    """Write the figure as PNG beside its target, then rename."""
    FigureCanvasAgg(figure)
    as_written(figure)
    with beside(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return Path(path)
