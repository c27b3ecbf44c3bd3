"""A recording seen with other actions, or with some of its episodes only."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...protocols import Recording


class View:
    """What `reader` is, but for its actions and for which of its episodes there are.

    actions: (N, A), a row for each of the reader's, in environment units; default the reader's own.
    episodes: indices of those that there are; default all.
    """

    def __init__(
        self, reader: Recording, *, actions: np.ndarray | None = None, episodes: np.ndarray | None = None
    ) -> None:
        self.reader, self._actions = reader, actions
        self.lengths, self.offsets = np.asarray(reader.lengths), np.asarray(reader.offsets)
        self.parts: tuple[int, ...] = getattr(reader, "parts", (len(self.lengths),))
        if episodes is not None:
            self.lengths, self.offsets = self.lengths[episodes], self.offsets[episodes]
            self.parts = (len(episodes),)
            self._actions = only_in(self, reader.read("action", 0, reader.num_frames))

    def read(self, column: str, start: int, stop: int) -> np.ndarray:
        """Rows start to stop - 1."""
        if column == "action" and self._actions is not None:
            return self._actions[start:stop].copy()
        return self.reader.read(column, start, stop)

    def read_rows(self, column: str, rows: np.ndarray) -> np.ndarray:
        """These rows, in any order."""
        if column == "action" and self._actions is not None:
            return self._actions[rows]
        return self.reader.read_rows(column, rows)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.reader, name)


def rows_of(reader: Recording, episodes: np.ndarray | None = None) -> np.ndarray:
    """Flat rows of these episodes, default of all, one after the other."""
    chosen = slice(None) if episodes is None else episodes
    lengths, offsets = np.asarray(reader.lengths)[chosen], np.asarray(reader.offsets)[chosen]
    before = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(offsets - before, lengths)


def only_in(reader: Recording, actions: np.ndarray) -> np.ndarray:
    """The actions (N, A) in the rows of the reader's episodes, NaN in all others."""
    found = np.full(actions.shape, np.nan)
    rows = rows_of(reader)
    found[rows] = actions[rows]
    return found


def with_actions(reader: Recording) -> np.ndarray:
    """Indices of the episodes that have any action; the last row of an episode does not count."""
    known = np.isfinite(reader.read("action", 0, reader.num_frames)).all(1)
    ends = np.asarray(reader.offsets) + np.asarray(reader.lengths)
    have = [known[first : end - 1].any() for first, end in zip(reader.offsets, ends)]
    return np.flatnonzero(np.array(have, bool))
