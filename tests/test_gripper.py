"""The example with a gripper: its world, what records it, and its commands, with a model of nothing."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
from test_train_cli import TINY

from latent_planner.cli import train
from latent_planner.common.action_space import ActionSpace
from latent_planner.envs.recordings.episodes import EpisodeReader

EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def gripper(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import gripper

    return gripper


def test_what_it_closes_on_moves_with_it_until_it_opens(gripper) -> None:
    world = gripper.Gripper()
    world.reset(seed=0)
    world.hand, world.block = np.array([0.0, 0.0]), np.array([0.1, 0.1])
    right = np.array([1.0, 0.0])
    assert world.step({"close": 0, "move": right})[0][3:] == pytest.approx([0.1, 0.1])
    shut = world.step({"close": 1, "move": right})[0]
    assert shut == pytest.approx([0.3, 0.0, 1.0, 0.3, 0.0])
    held = world.render()
    opened = world.step({"close": 0, "move": right})[0]
    assert opened == pytest.approx([0.45, 0.0, 0.0, 0.3, 0.0])
    assert (held != world.render()).any()
    world.hand = np.array([-0.9, -0.9])  # too far away to take it, and closing there takes nothing later
    world.step({"close": 1, "move": 0 * right})
    world.hand = world.block.copy()
    assert world.step({"close": 1, "move": right})[0][3:] == pytest.approx([0.3, 0.0])


def test_its_commands_record_train_and_carry(gripper, monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["env=gym", "module=gripper", f"env.id={gripper.ID}", "env.policy=gripper:carry", *TINY]
    words += ["env.goal=[3,4]", "env.episodes=8", "env.length=40", "train.steps=4", "model.frameskip=2"]
    words += ["benchmark.validation_pairs=0", "wandb.mode=disabled", "data.workers=1", "out=run"]
    assert train.main(words) == 0
    reader = EpisodeReader(next(Path("data").glob("*.h5")))
    assert str(reader.action_space) == "Dict(close=Discrete(2), move=Box(2))"
    assert not reader.action_space.odd(reader.read("action", 0, 39)).any()
    states = reader.read("state", 0, reader.num_frames)
    assert 0.1 < states[:, 2].mean() < 0.9 and np.ptp(states[:, 3]) > 0.5  # it closes, and the block moves
    assert isinstance(reader.action_space, ActionSpace)
    monkeypatch.setattr(sys, "argv", ["gripper.py", "run", "--episodes", "2", "--steps", "4"])
    capsys.readouterr()
    runpy.run_path(str(EXAMPLES / "gripper.py"), run_name="__main__")
    assert "closed for" in capsys.readouterr().out
