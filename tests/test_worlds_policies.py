"""Behaviour policies: purposeful, seeded, and covering what a world model should learn."""

from __future__ import annotations

import subprocess
import sys

import needs
import numpy as np
import pytest

from latent_planner import envs
from latent_planner.envs import WorldError, coverage, policies

MUJOCO = [needs.world(name) for name in ("reacher", "point_maze", "point_maze_medium")]


@pytest.mark.parametrize("name", ["pusht", "two_room", "wall", *MUJOCO])
def test_a_policy_is_its_generator(name: str) -> None:
    a, b = (coverage.rollouts(name, name, episodes=2, length=30, seed=seed) for seed in (1, 1))
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(a[0], a[1])
    assert not np.array_equal(a, coverage.rollouts(name, name, episodes=2, length=30, seed=2))


@pytest.mark.parametrize("name", ["pusht", "two_room", "wall", *MUJOCO, "random"])
def test_actions_fill_the_box(name: str) -> None:
    world = name if name in envs.names() else "pusht"
    env, policy = envs.make(world, image_size=16), policies.make_policy(name)
    actions = []
    for seed in range(6):
        obs, _ = env.reset(seed=seed)
        policy.reset(np.random.default_rng(seed))
        for _ in range(60):
            actions.append(policy.act(obs))
            assert env.action_space.contains(actions[-1])
            obs, *_ = env.step(actions[-1])
    size = np.abs(actions).max(axis=1)
    assert (size > 0.8).mean() > 0.05 and (size < 0.35).mean() > 0.05  # strong and faint ones


def test_pusht_episodes_are_worth_learning_from() -> None:
    states = coverage.rollouts("pusht", "pusht", episodes=30, length=100, seed=3)
    report = coverage.report("pusht", states)
    assert 30 <= report["block displacement over 25 steps, px"]["50%"] <= 90
    assert 0.3 <= report["block rotation over 25 steps, rad"]["50%"] <= 0.6
    assert 0.35 <= report["share of frames in contact"] <= 0.6
    assert report["share of the board's 64 cells visited by the block"] > 0.6
    assert report["share of the board's 64 cells visited by the agent"] > 0.85
    assert report["share of the rarest and commonest sixteenth of the angle"][0] > 0.02
    assert np.abs(states[..., :4] - 256).max() < 270  # nothing leaves the board
    turns = (np.diff(states[..., 4], axis=1) + np.pi) % (2 * np.pi) - np.pi
    shaken = (
        (turns[:, 1:] * turns[:, :-1] < 0) & (np.abs(turns[:, 1:]) > 0.03) & (np.abs(turns[:, :-1]) > 0.03)
    )
    assert shaken.mean() < 0.01  # a block that chatters against a wall teaches nothing


@pytest.mark.parametrize("name", ["two_room", "wall"])
def test_room_episodes_go_through_the_door(name: str) -> None:
    report = coverage.report(name, coverage.rollouts(name, name, episodes=60, length=100, seed=3))
    assert report["share of episodes crossing the door"] >= 0.6
    assert report["share of frames at an outer wall"] > 0.01
    assert report["share of the rooms' 64 cells visited"] > 0.9
    assert 0.3 < report["share of frames in the left room"] < 0.7


@needs.drawn_by_mujoco
@needs.extra_worlds
def test_reacher_episodes_go_everywhere_and_come_to_rest() -> None:
    states = coverage.rollouts("reacher", "reacher", episodes=40, length=100, seed=3)
    report = coverage.report("reacher", states)
    assert 0.5 < report["shoulder, change over 25 steps"]["50%"] < 1.5
    assert 0.4 < report["wrist, change over 25 steps"]["50%"] < 1.5
    assert report["share of 25-step windows that end within success of their start"] < 0.05
    poses = np.histogram2d(states[..., 0].ravel(), states[..., 1].ravel(), bins=6)[0]
    assert poses.min() > 0  # every direction with every bend
    slow = np.abs(states[..., 2:]).max(axis=-1) < 0.5
    assert 0.1 < slow.mean() < 0.4  # goals to stop at, and goals to pass through


@needs.drawn_by_mujoco
@pytest.mark.parametrize(("name", "cells"), [("point_maze", 7), ("point_maze_medium", 26)])
def test_maze_episodes_travel(name: str, cells: int) -> None:
    from latent_planner.envs.mujoco.point_maze import cell_of

    states = coverage.rollouts(name, name, episodes=40, length=100, seed=3)
    maze = envs.make(name, image_size=16).maze  # type: ignore[attr-defined]
    seen = [{cell_of(maze, place) for place in episode[:, :2]} for episode in states]
    assert len(set().union(*seen)) == cells
    assert np.mean([len(episode) for episode in seen]) >= 5
    report = coverage.report(name, states)
    assert report["share of 25-step windows that end within success of their start"] < 0.2


def test_a_random_hand_does_much_less() -> None:
    report = coverage.report("pusht", coverage.rollouts("pusht", "random", episodes=20, length=100, seed=3))
    assert report["block displacement over 25 steps, px"]["50%"] < 5


def test_the_report_can_be_printed() -> None:
    command = [
        sys.executable,
        "-m",
        "latent_planner.cli",
        "coverage",
        "two_room",
        "--episodes",
        "3",
        "--length",
        "40",
    ]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "share of episodes crossing the door" in printed


def test_an_unknown_policy_is_named() -> None:
    with pytest.raises(
        WorldError, match="no policy called 'clever'; the policies are pusht, two_room, .*random"
    ):
        policies.make_policy("clever")
