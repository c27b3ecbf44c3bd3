"""LeRobot datasets, versions 2 and 3: a folder of parquet tables, and videos or pictures in the tables.

    meta/info.json                          fps, features, and how the other files are called

    version 3, several episodes in each file
    meta/episodes/**/*.parquet              per episode: its length, and where in which video it begins
    data/chunk-000/file-000.parquet         a row a frame: action, observation.state, timestamp, …
    videos/CAMERA/chunk-000/file-000.mp4    the frames

    version 2, a file an episode
    meta/episodes.jsonl                     per episode: its length
    data/chunk-000/episode_000000.parquet
    videos/chunk-000/CAMERA/episode_000000.mp4

Read with pyarrow (an extra) and PyAV; nothing of the lerobot package is needed. Described at
huggingface.co/docs/lerobot/lerobot-dataset-v3. Episodes that lack a row or a frame are left out, with a
warning.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..hdf5 import Opened
from ..journal import RecordingError
from ..senses import spellings
from .assembly import choose_camera, kept_episodes, listed, name_columns
from .border import visible
from .lerobot_frames import Span, find_frames
from .parquet import Numbers, PictureTables, joined, read_all
from .pictures import Pictures
from .video import Videos

INFO = Path("meta") / "info.json"
STATE = "observation.state"
Drop = Callable[[int, str], object]  # an episode's place in the list, and why it is left out


@dataclass
class Tables:
    """The rows of all episodes, and what the dataset says of them; in order of episodes and of time.

    episodes: (E,) their numbers in the dataset.   lengths: (E,) rows.   listed: more columns (E,), version 3.
    rows: the columns.   paths, which, places: the files, and (N,) the file and the row in it of each row.
    """

    episodes: np.ndarray
    lengths: np.ndarray
    listed: dict[str, np.ndarray]
    rows: Numbers
    paths: list[Path]
    which: np.ndarray
    places: np.ndarray


def is_dataset(path: Path) -> bool:
    """Whether this is the folder of a LeRobot dataset, of any version."""
    return (path / INFO).is_file()


def read(folder: Path, keys: Mapping[str, str] | None = None) -> Opened:
    """Find the columns of a dataset: pixels, action, state and whatever numbers else it holds a frame.

    keys: the dataset's names of `pixels` (a camera), `action` and `state`; needed for the camera where there
    are several. An action is the one taken after its frame, in the last row of an episode too.

    Raises RecordingError, which says what is wrong with the folder.
    """
    keys, info = keys or {}, _info(folder)
    features = info["features"]
    cameras = {"pixels": _camera(folder, features, keys.get("pixels"))}
    cameras |= {
        name: _camera(folder, features, key) for name, key in keys.items() if name.startswith("pixels_")
    }
    dropped: dict[int, str] = {}
    drop = dropped.setdefault
    tables = _tables(folder, info, drop)
    vector = [("proprio", keys["proprio"])] if "proprio" in keys else []
    for name, key in (("action", keys.get("action", "action")), ("state", keys.get("state", STATE)), *vector):
        if key in features or (name in keys and key in tables.rows.unusable):
            tables.rows.need(key, folder)
    frames = {}
    for name, camera in cameras.items():
        if features[camera]["dtype"] == "image":
            frames[name] = tables.paths, tables.which, tables.places
        else:
            frames[name] = _video_frames(folder, info, camera, tables, drop)
    dropped |= {place: "it has no rows" for place in np.flatnonzero(tables.lengths == 0).tolist()}
    kept = kept_episodes(folder, tables.episodes.tolist(), dropped)
    chosen = np.repeat(kept, tables.lengths)
    rows, lengths = tables.rows.chosen(chosen), tables.lengths[kept]
    numbers = {name: key for name, key in keys.items() if name not in cameras}
    columns = name_columns(folder, rows.columns, numbers, {"action": "action", "state": STATE})
    episodes = np.repeat(np.arange(len(lengths)), lengths)
    for name, (files, which, places) in frames.items():
        if features[cameras[name]]["dtype"] == "image":
            source = PictureTables(folder, files, which[chosen], places[chosen], cameras[name])
            columns[name] = Pictures(source, episodes)
        else:
            columns[name] = Videos(files, which[chosen], places[chosen], episodes)
    attrs = {"control_hz": float(info["fps"]), "camera": cameras["pixels"]}
    labels = _labels(features.get(keys.get("state", STATE)) or {}) if "state" in columns else []
    if labels:
        attrs["state_names"] = labels
    return Opened(attrs, lengths, np.cumsum(lengths) - lengths, columns)


# what the dataset says of itself


def _info(folder: Path) -> dict[str, Any]:
    try:
        info = json.loads((folder / INFO).read_bytes())
        version = str(info["codebase_version"])
        if re.match(r"v[23]\.", version):
            fps, features = float(info["fps"]), info["features"]
            usable = isinstance(features, dict) and all(isinstance(f, dict) for f in features.values())
            if 0 < fps < math.inf and usable and isinstance(info["data_path"], str):
                return info
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise RecordingError(
            f"{folder / INFO} is no description of a LeRobot dataset: copy it again"
        ) from None
    raise RecordingError(
        f"{folder} is a LeRobot dataset of version {version[:20]!r}, and versions 2 and 3 are read here: "
        "convert it with LeRobot's own converter"
    )


def _camera(folder: Path, features: Mapping[str, Any], wanted: str | None) -> str:
    found = [name for name, feature in features.items() if _shows_colours(feature)]
    if not found:
        raise RecordingError(f"{folder} has no videos and no pictures, but {listed(features)}: record some")
    if wanted is not None:
        wanted = next((word for word in spellings(wanted) if word in found), wanted)
    return choose_camera(folder, found, wanted)


def _shows_colours(feature: Mapping[str, Any]) -> bool:
    """Whether it is a camera's video or pictures, and not those of depth."""
    about = feature.get("info") or feature.get("video_info")
    about = about if isinstance(about, dict) else {}
    depth = about.get("is_depth_map") or about.get("video.is_depth_map")
    return feature.get("dtype") in ("video", "image") and not depth


def _labels(feature: Mapping[str, Any]) -> list[str]:
    """Names of a feature's components: a list, or lists under headings; empty where they are not said."""
    names = feature.get("names")
    if isinstance(names, dict):
        names = [name for part in names.values() if isinstance(part, list) for name in part]
    if not isinstance(names, list) or not all(isinstance(name, str | int | float) for name in names):
        return []
    return [str(name) for name in names]


# its tables


def _tables(folder: Path, info: Mapping[str, Any], drop: Drop) -> Tables:
    """All rows, of version 2 or 3 as the files show; episodes of other lengths than listed are dropped."""
    jsonl = folder / "meta" / "episodes.jsonl"
    tables = _version_2(folder, info, jsonl, drop) if jsonl.is_file() else _version_3(folder, info)
    rows = tables.rows
    numbers, steps = (rows.flat(name, folder) for name in ("episode_index", "frame_index"))
    rows.flat("timestamp", folder)
    order = np.lexsort((steps, numbers))
    order = order[np.isin(numbers, tables.episodes)[order]]
    tables.rows, tables.which, tables.places = rows.chosen(order), tables.which[order], tables.places[order]
    found = np.searchsorted(numbers[order], np.stack([tables.episodes, tables.episodes + 1]))
    counts = found[1] - found[0]
    for place in np.flatnonzero(counts != tables.lengths).tolist():
        drop(place, f"it has {counts[place]} rows in data/ and should have {tables.lengths[place]}")
    tables.lengths = counts
    return tables


def _version_3(folder: Path, info: Mapping[str, Any]) -> Tables:
    where = folder / "meta" / "episodes"
    files = visible(where, "**/*.parquet")
    if not files:
        raise RecordingError(f"{where} has no tables: copy the dataset again")
    about = joined(read_all(files))
    if "episode_index" not in about.columns or not len(about.columns["episode_index"]):
        raise RecordingError(f"{where} lists no episodes: record some first")
    numbers = about.flat("episode_index", where)
    order = np.argsort(numbers, kind="stable")
    numbers, lengths = numbers[order], about.flat("length", where)[order]
    if len(np.unique(numbers)) < len(numbers):
        raise RecordingError(f"{where} lists an episode twice: copy the dataset again")
    chunks, parts = (about.flat(f"data/{what}_index", where)[order] for what in ("chunk", "file"))
    places = sorted(set(zip(chunks.tolist(), parts.tolist())))
    paths = [inside(folder, info["data_path"], chunk_index=c, file_index=f) for c, f in places]
    more = {name: values[order] for name, values in about.columns.items() if values.ndim == 1}
    return _gathered(numbers, lengths, more, paths, read_all(paths))


def _version_2(folder: Path, info: Mapping[str, Any], jsonl: Path, drop: Drop) -> Tables:
    lengths: dict[int, int] = {}
    for number, line in enumerate(jsonl.read_text(encoding="utf-8").splitlines(), 1):
        try:
            said = json.loads(line) if line.strip() else None
            if said is not None:
                lengths[int(said["episode_index"])] = int(said["length"])
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
            raise RecordingError(
                f"{jsonl} line {number} describes no episode: copy the dataset again"
            ) from None
    if not lengths:
        raise RecordingError(f"{jsonl} lists no episodes: record some first")
    episodes = np.array(sorted(lengths), np.int64)
    paths, parts = [], []
    for place, number in enumerate(episodes.tolist()):
        path = inside(folder, info["data_path"], must=False, **_of_episode(info, number))
        if not path.is_file():
            drop(place, f"{path} is missing")
            continue
        paths.append(path)
        parts.append(number)
    if not paths:
        raise RecordingError(f"{path} is missing, as are the tables of all episodes: copy the dataset again")
    tables = read_all(paths)
    for number, table in zip(parts, tables):
        count = max((len(values) for values in table.columns.values()), default=0)
        table.columns["episode_index"] = np.full(count, number, np.int64)
    return _gathered(episodes, np.array([lengths[n] for n in episodes.tolist()]), {}, paths, tables)


def _gathered(
    episodes: np.ndarray, lengths: np.ndarray, listed: dict[str, np.ndarray], paths: list[Path], tables: Any
) -> Tables:
    counts = [max((len(values) for values in table.columns.values()), default=0) for table in tables]
    which = np.repeat(np.arange(len(paths)), counts)
    places = np.concatenate([np.arange(count) for count in counts])
    return Tables(episodes, lengths, listed, joined(tables), paths, which, places)


def _of_episode(info: Mapping[str, Any], number: int) -> dict[str, int]:
    size = info.get("chunks_size", 1000)
    chunk = number // size if isinstance(size, int) and size > 0 else 0
    return {"episode_chunk": chunk, "episode_index": number}


# its frames


def _video_frames(
    folder: Path, info: Mapping[str, Any], camera: str, tables: Tables, drop: Drop
) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """The camera's files, and of each row the file and the number of the frame in it."""
    template, spans = info.get("video_path"), []
    names = [f"videos/{camera}/{what}" for what in ("chunk_index", "file_index", "from_timestamp")]
    version_3 = bool(tables.listed)
    if not isinstance(template, str) or (version_3 and any(name not in tables.listed for name in names)):
        raise RecordingError(f"{folder} does not say where the videos of {camera} are: copy it again")
    known: dict[Path, Path] = {}
    for place, number in enumerate(tables.episodes.tolist()):
        if version_3:
            chunk, file, begin = (tables.listed[name][place].item() for name in names)
            values = {"chunk_index": chunk, "file_index": file}
        else:
            values, begin = _of_episode(info, number), 0.0
        path = inside(folder, template, must=version_3, video_key=camera, **values)
        if path.is_file():
            spans.append(Span(place, known.setdefault(path, path), float(begin), int(tables.lengths[place])))
        else:
            drop(place, f"{path} is missing")
    rows = tables.rows
    times, steps = rows.flat("timestamp", folder), rows.flat("frame_index", folder)
    first = np.cumsum(tables.lengths) - tables.lengths
    return find_frames(spans, first, times, steps, float(info["fps"]), drop, whole=not version_3)


def inside(folder: Path, template: str, *, must: bool = True, **values: Any) -> Path:
    """The file that a template of info.json means: in the folder, and there if it `must`."""

    def put(match: re.Match[str]) -> str:
        name, width = match.group(1), match.group(2)
        if name not in values or (width and not isinstance(values[name], int)):
            raise RecordingError(f"{folder / INFO} has an unusable path {template[:80]!r}: copy it again")
        return str(values[name]).zfill(int(width or 0))

    text = re.sub(r"\{(\w+)(?::0?(\d{1,2})d)?\}", put, template)
    if "{" in text or "}" in text or "\0" in text:
        raise RecordingError(f"{folder / INFO} has an unusable path {template[:80]!r}: copy it again")
    path = folder / text
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RecordingError(f"{folder / INFO} points outside its folder ({template!r}): do not trust it")
    if must and not path.is_file():
        raise RecordingError(f"{path} is missing: copy the dataset again")
    return path
