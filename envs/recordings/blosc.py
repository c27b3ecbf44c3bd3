"""Frames in Blosc chunks, read without unpacking the rest of the chunk.

Published recordings pack 100 frames into one chunk, and the HDF5 library, through hdf5plugin, unpacks all of
them to give one. But a Blosc chunk is a row of blocks (128 KiB here), each packed by itself: a frame of 224
px lies in two or three of 115. So blocks are found and unpacked here, straight from the mapped file.

The format, version 1 (github.com/Blosc/c-blosc, README_CHUNK_FORMAT.rst): a header of 16 bytes (version,
codec's version, flags, size of an item; sizes of the data, of a block, of the chunk, uint32), the byte where
each block begins (int32), and the blocks. For items of one byte a block is its packed size (int32) and that
many bytes, plain where they are as many as it unpacks to.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np

from .columns import Chunks, inflated

FILTER = 32001  # Blosc's number among the HDF5 filters
_HEADER = struct.Struct("<BBBBIII")
_TABLE = 4096  # bytes that hold a header and where the blocks of most chunks begin
_PLAIN, _BIT_SHUFFLE = 0x02, 0x04  # flags; the codec is in the three highest bits
Unpack = Callable[[bytes, memoryview], memoryview]  # packed block, room for what it holds -> what it holds


def unpackers() -> dict[int, Unpack]:
    """How to unpack a block, by the number of its codec: zlib, and LZ4 where cramjam is (an extra)."""
    known: dict[int, Unpack] = {3: lambda packed, into: memoryview(inflated(packed, len(into)))}
    with suppress(ImportError):
        import cramjam

        def unpack_lz4(packed: bytes, into: memoryview) -> memoryview:
            try:
                return into[: cramjam.lz4.decompress_block_into(packed, into, output_len=len(into))]
            except cramjam.DecompressionError as error:
                raise ValueError("a damaged block") from error

        known[1] = unpack_lz4
    return known


def readable(view: Any, start: int) -> bool:
    """Whether the chunk at byte `start` can be read here, and not by the HDF5 library alone."""
    version, _, flags, item, *_ = _HEADER.unpack_from(view, start)
    if version != 2 or item != 1 or flags & _BIT_SHUFFLE:
        return False
    return bool(flags & _PLAIN) or flags >> 5 in unpackers()


class BloscChunks(Chunks):
    """A column of frames, uint8, in chunks of many rows that Blosc packed: of them only a row's blocks are
    read."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._unpackers = unpackers()

    def _copy(self, chunk: int, row: int, start: int, length: int, held: Any, out: memoryview) -> None:
        first, end, done = row * self.row_bytes, (row + 1) * self.row_bytes, 0
        if self.raw[chunk]:
            out[:] = self.view[start + first : start + end]
            return
        flags, total, block_size = self._header(start)
        for block in range(first // block_size, (end - 1) // block_size + 1):
            begin = block * block_size
            if held.where != (chunk, block):
                held.where = (-1, -1)  # should this block be damaged
                size = min(block_size, total - begin)
                held.data = self._block(start, flags, block, block_size, held.room(size))
                held.where = (chunk, block)
            part = held.data[max(first - begin, 0) : end - begin]
            out[done : done + len(part)] = part
            done += len(part)
        if done != len(out):
            raise ValueError("a chunk that is too short")

    def _announce(self, plan: np.ndarray) -> None:
        """First where the chunks say where their blocks are, then the blocks of these rows."""
        for start in np.unique(plan[:, 2]).tolist():
            self._will_need(start, start + _TABLE)
        for chunk, row, start, length in plan.tolist():
            first, end = row * self.row_bytes, (row + 1) * self.row_bytes
            if not self.raw[chunk]:
                try:
                    _, total, size = self._header(start)
                except ValueError:
                    continue  # damaged, as reading it will say
                block, after = first // size, (end - 1) // size + 1
                at = start + _HEADER.size + 4 * block
                is_last = after * size >= total
                places = struct.unpack_from(f"<{after - block + (not is_last)}i", self.view, at)
                first, end = min(places), length if is_last else max(places)
            self._will_need(start + first, start + end)

    def _header(self, start: int) -> tuple[int, int, int]:
        """Flags, bytes of data and bytes of a block, of the chunk at byte `start`."""
        _, _, flags, _, total, block_size, _ = _HEADER.unpack_from(self.view, start)
        if total != self.row_bytes * self.chunk_rows or not 0 < block_size <= total:
            raise ValueError("a header that is not that of these frames")
        return flags, total, block_size

    def _block(self, start: int, flags: int, block: int, block_size: int, room: memoryview) -> memoryview:
        """What block number `block` of the chunk at byte `start` holds, as much as there is room."""
        if flags & _PLAIN:
            at = start + _HEADER.size + block * block_size
            return memoryview(self.view[at : at + len(room)])
        (offset,) = struct.unpack_from("<i", self.view, start + _HEADER.size + 4 * block)
        (packed,) = struct.unpack_from("<i", self.view, start + offset)
        at = start + offset + 4
        source = self.view[at : at + packed]
        plain = packed == len(room)
        data = memoryview(source) if plain else self._unpackers[flags >> 5](source, room)
        if len(data) != len(room):
            raise ValueError("a block that is too short")
        return data
