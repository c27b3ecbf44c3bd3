"""A world model and a recording that train in a second, for the tests and for the processes they start.

python tests/tiny_run.py RUN_DIR '{"steps": 20, "batch_size": 8}'
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
from waiting import until

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


class SquareRecording:
    """In memory, what an EpisodeReader is on disk: a red square on white that its actions push around."""

    def __init__(self, episodes: int = 16, length: int = 24, size: int = 32, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.path, self.env, self.image_size = Path("square.h5"), "square", size
        self.columns: tuple[str, ...] = ("pixels", "state", "action")
        self.state_names, self.angle_names = ("x", "y", "direction"), ("direction",)
        self.lengths = np.full(episodes, length)
        self.offsets = np.arange(episodes) * length
        self.num_frames = episodes * length
        self.action_low, self.action_high = np.full(2, -1.0), np.full(2, 1.0)
        self.data: dict[str, np.ndarray] = {
            "pixels": np.full((self.num_frames, size, size, 3), 255, np.uint8),
            "state": np.zeros((self.num_frames, 3), np.float32),
            "action": rng.uniform(-1, 1, (self.num_frames, 2)).astype(np.float32),
        }
        self.data["action"][self.offsets + length - 1] = np.nan
        for first in self.offsets:
            at = rng.uniform(2, size - 8, 2)
            for row in range(first, first + length):
                x, y = at.astype(int)
                self.data["pixels"][row, y : y + 6, x : x + 6] = (220, 20, 20)
                self.data["state"][row] = (*at, np.arctan2(at[1] - size / 2, at[0] - size / 2))
                at = np.clip(at + 2 * np.nan_to_num(self.data["action"][row]), 0, size - 7)

    def read(self, column: str, start: int, stop: int) -> np.ndarray:
        return self.data[column][start:stop]

    def read_rows(self, column: str, rows: np.ndarray) -> np.ndarray:
        return self.data[column][rows]


def tiny_dataset(reader: Any = None, **options: Any) -> Any:
    from latent_planner.training.dataset import WindowDataset

    options = {"num_frames": 4, "frameskip": 2, "held_out": 0.25, "progress": False} | options
    return WindowDataset(reader or SquareRecording(), **options)


def tiny_model(dataset: Any, **options: Any) -> Any:
    import torch

    from latent_planner.model.world_model import WorldModel, WorldModelConfig

    values = {
        "frameskip": dataset.frameskip,
        "latent_dim": 12,
        "projector_dim": 24,
        "encoder_width": 8,
        "predictor_width": 24,
        "predictor_depth": 1,
        "predictor_heads": 2,
        "predictor_head_dim": 12,
        "predictor_mlp_dim": 32,
        "dropout": 0.1,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return WorldModel(WorldModelConfig(**dataset.statistics(), **(values | options)))


def tiny_trainer(run_dir: str | Path, *, model: dict[str, Any] | None = None, **options: Any) -> Any:
    """A Trainer; options are those of the Trainer and of TrainConfig."""
    from latent_planner.training.train_config import TrainConfig
    from latent_planner.training.trainer import Trainer

    own: dict[str, Any] = {"probe": False} | {
        name: options.pop(name) for name in ("evaluate", "log", "probe", "planner") if name in options
    }
    dataset = options.pop("dataset", None) or tiny_dataset()
    config = {"batch_size": 8, "log_every": 1, "sigreg_directions": 32, "evaluate_every_minutes": None}
    return Trainer(
        tiny_model(dataset, **(model or {})),
        dataset,
        TrainConfig(**(config | options)),
        run_dir=run_dir,
        progress=False,
        **own,
    )


def rows(run_dir: str | Path) -> list[dict[str, Any]]:
    """What a run has logged."""
    return [json.loads(line) for line in (Path(run_dir) / "metrics.jsonl").read_text().splitlines()]


def losses(run_dir: str | Path) -> list[tuple[float, ...]]:
    """(step, loss, prediction, sigreg, gradient norm, held-out error) of each row, for comparing runs."""
    names = ("step", "loss", "prediction", "sigreg", "gradient_norm", "held_out")
    return [tuple(row[name] for name in names) for row in rows(run_dir) if "loss" in row]


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    logging.basicConfig(level=logging.INFO)
    settings = json.loads(sys.argv[2])
    hold_at = settings.pop("hold_at", None)  # the step that waits for a file RUN_DIR.go, to be stopped before
    if hold_at is not None:
        go = Path(sys.argv[1] + ".go")
        settings["log"] = lambda row: until(lambda: row["step"] < hold_at or go.exists())
    tiny_trainer(sys.argv[1], **settings).fit()
