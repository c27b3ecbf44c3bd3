"""What others publish, made small: LeWM's weights and recordings, and LeRobot folders."""

from __future__ import annotations

import functools
import json
import zlib
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from latent_planner import envs
from latent_planner.envs import policies

if TYPE_CHECKING:
    from torch import Tensor

DATA = Path(__file__).parent / "data"
Columns = dict[str, np.ndarray]


@functools.cache
def weights() -> dict[str, Tensor]:
    """A published state dict with the reference weights, each drawn from its name."""
    import torch

    found = {}
    for name, shape in json.loads((DATA / "lewm_keys.json").read_text()).items():
        random = np.random.RandomState(zlib.crc32(name.encode()))
        value = np.asarray(0.05 * random.standard_normal(shape), dtype=np.float32)
        if name.endswith("running_var"):
            value = np.exp(value)
        elif name.endswith(".weight") and len(shape) == 1:
            value = 1 + value
        found[name] = torch.from_numpy(value)
        if name.endswith("num_batches_tracked"):
            found[name] = torch.zeros((), dtype=torch.int64)
    return found


def older_spelling(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with the vision transformer's keys as transformers 4 spells them."""
    from latent_planner.checkpoints.lewm_names import OLDER

    newer_to_older = {newer: older for older, newer in OLDER.items()}
    older = {}
    for name, value in state.items():
        module, _, parameter = name.rpartition(".")
        parts = module.split(".")
        pattern = ".".join("N" if part.isdigit() and i == 2 else part for i, part in enumerate(parts))
        if pattern in newer_to_older:
            name = f"{newer_to_older[pattern].replace('N', parts[2])}.{parameter}"
        older[name] = value
    return older


def episodes(world: str, count: int, length: int, size: int, *, published: bool = True) -> list[Columns]:
    """Episodes of a behaviour policy in a world that looks and moves as published."""
    env, policy = envs.make(world, image_size=size, reference_look=published), policies.make_policy(world)
    made = []
    for seed in range(count):
        obs, _ = env.reset(seed=seed)
        policy.reset(np.random.default_rng(seed))
        columns: dict[str, list[Any]] = {name: [] for name in ("pixels", "state", "action")}
        for step in range(length):
            action = policy.act(obs) if step + 1 < length else np.full(2, np.nan, np.float32)
            for name, value in (("pixels", obs["pixels"]), ("state", obs["state"]), ("action", action)):
                columns[name].append(value)
            if step + 1 < length:
                obs, *_ = env.step(action)
        made.append({name: np.array(values) for name, values in columns.items()})
    return made


def recording(
    path: Path, parts: list[Columns], *, blosc: dict[str, Any] | None = None, chunk: int = 100
) -> Columns:
    """An HDF5 file as LeWM's recordings are: resizable flat columns, grown episode by episode; pictures in
    chunks of 100, packed by Blosc with LZ4; more columns than anybody needs. Returns the columns."""
    import hdf5plugin

    packing = hdf5plugin.Blosc(
        **(blosc or {"cname": "lz4", "clevel": 5, "shuffle": hdf5plugin.Blosc.SHUFFLE})
    )
    with h5py.File(path, "w", libver="latest", fs_strategy="page", fs_page_size=1 << 16) as file:
        for index, part in enumerate(parts):
            length = len(part["pixels"])
            part = part | {"step_idx": np.arange(length), "ep_idx": np.full(length, index, np.int32)}
            start = file["pixels"].shape[0] if index else 0
            for name, values in part.items():
                if not index:
                    shape, pictures = values.shape[1:], values.ndim > 2
                    layout = (
                        {"chunks": (chunk, *shape), "compression": packing}
                        if pictures
                        else {"chunks": (1000, *shape)}
                    )
                    file.create_dataset(name, (0, *shape), values.dtype, maxshape=(None, *shape), **layout)
                file[name].resize(start + length, axis=0)
                file[name][start:] = values
        lengths = np.array([len(part["pixels"]) for part in parts])
        file.create_dataset("ep_len", data=lengths.astype(np.int32), maxshape=(None,))
        file.create_dataset("ep_offset", data=np.cumsum(lengths) - lengths, maxshape=(None,))
        file.create_dataset("policy", data=["expert"] * int(lengths.sum()), dtype=h5py.string_dtype())
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


# LeRobot ---------------------------------------------------------------------------------------------------

CAMERA = "observation.images.top"


def coded_frame(episode: int, step: int, height: int, width: int) -> np.ndarray:
    """A picture that tells which it is: its left half the episode, its right half the step."""
    frame = np.empty((height, width, 3), np.uint8)
    frame[:, : width // 2] = 20 + 30 * episode
    frame[:, width // 2 :] = 20 + 10 * step
    return frame


def lerobot(
    folder: Path,
    *,
    lengths: tuple[int, ...] = (7, 4, 9, 6),
    cameras: tuple[str, ...] = (CAMERA,),
    fps: int = 10,
    drift: float = 0.0,
    per_table: int = 3,
    per_video: int = 2,
    size: tuple[int, int] = (48, 64),
) -> Columns:
    """A LeRobot dataset of version 3: several episodes in each table and each video. Returns its columns.

    drift: seconds by which every further episode of a video is listed too late.
    """
    import pyarrow as pa
    from pyarrow import parquet

    rng, rows, listed, start = np.random.default_rng(0), [], [], 0
    for episode, length in enumerate(lengths):
        row: dict[str, Any] = {
            "episode_index": episode,
            "tasks": ["push"],
            "length": length,
            "data/chunk_index": 0,
            "data/file_index": episode // per_table,
            "dataset_from_index": start,
            "dataset_to_index": start + length,
        }
        for camera in cameras:
            before = sum(lengths[episode - episode % per_video : episode])
            row[f"videos/{camera}/chunk_index"] = 0
            row[f"videos/{camera}/file_index"] = episode // per_video
            row[f"videos/{camera}/from_timestamp"] = before / fps + drift * (episode % per_video)
            row[f"videos/{camera}/to_timestamp"] = (before + length) / fps
        listed.append(row)
        rows += [
            {
                "observation.state": rng.normal(size=3).astype(np.float32),
                "action": rng.normal(size=2).astype(np.float32),
                "timestamp": np.float32(step / fps),
                "frame_index": step,
                "episode_index": episode,
                "index": start + step,
                "task_index": 0,
            }
            for step in range(length)
        ]
        start += length
    _write_lerobot_tables(folder, rows, listed, pa, parquet)
    for camera in cameras:
        for file in range(-(-len(lengths) // per_video)):
            inside = range(file * per_video, min((file + 1) * per_video, len(lengths)))
            frames = [coded_frame(e, s, *size) for e in inside for s in range(lengths[e])]
            video(folder / "videos" / camera / "chunk-000" / f"file-{file:03d}.mp4", frames, fps)
    height, width = size
    feature = {"dtype": "video", "shape": [height, width, 3], "names": ["height", "width", "channels"]}
    info = {
        "codebase_version": "v3.0",
        "robot_type": "so100",
        "total_episodes": len(lengths),
        "total_frames": start,
        "total_tasks": 1,
        "chunks_size": 1000,
        "fps": fps,
        "splits": {"train": f"0:{len(lengths)}"},
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
        "features": {camera: feature for camera in cameras}
        | {
            "observation.state": {
                "dtype": "float32",
                "shape": [3],
                "names": {"motors": ["pan", "lift", "grip"]},
            },
            "action": {"dtype": "float32", "shape": [2], "names": ["x", "y"]},
            **{
                name: {"dtype": "float32" if name == "timestamp" else "int64", "shape": [1], "names": None}
                for name in ("timestamp", "frame_index", "episode_index", "index", "task_index")
            },
        },
    }
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    actions = np.array([row["action"] for row in rows])
    stats = {"action": {"mean": actions.mean(0).tolist(), "std": actions.std(0).tolist()}}
    (folder / "meta" / "stats.json").write_text(json.dumps(stats))
    return {
        "action": actions,
        "state": np.array([row["observation.state"] for row in rows]),
        "pixels": np.array([coded_frame(row["episode_index"], row["frame_index"], *size) for row in rows]),
    }


def lerobot_2(folder: Path, *, pictures: bool = False, **options: Any) -> Columns:
    """The same in version 2.1: a table and a video an episode; or with its pictures in the tables."""
    import io
    import shutil

    import pyarrow as pa
    from PIL import Image
    from pyarrow import parquet

    columns = lerobot(folder, per_table=1, per_video=1, **options)
    info = json.loads((folder / "meta" / "info.json").read_text())
    (camera,) = (name for name, feature in info["features"].items() if feature["dtype"] == "video")
    listed = parquet.read_table(folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet").to_pylist()
    shutil.rmtree(folder / "meta" / "episodes")
    lines = [
        {"episode_index": e["episode_index"], "tasks": e["tasks"], "length": e["length"]} for e in listed
    ]
    (folder / "meta" / "episodes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "videos" / "chunk-000").mkdir()
    (folder / "videos" / camera / "chunk-000").rename(folder / "videos" / "chunk-000" / camera)
    (folder / "videos" / camera).rmdir()
    for old in sorted((folder / "videos" / "chunk-000" / camera).glob("*.mp4")):
        old.rename(old.with_name(old.name.replace("file-", "episode_000")))
    for old in sorted((folder / "data" / "chunk-000").glob("*.parquet")):
        table = parquet.read_table(old)
        if pictures:
            blobs = []
            for row in table.to_pylist():
                packed, code = io.BytesIO(), (row["episode_index"], row["frame_index"])
                Image.fromarray(coded_frame(*code, *options.get("size", (48, 64)))).save(packed, "PNG")
                blobs.append({"bytes": packed.getvalue(), "path": f"frame_{code[1]:06d}.png"})
            table = table.append_column(camera, pa.array(blobs))
        parquet.write_table(table, old.with_name(old.name.replace("file-", "episode_000")))
        old.unlink()
    info |= {
        "codebase_version": "v2.1",
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }
    if pictures:
        info["features"][camera]["dtype"], info["video_path"] = "image", None
        shutil.rmtree(folder / "videos")
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    return columns


def _write_lerobot_tables(folder: Path, rows: list[Any], listed: list[Any], pa: Any, parquet: Any) -> None:
    for file in sorted({row["data/file_index"] for row in listed}):
        inside = {row["episode_index"] for row in listed if row["data/file_index"] == file}
        table = pa.Table.from_pylist([row for row in rows if row["episode_index"] in inside])
        path = folder / "data" / "chunk-000" / f"file-{file:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(table, path)
    path = folder / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    path.parent.mkdir(parents=True)
    parquet.write_table(pa.Table.from_pylist(listed), path)


def video(path: Path, frames: list[np.ndarray], fps: int, stamps: list[int] | None = None) -> None:
    """An mp4 with a key frame every second frame, as LeRobot writes them.

    stamps: when each frame is shown, in frames; without it one after the other.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames[0].shape[:2]
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=fps, options={"crf": "1", "g": "2"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = stamps[number] if stamps else number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
