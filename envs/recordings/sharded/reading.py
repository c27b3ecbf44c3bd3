"""A folder of shards read as one recording, without copying anything."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from latent_planner.common.printable import printable

from .. import hdf5
from ..columns import Chunks, unpacking_threads, unpacks_alone
from ..journal import RecordingError
from .layout import PLACE, TOTAL, Shard, files


class Joined:
    """A column whose rows lie in several files, one after the other."""

    def __init__(self, parts: Sequence[hdf5.Column]) -> None:
        self.parts = list(parts)
        counts = np.array([part.shape[0] for part in parts], np.int64)
        self.starts = np.cumsum(counts) - counts
        self.shape = (int(counts.sum()), *parts[0].shape[1:])
        self.dtype = parts[0].dtype

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Fill `out` (n, ...), contiguous, with the given rows (n,)."""
        if not len(rows):
            return
        first = bisect_right(self.starts, int(rows.min())) - 1
        if bisect_right(self.starts, int(rows.max())) - 1 == first:  # all in one file
            return self.parts[first].read(rows - self.starts[first], out)
        in_order = bool((rows[1:] >= rows[:-1]).all())
        order = slice(None) if in_order else np.argsort(rows)
        some = rows[order]
        where = np.searchsorted(self.starts, some, side="right") - 1
        within = some - self.starts[where]
        edges = np.flatnonzero(np.diff(where, prepend=-1, append=len(self.parts)))
        values = out if in_order else np.empty_like(out)
        pieces: list[Future[None]] = []
        for begin, end in zip(edges[:-1].tolist(), edges[1:].tolist()):
            part, mine, target = self.parts[where[begin]], within[begin:end], values[begin:end]
            if isinstance(part, Chunks) and unpacks_alone(mine, part):
                pieces.append(unpacking_threads().submit(part.read, mine, target))
            else:  # it shares itself out, or is quick
                part.read(mine, target)
        for piece in pieces:
            piece.result()
        if not in_order:
            out[order] = values

    def close(self) -> None:
        for part in self.parts:
            getattr(part, "close", lambda: None)()


def read(folder: Path, keys: Mapping[str, str]) -> tuple[hdf5.Opened, bool]:
    """The finished shards in a folder as one recording, and whether any is missing.

    Raises RecordingError where they do not belong together, or are damaged; the message names the shard.
    """
    found = opened_shards(folder, keys)
    parts = [opened for _, _, opened in found]
    rows = np.array([part.columns["pixels"].shape[0] for part in parts], np.int64)
    before = np.cumsum(rows) - rows
    whole = hdf5.Opened(
        common_attrs(parts[0].attrs),
        np.concatenate([part.lengths for part in parts]),
        np.concatenate([part.offsets + start for part, start in zip(parts, before.tolist())]),
        {name: Joined([part.columns[name] for part in parts]) for name in parts[0].columns},
    )
    return whole, len(found) < found[0][0].count


def opened_shards(folder: Path, keys: Mapping[str, str]) -> list[tuple[Shard, Path, hdf5.Opened]]:
    """All finished shards of a folder in their order, opened and checked against each other."""
    paths = files(folder)
    if not paths:
        raise RecordingError(f"{folder} holds no finished shard yet: wait for one, or go on collecting")
    _check_limit(folder, len(paths))
    found: dict[int, tuple[Shard, Path, hdf5.Opened]] = {}
    for path in paths:
        opened = hdf5.read(path, keys)
        shard = Shard.of(path, opened.attrs)
        if shard.index in found:
            other = found[shard.index][1]
            raise RecordingError(f"{other} and {path} are both {shard}: delete one of them")
        if found:
            _check_alike(next(iter(found.values())), path, opened)
        if opened.missing or len(opened.lengths) != len(shard.episodes):
            raise RecordingError(
                f"{path} holds {len(opened.lengths)} episodes and not the {len(shard.episodes)} of {shard}: "
                "delete it and run the collect command again"
            )
        found[shard.index] = shard, path, opened
    return [found[index] for index in sorted(found)]


def common_attrs(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """What the attributes of a shard say of the whole recording."""
    return {key: value for key, value in attrs.items() if key not in (PLACE, TOTAL)}


def _check_alike(first: tuple[Shard, Path, hdf5.Opened], path: Path, opened: hdf5.Opened) -> None:
    """Raise RecordingError unless this file continues the recording of the first."""
    ours, theirs = dict(first[2].attrs), dict(opened.attrs)
    ours[PLACE], theirs[PLACE] = (attrs[PLACE][1:] for attrs in (ours, theirs))
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        values = ours.get(key), theirs.get(key)
        if json.dumps(values[0]) != json.dumps(values[1]):
            one, other = map(printable, values)
            raise RecordingError(
                f"{first[1]} was recorded with {printable(key)}={one} and {path} with {other}: they are not "
                "shards of one recording, so move one away"
            )
    layouts = [
        {name: (c.dtype.str, c.shape[1:]) for name, c in part.columns.items()} for part in (first[2], opened)
    ]
    if layouts[0] != layouts[1]:
        raise RecordingError(f"{first[1]} and {path} have different columns: record one of them again")


def _check_limit(folder: Path, count: int) -> None:
    """Raise RecordingError for more files than this process may hold open."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if count + 64 > limit:
        raise RecordingError(
            f"{folder} has {count} shards, and this process may open {limit} files: run `ulimit -n "
            f"{min(most, count + 1024) if most > 0 else count + 1024}` first, or merge the shards"
        )
