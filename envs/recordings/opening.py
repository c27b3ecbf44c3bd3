"""Find out what a recording is, and open it: HDF5, an unfinished journal, or a LeRobot folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import hdf5
from .columns import Chunks, Memory, map_file
from .formats import lerobot
from .formats.border import readable
from .journal import RecordingError, is_journal, scan


def partial_path(path: str | Path) -> Path:
    """Where the episodes of the recording `path` are kept until it is complete."""
    return Path(f"{path}.partial")


def open_recording(path: Path, keys: dict[str, str]) -> tuple[hdf5.Opened, bool]:
    """The recording at `path`, and whether it is a journal that somebody may be writing still."""
    if path.is_dir():
        with readable(path, "a LeRobot dataset"):
            return lerobot.read(path, keys), False
    with open(path, "rb") as file:
        unfinished = is_journal(file.read(64))
    return (_open_journal(path), True) if unfinished else (hdf5.read(path, keys), False)


def existing(path: Path) -> Path:
    """`path`, or what is there of it."""
    if path.is_dir():
        if lerobot.is_dataset(path):
            return path
        raise RecordingError(
            f"{path} is a folder and no LeRobot dataset (it lacks {lerobot.INFO}): give the recording's file"
        )
    if not path.exists() and not partial_path(path).exists():
        raise RecordingError(f"there is no recording {path}: collect one, or check the name")
    path = path if path.exists() else partial_path(path)
    if not path.stat().st_size:
        raise RecordingError(f"{path} is empty: delete it and record again")
    return path


def _open_journal(path: Path) -> hdf5.Opened:
    view = map_file(path)
    attrs, episodes, _ = scan(view, verify=False)
    if not episodes:
        raise RecordingError(f"{path} holds no complete episode yet: go on recording")
    lengths = np.array([episode.length for episode in episodes], np.int64)
    columns: dict[str, hdf5.Column] = {}
    for name, (text, shape) in episodes[0].layout.items():
        dtype, parts = np.dtype(text), [episode.columns[name] for episode in episodes]
        if any(part.sizes is not None for part in parts):
            sizes = np.concatenate([part.sizes for part in parts if part.sizes is not None])
            starts = [
                part.offset + np.cumsum(part.sizes) - part.sizes for part in parts if part.sizes is not None
            ]
            rows = (int(lengths.sum()), *shape)
            columns[name] = Chunks(view, path, offsets=np.concatenate(starts), sizes=sizes, shape=rows)
        else:
            count = int(np.prod(shape, dtype=np.int64))
            raw = [
                np.frombuffer(view, dtype, n * count, part.offset) for n, part in zip(lengths.tolist(), parts)
            ]
            columns[name] = Memory(np.concatenate(raw).reshape(-1, *shape))
    return hdf5.Opened(attrs or {}, lengths, np.cumsum(lengths) - lengths, columns)
