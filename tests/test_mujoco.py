"""The MuJoCo worlds: OpenGL is found, or its lack explained; states without memory; frames alike anywhere."""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from needs import drawn_by_mujoco, extra_worlds
from waiting import PATIENCE

from latent_planner import envs
from latent_planner.envs import WorldError, policies
from latent_planner.envs.mujoco import gl

ROOT = Path(__file__).resolve().parent.parent
WORLDS = ["reacher", "point_maze", "point_maze_medium"]
if extra_worlds.args[0]:
    WORLDS.remove("reacher")


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    changed = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=changed, capture_output=True, text=True, timeout=PATIENCE
    )


def some_actions(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-1, 1, (count, 2)).astype(np.float32)


class TestOpenGL:
    @pytest.fixture(autouse=True)
    def on_a_new_linux(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gl, "_reasons", {})
        monkeypatch.setattr(gl.sys, "platform", "linux")
        monkeypatch.setenv(gl.VARIABLE, "")

    def test_what_the_user_has_set_is_used_without_trying(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(gl.VARIABLE, "osmesa")
        monkeypatch.setattr(gl, "_obstacle", lambda backend: pytest.fail("tried"))
        assert gl.choose() == "osmesa"

    def test_triton_is_loaded_before_mesa(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """torch would load it at the first optimizer, and end the process: both bring LLVM."""
        (tmp_path / "triton.py").write_text("")
        monkeypatch.delitem(sys.modules, "triton", raising=False)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setattr(gl, "_obstacle", lambda backend: None if "triton" in sys.modules else "too early")
        try:
            assert gl.choose() == "egl"
        finally:
            sys.modules.pop("triton", None)

    def test_the_first_that_works_is_told_to_mujoco_and_to_workers(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tried: list[str] = []

        def obstacle(backend: str) -> str | None:
            tried.append(backend)
            return None if backend == "osmesa" else "broken"

        monkeypatch.setattr(gl, "_obstacle", obstacle)
        assert gl.choose() == gl.choose() == os.environ[gl.VARIABLE] == "osmesa"
        assert tried == ["egl", "osmesa"]

    @pytest.mark.parametrize(
        ("system", "tool", "remedy"),
        [
            ("linux", "apt-get", "apt-get install libegl1 libgl1-mesa-dri"),
            ("linux", "dnf", "dnf install mesa-libEGL mesa-dri-drivers"),
            ("linux", "pacman", "Mesa with EGL"),
            ("darwin", "", "a session with a screen"),
            ("win32", "", "graphics card's own driver"),
        ],
    )
    def test_with_none_the_message_says_what_to_install(
        self, monkeypatch: pytest.MonkeyPatch, system: str, tool: str, remedy: str
    ) -> None:
        monkeypatch.setattr(gl, "_LIBRARIES", {name: ("libnothere.so",) for name in gl._LIBRARIES})
        assert gl.choose() is None
        monkeypatch.setattr(gl.sys, "platform", system)
        monkeypatch.setattr(gl.shutil, "which", lambda name: name == tool or None)
        message = gl.missing("no display")
        assert remedy in message and message.count(".") <= message.count(".so") + 1  # one sentence
        assert system != "linux" or "egl: no libnothere.so" in message

    def test_a_broken_one_is_passed_over_and_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gl, "_loads", lambda library: True)
        monkeypatch.setattr(gl, "_PROBE", "import sys; sys.exit('the driver is from another planet')")
        monkeypatch.setenv("DISPLAY", "")
        monkeypatch.setenv("WAYLAND_DISPLAY", "")
        assert gl.choose() is None
        assert "egl: the driver is from another planet" in gl.missing() and "glfw: no display" in gl.missing()

    def test_trying_runs_nothing_from_the_current_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "planted.py").write_text("open('ran', 'w').close()")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(gl, "_loads", lambda library: True)
        monkeypatch.setattr(gl, "_PROBE", "import planted; print('draws', end='')")
        monkeypatch.setattr(gl, "_LIBRARIES", {"egl": gl._LIBRARIES["egl"]})
        assert gl.choose() is None
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize("setting", ["disable", "glfw"])
    def test_a_command_that_cannot_draw_says_so_in_one_line(self, tmp_path: Path, setting: str) -> None:
        command = (
            "-m",
            "latent_planner.cli",
            "collect",
            "point_maze",
            str(tmp_path / "a.h5"),
            "--episodes",
            "1",
        )
        done = python(*command, MUJOCO_GL=setting, DISPLAY="", WAYLAND_DISPLAY="")
        assert done.returncode == 2 and f"MUJOCO_GL={setting}" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr and "unset MUJOCO_GL" in done.stderr


@pytest.mark.parametrize(
    ("too_new", "what_to_do"),
    [("(4,)", "pip install -e '.[worlds]'"), ("(3, 0)", "its packages are not to be had for this version")],
)
def test_a_world_whose_extra_is_missing_says_what_to_do(too_new: str, what_to_do: str) -> None:
    code = "import sys; sys.modules['dm_control'] = None\nfrom latent_planner.envs import catalogue, make\n"
    code += f"catalogue.TOO_NEW = {{'worlds': {too_new}}}; make('reacher')"
    error = python("-c", code).stderr.splitlines()[-1]
    assert f"reacher needs dm_control, which is not installed: {what_to_do}" in error


_FRAMES = """
import hashlib, sys, threading
import numpy as np, envs
def frames(name, size):
    env = envs.make(name, image_size=size, reference_look=size == 99)
    seen = [env.reset(seed=5)[0]["pixels"]]
    for action in np.random.default_rng(0).uniform(-1, 1, (4, 2)).astype(np.float32):
        seen.append(env.step(action)[0]["pixels"])
    return hashlib.sha256(np.array(seen).tobytes()).hexdigest()
"""
_TWICE = """
drawn = [frames(name, size) for name in sys.argv[1:] for size in (64, 99)]
threads = [threading.Thread(target=frames, args=(sys.argv[1], 64)) for _ in range(3)]
[t.start() for t in threads], [t.join() for t in threads]
crowd = [envs.make(sys.argv[1]) for _ in range(20)]
[env.reset(seed=0) for env in crowd], [env.close() for env in crowd]
print(*drawn)
"""


@drawn_by_mujoco
def test_another_process_draws_the_same_and_ends_quietly() -> None:
    spaces: dict = {}
    exec(_FRAMES, spaces)
    here = [spaces["frames"](name, size) for name in WORLDS for size in (64, 99)]
    there = python("-c", _FRAMES + _TWICE, *WORLDS)
    assert there.stdout.split() == here and there.stderr == ""
    assert len(set(here)) == len(here)


@drawn_by_mujoco
def test_dm_control_in_the_same_process_may_end_first() -> None:
    pytest.importorskip("dm_control")
    code = "import envs; envs.make('point_maze').reset(seed=0)\nfrom dm_control import suite\n"
    code += "suite.load('reacher', 'hard').physics.render(32, 32)"
    done = python("-c", code)
    assert (done.returncode, done.stderr) == (0, "")


@drawn_by_mujoco
def test_gymnasiums_own_come_closer_by_name_and_end_quietly() -> None:
    pytest.importorskip("imageio")
    done = python("-c", _NEARER)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")
    with pytest.raises(WorldError, match="a camera has distance, azimuth, .*not zoom"):
        envs.make("gym:InvertedPendulum-v5?default_camera_config.zoom=2")


@drawn_by_mujoco
def test_gymnasiums_own_look_the_same_whenever_they_are_first_drawn() -> None:
    pytest.importorskip("imageio")
    name = "gym:Swimmer-v5?width=64&height=64&plain=true&default_camera_config.distance=4"
    early, late = envs.make(name, image_size=64), envs.make(name, image_size=64)
    early.reset(seed=0)
    there = {"actions": np.ones((40, 2))}
    seen = [world.reset(seed=5, options=there)[0] for world in (early, late)]
    np.testing.assert_array_equal(seen[0]["state"], seen[1]["state"])
    np.testing.assert_array_equal(seen[0]["pixels"], seen[1]["pixels"])
    early.close(), late.close()


@drawn_by_mujoco
def test_gymnasiums_own_draw_side_by_side_and_let_go_of_their_own_only() -> None:
    pytest.importorskip("imageio")
    name = "gym:InvertedPendulum-v5?width={0}&height={0}"
    alone = envs.make(name.format(64), image_size=64).reset(seed=3)[0]["pixels"]
    gc.collect()  # which closes it
    small = envs.make(name.format(64), image_size=64)
    large, gone = envs.make(name.format(128) + "&plain=true", image_size=64), envs.make(name.format(96))
    ours = envs.make("point_maze", image_size=64)
    before = [world.reset(seed=3)[0]["pixels"] for world in (large, small, ours)]
    np.testing.assert_array_equal(before[1], alone)
    del gone
    gc.collect()
    after = [world.reset(seed=3)[0]["pixels"] for world in (large, small, ours)]
    np.testing.assert_array_equal(before, after)
    small.close(), large.close()


@drawn_by_mujoco
def test_gymnasiums_own_are_drawn_without_shadows_and_mirrors_on_request() -> None:
    pytest.importorskip("imageio")
    name = "gym:Swimmer-v5?width=64&height=64"
    rich, plain = (envs.make(name + more, image_size=64) for more in ("", "&plain=true"))
    seen = [world.reset(seed=0)[0] for world in (rich, plain)]
    np.testing.assert_array_equal(seen[0]["state"], seen[1]["state"])
    mean = [obs["pixels"].mean() for obs in seen]
    assert mean[0] > mean[1] + 5  # the floor no longer mirrors the sky
    rich.close(), plain.close()


_NEARER = """
import envs
name = "gym:InvertedPendulum-v5?width=64&height=64"
closer = name + "&default_camera_config.distance=1.0"
yellow = []  # and nothing is closed
for world in (envs.make(name, image_size=64), envs.make(closer, image_size=64)):
    yellow.append((world.reset(seed=0)[0]["pixels"][..., 0] > 60).sum())  # the cart
print(yellow[1] > 1.5 * yellow[0])
"""


@drawn_by_mujoco
@pytest.mark.parametrize("name", WORLDS)
def test_a_state_in_the_middle_of_an_episode_is_all_there_is(name: str) -> None:
    """What follows is the same bit for bit, when the arm is at its stop or the ball at a wall, too."""
    env, again = envs.make(name), envs.make(name)
    actions = np.repeat(some_actions(20), 4, axis=0)
    seen = [env.reset(seed=1)[0], *(env.step(action)[0] for action in actions)]
    for start in (1, 17, 42, 63):
        again.reset(seed=0)
        again.set_state(seen[start]["state"])
        for step in range(start, len(actions)):
            obs, *_ = again.step(actions[step])
            np.testing.assert_array_equal(obs["state"], seen[step + 1]["state"])
        np.testing.assert_array_equal(obs["pixels"], seen[-1]["pixels"])


@drawn_by_mujoco
def test_others_may_draw_in_between_and_free_what_they_drew_with() -> None:
    """mujoco frees a Renderer's buffers in whatever context is current: it must not be ours."""
    import mujoco

    env = envs.make("point_maze")
    env.reset(seed=0)
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
    others = [mujoco.Renderer(model, 32, 32) for _ in range(4)]
    for other in others:
        other.update_scene(mujoco.MjData(model))
        other.render()
    before = env.render()
    env.step([1.0, 1.0])
    others.clear()
    obs, *_ = env.step([1.0, 1.0])
    assert not np.array_equal(obs["pixels"], before)
    np.testing.assert_array_equal(obs["pixels"], envs.make("point_maze").render_state(obs["state"]))


@drawn_by_mujoco
@extra_worlds
class TestReacher:
    def test_success_is_each_joint_near_whatever_the_speed(self) -> None:
        env, goal = envs.make("reacher", image_size=16), np.array([3.13, 1.0, 0.0, 0.0])
        for offset, reached in (
            ([0.049, -0.049, 5.0, -5.0], True),
            ([0.051, 0.0, 0.0, 0.0], False),
            ([0.0, 0.051, 0.0, 0.0], False),
            ([0.04 - 2 * math.pi, 0.0, 0.0, 0.0], True),  # the shoulder turns freely
            ([0.0, 0.04 - 2 * math.pi, 0.0, 0.0], False),  # the wrist does not
        ):
            assert env.is_success(goal + offset, goal) is reached

    def test_it_moves_as_dm_control_moves_it(self) -> None:
        suite = pytest.importorskip("dm_control.suite")
        theirs = suite.load("reacher", "hard").physics
        ours = envs.make("reacher", image_size=16)
        ours.reset(options={"state": [0.3, -1.0, 0.0, 0.0]})
        with theirs.reset_context():
            theirs.data.qpos[:] = [0.3, -1.0]
        for action in some_actions(60):
            obs, *_ = ours.step(action)
            theirs.set_control(action)
            theirs.step(2)
        assert np.abs(theirs.data.qpos[0] - 0.3) > 0.3
        np.testing.assert_allclose(obs["state"], [*theirs.data.qpos, *theirs.data.qvel], atol=1e-9)

    def test_published_frames_are_dm_controls_without_the_target(self) -> None:
        suite = pytest.importorskip("dm_control.suite")
        theirs = suite.load("reacher", "hard").physics
        state = np.array([0.8, 1.2, 0.0, 0.0])
        theirs.named.model.mat_rgba["target", "a"] = 0.0
        with theirs.reset_context():
            theirs.data.qpos[:] = state[:2]
        drawn = theirs.render(height=224, width=224, camera_id="fixed")
        ours = envs.make("reacher", image_size=224, reference_look=True)
        np.testing.assert_array_equal(ours.render_state(state), drawn)
        theirs.data.qpos[:] = 0.0  # ours in between does not stop theirs from drawing
        theirs.forward()
        np.testing.assert_array_equal(
            theirs.render(height=224, width=224, camera_id="fixed"), ours.render_state(np.zeros(4))
        )

    def test_states_the_arm_cannot_have_are_named(self) -> None:
        env = envs.make("reacher", image_size=16)
        for state, complaint in (([0, 3.2, 0, 0], "beyond its stop"), ([0, 0, 101, 0], "velocity")):
            with pytest.raises(WorldError, match=complaint):
                env.reset(options={"state": state})
        obs, _ = env.reset(options={"state": [3 * math.pi + 0.5, 0, 0, 0]})
        assert obs["state"][0] == pytest.approx(0.5 - math.pi)  # whole turns do not show


@drawn_by_mujoco
class TestPointMaze:
    def test_success_is_half_a_cell(self) -> None:
        env = envs.make("point_maze", image_size=16)
        assert env.is_success([0, 0, 0, 0], [0.3, 0.39, 2, 2])
        assert not env.is_success([0, 0, 0, 0], [0.3, 0.41, 0, 0])

    @pytest.mark.parametrize("name", ["point_maze", "point_maze_medium"])
    def test_walls_hold_and_nothing_is_faster_than_the_damping_allows(self, name: str) -> None:
        env = envs.make(name, image_size=16)
        env.reset(seed=2)
        for action in np.repeat(some_actions(80, 4), 5, axis=0):
            obs, *_ = env.step(np.sign(action))
            env.check_state(obs["state"])  # raises where the ball is in a wall
            assert np.abs(obs["state"][2:]).max() <= 2.5

    def test_a_ball_pressed_to_a_straight_wall_does_not_stumble(self) -> None:
        env = envs.make("point_maze", image_size=16)
        env.reset(options={"state": [-1.2, 1.29, 0, 0]})
        speeds = [env.step([0.6, 1.0])[0]["state"][2] for _ in range(15)]
        assert (np.diff(speeds) > 0).all()

    def test_states_in_walls_are_named(self) -> None:
        env = envs.make("point_maze", image_size=16)
        for state in ([0, 0, 0, 0], [-1.0, 1.4, 0, 0], [9, 9, 0, 0]):
            with pytest.raises(WorldError, match="in a wall or outside the maze"):
                env.reset(options={"state": state})

    def test_the_policy_finds_the_shortest_way(self) -> None:
        policy = policies.make_policy("point_maze")
        assert policy._way((1, 1), (3, 1)) == [  # type: ignore[attr-defined]
            (1, 2), (1, 3), (2, 3), (3, 3), (3, 2), (3, 1),
        ]  # fmt: skip


@drawn_by_mujoco
def test_the_plain_look_is_the_same_at_every_size() -> None:
    for name in WORLDS:
        small, large = (envs.make(name, image_size=size) for size in (64, 128))
        state = large.sample_state(np.random.default_rng(3))
        reduced = large.render_state(state).reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
        assert np.abs(reduced - small.render_state(state)).mean() < 3.0
        assert reduced.std() > 15  # and something can be seen
