"""Columns that tell the time or count rows: whatever they are called, they are no actions."""

from __future__ import annotations

import re

import numpy as np

_CLOCKS = re.compile(
    r"(time|date|datetime|clock|(unix|ros|wall|epoch)_?time|.*time_?stamps?.*|stamp|t_?(ns|us|ms|sec)|n?secs?"
    r"|time_?(in_)?(s|ms|us|ns|sec|msec|seconds|milliseconds)"
    r"|(frame|episode|task|step|row|sample|image|trajectory|traj|demo|global|chunk|file|rank)s?_?"
    r"(index|idx|id|ids|no|nr|num|number|count|counter)"
    r"|index|idx|id|frames?|steps?|rows?|counter|seq|unnamed:?_?\d*|level_\d+)"
)
ENOUGH = 8  # rows that must go up before a column is taken for a clock


def is_clock(name: str) -> bool:
    """Whether a column of this name is a clock or a counter, as loggers call them."""
    return _CLOCKS.fullmatch(re.sub(r"[\s.\-/]+", "_", name.strip().lower())) is not None


def runs_like_a_clock(parts: list[np.ndarray]) -> bool:
    """Whether a column goes up with every row of all its episodes (T,), as clocks and counters do."""
    steps = [np.diff(part) for part in parts]
    return sum(map(len, steps)) >= ENOUGH and all((step > 0).all() for step in steps)
