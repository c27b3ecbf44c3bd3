"""Random windows from a recording that memory does not hold, as LeWM packs them (Blosc, 100 frames a chunk).

    python tests/benchmarks/bench_disk.py make big.h5 --frames 2000000 --size 224 --noise 1700
    python tests/benchmarks/bench_disk.py read big.h5 [--memory-gb 1] [--warm-gb 4] [--seconds 10]

`make` records 2,000 PushT frames and repeats their chunks until there are enough, so that a file of 40 GB
takes minutes. With --noise so many pixels of each frame are random: what cameras see packs worse than what is
drawn.

`read` says how many windows of 4 frames, 5 steps apart, the training loader makes a second: from a part of
the file that is in the page cache, and from all of it; beside it, the HDF5 library in the place of our
reading. What the disk and the decompressor could give at most stands below.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import h5py
import numpy as np
from tqdm import tqdm

CHUNK, EPISODE, WINDOW, STRIDE, BATCH = 100, 100, 4, 5, 128
DISTINCT = 2000  # frames that are really drawn


def make(path: Path, frames: int, size: int, noise: int) -> None:
    """A file as LeWM's recordings are, of `frames` frames."""
    import hdf5plugin

    from latent_planner import envs
    from latent_planner.envs import policies

    env, policy = envs.make("pusht", image_size=size, reference_look=True), policies.make_policy("pusht")
    rng, frames = np.random.default_rng(0), frames // CHUNK * CHUNK
    packing = hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.SHUFFLE)
    shape = (size, size, 3)
    with h5py.File(path, "w", libver="latest", fs_strategy="page", fs_page_size=4 << 20) as file:
        options: dict[str, Any] = {
            "maxshape": (None, *shape),
            "chunks": (CHUNK, *shape),
            "compression": packing,
        }
        pixels = file.create_dataset("pixels", (frames, *shape), np.uint8, **options)
        drawn = []
        for first in tqdm(range(0, min(DISTINCT, frames), CHUNK), desc="drawing"):
            obs, _ = env.reset(seed=first)
            policy.reset(np.random.default_rng(first))
            for _ in range(CHUNK):
                frame = obs["pixels"].copy()
                places = rng.integers(0, size * size, noise)
                frame.reshape(-1, 3)[places] = rng.integers(0, 256, (noise, 3), np.uint8)
                drawn.append(frame)
                obs, *_ = env.step(policy.act(obs))
            pixels[first : first + CHUNK] = np.array(drawn)
            drawn = []
        packed = [
            pixels.id.read_direct_chunk((first, 0, 0, 0))[1]
            for first in range(0, min(DISTINCT, frames), CHUNK)
        ]
        for first in tqdm(range(DISTINCT, frames, CHUNK), desc="repeating"):
            pixels.id.write_direct_chunk((first, 0, 0, 0), packed[rng.integers(len(packed))])
        action = rng.uniform(-1, 1, (frames, 2)).astype(np.float32)
        action[EPISODE - 1 :: EPISODE] = np.nan
        file.create_dataset("action", data=action, chunks=(1000, 2), maxshape=(None, 2))
        file["ep_len"] = np.full(frames // EPISODE, EPISODE, np.int32)
        file["ep_offset"] = np.arange(0, frames, EPISODE)
    print(f"{path}: {frames} frames, {path.stat().st_size / 1e9:.1f} GB")


def rate(work: Callable[[], int], seconds: float) -> tuple[float, float]:
    """How much `work` does a second, and processor seconds a unit."""
    work()
    done, began, cpu = 0, time.perf_counter(), sum(os.times()[:2])
    while time.perf_counter() - began < seconds:
        done += work()
    return done / (time.perf_counter() - began), (sum(os.times()[:2]) - cpu) / done


def starts(rng: np.random.Generator, rows: int) -> np.ndarray:
    """Rows where windows begin, within episodes of the first `rows` rows."""
    return rng.integers(rows // EPISODE, size=BATCH) * EPISODE + rng.integers(EPISODE - 15, size=BATCH)


def loader(reader: Any, rows: int, memory_gb: float) -> Callable[[], int]:
    """Batches as training asks for them, made ahead by the loader's own threads."""
    from latent_planner.training.dataset import WindowDataset
    from latent_planner.training.frame_store import prefetch

    dataset = WindowDataset(reader, num_frames=WINDOW, frameskip=STRIDE, memory_gb=memory_gb, progress=False)
    assert dataset.place == "disk", "the frames fit into memory: lower --memory-gb"
    limit = dataset.starts["train"][dataset.starts["train"] < rows]
    dataset.starts["train"] = limit
    batches = prefetch(lambda k: dataset.batch(k, BATCH), 0, workers=dataset.workers)
    ready = batches.__enter__()

    def one() -> int:
        return len(next(ready).pixels)

    one.close = lambda: batches.__exit__(None, None, None)  # type: ignore[attr-defined]
    return one


def library(path: Path, rows: int) -> Callable[[], int]:
    """The same windows through h5py, one slice each, with a chunk cache of 256 MB."""
    import hdf5plugin  # noqa: F401

    pixels, rng = h5py.File(path, rdcc_nbytes=256 << 20)["pixels"], np.random.default_rng(1)

    def few(count: int = 4) -> int:
        for start in starts(rng, rows)[:count].tolist():
            pixels[start : start + 16 : STRIDE]
        return count

    return few


def disk_rate(path: Path, size: int = 4 << 30) -> float:
    """Bytes a second of one sequential read at the file's end, after the system was told to forget it."""
    with open(path, "rb", buffering=0) as file:
        begin = max(0, path.stat().st_size - size)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), begin, 0, os.POSIX_FADV_DONTNEED)
        file.seek(begin)
        began, done, buffer = time.perf_counter(), 0, bytearray(8 << 20)
        while count := file.readinto(buffer):
            done += count
        return done / (time.perf_counter() - began)


def packed_bytes(column: Any, rows: np.ndarray) -> int:
    """Bytes of the file that these rows are unpacked from: the blocks they lie in, or all of their chunks."""
    import struct

    total = 0
    for row in rows.tolist():
        chunk, within = divmod(row, column.chunk_rows)
        start = int(column.offsets[chunk])
        if type(column).__name__ != "BloscChunks" or column.raw[chunk]:
            total += int(column.sizes[chunk])
            continue
        block = struct.unpack_from("<I", column.view, start + 8)[0]
        for number in range(
            within * column.row_bytes // block, ((within + 1) * column.row_bytes - 1) // block + 1
        ):
            at = struct.unpack_from("<i", column.view, start + 16 + 4 * number)[0]
            total += 4 + struct.unpack_from("<i", column.view, start + at)[0]
    return total


def read(path: Path, memory_gb: float, warm_gb: float, seconds: float) -> None:
    from latent_planner.envs.recordings.columns import usable_cpus
    from latent_planner.envs.recordings.episodes import EpisodeReader

    began = time.perf_counter()
    reader = EpisodeReader(path)
    column, frame = reader._columns["pixels"], int(np.prod(reader.read("pixels", 0, 1).shape))
    size, rows = path.stat().st_size, reader.num_frames
    print(
        f"{path}: {rows} frames of {reader.image_size} px, {size / 1e9:.1f} GB packed, "
        f"{rows * frame / 1e9:.0f} GB unpacked; opened in {time.perf_counter() - began:.1f} s; "
        f"{usable_cpus()} cores"
    )
    warm = min(rows, max(2 * EPISODE, int(rows * warm_gb * 1e9 / size))) // EPISODE * EPISODE
    rng = np.random.default_rng(0)
    sample = (starts(rng, warm)[:, None] + np.arange(0, 20, STRIDE)[:WINDOW]).ravel()
    share = packed_bytes(column, sample) / len(sample)
    with open(path, "rb", buffering=0) as file:  # into the page cache
        buffer, left = bytearray(8 << 20), int(size * warm / rows)
        while left > 0 and (count := file.readinto(buffer)):
            left -= count
    for name, limit in (("warm", warm), ("all", rows)):
        batches = loader(reader, limit, memory_gb)
        found, cpu = rate(batches, seconds)
        batches.close()  # type: ignore[attr-defined]
        what = f"{size * limit / rows / 1e9:.1f} GB"
        print(
            f"{name:5} ({what}): {found:7.0f} windows/s; {found * WINDOW * share / 1e6:.0f} MB/s from the "
            f"file, {found * WINDOW * frame / 1e6:.0f} MB/s of frames; {cpu / WINDOW * 1e6:.0f} us of a core "
            "a frame"
        )
    found, cpu = rate(library(path, warm), seconds)
    print(f"HDF5 library, warm: {found:.0f} windows/s, {cpu / WINDOW * 1e6:.0f} us of a core a frame")
    out = np.empty((1, *reader.read("pixels", 0, 1).shape[1:]), np.uint8)

    def unpack() -> int:
        column.read(sample[rng.integers(len(sample), size=1)], out)
        return 1

    found, _ = rate(unpack, seconds / 3)
    print(
        f"limits: unpacking {found * usable_cpus() / WINDOW:.0f} windows/s ({found:.0f} frames/s a core, "
        f"into memory that is there); the disk {disk_rate(path) / 1e6:.0f} MB/s in sequence; a frame needs "
        f"{share / 1e3:.1f} kB, {column.sizes.mean() / column.chunk_rows / 1e3:.1f} kB are stored"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("path", type=Path)
    making.add_argument("--frames", type=int, default=200_000)
    making.add_argument("--size", type=int, default=224)
    making.add_argument("--noise", type=int, default=0, help="random pixels in each frame")
    reading = commands.add_parser("read")
    reading.add_argument("path", type=Path)
    reading.add_argument("--memory-gb", type=float, default=1.0, help="as data.memory_gb")
    reading.add_argument("--warm-gb", type=float, default=4.0, help="of the file, kept in the page cache")
    reading.add_argument("--seconds", type=float, default=10.0)
    args = parser.parse_args()
    if args.command == "make":
        make(args.path, args.frames, args.size, args.noise)
    else:
        read(args.path, args.memory_gb, args.warm_gb, args.seconds)


if __name__ == "__main__":
    main()
