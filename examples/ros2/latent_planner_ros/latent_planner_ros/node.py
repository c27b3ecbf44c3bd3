"""The node: ROS outside, `logic` inside. Its callbacks hand frames on and send what is planned already.

It plans through a policy server (`latent-planner serve`), so that torch need not be installed with ROS; of
latent-planner it imports the client and the control loop, which need numpy, websockets and msgpack.
"""

from __future__ import annotations

from typing import Any

import rclpy
from builtin_interfaces.msg import Duration
from rclpy.executors import ExternalShutdownException
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from latent_planner.deploy.bounds import Bounds
from latent_planner.deploy.client import Client, ServerError
from latent_planner.deploy.realtime import PlannerThread

from .logic import Command, Controller, MessageError

# name -> default; an empty list of numbers means none
PARAMETERS: dict[str, Any] = {
    "server": "ws://127.0.0.1:8000",
    "api_key": "",
    "output": "trajectory",  # or array
    "command": "positions",  # or velocities: what actions are, in a trajectory
    "joint_names": [""],
    "rate": 0.0,  # Hz; 0: that of the recording the model learned from
    "max_frame_age": 0.3,  # s; older frames are not planned from
    "frame_timeout": 0.5,  # s without a fresh frame: no plan is followed
    "max_plan_age": 1.5,  # s since its frame; older plans are not followed
    "blend": 0.1,  # s over which a new plan takes over
    "safe_action": [float("nan")],  # sent when no plan is followed; one NaN: send nothing then
    "goal_latched": False,  # whether `goal` is published latched, so that one from before counts
}


def reliable(latched: bool) -> QoSProfile:
    """For what must arrive; a latched subscription gets nothing from a publisher that is not."""
    durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
    return QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=durability)


class SetupError(ValueError):
    """The node cannot work like this; the text says which parameter to change."""


def cameras(metadata: dict[str, Any]) -> list[str]:
    """Names of the cameras that the server's model knows; one without a name is ""."""
    if metadata.get("goal_key", "goal/image") == "goal/image":
        return [""]
    return [key.removeprefix("observation/") for key in metadata["image_keys"]]


class PlannerNode(Node):
    """Subscribes to `image` and `goal`, of a model of several cameras to `image_NAME`, `goal_NAME` and, where
    it knows a vector, `joint_states`; publishes `command` and `~/state`."""

    def __init__(self) -> None:
        super().__init__("latent_planner")
        for name, default in PARAMETERS.items():
            self.declare_parameter(name, default)
        self.settings = {name: self.get_parameter(name).value for name in PARAMETERS}
        client = Client(self.settings["server"], api_key=self.settings["api_key"] or None)
        size = len(client.metadata["action_low"])
        self.joints = self._joints(size)
        self.period = 1 / self._rate(client.metadata.get("control_hz"))
        safe = self._safe_action(client, size)
        self.loop = PlannerThread(
            client,
            control_hz=client.metadata.get("control_hz") or 1 / self.period,
            safe=[0.0] * size if safe is None else safe,
            hold=safe is None,
            max_age=self.settings["max_plan_age"],
            frame_timeout=self.settings["frame_timeout"],
            blend=self.settings["blend"],
            clock=self.now,
        )
        self.controller = Controller(
            self.loop,
            max_frame_age=self.settings["max_frame_age"],
            frame_timeout=self.settings["frame_timeout"],
            safe_action=safe,
            proprio=client.metadata.get("proprio") or (),
            together=self.period,
        )
        self.kind = {"trajectory": JointTrajectory, "array": Float64MultiArray}[self.settings["output"]]
        self.commands = self.create_publisher(self.kind, "command", 1)
        self.states, self.state = self.create_publisher(String, "~/state", reliable(latched=True)), ""
        latched = reliable(self.settings["goal_latched"])
        for camera in cameras(client.metadata):
            self._subscribe(camera, latched)
        if self.controller.proprio:
            self.create_subscription(JointState, "joint_states", self.on_joints, qos_profile_sensor_data)
        self.create_timer(self.period, self.on_tick)
        self.loop.start()

    def now(self) -> float:
        return 1e-9 * self.get_clock().now().nanoseconds

    def _subscribe(self, camera: str, latched: QoSProfile) -> None:
        def seen(message: Image) -> None:
            self.on_image(message, camera)

        def told(message: Image) -> None:
            self.on_goal(message, camera)

        end = f"_{camera}" if camera else ""
        self.create_subscription(Image, f"image{end}", seen, qos_profile_sensor_data)
        self.create_subscription(Image, f"goal{end}", told, latched)

    def on_image(self, message: Image, camera: str = "") -> None:
        try:
            self.controller.image(message, self.now(), camera)
        except MessageError as error:
            self.get_logger().error(f"frame: {error}", throttle_duration_sec=5.0)

    def on_joints(self, message: JointState) -> None:
        try:
            self.controller.joints(message)
        except MessageError as error:
            self.get_logger().error(str(error), throttle_duration_sec=5.0)

    def on_goal(self, message: Image, camera: str = "") -> None:
        try:
            self.controller.goal(message, camera)
        except MessageError as error:
            self.get_logger().error(f"goal: {error}")

    def on_tick(self) -> None:
        command = self.controller.tick(self.now())
        if command.action is not None:
            self.commands.publish(self.message(command))
        if command.state != self.state:
            self.state = command.state
            self.states.publish(String(data=self.state))
            self.get_logger().info(self.state)

    def message(self, command: Command) -> Any:
        """The command as it is published. A trajectory has one point, to be reached by the next command."""
        numbers = [float(number) for number in command.action]
        if self.kind is Float64MultiArray:
            return Float64MultiArray(data=numbers)
        point = JointTrajectoryPoint(
            time_from_start=Duration(sec=int(self.period), nanosec=int(self.period % 1 * 1e9))
        )
        setattr(point, self.settings["command"], numbers)
        return JointTrajectory(joint_names=self.joints, points=[point])  # no stamp: it starts at once

    def destroy_node(self) -> None:
        self.loop.stop(timeout=2.0)
        super().destroy_node()

    def _joints(self, size: int) -> list[str]:
        if self.settings["output"] not in ("trajectory", "array"):
            raise SetupError("output must be trajectory or array")
        if self.settings["command"] not in ("positions", "velocities"):
            raise SetupError("command must be positions or velocities")
        joints = [name for name in self.settings["joint_names"] if name]
        if self.settings["output"] == "trajectory" and len(joints) != size:
            raise SetupError(
                f"joint_names has {len(joints)} names, actions have {size} numbers: name as many"
            )
        return joints

    def _rate(self, recorded: float | None) -> float:
        rate = self.settings["rate"] or recorded
        if not rate or rate < 0:
            raise SetupError("the server does not know the control rate: set the parameter rate, in Hz")
        return rate

    def _safe_action(self, client: Client, size: int) -> list[float] | None:
        safe = list(self.settings["safe_action"])
        if len(safe) == 1 and safe[0] != safe[0]:
            if self.settings["command"] == "velocities":
                raise SetupError("velocities need a safe_action, usually zeros: silence would not stop them")
            return None
        if len(safe) != size:
            raise SetupError(f"safe_action has {len(safe)} numbers, actions have {size}: give as many")
        try:
            Bounds.of(client, safe)
        except ValueError as error:
            raise SetupError(f"safe_action: {error}") from None
        return safe


def main() -> int:
    """0 after Ctrl-C, 1 where the node could not start."""
    rclpy.init()
    node = None
    try:
        node = PlannerNode()
        rclpy.spin(node)
    except (SetupError, ServerError) as error:
        get_logger("latent_planner").fatal(str(error))
        return 1
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        if node is not None:
            node.destroy_node()
        rclpy.try_shutdown()
    return 0
