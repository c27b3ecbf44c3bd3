"""The bundled checkpoints are whole, small, and do what they are there for."""

from __future__ import annotations

from pathlib import Path

import needs
import numpy as np
import pytest

from latent_planner import Agent, envs
from latent_planner.checkpoints import checkpoint
from latent_planner.envs.goals import pairs
from latent_planner.goal_image import read_goal_text

NAMES = checkpoint.bundled()
WORLDS = [needs.world(name) for name in NAMES]


def test_the_worlds_that_have_one() -> None:
    assert set(NAMES) == {"pusht", "two_room", "reacher", "point_maze"}


@pytest.mark.parametrize("name", NAMES)
def test_it_is_small_and_of_its_world(name: str) -> None:
    folder = checkpoint.find(name)
    assert sum(path.stat().st_size for path in Path(folder).iterdir()) < 12e6
    world_model, info = checkpoint.load(name)
    assert world_model.config.env == name and info["training"]["step"] > 0


@pytest.mark.parametrize("name", WORLDS)
def test_it_reaches_most_of_the_first_benchmark_goals(name: str) -> None:
    """The whole benchmark stands in docs/results.md; here, a few of its goals."""
    from latent_planner.evaluation import benchmark

    agent = Agent.from_pretrained(name, device="cpu")
    size = agent.config.image_size
    result = benchmark.run(
        agent, lambda: envs.make(name, image_size=size), pairs.load(name).first(8), progress=False, quick=True
    )
    assert result["success"] >= 0.5


def test_the_bundled_goal_picture_can_be_judged() -> None:
    goal = Path(checkpoint.find("pusht")) / "goal.png"
    text = read_goal_text(goal)
    assert text is not None and text.env == "pusht"
    assert np.isfinite(text.state).all()
