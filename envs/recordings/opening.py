"""Find out what a recording is, and open it: HDF5, an unfinished journal, or a layout of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from . import hdf5
from .columns import Chunks, Memory, map_file
from .formats import lance, lerobot, robomimic, stable_worldmodel
from .formats.border import readable, visible
from .formats.video import ENDINGS
from .journal import RecordingError, check_frames, is_journal, scan
from .sharded import layout, reading

# readers of folders: `is_dataset` says whether one is theirs
FOLDERS: tuple[tuple[Any, str], ...] = (
    (lerobot, "a LeRobot dataset"),
    (stable_worldmodel, "a folder of stable-worldmodel"),
    (lance, "a Lance table"),
)
READ_HERE = "an HDF5 file, or a folder of shards, LeRobot, Lance or stable-worldmodel"
# what others record and is not read here: files or parts of folders by which it is known
OTHERS = {
    "an RLDS or TFDS data set": ("dataset_info.json", "*.tfrecord*", "*/*.tfrecord*", "*/*/*.tfrecord*"),
    "a Zarr store": (".zgroup", "zarr.json", ".zmetadata", "*.zarr", "*.zarr.zip"),
    "a ROS bag": ("*.mcap", "*.db3", "*.bag"),
    "a pickle, which could run any program": ("*.pkl", "*.pickle", "*.pt", "*.pth"),
    "a table without its dataset": ("*.parquet", "*.arrow", "*.csv", "*.jsonl"),
    "an array without its dataset": ("*.npz", "*.npy"),
    "a video without its table (use latent-planner from-videos)": tuple(f"*{ending}" for ending in ENDINGS),
}


def partial_path(path: str | Path) -> Path:
    """Where the episodes of the recording `path` are kept until it is complete."""
    return Path(f"{path}.partial")


def open_recording(path: Path, keys: dict[str, str]) -> tuple[hdf5.Opened, bool]:
    """The recording at `path`, and whether it is one that somebody may be writing still.

    keys: the recording's names of our columns; "" for one that is not wanted, and may be missing.
    """
    everything, keys = keys, {name: key for name, key in keys.items() if key}
    if path.is_dir():
        if layout.is_sharded(path):
            return reading.read(path, everything)
        for reader, what in FOLDERS:
            if reader.is_dataset(path):
                if reader is not lerobot:
                    _one_camera(path, keys)
                with readable(path, what):
                    return reader.read(path, keys), False
    with open(path, "rb") as file:
        unfinished = is_journal(file.read(64))
    if unfinished:
        return _open_journal(path), True
    if not h5py.is_hdf5(path):
        raise RecordingError(f"{path} is not a recording: it is {_other(path) or 'not an HDF5 file'}")
    if robomimic.is_recording(path):
        _one_camera(path, keys)
        return robomimic.read(path, keys), False
    return hdf5.read(path, everything), False


def _one_camera(path: Path, keys: dict[str, str]) -> None:
    """RecordingError where more than one camera is asked for, or the robot's own vector."""
    if set(keys) - {"pixels", "action", "state"}:
        raise RecordingError(
            f"{path}: several cameras and data.proprio are read from HDF5 files and LeRobot folders only: "
            "write such a file with EpisodeWriter, or choose one camera with data.camera"
        )


def existing(path: Path) -> Path:
    """`path`, or what is there of it."""
    if path.is_dir():
        if layout.is_sharded(path) or any(reader.is_dataset(path) for reader, _ in FOLDERS):
            return path
        files = visible(path, "*.h5") + visible(path, "*.hdf5")
        if len(files) == 1:
            return files[0]
        if files:
            raise RecordingError(f"{path} holds {len(files)} HDF5 files: give one of them")
        what = _other(path)
        raise RecordingError(
            f"{path} is a folder and no LeRobot dataset (it lacks {lerobot.INFO})"
            + (f", but {what}" if what else "")
            + f": give {READ_HERE}"
        )
    if not path.exists() and not partial_path(path).exists():
        raise RecordingError(f"there is no recording {path}: collect one, or check the name")
    path = path if path.exists() else partial_path(path)
    if not path.stat().st_size:
        raise RecordingError(f"{path} is empty: delete it and record again")
    return path


def _other(path: Path) -> str:
    """What else a file or folder is, by the names of its files; empty where that is not known."""
    for what, patterns in OTHERS.items():
        for pattern in patterns:
            if path.match(pattern) or (path.is_dir() and next(path.glob(pattern), None) is not None):
                return f"{what}, which is not read here"
    return ""


def _open_journal(path: Path) -> hdf5.Opened:
    view = map_file(path)
    attrs, episodes, _ = scan(view, verify=False)
    if not episodes:
        raise RecordingError(f"{path} holds no complete episode yet: go on recording")
    if "pixels" not in episodes[0].columns or "action" not in episodes[0].columns:
        raise RecordingError(f"{path} is damaged: delete it and record again")
    first = episodes[0].columns["pixels"]
    check_frames(f"{path} has pixels", first.dtype, (0, *first.shape))
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
