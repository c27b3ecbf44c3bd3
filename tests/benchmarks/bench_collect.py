"""How fast recordings are made and read.

    python tests/benchmarks/bench_collect.py                 collect 200,000 PushT frames at 64 px, then read them
    python tests/benchmarks/bench_collect.py my.h5           read that recording only

Printed: frames collected a second, seconds and bytes a second of a read from first to last frame, and windows of
4 frames at stride 5 a second, as a training batch of 128 asks for them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from envs.collect import collect
from envs.episodes import EpisodeReader
from envs.frames import usable_cpus


def bench_collect(env: str, path: Path, episodes: int, image_size: int, workers: int | None) -> None:
    began = time.perf_counter()
    collect(env, path, episodes=episodes, length=100, image_size=image_size, workers=workers)
    seconds = time.perf_counter() - began
    size = path.stat().st_size
    print(
        f"collect {env} {image_size} px: {episodes * 100} frames in {seconds:.1f} s, "
        f"{episodes * 100 / seconds:.0f} frames/s, file {size / 1e6:.1f} MB, {size / episodes / 100:.0f} bytes a frame"
    )


def bench_read(path: Path, batch: int = 128, seconds: float = 5.0) -> None:
    began = time.perf_counter()
    reader = EpisodeReader(path)
    print(f"open: {time.perf_counter() - began:.2f} s")
    frame = reader.image_size**2 * 3

    began = time.perf_counter()
    for start in range(0, reader.num_frames, 4096):
        reader.read("pixels", start, min(start + 4096, reader.num_frames))
    took = time.perf_counter() - began
    gigabytes = reader.num_frames * frame / 1e9
    print(f"sequential: {reader.num_frames} frames, {gigabytes:.2f} GB in {took:.2f} s, {gigabytes / took:.2f} GB/s")

    rng = np.random.default_rng(0)
    began, windows = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        episodes = rng.integers(len(reader.lengths), size=batch)
        starts = reader.offsets[episodes] + (rng.random(batch) * (reader.lengths[episodes] - 15)).astype(int)
        reader.read_rows("pixels", (starts[:, None] + np.arange(0, 20, 5)).reshape(-1))
        windows += batch
    took = time.perf_counter() - began
    print(f"random windows: {windows / took:.0f} windows/s, {windows * 4 * frame / took / 1e6:.0f} MB/s of frames")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", nargs="?", type=Path, help="read this one; default: collect one first")
    parser.add_argument("--env", default="pusht")
    parser.add_argument("--episodes", type=int, default=2000, help="of 100 frames")
    parser.add_argument("--image-size", type=int, default=64)
    parser.add_argument("--workers", type=int, default=None)
    args = parser.parse_args()
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    print(f"{usable_cpus()} cores{load}")
    with tempfile.TemporaryDirectory() as folder:
        path = args.recording or Path(folder) / "bench.h5"
        if args.recording is None:
            bench_collect(args.env, path, args.episodes, args.image_size, args.workers)
        bench_read(path)


if __name__ == "__main__":
    main()
