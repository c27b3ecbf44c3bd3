"""Which actions count, and that inspecting, converting, training and published weights count the same."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from test_train_cli import TINY
from tiny_run import SquareRecording, tiny_dataset

from latent_planner import Agent
from latent_planner.checkpoints import action_statistics
from latent_planner.cli import train
from latent_planner.common.actions import taken
from latent_planner.envs.recordings.convert import convert
from latent_planner.envs.recordings.episodes import EpisodeReader, EpisodeWriter
from latent_planner.envs.recordings.inspection import described
from latent_planner.training.dataset import DatasetError, WindowDataset

Columns = dict[str, np.ndarray]


def uniform(rows: int = 1000, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (rows, 2))


def test_last_rows_and_rows_outside_every_episode_do_not_count() -> None:
    actions = uniform(12)
    found = taken(actions, np.array([4, 5]), np.array([6, 1]))
    assert np.flatnonzero(found.rows).tolist() == [1, 2, 3, 4, 6, 7, 8]
    assert found.outside == 3 and not found.odd.any()
    assert "3 rows do not count as actions, 3 outside every episode" in str(found.remark("a.h5"))
    actions[[0, 10, 11]] = np.nan  # that says the same
    assert taken(actions, np.array([4, 5]), np.array([6, 1])).remark("a.h5") is None


@pytest.mark.parametrize(
    ("rows", "value"),
    [
        ([60], 1e6), ([60], -1e6), ([60, 400], 40.0), ([60, 61], 1e300), ([999], 1e6), ([0], -50.0),
        (range(0, 1000, 7), -999.0), (range(100, 300), -999.0), ([5], 9999.0),
    ],
)  # fmt: skip
def test_marks_and_glitches_do_not_count(rows: Any, value: float) -> None:
    actions = uniform()
    actions[list(rows), 1] = value
    assert np.flatnonzero(taken(actions).odd).tolist() == list(rows)


def test_glitches_on_both_sides_are_found_together() -> None:
    actions = uniform()
    actions[[3, 500, 800], 0] = [1e6, -1e6, 1e3]
    assert np.flatnonzero(taken(actions).odd).tolist() == [3, 500, 800]


@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e5])
def test_what_is_rare_is_no_glitch(scale: float) -> None:
    rng = np.random.default_rng(1)
    gripper = np.zeros(1000)
    gripper[300:304] = 1  # closes once
    noisy = gripper + 1e-3 * rng.normal(size=1000)
    heavy = rng.standard_t(3, size=1000)
    steps = np.where(rng.random(1000) < 0.002, 1.0, 0.0)
    for values in (gripper, noisy, heavy, steps, rng.integers(0, 1001, 1000).astype(float)):
        assert not taken(scale * values[:, None]).odd.any()
    assert not taken(np.full((50, 1), 999.0)).odd.any() and not taken(uniform(2)).odd.any()


def marked(path: Path) -> Columns:
    """Equal episodes as stable-worldmodel's collector writes them, the first action in the last row; -999 in
    a row of each, and rows outside the episodes. Returns what was taken."""
    once = uniform(40, seed=3).astype(np.float32)
    once[:, 1] *= 0.1
    once[-1] = 50  # never taken
    once[17, 0] = -999
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (8 * 40 + 5, 16, 16, 3)).astype(np.uint8)
    with h5py.File(path, "w") as file:
        file["pixels"], file["state"] = pixels, rng.normal(size=(len(pixels), 2))
        file["action"] = np.concatenate([np.tile(once, (8, 1)), np.full((5, 2), 7, np.float32)])
        file["ep_len"], file["ep_offset"] = np.full(8, 40), 40 * np.arange(8)
    return {"taken": np.delete(once, [17, 39], 0).astype(np.float64)}


def test_inspecting_converting_training_and_published_weights_agree(tmp_path: Path, caplog: Any) -> None:
    once = marked(tmp_path / "a.h5")["taken"]
    expected = once.mean(0), once.std(0), once.min(0), once.max(0)
    with EpisodeReader(tmp_path / "a.h5") as reader:
        known = reader.action_summary()
        assert known is not None
        text = described(reader)
        convert(reader, tmp_path / "b.h5", progress=False)
        trained = WindowDataset(reader, num_frames=4, frameskip=5, progress=False)
        rows = np.flatnonzero(reader.read("action", 0, reader.num_frames)[:, 0] == -999)
        for split in ("train", "held_out"):
            for starts, span in ((trained.starts[split], 15), (trained.origins[split], 5)):
                covered = starts[:, None] + np.arange(span)
                assert not np.isin(covered, [*rows, *range(39, 325, 40)]).any()
    weights = action_statistics.read(tmp_path / "a.h5")
    np.testing.assert_allclose((known.mean, known.std, known.low, known.high), expected, rtol=1e-6)
    np.testing.assert_allclose((trained.action_mean, trained.action_std), expected[:2], rtol=1e-6)
    np.testing.assert_allclose((trained.action_low, trained.action_high), expected[2:], rtol=1e-6)
    np.testing.assert_allclose((weights.mean, weights.std), expected[:2], rtol=1e-6)
    for low, high, mean, std in zip(known.low, known.high, known.mean, known.std):
        assert f"{low:9.4g} {high:9.4g} {mean:9.4g} {std:9.4g}" in text
    with EpisodeReader(tmp_path / "b.h5") as copy:
        again = copy.action_summary()
        assert again is not None
        np.testing.assert_allclose(again.mean, known.mean, rtol=1e-12)
        np.testing.assert_allclose(copy.action_low, known.low, rtol=1e-6)
    told = "13 rows do not count as actions, 8 whose values are far from all others and 5 outside"
    assert told in text and caplog.text.count(told) == 3  # convert, training, weights


def test_the_bounds_that_a_file_gives_hold(tmp_path: Path) -> None:
    marked(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file.attrs["action_low"], file.attrs["action_high"] = [-2.0, -2.0], [2.0, 2.0]
    with EpisodeReader(tmp_path / "a.h5") as reader:
        assert reader.action_low.tolist() == [-2, -2]
        assert "the file gives the bounds -2 to 2" in described(reader)
    assert action_statistics.read(tmp_path / "a.h5").high == (2.0, 2.0)


def test_where_no_window_is_left_training_says_so() -> None:
    reader = SquareRecording(episodes=8, length=12)
    reader.data["action"][reader.offsets + 3] = -999
    reader.data["action"][reader.offsets + 8] = -999
    with pytest.raises(DatasetError, match="has 6 actions in a row that were taken"):
        tiny_dataset(reader)


@pytest.mark.parametrize("value", [0.1])
def test_an_action_that_never_changes_is_trained_on_and_planned(
    value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    with EpisodeWriter("a.h5", attrs={}) as writer:
        for _ in range(4):
            action = rng.uniform(-1, 1, (30, 3)).astype(np.float32)
            action[:, 2] = value
            writer.append(
                {"pixels": rng.integers(0, 255, (30, 64, 64, 3)).astype(np.uint8), "action": action}
            )
    tiny = [word for word in TINY if not word.startswith("benchmark.")]
    words = ["env=recorded", "data.path=a.h5", "train.steps=2", "out=run", "wandb.mode=disabled", *tiny]
    assert train.main(words) == 0, capsys.readouterr().err
    agent = Agent.from_pretrained("run", device="cpu")
    agent.set_goal(np.full((64, 64, 3), 90, np.uint8), steps=10)
    for shade in (0, 200):
        assert agent.act(np.full((64, 64, 3), shade, np.uint8))[2] == np.float32(value)
    assert "component 2 never changes" in described(EpisodeReader("a.h5"))


def test_actions_too_small_to_be_seen_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    reader = SquareRecording()
    reader.data["action"][:, 1] *= 1e-9
    with caplog.at_level(logging.WARNING):
        dataset = tiny_dataset(reader)
    assert "component 1 of the actions moves by 2e-09 only" in caplog.text
    assert dataset.batch(0, 4).actions.isfinite().all()
