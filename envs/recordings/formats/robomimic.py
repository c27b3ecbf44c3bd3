"""robomimic's HDF5 files, and LIBERO's, which are alike.

    data/demo_0/actions              (T, A)
    data/demo_0/obs/agentview_image  uint8 (T, H, W, 3), a camera; as many as there are
    data/demo_0/obs/…, states, …     more columns, a row a frame

The actions are those taken after each frame. `states`, the simulator's own state, is the state where the user
names no other, such as robot0_eef_pos.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from latent_planner.common import hdf5_files
from latent_planner.common.printable import printable

from ..columns import memory
from ..hdf5 import Opened
from ..journal import RecordingError, is_frames
from .assembly import choose_camera, kept_episodes, listed, name_columns
from .border import readable
from .video import MAX_PIXELS

DEMOS, LAYOUT = "data", "a recording of robomimic's layout"


def is_recording(path: Path) -> bool:
    """Whether an HDF5 file has this layout."""
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            return isinstance(file.get(DEMOS, getlink=True), h5py.HardLink) and bool(_demos(file))
    except Exception:  # what is wrong with a damaged file is said by the reader
        return False


def read(path: Path, keys: Mapping[str, str] | None = None) -> Opened:
    """Find the columns; `keys` are the file's names of `pixels` (a camera), `action` and `state`.

    Episodes whose columns are of different lengths are left out, with a warning.
    """
    keys = keys or {}
    with readable(path, LAYOUT), h5py.File(path, "r", locking="best-effort") as file:
        names = _demos(file)
        demos = [_columns(path, file[DEMOS], name) for name in names]
        first = demos[0]
        cameras = [name for name, part in first.items() if is_frames(part.dtype, part.shape[1:])]
        if not cameras:
            raise RecordingError(
                f"{path} has robomimic's layout and no pictures in obs/: extract them with robomimic's "
                "dataset_states_to_obs.py"
            )
        camera = choose_camera(path, cameras, keys.get("pixels"))
        action = keys.get("action", "actions")
        if action not in first:
            others = listed(name for name in first if name not in cameras)
            raise RecordingError(f"{path} has no numbers called {action!r}: choose data.action from {others}")
        dropped = {}
        for place, demo in enumerate(demos):
            missing = next((name for name in (camera, action) if name not in demo), None)
            if missing:
                dropped[place] = f"it has no {missing}"
            elif len(demo[camera]) != len(demo[action]) or not len(demo[action]):
                dropped[place] = f"it has {len(demo[camera])} frames and {len(demo[action])} actions"
            elif demo[camera].shape[1:] != first[camera].shape[1:]:
                dropped[place] = "its frames are of another size than the first"
        kept = kept_episodes(path, names, dropped)
        demos = [demo for demo, keep in zip(demos, kept) if keep]
        lengths = np.array([len(demo[action]) for demo in demos], np.int64)
        values = _numbers(path, demos, lengths)
        columns = name_columns(path, values, keys, {"action": "actions", "state": "states"})
        pixels = [demo[camera] for demo in demos]
        rows, frame = pixels[0].chunks[0] if pixels[0].chunks else 64, pixels[0].shape[1:]
        if frame[0] * frame[1] > MAX_PIXELS:
            raise RecordingError(f"{path} has frames of {frame[1]} x {frame[0]} px: copy it again")
        columns["pixels"] = _Joined(path, [part.name for part in pixels], lengths, frame, rows)
    return Opened({"camera": camera}, lengths, np.cumsum(lengths) - lengths, columns)


def _demos(file: Any) -> list[str]:
    """Names of the demonstrations, in order of their numbers."""
    group = file[DEMOS]
    names = [str(name) for name in group] if isinstance(group, h5py.Group) else []
    names = [name for name in names if re.fullmatch(r"demo_\d{1,9}", name)]
    return sorted(names, key=lambda name: int(name.removeprefix("demo_")))


def _columns(path: Path, data: Any, demo: str) -> dict[str, Any]:
    """The datasets of one demonstration, those of its observations under their own names."""
    found: dict[str, Any] = {}
    for where in (f"{demo}/obs", demo):
        try:
            group = hdf5_files.find(data, where)
            if not isinstance(group, h5py.Group):
                continue
            for name, item in hdf5_files.columns(group).items():
                if item.dtype.kind in "fiub" and item.shape:
                    hdf5_files.check_size(name, item, path.stat().st_size)
                    hdf5_files.check_packing(name, item)
                    found[name] = item
        except hdf5_files.FileRefused as error:
            raise RecordingError(f"{path}: {printable(error)} (do not trust it)") from error
    return found


def _numbers(path: Path, demos: list[dict[str, Any]], lengths: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of numbers that all demonstrations have, with the same shape and a row a frame."""
    values, total = {}, 0
    for name, part in demos[0].items():
        shape = part.shape[1:]
        alike = all(
            name in demo and demo[name].shape == (length, *shape)
            for demo, length in zip(demos, lengths.tolist())
        )
        if not alike or len(shape) > 1:
            continue
        stored = sum(demo[name].nbytes for demo in demos)
        total += stored
        if total > memory() // 4:
            raise RecordingError(f"{path} holds more numbers than memory has room for: copy it again")
        values[name] = np.concatenate([demo[name][()] for demo in demos])
    return values


class _Joined:
    """A column of frames whose episodes are datasets of their own; each process opens the file for itself.

    names, lengths: (E,) the datasets.   frame: (H, W, 3).   chunk_rows: rows that are unpacked together.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self, path: Path, names: list[str], lengths: np.ndarray, frame: tuple[int, ...], chunk_rows: int
    ) -> None:
        self.path, self.names, self.chunk_rows = path, names, chunk_rows
        self.starts = np.cumsum(lengths) - lengths
        self.shape: tuple[int, ...] = (int(lengths.sum()), *frame)
        self._opened: tuple[int, h5py.File] | None = None

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Fill `out` (n, H, W, 3) with the given rows (n,)."""
        which = np.searchsorted(self.starts, rows, side="right") - 1
        within = rows - self.starts[which]
        together = np.stack([which, within // self.chunk_rows], axis=1)
        with readable(self.path, LAYOUT):
            for part, chunk in np.unique(together, axis=0).tolist():
                mine = np.flatnonzero((together == (part, chunk)).all(axis=1))
                first, last = within[mine].min(), within[mine].max()
                out[mine] = self._file()[self.names[part]][first : last + 1][within[mine] - first]

    def _file(self) -> h5py.File:
        if self._opened is None or self._opened[0] != os.getpid():
            with suppress(ImportError):
                import hdf5plugin  # noqa: F401  (an extra; makes more filters known)
            self._opened = (os.getpid(), h5py.File(self.path, "r", locking="best-effort"))
        return self._opened[1]

    def close(self) -> None:
        if self._opened is not None and self._opened[0] == os.getpid():
            self._opened[1].close()
        self._opened = None
