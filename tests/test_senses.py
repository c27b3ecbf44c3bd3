"""Several cameras and the robot's own vector: recorded, learned, shown to an agent, given as goals."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import lerobot
from test_train_cli import TINY
from tiny_run import tiny_dataset, tiny_model, tiny_trainer
from two_cameras import FRONT, NAMES, WRIST, look, write

from latent_planner import Agent
from latent_planner.checkpoints import checkpoint
from latent_planner.cli import train
from latent_planner.envs.recordings import convert
from latent_planner.envs.recordings.episodes import EpisodeReader
from latent_planner.envs.recordings.journal import RecordingError
from latent_planner.planners import PlanConfig, PlanError
from latent_planner.training.dataset import DatasetError

BOTH = {"cameras": ["front", "wrist"], "proprio": "proprio"}
MODEL = {"latent_dim": 20, "proprio_dims": 4, "proposals": 2, "proposal_steps": 2, "proposer_width": 16}
QUICK = PlanConfig(horizon=3, num_samples=32, num_elites=4, iterations=2)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("two") / "a.h5")


# Recordings -------------------------------------------------------------------------------------------------


def test_a_recording_gives_the_cameras_and_the_vector_that_are_asked_for(recording: Path) -> None:
    reader = EpisodeReader(recording, **BOTH)
    assert reader.cameras == {"front": "pixels", "wrist": "pixels_wrist"}
    assert reader.proprio_names == tuple(NAMES)
    assert reader.read("pixels", 0, 2).shape == (2, *FRONT, 3)
    assert reader.read("pixels_wrist", 0, 2).shape == (2, *WRIST, 3)
    assert reader.read("proprio", 0, 2).shape == (2, 4)
    again = pickle.loads(pickle.dumps(reader))
    assert again.cameras == reader.cameras and again.proprio_names == reader.proprio_names
    one = EpisodeReader(recording)  # one camera is as it always was
    assert one.cameras == {} and one.proprio_names == ()
    turned = EpisodeReader(recording, cameras=["wrist", "front"])
    assert turned.read("pixels", 0, 1).shape == (1, *WRIST, 3)
    assert turned.read("pixels_front", 0, 1).shape == (1, *FRONT, 3)
    only = EpisodeReader(recording, cameras=["wrist"])
    assert only.cameras == {} and only.read("pixels", 0, 1).shape == (1, *WRIST, 3)


def test_lerobot_gives_them_by_the_names_it_has_for_them(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    cameras = ("observation.images.top", "observation.images.wrist")
    columns = lerobot(tmp_path / "robot", cameras=cameras)
    reader = EpisodeReader(tmp_path / "robot", cameras=["top", "wrist"], proprio="observation.state")
    assert reader.cameras == {"top": "pixels", "wrist": "pixels_wrist"} and len(reader.proprio_names) == 3
    rows = np.arange(len(columns["pixels"]))
    for column in ("pixels", "pixels_wrist"):
        assert np.abs(reader.read_rows(column, rows).astype(int) - columns["pixels"]).mean() < 8
    np.testing.assert_allclose(reader.read("proprio", 0, 5), reader.read("state", 0, 5))


def test_lerobot_is_converted_with_all_that_is_asked_for(tmp_path: Path, capsys) -> None:
    pytest.importorskip("pyarrow")
    lerobot(tmp_path / "robot", cameras=("observation.images.top", "observation.images.wrist"))
    words = [str(tmp_path / "robot"), str(tmp_path / "a.h5"), "--size", "24"]
    assert convert.main([*words, "--cameras", "top,wrist", "--proprio", "observation.state"]) == 0
    reader = EpisodeReader(tmp_path / "a.h5", cameras=["top", "wrist"], proprio="proprio")
    before = EpisodeReader(tmp_path / "robot", cameras=["top", "wrist"], proprio="observation.state")
    assert reader.read("pixels_wrist", 0, 2).shape == (2, 24, 24, 3)
    np.testing.assert_array_equal(reader.read("proprio", 0, 26), before.read("proprio", 0, 26))
    assert reader.proprio_names == before.proprio_names
    capsys.readouterr()
    assert convert.main([*words[:1], str(tmp_path / "b.h5"), "--cameras", "top,head"]) == 2
    assert "no camera 'head': choose --camera from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({"cameras": ["front", "head"]}, "no column 'head'"),
        ({"cameras": ["wrist", "pixels_wrist"]}, "different names of cameras"),
        ({"cameras": []}, "different names of cameras"),
        ({"cameras": ["wrist"], "camera": "pixels"}, "data.camera, one of them, or data.cameras"),
        ({"proprio": "joints"}, "no column 'joints'"),
        ({"cameras": ["pixels", "proprio_"], "proprio": "pixels_wrist"}, "no column 'proprio_'"),
        ({"proprio": "pixels_wrist"}, "has 'pixels_wrist' as uint8.*must be numbers"),
    ],
)
def test_what_is_not_there_gets_one_sentence(recording: Path, wanted: Any, sentence: str) -> None:
    with pytest.raises(RecordingError, match=sentence):
        EpisodeReader(recording, **wanted)


def test_cameras_out_of_step_in_time_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", episodes=3)
    import h5py

    def stamp(**off: float) -> None:
        with h5py.File(path, "r+") as file:
            rows = 0.1 * np.arange(len(file["action"]))  # 10 a second
            for name in ("front", "wrist"):
                file.pop(f"time_{name}", None)
                file[f"time_{name}"] = rows + off.get(name, 0.0) * (rows > 2.0)

    stamp(wrist=0.09)
    assert EpisodeReader(path, **BOTH).cameras
    stamp(wrist=-0.3)
    with pytest.raises(RecordingError, match="has time_wrist -0.3 s from time_front in row 21.*\\(0.1 s\\)"):
        EpisodeReader(path, **BOTH)
    assert EpisodeReader(path, cameras=["wrist"]).num_frames == 72  # alone it is what it is
    stamp(wrist=np.nan)
    with pytest.raises(RecordingError, match="time_wrist"):
        EpisodeReader(path, **BOTH)


# Training ---------------------------------------------------------------------------------------------------


def dataset_of(path: Path, **options: Any) -> Any:
    return tiny_dataset(EpisodeReader(path, **(BOTH | options)))


def test_windows_hold_every_camera_and_the_vector(recording: Path) -> None:
    dataset = dataset_of(recording)
    batch = dataset.batch(0, 6)
    assert {name: tuple(value.shape) for name, value in batch.pixels.items()} == {
        "front": (6, 4, 3, *FRONT), "wrist": (6, 4, 3, *WRIST), "proprio": (6, 4, 4),
    }  # fmt: skip
    statistics = dataset.statistics()
    assert statistics["cameras"] == ("front", "wrist") and statistics["proprio"] == tuple(NAMES)
    config = tiny_model(dataset, **MODEL).config
    assert config.parts == {"front": slice(0, 8), "wrist": slice(8, 16), "proprio": slice(16, 20)}
    dataset.check(config)
    with pytest.raises(DatasetError, match="read with cameras front but the model is made for front, wrist"):
        dataset_of(recording, cameras=["front"]).check(config)
    with pytest.raises(DatasetError, match="read with proprio none but"):
        dataset_of(recording, proprio=None).check(config)


def test_a_vector_that_is_not_finite_is_found_before_training(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5", episodes=3)
    import h5py

    with h5py.File(path, "r+") as file:
        file["proprio"][30, 2] = np.nan
    with pytest.raises(DatasetError, match="proprio is NaN .* in episode 1 at step 6 \\(speed_across\\)"):
        dataset_of(path)


@pytest.mark.parametrize("encoders", ["shared", "own"])
def test_each_sense_decides_its_part_of_the_latent_and_nothing_else(recording: Path, encoders: str) -> None:
    dataset = dataset_of(recording)
    model = tiny_model(dataset, **MODEL, camera_encoders=encoders).eval()
    seen = dataset.batch(0, 5).pixels
    with torch.no_grad():
        whole = model.encode(seen)
        for name, part in model.config.parts.items():
            alone = model.encode({name: seen[name]})
            torch.testing.assert_close(alone[..., part], whole[..., part])
            assert alone.norm() == pytest.approx(alone[..., part].norm().item())
            others = model.encode({other: value for other, value in seen.items() if other != name})
            assert (others[..., part] == 0).all()
    with pytest.raises(ValueError, match="a mapping from some of front, wrist, proprio, but got head"):
        model.encode({"head": seen["front"]})
    with pytest.raises(ValueError, match="cannot take proprio as"):
        model.encode({"proprio": seen["proprio"][..., :2]})


def test_training_learns_and_the_checkpoint_keeps_the_names(recording: Path, tmp_path: Path) -> None:
    options = {"steps": 30, "freeze_encoder": 0.5, "rollout_steps": 2, "learning_rate": 3e-3}
    trainer = tiny_trainer(tmp_path, dataset=dataset_of(recording), model=MODEL, **options)
    trainer.fit()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(np.isfinite(row["loss"]) for row in rows if "loss" in row)
    model, _ = checkpoint.load(tmp_path)
    assert model.config.cameras == ("front", "wrist") and model.config.proprio == tuple(NAMES)
    again = tiny_trainer(tmp_path / "b", dataset=dataset_of(recording), model=MODEL, **options)
    again.fit()
    for name, value in checkpoint.load(tmp_path / "b")[0].state_dict().items():
        torch.testing.assert_close(value, model.state_dict()[name])


# Agents -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    tiny_trainer(folder, dataset=dataset_of(recording), model=MODEL, steps=8, freeze_encoder=0.5).fit()
    return folder


def agent_of(folder: Path, **options: Any) -> Agent:
    return Agent.from_pretrained(folder, device="cpu", plan_config=QUICK, **options)


def seen_at(*place: float) -> dict[str, np.ndarray]:
    return {**look(np.array(place)), "proprio": np.array([*place, 0.0, 0.0], np.float32)}


def test_an_agent_acts_on_all_of_them_or_on_those_that_are_there(trained: Path) -> None:
    agent = agent_of(trained)
    agent.set_goal(seen_at(0.7, 0.3))
    seen = seen_at(0.2, 0.6)
    first = agent.act(seen)
    assert first.shape == (2,) and first.dtype == np.float32
    for missing in seen:
        assert np.isfinite(agent.act({name: view for name, view in seen.items() if name != missing})).all()
    agent = agent_of(trained)  # as observations of recordings call them, and the vector by its names
    agent.set_goal(seen_at(0.7, 0.3))
    vector = dict(zip(NAMES, seen["proprio"]))
    named = {"pixels_front": seen["front"], "pixels_wrist": seen["wrist"], "proprio": vector}
    np.testing.assert_array_equal(agent.act(named), first)
    agent.reset()
    agent.set_goal({name: np.stack([view] * 3) for name, view in seen_at(0.7, 0.3).items()})
    assert agent.act({name: np.stack([view] * 3) for name, view in seen.items()}).shape == (3, 2)


@pytest.mark.parametrize("said", [["front"], ["wrist"], ["front", "proprio"], ["proprio"]])
def test_a_goal_counts_for_what_it_says_and_nothing_else(trained: Path, said: list[str]) -> None:
    agent, here = agent_of(trained), seen_at(0.2, 0.6)
    agent.set_goal({name: here[name] for name in said})
    assert agent.latent_distance(here) == pytest.approx(0, abs=1e-4)
    other = seen_at(0.8, 0.1)
    for name in here:
        distance = agent.latent_distance({**here, name: other[name]})
        assert distance > 0.01 if name in said else distance == pytest.approx(0, abs=1e-4)
    plan = agent.plan(here)
    parts = agent.config.parts
    index = np.r_[tuple(parts[name] for name in said)]
    nearest = np.square(plan.latents[1:] - plan.aims)[:, index].sum(-1).min()
    assert plan.cost == pytest.approx(nearest, rel=1e-4)


def in_turn(*places: tuple[float, float]) -> dict[str, np.ndarray]:
    """What is seen at each place, one after the other."""
    seen = [seen_at(*place) for place in places]
    return {name: np.stack([view[name] for view in seen]) for name in seen[0]}


@pytest.mark.parametrize("said", [["front", "wrist"], ["front", "proprio"], ["proprio"]])
def test_waypoints_are_passed_in_order_by_what_they_say(trained: Path, said: list[str]) -> None:
    places = (0.2, 0.6), (0.8, 0.2), (0.5, 0.9)
    marks = {name: view for name, view in in_turn(*places).items() if name in said}
    agent = agent_of(trained)
    agent.set_waypoints(marks, near=1e-3)
    for place in places:  # there, by what was said; so the next one counts
        assert agent.latent_distance(seen_at(*place)) == pytest.approx(0, abs=1e-4)
        for _ in range(agent.config.frameskip):
            agent.act(seen_at(*place))
    assert agent.latent_distance(seen_at(*places[-1])) == pytest.approx(0, abs=1e-4)  # the last one stays
    both = agent_of(trained)
    both.set_waypoints({name: np.stack([view, view[::-1]]) for name, view in marks.items()}, near=1e-3)
    ends = in_turn(places[0], places[-1])
    np.testing.assert_allclose(both.latent_distance(ends), 0, atol=1e-4)
    assert both.act(ends).shape == (2, 2)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (in_turn((0.2, 0.6))["front"], "This model knows front, wrist, proprio: give a dict"),
        ({}, "Nothing was given to look at"),
        ({"front": seen_at(0, 0)["front"]}, r"waypoints must be \(G, H, W, 3\).*'front'"),
        ({"proprio": np.zeros(4)}, r"waypoints must be \(G, P\).*'proprio'"),
        ({"proprio": np.zeros((2, 3))}, r"proprio must be \(4,\) numbers"),
        ({"proprio": np.full((2, 4), np.inf)}, "proprio is NaN or infinite at 'across'"),
        ({"head": np.zeros((2, 8, 8, 3), np.uint8)}, "no 'head' in this model"),
        ({**in_turn((0, 0), (1, 1)), "proprio": np.zeros((3, 4))}, "must show the same views"),
        ({"proprio": np.zeros((0, 4))}, r"proprio must be \(4,\) numbers"),
    ],
)
def test_waypoints_that_cannot_be_get_one_sentence_and_change_nothing(
    trained: Path, given: Any, sentence: str
) -> None:
    agent, here = agent_of(trained), seen_at(0.2, 0.6)
    agent.set_goal(seen_at(0.7, 0.3))
    before = agent.latent_distance(here)
    with pytest.raises(PlanError, match=sentence):
        agent.set_waypoints(given)
    assert agent.latent_distance(here) == before


def test_goals_are_sought_over_legs_where_they_say_everything_else_straight(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_trainer(
        tmp_path, dataset=dataset_of(recording), model={**MODEL, "landmarks": 12}, steps=8, freeze_encoder=0.5
    ).fit()
    agent, asked = agent_of(tmp_path), []
    agent = Agent(agent.world_model, agent.settings.changed(legs=3), device="cpu")
    assert agent.world_model.landmarks is not None and agent.world_model.landmarks.known
    aim = agent._solver.legs.aim
    monkeypatch.setattr(agent._solver.legs, "aim", lambda *given: (asked.append(1), aim(*given))[1])
    for said in (["front"], ["wrist", "proprio"], ["proprio"], ["front", "wrist", "proprio"]):
        asked.clear()
        goal = {name: view for name, view in seen_at(0.9, 0.9).items() if name in said}
        agent.set_waypoints({name: np.stack([view, view]) for name, view in goal.items()}, steps=200)
        agent.set_goal(goal, steps=200)
        action, plan = agent.act(seen_at(0.1, 0.1)), agent.plan(seen_at(0.1, 0.1))
        assert action.shape == (2,) and np.isfinite(action).all() and np.isfinite(plan.aims).all()
        assert bool(asked) == (len(said) == 3)


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, "Nothing was given to look at: give some of front, wrist, proprio"),
        ({"head": look(np.zeros(2))["front"]}, "no 'head' in this model.*it knows front, wrist, proprio"),
        ({"front": np.zeros((32, 32), np.uint8)}, "front: pixels must be"),
        ({"front": np.zeros((32, 32, 3), np.float32)}, "front: pixels must be uint8"),
        ({"proprio": np.zeros(3)}, "proprio must be \\(4,\\) numbers.*across, down, .*not of shape \\(3,\\)"),
        ({"proprio": [0.0, np.nan, 0.0, 0.0]}, "proprio is NaN or infinite at 'down'"),
        ({"proprio": {"across": 0.0, "up": 1.0}}, "proprio must have the names across, down.*up"),
        ({"front": look(np.zeros(2))["front"], "proprio": np.zeros((2, 4))}, "same number of problems"),
        (look(np.zeros(2))["front"], "This model knows front, wrist, proprio: give a dict"),
    ],
)
def test_what_cannot_be_seen_gets_one_sentence_that_names_the_key(
    trained: Path, given: Any, sentence: str
) -> None:
    agent = agent_of(trained)
    with pytest.raises(PlanError, match=sentence):
        agent.set_goal(given)
    agent.set_goal(seen_at(0.5, 0.5))
    with pytest.raises(PlanError, match=sentence):
        agent.act(given)
    assert np.isfinite(agent.act(seen_at(0.4, 0.4))).all()  # nothing is lost


def test_a_run_from_the_command_line(recording: Path, tmp_path: Path, monkeypatch, capsys, caplog) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["env=recorded", f"data.path={recording}", "data.cameras=[front,wrist]", "data.proprio=proprio"]
    words += [*TINY, "model.latent_dim=20", "model.proprio_dims=4", "model.frameskip=2", "benchmark.pairs=0"]
    words += ["benchmark.validation_pairs=0", "train.steps=4", "out=run", "wandb.mode=disabled"]
    assert train.main([*words, "report=true"]) == 0
    assert "no report: it is made for models of one camera" in caplog.text
    assert train.main(["resume=run", "train.steps=6", "wandb.mode=disabled"]) == 0
    agent = agent_of(tmp_path / "run")
    agent.set_goal({"wrist": look(np.array([0.5, 0.2]))["wrist"]})
    assert agent.act(seen_at(0.3, 0.3)).shape == (2,)
    for wrong, sentence in (
        (["data.cameras=[front,head]"], "has no column 'head'"),
        (["data.proprio=joints"], "has no column 'joints'"),
        (["model.proprio_dims=3"], "2 cameras share latent_dim"),
        (["train.sense_dropout=1"], "below 1"),
        (["model.camera_encoders=many"], "shared or own"),
        (["data.camera=front"], "and not both"),
    ):
        capsys.readouterr()
        assert train.main([*words, "out=other", *wrong]) == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
