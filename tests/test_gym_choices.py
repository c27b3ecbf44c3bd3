"""Gymnasium environments whose actions are choices, or numbers and choices: recorded, learned, planned in."""

from __future__ import annotations

import json
import runpy
from pathlib import Path

import gym_dots  # noqa: F401  registers the environments of these tests
import numpy as np
import pytest
from test_train_cli import TINY
from tiny_run import SquareRecording, tiny_dataset, tiny_model, tiny_trainer

from latent_planner import Agent, envs
from latent_planner.checkpoints import checkpoint
from latent_planner.cli import plan, train
from latent_planner.common.action_space import ActionSpace
from latent_planner.envs import WorldError
from latent_planner.envs.gym.policies import make_gym_policy
from latent_planner.envs.recordings.collect import collect
from latent_planner.envs.recordings.episodes import EpisodeReader, EpisodeWriter
from latent_planner.planners import PlanError
from latent_planner.training.dataset import DatasetError

ROOT = Path(__file__).parent.parent
DISCRETE, GRIP = "gym:DotDiscrete-v0", "gym:DotGrip-v0"
MADE_OF = {DISCRETE: "Discrete(4)", GRIP: "Dict(push=Box(2), squeeze=Discrete(2))"}
SIZES = {DISCRETE: 1, GRIP: 3}
MODEL = {"latent_dim": 12, "proposals": 2, "proposal_steps": 3, "proposer_width": 16}


def test_a_world_takes_its_own_actions_and_rows() -> None:
    world = envs.make(DISCRETE, image_size=32)
    before = world.reset(seed=0)[0]["state"]
    assert world.action_space.n == 4 and world.action_size == 1
    for action in (1, np.int64(1), [1.0]):  # to the right
        state = world.step(action)[0]["state"]
    np.testing.assert_allclose(state[:2] - before[:2], [0.6, 0.0], atol=1e-6)
    for wrong in (4, 0.5, [0.0, 0.0], None):
        with pytest.raises(WorldError, match="An action is one of Discrete\\(4\\), not"):
            world.step(wrong)
    world = envs.make(GRIP, image_size=32)
    before = world.reset(seed=0)[0]["state"]
    state = world.step({"push": [9.0, 1.0], "squeeze": 0})[0]["state"]  # cut off at its bounds
    np.testing.assert_allclose(state[:2] - before[:2], [0.2, 0.1], atol=1e-6)
    assert (world.step([1.0, 1.0, 1.0])[0]["state"][:2] == state[:2]).all()


@pytest.mark.parametrize("name", [DISCRETE, GRIP])
@pytest.mark.parametrize("how", ["random", "smooth"])
def test_recordings_hold_whole_numbers_for_choices(name: str, how: str, tmp_path: Path) -> None:
    job = {"episodes": 6, "length": 40, "image_size": 16, "workers": 1, "progress": False}
    reader = EpisodeReader(collect(name, tmp_path / "a.h5", policy=how, **job))
    assert str(reader.action_space) == MADE_OF[name] and not reader.bad_actions().any()
    actions = reader.read("action", 0, reader.num_frames)
    assert actions.shape == (240, SIZES[name])
    taken = actions[reader.taken.rows]
    assert not reader.action_space.odd(taken).any() and reader.taken.rows.sum() == 6 * 39
    choice = taken[:, -1]
    assert set(choice) == set(range(int(reader.action_high[-1]) + 1))  # each is tried
    held = (np.diff(choice) == 0).mean()
    assert held > 0.55 if how == "smooth" else held < 0.55


def test_a_function_of_the_users_gives_what_the_environment_takes() -> None:
    world = envs.make(GRIP, image_size=16)
    policy = make_gym_policy("gym_dots:grip", world)
    policy.reset(np.random.default_rng(0))
    obs, _ = world.reset(seed=0)
    row = policy.act(obs)
    assert row.shape == (3,) and row[2] in (0, 1)
    with pytest.raises(WorldError, match="gym_dots:wrong\\(observation, random\\) failed"):
        wrong = make_gym_policy("gym_dots:wrong", envs.make(DISCRETE, image_size=16))
        wrong.reset(np.random.default_rng(0))
        wrong.act(obs)


@pytest.fixture(scope="module")
def gripper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run through the command line."""
    folder = tmp_path_factory.mktemp("choices")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["env=gym", "env.id=DotGrip-v0", *TINY, "env.episodes=8", "env.length=24", "env.goal=[0,1]"]
        words += ["train.steps=6", "train.freeze_encoder=0.5", "model.frameskip=2", "out=run"]
        words += ["benchmark.validation_pairs=0", "wandb.mode=disabled", "data.workers=1"]
        assert train.main(words) == 0
    return folder


@pytest.fixture(scope="module", params=[DISCRETE, GRIP])
def run(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A world and a folder whose run/ is a checkpoint of it; one of them has not learned anything."""
    if request.param == GRIP:
        return GRIP, request.getfixturevalue("gripper")
    folder = tmp_path_factory.mktemp("discrete")
    job = {"episodes": 4, "length": 16, "image_size": 32, "workers": 1, "progress": False}
    dataset = tiny_dataset(EpisodeReader(collect(DISCRETE, folder / "a.h5", **job)))
    checkpoint.save(tiny_model(dataset, **MODEL), folder / "run")
    return DISCRETE, folder


def test_a_run_is_tested_and_plans_to_pictures(gripper, monkeypatch, tmp_path) -> None:
    name, folder = GRIP, gripper
    monkeypatch.chdir(tmp_path)
    tested = json.loads((folder / "run" / "benchmark.json").read_text())
    assert len(tested["episodes"]) == 3 and set(tested["floors"]) == {"random", "still"}
    config = json.loads((folder / "run" / "config.json").read_text())["model"]
    assert config["action_space"] == MADE_OF[name] and config["action_mean"][-1] == 0
    assert plan.main(["--make-goal", "goal.png", "--env", f"{name}?goal=0,1", "--seed", "3"]) == 0
    words = ["--goal", "goal.png", "--checkpoint", str(folder / "run"), "--budget", "6", "--out", "a"]
    assert plan.main(words) == 0
    result = json.loads(Path("a/result.json").read_text())
    assert not ActionSpace.parse(MADE_OF[name]).odd(np.reshape(result["actions"], (-1, SIZES[name]))).any()


def test_an_agent_returns_what_the_environment_takes(run) -> None:
    name, folder = run
    world = envs.make(name, image_size=32)
    obs, info = world.reset(seed=1)
    agent = Agent.from_pretrained(folder / "run", device="cpu")
    agent.set_goal(info["goal"])
    for _ in range(5):
        action = agent.act(obs["pixels"])
        assert world.action_space.contains(action)
        obs, *_ = world.step(action)
    own = agent.plan(obs["pixels"])
    assert world.action_space.contains(agent.config.space.own_form(own.actions[0]))
    first = agent.replan(obs["pixels"]).actions
    again = agent.replan(obs["pixels"], executed=first[:2], committed=first[2:3])
    np.testing.assert_allclose(again.actions[0], first[2], atol=1e-6)
    agent.reset()
    agent.set_goal(np.stack([info["goal"]] * 3))
    together = agent.act(np.stack([obs["pixels"]] * 3))
    shapes = {DISCRETE: lambda a: a.shape == (3,), GRIP: lambda a: a["push"].shape == (3, 2)}
    assert shapes[name](together)


def test_what_does_not_go_with_choices_gets_one_sentence(run, monkeypatch, tmp_path) -> None:
    name, folder = run
    with pytest.raises(PlanError, match="some of these actions are choices: take cem"):
        Agent.from_pretrained(folder / "run", device="cpu", planner="gradient")
    if name == DISCRETE:
        with pytest.raises(PlanError, match="max_change limits numbers"):
            Agent.from_pretrained(folder / "run", device="cpu", max_change=0.1)
    else:
        changes = {"max_change": 0.1, "objective": "closest + smoothness"}
        agent = Agent.from_pretrained(folder / "run", device="cpu", **changes)
        world = envs.make(name, image_size=32)
        obs, info = world.reset(seed=1)
        agent.set_goal(info["goal"])
        pushes = np.array([agent.act(obs["pixels"])["push"] for _ in range(6)])
        assert np.abs(np.diff(pushes, axis=0)).max() <= 0.1 + 1e-5


def test_choices_survive_a_checkpoint_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    dataset = tiny_dataset(_recording())
    model = tiny_model(dataset, **MODEL)
    checkpoint.save(model, tmp_path)
    loaded, _ = checkpoint.load(tmp_path)
    assert loaded.config == model.config and loaded.config.block_dim == 2 * (2 + 3)
    batch = dataset.batch(0, 4)
    assert batch.actions.shape == (4, 3, 10)
    choices = batch.actions.unflatten(-1, (2, 5))[..., 2:]
    assert (choices.sum(-1) == 1).all()
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace("Discrete(3)", "Discrete(4)"))
    with pytest.raises(checkpoint.CheckpointError, match="Component 2 of the actions is a choice"):
        checkpoint.load(tmp_path)


def test_choices_that_there_are_not_are_found_before_training(tmp_path: Path) -> None:
    reader = _recording()
    reader.data["action"][30, 2] = 3
    with pytest.raises(DatasetError, match="none of Tuple.*the first in episode 1 at step 6"):
        tiny_dataset(reader)
    attrs = {"action_space": "Discrete(2"}
    with EpisodeWriter(tmp_path / "a.h5", attrs=attrs) as writer:
        writer.append({"pixels": np.zeros((4, 16, 16, 3), np.uint8), "action": np.zeros((4, 1), np.float32)})
    with pytest.raises(Exception, match="action_space that is not understood"):
        _ = EpisodeReader(tmp_path / "a.h5").action_space


def test_a_setting_says_it_where_a_recording_does_not(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    draws = np.random.default_rng(0)
    with EpisodeWriter("a.h5", attrs={"env": "recorded"}) as writer:
        for _ in range(4):
            pixels = draws.integers(0, 255, (16, 32, 32, 3), np.uint8)
            writer.append({"pixels": pixels, "action": draws.integers(0, 3, (16, 1)).astype(np.float32)})
    assert EpisodeReader("a.h5", action_space="Discrete(3)").action_high.tolist() == [2]
    words = ["env=recorded", "data.path=a.h5", *TINY, "model.frameskip=2", "benchmark.pairs=0", "out=run"]
    words += ["benchmark.validation_pairs=0", "train.steps=2", "wandb.mode=disabled"]
    for wrong, sentence in (("Discrete(2)", "none of Discrete(2)"), ("Buttons(2)", "is no space of actions")):
        assert train.main([*words, f"data.action_space={wrong}"]) == 2
        assert sentence in capsys.readouterr().err
    assert train.main([*words, "data.action_space=Discrete(3)"]) == 0
    config = json.loads(Path("run/config.json").read_text())["model"]
    assert config["action_space"] == "Discrete(3)" and config["action_mean"] == [0.0]


def test_a_rare_choice_is_no_glitch(tmp_path: Path) -> None:
    actions = np.random.default_rng(0).integers(0, 2, (400, 1)).astype(np.float32)
    actions[[100, 250]] = 17
    for text, count in (("Discrete(18)", 399), ("", 397)):
        path = tmp_path / f"{len(text)}.h5"
        with EpisodeWriter(path, attrs={"action_space": text} if text else {}) as writer:
            writer.append({"pixels": np.zeros((400, 8, 8, 3), np.uint8), "action": actions.copy()})
        reader = EpisodeReader(path)
        assert reader.taken.rows.sum() == count
    assert EpisodeReader(tmp_path / "12.h5").action_high.tolist() == [17]


def _recording() -> SquareRecording:
    """A square that two numbers push, and a choice among three that shows as its colour."""
    reader = SquareRecording()
    chosen = np.random.default_rng(1).integers(0, 3, (reader.num_frames, 1)).astype(np.float32)
    reader.data["action"] = np.hstack([reader.data["action"], chosen])
    reader.action_low, reader.action_high = np.array([-1.0, -1.0, 0.0]), np.array([1.0, 1.0, 2.0])
    reader.action_space = ActionSpace.parse("Tuple(Box(2), Discrete(3))")
    return reader


# Gymnasium's own --------------------------------------------------------------------------------------------

CART = "gym:CartPole-v1?past_end=true"
OWN = [CART, "gym:FrozenLake-v1?is_slippery=false&past_end=true", "gym:CliffWalking-v1"]


@pytest.mark.parametrize("name", OWN)
def test_gymnasiums_own_are_recorded_learned_and_acted_in(
    name: str, tmp_path: Path, monkeypatch, capsys
) -> None:
    pytest.importorskip("pygame")
    job = {"episodes": 3, "length": 12, "image_size": 32, "workers": 1, "progress": False, "policy": "random"}
    reader = EpisodeReader(collect(name, tmp_path / "a.h5", **job))
    world = envs.make(name, image_size=32)
    assert str(reader.action_space) == f"Discrete({world.action_space.n})"
    dataset = tiny_dataset(reader, frameskip=1)
    tiny_trainer(tmp_path / "run", dataset=dataset, model=MODEL, steps=4, freeze_encoder=0.5).fit()
    agent = Agent.from_pretrained(tmp_path / "run", device="cpu", num_samples=16, num_elites=4, iterations=2)
    obs, info = world.reset(seed=0)
    agent.set_goal(info["goal"])
    for _ in range(4):
        action = agent.act(obs["pixels"])
        assert world.action_space.contains(action)
        obs, *_ = world.step(action)
    if name == CART:
        monkeypatch.setattr(
            "sys.argv", ["cart_pole.py", str(tmp_path / "run"), "--episodes", "1", "--steps", "12"]
        )
        runpy.run_path(str(ROOT / "examples" / "cart_pole.py"), run_name="__main__")
        said = capsys.readouterr().out
        assert "episode 0: " in said and "mean of 1: " in said
