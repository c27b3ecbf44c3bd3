"""Cube: OGBench's arm to the last bit, states that are all there is, a hand that moves the cube."""

from __future__ import annotations

import functools
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from needs import drawn_by_mujoco, extra_worlds
from waiting import PATIENCE

from latent_planner import envs
from latent_planner.envs import WorldError, coverage, policies
from latent_planner.envs.goals import pairs

ROOT = Path(__file__).resolve().parent.parent
pytestmark = [drawn_by_mujoco, extra_worlds]
LEVEL = (1.0, 0.0, 0.0, 0.0)  # the cube's rotation


def some_actions(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 5)).astype(np.float32)


def free_start(env: envs.World) -> np.ndarray:
    return env.resting([0.45, 0.1, 0.25], 0.3, [0.4, -0.1, 0.02, *LEVEL])  # type: ignore[attr-defined]


@functools.cache
def carried(size: int = 32, steps: int = 90) -> tuple[list[dict], np.ndarray, envs.World]:
    """An episode of the policy in which the cube is picked up: observations, actions, world."""
    env, hand = envs.make("cube", image_size=size), policies.make_policy("cube")
    obs, _ = env.reset(seed=1)
    hand.reset(np.random.default_rng(1))
    seen, actions = [obs], []
    for _ in range(steps):
        actions.append(hand.act(seen[-1]))
        seen.append(env.step(actions[-1])[0])
    assert max(obs["state"][6] for obs in seen) > 0.08
    return seen, np.array(actions), env


def test_gymnasium_checks_pass() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of bounds that are infinite
        check_env(envs.make("cube", image_size=24))
        env = gymnasium.make("latent_planner/Cube-v0", image_size=24, render_mode="rgb_array")
        obs, info = env.reset(seed=3)
        np.testing.assert_array_equal(env.render(), obs["pixels"])
        assert env.action_space.shape == (5,) and env.observation_space.contains(obs)
        assert info["goal"].shape == (24, 24, 3) and not info["success"]


def test_a_state_in_the_middle_of_an_episode_is_all_there_is() -> None:
    """Before, during and after the grip, what follows is the same bit for bit, frames included."""
    seen, actions, _ = carried()
    again = envs.make("cube", image_size=32)
    again.reset(seed=0)
    for start in (5, 30, 45, 70):
        again.set_state(seen[start]["state"])
        np.testing.assert_array_equal(again.render(), seen[start]["pixels"])
        for step in range(start, min(start + 12, len(actions))):
            obs, *_ = again.step(actions[step])
            np.testing.assert_array_equal(obs["state"], seen[step + 1]["state"])
            np.testing.assert_array_equal(obs["pixels"], seen[step + 1]["pixels"])


def test_drawing_a_state_leaves_the_simulation_alone() -> None:
    seen, actions, env = carried()
    env.set_state(seen[40]["state"])
    for step in range(40, 50):
        np.testing.assert_array_equal(env.render_state(seen[step - 30]["state"]), seen[step - 30]["pixels"])
        np.testing.assert_array_equal(env.render(), seen[step]["pixels"])
        obs, *_ = env.step(actions[step])
        np.testing.assert_array_equal(obs["state"], seen[step + 1]["state"])


@functools.cache
def ogbench(size: int = 32) -> Any:
    """OGBench's own environment, ready to be simulated and drawn, without its marker of the target."""
    from ogbench.manipspace.envs.cube_env import CubeEnv

    theirs = CubeEnv("single", ob_type="pixels", width=size, height=size)
    theirs._mjcf_model = theirs.build_mjcf_model()
    theirs.compile_model_and_data()
    theirs.model.geom("target_object_0").rgba[3] = 0.0
    return theirs


def test_the_arm_moves_as_ogbench_moves_it() -> None:
    mujoco = pytest.importorskip("mujoco")
    theirs, ours = ogbench(), envs.make("cube", image_size=16)
    state = free_start(ours)
    ours.reset(options={"state": state})
    theirs.data.qpos[:], theirs.data.qvel[:] = np.append(state[11:25], state[4:11]), 0.0
    mujoco.mj_forward(theirs.model, theirs.data)
    for action in some_actions(30) * [1, 1, 0.3, 1, 1]:
        obs, *_ = ours.step(action)
        theirs.set_control(action.astype(np.float32))
        mujoco.mj_step(theirs.model, theirs.data, nstep=25)
        moved = np.append(obs["state"][11:25], obs["state"][4:11])
        np.testing.assert_array_equal(moved, theirs.data.qpos)
    assert np.abs(moved[:6] - state[11:17]).max() > 0.1
    np.testing.assert_array_equal(obs["state"][:3], theirs.data.site("ur5e/robotiq/pinch").xpos)


def test_each_number_of_an_action_does_what_the_docstring_says() -> None:
    env = envs.make("cube", image_size=16)
    for axis in range(5):
        env.reset(options={"state": free_start(env)})
        before = env._state()
        for _ in range(4):
            obs, *_ = env.step(0.8 * np.eye(5)[axis])
        change = (obs["state"] - before)[[0, 1, 2, 3, 17]]  # effector, yaw, driver joint
        change /= [0.05, 0.05, 0.05, 0.3, 0.8]
        assert np.argmax(np.abs(change)) == axis and change[axis] > 0.5


def test_success_is_the_published_rule() -> None:
    env = envs.make("cube", image_size=16)
    goal = free_start(env)
    for offset, reached in (([0.039, 0, 0], True), ([0, 0, 0.041], False), ([0.024, 0.024, 0.024], False)):
        state = goal + 0.3
        state[4:7] = goal[4:7] + offset
        assert env.is_success(state, goal) is reached


def test_the_goal_is_marked_only_on_request() -> None:
    bare, marked = (envs.make("cube", goal_marker=flag) for flag in (False, True))
    (plain, plain_info), (shown, shown_info) = bare.reset(seed=4), marked.reset(seed=4)
    np.testing.assert_array_equal(plain_info["goal"], shown_info["goal"])
    changed = (plain["pixels"] != shown["pixels"]).any(axis=-1)
    green = shown["pixels"].astype(int)[changed]
    assert changed.sum() > 10 and (green[:, 1] >= green[:, 0]).mean() > 0.8


def test_cube_and_fingers_can_be_seen_wherever_they_are() -> None:
    env = envs.make("cube")
    for x, y in ((0.30, -0.30), (0.30, 0.30), (0.55, -0.30), (0.55, 0.30), (0.42, 0.0)):
        far = [0.6 if x < 0.4 else 0.25, -0.8 * y, 0.3]
        pixels = env.render_state(env.resting(far, 0.5, [x, y, 0.02, *LEVEL])).astype(int)  # type: ignore[attr-defined]
        red, green, blue = np.moveaxis(pixels, -1, 0)
        assert ((red > 150) & (green < 100) & (blue < 100)).sum() >= 6
        assert ((red > 120) & (green > 90) & (blue < 80)).sum() >= 3


def test_the_published_look_is_ogbenchs_and_moves_alike() -> None:
    mujoco = pytest.importorskip("mujoco")
    plain, published = (envs.make("cube", image_size=32, reference_look=flag) for flag in (False, True))
    for env in (plain, published):
        env._place(free_start(env))
        env._move(np.full(5, 0.5, np.float32))
    state = plain._state()
    np.testing.assert_array_equal(published._state(), state)
    theirs, pixels = ogbench(), published.render_state(state)
    theirs.data.qpos[:] = np.append(state[11:25], state[4:11])
    mujoco.mj_forward(theirs.model, theirs.data)
    np.testing.assert_array_equal(pixels, theirs.render())
    theirs._renderer.close()
    assert np.abs(pixels.astype(int) - plain.render_state(state)).mean() > 20


def test_worlds_of_several_sizes_do_not_disturb_each_other() -> None:
    large, small = envs.make("cube", image_size=96), envs.make("cube", image_size=24)
    state = free_start(large)
    reduced = large.render_state(state).reshape(24, 4, 24, 4, 3).mean(axis=(1, 3))
    assert np.abs(reduced - small.render_state(state)).mean() < 4.0


def test_bad_states_and_actions_are_named() -> None:
    env = envs.make("cube", image_size=16)
    good = free_start(env)
    turned, away, fast = good.copy(), good.copy(), good.copy()
    turned[7:11] = 0.0
    away[4] = 50.0
    fast[30] = 1e4
    for state, complaint in (
        (good[:-1], "must be 45 numbers"),
        (np.full(45, np.nan), "NaN"),
        (np.full(45, 1e9), "outside this world"),
        (turned, "no unit quaternion"),
        (away, "outside this world"),
        (fast, "velocity"),
    ):
        with pytest.raises(WorldError, match=complaint):
            env.reset(options={"goal_state": state})
    env.reset(seed=0)
    for action, complaint in ((np.zeros(2), r"5 numbers.*shape \(2,\)"), (np.full(5, np.nan), "NaN")):
        with pytest.raises(WorldError, match=complaint):
            env.step(action)


def test_episodes_move_the_cube() -> None:
    states = coverage.rollouts("cube", "cube", episodes=6, length=80, seed=3)
    report = coverage.report("cube", states)
    assert report["share of 25-step windows in which the cube moves more than 4 cm"] > 0.5
    assert report["share of episodes in which it is lifted"] >= 0.75
    assert report["share of episodes that end with it out of reach"] < 0.2
    again = coverage.rollouts("cube", "cube", episodes=1, length=30, seed=3)
    np.testing.assert_array_equal(again, states[:1, :30])


def test_the_fixed_pairs_ask_for_the_cube_to_be_moved() -> None:
    fixed, made = pairs.load("cube"), pairs.draw("cube", 2, pairs.SEED)
    assert fixed.start.shape == fixed.goal.shape == (100, 45) and (fixed.offset, fixed.budget) == (25, 50)
    way = np.linalg.norm(fixed.goal[:, 4:7] - fixed.start[:, 4:7], axis=1)
    assert way.min() > 0.04 and np.median(way) > 0.08
    np.testing.assert_array_equal(fixed.seed[:2], made.seed)
    np.testing.assert_allclose(fixed.start[:2], made.start, atol=1e-6)
    np.testing.assert_allclose(fixed.goal[:2], made.goal, atol=1e-6)
    env = envs.make("cube", image_size=16)
    for state in (*fixed.start, *fixed.goal):
        env.check_state(state)


def test_without_its_packages_it_says_what_to_install() -> None:
    for package in ("ogbench", "dm_control"):
        code = f"import sys; sys.modules['{package}'] = None\nimport envs; envs.make('cube')"
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
        last = done.stderr.splitlines()[-1]
        assert f"cube needs {package}, which is not installed: pip install -e '.[worlds]'" in last
