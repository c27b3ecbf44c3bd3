"""Cost as the work grows: collecting with more workers, opening and sampling larger recordings, the index.

    python tests/benchmarks/bench_scale.py              # a few minutes on two cores
    python tests/benchmarks/bench_scale.py --small      # seconds, to see that it runs

Large recordings are one shard repeated: its file is mapped once, and read as often as a recording of that
size would be, so reading comes from the system's cache and not from a disk. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from latent_planner.common.engines.engine import Engine
from latent_planner.envs.recordings import hdf5
from latent_planner.envs.recordings.collect import collect
from latent_planner.envs.recordings.episodes import EpisodeReader
from latent_planner.envs.recordings.sharded.collecting import collect_shards
from latent_planner.envs.recordings.sharded.reading import Joined


class Repeated(EpisodeReader):
    """A recording read as if it stood there `times` times, one after the other."""

    def __init__(self, path: Path, times: int) -> None:
        super().__init__(path)
        rows = self.num_frames
        self.lengths = np.tile(self.lengths, times)
        starts = np.repeat(np.arange(times, dtype=np.int64) * rows, len(self.offsets))
        self.offsets = np.tile(self.offsets, times) + starts
        self._columns = {name: Joined([column] * times) for name, column in self._columns.items()}
        self.num_frames = rows * times


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def workers(folder: Path, world: str, episodes: int, counts: list[int]) -> str:
    """Frames a second of collecting shards with so many workers, and bytes a frame."""
    rows, frames = [], episodes * 100
    began = time.perf_counter()
    path = collect(world, folder / "one.h5", episodes=episodes, workers=2, progress=False)
    spent = time.perf_counter() - began
    rows.append(["one file, 2", f"{frames / spent:,.0f}", f"{path.stat().st_size / frames:,.0f}"])
    for count in counts:
        out = folder / f"workers-{count}"
        began = time.perf_counter()
        collect_shards(world, out, episodes=episodes, shards=8, engine=Engine(workers=count), progress=False)
        spent = time.perf_counter() - began
        size = sum(file.stat().st_size for file in out.glob("*.h5"))
        rows.append([f"8 shards, {count}", f"{frames / spent:,.0f}", f"{size / frames:,.0f}"])
    return table(["workers", "frames/s", "bytes/frame"], rows)


def in_another_process(function: Any, *arguments: Any) -> dict[str, float]:
    """What a function returns, with the most memory that its process had, MB, beyond that of importing."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_measured, args=(queue, function, arguments))
    process.start()
    found = json.loads(queue.get())
    process.join()
    return found


def _measured(queue: Any, function: Any, arguments: Any) -> None:
    import latent_planner.training.dataset  # noqa: F401  (torch and all)

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    values = function(*arguments)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    queue.put(json.dumps({**values, "memory": (after - before) / 1024}))


def first_batch(path: str, times: int) -> dict[str, float]:
    """Seconds from opening to the first batch of 128 windows of 4 frames, and of ten more."""
    from latent_planner.training.dataset import WindowDataset

    began = time.perf_counter()
    reader = Repeated(Path(path), times)
    dataset = WindowDataset(reader, num_frames=4, frameskip=5, memory_gb=0, progress=False)
    dataset.batch(0, 128)
    first = time.perf_counter() - began
    began = time.perf_counter()
    for k in range(1, 11):
        dataset.batch(k, 128)
    return {"frames": reader.num_frames, "first": first, "next": (time.perf_counter() - began) / 10}


def reading(path: str, times: int) -> dict[str, float]:
    """Seconds of 512 random frames from a recording of that size, without training on it."""
    began = time.perf_counter()
    reader = Repeated(Path(path), times)
    rows = np.random.default_rng(0).integers(reader.num_frames, size=(10, 512))
    reader.read_rows("pixels", rows[0])
    first = time.perf_counter() - began
    began = time.perf_counter()
    for some in rows[1:]:
        reader.read_rows("pixels", some)
    return {"frames": reader.num_frames, "first": first, "next": (time.perf_counter() - began) / 9}


def write_short(path: Path, episodes: int) -> None:
    """A file of many episodes of ten tiny frames."""
    pixels = np.zeros((10, 8, 8, 3), np.uint8)

    stream = zlib.compress(pixels[0], 1)
    actions = np.zeros((10, 2), np.float32)
    actions[-1] = np.nan
    columns = {
        "pixels": hdf5.Stored(np.dtype(np.uint8), (8, 8, 3), True, ([stream] * 10 for _ in range(episodes))),
        "action": hdf5.Stored(np.dtype("<f4"), (2,), False, (actions for _ in range(episodes))),
    }
    hdf5.write(path, {"env": "tiny"}, np.full(episodes, 10), columns)


def index(path: str) -> dict[str, float]:
    """Seconds and memory of opening a file of many episodes."""
    began = time.perf_counter()
    opened = hdf5.read(Path(path))
    pixels: Any = opened.columns["pixels"]
    kept = opened.lengths.nbytes + opened.offsets.nbytes + pixels.offsets.nbytes + pixels.sizes.nbytes
    return {"episodes": len(opened.lengths), "seconds": time.perf_counter() - began, "kept": kept / 1e6}


def first_batches(shard: Path, times: list[int]) -> str:
    rows = []
    for count in times:
        f = in_another_process(first_batch, str(shard), count)
        each = 1e6 * f["memory"] / f["frames"]
        seconds = [f"{f['first']:.2f}", f"{1000 * f['next']:.0f}"]
        rows.append([f"{f['frames']:,}", *seconds, f"{f['memory']:,.0f}", f"{each:,.0f}"])
    head = ["frames", "to the first batch, s", "each next, ms", "most memory, MB", "bytes/frame"]
    return table(head, rows)


def readings(shard: Path, times: list[int]) -> str:
    rows = []
    for count in times:
        f = in_another_process(reading, str(shard), count)
        rows.append([f"{f['frames']:,}", f"{f['first']:.2f}", f"{1000 * f['next']:.0f}"])
    return table(["frames", "first 512 random frames, s", "each next 512, ms"], rows)


def indices(folder: Path, counts: list[int]) -> str:
    rows = []
    for episodes in counts:
        path = folder / f"{episodes}.h5"
        write_short(path, episodes)
        f = in_another_process(index, str(path))
        rows.append([f"{episodes:,}", f"{10 * episodes:,}", f"{f['seconds']:.2f}"])
        rows[-1] += [f"{f['kept']:,.1f}", f"{f['memory']:,.0f}"]
    return table(["episodes", "frames", "to open, s", "index kept, MB", "most memory, MB"], rows)


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--small", action="store_true", help="tiny, to see that it runs")
    parser.add_argument("--only", nargs="*", default=["workers", "first", "read", "index"])
    times = "how often the shard of 10,000 frames is read for the first batch: 10000 takes 10 GB of memory"
    parser.add_argument("--times", nargs="*", type=int, default=[10, 100, 1000], help=times)
    args = parser.parse_args()
    small = args.small
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "workers" in args.only:
            print(workers(folder, "pusht", 8 if small else 160, [1, 2] if small else [1, 2, 4, 8]))
        shard = collect("two_room", folder / "shard.h5", episodes=100, workers=2, progress=False)
        if "first" in args.only:
            print(first_batches(shard, [1] if small else args.times))
        if "read" in args.only:
            print(readings(shard, [1] if small else [10, 100, 1000, 10_000]))
        if "index" in args.only:
            print(indices(folder, [1000] if small else [10_000, 100_000, 300_000]))


if __name__ == "__main__":
    main()
