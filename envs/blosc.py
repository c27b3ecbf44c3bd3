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
import zlib
from collections.abc import Callable
from typing import Any

from envs.frames import Chunks

FILTER = 32001  # Blosc's number among the HDF5 filters
_HEADER = struct.Struct("<BBBBIII")
_PLAIN, _BIT_SHUFFLE = 0x02, 0x04  # flags; the codec is in the three highest bits
Unpack = Callable[[Any, int], bytes]  # packed block, size of what it holds


def codec(view: Any, start: int) -> Unpack | None:
    """How to unpack the blocks of the chunk at byte `start`; None where only the HDF5 library can.

    LZ4 needs the package lz4, an extra.
    """
    version, _, flags, item, *_ = _HEADER.unpack_from(view, start)
    if version != 2 or item != 1 or flags & _BIT_SHUFFLE:
        return None
    if flags >> 5 == 3:
        return lambda packed, size: zlib.decompress(packed, bufsize=size)
    if flags >> 5 == 1:
        try:
            from lz4.block import decompress
        except ImportError:
            return None
        return lambda packed, size: decompress(packed, uncompressed_size=size)
    return None


class BloscChunks(Chunks):
    """A column of frames, uint8, in chunks of many rows that Blosc packed: only the blocks of a row are read.

    unpack: from `codec`; the chunks must all be packed alike.
    """

    def __init__(self, *args: Any, unpack: Unpack, **options: Any) -> None:
        super().__init__(*args, **options)
        self._unpack_block = unpack

    def _copy(self, chunk: int, row: int, start: int, length: int, held: Any, out: memoryview) -> None:
        first, end, done = row * self.row_bytes, (row + 1) * self.row_bytes, 0
        if self.raw[chunk]:
            out[:] = self.view[start + first : start + end]
            return
        _, _, flags, _, total, block_size, _ = _HEADER.unpack_from(self.view, start)
        for block in range(first // block_size, (end - 1) // block_size + 1):
            begin = block * block_size
            if held.where != (chunk, block):
                held.data = self._block(start, flags, block, min(block_size, total - begin), block_size)
                held.where = (chunk, block)
            part = held.data[max(first - begin, 0) : end - begin]
            out[done : done + len(part)] = part
            done += len(part)
        if done != len(out):
            raise ValueError("a chunk that is too short")

    def _block(self, start: int, flags: int, block: int, size: int, block_size: int) -> memoryview:
        """What block number `block` of the chunk at byte `start` holds, `size` bytes."""
        if flags & _PLAIN:
            at = start + _HEADER.size + block * block_size
            return memoryview(self.view[at : at + size])
        (offset,) = struct.unpack_from("<i", self.view, start + _HEADER.size + 4 * block)
        (packed,) = struct.unpack_from("<i", self.view, start + offset)
        at = start + offset + 4
        source = self.view[at : at + packed]
        data = source if packed == size else self._unpack_block(source, size)
        if len(data) != size:
            raise ValueError("a block that is too short")
        return memoryview(data)
