"""The ROS 2 example: what it does, without ROS; and its shell, with a stand-in for rclpy."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import types
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ros_stand_in as ros
from waiting import PATIENCE, until

from latent_planner.deploy.client import ServerError
from latent_planner.deploy.realtime import Command

PACKAGE = Path(__file__).resolve().parent.parent / "examples" / "ros2" / "latent_planner_ros"
MODULE = PACKAGE / "latent_planner_ros"
PICTURE = np.random.default_rng(0).integers(0, 256, (3, 4, 3), np.uint8)


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    ros.install(monkeypatch)
    monkeypatch.syspath_prepend(PACKAGE)
    yield
    for name in [name for name in sys.modules if name.startswith("latent_planner_ros")]:
        del sys.modules[name]


@pytest.fixture
def logic() -> Any:
    return importlib.import_module("latent_planner_ros.logic")


def message(
    pixels: np.ndarray = PICTURE, taken: float = 0.0, encoding: str = "rgb8", padding: int = 0
) -> ros.Image:
    rows = pixels.reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    stamp = ros.Time(int(taken), round(taken % 1 * 1e9))
    height, width = pixels.shape[:2]
    return ros.Image(ros.Header(stamp), height, width, encoding, rows.shape[1], rows.tobytes())


class TestPictures:
    @pytest.mark.parametrize("padding", [0, 5])
    def test_every_encoding_becomes_rgb(self, logic: Any, padding: int) -> None:
        alpha = np.full((3, 4, 1), 9, np.uint8)
        sent = {
            "rgb8": PICTURE,
            "bgr8": PICTURE[..., ::-1],
            "8UC3": PICTURE[..., ::-1],
            "rgba8": np.concatenate([PICTURE, alpha], -1),
            "bgra8": np.concatenate([PICTURE[..., ::-1], alpha], -1),
        }
        for encoding, pixels in sent.items():
            got = logic.picture(message(pixels, encoding=encoding, padding=padding))
            np.testing.assert_array_equal(got, PICTURE, err_msg=encoding)
        grey = logic.picture(message(PICTURE[..., :1], encoding="mono8", padding=padding))
        np.testing.assert_array_equal(grey, PICTURE[..., :1].repeat(3, -1))

    def test_what_cannot_be_read_is_told(self, logic: Any) -> None:
        with pytest.raises(logic.MessageError, match="'32FC1' is not read here; publish one of rgb8"):
            logic.picture(message(encoding="32FC1"))
        cut = message()
        cut.data = cut.data[:-1]
        narrow, empty = message(), message()
        narrow.step, empty.height = 11, 0
        for wrong in (cut, narrow, empty):
            with pytest.raises(logic.MessageError, match="do not make a"):
                logic.picture(wrong)


def test_only_fresh_frames_in_order_pass(logic: Any) -> None:
    gate = logic.FrameGate(max_age=0.3)
    assert gate.passes(taken=10.0, now=10.1)
    assert not gate.passes(10.0, 10.1) and not gate.passes(9.95, 10.1)  # again, and an older one late
    assert not gate.passes(10.1, 10.5)  # too long under way
    assert not gate.passes(11.0, 10.5)  # a clock that is wrong must not lock out those after it
    assert gate.passes(10.4, 10.5)
    assert gate.counts == {"passed": 2, "stale": 1, "out of order": 2, "from the future": 1}
    assert gate.passes(2.0, 2.1)  # time was set back: a recording begins again


class FakeLoop:
    """As a PlannerThread whose plans say `action`."""

    def __init__(self) -> None:
        self.seen: list[tuple[np.ndarray, float]] = []
        self.goals: list[np.ndarray] = []
        self.safe: str | None = None

    def observe(self, pixels: np.ndarray, stamp: float) -> None:
        self.seen.append((pixels, stamp))

    def set_goal(self, pixels: np.ndarray) -> None:
        self.goals.append(pixels)

    def action(self, now: float) -> Command:
        return Command(np.array([0.5, -0.5], np.float32), self.safe, 0.1, 0.1)


def test_commands_follow_plans_and_the_watchdog_stops_them(logic: Any) -> None:
    loop = FakeLoop()
    controller = logic.Controller(loop, max_frame_age=0.3, frame_timeout=0.5, safe_action=[0.0, 0.0])

    def told(now: float) -> tuple[str, list[float]]:
        command = controller.tick(now)
        return command.state, command.action.tolist()

    still = [0.0, 0.0]
    controller.image(message(taken=10.0), 10.05)
    assert told(10.1) == ("waiting for a goal", still)
    controller.goal(message())
    assert told(10.1) == ("following a plan", [0.5, -0.5])
    assert told(10.49)[0] == "following a plan" and told(10.6) == ("no fresh frames", still)
    controller.image(message(taken=10.1), 10.6)  # stale: it never reaches the planner
    assert len(loop.seen) == 1 and told(10.6) == ("no fresh frames", still)
    controller.image(message(taken=10.6), 10.65)
    assert told(10.7)[0] == "following a plan"
    loop.safe = "the planner died"
    assert told(10.7) == ("the planner died", still)
    np.testing.assert_array_equal(loop.goals[0], PICTURE)
    np.testing.assert_array_equal(loop.seen[1][0], PICTURE)


def joints(taken: float, **values: float) -> ros.JointState:
    stamp = ros.Time(int(taken), round(taken % 1 * 1e9))
    return ros.JointState(ros.Header(stamp), list(values), list(values.values()), [0.5] * len(values))


def test_what_several_cameras_show_at_one_moment_goes_together(logic: Any) -> None:
    loop = FakeLoop()
    controller = logic.Controller(loop, proprio=["elbow", "elbow_velocity"], together=0.1)
    controller.joints(joints(9.98, wrist=1.0, elbow=0.25))
    controller.image(message(taken=10.0), 10.05, "front")
    controller.image(message(taken=10.03), 10.05, "wrist")
    controller.image(message(taken=10.2), 10.25, "front")  # the wrist's last frame is of another moment
    assert [set(views) for views, _ in loop.seen] == [
        {"front", "proprio"}, {"front", "wrist", "proprio"}, {"front"},
    ]  # fmt: skip
    views, stamps = loop.seen[1]
    assert views["proprio"].tolist() == [0.25, 0.5]
    assert stamps == pytest.approx({"proprio": 9.98, "front": 10.0, "wrist": 10.03})
    controller.goal(message(), "wrist")
    np.testing.assert_array_equal(loop.goals[0]["wrist"], PICTURE)
    assert controller.tick(10.3).state == "following a plan" and controller.newest == pytest.approx(10.2)
    with pytest.raises(logic.MessageError, match="joint states lack elbow, elbow_velocity: they have wrist"):
        controller.joints(joints(10.3, wrist=1.0))


def test_the_node_asks_for_what_the_model_knows(node_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = ["observation/front", "observation/wrist"]
    told = {"image_keys": keys, "goal_key": "goal/front", "proprio": ["elbow"]}
    monkeypatch.setattr(FakeClient, "metadata", {**FakeClient.metadata, **told})
    node = start(node_module, monkeypatch, output="array")
    wanted = {"image_front", "image_wrist", "goal_front", "goal_wrist", "joint_states"}
    assert set(node.subscriptions_) == wanted
    node.subscriptions_["joint_states"][1](joints(node.time, elbow=0.1))
    node.subscriptions_["image_wrist"][1](message(taken=node.time))
    node.subscriptions_["goal_front"][1](message())
    assert set(node.controller.views) == {"proprio", "wrist"} and node.controller.has_goal
    node.subscriptions_["joint_states"][1](joints(node.time, wrist=0.1))
    assert "joint states lack elbow" in node.logged[-1]
    node.destroy_node()


def test_a_robot_told_positions_is_told_nothing_without_a_plan(logic: Any) -> None:
    controller = logic.Controller(FakeLoop())
    controller.goal(message())
    assert controller.tick(1.0) == logic.Command(None, "waiting for frames")


def test_nothing_in_the_callbacks_knows_torch() -> None:
    for path in MODULE.glob("*.py"):
        found = re.findall(r"^\s*(?:from|import) ([\w.]+)", path.read_text(), re.MULTILINE)
        assert not {name.split(".")[0] for name in found} & {"torch", "planners", "envs"}, path
    names = {node.module for node in ast.walk(ast.parse((MODULE / "logic.py").read_text()))
             if isinstance(node, ast.ImportFrom)}  # fmt: skip
    assert names <= {"__future__", "collections.abc", "dataclasses", "typing"}
    check = (
        "import sys; from latent_planner.deploy import client, realtime; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", check], check=True, timeout=PATIENCE)


class FakeClient:
    """As latent_planner.deploy.client.Client, with a server that always pushes the same way."""

    metadata = {"action_low": [-1.0, -1.0], "control_hz": 10.0}  # noqa: RUF012

    def __init__(self, url: str, api_key: str | None = None) -> None:
        if "nowhere" in url:
            raise ServerError(f"{url} cannot be reached")
        self.goal = None

    def set_goal(self, pixels: np.ndarray, steps: int | None = None) -> None:
        self.goal = pixels

    def replan(self, pixels: np.ndarray, **_: Any) -> Any:
        return types.SimpleNamespace(actions=np.full((25, 2), 0.25, np.float32))


@pytest.fixture
def node_module(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = importlib.import_module("latent_planner_ros.node")
    monkeypatch.setattr(module, "Client", FakeClient)
    return module


def start(node_module: Any, monkeypatch: pytest.MonkeyPatch, **parameters: Any) -> Any:
    monkeypatch.setattr(ros.Node, "given", parameters)
    return node_module.PlannerNode()


def test_the_node_turns_frames_into_trajectories(node_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    node = start(node_module, monkeypatch, joint_names=["shoulder", "elbow"], blend=0.0)
    period, tick = node.timer
    assert period == pytest.approx(0.1)  # the rate of the recording
    assert node.subscriptions_["image"][2] is ros.SENSOR_DATA
    assert node.subscriptions_["goal"][2].reliability is ros.ReliabilityPolicy.RELIABLE
    tick()
    assert node.publishers_["command"] == []  # positions: nothing is sent, so the robot holds
    node.subscriptions_["goal"][1](message())
    node.subscriptions_["image"][1](message(taken=node.time - 0.05))
    until(lambda: tick() or node.publishers_["command"])
    trajectory = node.publishers_["command"][0]
    assert trajectory.joint_names == ["shoulder", "elbow"]
    assert trajectory.points[0].positions == [0.25, 0.25] and trajectory.points[0].velocities == []
    assert trajectory.points[0].time_from_start == ros.Duration(0, 100_000_000)
    ros_time = node.time
    monkeypatch.setattr(node, "time", ros_time + 3)
    sent = len(node.publishers_["command"])
    tick()
    assert len(node.publishers_["command"]) == sent
    states = [told.data for told in node.publishers_["~/state"]]
    assert states[0] == "waiting for a goal" and states[-2:] == ["following a plan", "no fresh frames"]
    node.subscriptions_["image"][1](message(taken=node.time, encoding="yuv"))
    assert "the encoding 'yuv' is not read here" in node.logged[-1]
    node.destroy_node()


def test_velocities_are_zeroed_when_there_is_no_plan(
    node_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = start(
        node_module, monkeypatch, output="array", command="velocities", safe_action=[0.0, 0.0], rate=50.0
    )
    assert node.timer[0] == pytest.approx(0.02)
    node.timer[1]()
    assert node.publishers_["command"] == [ros.Float64MultiArray([0.0, 0.0])]
    node.destroy_node()


@pytest.mark.parametrize(
    "parameters, told",
    [
        ({"output": "twist"}, "output must be trajectory or array"),
        ({"command": "efforts"}, "command must be positions or velocities"),
        ({"joint_names": ["one"]}, "joint_names has 1 names, actions have 2 numbers"),
        ({"output": "array", "command": "velocities"}, "velocities need a safe_action"),
        ({"output": "array", "safe_action": [0.0, 0.0, 0.0]}, "safe_action has 3 numbers"),
        ({"output": "array", "rate": -1.0}, "set the parameter rate"),
        ({"server": "ws://nowhere"}, "cannot be reached"),
    ],
)
def test_mistakes_end_the_node_with_one_line(
    node_module: Any, monkeypatch: pytest.MonkeyPatch, parameters: dict[str, Any], told: str
) -> None:
    monkeypatch.setattr(ros.Node, "given", parameters)
    assert node_module.main() == 1
    assert len(sys.modules["rclpy"].told) == 1 and told in sys.modules["rclpy"].told[0]


def test_the_package_is_what_ros_expects() -> None:
    tree = ElementTree.parse(PACKAGE / "package.xml").getroot()
    name = tree.findtext("name")
    assert tree.get("format") == "3" and tree.findtext("export/build_type") == "ament_python"
    assert (PACKAGE / "resource" / str(name)).is_file() and (PACKAGE / str(name) / "__init__.py").is_file()
    setup = (PACKAGE / "setup.py").read_text()
    assert f'NAME = "{name}"' in setup and "planner = {NAME}.node:main" in setup
    assert f"$base/lib/{name}" in (PACKAGE / "setup.cfg").read_text()
    depends = {element.text for element in tree.findall("exec_depend")}
    imported = re.findall(r"^(?:from|import) (\w+)", (MODULE / "node.py").read_text(), re.MULTILINE)
    assert set(imported) - {"latent_planner", "typing", "__future__"} <= depends
    node = ast.parse((MODULE / "node.py").read_text())
    declared = next(n for n in node.body if isinstance(n, ast.AnnAssign))
    names = {key.value for key in declared.value.keys}  # type: ignore[union-attr]
    used = re.findall(r"^    (\w+):", (PACKAGE / "config" / "arm.yaml").read_text(), re.MULTILINE)
    assert set(used) - {"ros__parameters"} <= names
