"""The benchmark that compares ways of training with other looks: its batches, its loss, its lesson."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from test_robust import TwoLooks
from tiny_run import tiny_model

from latent_planner.training.sigreg import SIGReg

SCRIPT = Path(__file__).parent / "benchmarks" / "bench_looks_training.py"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_looks_training", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dataset(bench: ModuleType) -> Any:
    return bench.TwoLooks(TwoLooks(episodes=8), num_frames=4, frameskip=2, looks=True, progress=False)


@pytest.mark.parametrize("rendered", [True, False])
def test_a_batch_holds_each_window_in_two_looks(bench: ModuleType, dataset: Any, rendered: bool) -> None:
    if not rendered:
        frames, _ = dataset.sample(64, split="train")
        dataset.augment = bench.Augmentation.of(frames.permute(0, 2, 3, 1))
    batch = dataset.batch(3, 16)
    dataset.augment = None
    recorded, other = batch.pixels.chunk(2)
    assert batch.pixels.shape == (16, 4, 3, 32, 32) and batch.pixels.dtype == torch.uint8
    assert torch.equal(*batch.actions.chunk(2))
    assert (recorded != other).any(-1).any(-1).any(-1).all(1).float().mean() > 0.5
    corner = other[:, :, :, 0, 0].float()  # of the ground, which has one look in a window
    assert rendered is False or (corner - corner[:, :1]).abs().max() == 0
    assert dataset.batch(3, 16, split="held_out").pixels.shape[0] == 16


def test_clean_targets_and_consistency_are_of_the_frames_as_recorded(bench: ModuleType, dataset: Any) -> None:
    model = tiny_model(dataset, dropout=0.0)
    batch = dataset.batch(0, 16)
    same = torch.cat([batch.pixels[:8], batch.pixels[:8]])

    def losses(name: str, pixels: torch.Tensor) -> dict[str, float]:
        loss = bench.TwoLooksLoss(model, SIGReg(17, 32, seed=0), sigreg_weight=0.1, rollout_steps=2)
        loss.way = bench.WAYS[name]
        return {key: float(value.detach()) for key, value in loss(pixels, batch.actions).items()}

    assert losses("clean", same)["consistency"] == 0
    assert losses("clean", same) == losses("rendered", same)
    assert losses("clean", batch.pixels)["prediction"] != losses("rendered", batch.pixels)["prediction"]
    apart = losses("rendered-consistent", batch.pixels)
    added = apart["loss"] - losses("rendered", batch.pixels)["loss"]
    assert added == pytest.approx(apart["consistency"], rel=1e-4) and added > 0


def test_the_lesson_with_a_consistency_term_moves_the_encoder(bench: ModuleType, dataset: Any) -> None:
    teacher = tiny_model(dataset).eval()
    lesson = bench.ConsistentTraining(teacher, dataset, steps=3, batch_size=16, progress=False)
    before = [value.clone() for value in lesson.student.encoder.parameters()]
    lesson.learn()
    assert any(not torch.equal(a, b) for a, b in zip(before, lesson.student.encoder.parameters()))
    assert np.isfinite(lesson.found["robust/other_looks"]) and lesson.found["robust/step"] == 3
