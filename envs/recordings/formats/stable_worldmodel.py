"""The folder and video formats of stable-worldmodel.

    ep_len.npz, ep_offset.npz               rows of each episode, and where they begin
    action.npz, state.npz, …                a column of numbers each
    pixels/ep_0_step_0.jpeg                 folder format: a picture a row
    pixels/ep_0.mp4                         video format: a video an episode

An array is under the name `arr_0` of its .npz file.
"""

from __future__ import annotations

import math
import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..columns import Memory, memory
from ..hdf5 import Opened
from ..journal import RecordingError, is_frames
from .assembly import choose_camera, kept_episodes, name_columns
from .border import readable, visible
from .pictures import Pictures
from .video import Video, Videos

LENGTHS, OFFSETS = "ep_len", "ep_offset"


def is_dataset(path: Path) -> bool:
    """Whether this is a folder of one of the two formats."""
    return (path / f"{LENGTHS}.npz").is_file()


def read(folder: Path, keys: Mapping[str, str] | None = None) -> Opened:
    """Find the columns; `keys` are the folder's names of `pixels`, `action` and `state`, if they are others.

    Episodes whose pictures or video are not all there are left out, with a warning.
    """
    keys = keys or {}
    arrays = {path.stem: _array(path) for path in visible(folder, "*.npz")}
    arrays = {name: array for name, array in arrays.items() if array.dtype.kind in "fiub"}
    lengths, offsets = (_whole(folder, name, arrays) for name in (LENGTHS, OFFSETS))
    count = int((offsets + lengths).max()) if len(lengths) else 0
    if len(lengths) != len(offsets) or not len(lengths) or lengths.min() < 1 or offsets.min() < 0:
        raise RecordingError(f"{folder} has episodes in {LENGTHS}.npz that cannot be: copy it again")
    if not arrays or max(map(len, arrays.values())) < count:
        raise RecordingError(f"{folder} has fewer rows than {LENGTHS}.npz says: copy it again")
    values = {name: array for name, array in arrays.items() if len(array) >= count}
    pictured = [name for name, array in values.items() if is_frames(array.dtype, array.shape[1:])]
    folders = [path.name for path in sorted(folder.iterdir()) if path.is_dir() and path.name[0] != "."]
    if not folders and not pictured:
        raise RecordingError(f"{folder} has no folder of pictures or videos: copy it again")
    camera = choose_camera(folder, [*folders, *pictured], keys.get("pixels"))
    dropped: dict[int, str] = {}
    files = {} if camera in pictured else _files(folder / camera, lengths, dropped)
    kept = kept_episodes(folder, range(len(lengths)), dropped)
    places, lengths = np.flatnonzero(kept), lengths[kept]
    steps = np.concatenate([np.arange(length) for length in lengths.tolist()])
    rows = np.repeat(offsets[kept], lengths) + steps
    episodes = np.repeat(np.arange(len(lengths)), lengths)
    numbers = {name: array[rows] for name, array in values.items() if name not in pictured}
    columns = name_columns(folder, numbers, keys, {"action": "action", "state": "state"})
    if camera in pictured:
        columns["pixels"] = Memory(values[camera][rows])
    elif all(place in files for place in places.tolist()):
        columns["pixels"] = Videos([files[p] for p in places.tolist()], episodes, steps, episodes)
    else:
        columns["pixels"] = Pictures(_Files(folder / camera, places[episodes], steps), episodes)
    return Opened({"camera": camera}, lengths, np.cumsum(lengths) - lengths, columns)


def _files(folder: Path, lengths: np.ndarray, dropped: dict[int, str]) -> dict[int, Path]:
    """The video of each episode; empty where there are pictures. Says which episodes lack something."""
    names = {entry.name for entry in os.scandir(folder)}
    videos = any(re.fullmatch(r"ep_\d+\.mp4", name) for name in names)
    files: dict[int, Path] = {}
    for place, length in enumerate(lengths.tolist()):
        if not videos:
            gaps = (s for s in range(length) if not _endings(place, s) & names)
            missing = next(gaps, None)
            if missing is not None:
                dropped[place] = f"{folder / f'ep_{place}_step_{missing}.jpeg'} is missing"
            continue
        path = files[place] = folder / f"ep_{place}.mp4"
        try:
            video = Video(_own(path))
            said = video.said or len(video.seconds)
            video.close()
            if said < length:
                dropped[place] = f"{path} has {said} frames for {length} rows"
        except RecordingError as error:
            dropped[place] = str(error)
    return files


def _endings(episode: int, step: int) -> set[str]:
    return {f"ep_{episode}_step_{step}.{ending}" for ending in ("jpeg", "jpg", "png")}


def _own(path: Path) -> Path:
    """The file itself and no link, which could lead out of the folder."""
    if path.is_symlink() or path.parent.is_symlink():
        raise RecordingError(f"{path} is a link: put the file itself there")
    return path


class _Files:
    """Pictures that are files: see pictures.Source.   episodes, steps: (N,), as in the files' names."""

    def __init__(self, folder: Path, episodes: np.ndarray, steps: np.ndarray) -> None:
        self.folder, self.episodes, self.steps = folder, episodes, steps

    def read(self, wanted: np.ndarray) -> list[bytes]:
        return [self._one(int(self.episodes[i]), int(self.steps[i])) for i in wanted.tolist()]

    def where(self, row: int) -> str:
        return str(self.folder / f"ep_{self.episodes[row]}_step_{self.steps[row]}")

    def _one(self, episode: int, step: int) -> bytes:
        for name in sorted(_endings(episode, step)):
            path = self.folder / name
            if path.is_file():
                return _own(path).read_bytes()
        raise RecordingError(f"{self.folder / f'ep_{episode}_step_{step}.jpeg'} is missing: copy it again")


def _array(path: Path) -> np.ndarray:
    """The array in an .npz file, if file and memory have room for it; an empty one for text and objects."""
    with readable(path, "an .npz file of one array"), zipfile.ZipFile(_own(path)) as archive:
        member = archive.getinfo("arr_0.npy")
        if member.file_size > memory() // 4:
            raise RecordingError(f"{path} holds {member.file_size:,} bytes, more than memory has room for")
        with archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else None
            shape, fortran, dtype = (header or np.lib.format.read_array_header_2_0)(file)
            if dtype.kind not in "fiub":
                return np.empty(0, object)
            size = math.prod(shape) * dtype.itemsize
            if size > member.file_size:
                raise RecordingError(f"{path} is cut off: copy it again")
            flat = np.frombuffer(bytearray(file.read(size)), dtype)
            return flat.reshape(shape, order="F" if fortran else "C") if shape else flat


def _whole(folder: Path, name: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """A column of whole numbers (E,), taken out of `arrays`."""
    array = arrays.pop(name, np.empty(0))
    if array.dtype.kind not in "iu":
        raise RecordingError(f"{folder / f'{name}.npz'} holds no whole numbers: copy it again")
    return array.reshape(-1).astype(np.int64)
