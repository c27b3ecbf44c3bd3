"""Which recorded actions were taken, and what their numbers look like: the one place that says so.

Inspecting, converting, training and loading published weights all count the same rows. An action counts when
it was carried out between two frames: not in an episode's last row (no frame follows; some programs keep the
action of the first frame there), not in a row outside every episode, not where a value is a mark for
"missing" (-999) or a glitch, far from all others.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .action_space import NUMBERS, ActionSpace
from .printable import printable

MARKS = np.array([sign * (10.0**n - 1) for n in range(3, 8) for sign in (1, -1)])  # ±999, ±9999, …
FAR = 10  # a glitch is so many ranges of the others away from them
FEW = 100  # at most one row in so many is a glitch on each side
HELD = 3  # so many rows in a run are no glitch
STILL = 1e-6  # what deviates less counts as constant


@dataclass(frozen=True)
class Taken:
    """rows (N,) bool: those whose action counts.   odd (N,) bool: those inside episodes that were left out
    as marks or glitches.   outside: rows that belong to no episode and hold an action."""

    rows: np.ndarray
    odd: np.ndarray
    outside: int

    def remark(self, name: object) -> str | None:
        """One sentence on what was left out, last rows aside; None where nothing was."""
        parts = []
        if self.odd.any():
            parts.append(f"{int(self.odd.sum())} whose values are far from all others")
        if self.outside:
            parts.append(f"{self.outside} outside every episode")
        if not parts:
            return None
        count = int(self.odd.sum()) + self.outside
        return f"{printable(name)}: {count} rows do not count as actions, {' and '.join(parts)}"


@dataclass(frozen=True)
class Summary:
    """(A,) numbers each, in the recording's units. A std of 1 stands for a component that never varies."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def taken(
    actions: np.ndarray,
    lengths: np.ndarray | None = None,
    offsets: np.ndarray | None = None,
    *,
    space: ActionSpace = NUMBERS,
) -> Taken:
    """Which of the actions (N, A) were taken, in episodes of lengths (E,) from the rows offsets (E,) on.

    Without lengths and offsets every row with finite numbers may be one.
    space: what an action is made of; no choice is far from others, whatever its number.
    """
    finite = np.isfinite(actions).all(axis=1)
    rows, outside = finite.copy(), 0
    if lengths is not None and offsets is not None:
        lengths, offsets = np.asarray(lengths, np.int64), np.asarray(offsets, np.int64)
        edges = np.zeros(len(actions) + 1, np.int64)
        np.add.at(edges, offsets, 1)
        np.add.at(edges, offsets + lengths, -1)
        inside = np.cumsum(edges[:-1]) > 0
        outside = int((finite & ~inside).sum())
        rows &= inside
        rows[(offsets + lengths - 1)[lengths > 0]] = False
    odd = np.zeros(len(actions), bool)
    where = np.flatnonzero(rows)
    if len(where):
        counts = space.choices or (0,) * actions.shape[1]
        for count, values in zip(counts, np.asarray(actions, np.float64)[where].T):
            if not count:
                odd[where] |= _odd(values)
    return Taken(rows & ~odd, odd, outside)


def summarised(actions: np.ndarray, space: ActionSpace = NUMBERS) -> Summary:
    """What the actions (n, A), n > 0, are like; all of them count. A choice is not normalised: its mean is 0,
    its std 1."""
    values = np.asarray(actions, np.float64)
    mean, std = values.mean(axis=0), values.std(axis=0)
    if space.choices:
        chosen = np.array(space.choices) > 0
        mean, std = np.where(chosen, 0.0, mean), np.where(chosen, 1.0, std)
    low, high = values.min(axis=0), values.max(axis=0)
    return Summary(_numbers(mean), deviations(std), _numbers(low), _numbers(high))


def said_bounds(low: object, high: object, size: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The bounds (A,), float32, that a file says its actions have; None unless `size` numbers each."""
    try:
        found = np.asarray(low, np.float32), np.asarray(high, np.float32)
    except (TypeError, ValueError, OverflowError):
        return None
    fits = all(bound.shape == (size,) and np.isfinite(bound).all() for bound in found)
    return found if fits and (found[0] <= found[1]).all() else None


def deviations(std: np.ndarray) -> tuple[float, ...]:
    """Standard deviations to divide by: 1 for what never varies."""
    return tuple(float(s) if s > STILL else 1.0 for s in std)


def _numbers(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(value) for value in values)


def _odd(values: np.ndarray) -> np.ndarray:
    """Which values (n,) of one component are marks or glitches."""
    odd = np.zeros(len(values), bool)
    for mark in MARKS[np.isin(MARKS, values)]:
        marked = values == mark
        others = values[~marked & ~odd]
        if not len(others) or marked.mean() > 0.5:
            continue
        low, high = others.min(), others.max()
        if max(low - mark, mark - high) > max((high - low) / 2, abs(mark) / 2):
            odd |= marked
    usual = np.flatnonzero(~odd)
    if len(usual) > 2:
        glitches = _glitches(values[usual])
        odd[usual[glitches]] = True
    return odd


def _glitches(values: np.ndarray) -> np.ndarray:
    """Which values (n,) lie far beyond the gap that parts them from all others, for a row or two."""
    order = np.argsort(values, kind="stable")
    ranked, few = values[order], max(1, len(values) // FEW)
    low, high = ranked[few], ranked[-few - 1]
    glitch = np.zeros(len(values), bool)
    if high == low:
        return glitch
    for side, sign in ((order[-few:], 1.0), (order[:few][::-1], -1.0)):
        edge, span = (high, high - low) if sign > 0 else (low, high - low)
        for place, index in enumerate(side):
            if sign * (values[index] - edge) > FAR * span:
                glitch[side[place:]] = True
                break
            edge = values[index]
    starts = np.flatnonzero(np.diff(np.concatenate([[0], glitch.astype(np.int8), [0]])) == 1)
    stops = np.flatnonzero(np.diff(np.concatenate([[0], glitch.astype(np.int8), [0]])) == -1)
    for start, stop in zip(starts, stops):
        if stop - start >= HELD:
            glitch[start:stop] = False
    return glitch
