"""An encoder that sees the same in other colours, on other grounds, in other light."""

from __future__ import annotations

import json
import logging
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_train_cli import TINY
from tiny_run import SquareRecording, tiny_dataset, tiny_trainer

from latent_planner import Agent, looks
from latent_planner.checkpoints import checkpoint
from latent_planner.cli import train
from latent_planner.cli.upkeep import looks as looks_command
from latent_planner.cli.upkeep import robust as robust_command
from latent_planner.evaluation import plots
from latent_planner.model.world_model import WorldModel
from latent_planner.training.dataset import WindowDataset
from latent_planner.training.robust.learn import RobustTraining

GREEN, BLUE = np.array([30, 160, 60], np.uint8), np.array([40, 60, 140], np.uint8)


class TwoLooks(SquareRecording):
    """The same square also in a colour of each episode's own, on a ground of its own."""

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


def distance(model: WorldModel, teacher: WorldModel, frames: np.ndarray, other: np.ndarray) -> float:
    """Of what model says of `other` from what the teacher says of `frames`, as a share of the spread."""
    with torch.no_grad():
        wanted, found = (
            each.encode(torch.from_numpy(some).permute(0, 3, 1, 2)[:, None])[:, 0]
            for each, some in ((teacher, frames), (model, other))
        )
    return float((found - wanted).square().mean() / wanted.var(0).mean())


def learned(teacher: WorldModel, dataset: WindowDataset) -> tuple[WorldModel, list[Any]]:
    """The student after a lesson, and what was logged."""
    rows: list[Any] = []
    lesson = RobustTraining(teacher, dataset, steps=250, batch_size=64, log=rows.append, progress=False)
    return lesson.learn(), rows


@pytest.fixture(scope="module")
def taught(trained: tuple[WorldModel, WindowDataset]) -> tuple[WorldModel, list[Any]]:
    """`learned` from the looks that were recorded."""
    return learned(*trained)


@pytest.mark.parametrize("rendered", [True, False])
def test_another_look_has_the_latent_of_the_recorded_one(
    trained: tuple[WorldModel, WindowDataset], rendered: bool, request: pytest.FixtureRequest
) -> None:
    teacher, dataset = trained
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    if rendered:
        student, rows = request.getfixturevalue("taught")
    else:
        looks, dataset.looks = dataset.looks, None
        try:
            student, rows = learned(teacher, dataset)
        finally:
            dataset.looks = looks
    frames = SquareRecording(episodes=6, seed=9).data["pixels"]
    assert distance(teacher, teacher, frames, changed(frames)) > 0.8
    assert distance(student, teacher, frames, changed(frames)) < 0.35
    assert distance(student, teacher, frames, frames) < 0.15
    assert rows[-1]["robust/as_recorded"] > 0.85 and rows[-1]["robust/other_looks"] > 0.6
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    shown = torch.from_numpy(frames).permute(0, 3, 1, 2)[:, None]
    with torch.no_grad():
        exact = (student.encode(shown) - teacher.encode(shown)).abs().amax(-1)
    assert (exact < 0.02).float().mean() > 0.95  # the trained encoder's own, but for float16
    kept = {name: value for name, value in before.items() if not name.startswith("encoder.")}
    assert all(torch.equal(student.state_dict()[name], value) for name, value in kept.items())


def test_a_picture_that_cannot_be_read_is_told_from_one_in_other_colours(
    taught: tuple[WorldModel, list[Any]], tmp_path: Path
) -> None:
    student, _ = taught
    reader = TwoLooks(episodes=24)
    found = looks_command.of_recording(student, reader)
    looks.save(tmp_path, found, "0" * 64)
    again = looks.load(tmp_path, "0" * 64)
    assert again is not None and looks.load(tmp_path, "1" * 64) is None
    fresh = TwoLooks(episodes=6, seed=9)
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), np.uint8)
    grey = np.full((2, 32, 32, 3), 128, np.uint8)
    for kind in ("scene", "goal"):
        for column in ("pixels", "pixels_look"):
            known = [look.familiar for look in again.of(student, fresh.data[column], kind)]
            assert np.mean(known) > 0.95
        for odd in (noise, grey):
            strange = [not look.familiar for look in again.of(student, odd, kind)]
            assert np.mean(strange) > 0.8
    assert "would it look like a recorded one" in again.of(student, grey)[0].reason
    for broken in ('"mean": [1]', '"farthest": {"scene": 0, "goal": 1}', '"scale": 3'):
        text = (tmp_path / looks.FILE).read_text()
        whole = json.loads(text) | json.loads("{" + broken + "}")
        (tmp_path / looks.FILE).write_text(json.dumps(whole))
        assert looks.load(tmp_path, "0" * 64) is None
        (tmp_path / looks.FILE).write_text(text)


def test_a_robust_checkpoint_stores_its_encoders_in_half_of_the_room(
    trained: tuple[WorldModel, WindowDataset], tmp_path: Path
) -> None:
    teacher, dataset = trained
    student = RobustTraining(teacher, dataset, steps=1, batch_size=64, progress=False).learn()
    checkpoint.save(student, tmp_path)
    again = checkpoint.load(tmp_path)[0].state_dict()
    assert all(torch.equal(value, again[name]) for name, value in student.state_dict().items())
    encoders = sum(value.nbytes for value in student.encoder.state_dict().values())
    others = sum(value.nbytes for value in student.state_dict().values()) - encoders
    assert (tmp_path / checkpoint.WEIGHTS).stat().st_size < others + 0.65 * encoders + 20_000


@pytest.mark.parametrize("vary", ["augment", "trained"])
def test_a_run_with_other_looks_ends_with_a_robust_encoder(
    vary: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["env=two_room", "env.episodes=12", "env.length=30", *TINY, "train.steps=4", "data.workers=1"]
    words += ["out=run", "wandb.mode=disabled", "benchmark.pairs=0", "benchmark.validation_pairs=0"]
    assert train.main([*words, f"data.vary={vary}"]) == 0, capsys.readouterr().err
    world_model, info = checkpoint.load("run")
    assert world_model.config.encoder == "robust" and "robust/other_looks" in info["training"]
    known = looks.load(Path("run"), info["sha256"])
    assert known is not None and known.shell is not None
    found = [row for row in plots.read_rows(Path("run") / "metrics.jsonl") if "robust/as_recorded" in row]
    assert len(found) == 1 and not Path("run", robust_command.STATE).exists()
    assert train.main(["resume=run"]) == 0  # it is done, and stays as it is
    assert checkpoint.load("run")[1]["sha256"] == info["sha256"]
    assert train.main([*words, "start=run", "out=next"]) == 0, capsys.readouterr().err
    kept, ours = checkpoint.load("next")[0].encoder.state_dict(), world_model.encoder.state_dict()
    assert kept.keys() == ours.keys() and all(torch.equal(kept[name], ours[name]) for name in ours)


def test_the_command_teaches_a_trained_checkpoint(
    tiny_checkpoint: Path, pusht_recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(tiny_checkpoint), "--recording", str(pusht_recording), "--minutes", "0.02"]
    out = tmp_path / "out"
    assert robust_command.main([*words, "--out", str(out)]) == 0
    assert "in other looks" in capsys.readouterr().out
    agent = Agent.from_pretrained(out, device="cpu")
    assert agent.config.encoder == "robust" and agent.looks is not None
    frame = np.full((64, 64, 3), 255, np.uint8)
    agent.set_goal(frame)
    assert agent.act(frame).shape == (2,)
    assert robust_command.main([*words, "--out", str(out)]) == 2
    assert "choose another folder" in capsys.readouterr().err
    again = tmp_path / "again"
    assert robust_command.main([str(out), *words[1:], "--out", str(again)]) == 0  # anew, as from `words`
    one, other = (checkpoint.load(folder)[0].state_dict() for folder in (out, again))
    inside = [name for name in one if ".trained." in name and one[name].is_floating_point()]
    assert inside and all(torch.equal(one[name], other[name]) for name in inside)


def test_the_command_goes_on_where_it_was_stopped(
    tiny_checkpoint: Path,
    pusht_recording: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    words = [str(tiny_checkpoint), "--recording", str(pusht_recording), "--out", str(tmp_path / "out")]
    step = RobustTraining._step

    def stopped(self: RobustTraining, number: int, spent: float) -> torch.Tensor:
        if number == 2:
            signal.raise_signal(signal.SIGINT)
        return step(self, number, spent)

    with monkeypatch.context() as patch:
        patch.setattr(RobustTraining, "_step", stopped)
        assert robust_command.main([*words, "--minutes", "60"]) == 130
    assert [file.name for file in (tmp_path / "out").iterdir()] == [robust_command.STATE]
    caplog.set_level(logging.INFO)
    assert robust_command.main([*words, "--minutes", "0.02"]) == 0
    assert "going on from step 3" in caplog.text
    assert checkpoint.load(tmp_path / "out")[1]["training"]["robust/step"] >= 3
    assert not (tmp_path / "out" / robust_command.STATE).exists()


def test_what_cannot_learn_other_looks_is_refused_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["env=two_room", "env.episodes=4", "env.length=30", *TINY, "train.steps=4", "wandb.mode=disabled"]
    for encoder in ("conv", "robust"):
        assert train.main([*words, "data.vary=augment", f"model.encoder={encoder}"]) == 2
        assert "leave out data.vary" in capsys.readouterr().err
    assert not Path("runs").exists()
