"""How fast recordings are made and read.

    python tests/benchmarks/bench_collect.py          collect 200,000 PushT frames at 64 px, then read them
    python tests/benchmarks/bench_collect.py my.h5    read that recording only

Printed: frames collected a second; a read from the first frame to the last; windows of 4 frames at stride 5,
as a batch of 128 asks for them. Each with processor time too, which a busy machine stretches less.
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

from latent_planner.envs.recordings.collect import collect
from latent_planner.envs.recordings.columns import usable_cpus
from latent_planner.envs.recordings.episodes import EpisodeReader


class Clock:
    """Seconds that passed, and processor seconds of this process and of those that it waited for."""

    def __init__(self) -> None:
        self.began, self.cpu = time.perf_counter(), self._processor()

    def __call__(self) -> tuple[float, float]:
        return time.perf_counter() - self.began, self._processor() - self.cpu

    @staticmethod
    def _processor() -> float:
        return sum(os.times()[:4])


def bench_collect(env: str, path: Path, episodes: int, image_size: int, workers: int | None) -> None:
    clock, frames = Clock(), episodes * 100
    collect(env, path, episodes=episodes, length=100, image_size=image_size, workers=workers)
    seconds, cpu = clock()
    size = path.stat().st_size
    print(f"collect {env} at {image_size} px: {frames} frames in {seconds:.1f} s = {frames / seconds:.0f}/s")
    print(
        f"  {cpu / frames * 1e6:.0f} us of a core a frame; {size / 1e6:.1f} MB, {size / frames:.0f} B a frame"
    )


def bench_read(path: Path, batch: int = 128, least: float = 5.0) -> None:
    clock = Clock()
    reader = EpisodeReader(path)
    print(f"open: {clock()[0]:.2f} s")
    frames, size = reader.num_frames, reader.image_size**2 * 3 / 1e6

    clock, slab = Clock(), max(1, int(32 / size))
    for start in range(0, frames, slab):
        reader.read("pixels", start, min(start + slab, frames))
    seconds, cpu = clock()
    print(f"sequential: {frames} frames in {seconds:.2f} s = {frames * size / seconds:.0f} MB/s unpacked")
    print(f"  {cpu / frames * 1e6:.1f} us of a core a frame")

    rng, windows, clock = np.random.default_rng(0), 0, Clock()
    while clock()[0] < least:
        episodes = rng.integers(len(reader.lengths), size=batch)
        starts = reader.offsets[episodes] + (rng.random(batch) * (reader.lengths[episodes] - 15)).astype(int)
        reader.read_rows("pixels", (starts[:, None] + np.arange(0, 20, 5)).reshape(-1))
        windows += batch
    seconds, cpu = clock()
    print(f"windows: {windows / seconds:.0f} windows/s = {windows * 4 * size / seconds:.0f} MB/s unpacked")
    print(f"  {cpu / windows / 4 * 1e6:.1f} us of a core a frame")


def main() -> None:
    parser = argparse.ArgumentParser(description="How fast recordings are made and read.")
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
