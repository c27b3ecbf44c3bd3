"""An encoder that sees the same in other colours, on other grounds, in other light."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_run import SquareRecording, tiny_dataset, tiny_trainer

from latent_planner.model.world_model import WorldModel
from latent_planner.training.dataset import DatasetError, WindowDataset
from latent_planner.training.robust.augment import Augmentation
from latent_planner.training.robust.learn import RobustEncoder

GREEN, BLUE = np.array([30, 160, 60], np.uint8), np.array([40, 60, 140], np.uint8)


class TwoLooks(SquareRecording):
    """The same square also in a colour of each episode's own, on a ground of its own: a column of other looks."""

    look_column = "pixels_look"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        clean = self.data["pixels"]
        square = (clean != 255).any(-1)
        looks = clean.copy()
        rng = np.random.default_rng(5)
        for first, length in zip(self.offsets, self.lengths):
            ground = rng.integers(0, 256, 3)
            thing = (ground + 60 + rng.integers(0, 136, 3)) % 256
            rows = slice(first, first + length)
            looks[rows] = np.where(square[rows, ..., None], thing, ground)
        self.columns = (*self.columns, "pixels_look")
        self.data["pixels_look"] = looks


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[WorldModel, WindowDataset]:
    dataset = tiny_dataset(TwoLooks(episodes=24), looks=True)
    folder = tmp_path_factory.mktemp("trained")
    trainer = tiny_trainer(folder, dataset=dataset, steps=120)
    trainer.fit()
    return trainer.world_model.eval(), dataset


def changed(frames: np.ndarray) -> np.ndarray:
    """The red square on white as a green one on blue."""
    square = (frames != 255).any(-1, keepdims=True)
    return np.where(square, GREEN, BLUE).astype(np.uint8)


def distance(world_model: WorldModel, teacher: WorldModel, frames: np.ndarray, other: np.ndarray) -> float:
    """Of what world_model says of `other` from what the teacher says of `frames`, as a share of the spread."""
    with torch.no_grad():
        wanted, found = (
            model.encode(torch.from_numpy(some).permute(0, 3, 1, 2)[:, None])[:, 0]
            for model, some in ((teacher, frames), (world_model, other))
        )
    return float((found - wanted).square().mean() / wanted.var(0).mean())


@pytest.mark.parametrize("rendered", [True, False])
def test_another_look_has_the_latent_of_the_recorded_one(
    trained: tuple[WorldModel, WindowDataset], rendered: bool
) -> None:
    teacher, dataset = trained
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    looks, dataset.looks = dataset.looks, dataset.looks if rendered else None
    try:
        rows: list[dict[str, float]] = []
        student = RobustEncoder(teacher, dataset, steps=150, batch_size=64, log=rows.append, progress=False).learn()
    finally:
        dataset.looks = looks
    frames = SquareRecording(episodes=6, seed=9).data["pixels"]
    assert distance(teacher, teacher, frames, changed(frames)) > 0.8
    assert distance(student, teacher, frames, changed(frames)) < 0.35
    assert distance(student, teacher, frames, frames) < 0.15
    assert rows[-1]["robust/as_recorded"] > 0.85 and rows[-1]["robust/other_looks"] > 0.6
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    kept = {name: value for name, value in before.items() if not name.startswith("encoder.")}
    assert all(torch.equal(student.state_dict()[name], value) for name, value in kept.items())
