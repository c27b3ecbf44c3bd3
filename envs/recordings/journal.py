"""The unfinished recording: a file that only ever grows, by whole episodes.

HDF5 keeps its index in memory while it writes, so a process that dies can leave a file which nothing opens.
Episodes are therefore appended to a journal first; `EpisodeWriter.close` makes the HDF5 file of it. A record
is either all there or cut off at the end of the file, where reading stops and the next writer goes on.

    file     MAGIC, then records: the first holds the attributes, every other one an episode
    record   MARK, size of head (uint32), size of body (uint64), head (JSON), body, crc32 of head and body
    body     the columns one after the other: each frame of a frame column as a zlib stream, other columns raw
"""

from __future__ import annotations

import json
import mmap
import os
import struct
import sys
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = b"episodes journal 1\n"
MARK = b"EPIS"
_SIZES = struct.Struct("<4sIQ")
_CRC = struct.Struct("<I")


class RecordingError(ValueError):
    """A recording cannot be read or written as asked; the message says why and what to do."""


@dataclass(frozen=True)
class Column:
    """One column of one episode: rows of `shape` and `dtype`, at byte `offset` of the journal.

    `sizes` (T,) are the compressed sizes of a frame column's frames, None for a column stored raw.
    """

    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    sizes: np.ndarray | None

    @property
    def layout(self) -> tuple[str, tuple[int, ...]]:
        """What must be the same in every episode."""
        return self.dtype.str, self.shape


@dataclass(frozen=True)
class Episode:
    """Where an episode of `length` rows lies in the journal; its record ends at byte `end`."""

    length: int
    columns: dict[str, Column]
    end: int

    @property
    def layout(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        return {name: column.layout for name, column in self.columns.items()}


def is_frames(dtype: np.dtype, shape: tuple[int, ...]) -> bool:
    """Whether a column with rows of this dtype and shape holds pictures, which are worth compressing."""
    return dtype == np.uint8 and len(shape) == 3


def encode(columns: Mapping[str, Any]) -> bytes:
    """One episode as a journal record.

    columns   name -> array (T, ...): pixels uint8 (T, H, W, 3), action float (T, A) and whatever else was
              recorded. The last action is never used and becomes NaN.

    Raises RecordingError for columns that are missing, misshapen or of different lengths, and for actions
    that are not finite.
    """
    arrays = _checked(columns)
    head: dict[str, Any] = {"length": len(arrays["pixels"]), "columns": {}}
    body: list[bytes] = []
    for name, array in arrays.items():
        entry: dict[str, Any] = {"dtype": array.dtype.str, "shape": array.shape[1:]}
        if is_frames(array.dtype, array.shape[1:]):
            # one stream a frame, so that a window reads its own frames only; higher levels read slower too
            streams = [zlib.compress(frame, 1) for frame in array]
            entry["sizes"] = [len(stream) for stream in streams]
            body += streams
        else:
            body.append(array.tobytes())
        head["columns"][name] = entry
    return _record(head, b"".join(body))


def plain(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as JSON gives them back: lists for tuples and arrays."""
    try:
        return json.loads(json.dumps(dict(attrs), default=lambda value: value.tolist()))
    except (TypeError, ValueError, AttributeError) as error:
        raise RecordingError(
            f"attributes of a recording are text, numbers, lists and dictionaries of them, not {attrs}"
        ) from error


def header(attrs: Mapping[str, Any]) -> bytes:
    """The start of a journal: magic and attributes, which are anything that JSON can hold."""
    return MAGIC + _record(dict(attrs), b"")


def is_journal(start: bytes) -> bool:
    """Whether a file that begins with these bytes is a journal."""
    return start.startswith(MAGIC)


def scan(view: Any, *, verify: bool) -> tuple[dict[str, Any] | None, list[Episode], int]:
    """The attributes, the complete episodes and the byte where they end, of a journal held in a buffer.

    verify   check every record's checksum; otherwise only the last one's, as a dying writer leaves only its
             last record incomplete
    Attributes are None where even they are cut off.
    """
    attrs: dict[str, Any] | None = None
    episodes: list[Episode] = []
    end = len(MAGIC)
    for head, start, stop in _records(view, end, verify):
        if attrs is None:
            attrs = head
        else:
            episodes.append(_episode(head, start, stop))
        end = stop
    return attrs, episodes, end


class JournalWriter:
    """Appends records to the journal at `path`, after the complete ones that it already holds.

    Only one process at a time: the file is locked while it is open.
    Raises RecordingError where another process writes it, where it is of other attributes, or on a full disk.
    """

    def __init__(self, path: Path, attrs: dict[str, Any]) -> None:
        self.path = path
        self.length = 0
        self.layout: dict[str, Any] | None = None
        self.count = 0
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        except OSError as error:
            raise RecordingError(f"cannot write {path}: {error.strerror}") from error
        try:
            _lock(self._file, path)
            self._resume(attrs)
        except BaseException:
            self.close()
            raise

    def append(self, record: bytes) -> None:
        """Add one episode, made by `encode`; after an error the journal is as it was before."""
        ((head, start, stop),) = _records(record, 0, False)
        layout = _episode(head, start, stop).layout
        if self.layout is not None and layout != self.layout:
            raise RecordingError(
                f"an episode for {self.path} has the columns {_describe(layout)} and those before it "
                f"{_describe(self.layout)}: record them in two files"
            )
        self._write(record)
        self.layout = layout
        self.count += 1

    @property
    def closed(self) -> bool:
        return self._file < 0

    def close(self) -> None:
        """Let go of the file; it keeps what was appended."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _resume(self, attrs: dict[str, Any]) -> None:
        size = os.fstat(self._file).st_size
        with suppress(FileNotFoundError), open(self.path, "rb") as file:
            start = file.read(len(MAGIC))
            if not MAGIC.startswith(start) and not is_journal(start):
                raise RecordingError(f"{self.path} is not an unfinished recording: move it away")
        found: dict[str, Any] | None = None
        episodes: list[Episode] = []
        end = 0
        if size > len(MAGIC):
            with mmap.mmap(self._file, 0, access=mmap.ACCESS_READ) as view:
                found, episodes, end = scan(view, verify=True)
        if found is None:
            os.ftruncate(self._file, 0)
            self._write(header(attrs))
            return
        check_same(self.path, found, attrs)
        self.count, self.length = len(episodes), end
        self.layout = episodes[0].layout if episodes else None
        os.ftruncate(self._file, end)

    def _write(self, data: bytes) -> None:
        try:
            os.lseek(self._file, self.length, os.SEEK_SET)
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
        except BaseException as error:
            with suppress(OSError):
                os.ftruncate(self._file, self.length)
            if isinstance(error, OSError):
                raise RecordingError(
                    f"{self.path} cannot grow ({error.strerror}): its {self.count} complete episodes are "
                    "kept; make room and run the same command again to go on"
                ) from error
            raise
        self.length += len(data)


def check_same(path: Path, found: Mapping[str, Any], asked: Mapping[str, Any]) -> None:
    """Raise RecordingError where attributes found in the file at `path` differ from those asked for."""
    for key in [*asked, *(key for key in found if key not in asked)]:
        if found.get(key) != asked.get(key):
            raise RecordingError(
                f"{path} was recorded with {key}={found.get(key)} and not {asked.get(key)}: delete it, or "
                "choose another file"
            )


def _checked(columns: Mapping[str, Any]) -> dict[str, np.ndarray]:
    missing = [name for name in ("pixels", "action") if name not in columns]
    if missing:
        raise RecordingError(f"an episode needs the columns pixels and action, and has {', '.join(columns)}")
    arrays = {name: np.ascontiguousarray(array) for name, array in columns.items()}
    pixels, action = arrays["pixels"], arrays["action"]
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise RecordingError(
            f"pixels of an episode are uint8 (T, H, W, 3), not {pixels.dtype} of shape {pixels.shape}"
        )
    if action.dtype.kind != "f" or action.ndim != 2:
        raise RecordingError(
            f"actions of an episode are float (T, A), not {action.dtype} of shape {action.shape}"
        )
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or not len(pixels):
        raise RecordingError(f"the columns of an episode have as many rows each, at least one, not {lengths}")
    odd = [name for name, array in arrays.items() if array.dtype.kind not in "fiub"]
    if odd:
        raise RecordingError(
            f"the column {odd[0]} holds {arrays[odd[0]].dtype}: only numbers can be recorded"
        )
    if not np.isfinite(action[:-1]).all():
        step = int(np.flatnonzero(~np.isfinite(action[:-1]).all(axis=1))[0])
        raise RecordingError(f"action {step} of an episode of {len(action)} rows is not finite: leave it out")
    arrays["action"] = action.copy()
    arrays["action"][-1] = np.nan
    return {name: array.astype(array.dtype.newbyteorder("<"), copy=False) for name, array in arrays.items()}


def _record(head: dict[str, Any], body: bytes) -> bytes:
    text = json.dumps(head, separators=(",", ":")).encode()
    crc = zlib.crc32(body, zlib.crc32(text))
    return b"".join((_SIZES.pack(MARK, len(text), len(body)), text, body, _CRC.pack(crc)))


def _records(view: Any, position: int, verify: bool) -> Iterator[tuple[dict[str, Any], int, int]]:
    """(head, start of the body, end of the record) of the complete records from byte `position` on."""
    total = len(view)
    while position + _SIZES.size <= total:
        mark, head_size, body_size = _SIZES.unpack(view[position : position + _SIZES.size])
        text = position + _SIZES.size
        body = text + head_size
        end = body + body_size + _CRC.size
        if mark != MARK or end > total:
            return
        if verify or end == total:
            with memoryview(view) as whole, whole[text : end - _CRC.size] as content:
                if zlib.crc32(content) != _CRC.unpack(view[end - _CRC.size : end])[0]:
                    return
        try:
            head = json.loads(bytes(view[text:body]))
        except ValueError:
            return
        yield head, body, end
        position = end


def _episode(head: dict[str, Any], offset: int, end: int) -> Episode:
    columns = {}
    for name, entry in head["columns"].items():
        dtype, shape = np.dtype(entry["dtype"]), tuple(entry["shape"])
        sizes = np.array(entry["sizes"], np.int64) if "sizes" in entry else None
        columns[name] = Column(dtype, shape, offset, sizes)
        row = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        offset += head["length"] * row if sizes is None else int(sizes.sum())
    return Episode(head["length"], columns, end)


def _describe(layout: Mapping[str, tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} {dtype}{list(shape)}" for name, (dtype, shape) in layout.items())


def _lock(file: int, path: Path) -> None:
    """Keep other processes from writing the open `file`; the system lets go of it when this process ends."""
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file, 1 << 40, os.SEEK_SET)  # a byte that nobody reads: locks are mandatory there
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError) as error:
        raise RecordingError(
            f"another process is writing {path}: wait for it, or choose another file"
        ) from error
    except OSError:
        pass  # file systems without locks
