"""The LeRobot plugin, on a stand-in for LeRobot: how it is found, what it answers, saving and loading."""

from __future__ import annotations

import importlib
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lerobot_stand_in as lerobot
import numpy as np
import pytest
import torch
import two_cameras
from tiny_run import tiny_dataset, tiny_model

from latent_planner import Agent
from latent_planner.checkpoints import checkpoint
from latent_planner.envs.recordings.episodes import EpisodeReader

PLUGIN = Path(__file__).resolve().parent.parent / "examples" / "lerobot_policy_jepa"
RNG = np.random.default_rng(0)
GOAL = RNG.integers(0, 256, (64, 64, 3), np.uint8)
FRAMES = torch.from_numpy(RNG.integers(0, 256, (2, 3, 48, 48), np.uint8))
BATCH = {"observation.image": FRAMES.float() / 255, "task": ["", ""]}


@pytest.fixture(autouse=True)
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """LeRobot's stand-in, and the plugin imported as LeRobot imports it: by the distribution's name."""
    lerobot.install(monkeypatch)
    monkeypatch.syspath_prepend(PLUGIN / "src")
    importlib.import_module(tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]["name"])
    yield
    for name in [name for name in sys.modules if name.startswith("lerobot_policy_jepa")]:
        del sys.modules[name]


def make(tiny_checkpoint: Path, **options: Any) -> Any:
    """The policy as LeRobot's factory makes it: from the registered name, by the names of modules."""
    config_class: Any = lerobot.PreTrainedConfig.known["jepa"]
    home = config_class.__module__.replace("configuration_", "modeling_")
    policy_class = getattr(
        importlib.import_module(home), config_class.__name__.removesuffix("Config") + "Policy"
    )
    return policy_class(config_class(checkpoint=str(tiny_checkpoint), **options), dataset_stats=None).eval()


def test_the_distribution_is_called_as_lerobot_looks_for_it() -> None:
    project = tomllib.loads((PLUGIN / "pyproject.toml").read_text())["project"]
    assert project["name"].startswith("lerobot_policy_") and project["name"] == "lerobot_policy_jepa"
    assert (PLUGIN / "src" / project["name"] / "__init__.py").is_file()


def test_actions_are_those_of_the_agent(tiny_checkpoint: Path) -> None:
    policy = make(tiny_checkpoint, seed=3)
    policy.set_goal(GOAL)
    policy.reset()
    agent = Agent.from_pretrained(tiny_checkpoint, device="cpu", seed=3)
    agent.set_goal(np.stack([GOAL, GOAL]))
    frames = FRAMES.permute(0, 2, 3, 1).numpy()
    chunk = policy.predict_action_chunk(BATCH)
    np.testing.assert_allclose(chunk.numpy(), agent.plan(frames).actions)
    assert chunk.shape == (2, 25, 2) and chunk.dtype == torch.float32
    for _ in range(7):  # into the second block
        action = policy.select_action(BATCH)
        assert action.shape == (2, 2)
        np.testing.assert_allclose(action.numpy(), agent.act(frames))


def test_a_reset_begins_the_same_episode_again(tiny_checkpoint: Path) -> None:
    policy = make(tiny_checkpoint, chunk_size=3)
    policy.set_goal(GOAL)
    policy.reset()
    first = [policy.select_action(BATCH) for _ in range(3)]
    policy.reset()
    again = [policy.select_action(BATCH) for _ in range(3)]
    assert torch.equal(torch.stack(first), torch.stack(again))
    assert policy.predict_action_chunk(BATCH).shape == (2, 3, 2)
    policy.reset()  # another number of environments
    assert policy.select_action({"observation.image": FRAMES[:1]}).shape == (1, 2)


def test_goals_from_a_picture_and_from_the_batch(tiny_checkpoint: Path, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(GOAL).save(tmp_path / "goal.png")
    given = make(tiny_checkpoint)
    given.set_goal(GOAL)
    from_file = make(tiny_checkpoint, goal_path=str(tmp_path / "goal.png"))
    for policy in (given, from_file):
        policy.select_action(BATCH)
    frames = FRAMES.permute(0, 2, 3, 1).numpy()
    wanted = given.agent.latent_distance(frames)
    np.testing.assert_array_equal(from_file.agent.latent_distance(frames), wanted)
    goals = torch.from_numpy(np.stack([GOAL, 255 - GOAL])).permute(0, 3, 1, 2)
    from_file.select_action({**BATCH, "observation.goal": goals})
    told = from_file.agent.latent_distance(frames)
    assert told[0] == wanted[0] and told[1] != wanted[1]


def test_saved_by_lerobot_it_needs_the_checkpoint_no_more(tiny_checkpoint: Path, tmp_path: Path) -> None:
    policy = make(tiny_checkpoint, planner={"num_samples": 12, "num_elites": 3})
    policy.save_pretrained(tmp_path / "saved")
    loaded = type(policy).from_pretrained(tmp_path / "saved")
    assert loaded.agent.settings.plan_config.num_samples == 12
    assert loaded.agent.settings.plan_config.iterations == 2
    loaded.config.checkpoint = "nowhere"
    for either in (policy, loaded):
        either.set_goal(GOAL)
    assert torch.equal(loaded.predict_action_chunk(BATCH), policy.predict_action_chunk(BATCH))
    assert set(loaded.config.input_features) == {"observation.image"}
    assert loaded.config.output_features["action"].shape == (2,)


def test_processors_move_and_never_normalise(tiny_checkpoint: Path) -> None:
    config_class: Any = lerobot.PreTrainedConfig.known["jepa"]
    home = importlib.import_module(config_class.__module__.replace("configuration_", "processor_"))
    before, after = home.make_jepa_pre_post_processors(config_class(device="cpu"), dataset_stats={})
    assert (before.name, after.name) == ("policy_preprocessor", "policy_postprocessor")
    assert [type(step).__name__ for step in after.steps] == ["DeviceProcessorStep"]
    assert set(config_class().normalization_mapping.values()) == {lerobot.NormalizationMode.IDENTITY}


def test_mistakes_are_told(tiny_checkpoint: Path) -> None:
    policy = make(tiny_checkpoint)
    with pytest.raises(ValueError, match="no goal"):
        policy.select_action(BATCH)
    policy.set_goal(GOAL)
    with pytest.raises(ValueError, match="no 'observation.image', only observation.state"):
        policy.select_action({"observation.state": torch.zeros(1, 2)})
    with pytest.raises(ValueError, match=r"must be \(B, 3, H, W\)"):
        policy.select_action({"observation.image": FRAMES[0]})
    for bad in (FRAMES.float() / 255 - 0.5, FRAMES.float() * torch.nan):
        with pytest.raises(ValueError, match="leave out the normalisation"):
            policy.select_action({"observation.image": bad})
    with pytest.raises(NotImplementedError, match="train.py"):
        policy.forward(BATCH)
    camera = lerobot.PolicyFeature(lerobot.FeatureType.VISUAL, (3, 48, 48))
    with pytest.raises(ValueError, match="set image_key to one of observation.images.wrist"):
        make(tiny_checkpoint, input_features={"observation.images.wrist": camera})
    seven = lerobot.PolicyFeature(lerobot.FeatureType.ACTION, (7,))
    with pytest.raises(ValueError, match=r"actions have shape \(7,\)"):
        make(tiny_checkpoint, output_features={"action": seven})


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of two cameras and a vector."""
    folder = tmp_path_factory.mktemp("several")
    path = two_cameras.write(folder / "a.h5", episodes=3)
    dataset = tiny_dataset(EpisodeReader(path, cameras=["front", "wrist"], proprio="proprio"))
    model = tiny_model(dataset, latent_dim=20, proprio_dims=4).eval()
    planner = {"horizon": 3, "num_samples": 16, "num_elites": 4, "iterations": 2}
    return checkpoint.save(model, folder / "model", planner=planner)


def test_several_cameras_and_the_state_are_found_under_lerobots_keys(several: Path, tmp_path: Path) -> None:
    policy = make(several, seed=3)
    assert set(policy.config.input_features) == {
        "observation.images.front", "observation.images.wrist", "observation.state",
    }  # fmt: skip
    views = [two_cameras.look(np.array(place)) for place in ((0.2, 0.6), (0.7, 0.3))]
    seen = {name: np.stack([view[name] for view in views]) for name in ("front", "wrist")}
    batch: Any = {
        f"observation.images.{name}": torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
        for name, frames in seen.items()
    }
    vector = np.array([[0.2, 0.6, 0, 0], [0.7, 0.3, 0, 0]], np.float32)
    batch["observation.state"] = torch.from_numpy(vector)
    goal = {"wrist": two_cameras.look(np.array([0.5, 0.1]))["wrist"]}
    policy.set_goal(goal)
    agent = Agent.from_pretrained(several, device="cpu", seed=3)
    agent.set_goal({"wrist": np.stack([goal["wrist"]] * 2)})
    whole = {**seen, "proprio": vector}
    np.testing.assert_allclose(policy.select_action(batch).numpy(), agent.act(whole))
    fewer = {key: value for key, value in batch.items() if key != "observation.images.front"}  # it has failed
    chunk = policy.predict_action_chunk(fewer)
    np.testing.assert_allclose(chunk.numpy(), agent.plan({"wrist": seen["wrist"], "proprio": vector}).actions)
    goals = torch.from_numpy(vector)
    policy.select_action({**batch, "observation.goal.proprio": goals})  # from now on the vector's
    assert set(policy._goal) == {"proprio"}
    policy.save_pretrained(tmp_path / "saved")
    again = type(policy).from_pretrained(tmp_path / "saved")
    again.set_goal(goal)
    assert again.select_action(batch).shape == (2, 2)
    with pytest.raises(ValueError, match="none of observation.images.front, .*observation.state, only task"):
        policy.select_action({"task": ["", ""]})
    camera = lerobot.PolicyFeature(lerobot.FeatureType.VISUAL, (3, 48, 48))
    with pytest.raises(ValueError, match="say in keys what is called observation.images.top"):
        make(several, input_features={"observation.images.top": camera})
    renamed = make(several, keys={"front": "observation.images.top"})
    assert "observation.images.top" in renamed.config.input_features
