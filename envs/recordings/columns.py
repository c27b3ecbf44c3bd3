"""Columns of a recording, read by row: frames straight from the file, small columns, and the rest."""

from __future__ import annotations

import mmap
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from latent_planner.common.cores import usable_cpus

from .journal import RecordingError

_PIECE = 1 << 20  # bytes of frames that are worth a thread of their own
_pools: dict[int, ThreadPoolExecutor] = {}


def memory() -> int:
    """Bytes of main memory that this machine has; what it has not said counts as 16 GiB."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 16 << 30


def map_file(path: Path) -> mmap.mmap:
    """The file's bytes, read by the system when they are touched; usable in any thread and after a fork."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def inflated(packed: bytes, size: int) -> bytes:
    """A zlib stream unpacked, to at most `size` bytes, whatever it claims. ValueError where it is longer."""
    data = zlib.decompressobj().decompress(packed, size + 1)
    if len(data) > size:
        raise ValueError("a stream that is too long")
    return data


class Memory:
    """A column that is held in memory."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        np.take(self.array, rows, axis=0, out=out)


class Chunks:
    """A column of frames, uint8, whose chunks of whole rows lie in a mapped file, raw or as zlib streams.

    The chunks are found and unpacked here and not by the HDF5 library, which lets one thread work at a time
    and is slower even then.

    view         the mapped file
    offsets      (C,) byte where each chunk begins; sizes (C,) its bytes
    chunk_rows   rows in every chunk; the last one may hold rows beyond the end
    raw          (C,) bool, the chunks that are not packed; or one for all
    """

    def __init__(
        self,
        view: mmap.mmap,
        path: Path,
        *,
        offsets: np.ndarray,
        sizes: np.ndarray,
        shape: tuple[int, ...],
        chunk_rows: int = 1,
        raw: np.ndarray | bool = False,
    ) -> None:
        self.view, self.path, self.offsets, self.sizes = view, path, offsets, sizes
        self.shape, self.dtype, self.chunk_rows = shape, np.dtype(np.uint8), chunk_rows
        self.raw = np.broadcast_to(raw, offsets.shape)
        self.announces = len(view) > memory() / 2 and hasattr(mmap, "MADV_WILLNEED")
        self.row_bytes = int(np.prod(shape[1:], dtype=np.int64))

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Fill `out` (n, ...), contiguous, with the given rows (n,)."""
        if not len(rows):
            return
        flat = out.data.cast("B")
        chunks, within = np.divmod(rows, self.chunk_rows)
        plan = np.stack([chunks, within, self.offsets[chunks], self.sizes[chunks]], axis=1)
        if self.announces:
            self._announce(plan)
        if unpacks_alone(rows, self):
            self._unpack(plan, flat)
            return
        threads = min(usable_cpus(), 8, len(rows) * self.row_bytes // _PIECE)
        edges = np.linspace(0, len(rows), 4 * threads + 1).astype(int).tolist()
        size, pool = self.row_bytes, unpacking_threads()
        parts = [
            pool.submit(self._unpack, plan[first:last], flat[first * size : last * size])
            for first, last in zip(edges[:-1], edges[1:])
        ]
        for part in parts:
            part.result()

    def _announce(self, plan: np.ndarray) -> None:
        """Ask the system for what a read will touch, all at once: a disk answers many requests together."""
        for start, length in plan[:, 2:].tolist():
            self._will_need(start, start + length)

    def _will_need(self, start: int, end: int) -> None:
        first, end = start // mmap.PAGESIZE * mmap.PAGESIZE, min(end, len(self.view))
        if 0 <= first < end:
            self.view.madvise(mmap.MADV_WILLNEED, first, end - first)

    def _unpack(self, plan: np.ndarray, flat: memoryview) -> None:
        """Fill `flat` with rows; `plan` (n, 4): chunk, row in it, byte where it begins, its size."""
        size, held = self.row_bytes, _Held()
        for position, (chunk, row, start, length) in enumerate(plan.tolist()):
            try:
                self._copy(chunk, row, start, length, held, flat[position * size : (position + 1) * size])
            except (zlib.error, struct.error, ValueError, KeyError) as error:
                damaged = chunk * self.chunk_rows + row
                raise RecordingError(
                    f"row {damaged} of {self.path} is damaged: copy or record it again"
                ) from error

    def _copy(self, chunk: int, row: int, start: int, length: int, held: _Held, out: memoryview) -> None:
        """Put one row into `out`; any of the errors above says that it is damaged."""
        if held.where != (chunk, 0):
            packed = self.view[start : start + length]
            size = self.row_bytes * self.chunk_rows
            unpacked = packed if self.raw[chunk] else inflated(packed, size)
            held.where, held.data = (chunk, 0), memoryview(unpacked)
        out[:] = held.data[row * self.row_bytes : (row + 1) * self.row_bytes]


class AsFloats:
    """A column of whole numbers, of one number a row, or of several dimensions, as float (N, D)."""

    def __init__(self, column: Chunks | Library | Memory) -> None:
        self.column, size = column, int(np.prod(column.shape[1:], dtype=np.int64))
        self.shape: tuple[int, ...] = (column.shape[0], size)
        kind = column.dtype
        small = kind.kind == "b" or kind.itemsize <= 2
        self.dtype: np.dtype = kind if kind.kind == "f" else np.dtype(np.float32 if small else np.float64)

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        values = np.empty((len(rows), *self.column.shape[1:]), self.column.dtype)
        self.column.read(rows, values)
        out[:] = values.reshape(out.shape)

    def close(self) -> None:
        if isinstance(self.column, Library):
            self.column.close()


class _Held:
    """What was unpacked last, a chunk or a block of one: the next row may lie in it too."""

    def __init__(self) -> None:
        self.where, self.data = (-1, 0), memoryview(b"")
        self._room = memoryview(bytearray())

    def room(self, size: int) -> memoryview:
        """Memory to unpack into, the same every time: new memory costs as much as unpacking."""
        if len(self._room) < size:
            self._room = memoryview(bytearray(size))
        return self._room[:size]


class Library:
    """A column that only the HDF5 library reads: other filters, other chunk shapes.

    Each process opens the file for itself; the library's own lock keeps threads apart. What is small is read
    once.
    """

    small = 256 << 20

    def __init__(
        self, path: Path, name: str, shape: tuple[int, ...], dtype: np.dtype, chunk_rows: int
    ) -> None:
        self.path, self.name, self.shape, self.dtype, self.chunk_rows = path, name, shape, dtype, chunk_rows
        self._opened: tuple[int, h5py.File] | None = None
        self._held: Memory | None = None

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Fill `out` (n, ...) with the given rows (n,)."""
        try:
            if int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize <= self.small:
                if self._held is None:
                    self._held = Memory(self._dataset()[()])
                self._held.read(rows, out)
                return
            dataset, chunks = self._dataset(), rows // self.chunk_rows
            for chunk in np.unique(chunks):
                mine = np.flatnonzero(chunks == chunk)
                first, last = rows[mine].min(), rows[mine].max()
                out[mine] = dataset[first : last + 1][rows[mine] - first]
        except MemoryError:
            raise
        except Exception as error:
            raise RecordingError(
                f"the column {self.name} of {self.path} cannot be unpacked: if it was packed with Blosc or "
                "the like, pip install 'latent-planner[hdf5]'; otherwise copy or record the file again"
            ) from error

    def _dataset(self) -> Any:
        if self._opened is None or self._opened[0] != os.getpid():
            with suppress(ImportError):
                import hdf5plugin  # noqa: F401  (an extra; makes more filters known)
            self._opened = (os.getpid(), h5py.File(self.path, "r", locking="best-effort"))
        return self._opened[1][self.name]

    def close(self) -> None:
        if self._opened is not None and self._opened[0] == os.getpid():
            self._opened[1].close()
        self._opened = None


def unpacks_alone(rows: np.ndarray, column: Chunks) -> bool:
    """Whether these rows (n,) are so few that one thread reads them, the one that asks."""
    return min(usable_cpus(), len(rows) * column.row_bytes // _PIECE) <= 1


def unpacking_threads() -> ThreadPoolExecutor:
    """The threads that unpack frames, shared by all recordings of this process; a fork starts its own."""
    me = os.getpid()
    if me not in _pools:
        _pools.setdefault(me, ThreadPoolExecutor(min(usable_cpus(), 8), thread_name_prefix="unpack"))
    return _pools[me]
