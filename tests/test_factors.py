"""Factors of variation: the same episodes in another look or physics, on request; nothing else changes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latent_planner import envs
from latent_planner.cli import plan
from latent_planner.envs import WorldError, shifts
from latent_planner.envs.factors import LOOKS
from latent_planner.envs.goals import pairs
from latent_planner.envs.pusht.frames import SmoothFrames
from latent_planner.envs.pusht.shapes import BODIES
from latent_planner.envs.pusht.varied_frames import Look, VariedFrames
from latent_planner.envs.rooms.policy import TwoRoomPolicy

WORLDS = ["pusht", "two_room", "wall"]
EVERY = [(name, factor) for name in WORLDS for factor in envs.make(name, image_size=16).factors]
OTHERWISE = {  # a value for each, as far from the usual one as may be
    "color": (200, 120, 0), "background.color": (200, 220, 255), "agent.size": 1.6, "block.size": 0.7,
    "agent.shape": "diamond", "block.shape": "L", "background.pattern": "checks", "agent.speed": 0.5,
    "drift.x": 1.0, "drift.y": -1.0, "block.friction": 1.0, "block.slide": 0.5, "start.agent_x": 60.0,
    "light.brightness": 0.5, "light.contrast": 0.5, "light.gamma": 2.0, "light.cast": (255, 160, 200),
    "light.vignette": 0.8, "camera.shift_x": 10.0, "camera.shift_y": -10.0, "camera.zoom": 1.3,
    "camera.blur": 3.0, "camera.rotation": 20.0, "camera.perspective_x": 10.0, "camera.perspective_y": -10.0,
    "camera.jpeg": 10.0, "clutter.still": "writing 3", "clutter.moving": "star 2",
    "start.agent_y": 180.0, "start.block_x": 222.0, "start.block_y": 263.0, "start.block_angle": 4.0,
}  # fmt: skip
START = {"pusht": [100, 260, 200, 250, 4.6, 0, 0], "two_room": [50, 100], "wall": [50, 100, 90, 60]}


def value(factor: str) -> Any:
    return OTHERWISE.get(factor, OTHERWISE.get(factor.partition(".")[2]))


def episode(env: envs.World, **options: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States and frames of an episode to the right under these options, and its goal's frame."""
    options = {"state": START[names(env)], "goal_state": START[names(env)], **options}
    obs, info = env.reset(seed=5, options=options)
    seen = [obs, *(env.step(action)[0] for action in [[0.8, 0.2]] * 6 + [[-1, -0.3]] * 2)]
    states, frames = ([one[key] for one in seen] for key in ("state", "pixels"))
    return np.array(states), np.array(frames), info["goal"]


def names(env: envs.World) -> str:
    return {2: "two_room", 4: "wall", 7: "pusht"}[len(env.state_names)]


@pytest.mark.parametrize(("name", "factor"), EVERY)
def test_every_factor_does_what_its_group_says_and_is_gone_with_the_next_reset(name, factor) -> None:
    env = envs.make(name, image_size=64)
    before, after = episode(env), episode(env, factors={factor: value(factor)})
    group = env.factors[factor].group
    shows = not np.array_equal(before[1][0], after[1][0])
    moves = not np.array_equal(before[0], after[0])
    assert shows is (group != "physics")
    assert moves or group in (*LOOKS, "shape", "size")
    if group in LOOKS:
        assert not moves
    assert np.array_equal(before[2], after[2]) is (group in ("start", "physics"))  # a start is no goal's
    for a, b in zip(before, episode(env)):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("image_size", [64, 224])
def test_the_goal_shows_the_same_factors_as_the_episode(name: str, image_size: int) -> None:
    env = envs.make(name, image_size=image_size)
    usual = env.reset(seed=1)[0]["pixels"]
    vary = ["color", "shape", "size", "background"]
    there = {"state": START[name], "goal_state": START[name]}
    obs, info = env.reset(seed=2, options={**there, "vary": vary})
    np.testing.assert_array_equal(obs["pixels"], info["goal"])
    np.testing.assert_array_equal(env.render_state(START[name]), info["goal"])
    assert set(info["factors"]) == {f for f, kind in env.factors.items() if kind.group in vary}
    obs, info = env.reset(seed=1)
    np.testing.assert_array_equal(obs["pixels"], usual)
    assert "factors" not in info


@pytest.mark.parametrize("name", WORLDS)
def test_a_seed_draws_the_factors_and_the_same_states_as_without(name: str) -> None:
    groups = list(dict.fromkeys(factor.group for factor in envs.make(name).factors.values()))
    assert groups == ["color", "shape", "size", "background", *LOOKS[2:], "start", "physics"]
    plain, plain_info = envs.make(name).reset(seed=4)
    for group in groups:
        env = envs.make(name)
        drawn = [env.reset(seed=seed, options={"vary": group}) for seed in (4, 4, 9)]
        np.testing.assert_array_equal(drawn[0][0]["pixels"], drawn[1][0]["pixels"])
        assert drawn[0][1]["factors"] == drawn[1][1]["factors"] != drawn[2][1]["factors"] or group == "shape"
        np.testing.assert_array_equal(drawn[0][1]["goal_state"], plain_info["goal_state"])
        same = np.array_equal(drawn[0][0]["state"], plain["state"])
        assert same is (group != "start")


def test_values_ranges_and_draws_go_together() -> None:
    env = envs.make("pusht")
    asked = {"agent.size": (0.7, 0.8), "block.shape": "I"}
    _, info = env.reset(seed=0, options={"factors": asked, "vary": ["size", "agent.shape"]})
    drawn = info["factors"]
    assert set(drawn) == {"agent.size", "block.size", "agent.shape", "block.shape"}
    assert 0.7 <= drawn["agent.size"] <= 0.8 and drawn["block.shape"] == "I" != drawn["agent.shape"]
    obs, info = env.reset(seed=0, options={"factors": {"agent.color": np.array([1, 2, 3])}})
    json.dumps(info["factors"])  # plain values
    assert info["factors"] == {"agent.color": (1, 2, 3)}


def test_a_shifted_start_moves_the_agent_alone_and_clear_of_everything() -> None:
    from latent_planner.envs.pusht.geometry import gap

    env = envs.make("pusht", image_size=16)
    state = np.array([100, 260, 200, 250, 1.5, 0, 0.0])
    starts = [env.reset(seed=s, options={"state": state, "vary": "start"})[0]["state"] for s in range(40)]
    np.testing.assert_allclose(np.array(starts)[:, 2:5], state[None, 2:5].repeat(40, 0))
    assert gap(np.array(starts)).min() > 4.9 and np.std(starts, axis=0)[:2].min() > 50
    rooms = envs.make("wall", image_size=16)
    options = {"state": START["wall"], "vary": "start"}
    starts = [rooms.reset(seed=s, options=options)[0]["state"] for s in range(40)]
    assert np.abs(np.array(starts)[:, 0] - 90).min() >= 12


def test_a_varied_picture_of_nothing_varied_is_the_usual_one() -> None:
    """Two ways to draw that must not drift apart; they differ where edges of the block's parts meet."""
    env = envs.make("pusht", image_size=96)
    for seed in range(8):
        env.reset(seed=seed)
        env.step([0.5, 0.5])
        simulation, marker = env._simulation, env.sample_state(np.random.default_rng(seed))  # type: ignore[attr-defined]
        usual, varied = (
            frames.draw(simulation, marker).astype(int)
            for frames in (SmoothFrames(96), VariedFrames(96, Look(), BODIES))
        )
        assert np.abs(usual - varied).max() <= 1


def test_a_friction_of_pushes_turns_the_block() -> None:
    """A push that slides along the bar's face drags the block with it when there is friction."""
    env, angles = envs.make("pusht", image_size=16), []
    for friction in (0.0, 1.0):
        start = {"state": [256, 170, 256, 200, 0, 0, 0], "factors": {"block.friction": friction}}
        env.reset(options=start)
        for _ in range(6):
            obs, *_ = env.step([0.6, 0.25])
        angles.append(obs["state"][4])
    assert angles[0] != angles[1]


def test_a_faster_agent_arrives_sooner() -> None:
    for name, speeds in (("two_room", (0.5, 1.0, 1.5)), ("pusht", (0.5, 1.0, 1.5))):
        env = envs.make(name, image_size=16)
        gone = []
        for speed in speeds:
            options = {"state": START[name], "factors": {"agent.speed": speed}}
            before = env.reset(options=options)[0]["state"][:2]
            for _ in range(3):
                obs, *_ = env.step([-0.5, 0.0])
            gone.append(abs(obs["state"][0] - before[0]))
        assert gone[0] < 0.7 * gone[1] and gone[1] < 0.8 * gone[2]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"factors": {"agent.colour": (1, 2, 3)}}, "no factor 'agent.colour'; did you mean 'agent.color'"),
        ({"factors": {"color": (1, 2, 3)}}, "no factor 'color'"),
        ({"factors": ["agent.color"]}, "mapping from names to values, not list"),
        ({"factors": {"agent.color": (1, 2, 300)}}, "agent.color is three whole numbers of 0 to 255, not"),
        ({"factors": {"agent.color": "red"}}, "three whole numbers of 0 to 255, not 'red'"),
        ({"factors": {"agent.size": 9}}, "agent.size is a number from 0.6 to 1.6, not 9"),
        ({"factors": {"agent.size": float("nan")}}, "a number from 0.6 to 1.6"),
        ({"factors": {"agent.size": (1.2, 0.8)}}, "the lower one first"),
        ({"factors": {"agent.size": "big"}}, "or two to draw between, not 'big'"),
        ({"factors": {"agent.size": [[1], [1, 2]]}}, "or two to draw between"),
        ({"factors": {"agent.color": [[1], [1, 2]]}}, "three whole numbers"),
        ({"factors": {"block.shape": "TT"}}, "one of T, L, I, plus"),
        ({"vary": "colors"}, "did you mean 'color'"),
        ({"vary": ["physics", "drift.x"]}, "no factor 'drift.x'"),
        ({"vary": 3}, "a name or a list of names, not 3"),
        ({"factors": {"start.agent_x": 200.0, "start.agent_y": 260.0}}, "things would overlap"),
        ({"colour": 1}, "not 'colour'"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], complaint: str) -> None:
    env = envs.make("pusht", image_size=16)
    with pytest.raises(WorldError, match=complaint):
        env.reset(options={"state": [100, 260, 200, 250, 1.5, 0, 0], **options})
    env.reset(seed=0)


def test_a_policy_copes_with_what_moves_otherwise() -> None:
    env, policy = envs.make("two_room", image_size=16), TwoRoomPolicy()
    obs, _ = env.reset(seed=0, options={"vary": "physics"})
    policy.reset(np.random.default_rng(0))
    for _ in range(100):
        obs, *_ = env.step(policy.act(obs))
        assert env.observation_space.contains(obs)


# the benchmark under a shift


QUICK = ["planner.num_samples=8", "planner.num_elites=2", "planner.iterations=1"]


def test_shifted_pairs_are_the_same_pairs() -> None:
    fixed = pairs.load("pusht").first(4)
    shifted = pairs.shifted(fixed, "color,block.size")
    np.testing.assert_array_equal(fixed.start, shifted.start)
    assert shifted.vary == ("agent.color", "block.color", "block.size") and fixed.vary == ()
    with pytest.raises(WorldError, match="wall has no factor 'colour'; did you mean 'color'"):
        pairs.shifted(pairs.load("wall"), "colour")


def test_the_benchmark_under_a_shift_says_so(tiny_checkpoint, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--benchmark", "--checkpoint", str(tiny_checkpoint), "--pairs", "1", *QUICK]
    assert plan.main([*words, "benchmark.shift=physics", "--out", "out"]) == 0, capsys.readouterr().err
    assert "every episode draws agent.speed, block.friction, block.slide" in capsys.readouterr().out
    told = json.loads(Path("out/benchmark.json").read_text())
    assert told["pairs"]["vary"] == ["agent.speed", "block.friction", "block.slide"]
    assert told["pairs"]["version"] == "v1" and told["pairs"]["offset"] == 25


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["benchmark.shift=colors"], "did you mean 'color'"),
        (["benchmark.shift="], "no factor ''"),
        (["benchmark.shift=color", "benchmark.protocol=lewm", "data.path=a.h5"], "frames are recorded"),
        (["benchmark.shift=unseen.colour"], "did you mean 'unseen.color'"),
        (["benchmark.shown=goal"], "say benchmark.shift=, too"),
        (["benchmark.shift=color", "benchmark.shown=start"], "both, scene or goal, not 'start'"),
        (["benchmark.shfit=color"], "did you mean 'benchmark.shift'"),
        (["benchmark.offset=50.5"], "whole number of env steps"),
        (["benchmark.offset=0"], "whole number of env steps"),
        (["benchmark.budget=many"], "whole number of env steps"),
        (["benchmark.strict=yes"], "true or false"),
        (["benchmark.offset=30"], "pusht-offset100-v1, pusht-offset150-v1, pusht-offset50-v1"),
    ],
)
def test_mistakes_on_the_command_line(
    words, sentence, tiny_checkpoint, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    assert plan.main(["--benchmark", "--checkpoint", str(tiny_checkpoint), *words]) == 2
    err = capsys.readouterr().err
    assert sentence in err and err.startswith("error: ") and len(err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_benchmark_shows_a_shift_in_the_goal_alone(
    tiny_checkpoint, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--benchmark", "--checkpoint", str(tiny_checkpoint), "--pairs", "1", *QUICK]
    words += ["benchmark.shift=photograph", "benchmark.shown=goal", "--out", "out"]
    assert plan.main(words) == 0, capsys.readouterr().err
    assert "every episode draws photograph, shown in the goal alone" in capsys.readouterr().out
    told = json.loads(Path("out/benchmark.json").read_text())["pairs"]
    assert told["vary"] == ["photograph"] and told["shown"] == "goal"
    usual = pairs.load("pusht").first(2)
    assert pairs.shifted(usual, "photograph", "goal").options(1)["shown"] == "goal"


def test_goals_farther_away_have_twice_as_many_steps(tiny_checkpoint, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--benchmark", "--checkpoint", str(tiny_checkpoint), "--pairs", "1", *QUICK]
    for offset, more in ((50, []), (7, ["--pairs-seed", "3"])):
        assert plan.main([*words, f"benchmark.offset={offset}", *more, "--out", str(offset)]) == 0
        told = json.loads(Path(f"{offset}/benchmark.json").read_text())
        assert told["pairs"]["offset"] == offset and told["pairs"]["budget"] == 2 * offset
        assert told["episodes"][0]["steps"] <= 2 * offset
    assert "50 steps apart, 100 to get there" in capsys.readouterr().out


def test_the_benchmark_with_another_budget_and_by_the_strict_rule(
    tiny_checkpoint, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--benchmark", "--checkpoint", str(tiny_checkpoint), "--pairs", "2", "benchmark.offset=75"]
    assert plan.main([*words, *QUICK, "benchmark.budget=9", "benchmark.strict=true", "--out", "."]) == 0
    told = json.loads(Path("benchmark.json").read_text())
    assert told["pairs"]["offset"] == 75 and told["pairs"]["budget"] == 9
    assert [episode["steps"] for episode in told["episodes"]] == [9, 9]
    assert told["strict"]["success"] == told["success"] == 0
    out = capsys.readouterr().out
    assert "75 steps apart, 9 to get there" in out and "held for 5 steps, twice as near: 0%" in out


def test_the_list_and_the_picture_of_all_factors(tmp_path: Path, monkeypatch, capsys) -> None:
    def said(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["shifts", *words])
        shifts.main()
        return capsys.readouterr().out

    listed = said("pusht")
    for factor in envs.make("pusht").factors:
        assert factor in listed
    path = tmp_path / "shifts.png"
    said("wall", "--picture", str(path))
    assert path.stat().st_size > 1000 and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(SystemExit):
        said("pong")
    assert "these have: pusht, two_room, wall" in capsys.readouterr().err
