"""Environments of other people: mistakes are one sentence, and costs are known beforehand."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import gym_others  # registers the environments of these tests
import numpy as np
import pytest
from waiting import PATIENCE

from latent_planner import envs
from latent_planner.envs import WorldError, coverage
from latent_planner.envs.goals import pairs
from latent_planner.envs.gym import components, first_frames, making, names
from latent_planner.envs.gym import world as gym_world
from latent_planner.envs.mujoco import gl
from latent_planner.envs.recordings import collect as collecting
from latent_planner.envs.recordings.collect import collect
from latent_planner.envs.recordings.episodes import EpisodeReader
from latent_planner.envs.recordings.journal import RecordingError

HERE = Path(__file__).parent
SMALL = {"episodes": 2, "length": 20, "image_size": 16, "workers": 1, "progress": False}


# Names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["reach-v3", "sparse", "PickPlace", "v1.2", "a_b", "None", "x" * 64])
def test_a_name_takes_plain_text(value: str) -> None:
    assert names.parse(f"gym:A/B-v1?task={value}&in.ner={value}").options == {
        "task": value,
        "in": {"ner": value},
    }


@pytest.mark.parametrize(
    "value",
    ["os:system", "os.system", "../x", "/etc/passwd", "a/b", "a\\b", "~x", "'x'", '"x"', "x" * 65, "", "a b"]
    + ["null", "[1]", "{}", "NaN", "Infinity", "1e999", "-1e7", "9" * 400, "a=b", "${x}", "%2e", "a\n", "é"],
)
def test_a_name_takes_no_module_path_or_odd_value(value: str) -> None:
    with pytest.raises(WorldError, match="is a number, true or false, or plain text|lies between") as caught:
        names.parse(f"gym:A-v1?task={value}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "option",
    [
        "frame_skip=100000000",
        "frame_skip=0",
        "n_substeps=1e5",
        "action_repeat=5000",
        "width=30000",
        "height=-1",
    ]
    + ["camera.width=5000", "screen_size=1e5", "control_freq=1e6", "vehicles_count=1e6", "gain=1e7"],
)
def test_what_would_take_for_ever_is_refused_before_anything_is_made(option: str) -> None:
    with pytest.raises(WorldError, match="lies between"):
        envs.make(f"gym:DotBox-v0?{option}")


def test_a_name_is_not_endless() -> None:
    for rest in ("&".join(f"a{i}=1" for i in range(40)), "a=1&" + "b" * 500):
        with pytest.raises(WorldError, match="is too long"):
            names.parse(f"gym:A-v1?{rest}")
    with pytest.raises(WorldError, match="a number above 0"):
        names.parse("gym:A-v1?tolerance=wide")


def test_a_text_option_reaches_the_environment() -> None:
    assert envs.make("gym:DotBox-v0?kind=picture", image_size=16).has_thumb


# What goes wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("make", "cannot be made: RuntimeError: the robot fell off the table "),
        ("reset", "fails when it is reset: RuntimeError: the robot fell off the table "),
        ("step", "fails in a step: RuntimeError: the robot fell off the table "),
        ("render", "fails when it draws: RuntimeError: the robot fell off the table "),
        ("assert", "fails in a step: AssertionError: assert self.count == 0 "),
        ("lacks", "needs what is not installed: Box2D is not installed, run `pip install box2d`"),
        ("memory", "asks for more memory than there is"),
    ],
)
def test_an_environment_that_fails_says_so_before_anything_starts(where, said, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(collecting, "_Workers", lambda *_: pytest.fail("a worker was started"))
    with pytest.raises(WorldError) as caught:
        collect(f"gym:Breaks-v0?where={where}", tmp_path / "a.h5", **(SMALL | {"workers": 2}))
    sentence = str(caught.value)
    assert sentence.startswith("gym:Breaks-v0?where=") and said in sentence and "\n" not in sentence
    assert "goes on from here" not in sentence and not list(tmp_path.iterdir())
    assert where in ("lacks", "memory") or "(gym_others.py, line " in sentence


@pytest.mark.parametrize("workers", [1, 2])
def test_what_fails_later_is_said_alike_and_keeps_what_is_complete(workers, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(HERE)
    job = SMALL | {"workers": workers, "length": 70, "module": "gym_others"}
    with pytest.raises((RecordingError, WorldError)) as caught:
        collect("gym:Breaks-v0?where=late", tmp_path / "a.h5", **job)
    assert str(caught.value).startswith(
        "gym:Breaks-v0?where=late fails in a step: RuntimeError: the robot fell"
    )
    assert "goes on from here" not in str(caught.value)


def test_the_same_command_goes_on_only_after_a_process_was_lost(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(collecting, "request", lambda job: b"")
    monkeypatch.setattr(collecting.sys, "executable", "/bin/false")
    if os.path.exists("/bin/false"):
        with pytest.raises(RecordingError, match="the same command goes on from here"):
            collect("two_room", tmp_path / "a.h5", **(SMALL | {"workers": 2}))


@pytest.mark.parametrize("kind", ["Float", "Double", "Wide"])
def test_bounds_that_stand_for_none_are_none(kind: str) -> None:
    with pytest.raises(WorldError, match="takes actions without bounds .*docs/worlds/gym.md"):
        envs.make(f"gym:{kind}Bounds-v0")


def test_a_module_that_fails_gets_one_sentence(tmp_path, monkeypatch) -> None:
    (tmp_path / "broken_arms.py").write_text("import os\nraise RuntimeError('no arm is plugged in')\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        WorldError, match="broken_arms fails when it is imported: .*no arm.*broken_arms.py, line 2"
    ):
        making.bring("broken_arms")


# Frames and what they cost ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "how"), [("Dark", "are all black"), ("Frozen", "never change")])
def test_frames_that_show_nothing_are_refused(kind, how, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    with pytest.raises(WorldError, match=f"draws frames that {how} .*SDL_VIDEODRIVER=offscreen"):
        collect(f"gym:{kind}-v0", tmp_path / "a.h5", **SMALL)
    assert not list(tmp_path.iterdir())
    if kind == "Dark":
        with pytest.raises(WorldError, match="a goal picture of one colour"):
            envs.make("gym:Dark-v0", image_size=16).reset(seed=0)
        monkeypatch.setenv("SDL_VIDEODRIVER", "offscreen")
        assert EpisodeReader(collect("gym:Dark-v0", tmp_path / "a.h5", **SMALL)).num_frames == 40


def test_what_moves_late_is_waited_for(tmp_path) -> None:
    path = collect("gym:Late-v0", tmp_path / "a.h5", **(SMALL | {"length": 60}))
    assert EpisodeReader(path).num_frames == 120


def test_what_a_slow_world_will_cost_is_told_at_the_start(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(collecting, "_record", lambda *_: None)  # what would take minutes
    monkeypatch.setattr(collecting.EpisodeWriter, "close", lambda *_, **__: None)
    job = {"episodes": 300, "length": 100, "image_size": 16, "workers": 1}
    collect("gym:Slow-v0", tmp_path / "a.h5", **job)
    said = capsys.readouterr().err
    assert "30,000 frames at " in said and " minutes on one core; " in said and "env.episodes=" in said
    collect("gym:Slow-v0", tmp_path / "b.h5", **(job | {"episodes": 3}))
    assert "frames at" not in capsys.readouterr().err


def test_plain_is_named_where_it_helps() -> None:
    class Arm(gym_others.Slow):
        class model:
            mat_reflectance = 0

    class Bare:
        env, says = Arm(), names.parse("gym:Arm-v0")

    assert "; env.plain=true or fewer" in (first_frames.cost(Bare, 0.219, 30_000, 2) or "")
    Bare.says = names.parse("gym:Arm-v0?plain=true")
    said = first_frames.cost(Bare, 0.219, 30_000, 2) or ""
    assert said.startswith("30,000 frames at 219 ms each are about 55 minutes on 2 cores; smaller frames")
    assert first_frames.cost(Bare, 0.001, 30_000, 2) is None


def test_collecting_measures_no_ranges_and_looks_for_no_goals(tmp_path, monkeypatch) -> None:
    def measured(world: object) -> None:
        pytest.fail("ranges were measured")

    monkeypatch.setattr(gym_world, "ranges", measured)
    monkeypatch.setattr(gym_world, "own_way", measured)
    for name in ("gym:DotBox-v0", "gym:Goals-v0"):
        collect(name, tmp_path / f"{name[4:]}.h5", **SMALL)
    world = envs.make("gym:DotBox-v0", image_size=16)
    obs, info = world.reset(seed=0, options={"goal": None})
    assert info == {} and world.step(world.action_space.low)[1:] == (0.0, False, False, {})
    monkeypatch.undo()
    again, _ = world.reset(seed=0, options={"goal_state": np.zeros(4)})
    np.testing.assert_array_equal(obs["pixels"], again["pixels"])


# Goals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reports", ["is_success", "success"])
@pytest.mark.parametrize("rule", ["method", "sparse"])
def test_a_goal_env_is_judged_by_its_own_rule(reports: str, rule: str) -> None:
    world = envs.make(f"gym:Goals-v0?reports={reports}&rule={rule}", image_size=16)
    assert world.state_names == (
        *(f"achieved_goal_{i}" for i in range(2)),
        *(f"observation_{i}" for i in range(4)),
    )
    assert world.rule == "the environment's own, for the goal's achieved_goal_0, achieved_goal_1"
    _, info = world.reset(seed=1)
    goal = info["goal_state"]
    assert world.is_success(goal + [0.3, 0.3, 9, 9, 9, 9], goal)
    assert not world.is_success(goal + [0.4, 0.4, 0, 0, 0, 0], goal)
    there = world.reset(seed=1, options={"goal_actions": [[0.0, 0.0]]})[1]
    assert there["success"] and len(pairs.draw(world.name, 2, 0).start) == 2


@pytest.mark.parametrize("options", ["reports=nothing", "rule=dense", "rule=other", "tolerance=0.3"])
def test_a_goal_env_whose_rule_cannot_be_asked_is_judged_by_what_is_achieved(options: str) -> None:
    world = envs.make(f"gym:Goals-v0?{options}", image_size=16)
    assert world.parts.tolist() == [0, 1] and "standard deviations" in world.rule
    assert "achieved_goal_1" in world.rule and "observation" not in world.rule
    goal = world.reset(seed=1)[1]["goal_state"]
    assert world.is_success(goal + [0, 0, 9, 9, 9, 9], goal) and not world.is_success(goal + 3, goal)


def test_named_components_count_instead(capsys) -> None:
    world = envs.make("gym:Goals-v0?goal=2", image_size=16)
    assert "observation_0 " in world.rule and "achieved" not in world.rule
    assert coverage.main(["gym:Goals-v0?goal=2"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8 and lines[3].split()[:3] == ["*", "2", "observation_0"] and " to " in lines[3]
    assert lines[1].split()[:2] == ["0", "achieved_goal_0"] and lines[-1] == f"success: {world.rule}"
    assert coverage.main(["gym:Nope-v0"]) == 2


def test_a_sensor_that_drops_out_leaves_ranges() -> None:
    world = envs.make("gym:DotBox-v0", image_size=16)
    states = [np.array([0.0, 1, np.nan, 3]), np.array([2.0, 1, 4, np.inf])]
    world.state = lambda: states[len(asked) % 2]  # type: ignore[method-assign]
    asked: list[int] = []
    world.play = lambda action: asked.append(1)  # type: ignore[method-assign]
    found = components.measured(world)
    assert np.isfinite(found.deviation).all() and found.high.tolist() == [2, 1, 4, 3]


# OpenGL -----------------------------------------------------------------------------------------------------


def test_opengl_is_found_before_anything_of_others_is_imported(monkeypatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(gl, "choose", lambda: asked.append(1))
    making.bring("gym_dots")
    envs.make("gym:DotBox-v0", image_size=16)
    assert len(asked) == 2
    envs.make("gym:MountainCarContinuous-v0", image_size=16)
    assert len(asked) == 2  # Gymnasium's own draw without


def test_an_opengl_that_fails_is_named(monkeypatch) -> None:
    monkeypatch.setenv(gl.VARIABLE, "osmesa")
    monkeypatch.setattr(gl, "_loads", lambda library: False)
    monkeypatch.setattr(gl.sys, "platform", "linux")
    with pytest.raises(WorldError, match="MUJOCO_GL=osmesa cannot draw here .no libOSMesa.so.8.: unset"):
        envs.make("gym:Breaks-v0?where=opengl", image_size=16).reset(seed=0)


@pytest.mark.parametrize("setting", ["nonsense", "osmesa"])
@pytest.mark.parametrize("world", ["point_maze", "gym:Swimmer-v5"])
def test_a_wrong_setting_is_one_sentence(setting: str, world: str, tmp_path: Path) -> None:
    if setting == "osmesa" and gl._loads("libOSMesa.so.8"):
        pytest.skip("OSMesa is installed here")
    if not sys.platform.startswith("linux"):
        pytest.skip("MUJOCO_GL is read on Linux")
    command = [sys.executable, "-m", "latent_planner.cli", "collect", world, str(tmp_path / "a.h5")]
    changed = {**os.environ, gl.VARIABLE: setting}
    done = subprocess.run(command, env=changed, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert f"MUJOCO_GL={setting} cannot draw here" in last and "unset MUJOCO_GL" in last and "install" in last


def test_capitals_are_understood(monkeypatch) -> None:
    monkeypatch.setenv(gl.VARIABLE, " EGL ")
    assert gl.choose() == os.environ[gl.VARIABLE] == "egl"
