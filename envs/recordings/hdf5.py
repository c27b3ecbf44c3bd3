"""The finished recording: an HDF5 file of flat columns, `ep_len` and `ep_offset`.

`write` lays it out so that everything which finds the data stands at its start, and the frames follow in
order: of a file whose end is missing, all episodes before the cut can still be read.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np

from latent_planner.common import hdf5_files
from latent_planner.common.printable import printable
from latent_planner.common.progress import Bar

from . import blosc
from .columns import AsFloats, Chunks, Library, Memory, map_file
from .journal import FORMAT_VERSION, Episode, RecordingError, check_frames, is_frames
from .senses import VECTOR, short, spellings

logger = logging.getLogger(__name__)

SIGNATURE = b"\x89HDF\r\n\x1a\n"
# HDF5 1.10 and newer read it; the index of all frames is made in one piece, with the first of them
_OURS = ("v110", "v110")
MEANT = ("pixels", "action", "state")  # columns that have a meaning


class Column(Protocol):
    """A column of a recording: shape (N, ...), dtype, and rows (n,) of it read into `out` (n, ...)."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def read(self, rows: np.ndarray, out: np.ndarray) -> None: ...


@dataclass
class Opened:
    """What `EpisodeReader` needs of an open file."""

    attrs: dict[str, Any]
    lengths: np.ndarray
    offsets: np.ndarray
    columns: dict[str, Column]
    missing: int = 0  # episodes that a cut-off file has lost


@dataclass
class Stored:
    """A column to be written, of rows of `shape`; `parts` yields it one episode at a time.

    An episode is an array (T, ...) or, of a packed column, T zlib streams.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    packed: bool
    parts: Iterator[Any]


def stored(episodes: Sequence[Episode], view: Any) -> dict[str, Stored]:
    """The columns of a journal's episodes, whose bytes `view` holds."""

    def parts(name: str) -> Iterator[Any]:
        for episode in episodes:
            column = episode.columns[name]
            if column.sizes is not None:
                stops = (column.offset + np.cumsum(column.sizes)).tolist()
                yield [view[start:stop] for start, stop in zip([column.offset, *stops], stops)]
            else:
                size = episode.length * int(np.prod(column.shape, dtype=np.int64))
                values = np.frombuffer(view, column.dtype, size, column.offset)
                yield values.reshape(episode.length, *column.shape)

    return {
        name: Stored(column.dtype, column.shape, column.sizes is not None, parts(name))
        for name, column in episodes[0].columns.items()
    }


def check_room(folder: Path, size: int, rows: int) -> None:
    """OSError unless `size` bytes fit: HDF5 copes badly with a disk that fills up under it."""
    index = 64 * rows
    if shutil.disk_usage(folder).free < size + index + (1 << 20):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def write(
    path: Path,
    attrs: dict[str, Any],
    lengths: np.ndarray,
    columns: Mapping[str, Stored],
    *,
    progress: bool = False,
) -> None:
    """Write episodes of these lengths (E,) as an HDF5 file at `path`, and see it on disk.

    Raises RecordingError where a stored episode is damaged or the disk is full.
    """
    lengths = np.asarray(lengths, np.int64)
    offsets = np.cumsum(lengths) - lengths
    packed = sorted(name for name, column in columns.items() if column.packed)
    with h5py.File(path, "w", libver=_OURS) as file:
        file.attrs["format_version"] = FORMAT_VERSION
        for key in sorted(attrs):  # in the order in which they are read, so that a copy has the same bytes
            file.attrs[key] = _attribute(attrs[key])
        file["ep_len"], file["ep_offset"] = lengths, offsets
        for name, column in sorted(columns.items()):
            shape = (int(lengths.sum()), *column.shape)
            if name in packed:
                chunk = {"chunks": (1, *column.shape), "compression": "gzip", "compression_opts": 1}
                file.create_dataset(name, shape, column.dtype, **chunk)
                continue
            dataset = file.create_dataset(name, shape, column.dtype)
            for first, values in zip(offsets.tolist(), column.parts):
                dataset[first : first + len(values)] = values
        bar = Bar(offsets.tolist(), disable=not progress, delay=2)
        bar.set_description(f"writing {path.name.partition('.tmp-')[0]}", refresh=False)
        targets = [(file[name].id, columns[name].parts) for name in packed]
        for first in bar:
            for target, parts in targets:
                for row, stream in enumerate(next(parts)):
                    target.write_direct_chunk((first + row, 0, 0, 0), stream)


def read(path: Path, keys: Mapping[str, str] | None = None) -> Opened:
    """Check an HDF5 recording, ours or another of the same layout, and find its columns.

    keys: the file's names of `pixels`, `action` and `state`, where they are others; "": it is not read.

    Nothing is read from any other file. Raises RecordingError, which says what is wrong with the file.
    """
    if not h5py.is_hdf5(path):
        raise RecordingError(f"{path} is not a recording: it is not an HDF5 file")
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            return _read(path, file, None, keys or {})
    except RecordingError:
        raise
    except hdf5_files.FileRefused as error:
        raise RecordingError(f"{path} is not read: {printable(error)}; copy or record it again") from error
    except Exception as error:  # the library raises whatever a damaged file leads to
        stored, size = _stored_size(path), path.stat().st_size
        if stored <= size:
            reason = str(error).partition("(")[2].rstrip(")'\"") or str(error)
            raise RecordingError(
                f"{path} is damaged ({printable(reason)}): copy or record it again"
            ) from error
    try:
        with open(path, "rb") as cut, h5py.File(hdf5_files.Padded(cut, stored), "r") as file:
            if "format_version" in file.attrs:
                return _read(path, file, size, keys or {})
    except Exception as error:  # what zeros in place of an index lead to
        logger.debug("the index of %s is incomplete: %s", path, error)
    raise _cut_off(path, size, stored)


def _read(path: Path, file: h5py.File, size: int | None, keys: Mapping[str, str]) -> Opened:
    """`size` is what is left of a cut-off file, None for a whole one."""
    stored = _stored_size(path) if size is not None else path.stat().st_size
    attrs = hdf5_files.attributes(path, file, stored if size is not None else 0)
    version = attrs.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise RecordingError(
            f"{path} was written by a newer version of this software: update it to read the file"
        )
    datasets = hdf5_files.columns(file)
    listed = ", ".join(printable(name) for name in file)
    chosen = {}
    for name, key in keys.items():
        if not key:
            datasets.pop(name, None)
            continue
        word = _spelt(file, attrs, key) if name.startswith("pixels") else key
        dataset = hdf5_files.find(file, word)
        if not isinstance(dataset, h5py.Dataset):
            raise RecordingError(f"{path} has no column {key!r}; its columns are: {listed}")
        chosen[name] = dataset
        if word != name and name != VECTOR:  # which may be the state, too
            datasets.pop(word, None)
    datasets |= chosen
    needed = [name for name in ("pixels", "action", "ep_len", "ep_offset") if keys.get(name) != ""]
    missing = [name for name in needed if name not in datasets]
    if missing:
        raise RecordingError(f"{path} lacks {' and '.join(missing)}; its columns are: {listed or 'nothing'}")
    for name, dataset in datasets.items():
        hdf5_files.check_size(name, dataset, stored)
        if name in (*MEANT, *keys, "ep_len", "ep_offset"):
            hdf5_files.check_filled(name, dataset)
    lengths, offsets = (_integers(path, name, datasets.pop(name)) for name in ("ep_len", "ep_offset"))
    rows = _check_shapes(path, datasets)
    _check_episodes(path, lengths, offsets, rows)
    view = map_file(path)
    opened = Opened(attrs, lengths, offsets, {})
    for name, dataset in datasets.items():
        if dataset.shape[:1] == (rows,) and dataset.dtype.kind in "fiub":  # text is not read
            column = _column(path, view, dataset)
            flat = name in ("action", "state") or (name == VECTOR and len(dataset.shape) <= 2)
            floats = flat and (dataset.dtype.kind != "f" or len(dataset.shape) != 2)
            opened.columns[name] = AsFloats(column) if floats else column
    return opened if size is None else _salvage(path, opened, size, stored)


def _spelt(file: h5py.File, attrs: Mapping[str, Any], camera: str) -> str:
    """What the file calls this camera: with something in front of it, or `pixels`, of which it says so."""
    for word in spellings(camera):
        if isinstance(hdf5_files.find(file, word), h5py.Dataset):
            return word
    own = attrs.get("camera")
    return "pixels" if isinstance(own, str) and short(own) == camera else camera


def _check_shapes(path: Path, datasets: dict[str, h5py.Dataset]) -> int:
    """The number of rows, after a look at the columns that have a meaning."""
    pixels, action, state = datasets["pixels"], datasets.get("action"), datasets.get("state")
    check_frames(f"{path} has pixels", pixels.dtype, pixels.shape)
    for name, dataset in (("action", action), ("state", state)):
        if dataset is None:
            continue
        if dataset.dtype.kind not in "fiub" or not dataset.shape or not all(dataset.shape[1:]):
            raise RecordingError(
                f"{path} has {name} {dataset.dtype} of shape {dataset.shape}; it must be numbers, a row a "
                "frame"
            )
        if len(dataset) != len(pixels):
            raise RecordingError(
                f"{path} has {len(pixels)} rows of pixels and {len(dataset)} of {name}: record it again"
            )
    return len(pixels)


def _integers(path: Path, name: str, dataset: h5py.Dataset) -> np.ndarray:
    """Numbers of rows (E,), of (E,) or (E, 1) whole numbers of any type."""
    flat = len(dataset.shape) == 1 or (len(dataset.shape) == 2 and dataset.shape[1] == 1)
    values = dataset[()].reshape(-1) if flat and dataset.dtype.kind in "iuf" else np.array([0.5])
    whole = values.dtype.kind in "iu" or (len(values) > 0 and np.array_equal(values, np.floor(values)))
    if not whole or (len(values) and np.abs(values.astype(np.float64)).max() >= 2**62):
        raise RecordingError(
            f"{path} has {name} {dataset.dtype} of shape {dataset.shape}; it must be whole numbers (E,)"
        )
    return values.astype(np.int64)


def _check_episodes(path: Path, lengths: np.ndarray, offsets: np.ndarray, rows: int) -> None:
    if len(lengths) != len(offsets):
        raise RecordingError(f"{path} has {len(lengths)} episodes in ep_len and {len(offsets)} in ep_offset")
    if not len(lengths):
        raise RecordingError(f"{path} holds no episodes: record some first")
    stops = offsets + lengths
    bad = np.flatnonzero((lengths < 1) | (offsets < 0) | (stops > rows))
    if len(bad):
        episode = int(bad[0])
        raise RecordingError(
            f"{path} says that episode {episode} has {lengths[episode]} rows from row {offsets[episode]} on, "
            f"and the columns have {rows} rows: record it again"
        )
    order = np.argsort(offsets, kind="stable")
    overlap = np.flatnonzero(offsets[order][1:] < stops[order][:-1])
    if len(overlap):
        raise RecordingError(
            f"{path} has episodes {order[overlap[0]]} and {order[overlap[0] + 1]} on the same rows: record "
            "it again"
        )


def _column(path: Path, view: Any, dataset: h5py.Dataset) -> Chunks | Library | Memory:
    """The quickest way to the rows of a column."""
    shape, dtype = dataset.shape, dataset.dtype
    if not dataset.file.userblock_size:
        if dataset.chunks is None and dtype.kind in "fiub":
            start = dataset.id.get_offset()
            if start is not None and start + dataset.nbytes <= len(view):
                return Memory(np.frombuffer(view, dtype, dataset.size, start).reshape(shape))
        if dataset.chunks and is_frames(dtype, shape[1:]) and dataset.chunks[1:] == shape[1:]:
            chunks = _chunks(path, view, dataset)
            if chunks is not None:
                return chunks
    hdf5_files.check_packing(printable(dataset.name), dataset)
    rows = dataset.chunks[0] if dataset.chunks else 64
    return Library(path, dataset.name.lstrip("/"), shape, dtype, rows)


def _chunks(path: Path, view: Any, dataset: h5py.Dataset) -> Chunks | None:
    """Where the frames lie, if they are packed in a way that is unpacked here, one row or block at a time."""
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    filters = [
        known for known in filters if known != h5py.h5z.FILTER_SHUFFLE
    ]  # of single bytes changes nothing
    if len(filters) > 1 or set(filters) - {h5py.h5z.FILTER_DEFLATE, blosc.FILTER}:
        return None
    found = array("q")  # 32 bytes a chunk; there may be a hundred million
    dataset.id.chunk_iter(lambda c: found.extend((c.chunk_offset[0], c.byte_offset, c.size, c.filter_mask)))
    table = np.frombuffer(found, np.int64).reshape(-1, 4)
    if len(table) != -(-len(dataset) // dataset.chunks[0]) or not len(table):
        return None
    if (np.diff(table[:, 0]) < 0).any():
        table = table[np.argsort(table[:, 0], kind="stable")]
    skipped = table[:, 3] != 0  # chunks that a filter left as they were, as it may
    if skipped.any() and properties.get_nfilters() > 1:
        return None
    layout = {  # copies, 12 bytes a chunk: a view would keep the whole table
        "offsets": table[:, 1].copy(),
        "sizes": table[:, 2].astype(np.uint32),  # HDF5 has no larger chunks
        "shape": dataset.shape,
        "chunk_rows": dataset.chunks[0],
        "raw": (skipped if skipped.any() else False) if filters else True,
    }
    if blosc.FILTER not in filters:
        return Chunks(view, path, **layout)
    packed = table[~skipped, 1]
    some = packed[np.linspace(0, len(packed) - 1, min(len(packed), 8)).astype(int)].tolist()
    return blosc.BloscChunks(view, path, **layout) if all(blosc.readable(view, s) for s in some) else None


def _salvage(path: Path, opened: Opened, size: int, stored: int) -> Opened:
    """Keep the episodes that lie wholly within the `size` bytes which are left of one of our files."""
    rows = int((opened.offsets + opened.lengths).max())
    for column in opened.columns.values():
        if isinstance(column, (AsFloats, Library)):
            raise _cut_off(path, size, stored)
        if isinstance(column, Chunks):
            lost = np.flatnonzero(column.offsets + column.sizes > size)
            rows = min(rows, int(lost[0]) if len(lost) else rows)
    kept = opened.offsets + opened.lengths <= rows
    if not kept.any():
        raise _cut_off(path, size, stored)
    opened.missing = int((~kept).sum())
    opened.lengths, opened.offsets = opened.lengths[kept], opened.offsets[kept]
    return opened


def _cut_off(path: Path, size: int, stored: int) -> RecordingError:
    return RecordingError(
        f"{path} is cut off after {size} of {stored} bytes and no episode of it can be found: copy or record "
        "it again"
    )


def _stored_size(path: Path) -> int:
    """The size that the file says it has; 0 where it does not say."""
    with open(path, "rb") as file:
        start = file.read(64).ljust(64, b"\0")
    where = {0: 40, 1: 44, 2: 28, 3: 28}.get(start[8], 0)  # by version of the superblock
    known = where and start.startswith(SIGNATURE)
    return int.from_bytes(start[where : where + 8], "little") if known else 0


def _attribute(value: Any) -> Any:
    """Plain Python as an HDF5 attribute: numbers and lists of them as such, JSON for the rest.

    The JSON is text of fixed length: a damaged file can make the library search for ever for text of
    variable length. It is ASCII, so that it holds whatever characters the value has.
    """
    numbers = value if isinstance(value, list) and value else [value]
    if all(type(item) in (int, float) and abs(item) < 2**63 for item in numbers):
        return np.array(value)
    return np.bytes_(json.dumps(value))
