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
import math
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latent_planner.common.files import lock, open_to_change
from latent_planner.common.printable import printable

MAGIC = b"episodes journal 1\n"
MARK = b"EPIS"
FORMAT_VERSION = 1  # of the HDF5 file that a journal becomes
OWN_NAMES = ("ep_len", "ep_offset")  # columns that the file adds
LARGEST_ROW = 2**32  # bytes, of HDF5
LARGEST_SIDE = 16_384  # px of a frame
_SIZES = struct.Struct("<4sIQ")
_CRC = struct.Struct("<I")


class RecordingError(ValueError):
    """A recording cannot be read or written as asked; the message says why and what to do."""


class BeingWritten(RecordingError):
    """Another process is writing this recording."""


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


def check_frames(what: str, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    """RecordingError unless these are frames, uint8 (N, H, W, 3); `what` begins the sentence."""
    if dtype == np.uint8 and len(shape) == 4 and shape[3] == 3:
        if all(1 <= side <= LARGEST_SIDE for side in shape[1:3]):
            return
        raise RecordingError(
            f"{what} of {shape[2]} x {shape[1]} px; frames have 1 to {LARGEST_SIDE:,} px a side"
        )
    hint = frame_hint(dtype, shape)
    raise RecordingError(f"{what} {dtype} of shape {shape}; they must be uint8 (N, H, W, 3): {hint}")


def frame_hint(dtype: np.dtype, shape: tuple[int, ...]) -> str:
    """What makes frames of something that is none."""
    if len(shape) == 4 and shape[1] == 3 and shape[3] != 3:
        return "transpose them, frames.transpose(0, 2, 3, 1)"
    if len(shape) == 4 and shape[3] == 4:
        return "leave out the fourth channel, frames[..., :3]"
    if len(shape) == 4 and shape[3] == 1:
        return "repeat the one channel, frames.repeat(3, axis=3)"
    if dtype.kind == "f":
        return "if they go from 0 to 1, take (frames * 255).astype(numpy.uint8)"
    return "record it again"


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
        found = json.loads(json.dumps(dict(attrs), default=lambda value: value.tolist()))
    except (TypeError, ValueError, AttributeError, RecursionError) as error:
        raise RecordingError(
            "attributes of a recording are text, numbers, lists and dictionaries of them, not "
            f"{printable(attrs)}"
        ) from error
    for name in found:
        if name == "format_version" or not _is_name(name):
            raise RecordingError(f"an attribute of a recording cannot be called {name!r}: rename it")
    return found


def _is_name(name: Any) -> bool:
    """Whether an HDF5 file can call something so."""
    if not isinstance(name, str) or not 0 < len(name) <= 255 or "\0" in name:
        return False
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


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
            attrs = dict(head)
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
            self._file = open_to_change(path, os.O_RDWR)
        except OSError as error:
            raise RecordingError(f"cannot write {path}: {error.strerror}") from error
        try:
            if not lock(self._file):
                raise BeingWritten(f"another process is writing {path}: wait for it, or choose another file")
            self._resume(attrs)
        except BaseException:
            self.close()
            raise

    def append(self, record: bytes) -> None:
        """Add one episode, made by `encode`; after an error the journal is as it was before."""
        found = list(_records(record, 0, False))
        if len(found) != 1:
            raise RecordingError(f"an episode for {self.path} is not what encode makes: encode it again")
        ((head, start, stop),) = found
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
            try:
                with mmap.mmap(self._file, 0, access=mmap.ACCESS_READ) as view:
                    found, episodes, end = scan(view, verify=True)
            except (ValueError, TypeError, KeyError, OverflowError) as error:
                raise RecordingError(f"{self.path} is damaged: delete it and record again") from error
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
        values = found.get(key), asked.get(key)
        if json.dumps(values[0]) != json.dumps(values[1]):  # NaN equals NaN here
            there, ours = map(printable, values)
            raise RecordingError(
                f"{path} was recorded with {printable(key)}={there} and not {ours}: delete it, or choose "
                "another file"
            )


def _checked(columns: Mapping[str, Any]) -> dict[str, np.ndarray]:
    missing = [name for name in ("pixels", "action") if name not in columns]
    if missing:
        listed = ", ".join(printable(name) for name in columns)
        raise RecordingError(f"an episode needs the columns pixels and action, and has {listed}")
    for name in columns:
        if not _is_name(name) or name in (*OWN_NAMES, ".", "..") or "/" in name:
            raise RecordingError(f"a column of a recording cannot be called {name!r}: choose another name")
    try:
        arrays = {name: np.asarray(array) for name, array in columns.items()}
    except ValueError as error:
        raise RecordingError(f"the columns of an episode are arrays, a row a frame: {error}") from error
    _check_kinds(arrays)
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    if "state" in arrays:
        arrays["state"] = _as_floats(arrays["state"])
    action = arrays["action"]
    if not np.isfinite(action[:-1]).all():
        step = int(np.flatnonzero(~np.isfinite(action[:-1]).all(axis=1))[0])
        raise RecordingError(f"action {step} of an episode of {len(action)} rows is not finite: leave it out")
    arrays["action"] = action.copy()
    arrays["action"][-1] = np.nan
    return {name: array.astype(array.dtype.newbyteorder("<"), copy=False) for name, array in arrays.items()}


def _check_kinds(arrays: Mapping[str, np.ndarray]) -> None:
    """RecordingError where a column has another type or shape than it must have."""
    pixels, action = arrays["pixels"], arrays["action"]
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3:
        raise RecordingError(
            f"pixels of an episode are uint8 (T, H, W, 3), not {pixels.dtype} of shape {pixels.shape}: "
            + frame_hint(pixels.dtype, pixels.shape)
        )
    check_frames("pixels of an episode are", pixels.dtype, pixels.shape)
    if action.dtype.kind != "f" or action.ndim != 2:
        raise RecordingError(
            f"actions of an episode are float (T, A), not {action.dtype} of shape {action.shape}"
        )
    lengths = {name: len(array) if array.ndim else 0 for name, array in arrays.items()}
    if len(set(lengths.values())) > 1 or not len(pixels):
        raise RecordingError(f"the columns of an episode have as many rows each, at least one, not {lengths}")
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
            raise RecordingError(
                f"the column {name} holds {array.dtype}: only numbers of up to 64 bits can be recorded"
            )
        if not 0 < array[:1].nbytes < LARGEST_ROW:
            raise RecordingError(
                f"the column {name} has rows of shape {array.shape[1:]}: they must hold a number at least, "
                "and less than 4 GiB"
            )


def _as_floats(values: np.ndarray) -> np.ndarray:
    """A state of any numbers (T, ...) as it is read: float (T, S)."""
    rows = values.reshape(len(values), -1)
    if rows.dtype.kind == "f":
        return rows
    return rows.astype(np.float32 if rows.dtype.kind == "b" or rows.dtype.itemsize <= 2 else np.float64)


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
    """Where an episode lies. ValueError, TypeError or KeyError where its head is not one."""
    columns, length = {}, int(head["length"])
    for name, entry in head["columns"].items():
        dtype, shape = np.dtype(entry["dtype"]), tuple(int(side) for side in entry["shape"])
        sizes = np.array(entry["sizes"], np.int64) if "sizes" in entry else None
        columns[name] = Column(dtype, shape, offset, sizes)
        if dtype.kind not in "fiub" or min(shape, default=1) < 1 or length < 1:
            raise ValueError(f"no column of a recording: {entry}")
        if sizes is None:
            offset += length * math.prod(shape) * dtype.itemsize
        elif is_frames(dtype, shape) and max(shape) <= LARGEST_SIDE and len(sizes) == length <= sizes.sum():
            offset += int(sizes.sum())
        else:
            raise ValueError(f"no frames of a recording: {entry}")
        if offset > end:
            raise ValueError("an episode that is longer than its record")
    return Episode(length, columns, end)


def _describe(layout: Mapping[str, tuple[str, tuple[int, ...]]]) -> str:
    return ", ".join(f"{name} {dtype}{list(shape)}" for name, (dtype, shape) in layout.items())
