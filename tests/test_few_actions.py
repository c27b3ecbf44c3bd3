"""From frames alone to a planner: data.actions and start, through train.py's command line."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from test_train_cli import TINY
from tiny_run import SquareRecording, tiny_dataset, tiny_model, tiny_trainer

from latent_planner import Agent
from latent_planner.checkpoints import checkpoint
from latent_planner.checkpoints.checkpoint import CheckpointError
from latent_planner.cli import train
from latent_planner.cli.upkeep import few_actions
from latent_planner.envs.recordings.episodes import EpisodeReader, EpisodeWriter, RecordingError
from latent_planner.evaluation import plots
from latent_planner.training.labels import kept, learn
from latent_planner.training.labels.learn import Labeller
from latent_planner.training.labels.view import View, with_actions

EPISODES, LENGTH = 16, 24
WORDS = [
    "env=recorded", *TINY, "model.image_size=32", "model.frameskip=2", "train.steps=4", "wandb.mode=disabled",
    "benchmark.pairs=0", "benchmark.validation_pairs=0",
]  # fmt: skip


def write(path: Path, *, seed: int = 0, size: int = 32) -> None:
    square = SquareRecording(episodes=EPISODES, length=LENGTH, size=size, seed=seed)
    attrs = {"image_size": size, "action_low": [-1.0, -1.0], "action_high": [1.0, 1.0]}
    with EpisodeWriter(path, attrs=attrs) as writer:
        for first in square.offsets:
            rows = slice(first, first + LENGTH)
            writer.append({name: square.data[name][rows] for name in ("pixels", "action", "state")})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings with actions, without that column, and without actions in all episodes but four; and a run
    that has learned from frames alone."""
    folder = tmp_path_factory.mktemp("few")
    write(folder / "all.h5")
    for name in ("videos", "some"):
        shutil.copy(folder / "all.h5", folder / f"{name}.h5")
    write(folder / "others.h5", seed=1)
    for name in ("videos", "others"):
        with h5py.File(folder / f"{name}.h5", "r+") as file:
            del file["action"]
    with h5py.File(folder / "some.h5", "r+") as file:
        file["action"][4 * LENGTH :] = np.nan
    words = [*WORDS, f"data.path={folder / 'others.h5'}", "data.actions=none", f"out={folder / 'video'}"]
    assert train.main(words) == 0
    return folder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults = learn.Labeller.__init__.__kwdefaults__
    monkeypatch.setattr(learn.Labeller.__init__, "__kwdefaults__", {**defaults, "steps": 3})


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one sentence that train.py answers with."""
    capsys.readouterr()
    assert train.main([*WORDS, *words]) == 2
    err = capsys.readouterr().err.strip().splitlines()
    said = [line for line in err if line.startswith("error: ")]
    assert len(said) == 1 and "Traceback" not in "".join(err)
    return said[0]


class TestFramesAlone:
    def test_a_recording_without_actions_teaches_an_encoder(self, home: Path) -> None:
        model, info = checkpoint.load(home / "video", frames_alone=True)
        assert model.config.latent_actions == few_actions.LATENT_ACTIONS and model.config.action_dim == 0
        assert model.inverse is not None and model.proposer is None
        rows = [row for row in plots.read_rows(home / "video" / "metrics.jsonl") if "loss" in row]
        assert rows[-1]["step"] == 4 and all(np.isfinite(row["held_out"]) for row in rows)

    def test_it_cannot_plan_and_says_what_to_do(self, home: Path) -> None:
        with pytest.raises(CheckpointError, match="knows no actions, so it cannot plan: teach it some with"):
            Agent.from_pretrained(home / "video")

    def test_recorded_actions_change_nothing(self, home: Path, tmp_path: Path) -> None:
        for name in ("all", "videos"):
            words = [f"data.path={home / name}.h5", "data.actions=none", f"out={tmp_path / name}"]
            assert train.main([*WORDS, *words]) == 0
        one, other = (
            checkpoint.load(tmp_path / name, frames_alone=True)[0].state_dict() for name in ("all", "videos")
        )
        assert all(torch.equal(value, other[name]) for name, value in one.items())

    def test_latent_actions_say_what_was_done(self, tmp_path: Path) -> None:
        """Learned from frames alone, they tell how the square was pushed; the latent itself does not."""
        reader = View(SquareRecording(episodes=24), actions=np.zeros((24 * 24, 0)))
        reader.action_low = reader.action_high = np.zeros(0, np.float32)
        dataset = tiny_dataset(reader)
        trainer = tiny_trainer(tmp_path, dataset=dataset, steps=150, model={"latent_actions": 4})
        trainer.fit()
        fresh = tiny_dataset(SquareRecording(episodes=12, seed=3))
        windows = fresh.windows(fresh.starts["train"])
        with torch.no_grad():
            latents = trainer.world_model.eval().encode(windows.pixels)
            numbers = trainer.world_model.done(latents, windows.actions).flatten(0, 1)
        moved = windows.actions.unflatten(2, (2, 2)).sum(2).flatten(0, 1)
        assert explained(numbers, moved) > 0.5 > explained(latents[:, :-1].flatten(0, 1), moved)


def explained(inputs: torch.Tensor, wanted: torch.Tensor) -> float:
    """Share of the variance that a linear map explains."""
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], 1)
    error = wanted - inputs @ torch.linalg.lstsq(inputs, wanted).solution
    return float(1 - error.square().mean() / wanted.var(0, correction=0).mean())


class TestInverseModel:
    def test_few_episodes_teach_it_the_actions_of_all(self) -> None:
        square = SquareRecording(episodes=40, length=24)
        known = np.arange(6)
        dataset = tiny_dataset(View(square, episodes=known))
        where = torch.from_numpy(square.data["state"][:, :2].copy()) / 10
        dataset.latents = torch.cat([where, where.square()], 1)  # of an encoder that sees the square
        lesson = Labeller(
            dataset, square.lengths, square.offsets, low=square.action_low, high=square.action_high,
            steps=400, progress=False,
        )  # fmt: skip
        found = lesson.learn()
        true = square.data["action"]
        free = (np.abs(square.data["state"][:, :2] - 12.5) < 10).all(1)  # off the walls
        free &= np.isfinite(true).all(1)
        free[: 6 * 24] = False
        assert np.square(found - true)[free].mean() < 0.1 * np.var(true[free])
        assert (found >= -1).all() and (found <= 1).all() and lesson.explained > 0.5

    def test_a_view_hides_the_actions_of_other_episodes(self) -> None:
        square = SquareRecording(episodes=6)
        some = View(square, episodes=np.array([1, 4]))
        actions = some.read("action", 0, square.num_frames)
        assert with_actions(some).tolist() == [0, 1] and some.lengths.tolist() == [24, 24]
        assert np.isfinite(actions).all(1).sum() == 2 * 23
        assert some.read("pixels", 0, 3).shape == (3, 32, 32, 3) and some.image_size == 32


class TestStart:
    def test_a_share_with_actions_and_all_other_frames_make_a_planner(
        self, home: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "run"
        words = [f"data.path={home / 'all.h5'}", "data.actions=0.25", f"start={home / 'video'}", f"out={out}"]
        assert train.main([*WORDS, *words]) == 0
        model, _ = checkpoint.load(out)
        begun, _ = checkpoint.load(home / "video", frames_alone=True)
        learned = dict(begun.encoder.named_parameters())
        assert all(torch.equal(value, learned[name]) for name, value in model.encoder.named_parameters())
        assert model.config.action_dim == 2 and model.proposer is not None
        actions = kept.kept(out, (2 * EPISODES * LENGTH, 2))
        recorded = EpisodeReader(home / "all.h5").read("action", 0, EPISODES * LENGTH)
        assert actions is not None  # those of the first run's videos come after
        same = np.isclose(actions[: len(recorded)], recorded).all(1)
        inside = np.isfinite(recorded).all(1)
        assert round(same[inside].mean() * EPISODES) == 4
        agent = Agent.from_pretrained(out)
        agent.set_goal(np.zeros((32, 32, 3), np.uint8))
        assert agent.act(np.zeros((32, 32, 3), np.uint8)).shape == (2,)

    def test_it_goes_on_with_the_actions_that_it_has_inferred(
        self, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        out = tmp_path / "run"
        words = [f"data.path={home / 'some.h5'}", f"start={home / 'video'}", f"out={out}"]
        assert train.main([*WORDS, *words]) == 0

        def never(*_: Any, **__: Any) -> None:
            raise AssertionError("inferred again")

        monkeypatch.setattr(few_actions, "_inferred", never)
        assert train.main([f"resume={out}", "train.steps=6"]) == 0
        assert plots.read_rows(out / "metrics.jsonl")[-1]["step"] == 6

    def test_without_it_only_episodes_with_actions_are_learned_from(
        self, home: Path, tmp_path: Path
    ) -> None:
        configs = []
        for path, share in (("some", "all"), ("all", "0.25"), ("all", "all")):
            out = tmp_path / f"{path}-{share}"
            words = [f"data.path={home / path}.h5", f"data.actions={share}", f"out={out}"]
            assert train.main([*WORDS, *words]) == 0
            configs.append(json.loads((out / "config.json").read_text())["model"])
        means = [tuple(config["action_mean"]) for config in configs]
        assert len(set(means)) == 3
        four = EpisodeReader(home / "all.h5").read("action", 0, 4 * LENGTH)
        assert np.abs(np.subtract(means[0], np.nanmean(four, 0))).max() < 0.2  # of these, one is held out


class TestBadInput:
    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["data.path=all.h5", "data.actions=0"], "takes all, none, or a number above 0"),
            (["data.path=all.h5", "data.actions=most"], "data.actions takes all, none, or a number above 0"),
            (["data.path=all.h5", "data.actions=0.05"], "leaves 1 of the 16 episodes"),
            (["data.path=videos.h5"], "lacks action; its columns are"),
            (["data.path=all.h5", "data.actions=none", "start=video"], "leave out data.actions=none"),
            (["data.path=all.h5", "data.actions=none", "data.vary=augment"], "data.vary needs a model"),
            (["data.path=all.h5", "data.actions=0.5", "rounds=2"], "rounds= records actions of its own"),
            (["data.path=all.h5", "start=nowhere"], "There is no checkpoint 'nowhere'"),
            (["data.path=all.h5", "start=two_room"], "start=two_room knows two_room, not recorded"),
            (["data.path=all.h5", "start=video", "model.latent_dim=24"], "this run asks for 24"),
        ],
    )
    def test_it_is_refused_in_one_sentence(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, capsys, words: list[str], said: str
    ) -> None:
        monkeypatch.chdir(home)
        before = sorted(home.iterdir())
        assert said in refused(capsys, *words, "out=never")
        assert sorted(home.iterdir()) == before

    def test_episodes_without_actions_need_some_with_them(self, home: Path, tmp_path: Path, capsys) -> None:
        shutil.copy(home / "all.h5", tmp_path / "nan.h5")
        with h5py.File(tmp_path / "nan.h5", "r+") as file:
            file["action"][LENGTH:] = np.nan
        assert "has actions in 1 of 16 episodes" in refused(capsys, f"data.path={tmp_path / 'nan.h5'}")

    def test_inferred_actions_that_are_damaged(self, home: Path, tmp_path: Path, capsys) -> None:
        out = tmp_path / "run"
        words = [f"data.path={home / 'some.h5'}", f"start={home / 'video'}", f"out={out}"]
        assert train.main([*WORDS, *words]) == 0
        (out / kept.FILE).write_bytes(b"nothing")
        capsys.readouterr()
        assert train.main([f"resume={out}", "train.steps=6"]) == 2
        assert "is damaged: delete it, and the actions are inferred again" in capsys.readouterr().err

    def test_frames_are_needed(self, home: Path, tmp_path: Path) -> None:
        shutil.copy(home / "videos.h5", tmp_path / "empty.h5")
        with h5py.File(tmp_path / "empty.h5", "r+") as file:
            del file["pixels"]
        with pytest.raises(RecordingError, match="lacks pixels"):
            EpisodeReader(tmp_path / "empty.h5", actions=False)


def test_a_model_knows_actions_or_latent_ones() -> None:
    with pytest.raises(ValueError, match="Action statistics"):
        tiny_model(tiny_dataset(), latent_actions=4)


def test_the_benchmark_makes_the_whole_curve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    path = Path(__file__).parent / "benchmarks" / "bench_few_actions.py"
    spec = importlib.util.spec_from_file_location("bench_few_actions", path)
    assert spec is not None and spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    monkeypatch.setattr(sys, "argv", ["bench", "two_room", "--small", "--out", str(tmp_path / "out")])
    for _ in range(2):  # the second time nothing is left to do
        bench.main()
        lines = [line.split()[1:3] for line in capsys.readouterr().out.splitlines() if line[:8] == "two_room"]
        assert lines == [["full", "100.0%"], *([name, "25.0%"] for name in ("few", "scratch", "labels"))]
