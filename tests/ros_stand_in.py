"""As much of rclpy and its messages as the example node touches; `install` puts it where imports find it."""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class ReliabilityPolicy(Enum):
    RELIABLE = 1
    BEST_EFFORT = 2


class DurabilityPolicy(Enum):
    TRANSIENT_LOCAL = 1
    VOLATILE = 2


@dataclass(frozen=True)
class QoSProfile:
    depth: int
    reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE
    durability: DurabilityPolicy = DurabilityPolicy.VOLATILE


SENSOR_DATA = QoSProfile(5, ReliabilityPolicy.BEST_EFFORT)


@dataclass
class Time:
    sec: int = 0
    nanosec: int = 0


class Duration(Time):
    pass


@dataclass
class Header:
    stamp: Time = field(default_factory=Time)


@dataclass
class Image:
    header: Header = field(default_factory=Header)
    height: int = 0
    width: int = 0
    encoding: str = ""
    step: int = 0
    data: Any = b""


@dataclass
class JointState:
    header: Header = field(default_factory=Header)
    name: list[str] = field(default_factory=list)
    position: list[float] = field(default_factory=list)
    velocity: list[float] = field(default_factory=list)


@dataclass
class String:
    data: str = ""


@dataclass
class Float64MultiArray:
    data: list[float] = field(default_factory=list)


@dataclass
class JointTrajectoryPoint:
    positions: list[float] = field(default_factory=list)
    velocities: list[float] = field(default_factory=list)
    time_from_start: Duration = field(default_factory=Duration)


@dataclass
class JointTrajectory:
    header: Header = field(default_factory=Header)
    joint_names: list[str] = field(default_factory=list)
    points: list[JointTrajectoryPoint] = field(default_factory=list)


class Publisher(list):
    publish = list.append


class ExternalShutdownException(Exception):
    pass


class Node:
    """Parameters from `given`; topics, publishers and the timer where a test can reach them."""

    given: dict[str, Any] = {}  # noqa: RUF012
    time = 100.0

    def __init__(self, name: str) -> None:
        self.name, self.values, self.logged = name, {}, []
        self.publishers_: dict[str, Publisher] = {}
        self.subscriptions_: dict[str, tuple[type, Any, QoSProfile]] = {}
        self.timer: tuple[float, Any] | None = None

    def declare_parameter(self, name: str, value: Any) -> None:
        self.values[name] = self.given.get(name, value)
        assert type(self.values[name]) is type(value), f"{name} is of another type than its default"

    def get_parameter(self, name: str) -> Any:
        return types.SimpleNamespace(value=self.values[name])

    def create_publisher(self, kind: type, topic: str, qos: Any) -> Publisher:
        self.publishers_[topic] = Publisher()
        return self.publishers_[topic]

    def create_subscription(self, kind: type, topic: str, callback: Any, qos: QoSProfile) -> None:
        self.subscriptions_[topic] = kind, callback, qos

    def create_timer(self, period: float, callback: Any) -> None:
        self.timer = period, callback

    def get_clock(self) -> Any:
        return types.SimpleNamespace(now=lambda: types.SimpleNamespace(nanoseconds=int(self.time * 1e9)))

    def get_logger(self) -> Any:
        log = lambda text, **_: self.logged.append(text)  # noqa: E731
        return types.SimpleNamespace(error=log, info=log, fatal=log)

    def destroy_node(self) -> None:
        pass


def install(monkeypatch: Any) -> None:
    """Until the test ends, `import rclpy` and the messages give these."""
    this = vars(sys.modules[__name__])
    fatal: list[str] = []
    contents: dict[str, dict[str, Any]] = {
        "rclpy": {
            "init": lambda: None,
            "spin": lambda node: None,
            "try_shutdown": lambda: None,
            "told": fatal,
        },
        "rclpy.node": this,
        "rclpy.logging": {"get_logger": lambda name: types.SimpleNamespace(fatal=fatal.append)},
        "rclpy.executors": this,
        "rclpy.qos": {**this, "qos_profile_sensor_data": SENSOR_DATA},
    }
    contents |= {
        f"{name}.msg": this for name in ("builtin_interfaces", "sensor_msgs", "std_msgs", "trajectory_msgs")
    }
    for name, content in contents.items():
        module = types.ModuleType(name)
        vars(module).update({key: value for key, value in content.items() if not key.startswith("__")})
        monkeypatch.setitem(sys.modules, name, module)
        if "." in name and name.split(".")[0] != "rclpy":
            monkeypatch.setitem(sys.modules, name.split(".")[0], types.ModuleType(name.split(".")[0]))
