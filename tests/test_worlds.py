"""What both worlds promise as Gymnasium environments: resets, states, goals, success, markers, errors."""

from __future__ import annotations

import functools
import math
import warnings

import gymnasium
import needs
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from latent_planner import envs
from latent_planner.envs import WorldError, catalogue, coverage

WORLDS = [
    "pusht",
    "two_room",
    "wall",
    needs.world("reacher"),
    needs.world("point_maze"),
]


def play(env: gymnasium.Env, actions: np.ndarray, **reset) -> tuple[np.ndarray, np.ndarray]:
    """States and frames of an episode under `actions`."""
    observations = [env.reset(**reset)[0], *(env.step(action)[0] for action in actions)]
    return (np.array([seen[key] for seen in observations]) for key in ("state", "pixels"))  # type: ignore[return-value]


def some_actions(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 2)).astype(np.float32)


@functools.cache
def policy_states(name: str, count: int = 40) -> np.ndarray:
    return coverage.rollouts(name, name, episodes=1, length=count, seed=5)[0]


def test_the_names_are_the_worlds() -> None:
    assert envs.names()[:3] == ["pusht", "two_room", "wall"]
    with pytest.raises(
        WorldError, match="no world called 'push'; the worlds are pusht, two_room.*Did you mean 'pusht'"
    ):
        envs.make("push")


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("image_size", [64, 224])
def test_gymnasium_checks_pass(name: str, image_size: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of bounds that are infinite: the board has no end for the agent
        check_env(envs.make(name, image_size=image_size))
        env = gymnasium.make(catalogue.entry(name).id, image_size=image_size, render_mode="rgb_array")
        obs, _ = env.reset(seed=1)
        assert obs["pixels"].shape == (image_size, image_size, 3)
        np.testing.assert_array_equal(env.render(), obs["pixels"])
        assert env.observation_space.contains(env.step(env.action_space.sample())[0])


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("image_size", [16, 64, 99, 224])
def test_what_an_observation_and_its_info_hold(name: str, image_size: int) -> None:
    env = envs.make(name, image_size=image_size)
    for obs, info in (env.reset(seed=0), env.step(np.zeros(2, np.float32))[::4]):
        assert obs["pixels"].dtype == np.uint8 and obs["pixels"].shape == (image_size, image_size, 3)
        assert obs["state"].dtype == np.float64 and obs["state"].shape == (len(env.state_names),)
        assert info["goal"].dtype == np.uint8 and info["goal"].shape == obs["pixels"].shape
        assert info["goal_state"].shape == obs["state"].shape and info["success"] is False
    assert set(env.angle_names) <= set(env.state_names) and env.control_hz >= 10


@pytest.mark.parametrize("name", WORLDS)
def test_a_seed_is_an_episode(name: str) -> None:
    actions = some_actions(20)
    first, again, other = (play(envs.make(name), actions, seed=seed) for seed in (3, 3, 4))
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(next(iter(other)), play(envs.make(name), actions, seed=3))


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("image_size", [64, 224])
def test_a_reset_to_a_state_forgets_everything_else(name: str, image_size: int) -> None:
    """The same from a new environment and from one that has been through contacts: bit for bit."""
    used, new = envs.make(name, image_size=image_size), envs.make(name, image_size=image_size)
    used.reset(seed=9)
    for state in policy_states(name, 30):
        used.set_state(state)
        used.step([0.5, -0.5])
    start, actions = policy_states(name)[25], some_actions(30, 1)
    for a, b in zip(*(play(env, actions, seed=2, options={"state": start}) for env in (used, new))):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", WORLDS)
def test_a_state_comes_back_as_it_was_set(name: str) -> None:
    env = envs.make(name)
    env.reset(seed=0)
    before = env.step([0.1, 0.1])[4]["goal_state"].copy()
    for state in policy_states(name):
        env.set_state(state)
        obs, _, _, _, info = env.step(np.zeros(2))
        np.testing.assert_array_equal(info["goal_state"], before)
        obs, _ = env.reset(options={"state": state})
        np.testing.assert_allclose(obs["state"], state, atol=1e-9)
        np.testing.assert_array_equal(env.render_state(state), obs["pixels"])
        env.reset(seed=0)


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("image_size", [64, 224])
def test_drawing_a_state_leaves_the_simulation_alone(name: str, image_size: int) -> None:
    actions = some_actions(15)
    states, frames = play(envs.make(name, image_size=image_size), actions, seed=7)
    env = envs.make(name, image_size=image_size)
    obs, _ = env.reset(seed=7)
    for step, action in enumerate(actions):
        env.render_state(policy_states(name)[step])
        np.testing.assert_array_equal(env.render(), frames[step])
        obs, *_ = env.step(action)
        np.testing.assert_array_equal(obs["state"], states[step + 1])


@pytest.mark.parametrize("name", WORLDS)
def test_the_goal_frame_is_the_goal_state_and_being_there_is_success(name: str) -> None:
    env = envs.make(name)
    start, goal = policy_states(name)[[0, -1]]
    obs, info = env.reset(seed=0, options={"state": start, "goal_state": goal})
    np.testing.assert_array_equal(info["goal"], env.render_state(goal))
    np.testing.assert_array_equal(info["goal_state"], goal)
    assert info["success"] is env.is_success(start, goal)
    obs, info = env.reset(options={"state": goal, "goal_state": goal})
    assert info["success"] is True
    np.testing.assert_array_equal(obs["pixels"], info["goal"])
    _, reward, terminated, truncated, _ = env.step(np.zeros(2))
    assert reward == 1.0 and not terminated and not truncated


def test_pusht_success_is_the_published_rule() -> None:
    env, goal = envs.make("pusht"), np.array([100, 100, 200, 200, 0.05, 0, 0.0])
    near = goal + [10, 0, 0, 17, 0, 300, -300]  # 19.7 px together; velocity does not count
    assert env.is_success(near, goal) and not env.is_success(near + [2, 0, 0, 0, 0, 0, 0], goal)
    turned = goal.copy()
    for angle, reached in (
        (0.05 + 0.34, True),
        (0.05 + 0.36, False),
        (2 * np.pi - 0.25, True),
        (np.pi, False),
    ):
        turned[4] = angle
        assert env.is_success(turned, goal) is reached


def test_two_room_success_is_the_published_rule() -> None:
    env = envs.make("two_room")
    assert env.is_success([50, 50], [50, 65.9]) and not env.is_success([50, 50], [50, 66.1])


def _goal_place(name: str, goal: np.ndarray) -> tuple[float, float]:
    """Where in the frame, as shares of its side from the top left, the goal's marker stands."""
    if name == "pusht":
        return goal[2] / 512, goal[3] / 512
    if name in ("two_room", "wall"):
        return goal[0] / 224, goal[1] / 224
    if name == "reacher":  # the fingertip, seen from 0.62 m through a lens of 45 degrees
        x, y = (0.12 * (f(goal[0]) + f(goal[0] + goal[1])) for f in (math.cos, math.sin))
        half = 0.6 * math.tan(math.radians(22.5))
    else:
        (x, y), half = goal[:2], 1.8
    return 0.5 + x / half / 2, 0.5 - y / half / 2


def test_wall_success_is_the_published_rule() -> None:
    env, goal = envs.make("wall"), np.array([50, 50, 100, 60.0])
    assert env.is_success(goal + [0, 15.4, 0, 0], goal) and not env.is_success(goal + [0, 15.6, 0, 0], goal)
    assert not env.is_success(goal + [0, 0, 5, 0], goal)  # the picture shows another wall


def test_every_wall_episode_has_a_layout_and_its_goal_the_same() -> None:
    env = envs.make("wall")
    layouts = set()
    for seed in range(30):
        obs, info = env.reset(seed=seed)
        layouts.add(tuple(obs["state"][2:]))
        np.testing.assert_array_equal(obs["state"][2:], info["goal_state"][2:])
        assert env.observation_space["state"].contains(obs["state"])  # type: ignore[index]
    assert len(layouts) == 30
    given = np.array([40.0, 100, 80, 150])
    _, info = env.reset(seed=1, options={"state": given})
    np.testing.assert_array_equal(info["goal_state"][2:], given[2:])
    obs, _ = env.reset(seed=1, options={"goal_state": given})
    np.testing.assert_array_equal(obs["state"][2:], given[2:])
    with pytest.raises(WorldError, match="the same wall_x and door_y"):
        env.reset(options={"state": given, "goal_state": given + [0, 0, 1, 0]})
    for entry, label in ((2, "wall_x"), (3, "door_y")):
        bad = given.copy()
        bad[entry] = 20.0
        with pytest.raises(WorldError, match=f"goal_state has {label} = 20; it must lie between"):
            env.reset(options={"goal_state": bad})


def test_the_wall_stands_and_the_door_opens_where_the_state_says() -> None:
    env = envs.make("wall")
    for wall, door in ((80.0, 60.0), (140.0, 170.0)):
        for y, passes in ((door, True), (door + 12, True), (door + 25, False), (door - 25, False)):
            env.reset(options={"state": [wall - 40, y, wall, door]})
            for _ in range(16):
                obs, *_ = env.step([1.0, 0.0])
            assert (obs["state"][0] > wall) is np.bool_(passes)
            frame = env.render_state([wall + 40, 110, wall, door])
            dark = frame[round(y / 3.5), round(wall / 3.5)].max() < 100
            assert dark is not np.bool_(passes) or abs(y - door) == 12


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("image_size", [64, 224])
def test_the_goal_is_marked_only_on_request(name: str, image_size: int) -> None:
    bare, marked = (envs.make(name, image_size=image_size, goal_marker=flag) for flag in (False, True))
    (plain, plain_info), (shown, shown_info) = bare.reset(seed=4), marked.reset(seed=4)
    np.testing.assert_array_equal(plain_info["goal"], shown_info["goal"])
    changed = (plain["pixels"] != shown["pixels"]).any(axis=-1)
    green = shown["pixels"].astype(int)[changed]
    assert changed.sum() > 10 and (green[:, 1] >= green[:, 0]).mean() > 0.9
    x, y = np.array(_goal_place(name, shown_info["goal_state"])) * image_size
    rows, columns = np.nonzero(changed)
    near = 3 + 0.04 * image_size
    assert np.hypot(rows - y, columns - x).min() < near  # it stands where the goal is
    np.testing.assert_array_equal(bare.render(), plain["pixels"])


@pytest.mark.parametrize("name", WORLDS)
def test_actions_beyond_the_box_are_cut(name: str) -> None:
    states = [
        next(iter(play(envs.make(name), np.array([action] * 3), seed=1))) for action in ([5, -9], [1, -1])
    ]
    np.testing.assert_array_equal(*states)


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize(
    ("action", "complaint"),
    [
        (np.zeros(3), r"shape \(3,\)"),
        ([np.nan, 0], "NaN"),
        ([np.inf, 0], "infinity"),
        ("left", "not str"),
        (0.5, "shape"),
    ],
)
def test_bad_actions_are_named(name: str, action: object, complaint: str) -> None:
    env = envs.make(name)
    env.reset(seed=0)
    with pytest.raises(WorldError, match=complaint):
        env.step(action)


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("key", ["state", "goal_state"])
def test_bad_states_are_named(name: str, key: str) -> None:
    env = envs.make(name)
    size = len(env.state_names)
    for state, complaint in (
        (np.zeros(size + 1), f"must be {size} numbers"),
        (np.full(size, np.nan), "NaN"),
        ("here", "must be"),
        (np.full(size, 1e9), "off the board|outside th"),
    ):
        with pytest.raises(WorldError, match=complaint) as caught:
            env.reset(options={key: state})
        assert str(caught.value).startswith(key)


def test_other_mistakes_are_named() -> None:
    for size in (15, 1025, 64.0, "64", True):
        with pytest.raises(WorldError, match="image_size"):
            envs.make("pusht", image_size=size)  # type: ignore[arg-type]
    env = envs.make("pusht")
    with pytest.raises(WorldError, match="Call reset"):
        env.step(np.zeros(2))
    with pytest.raises(WorldError, match="not 'goal'"):
        env.reset(options={"goal": np.zeros(7)})
    with pytest.raises(ValueError):  # a user can catch what he knows
        envs.make("pong")


def test_what_drives_pusht_off_the_board_is_shortened_and_nothing_else() -> None:
    env = envs.make("pusht", image_size=16)
    rng = np.random.default_rng(0)
    for seed in range(8):
        state = env.reset(seed=seed)[0]["state"]
        heading = rng.uniform(-1, 1, 2).astype(np.float32)
        inside = (0.1 * heading).astype(np.float32)
        if np.all((state[:2] > 40) & (state[:2] < 470)):
            assert np.array_equal(env.within_limits(inside), inside)
        for _ in range(30):
            wild = np.sign(heading + 1e-9).astype(np.float32)
            state = env.step(env.within_limits(wild))[0]["state"]
        assert (state[:2] > 15).all() and (state[:2] < 496).all()
    assert np.array_equal(envs.make("two_room", image_size=16).within_limits(inside), inside)
