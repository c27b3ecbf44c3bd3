"""The example policy for Worlds of stable-worldmodel, in a stand-in of one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latent_planner import Agent, envs
from latent_planner.envs.goals import pairs
from tests.swm_stand_in import World


@pytest.fixture(scope="module")
def example(root: Path) -> Any:
    path = root / "examples" / "stable_worldmodel_policy.py"
    spec = importlib.util.spec_from_file_location("stable_worldmodel_policy", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Recorder:
    """An agent's stand-in that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def reset(self, mask: np.ndarray | None = None) -> None:
        self.told.append(("reset", None if mask is None else mask.tolist()))

    def set_goal(self, pixels: np.ndarray, steps: Any = None, mask: np.ndarray | None = None) -> None:
        self.told.append(("goal", pixels[:, 0, 0, 0].tolist(), None if mask is None else mask.tolist()))

    def act(self, pixels: np.ndarray) -> np.ndarray:
        return np.zeros((len(pixels), 2), np.float32)


def infos(goals: list[int], step: list[int], **more: Any) -> dict[str, Any]:
    goal = np.zeros((len(goals), 1, 8, 8, 3), np.uint8) + np.array(goals, np.uint8).reshape(-1, 1, 1, 1, 1)
    return {"pixels": goal.copy(), "goal": goal, "step_idx": np.array(step)[:, None], **more}


def test_each_episode_begins_anew_and_alone(example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Recorder()
    monkeypatch.setattr(example, "Agent", Recorder)
    policy = example.LatentPlannerPolicy(agent, look=lambda frame: frame)
    policy.set_env(None)
    agent.told.clear()

    assert policy.get_action(infos([1, 2], [0, 0])).shape == (2, 2)
    assert agent.told[-1] == ("goal", [1, 2], None)
    agent.told.clear()
    policy.get_action(infos([1, 2], [1, 1]))
    assert agent.told == []  # goes on
    policy.get_action(infos([1, 3], [2, 2]))
    assert agent.told == [("reset", [False, True]), ("goal", [1, 3], [False, True])]
    agent.told.clear()
    flushed = infos([1, 3], [3, 3], _needs_flush=np.array([True, False]))
    policy.get_action(flushed)
    assert agent.told == [("reset", [True, False]), ("goal", [1, 3], [True, False])]
    agent.told.clear()
    policy.get_action(flushed)  # the World leaves the flag in its dict
    assert agent.told == []
    policy.get_action(infos([1, 3], [0, 4]))  # the same goal once more
    assert agent.told[0] == ("reset", [True, False])


def test_frames_of_another_kind_are_refused_in_a_sentence(example: Any) -> None:
    with pytest.raises(ValueError, match="'goal'"):
        example._frames({}, "goal")
    with pytest.raises(ValueError, match="image_transform"):
        example._frames({"pixels": np.zeros((2, 1, 3, 8, 8), np.float32)}, "pixels")


def test_the_bundled_agent_reaches_goals_in_the_published_look(example: Any) -> None:
    """Most of four, by a short search; what fifty give stands in docs/usage.md."""
    chosen = pairs.load("pusht").first(4)
    agent = Agent.from_pretrained("pusht", device="cpu", num_samples=64, iterations=3)
    world = World("pusht", 2, 224, chosen.budget, chosen.start, chosen.goal)
    world.set_policy(example.LatentPlannerPolicy(agent, steps=chosen.budget))
    assert world.evaluate()["success_rate"] >= 50


def test_only_worlds_with_a_marker_change_a_frame(example: Any) -> None:
    frame = envs.make("two_room", image_size=64).reset(seed=0)[0]["pixels"]
    look = example.look_of(Agent.from_pretrained("two_room", device="cpu"))
    assert look(frame) is frame
