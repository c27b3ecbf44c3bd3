"""HDF5 files that nobody vouches for: what is read of them is in them, ends, and needs no more memory than
they can fill.

An HDF5 file may keep its data in other files (external storage, links, virtual data sets), may claim shapes
that it does not fill, and, damaged in one byte, may send the HDF5 library into an endless loop while it reads
text of variable length. So columns are found by hard links alone, sizes are compared with the file's, and
such text is read by another process that gets a time limit:

    python hdf5_files.py FILE SIZE NAME ...      prints those attributes as JSON
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

SECONDS = 30.0  # for text of variable length
ALWAYS = 64 << 20  # bytes that any file may claim
UNPACKED = 2000  # times its size that a file may claim; zlib reaches 1,032
LARGEST_CHUNK = 512 << 20  # bytes, unpacked
LARGEST_ATTRIBUTE = 64 << 20  # bytes
_DEFLATED = 1032  # bytes that one byte of a zlib stream can become, at most


class FileRefused(ValueError):
    """The file is not one that is read here; the message is the reason, without the file's name."""


def find(group: Any, key: str, depth: int = 0) -> Any:
    """The group or data set of that name, its parts parted by /, or None. FileRefused for what lies outside
    of the file."""
    here = group.file if key.startswith("/") else group
    for part in filter(None, key.split("/")):
        link = here.get(part, getlink=True) if isinstance(here, h5py.Group) else None
        if link is None:
            return None
        if isinstance(link, h5py.ExternalLink) or depth > 8:
            raise FileRefused(f"{part!r} is a link to another file")
        if isinstance(link, h5py.SoftLink):
            here = find(here, link.path, depth + 1)
        else:
            here = here[part]
        if isinstance(here, h5py.Dataset):
            _check_place(part, here)
    return here


def columns(group: h5py.Group) -> dict[str, h5py.Dataset]:
    """The data sets right in a group, as the file's root. FileRefused where one lies outside of the file."""
    found = {name: find(group, name) for name in group}
    return {name: item for name, item in found.items() if isinstance(item, h5py.Dataset)}


def _check_place(name: str, dataset: h5py.Dataset) -> None:
    """FileRefused unless the data are in this file. Asks for nothing that opens another one."""
    properties = dataset.id.get_create_plist()
    if properties.get_layout() == h5py.h5d.VIRTUAL or properties.get_external_count():
        raise FileRefused(f"the data of {name!r} are kept in another file")


def check_size(name: str, dataset: h5py.Dataset, size: int) -> None:
    """FileRefused where a file of `size` bytes cannot fill the shape that the data set claims."""
    claimed = dataset.dtype.itemsize
    for side in dataset.shape:
        claimed *= int(side)
    if claimed > max(ALWAYS, UNPACKED * size):
        raise FileRefused(f"{name!r} has the shape {dataset.shape}, more than its {size:,} bytes can fill")
    if dataset.chunks:
        chunk = int(np.prod([float(side) for side in dataset.chunks])) * dataset.dtype.itemsize
        if chunk > LARGEST_CHUNK:
            raise FileRefused(f"{name!r} is packed in pieces of {chunk >> 20} MiB: pack it in smaller ones")


def check_filled(name: str, dataset: h5py.Dataset) -> None:
    """FileRefused where rows were never written, which the library shows as zeros."""
    if not dataset.size:
        return
    if dataset.chunks is None:
        filled = dataset.id.get_storage_size() >= dataset.nbytes
    else:
        counts = [-(-side // chunk) for side, chunk in zip(dataset.shape, dataset.chunks)]
        filled = dataset.id.get_num_chunks() >= int(np.prod(counts))
    if not filled:
        raise FileRefused(f"{name!r} has rows that were never written")


def check_packing(name: str, dataset: h5py.Dataset) -> None:
    """FileRefused where a piece of the data set unpacks to far more than it should: the library would ask for
    all that memory."""
    properties = dataset.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    deflated = filters.count(h5py.h5z.FILTER_DEFLATE)
    if not deflated or dataset.chunks is None:
        return
    if deflated > 1:
        raise FileRefused(f"{name!r} is packed twice")
    size = int(np.prod(dataset.chunks)) * dataset.dtype.itemsize
    large: list[tuple[int, ...]] = []
    dataset.id.chunk_iter(
        lambda chunk: large.append(chunk.chunk_offset) if chunk.size * _DEFLATED > LARGEST_CHUNK else None
    )
    for offset in large:
        skipped, packed = dataset.id.read_direct_chunk(offset)
        stream = zlib.decompressobj()
        with suppress(zlib.error):  # another filter came after it, or it is damaged, as reading will say
            if not skipped and len(stream.decompress(packed, size + 1)) > size:
                raise FileRefused(f"{name!r} unpacks to more than its shape")


def attributes(path: Path, file: h5py.File, padded_to: int = 0) -> dict[str, Any]:
    """The file's own attributes as plain Python: numbers, text, lists of them, and what JSON text says.

    padded_to: the size that a cut-off file is to be seen with, see `Padded`. Anything else than numbers and
    text is left out. FileRefused where they cannot be read.
    """
    found, text = {}, []
    for name in file.attrs:
        attribute = h5py.h5a.open(file.id, name.encode("utf-8", "surrogateescape"))
        kind = attribute.get_type()
        if kind.get_class() == h5py.h5t.STRING and kind.is_variable_str():
            text.append(name)
        elif kind.get_class() in (h5py.h5t.INTEGER, h5py.h5t.FLOAT, h5py.h5t.STRING, h5py.h5t.ENUM):
            if attribute.get_storage_size() > LARGEST_ATTRIBUTE:
                raise FileRefused(f"its attribute {name!r} is too large")
            found[name] = plain(file.attrs[name])
    if text:
        found |= _in_another_process(path, padded_to, text)
    return found


def plain(value: Any) -> Any:
    """An attribute as plain Python."""
    if isinstance(value, h5py.Empty):
        return None
    if isinstance(value, (np.ndarray, np.generic)):
        fixed = value.dtype.kind == "S"
        value = value.tolist()
    else:
        fixed = False
    if isinstance(value, list):
        return [item.decode(errors="replace") if isinstance(item, bytes) else item for item in value]
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str) and (fixed or value.startswith(("[", "{", "null"))):
        with suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def _in_another_process(path: Path, padded_to: int, names: Sequence[str]) -> dict[str, Any]:
    asked = [json.dumps(name) for name in names]
    command = [sys.executable, "-P", __file__, str(path), str(padded_to), *asked]
    try:
        done = subprocess.run(command, capture_output=True, timeout=SECONDS, stdin=subprocess.DEVNULL)
    except subprocess.TimeoutExpired:
        raise FileRefused("reading its attributes does not come to an end") from None
    try:
        return dict(json.loads(done.stdout))
    except ValueError:
        raise FileRefused("its attributes are damaged") from None


class Padded(io.RawIOBase):
    """A file that seems to be `size` bytes long; what it lacks reads as zeros."""

    def __init__(self, file: io.BufferedReader, size: int) -> None:
        self.file, self.size, self.position = file, size, 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self.position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        return self.position

    def tell(self) -> int:
        return self.position

    def readinto(self, buffer: Any) -> int:
        self.file.seek(self.position)
        data = self.file.read(len(buffer))
        buffer[:] = data.ljust(len(buffer), b"\0")
        self.position += len(buffer)
        return len(buffer)


def main(path: str, padded_to: str, *names: str) -> None:
    """The program of the other process."""
    with open(path, "rb") as whole:
        source: Any = Padded(whole, int(padded_to)) if int(padded_to) else path
        options = {} if int(padded_to) else {"locking": "best-effort"}
        with h5py.File(source, "r", **options) as file:
            found = {name: plain(file.attrs[name]) for name in map(json.loads, names)}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
