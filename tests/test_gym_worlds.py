"""Gymnasium's environments as worlds: the same seeds and actions lead to the same places."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from contextlib import suppress
from pathlib import Path

import gym_dots  # noqa: F401  registers the environments of these tests
import gymnasium
import numpy as np
import pytest
import torch
from test_train_cli import TINY

from latent_planner import envs
from latent_planner import goal_image as images
from latent_planner.checkpoints import sb3
from latent_planner.cli import plan, train
from latent_planner.envs import WorldError
from latent_planner.envs.goals import pairs
from latent_planner.envs.gym import names as gym_names
from latent_planner.envs.gym import policies as gym_policies
from latent_planner.envs.gym.world import GymWorld
from latent_planner.envs.recordings.collect import collect
from latent_planner.envs.recordings.episodes import EpisodeReader
from latent_planner.envs.recordings.journal import RecordingError

DOT = "gym:DotBox-v0"
MODULE = (Path(__file__).parent / "gym_dots.py").read_text()


def dot(rest: str = "", size: int = 32):
    return envs.make(DOT + rest, image_size=size)


def failing(capsys: pytest.CaptureFixture[str], program, *words: object) -> str:
    """The one sentence that a program answers with."""
    capsys.readouterr()
    assert program.main([str(word) for word in words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


# Worlds -----------------------------------------------------------------------------------------------------


def test_a_place_is_a_seed_and_actions() -> None:
    world, other = dot(), dot()
    actions = np.random.default_rng(0).uniform(-1, 1, (12, 2)).astype(np.float32)
    obs, _ = world.reset(seed=4)
    for action in actions:
        obs, *_ = world.step(action)
    ahead = np.vstack([actions[5:], np.full((3, 2), np.nan)])  # as pairs pad them
    start, info = other.reset(seed=4, options={"actions": actions[:5], "goal_actions": ahead})
    np.testing.assert_array_equal(info["goal_state"], obs["state"])
    np.testing.assert_array_equal(info["goal"], obs["pixels"])
    assert not info["success"] and not np.array_equal(start["state"], obs["state"])
    for action in actions[5:]:
        start, _, _, _, info = other.step(action)
    assert info["success"] and np.array_equal(start["pixels"], info["goal"])


def test_it_is_a_world_like_the_others() -> None:
    world = dot()
    obs, info = world.reset(seed=0)
    assert world.observation_space.contains(obs) and obs["pixels"].shape == (32, 32, 3)
    assert info["goal"].shape == (32, 32, 3) and world.control_hz == 20
    assert world.action_space.low.tolist() == [-1, -3] and world.action_space.high.tolist() == [2, 1]
    before = obs["state"][:2]
    obs, *_ = world.step([9.0, -9.0])  # cut off at the bounds, one by one
    np.testing.assert_allclose(obs["state"][:2] - before, [0.2, -0.3], atol=1e-6)
    for _ in range(40):  # more than Gymnasium's time limit for it
        *_, ended, _, info = world.step([0.0, 0.0])
    assert not ended
    same = [dot().reset(seed=3)[1]["goal_state"] for _ in range(2)]
    np.testing.assert_array_equal(*same)
    for wrong in ([1.0], [np.nan, 0.0], "left"):
        with pytest.raises(WorldError, match="2 finite numbers between"):
            world.step(wrong)
    with pytest.raises(WorldError, match="cannot be put into a state"):
        world.reset(options={"state": before})


def test_oblong_frames_are_squeezed_and_nothing_is_cut_off() -> None:
    world = dot()
    world.reset(seed=0)
    for _ in range(60):
        obs, *_ = world.step([2.0, 0.0])  # to the right edge
    lit = obs["pixels"][..., 0].max(axis=0) > 100
    assert lit[-3:].any() and not lit[:20].any()


def test_where_the_environment_ends_the_world_stands_still_unless_it_is_to_go_on() -> None:
    for rest, goes_on in (("?wall=6.5", False), ("?wall=6.5&past_end=true", True)):
        world, seen = dot(rest), []
        world.reset(seed=0)
        for _ in range(40):
            obs, _, ended, *_ = world.step([2.0, 0.0])
            seen.append(obs["state"][0])
        assert ended is not goes_on
        assert bool(seen[-1] > 8) is goes_on


def test_success_is_counted_in_deviations_of_the_components_that_count() -> None:
    world, within = dot("?goal=0,1&tolerance=0.5"), dot("?goal=0")
    world.reset(seed=0)
    here = np.array([5.0, 5.0, 0.1, 0.0])
    spread = float(world.rule.split()[-1]) / 0.5  # that of component 1
    assert world.is_success(here + [0, 0.4 * spread, 99, 99], here)
    assert not world.is_success(here + [0, 0.6 * spread, 0, 0], here)
    assert within.is_success(here + [0, 99, 0, 0], here)
    assert "observation_0" in within.rule and "observation_1" not in within.rule


def test_a_world_whose_observation_is_a_picture_has_a_small_one_as_its_state() -> None:
    world = envs.make("gym:DotPicture-v0", image_size=32)
    obs, info = world.reset(seed=0)
    assert obs["state"].shape == (64,) and info["goal_state"].shape == (64,)
    assert len(pairs.draw("gym:DotPicture-v0", 2, 0).start) == 2


def test_gymnasiums_own_are_drawn() -> None:
    world = envs.make("gym:Pendulum-v1", image_size=64)
    obs, info = world.reset(seed=1)
    assert world.action_space.high.tolist() == [2.0] and world.parts.tolist() == [0, 1]
    red = (obs["pixels"][..., 0] > 150) & (obs["pixels"][..., 1] < 120)
    assert 10 < red.sum() < 400  # the rod
    world.close()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("gym:DotText-v0", "takes actions from Text.*alone or in one Tuple or Dict.*register it wrapped"),
        ("gym:DotUnbounded-v0", "without bounds.*docs/worlds/gym.md"),
        ("gym:DotWhole-v0", "whole numbers as actions"),
        ("gym:DotBlind-v0", "draws no frames"),
        ("gym:Dott-v0", "cannot be made.*module=MODULE"),
        ("gym:DotBox-v0?speed=3", "unexpected keyword argument 'speed'"),
        ("gym:DotBox-v0?goal=4", "observations of 4 numbers, counted from 0: none is 4"),
        ("gym:DotBox-v0?goal=x", "goal lists components"),
        ("gym:DotBox-v0?tolerance=0", "a number above 0"),
        ("gym:DotBox-v0?past_end=1", "true or false"),
        ("gym:DotBox-v0?plain=1", "plain is true or false"),
        ("gym:DotBox-v0?plain=true", "not drawn by MuJoCo"),
        ("gym:DotBox-v0?kind='box'", "a number, true or false"),
        ("gym:DotBox-v0?render_mode=1", "cannot be set there"),
        ("gym:DotBox-v0?a=1&a.b=2", "'a.b' cannot be set there"),
        ("gym:DotBox-v0?a.b.c=2", "'a.b.c' cannot be set there"),
        ("gym:DotBox-v0?goal.x=2", "'goal.x' cannot be set there"),
        ("gym:os:system", "names no Gymnasium environment"),
        ("gym:", "names no Gymnasium environment"),
    ],
)
def test_what_cannot_be_a_world_gets_one_sentence(name: str, sentence: str) -> None:
    with pytest.raises(WorldError, match=sentence):
        envs.make(name)


def test_a_name_says_what_was_set() -> None:
    name = gym_names.compose("A/B-v1?x=2", tolerance=0.1, goal=[1, 0], past_end=True, plain=True)
    assert name == "gym:A/B-v1?x=2&tolerance=0.1&goal=1,0&past_end=true&plain=true"
    assert gym_names.parse(name) == gym_names.GymName("A/B-v1", 0.1, (0, 1), True, True, {"x": 2})
    assert gym_names.as_recorded(name) == "gym:A/B-v1?x=2&past_end=true&plain=true"
    near = gym_names.parse("gym:A-v1?camera.distance=0.5&x=1&camera.elevation=-90")
    assert near.options == {"camera": {"distance": 0.5, "elevation": -90}, "x": 1}
    assert (
        gym_names.as_recorded("gym:A-v1?goal=1") == "gym:A-v1" and gym_names.as_recorded("pusht") == "pusht"
    )
    assert gym_names.compose("A-v0", tolerance=gym_names.TOLERANCE) == "gym:A-v0"


def test_pairs_lead_where_they_say() -> None:
    found, again = (pairs.draw(DOT, 5, 1) for _ in range(2))
    np.testing.assert_array_equal(found.to_goal, again.to_goal)
    assert found.first(2).to_start.shape[0] == 2 and "standard deviations" in found.rule
    world = dot()
    for i in range(5):
        options = {"actions": found.to_start[i], "goal_actions": found.to_goal[i]}
        np.testing.assert_equal(found.options(i), options)
        obs, info = world.reset(seed=int(found.seed[i]), options=options)
        np.testing.assert_array_equal(obs["state"], found.start[i])
        np.testing.assert_array_equal(info["goal_state"], found.goal[i])
    assert pairs.load(DOT).version == "v1" and len(pairs.load(DOT).start) == 100
    with pytest.raises(WorldError, match="leads elsewhere"):
        pairs.draw("gym:DotChance-v0", 2, 0)
    with pytest.raises(WorldError, match="end after .*past_end=true"):
        pairs.draw(DOT + "?wall=1", 2, 0)


# Policies and recordings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["random", "smooth", "gym_dots:push"])
def test_policies_fill_the_box_and_follow_their_generator(how: str) -> None:
    world = dot()
    low, high = world.action_space.low, world.action_space.high

    def play(seed: int) -> np.ndarray:
        policy = gym_policies.make_gym_policy(how, world)
        policy.reset(np.random.default_rng(seed))
        obs, _ = world.reset(seed=seed)
        actions = []
        for _ in range(200):
            actions.append(policy.act(obs))
            obs, *_ = world.step(actions[-1])
        return np.array(actions)

    actions = play(1)
    assert actions.dtype == np.float32 and (low <= actions).all() and (actions <= high).all()
    np.testing.assert_array_equal(actions, play(1))
    assert (actions.std(0) > 0.2).all() and not np.array_equal(actions, play(2))
    if how == "smooth":  # one action is like the next
        assert np.corrcoef(actions[1:, 0], actions[:-1, 0])[0, 1] > 0.5


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ("clever", "There is no policy 'clever'"),
        ("nowhere:push", "cannot be imported"),
        ("gym_dots:pull", "cannot be imported"),
        ("gym_dots:wrong", "2 finite numbers are needed"),
        ("mlp:nowhere.npz", "holds no policy"),
        ("sb3:some.zip", "is read by train.py"),
    ],
)
def test_a_policy_that_cannot_be_used_gets_one_sentence(how: str, sentence: str, tmp_path) -> None:
    with pytest.raises(WorldError, match=sentence):
        collect(DOT, tmp_path / "a.h5", episodes=1, length=5, workers=1, progress=False, policy=how)


def test_an_episode_is_recorded_up_to_its_end(tmp_path) -> None:
    job = {"episodes": 6, "length": 30, "image_size": 16, "seed": 2, "progress": False, "policy": "random"}
    path = collect(DOT + "?wall=6.0", tmp_path / "a.h5", workers=1, **job)
    reader = EpisodeReader(path)
    assert (
        reader.lengths.min() < 30 and reader.env == DOT + "?wall=6.0" and reader.attrs["policy"] == "random"
    )
    assert reader.action_low.tolist() == [-1, -3] and reader.action_high.tolist() == [2, 1]
    for offset, length in zip(reader.offsets, reader.lengths):
        rows = reader.read("state", offset, offset + length)[:, 0]
        assert (rows[:-1] <= 6.0).all() and (rows[-1] > 6.0) == (length < 30)
        assert np.isnan(reader.read("action", offset + length - 1, offset + length)).all()
    with pytest.raises(RecordingError, match="policy"):  # another recording than the one that is there
        collect(DOT + "?wall=6.0", path, workers=1, **(job | {"policy": "smooth"}))


def test_what_moves_too_far_between_two_frames_of_a_model_is_named(tmp_path) -> None:
    job = {"episodes": 20, "length": 30, "image_size": 16, "workers": 1, "progress": False}
    reader = EpisodeReader(collect(DOT, tmp_path / "a.h5", policy="random", **job))  # speeds are drawn anew
    assert GymWorld.too_quick(DOT, reader, 5) == ["observation_2", "observation_3"]
    assert GymWorld.too_quick(DOT + "?goal=0,1", reader, 5) == []
    assert GymWorld.too_quick(DOT, reader, 29) == [f"observation_{i}" for i in range(4)]
    assert GymWorld.too_quick(DOT, reader, 30) == []  # no two frames to compare


def test_workers_import_the_module_that_the_user_names(tmp_path, monkeypatch) -> None:
    (tmp_path / "own_dots.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    job = {"episodes": 4, "length": 8, "image_size": 16, "progress": False}
    own = {"policy": "own_dots:push", "module": "own_dots"}
    read = [
        EpisodeReader(collect(DOT, tmp_path / f"{n}.h5", workers=n, **job, **own)).read("state", 0, 32)
        for n in (1, 2)
    ]
    np.testing.assert_array_equal(*read)
    with pytest.raises(WorldError, match="The module nowhere cannot be imported"):
        collect(DOT, tmp_path / "c.h5", workers=1, module="nowhere", **job)


# Stable-Baselines3 ------------------------------------------------------------------------------------------


def sb3_file(path: Path, state: dict, words: dict | None = None) -> Path:
    """A file laid out as Stable-Baselines3 saves it."""
    weights = io.BytesIO()
    torch.save(state, weights)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps(words or {}))
        archive.writestr("policy.pth", weights.getvalue())
    return path


def layers(**sizes: tuple[int, int]) -> dict:
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in sizes.items():
        key = name.replace("__", ".")
        state |= {
            f"{key}.weight": torch.randn(shape, generator=generator),
            f"{key}.bias": torch.zeros(shape[0]),
        }
    return state


@pytest.mark.parametrize("kind", ["ppo", "relu ppo", "sac", "td3"])
def test_the_actor_of_stable_baselines3_acts_as_it_does_there(kind: str, tmp_path) -> None:
    squash = {"ppo": torch.tanh}.get(kind, torch.relu)
    if kind.endswith("ppo"):
        state = layers(mlp_extractor__policy_net__0=(8, 4), action_net=(2, 8))
        first, last = "mlp_extractor.policy_net.0", "action_net"
    elif kind == "sac":
        state = layers(actor__latent_pi__0=(8, 4), actor__mu=(2, 8), actor__log_std=(2, 8))
        first, last = "actor.latent_pi.0", "actor.mu"
    else:
        state = layers(actor__mu__0=(8, 4), actor__mu__2=(2, 8), critic__qf0__0=(8, 6))
        first, last = "actor.mu.0", "actor.mu.2"
    words = {"policy_kwargs": {"activation_fn": "<class 'torch.nn.modules.activation.ReLU'>"}}
    path = sb3_file(tmp_path / "a.zip", state, words if kind == "relu ppo" else None)
    world = dot()
    policy = gym_policies.make_gym_policy(f"mlp:{sb3.convert(path, tmp_path)}", world)
    policy.reset(np.random.default_rng(0))
    policy._noise = 0.0
    seen = np.array([0.1, -0.2, 0.3, 0.05], np.float32)
    hidden = squash(state[f"{first}.weight"] @ torch.from_numpy(seen))
    wanted = (state[f"{last}.weight"] @ hidden).numpy()
    low, high = world.action_space.low, world.action_space.high
    if not kind.endswith("ppo"):
        wanted = low + (np.tanh(wanted) + 1) / 2 * (high - low)
    np.testing.assert_allclose(policy.act({"state": seen}), wanted.clip(low, high), rtol=1e-5, atol=1e-6)


def test_nothing_in_a_policy_file_is_executed(tmp_path) -> None:
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps({"policy_class": {":serialized:": "gASVAAAAAAAAAC4="}}))
        archive.writestr("policy.pth", pickle.dumps(Bomb(), protocol=2))
    with pytest.raises(sb3.PolicyFileError, match="no model of Stable-Baselines3 that can be read"):
        sb3.convert(path, tmp_path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize(
    "change",
    [
        lambda state: 5,
        lambda state: {**state, "action_net.bias": None},
        lambda state: {name: value for name, value in state.items() if name != "action_net.bias"},
        lambda state: {**state, "action_net.weight": torch.zeros(8)},
        lambda state: {**state, "action_net.weight": torch.zeros(2, 8).to_sparse()},
        lambda state: {**state, "action_net.weight": torch.zeros(1).expand(10**6, 10**6)},
        lambda state: {**state, "action_net.weight": torch.full((2, 8), torch.nan)},
        lambda state: {**state, "action_net.weight": torch.zeros(2, 9)},
        lambda state: {**state, "action_net.bias": torch.zeros(3)},
        lambda state: {**state, "action_net.weight": torch.zeros(2, 8, device="meta")},
        lambda state: {**state, "action_net.weight": torch.zeros(2, 8, dtype=torch.int64)},
    ],
)
def test_odd_weights_of_a_policy_are_one_sentence(change, tmp_path) -> None:
    state = layers(mlp_extractor__policy_net__0=(8, 4), action_net=(2, 8))
    path = sb3_file(tmp_path / "a.zip", change(state))
    with pytest.raises(sb3.PolicyFileError) as caught:
        sb3.convert(path, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_small_policy_file_asks_for_no_large_memory(tmp_path) -> None:
    inner, outer = io.BytesIO(), tmp_path / "a.zip"
    torch.save({"a": torch.zeros(2_000_000)}, inner)
    twice = io.BytesIO()
    with zipfile.ZipFile(inner) as plain, zipfile.ZipFile(twice, "w", zipfile.ZIP_DEFLATED) as packed:
        for member in plain.namelist():
            packed.writestr(member, plain.read(member))
    for words in ("{}", "[" * 100_000):
        with zipfile.ZipFile(outer, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("data", words)
            archive.writestr("policy.pth", twice.getvalue())
        with pytest.raises(sb3.PolicyFileError, match="can be read"):
            sb3.convert(outer, tmp_path)


def test_a_damaged_network_is_one_sentence(tmp_path) -> None:
    good = {"kinds": np.array(["none"]), "weight_0": np.zeros((2, 4), "f4"), "bias_0": np.zeros(2, "f4")}
    path, world = tmp_path / "a.npz", dot()
    np.savez(path, **good)
    gym_policies.make_gym_policy(f"mlp:{path}", world)
    odd = (
        {"kinds": np.array(["sin"])},
        {"kinds": np.array([], "U4")},
        {"kinds": np.float32(3)},
        {"weight_0": np.zeros(4, "f4")},
        {"weight_0": np.zeros((2, 4), "U3")},
        {"weight_0": np.full((2, 4), np.nan, "f4")},
        {"bias_0": np.zeros((2, 1), "f4")},
        {"bias_0": np.zeros(3, "f4")},
    )
    for change in odd:
        np.savez(path, **{**good, **change})
        with pytest.raises(WorldError, match="holds no policy that can be read"):
            gym_policies.make_gym_policy(f"mlp:{path}", world)
    np.savez(path, **good)
    whole, random = path.read_bytes(), np.random.default_rng(0)
    for _ in range(100):
        data = bytearray(whole)
        data[random.integers(len(data))] ^= 1 << random.integers(8)
        path.write_bytes(data[: random.integers(len(data))] if random.random() < 0.3 else data)
        with suppress(WorldError):
            gym_policies.make_gym_policy(f"mlp:{path}", world)


def test_other_policy_files_get_one_sentence(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(sb3.PolicyFileError, match="there is no file"):
        sb3.read("nowhere.zip")
    with pytest.raises(sb3.PolicyFileError, match="only vectors are read"):
        sb3.read(sb3_file(tmp_path / "a.zip", layers(features_extractor__cnn__0=(2, 2))))
    with pytest.raises(sb3.PolicyFileError, match="no actor"):
        sb3.read(sb3_file(tmp_path / "b.zip", layers(q_net__0=(2, 2))))
    small = sb3_file(tmp_path / "c.zip", layers(mlp_extractor__policy_net__0=(8, 3), action_net=(1, 8)))
    sentence = failing(capsys, train, "env=gym", "env.id=DotBox-v0", f"env.policy=sb3:{small}", "out=run")
    assert "3 observed numbers and 1 actions, and gym:DotBox-v0 has 4 and 2" in sentence


# The command line -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run, with a policy and a module of the user's."""
    folder = tmp_path_factory.mktemp("gym")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        words = ["env=gym", "env.id=DotBox-v0", "module=gym_dots", "env.policy=gym_dots:push", *TINY]
        words += ["env.episodes=8", "env.length=24", "env.goal=[0,1]", "train.steps=6", "out=run"]
        words += ["wandb.mode=disabled", "data.workers=1"]
        assert train.main(words) == 0
    return folder


def test_a_run_tests_itself_and_says_by_which_rule(run: Path) -> None:
    assert sorted(path.name for path in run.iterdir()) == ["data", "run"]
    (recording,) = (run / "data").iterdir()
    assert recording.name == "gym-DotBox-v0-gym_dots-push-64-8x24-seed0.h5"
    tested = json.loads((run / "run" / "benchmark.json").read_text())
    assert tested["pairs"]["env"] == "gym:DotBox-v0?goal=0,1" and set(tested["floors"]) == {"random", "still"}
    assert tested["pairs"]["rule"].startswith("within 0.2 standard deviations of the goal: observation_0 ")
    assert (run / "run" / "planned.mp4").stat().st_size > 1000


def test_a_run_is_warned_of_what_it_can_hardly_learn(run: Path, monkeypatch, caplog, tmp_path) -> None:
    (recording,) = (run / "data").iterdir()
    monkeypatch.chdir(tmp_path)
    words = ["env=gym", "env.id=DotBox-v0", "env.goal=[2,3]", f"data.path={recording}", *TINY]
    assert train.main([*words, "model.context_len=30", "out=out"]) == 2
    assert "observation_2, observation_3 move too far within the 5 steps of a block" in caplog.text


def test_a_run_goes_on_and_imports_only_what_is_said_now(run: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(run)
    settings = (run / "run" / "train.yaml").read_text()
    assert "module: gym_dots" in settings and "policy: gym_dots:push" in settings
    (run / "run" / "train.yaml").write_text(settings.replace(": gym_dots", ": no_such_module"))
    assert train.main(["resume=run", "train.steps=8", "wandb.mode=disabled"]) == 0
    assert "8 steps" in capsys.readouterr().out


def test_plan_goes_to_pictures_of_it(run: Path, monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    name, checkpoint = "gym:DotBox-v0?goal=0,1", run / "run"
    assert plan.main(["--make-goal", "goal.png", "--env", name, "--seed", "3", "--module", "gym_dots"]) == 0
    text = images.read_goal_text("goal.png")
    assert text is not None and (text.env, text.seed, text.steps) == (name, 3, 25)
    assert (
        plan.main(["--goal", "goal.png", "--checkpoint", str(checkpoint), "--budget", "12", "--out", "a"])
        == 0
    )
    result = json.loads(Path("a/result.json").read_text())
    world = envs.make(name, image_size=64)
    obs, _ = world.reset(seed=3)
    np.testing.assert_allclose(result["start_state"], obs["state"])
    assert result["reached"] in (True, False) and result["env"] == name
    images_written = {path.name for path in Path("a").iterdir()}
    assert images_written == {"plan.mp4", "plan.png", "result.json"}
    words = ["--benchmark", "--checkpoint", str(checkpoint), "--pairs", "3", "--out", "b"]
    assert plan.main(words) == 0
    tested = json.loads(Path("b/benchmark.json").read_text())
    before = json.loads((checkpoint / "benchmark.json").read_text())
    assert [e["success"] for e in tested["episodes"]] == [e["success"] for e in before["episodes"]]
    assert "cannot be put into a state" in failing(
        capsys, plan, "--goal", "goal.png", "--checkpoint", checkpoint, "--state", "1,1,0,0"
    )
    assert "shows the world gym:DotBox-v0?goal=0,1, not pusht" in failing(
        capsys, plan, "--goal", "goal.png", "--checkpoint", checkpoint, "--env", "pusht"
    )


def test_explain_draws_what_happened_and_a_screenshot_is_a_goal(run: Path, monkeypatch, tmp_path) -> None:
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "LIBRARY", 800)
    world = dot("?goal=0,1")
    _, info = world.reset(seed=8)
    world.reset(seed=8)
    Image.fromarray(world._env.render()).resize((400, 300)).save("shot.png")  # as the environment draws it
    words = [
        "--goal",
        "shot.png",
        "--checkpoint",
        str(run / "run"),
        "--budget",
        "6",
        "--out",
        "c",
        "--explain",
    ]
    assert plan.main(words) == 0
    assert Path("c/explain.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["env=gym"], "say env.id="),
        (["env=gym", "env.id=Nope-v1"], "cannot be made"),
        (["env=gym", "env.id=DotText-v0"], "register it wrapped so that"),
        (["env=gym", "env.id=DotBox-v0", "module=nowhere"], "The module nowhere cannot be imported"),
        (["env=gym", "env.id=DotBox-v0", "env.tolerance=0"], "a number above 0"),
        (["env=gym:DotBox-v0"], "env=gym env.id=DotBox-v0"),
    ],
)
def test_a_mistake_gets_one_sentence(words, sentence, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in failing(capsys, train, *words)
    assert not list(tmp_path.iterdir())


def test_a_world_whose_package_is_missing_says_what_to_install(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "pygame", None)
    said = failing(capsys, train, "env=gym", "env.id=Pendulum-v1", "out=run", "data.workers=1")
    assert "gym:Pendulum-v1 needs what is not installed: pip install pygame-ce, or pygame" in said
    assert "pip install" in failing(capsys, plan, "--make-goal", "a.png", "--env", "gym:Pendulum-v1")


def test_what_the_page_says_about_actions_works() -> None:
    page = (Path(__file__).parent.parent / "docs" / "worlds" / "gym.md").read_text(encoding="utf-8")
    for source in re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL):
        source = source.replace("MyArm-v0", "DotUnbounded-v0").replace("MyGame-v0", "CartPole-v1")
        exec(compile(source, "gym.md", "exec"), {})
    assert envs.make("gym:MyBoundedArm-v0").action_space.high.tolist() == [2.0, 2.0]
    env = gymnasium.make("MyContinuousGame-v0")
    env.reset(seed=0)
    for action in (-1.0, 0.3, 1.0):
        env.step(np.array([action], np.float32))
