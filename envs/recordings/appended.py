"""Several recordings of one world, one after the other, read as one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from latent_planner.common.action_space import ActionSpace

from .episodes import EpisodeReader
from .journal import RecordingError


class AppendedReader:
    """What an EpisodeReader is, for the first recording with the episodes of others after its own.

    The first says everything about the whole; only columns that all have can be read.

    Attributes: parts, how many episodes each recording has; and those of EpisodeReader.

    Raises RecordingError where frames or actions differ in size.
    """

    def __init__(self, first: EpisodeReader, others: Sequence[Any]) -> None:
        self.readers: list[Any] = [first, *others]
        self.path, self.attrs, self.env = first.path, first.attrs, first.env
        self.image_size = first.image_size
        self.state_names, self.angle_names = first.state_names, first.angle_names
        self.action_low, self.action_high = first.action_low, first.action_high
        self.action_space: ActionSpace = first.action_space
        self.cameras, self.proprio_names = first.cameras, first.proprio_names
        self.columns = tuple(n for n in first.columns if all(n in other.columns for other in others))
        self._check()
        rows = np.array([reader.num_frames for reader in self.readers], np.int64)
        self.starts = np.cumsum(rows) - rows
        self.num_frames = int(rows.sum())
        self.parts = tuple(len(reader.lengths) for reader in self.readers)
        self.lengths = np.concatenate([reader.lengths for reader in self.readers])
        self.offsets = np.concatenate([r.offsets + start for r, start in zip(self.readers, self.starts)])

    def _check(self) -> None:
        first = self.readers[0]
        for name in ("pixels", "action"):
            shape = first.read(name, 0, 1).shape[1:]
            for other in self.readers[1:]:
                if other.read(name, 0, 1).shape[1:] != shape:
                    raise RecordingError(
                        f"{other.path} has {name} of another size than {first.path}, to which it belongs: "
                        "delete it, and that round is practised again"
                    )
        sizes = {r.read("state", 0, 1).shape[1:] for r in self.readers} if "state" in self.columns else set()
        if len(sizes) > 1:
            self.columns = tuple(name for name in self.columns if name != "state")

    def read(self, column: str, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` (not included) of a column, as a new array (stop - start, ...)."""
        parts: list[np.ndarray] = []
        for reader, first in zip(self.readers, self.starts.tolist()):
            begin, end = (min(max(at - first, 0), reader.num_frames) for at in (start, stop))
            if begin < end or not parts:
                parts.append(reader.read(column, begin, end))
        return np.concatenate(parts)

    def read_rows(self, column: str, rows: Any) -> np.ndarray:
        """The given rows (n,), in any order, as a new array (n, ...)."""
        rows = np.asarray(rows, np.int64)
        where = np.searchsorted(self.starts, rows, side="right") - 1
        out: np.ndarray | None = None
        for index in np.unique(where):
            chosen = where == index
            values = self.readers[index].read_rows(column, rows[chosen] - self.starts[index])
            if out is None:
                out = np.empty((len(rows), *values.shape[1:]), values.dtype)
            out[chosen] = values
        return self.readers[0].read_rows(column, rows) if out is None else out

    def close(self) -> None:
        """Let go of all files."""
        for reader in self.readers:
            reader.close()
