"""Does the model ever wait for its data? Batches a second, and the share of a training step spent waiting.

    python tests/benchmarks/bench_loader.py                      # random frames: 20,000 of 64 px
    python tests/benchmarks/bench_loader.py data/pusht.h5        # a recording; then also read from disk

For each place the frames can live in: how long one batch of 128 windows of 4 frames takes to make, and what
the training loop itself measures as `data_wait` with the default small model.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_run import SquareRecording, rows

from latent_planner.model.world_model import WorldModel, WorldModelConfig
from latent_planner.training.dataset import WindowDataset
from latent_planner.training.frame_store import prefetch
from latent_planner.training.train_config import TrainConfig
from latent_planner.training.trainer import Trainer, training_device


def milliseconds_a_batch(dataset: WindowDataset, size: int, count: int = 20) -> float:
    """With the loader's own threads, and nothing else to do."""
    with prefetch(lambda k: dataset.batch(k, size), 0, workers=dataset.workers) as batches:
        next(batches)
        start = time.perf_counter()
        for _ in range(count):
            next(batches)
    return 1000 * (time.perf_counter() - start) / count


def trained(dataset: WindowDataset, size: int, steps: int) -> dict[str, Any]:
    """The last logged row of a short run of the default model."""
    model = WorldModel(WorldModelConfig(**dataset.statistics()))
    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(steps=2 * steps, batch_size=size, log_every=steps, evaluate_every_minutes=None)
        Trainer(model, dataset, config, run_dir=folder, probe=False, progress=False).fit()
        return [row for row in rows(folder) if "loss" in row][-1]  # the first half warms up


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recording", nargs="?", type=Path)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=128)
    arguments = parser.parse_args()
    if arguments.recording:
        from latent_planner.envs.recordings.episodes import EpisodeReader

        reader: Any = EpisodeReader(arguments.recording)
    else:
        reader = SquareRecording(episodes=200, length=100, size=64)
        reader.data["pixels"] = np.random.default_rng(0).integers(0, 256, (20_000, 64, 64, 3), np.uint8)
    device = training_device()
    print(
        f"{reader.num_frames} frames of {reader.image_size} px, {device}, {torch.get_num_threads()} threads"
    )
    for memory_gb in (None, 0):
        dataset = WindowDataset(reader, num_frames=4, frameskip=5, device=device, memory_gb=memory_gb)
        alone, row = (
            milliseconds_a_batch(dataset, arguments.batch),
            trained(dataset, arguments.batch, arguments.steps),
        )
        step = 1000 / row["steps_per_second"]
        print(
            f"{dataset.place:>6}: {alone:6.1f} ms a batch alone; {step:7.1f} ms a training step, "
            f"{100 * row['data_wait']:.2f} % of it waiting for data"
        )


if __name__ == "__main__":
    main()
