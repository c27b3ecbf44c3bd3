"""Start/goal pairs: fixed, unsolved, made of episodes that nobody trains on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import needs
import numpy as np
import pytest

from latent_planner import envs
from latent_planner.envs import WorldError
from latent_planner.envs.goals import pairs
from latent_planner.envs.recordings import collect_worker

LONG = ("pusht", "two_room", "wall", "point_maze", "point_maze_medium")  # worlds with far goals, too
MUJOCO = ("reacher", "point_maze", "point_maze_medium")


def lists(*names: str, offset: int) -> list[Any]:
    """Parameters (name, offset), of the worlds that can be drawn here."""
    return [needs.world(name, offset) for name in names]


ORDINARY = lists("pusht", "two_room", "wall", *MUJOCO, offset=25)


FAR = [param for offset in (50, 100, 150) for param in lists(*LONG, offset=offset)]
OTHERS = [needs.world("pusht", 75), needs.world("reacher", 100)]


@pytest.mark.parametrize(("name", "offset"), [*ORDINARY, *FAR, *OTHERS])
def test_the_fixed_list(name: str, offset: int) -> None:
    fixed, env = pairs.load(name, offset=offset), envs.make(name, image_size=16)
    assert (fixed.name, fixed.version, fixed.offset, fixed.budget) == (name, "v1", offset, 2 * offset)
    assert (
        fixed.start.shape == fixed.goal.shape == (100, len(env.state_names))
        and fixed.start.dtype == np.float64
    )
    assert len(set(fixed.seed.tolist())) == 100
    for start, goal, seed in zip(fixed.start, fixed.goal, fixed.seed):
        obs, info = env.reset(seed=int(seed), options={"state": start, "goal_state": goal})
        assert not info["success"]
        np.testing.assert_allclose(obs["state"], start, atol=1e-9)


@pytest.mark.parametrize(("name", "offset"), [*ORDINARY, ("pusht", 100)])
def test_the_fixed_list_can_be_made_again(name: str, offset: int) -> None:
    fixed, made = pairs.load(name, offset=offset).first(6), pairs.draw(name, 6, pairs.SEED, offset)
    np.testing.assert_array_equal(fixed.seed, made.seed)
    np.testing.assert_allclose(fixed.start, made.start, atol=1e-6)
    np.testing.assert_allclose(fixed.goal, made.goal, atol=1e-6)


def test_a_pair_says_how_its_episode_begins() -> None:
    fixed = pairs.load("two_room")
    assert set(fixed.options(3)) == {"state", "goal_state"} and fixed.first_frames(3) is None
    shifted = pairs.shifted(fixed, "agent.color")
    assert shifted.options(3)["vary"] == ["agent.color"]
    world = envs.make("two_room", image_size=16)
    for asked in (fixed, shifted):
        obs, info = world.reset(seed=int(asked.seed[3]), options=asked.options(3))
        np.testing.assert_array_equal(obs["state"], fixed.start[3])
        np.testing.assert_array_equal(info["goal_state"], fixed.goal[3])


def test_most_pairs_need_the_block_to_move_or_the_door_to_be_passed() -> None:
    asked = pairs.demands(pairs.load("pusht"))
    assert asked["share where the block must move 20 px or turn pi/9"] > 0.7
    for name in ("two_room", "wall"):
        assert pairs.demands(pairs.load(name))["share where the goal is in the other room"] > 0.3
    walls = pairs.load("wall")
    np.testing.assert_array_equal(walls.start[:, 2:], walls.goal[:, 2:])
    assert len(np.unique(walls.start[:, 2:], axis=0)) > 90


def test_other_seeds_and_recordings_have_other_episodes() -> None:
    a, b = pairs.draw("two_room", 5, 0), pairs.draw("two_room", 5, 1)
    assert not np.array_equal(a.start, b.start) and not set(a.seed) & set(b.seed)
    assert pairs.BRANCH != collect_worker.BRANCH
    np.testing.assert_array_equal(pairs.draw("two_room", 8, 0).first(5).goal, a.goal)


def test_a_list_is_written_to_the_last_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = replace(pairs.draw("pusht", 4, 7), version="v9")
    path = pairs.save(made, tmp_path)
    assert path.name == "pusht-v9.json" and json.loads(path.read_text())["world"] == "pusht"
    assert [kept.name for kept in tmp_path.iterdir()] == [path.name]
    monkeypatch.setattr(pairs, "_DATA", tmp_path)
    again = pairs.load("pusht", "v9")
    np.testing.assert_array_equal(again.start, made.start)
    np.testing.assert_array_equal(again.goal, made.goal)
    np.testing.assert_array_equal(again.seed, made.seed)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(WorldError, match="damaged"):
        pairs.load("pusht", "v9")


def test_mistakes_are_named() -> None:
    with pytest.raises(WorldError, match="no start/goal pairs pusht-v0; there are .*pusht-v1.*two_room-"):
        pairs.load("pusht", "v0")
    with pytest.raises(WorldError, match="no world called 'pong'"):
        pairs.draw("pong", 1, 0)
    for count, seed, offset in ((0, 0, 25), (1, -1, 25), (1, 0, 0)):
        with pytest.raises(WorldError, match="Count and offset"):
            pairs.draw("pusht", count, seed, offset)
