"""Worlds seen by several cameras and with the robot's own vector: observed, recorded, learned, tested."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gym_senses  # noqa: F401  registers the environment of these tests
import numpy as np
import pytest
from needs import drawn_by_mujoco, extra_worlds
from test_train_cli import TINY

from latent_planner import Agent, envs
from latent_planner.cli import plan, train
from latent_planner.envs.recordings import collect_command
from latent_planner.envs.recordings.episodes import EpisodeReader
from latent_planner.planners import PlanConfig, PlanError

QUICK = PlanConfig(horizon=2, num_samples=16, num_elites=4, iterations=2)


# Worlds -----------------------------------------------------------------------------------------------------


def test_a_world_gives_its_vector_where_it_is_asked_for() -> None:
    world = envs.make("pusht", image_size=32, proprio=True)
    observation, info = world.reset(seed=3)
    assert observation["proprio"].dtype == np.float32
    assert world.observation_space.contains(observation)
    np.testing.assert_allclose(observation["proprio"], observation["state"][[0, 1, 5, 6]], rtol=1e-6)
    told = info["goal_observation"]
    assert set(told) == {"pixels", "proprio"}
    np.testing.assert_array_equal(told["pixels"], info["goal"])
    np.testing.assert_allclose(told["proprio"], info["goal_state"][[0, 1, 5, 6]], rtol=1e-6)
    alone = envs.make("pusht", image_size=32)
    observation, info = alone.reset(seed=3)
    assert set(observation) == {"pixels", "state"} and "goal_observation" not in info  # as it always was


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("pusht", {"cameras": ["head"]}, "PushT has the cameras pixels: there is no 'head'"),
        ("pusht", {"cameras": ["pixels", "pixels"]}, "names none, or one twice"),
        ("pusht", {"cameras": []}, "names none, or one twice"),
        ("two_room", {"proprio": True}, "TwoRoom has no vector of a robot's own"),
    ],
)
def test_what_a_world_does_not_have_gets_one_sentence(name: str, options: Any, sentence: str) -> None:
    with pytest.raises(envs.WorldError, match=sentence):
        envs.make(name, **options)


@drawn_by_mujoco
@extra_worlds
def test_reacher_turns_its_shoulder_without_a_jump() -> None:
    world = envs.make("reacher", image_size=16, proprio=True)
    seen = [world.reset(seed=0, options={"state": [a, 0.5, 1.0, -2.0]})[0]["proprio"] for a in (-3.14, 3.14)]
    np.testing.assert_allclose(seen[0], seen[1], atol=0.01)
    np.testing.assert_allclose(seen[0][2:], [0.5, 1.0, -2.0])


@drawn_by_mujoco
@extra_worlds
def test_cube_is_seen_by_each_camera_on_its_own() -> None:
    names = ["low", "front", "side", "wrist"]
    world = envs.make("cube", image_size=48, cameras=names, proprio=True)
    usual = envs.make("cube", image_size=48)
    observation, info = world.reset(seed=1)
    before, told = usual.reset(seed=1)
    np.testing.assert_array_equal(observation["pixels_front"], before["pixels"])
    np.testing.assert_array_equal(info["goal_observation"]["pixels_front"], told["goal"])
    np.testing.assert_array_equal(info["goal_observation"]["pixels"], info["goal"])
    assert observation["proprio"].shape == (7,) and world.observation_space.contains(observation)
    np.testing.assert_array_equal(world.render(), observation["pixels"])


@drawn_by_mujoco
@extra_worlds
def test_the_low_cameras_of_cube_each_hide_how_far_away_it_is() -> None:
    world = envs.make("cube", image_size=64, cameras=["low", "side"])
    state = world.reset(seed=1)[0]["state"]

    def middle(x: float, y: float) -> dict[str, np.ndarray]:
        """Where the red cube is in each frame, across, in px."""
        moved = state.copy()
        moved[4:7] = x, y, 0.02
        found = {}
        for name, frame in world.reset(seed=1, options={"state": moved})[0].items():
            if name != "state":
                rgb = frame.astype(int)
                red = (rgb[..., 0] > 130) & (rgb[..., 1] < 90) & (rgb[..., 2] < 90)
                found[name] = np.argwhere(red).mean(0)[1]
        return found

    here, across, away = middle(0.4, 0.0), middle(0.4, 0.1), middle(0.5, 0.0)
    assert abs(across["pixels"] - here["pixels"]) > 5 > 2 > abs(away["pixels"] - here["pixels"])
    assert abs(away["pixels_side"] - here["pixels_side"]) > 5
    assert abs(across["pixels_side"] - here["pixels_side"]) < 2


TWO = "gym:TwoCameras-v0"


def test_pictures_of_a_dictionary_are_cameras_and_its_vectors_the_state() -> None:
    world = envs.make(TWO, image_size=32)  # one camera: what it renders
    assert world.views == ("pixels", "front", "wrist")
    assert world.state_names == ("place_0", "place_1", "speed_0", "speed_1")
    assert set(world.reset(seed=0)[0]) == {"pixels", "state"}
    both = envs.make(TWO, image_size=32, cameras=["front", "wrist"], proprio=True)
    observation, info = both.reset(seed=0)
    np.testing.assert_array_equal(observation["pixels"], both.env.unwrapped._seen()["front"])
    assert observation["pixels_wrist"].shape == (32, 32, 3)
    np.testing.assert_allclose(observation["proprio"], observation["state"], rtol=1e-6)
    np.testing.assert_allclose(info["goal_observation"]["proprio"], info["goal_state"], rtol=1e-6)
    np.testing.assert_array_equal(info["goal_observation"]["pixels"], info["goal"])
    told = both.reset(seed=0, options={"goal_state": info["goal_state"]})[1]
    assert set(told["goal_observation"]) == {"proprio"}  # nobody knows the picture
    lying = envs.make(f"{TWO}?lies=true", image_size=32, cameras=["wrist"])
    with pytest.raises(envs.WorldError, match="observes no picture 'wrist' though it declares one"):
        lying.reset(seed=0)


# From the command line --------------------------------------------------------------------------------------

WORDS = ["env=gym", "env.id=TwoCameras-v0", "env.episodes=10", "env.length=30", "data.workers=1", *TINY]
WORDS += ["model.latent_dim=20", "model.proprio_dims=4", "model.frameskip=2", "train.steps=4", "out=run"]
WORDS += ["wandb.mode=disabled", "data.cameras=[front,wrist]", "data.proprio=proprio", "model.image_size=32"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of both cameras and the vector, in a folder of its own."""
    folder = tmp_path_factory.mktemp("two")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert train.main([*WORDS, "benchmark.goal=front", "benchmark.history=true"]) == 0
    return folder


def test_a_world_is_recorded_and_learned_with_what_is_asked_for(run: Path) -> None:
    (path,) = (run / "data").glob("*.h5")
    assert path.name == "gym-TwoCameras-v0-front-wrist-proprio-32-10x30-seed0.h5"
    reader = EpisodeReader(path, cameras=["front", "wrist"], proprio="proprio")
    assert reader.cameras == {"front": "pixels", "wrist": "pixels_wrist"}
    assert reader.proprio_names == ("place_0", "place_1", "speed_0", "speed_1")
    agent = Agent.from_pretrained(run / "run", device="cpu")
    assert agent.config.cameras == ("front", "wrist") and agent.config.proprio == reader.proprio_names
    result = json.loads((run / "run/benchmark.json").read_text())
    assert result["senses"] == ["front", "wrist", "proprio"] and result["goal_shows"] == ["front"]
    assert result["history"] is True


def test_the_benchmark_shows_an_agent_what_it_is_asked_to(run: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(run)
    words = ["--benchmark", "--checkpoint", "run", "--pairs", "2", "--pairs-seed", "3"]
    words += ["--out", "tested"]
    for senses, goal, told in (
        (None, None, (["front", "wrist", "proprio"], ["front", "wrist"])),
        ("wrist", None, (["wrist"], ["wrist"])),
        ("[front,proprio]", "proprio", (["front", "proprio"], ["proprio"])),
    ):
        asked = [f"benchmark.senses={senses}"] if senses else []
        asked += [f"benchmark.goal={goal}"] if goal else []
        assert plan.main([*words, *asked]) == 0
        result = json.loads(Path("tested/benchmark.json").read_text())
        assert (result["senses"], result["goal_shows"]) == told
        said = f"the agent sees {', '.join(told[0])}; a goal shows {', '.join(told[1])}"
        assert said in capsys.readouterr().out
    assert plan.main([*words, "benchmark.senses=head"]) == 2
    assert "no 'head' in this model: it knows front, wrist, proprio" in capsys.readouterr().err


def test_a_goal_picture_is_what_all_cameras_would_show(run: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(run)
    assert plan.main(["--make-goal", "goal.png", "--env", TWO]) == 0
    assert plan.main(["--goal", "goal.png", "--checkpoint", "run", "--budget", "4", "--out", "there"]) == 0
    assert len(json.loads(Path("there/result.json").read_text())["actions"]) == 4
    capsys.readouterr()
    assert plan.main(["--goal", "goal.png", "--checkpoint", "run", "--explain"]) == 2
    assert "--explain is for models of one camera" in capsys.readouterr().err


def test_what_cannot_be_learned_or_tested_gets_one_sentence(run: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(run)
    for wrong, sentence in (
        (["data.cameras=[front,head]"], "has the cameras pixels, front, wrist: there is no 'head'"),
        (["data.proprio=joints"], "the vector of a world is data.proprio=proprio"),
        (["benchmark.senses=head"], "no 'head' in this model"),
        (["play=true"], "the page shows runs of one camera"),
    ):
        capsys.readouterr()
        assert train.main([*WORDS, "out=other", *wrong]) == 2
        assert sentence in capsys.readouterr().err
    assert not Path("other").exists()


def test_one_camera_alone_keeps_its_name(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = [word for word in WORDS if not word.startswith(("data.cameras", "data.proprio"))]
    words += ["benchmark.validation_pairs=0", "benchmark.pairs=0"]
    assert train.main([*words, "data.cameras=wrist"]) == 0
    assert Agent.from_pretrained("run", device="cpu").config.cameras == ("wrist",)


def test_collect_takes_cameras_and_the_vector(tmp_path: Path, capsys) -> None:
    words = [str(tmp_path / "a.h5"), "--episodes", "2", "--length", "5", "--image-size", "16"]
    words += ["--workers", "1"]
    assert collect_command.main(["pusht", *words, "--proprio"]) == 0
    reader = EpisodeReader(tmp_path / "a.h5", proprio="proprio")
    assert reader.cameras == {"pixels": "pixels"} and reader.proprio_names[2:] == ("agent_vx", "agent_vy")
    rows = reader.read("state", 0, 10)[:, [0, 1, 5, 6]]
    np.testing.assert_array_equal(reader.read("proprio", 0, 10), rows)
    capsys.readouterr()
    assert collect_command.main(["pusht", *words, "--cameras", "front,wrist"]) == 2
    assert "PushT has the cameras pixels: there is no 'front'" in capsys.readouterr().err


# Velocities at the first plan -------------------------------------------------------------------------------


def test_frames_from_before_the_first_plan_are_its_context(run: Path) -> None:
    agent = Agent.from_pretrained(run / "run", device="cpu", plan_config=QUICK)
    world = envs.make(TWO, image_size=32, cameras=["front", "wrist"], proprio=True)
    seen, info = world.reset(seed=5)

    def named(shown: Any) -> dict[str, Any]:
        return {"front": shown["pixels"], "wrist": shown["pixels_wrist"]}

    taken, frames = np.array([[1.0, 0.5], [0.4, -1.0]], np.float32), [named(seen)]
    for action in taken:
        seen, *_ = world.step(action)
    agent.set_goal(named(info["goal_observation"]))
    alone = agent.plan(named(seen))
    agent.observe(frames[0], taken)
    with_both = agent.plan(named(seen))
    assert len(agent._problems[0].latents) == 1 and not np.array_equal(alone.latents[1], with_both.latents[1])
    np.testing.assert_allclose(alone.latents[0], with_both.latents[0], atol=1e-5)
    own = agent.clone()
    own.set_goal(named(info["goal_observation"]))
    own.observe(frames[0], taken)  # the second way to be there: acted from the frame before
    np.testing.assert_array_equal(own.act(named(seen)), with_both.actions[0])
    with pytest.raises(PlanError, match="A plan is under way"):
        own.observe(named(seen), taken)
    agent.reset()
    agent.set_goal(named(info["goal_observation"]))
    for wrong in (taken[:1], 2, None):
        with pytest.raises(PlanError, match="executed must be the 2 actions"):
            agent.observe(frames[0], wrong)
    assert agent.act(named(seen)).shape == (2,)  # nothing is lost


def test_waypoints_of_several_cameras_are_passed_in_turn(run: Path) -> None:
    agent = Agent.from_pretrained(run / "run", device="cpu", plan_config=QUICK)
    world = envs.make(TWO, image_size=32, cameras=["front", "wrist"], proprio=True)
    shown = [world.reset(seed=seed)[0] for seed in range(4)]
    views = {"front": "pixels", "wrist": "pixels_wrist", "proprio": "proprio"}
    here = {name: shown[0][key] for name, key in views.items()}
    goals = {name: np.stack([one[key] for one in shown[1:]]) for name, key in views.items()}
    agent.set_waypoints({"front": goals["front"]}, near=0.0)
    aims = [agent._problems[0].goal]
    assert len(agent._problems[0].later) == 2 and agent.act(here).shape == (2,)
    agent.set_goal({"front": goals["front"][0]})
    np.testing.assert_allclose(aims[0], agent._problems[0].goal, atol=1e-5)
    agent.reset()
    agent.set_waypoints({name: np.stack([value, value]) for name, value in goals.items()})
    assert agent.act({name: np.stack([value, value]) for name, value in here.items()}).shape == (2, 2)
    for wrong, sentence in (
        ({"front": here["front"]}, "waypoints must be \\(G, H, W, 3\\).*front"),
        ({"front": goals["front"], "proprio": goals["proprio"][:2]}, "must show the same views"),
        ({}, "Nothing was given"),
        (goals["front"], "give a dict"),
    ):
        with pytest.raises(PlanError, match=sentence):
            agent.set_waypoints(wrong)
