"""What the node does, without ROS: messages in, commands out. Nothing here waits or imports torch.

Messages are anything with the fields of sensor_msgs/Image; times are seconds of one clock, the node's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

# bytes a pixel, and where red, green and blue are in them
ENCODINGS = {
    "rgb8": (3, (0, 1, 2)),
    "bgr8": (3, (2, 1, 0)),
    "rgba8": (4, (0, 1, 2)),
    "bgra8": (4, (2, 1, 0)),
    "mono8": (1, (0, 0, 0)),
    "8UC3": (3, (2, 1, 0)),  # OpenCV's order
}
AHEAD = 0.05  # seconds by which a camera's clock may run ahead
TURNED_BACK = 0.1  # seconds: the clock was set back, as when a recording starts again


class MessageError(ValueError):
    """A message that cannot be used; the text says why."""


class Loop(Protocol):
    """What plans on a thread of its own, and never makes anybody wait: deploy.realtime.PlannerThread."""

    def observe(self, pixels: Any, stamp: Any) -> None: ...

    def set_goal(self, pixels: Any) -> None: ...

    def action(self, now: float) -> Any: ...


@dataclass(frozen=True)
class Command:
    """action (A,), None to send nothing, and the state to tell the world."""

    action: np.ndarray | None
    state: str


def picture(message: Any) -> np.ndarray:
    """sensor_msgs/Image -> uint8 (H, W, 3), RGB; rows may be padded. MessageError."""
    if message.encoding not in ENCODINGS:
        known = ", ".join(ENCODINGS)
        raise MessageError(f"the encoding {message.encoding!r} is not read here; publish one of {known}")
    size, order = ENCODINGS[message.encoding]
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = np.frombuffer(message.data, np.uint8)
    if height < 1 or width < 1 or step < size * width or data.size < step * height:
        raise MessageError(
            f"{height} rows of {step} bytes do not make a {width} x {height} picture in {message.encoding}, "
            f"or not all of its bytes came ({data.size})"
        )
    rows = data[: step * height].reshape(height, step)[:, : size * width]
    return np.ascontiguousarray(rows.reshape(height, width, size)[:, :, list(order)])


def seconds(stamp: Any) -> float:
    """builtin_interfaces/Time or Duration -> seconds."""
    return stamp.sec + 1e-9 * stamp.nanosec


class FrameGate:
    """Lets frames through that were taken lately, each later than the one before, and counts the others."""

    def __init__(self, max_age: float) -> None:
        self.max_age = max_age
        self.newest: float | None = None  # when the last one that passed was taken
        self.counts = {"passed": 0, "stale": 0, "out of order": 0, "from the future": 0}
        self._now = -math.inf

    def passes(self, taken: float, now: float) -> bool:
        if not (math.isfinite(now) and now >= self._now - TURNED_BACK):  # no number, or set back
            self.newest = None
        self._now = now if math.isfinite(now) else self._now
        if taken > now + AHEAD:
            verdict = "from the future"
        elif not now - taken <= self.max_age:
            verdict = "stale"
        elif self.newest is not None and taken <= self.newest:
            verdict = "out of order"
        else:
            self.newest, verdict = taken, "passed"
        self.counts[verdict] += 1
        return verdict == "passed"


class Controller:
    """Callbacks of the node, and its watchdog.

    max_frame_age: seconds; an older frame is not planned from.   frame_timeout: seconds since the last frame
    that passed was taken, after which no plan is followed.   safe_action: (A,), what to send whenever no plan
    is followed; None: nothing, which holds a robot that is told positions. Velocities want zeros.
    proprio: names of a vector's components, of joint states: NAME, or NAME_velocity.
    together: seconds within which frames of several cameras, and joint states, count as of one moment; others
    are left out.
    """

    def __init__(
        self,
        loop: Loop,
        *,
        max_frame_age: float = 0.3,
        frame_timeout: float = 0.5,
        safe_action: Sequence[float] | None = None,
        proprio: Sequence[str] = (),
        together: float = 0.1,
    ) -> None:
        self.loop, self.frame_timeout = loop, frame_timeout
        self.safe_action = None if safe_action is None else np.asarray(safe_action, float)
        self.max_frame_age, self.proprio, self.together = max_frame_age, tuple(proprio), together
        self.gates: dict[str, FrameGate] = {}  # of each camera; one that has no name is called ""
        self.views: dict[
            str, tuple[float, np.ndarray]
        ] = {}  # of several: what came last, and when it was taken
        self.has_goal = False

    def image(self, message: Any, now: float, camera: str = "") -> None:
        """A frame came: hand it on if it is fresh, with what else is of this moment. MessageError.

        camera: its name, where the model knows several.
        """
        taken = seconds(message.header.stamp)
        if not self.gates.setdefault(camera, FrameGate(self.max_frame_age)).passes(taken, now):
            return
        pixels = picture(message)
        self.views[camera] = taken, pixels
        near = {name: view for name, view in self.views.items() if abs(view[0] - taken) <= self.together}
        try:
            if camera:
                stamps = {name: when for name, (when, _) in near.items()}
                self.loop.observe({name: view for name, (_, view) in near.items()}, stamps)
            else:
                self.loop.observe(pixels, taken)
        except ValueError as error:  # the clock was set back a moment ago
            raise MessageError(str(error)) from None

    def joints(self, message: Any) -> None:
        """sensor_msgs/JointState came: it goes with the next frame of its moment. MessageError."""
        values = dict(zip(message.name, message.position))
        values |= {f"{name}_velocity": speed for name, speed in zip(message.name, message.velocity)}
        missing = [name for name in self.proprio if not math.isfinite(values.get(name, math.nan))]
        if missing:
            raise MessageError(f"joint states lack {', '.join(missing)}: they have {', '.join(values)}")
        vector = np.array([values[name] for name in self.proprio], np.float32)
        self.views["proprio"] = seconds(message.header.stamp), vector

    def goal(self, message: Any, camera: str = "") -> None:
        """A goal picture came. MessageError; the goal before then stays."""
        self.loop.set_goal({camera: picture(message)} if camera else picture(message))
        self.has_goal = True

    @property
    def newest(self) -> float | None:
        """When the last frame that passed, of any camera, was taken."""
        return max((gate.newest for gate in self.gates.values() if gate.newest is not None), default=None)

    def tick(self, now: float) -> Command:
        """What to send now."""
        if not self.has_goal:
            return Command(self.safe_action, "waiting for a goal")
        planned, newest = self.loop.action(now), self.newest
        if newest is None:
            return Command(self.safe_action, "waiting for frames")
        if not -TURNED_BACK <= now - newest <= self.frame_timeout:
            return Command(self.safe_action, "no fresh frames")
        if planned.safe is not None:
            return Command(self.safe_action, planned.safe)
        return Command(np.asarray(planned.action, float), "following a plan")
