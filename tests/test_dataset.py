"""Windows over a recording: which rows they hold, how they are split, normalised, placed and drawn."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tiny_run import SquareRecording, tiny_dataset

from latent_planner.common.action_space import NUMBERS
from latent_planner.training.dataset import DatasetError, WindowDataset
from latent_planner.training.frame_store import prefetch


def test_a_window_holds_every_action_between_its_frames() -> None:
    reader = SquareRecording()
    dataset = tiny_dataset(reader)
    start = int(dataset.starts["train"][7])
    batch = dataset.windows(np.array([start]), state=True)
    assert batch.pixels.shape == (1, 4, 3, 32, 32) and batch.pixels.dtype == torch.uint8
    assert batch.actions.shape == (1, 3, 2 * 2) and batch.state is not None
    for t in range(4):
        row = start + 2 * t
        assert np.array_equal(batch.pixels[0, t].permute(1, 2, 0).numpy(), reader.data["pixels"][row])
        assert np.array_equal(batch.state[0, t].numpy(), reader.data["state"][row])
    mean, std = np.array(dataset.action_mean), np.array(dataset.action_std)
    for t in range(3):
        blocks = (reader.data["action"][start + 2 * t : start + 2 * t + 2] - mean) / std
        assert np.allclose(batch.actions[0, t].numpy(), blocks.reshape(-1), atol=1e-6)


def test_starts_are_all_that_fit_and_no_window_leaves_its_episode() -> None:
    reader = SquareRecording(episodes=8, length=12)
    dataset = tiny_dataset(reader)
    assert dataset.span == 7 and sum(dataset.num_windows.values()) == 8 * (12 - 7 + 1)
    for starts in dataset.starts.values():
        assert np.array_equal(starts // 12, (starts + dataset.span - 1) // 12)


def test_split_is_by_episode_seeded_and_of_the_size_asked_for() -> None:
    def held_out(seed: int) -> set[int]:
        dataset = tiny_dataset(held_out=0.25, seed=seed)
        train, rest = (set(dataset.rows[split] // 24) for split in ("train", "held_out"))
        assert not train & rest and len(train) == 12 and len(rest) == 4
        return rest

    assert held_out(0) == held_out(0)
    assert len({frozenset(held_out(seed)) for seed in range(5)}) > 1


def test_statistics_are_those_of_training_episodes_without_their_last_rows() -> None:
    reader = SquareRecording()
    dataset = tiny_dataset(reader)
    rows = dataset.rows["train"]
    reader.data["action"][dataset.rows["held_out"]] += 100  # would show in the mean
    again = tiny_dataset(reader)
    known = reader.data["action"][rows].astype(float)
    assert np.allclose(again.action_mean, np.nanmean(known, 0)) and np.allclose(
        again.action_std, np.nanstd(known, 0)
    )
    pixels = reader.data["pixels"][rows] / 255
    assert np.allclose(again.pixel_mean, pixels.mean((0, 1, 2)), atol=1e-5)
    assert np.allclose(again.pixel_std, pixels.std((0, 1, 2)), atol=1e-5)
    assert again.statistics()["action_high"] == (1.0, 1.0)


@pytest.mark.parametrize(
    ("attrs", "rate"),
    [({}, None), ({"control_hz": 10}, 10.0), ({"control_hz": 0.0}, None), ({"control_hz": "?"}, None)],
)
def test_the_control_rate_is_what_the_recording_says(attrs: dict[str, Any], rate: float | None) -> None:
    reader = SquareRecording()
    reader.attrs = attrs  # type: ignore[attr-defined]
    assert tiny_dataset(reader).statistics()["control_hz"] == rate


def test_constant_actions_stay_finite() -> None:
    reader = SquareRecording()
    reader.data["action"][:, 1] = 0.5
    dataset = tiny_dataset(reader)
    assert dataset.action_std[1] == 1 and dataset.batch(0, 4).actions.isfinite().all()


def test_batch_k_is_a_function_of_seed_and_k() -> None:
    dataset, other = tiny_dataset(), tiny_dataset()
    dataset.batch(0, 8)  # what was drawn before does not matter
    assert torch.equal(dataset.batch(5, 8, seed=1).pixels, other.batch(5, 8, seed=1).pixels)
    assert not torch.equal(dataset.batch(5, 8, seed=1).actions, dataset.batch(6, 8, seed=1).actions)
    assert not torch.equal(dataset.batch(5, 8, seed=1).actions, dataset.batch(5, 8, seed=2).actions)


def test_ranks_share_out_the_global_batch() -> None:
    dataset = tiny_dataset()
    whole = dataset.batch(3, 12).actions
    parts = [dataset.batch(3, 12, rank=rank, world_size=3).actions for rank in range(3)]
    assert torch.equal(torch.cat(parts), whole)


def test_starts_are_drawn_uniformly() -> None:
    dataset = tiny_dataset(SquareRecording(episodes=4, length=12), held_out=0.5)
    drawn: list[int] = []

    def note(starts: np.ndarray, state: bool) -> SimpleNamespace:
        drawn.extend(starts)
        return SimpleNamespace(to=lambda device: None)

    dataset.windows = note
    for k in range(200):
        dataset.batch(k, 60)
    _, counts = np.unique(drawn, return_counts=True)
    assert len(counts) == 12 and abs(counts / 1000 - 1).max() < 0.15


def test_data_that_does_not_fit_is_read_from_disk_and_is_the_same() -> None:
    kept, read = tiny_dataset(), tiny_dataset(memory_gb=0)
    assert (kept.place, read.place) == ("cpu", "disk")
    a, b = kept.batch(2, 8), read.batch(2, 8)
    assert torch.equal(a.pixels, b.pixels) and torch.equal(a.actions, b.actions)
    assert kept.pixel_mean == read.pixel_mean


def test_a_real_recording(pusht_recording: Path) -> None:
    from latent_planner.envs.recordings.episodes import EpisodeReader

    reader = EpisodeReader(pusht_recording)
    kept, read = (
        WindowDataset(reader, num_frames=4, frameskip=5, memory_gb=gb, progress=False) for gb in (None, 0)
    )
    assert kept.place == "cpu" and read.place == "disk" and kept.num_windows["train"] == 11 * 25
    batch = kept.batch(0, 16, state=True)
    assert batch.pixels.shape == (16, 4, 3, 64, 64) and batch.actions.shape == (16, 3, 10)
    assert torch.equal(batch.pixels, read.batch(0, 16).pixels)
    assert batch.state is not None and batch.state.shape == (16, 4, 7) and "block_angle" in kept.angle_names
    reader.close()


def test_short_episodes_are_left_out_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    reader = SquareRecording(episodes=6, length=12)
    reader.lengths[2] = 5
    with caplog.at_level(logging.WARNING):
        dataset = tiny_dataset(reader)
    assert "1 episodes are shorter" in caplog.text and sum(dataset.num_windows.values()) == 5 * 6


def broken(**changes: object) -> SquareRecording:
    reader = SquareRecording(episodes=4, length=12)
    for name, value in changes.items():
        setattr(reader, name, value)
    return reader


@pytest.mark.parametrize(
    ("reader", "options", "words"),
    [
        (broken(lengths=np.array([], int), offsets=np.array([], int)), {}, "no complete episode"),
        (broken(), {"num_frames": 20}, "every episode of square.h5 is shorter than the window of 39"),
        (broken(lengths=np.array([12]), offsets=np.array([0])), {}, "one usable episode"),
        (broken(), {"held_out": 1.5}, "held_out is a share"),
        (broken(), {"num_frames": 1}, "at least 2 and 1 are needed"),
    ],
)
def test_what_cannot_be_trained_on_is_said(reader: SquareRecording, options: dict, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        tiny_dataset(reader, **options)


def test_actions_that_are_not_numbers_are_named() -> None:
    reader = SquareRecording()
    reader.data["action"][24 * 3 + 4] = np.nan
    with pytest.raises(
        DatasetError, match="1 actions that are not numbers, the first in episode 3 at step 4"
    ):
        tiny_dataset(reader)


def test_a_model_made_for_other_data_is_refused() -> None:
    dataset = tiny_dataset()
    fine = {"action_dim": 2, "frameskip": 2, "space": NUMBERS}
    dataset.check(SimpleNamespace(**fine))
    for name, words in (("action_dim", "actions of size 2"), ("frameskip", "windows of frameskip 2")):
        with pytest.raises(DatasetError, match=words):
            dataset.check(SimpleNamespace(**(fine | {name: 5})))


def test_prefetch_keeps_the_order_and_hands_on_errors() -> None:
    def make(k: int) -> int:
        time.sleep(0.002 * (k % 3))
        if k == 12:
            raise OSError("disk gone")
        return k

    with prefetch(make, 5, workers=3) as made:
        assert [next(made) for _ in range(7)] == list(range(5, 12))
        with pytest.raises(OSError, match="disk gone"):
            next(made)


def test_states_that_are_no_numbers_are_warned_of_and_the_rest_is_used(
    caplog: pytest.LogCaptureFixture,
) -> None:
    reader = SquareRecording()
    reader.data["state"][30:32, 0] = np.nan
    reader.data["state"][40, 1] = np.inf
    reader.data["state"][:, 2] = np.nan
    with caplog.at_level(logging.WARNING):
        dataset = tiny_dataset(reader)
    assert "the state x is NaN or infinite in 2 of 384 rows: the others are used" in caplog.text
    assert "the state y is NaN or infinite in 1 of 384 rows" in caplog.text
    assert "the state direction is NaN or infinite in 384 of 384 rows: it is left out" in caplog.text
    assert sum(dataset.num_windows.values()) == 16 * (24 - 7 + 1)
    from tiny_run import tiny_model

    from latent_planner.training.probe import probe

    assert set(probe(tiny_model(dataset), dataset, frames=300)) == {"x", "y"}
