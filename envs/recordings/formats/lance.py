"""Lance tables, as stable-worldmodel writes them; read with pylance (an extra).

    NAME.lance            a row a frame: episode_idx, step_idx, numbers, and pictures as JPEG
    NAME_videos.lance     with the format lance_video: a row an episode and camera, with its mp4

A table is a folder. It is read in place, by a process of its own; `latent-planner convert` makes a file of it
that needs no extra.
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
from .lance_table import LanceTable
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
    table = LanceTable(folder)
    schema, count = table.schema()
    order, episodes, lengths, values = _rows(table, schema, count)
    videos = folder.with_name(f"{folder.stem}{VIDEOS}.lance")
    clip_table = LanceTable(videos)
    clips = _clips(clip_table) if videos.is_dir() else {}
    pictures = [field.name for field in schema if str(field.type) in ("binary", "large_binary")]
    cameras = [*pictures, *sorted({name for _, name in clips} - set(pictures))]
    if not cameras:
        raise RecordingError(f"{folder} has no pictures and no videos, but {listed(schema.names)}")
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
        columns["pixels"] = Pictures(_Blobs(table, order[chosen], camera), which)
    else:
        listing = episodes.tolist()
        files = [(videos / f"episode {n}.mp4", _Clip(clip_table, clips[n, camera])) for n in listing]
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


def _rows(
    table: LanceTable, schema: Any, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Rows in order of episodes and steps: (N,) places in the table; episodes (E,), lengths (E,), columns."""
    from pyarrow import types

    folder = table.folder
    names = [field.name for field in schema if number_type(field.type) is not None]
    if EPISODE not in names or STEP not in names:
        raise RecordingError(
            f"{folder} is a Lance table without {EPISODE} and {STEP}, which stable-worldmodel's have; it has "
            f"{listed(schema.names)}"
        )
    lists = [f.type.list_size for f in schema if types.is_fixed_size_list(f.type)]
    if 8 * count * (len(names) + sum(lists)) > memory() // 4:
        raise RecordingError(f"{folder} holds more numbers than memory has room for: split it")
    with readable(folder, "a Lance table"):
        found = numbers(table.columns(names))
    which, steps = found.flat(EPISODE, folder), found.flat(STEP, folder)
    if not len(which):
        raise RecordingError(f"{folder} holds no rows: record some first")
    order = np.lexsort((steps, which))
    episodes, lengths = np.unique(which, return_counts=True)
    return order, episodes, lengths, found.chosen(order).columns


class _Blobs:
    """Pictures in a column of bytes: see pictures.Source.   rows: (N,) the table's row of each."""

    def __init__(self, table: LanceTable, rows: np.ndarray, column: str) -> None:
        self.table, self.rows, self.column = table, rows, column

    def read(self, wanted: np.ndarray) -> list[bytes]:
        return self.table.pictures(self.rows[wanted].tolist(), self.column)

    def where(self, row: int) -> str:
        return f"{self.table.folder} row {int(self.rows[row])}"


def _clips(table: LanceTable) -> dict[tuple[int, str], int]:
    """The row of each episode's and camera's video."""
    table.schema()  # refuses one that draws in other files
    with readable(table.folder, "a Lance table of videos"):
        rows = table.columns([EPISODE, "video_key", "video_bytes"]).to_pylist()
        for row in rows:
            if isinstance(row["video_bytes"], dict) and row["video_bytes"].get("blob_uri"):
                raise RecordingError(
                    f"{table.folder} takes its videos from outside its folder: do not trust it"
                )
        return {(int(row[EPISODE]), str(row["video_key"])): place for place, row in enumerate(rows)}


class _Clip:
    """A call that gives the bytes of a video."""

    def __init__(self, table: LanceTable, row: int) -> None:
        self.table, self.row = table, row

    def __call__(self) -> bytes:
        return self.table.blob("video_bytes", self.row)
