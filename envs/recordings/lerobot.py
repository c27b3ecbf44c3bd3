"""LeRobot datasets, version 3: a folder of parquet tables and mp4 videos, several episodes in each file.

    meta/info.json                          fps, features, and how the other files are called
    meta/episodes/**/*.parquet              per episode: its length, and where in which video it begins
    data/chunk-000/file-000.parquet         a row a frame: action, observation.state, timestamp, …
    videos/CAMERA/chunk-000/file-000.mp4    the frames

Read with pyarrow (an extra) and PyAV; nothing of the lerobot package is needed. Described at
huggingface.co/docs/lerobot/lerobot-dataset-v3.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .columns import Memory
from .hdf5 import Column, Opened
from .journal import RecordingError
from .mp4 import Videos

INFO = Path("meta") / "info.json"
STATE = "observation.state"


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
    camera = _camera(folder, features, keys.get("pixels"))
    names = {"action": _known(folder, features, keys.get("action", "action"))}
    if "state" in keys or STATE in features:
        names["state"] = _known(folder, features, keys.get("state", STATE))
    episodes = _episodes(folder)
    table = _rows(folder, info, episodes)
    lengths = np.asarray(episodes["length"], np.int64)
    columns: dict[str, Column] = {}
    columns |= {name: Memory(values) for name, values in table.items() if name not in names.values()}
    for name, key in names.items():
        if key not in table:
            raise RecordingError(
                f"{folder} holds no numbers called {key!r}: choose data.{name} from {_list(table)}"
            )
        columns[name] = Memory(_numbers(table[key]))
    columns["pixels"] = _videos(folder, info, camera, episodes, table["timestamp"])
    attrs = {"control_hz": float(info["fps"]), "camera": camera}
    labels = _labels(features[names["state"]]) if "state" in names else []
    if labels:
        attrs["state_names"] = labels
    return Opened(attrs, lengths, np.cumsum(lengths) - lengths, columns)


def _info(folder: Path) -> dict[str, Any]:
    try:
        info = json.loads((folder / INFO).read_bytes())
        version = str(info["codebase_version"])
        if version.startswith("v3."):
            if float(info["fps"]) > 0 and isinstance(info["features"], dict) and info["data_path"]:
                return info
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise RecordingError(
            f"{folder / INFO} is no description of a LeRobot dataset: copy it again"
        ) from None
    raise RecordingError(
        f"{folder} is a LeRobot dataset of version {version}, and version 3 is read here: convert it with "
        "LeRobot's own converter"
    )


def _camera(folder: Path, features: Mapping[str, Any], wanted: str | None) -> str:
    videos = [name for name, feature in features.items() if feature.get("dtype") == "video"]
    if wanted is None and len(videos) == 1:
        return videos[0]
    if wanted in videos:
        return str(wanted)
    if wanted is None and videos:
        raise RecordingError(f"{folder} has {len(videos)} cameras: say data.camera= one of {_list(videos)}")
    if not videos:
        raise RecordingError(f"{folder} has no videos: frames kept as pictures in its tables are not read")
    raise RecordingError(f"{folder} has no camera {wanted!r}: choose data.camera from {_list(videos)}")


def _known(folder: Path, features: Mapping[str, Any], key: str) -> str:
    if key not in features:
        raise RecordingError(f"{folder} has no {key!r}; it has {_list(features)}")
    return key


def _parquet(path: Path, columns: list[str] | None = None) -> Any:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise RecordingError(
            "LeRobot datasets are read with pyarrow: pip install 'latent-planner[lerobot]'"
        ) from error
    try:
        return parquet.read_table(path, columns=columns)
    except (OSError, pyarrow.ArrowException) as error:
        raise RecordingError(
            f"{path} cannot be read ({str(error).splitlines()[0]}): copy it again"
        ) from error


def _episodes(folder: Path) -> dict[str, np.ndarray]:
    """What the episodes' tables say, in order of episodes: name -> (E,), plain columns only."""
    files = sorted((folder / "meta" / "episodes").glob("**/*.parquet"))
    if not files:
        raise RecordingError(f"{folder / 'meta' / 'episodes'} has no tables: copy the dataset again")
    tables = [_plain(_parquet(path)) for path in files]
    found = {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}
    if "episode_index" not in found or "length" not in found or not len(found["length"]):
        raise RecordingError(f"{folder / 'meta' / 'episodes'} lists no episodes: record some first")
    order = np.argsort(found["episode_index"], kind="stable")
    return {name: values[order] for name, values in found.items() if values.ndim == 1}


def _rows(folder: Path, info: Mapping[str, Any], episodes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All columns of numbers, rows in order of episodes and of time."""
    places = sorted(set(zip(episodes["data/chunk_index"].tolist(), episodes["data/file_index"].tolist())))
    paths = [_inside(folder, info["data_path"], chunk_index=c, file_index=f) for c, f in places]
    tables = [_plain(_parquet(path)) for path in paths]
    found = {
        name: np.concatenate([t[name] for t in tables])
        for name in tables[0]
        if all(name in t for t in tables)
    }
    for name in ("episode_index", "frame_index", "timestamp"):
        if name not in found:
            raise RecordingError(f"{paths[0]} has no column {name!r}: copy the dataset again")
    chosen = np.isin(found["episode_index"], episodes["episode_index"])
    order = np.lexsort((found["frame_index"], found["episode_index"]))
    order = order[chosen[order]]
    found = {name: values[order] for name, values in found.items()}
    which, counts = np.unique(found["episode_index"], return_counts=True)
    if not np.array_equal(which, episodes["episode_index"]) or not np.array_equal(counts, episodes["length"]):
        raise RecordingError(
            f"{folder} has other numbers of rows in data/ than its list of episodes says: copy it again"
        )
    return found


def _plain(table: Any) -> dict[str, np.ndarray]:
    """The table's columns of numbers (N,), and of equally long lists of numbers (N, D)."""
    import pyarrow.types as kinds

    found = {}
    for name in table.column_names:
        column = table.column(name)
        inner = (
            column.type.value_type
            if kinds.is_list(column.type) or kinds.is_fixed_size_list(column.type)
            else None
        )
        kind = column.type if inner is None else inner
        if not (kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_boolean(kind)):
            continue
        column = column.combine_chunks()
        if inner is None:
            found[name] = column.to_numpy(zero_copy_only=False)
            continue
        flat = column.flatten().to_numpy(zero_copy_only=False)
        if len(column) and len(flat) % len(column) == 0 and len(flat):
            found[name] = flat.reshape(len(column), -1)
    return found


def _videos(
    folder: Path, info: Mapping[str, Any], camera: str, episodes: Mapping[str, np.ndarray], stamps: np.ndarray
) -> Videos:
    """The camera's frames: of each row, which file it is in and when."""
    names = [f"videos/{camera}/{what}" for what in ("chunk_index", "file_index", "from_timestamp")]
    if any(name not in episodes for name in names) or not info.get("video_path"):
        raise RecordingError(f"{folder} does not say where the videos of {camera} are: copy it again")
    chunks, files, begins = (episodes[name] for name in names)
    places = sorted(set(zip(chunks.tolist(), files.tolist())))
    template, number = info["video_path"], {place: i for i, place in enumerate(places)}
    paths = [_inside(folder, template, video_key=camera, chunk_index=c, file_index=f) for c, f in places]
    which = np.array([number[place] for place in zip(chunks.tolist(), files.tolist())])
    lengths = episodes["length"]
    times = np.repeat(begins.astype(np.float64), lengths) + stamps
    return Videos(paths, np.repeat(which, lengths), times, fps=float(info["fps"]))


def _inside(folder: Path, template: str, **values: Any) -> Path:
    """The file that a template of info.json means, which must lie in the folder."""
    try:
        path = folder / template.format(**values)
    except (KeyError, IndexError, ValueError, AttributeError):
        raise RecordingError(f"{folder / INFO} has an unusable path {template!r}: copy it again") from None
    if not path.resolve().is_relative_to(folder.resolve()):
        raise RecordingError(f"{folder / INFO} points outside its folder ({template!r}): do not trust it")
    if not path.is_file():
        raise RecordingError(f"{path} is missing: copy the dataset again")
    return path


def _numbers(values: np.ndarray) -> np.ndarray:
    """As float, a row a frame."""
    rows = values.reshape(len(values), -1)
    return rows if rows.dtype.kind == "f" else rows.astype(np.float32)


def _labels(feature: Mapping[str, Any]) -> list[str]:
    """Names of a feature's components: a list, or lists under headings; empty where they are not said."""
    names = feature.get("names")
    if isinstance(names, dict):
        names = [name for part in names.values() if isinstance(part, list) for name in part]
    return [str(name) for name in names] if isinstance(names, list) else []


def _list(names: Any) -> str:
    return ", ".join(str(name) for name in names)
