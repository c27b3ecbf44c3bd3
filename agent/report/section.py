"""What a section of the report is: a measurement with a verdict, and a drawing of it.

A section is one module of agent/report/sections/ with three things in it, here for one called `probes`:

    @dataclass(frozen=True)
    class Probes(Result): ...                        # plain values and arrays; see Result

    def probes(evidence: Evidence) -> Probes: ...    # may raise Skipped
    def draw(found: Probes) -> list[Shown]: ...      # charts, pictures, films

    SECTION = Section("probes", "State in the latent", "What is measured, what is good.", probes, draw)

and its module is named in agent/report/registry.py. `latent-planner report RUN --only probes` runs it alone,
and `latent_planner.report.probes(evidence)` is the same as a library call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .evidence import Evidence


def picture(**options: Any) -> Any:
    """A dataclass field that is for the drawing only: it does not go into report.json."""
    return field(repr=False, compare=False, metadata={"json": False}, **options)


@dataclass(frozen=True)
class Result:
    """What a section found. Subclasses add fields of plain values, arrays and dataclasses of those.

    good: whether the model passes; a model that is the true simulator does, a collapsed one does not.
    finding: one sentence with the figures that say so.
    """

    good: bool
    finding: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, arrays as lists of numbers of 6 digits, NaN as None; without fields of `picture`."""
        return plain(self)


@dataclass(frozen=True)
class Film:
    """Frames uint8 (h, w, 3), to be shown as a small video."""

    frames: Sequence[np.ndarray]
    fps: float = 10.0


@dataclass(frozen=True)
class Table:
    """Rows of short texts, the first of each its name; `head` has one text a column."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Shown:
    """One figure of the page: a chart (see report.charts), a picture uint8 (h, w, 3), a film, a table.

    title: what it shows, a few words.   caption: how to read it, a sentence or two.
    wide: takes the whole width of the page; on a phone it can be pushed sideways.
    """

    title: str
    caption: str
    content: Figure | np.ndarray | Film | Table
    wide: bool = False


@dataclass(frozen=True)
class Section:
    """name: as in --only.   measures: one sentence: what is measured, and what a good value is."""

    name: str
    title: str
    measures: str
    run: Callable[[Evidence], Any]
    draw: Callable[[Any], list[Shown]]


def plain(value: Any) -> Any:
    """What JSON can hold."""
    if is_dataclass(value) and not isinstance(value, type):
        shown = [f for f in fields(value) if f.metadata.get("json", True)]
        return {f.name: plain(getattr(value, f.name)) for f in shown}
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value
