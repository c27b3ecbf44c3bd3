"""Lance tables, as stable-worldmodel writes them; read with pylance (an extra).

    NAME.lance            a row a frame: episode_idx, step_idx, numbers, and pictures as JPEG
    NAME_videos.lance     with the format lance_video: a row an episode and camera, with its mp4

A table is a folder. It is read in place; `latent-planner convert` makes a file of it that needs no extra.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..columns import memory
from ..hdf5 import Column, Opened
from ..journal import RecordingError
from .assembly import choose_camera, kept_episodes, listed, name_columns
from .border import readable
from .parquet import number_type, numbers
from .pictures import Pictures
from .video import Videos

EPISODE, STEP = "episode_idx", "step_idx"
VIDEOS = "_videos"


def is_dataset(path: Path) -> bool:
    """Whether this is a Lance table, or a folder with one."""
    return bool(_candidates(path))


def read(path: Path, keys: Mapping[str, str] | None = None) -> Opened:
    """Find the columns; `keys` are the table's names of `pixels`, `action` and `state`, if they are others.

    Episodes whose steps are not all there are left out, with a warning.
    """
    keys, folder = keys or {}, _one(path)
    table = _table(folder)
    order, episodes, lengths, values = _rows(folder, table)
    videos = folder.with_name(f"{folder.stem}{VIDEOS}.lance")
    clips = _clips(videos) if videos.is_dir() else {}
    pictures = [field.name for field in table.schema if str(field.type) in ("binary", "large_binary")]
    cameras = [*pictures, *sorted({name for _, name in clips} - set(pictures))]
    if not cameras:
        raise RecordingError(f"{folder} has no pictures and no videos, but {listed(table.schema.names)}")
    camera = choose_camera(folder, cameras, keys.get("pixels"))
    dropped: dict[int, str] = {}
    starts = np.cumsum(lengths) - lengths
    for place, number in enumerate(episodes.tolist()):
        steps = values[STEP][starts[place] : starts[place] + lengths[place]]
        if (np.diff(steps) != 1).any():
            dropped[place] = "its steps are not one after the other"
        elif camera not in pictures and (number, camera) not in clips:
            dropped[place] = f"{videos} has no video of it"
    kept = kept_episodes(folder, episodes.tolist(), dropped)
    chosen, lengths, episodes = np.repeat(kept, lengths), lengths[kept], episodes[kept]
    values = {name: array[chosen] for name, array in values.items()}
    columns: dict[str, Column] = name_columns(folder, values, keys, {"action": "action", "state": "state"})
    which = np.repeat(np.arange(len(lengths)), lengths)
    if camera in pictures:
        columns["pixels"] = Pictures(_Blobs(folder, order[chosen], camera), which)
    else:
        files = [(videos / f"episode {n}.mp4", _Clip(videos, clips[n, camera])) for n in episodes.tolist()]
        first = values[STEP][np.cumsum(lengths) - lengths]
        columns["pixels"] = Videos(files, which, values[STEP] - np.repeat(first, lengths), which)
    return Opened({"camera": camera}, lengths, np.cumsum(lengths) - lengths, columns)


def _candidates(path: Path) -> list[Path]:
    if path.suffix == ".lance":
        return [path] if path.is_dir() else []
    if not path.is_dir():
        return []
    found = sorted(p for p in path.glob("*.lance") if p.is_dir() and p.name[0] != ".")
    return [p for p in found if not p.stem.endswith(VIDEOS)] or found


def _one(path: Path) -> Path:
    found = _candidates(path)
    if len(found) > 1:
        raise RecordingError(f"{path} has {len(found)} tables: give one of {listed(p.name for p in found)}")
    return found[0]


def _table(folder: Path) -> Any:
    """The open table, all of whose data lie in its folder."""
    try:
        import lance
    except ImportError as error:
        raise RecordingError(
            f"{folder} is a Lance table, read with pylance: pip install 'latent-planner[lance]'"
        ) from error
    for file in [folder, *folder.rglob("*")]:
        if file.is_symlink():
            raise RecordingError(f"{file} is a link: put the file itself there")
    with readable(folder, "a Lance table"):
        table = lance.dataset(str(folder.resolve()))
        parts = [file for fragment in table.get_fragments() for file in fragment.metadata.files]
        if any(getattr(part, "base_id", None) is not None for part in parts):
            raise RecordingError(f"{folder} takes its data from outside its folder: do not trust it")
        return table


def _rows(folder: Path, table: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Rows in order of episodes and steps: (N,) places in the table; episodes (E,), lengths (E,), columns."""
    from pyarrow import types

    names = [field.name for field in table.schema if number_type(field.type) is not None]
    if EPISODE not in names or STEP not in names:
        raise RecordingError(
            f"{folder} is a Lance table without {EPISODE} and {STEP}, which stable-worldmodel's have; it has "
            f"{listed(table.schema.names)}"
        )
    with readable(folder, "a Lance table"):
        lists = [f.type.list_size for f in table.schema if types.is_fixed_size_list(f.type)]
        if 8 * table.count_rows() * (len(names) + sum(lists)) > memory() // 4:
            raise RecordingError(f"{folder} holds more numbers than memory has room for: split it")
        found = numbers(table.to_table(columns=names))
    which, steps = found.flat(EPISODE, folder), found.flat(STEP, folder)
    if not len(which):
        raise RecordingError(f"{folder} holds no rows: record some first")
    order = np.lexsort((steps, which))
    episodes, lengths = np.unique(which, return_counts=True)
    return order, episodes, lengths, found.chosen(order).columns


class _Blobs:
    """Pictures in a column of bytes: see pictures.Source.   rows: (N,) the table's row of each."""

    def __init__(self, folder: Path, rows: np.ndarray, column: str) -> None:
        self.folder, self.rows, self.column = folder, rows, column
        self._table: Any = None

    def read(self, wanted: np.ndarray) -> list[bytes]:
        if self._table is None:
            self._table = _table(self.folder)
        with readable(self.folder, f"a Lance table with pictures in {self.column!r}"):
            taken = self._table.take(self.rows[wanted].tolist(), columns=[self.column]).column(0).to_pylist()
        return [blob if isinstance(blob, bytes) else b"" for blob in taken]

    def where(self, row: int) -> str:
        return f"{self.folder} row {int(self.rows[row])}"


def _clips(folder: Path) -> dict[tuple[int, str], int]:
    """The row of each episode's and camera's video."""
    table = _table(folder)
    with readable(folder, "a Lance table of videos"):
        rows = table.to_table(columns=[EPISODE, "video_key", "video_bytes"]).to_pylist()
        for row in rows:
            if isinstance(row["video_bytes"], dict) and row["video_bytes"].get("blob_uri"):
                raise RecordingError(f"{folder} takes its videos from outside its folder: do not trust it")
        return {(int(row[EPISODE]), str(row["video_key"])): place for place, row in enumerate(rows)}


class _Clip:
    """A call that gives the bytes of a video."""

    def __init__(self, folder: Path, row: int) -> None:
        self.folder, self.row = folder, row

    def __call__(self) -> bytes:
        with readable(self.folder, "a Lance table of videos"):
            (blob,) = _table(self.folder).take_blobs("video_bytes", indices=[self.row])
            with blob:
                return blob.readall()
