"""The text in a PNG file, read without its picture: nothing is decoded, whatever the file claims to hold."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator

from latent_planner.common.files import read_bytes

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST = 512 << 20  # bytes of a file
_HEAD = struct.Struct(">I4s")  # length and kind of a chunk; then its data, and their checksum


def read_text(path: str | os.PathLike, key: str, most: int) -> str | None:
    """The first text of this key, of at most `most` bytes; None where there is none, or it is damaged.

    OSError for a file that cannot be read or is no regular file.
    """
    name = key.encode("latin-1") + b"\0"
    for kind, data in _chunks(read_bytes(path, LARGEST)):
        if kind in (b"tEXt", b"zTXt", b"iTXt") and data[: len(name)] == name:
            return _unpacked(kind, bytes(data[len(name) :]), most)
    return None


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    """Kind and data of each whole chunk whose checksum is right."""
    view, at = memoryview(data), len(SIGNATURE)
    if view[:at] != SIGNATURE:
        return
    while at + _HEAD.size <= len(view):
        length, kind = _HEAD.unpack(view[at : at + _HEAD.size])
        start, end = at + _HEAD.size, at + _HEAD.size + length
        if end + 4 > len(view):
            return
        if kind.endswith(b"t") and zlib.crc32(view[at + 4 : end]) == int.from_bytes(
            view[end : end + 4], "big"
        ):
            yield kind, view[start:end]
        at = end + 4


def _unpacked(kind: bytes, data: bytes, most: int) -> str | None:
    """What a chunk says after its key; zTXt is packed, and iTXt may be, after its languages."""
    packed = kind == b"zTXt"
    if packed:
        data = data[1:]
    elif kind == b"iTXt":
        packed = data[:1] == b"\1"
        data = data[2:].split(b"\0", 2)[-1]
    if packed:
        try:
            data = zlib.decompressobj().decompress(data, most + 1)
        except zlib.error:
            return None
    if len(data) > most:
        return None
    return data.decode("utf-8" if kind == b"iTXt" else "latin-1", errors="replace")
