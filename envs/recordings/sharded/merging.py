"""Make one file of a folder of shards, after checking that all are there, once each, as they were written.

    latent-planner merge shards/ pusht.h5

The file is the one that `latent-planner collect` without shards would have written.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from latent_planner.common.commands import in_words
from latent_planner.common.files import beside
from latent_planner.common.progress import Bar

from .. import hdf5
from ..columns import Chunks
from ..journal import RecordingError
from ..opening import partial_path
from .layout import Shard, check_hash, is_sharded, shards_of
from .reading import common_attrs, opened_shards


def merge(folder: str | Path, path: str | Path, *, progress: bool = True) -> Path:
    """Write the shards in `folder` as one recording `path`; returns that path.

    Raises RecordingError for a shard that is missing, unfinished, there twice, damaged or of another
    recording, and for a full disk; the message names the shard, and nothing is written.
    """
    folder, path = Path(folder), Path(path)
    if path.exists():
        raise RecordingError(f"{path} exists already: delete it, or choose another file")
    found = checked(folder, progress=progress)
    parts = [opened for _, _, opened in found]
    lengths = np.concatenate([part.lengths for part in parts])
    columns = {name: _stored(name, found) for name in parts[0].columns}
    packed = [part.columns[name] for part in parts for name in columns if columns[name].packed]
    size = sum(int(column.sizes.sum()) for column in packed if isinstance(column, Chunks))
    hdf5.check_room(path.parent, size, int(lengths.sum()))
    attrs = common_attrs(parts[0].attrs)
    attrs.pop("format_version", None)  # it gets the one of this version
    with beside(path) as target:
        hdf5.write(target, attrs, lengths, columns, progress=progress)
    return path


def checked(folder: Path, *, progress: bool = False) -> list[tuple[Shard, Path, hdf5.Opened]]:
    """All shards of a folder, opened; RecordingError unless they are the whole recording as written."""
    if not folder.is_dir() or not is_sharded(folder):
        raise RecordingError(f"{folder} is not a folder of shards, as collect --shards makes it")
    found = opened_shards(folder, {})
    there = {shard for shard, _, _ in found}
    for shard in shards_of(found[0][0].total, found[0][0].count):
        if shard not in there:
            begun = partial_path(folder / shard.name).exists()
            state = "has not finished" if begun else "lacks"
            what = f"{shard} of {folder} {state}" if begun else f"{folder} {state} {shard}"
            raise RecordingError(f"{what}: run the collect command again, which goes on with it")
    for _, path, _ in Bar(found, desc="checking", unit=" shards", disable=not progress, delay=2):
        check_hash(path)
    return found


def _stored(name: str, found: Sequence[tuple[Shard, Path, hdf5.Opened]]) -> hdf5.Stored:
    """A column of all shards, episode by episode, frames as they are packed."""
    column = found[0][2].columns[name]
    packed = isinstance(column, Chunks)

    def parts() -> Iterator[Any]:
        for _, path, opened in found:
            part = opened.columns[name]
            if packed and (not isinstance(part, Chunks) or part.chunk_rows != 1 or part.raw.any()):
                raise RecordingError(f"{path} is not packed as collect packs it: collect it again")
            for first, length in zip(opened.offsets.tolist(), opened.lengths.tolist()):
                rows = np.arange(first, first + length)
                if isinstance(part, Chunks):
                    ends = (part.offsets[rows] + part.sizes[rows]).tolist()
                    yield [part.view[start:end] for start, end in zip(part.offsets[rows].tolist(), ends)]
                else:
                    values = np.empty((length, *part.shape[1:]), part.dtype)
                    part.read(rows, values)
                    yield values

    return hdf5.Stored(column.dtype, tuple(column.shape[1:]), packed, parts())


def main(words: Sequence[str] | None = None) -> int:
    """The command line. Returns 0, 2 on a user error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="latent-planner merge",
        description="Make one recording of a folder of shards, after checking counts, seeds and hashes.",
    )
    parser.add_argument("folder", type=Path, help="folder of shards")
    parser.add_argument("path", type=Path, nargs="?", help="HDF5 file to write; without it, only check")
    args = parser.parse_args(words)
    began = time.monotonic()
    with in_words(RecordingError) as outcome:
        if args.path is None:
            found = checked(args.folder, progress=True)
            episodes = sum(len(opened.lengths) for _, _, opened in found)
            print(f"{args.folder}: {len(found)} shards, {episodes} episodes, all as they were written")
            return 0
        merge(args.folder, args.path)
        size = args.path.stat().st_size / 1e6
        print(f"{args.path}: {size:,.1f} MB, {time.monotonic() - began:.1f} s")
    return outcome.code
