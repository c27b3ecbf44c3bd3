"""One connection of the policy server: requests in, plans out. No network here, nothing shared with others.

A request is the bare observation, {"observation/image": uint8 (H, W, 3)}, with these keys where wanted:

    goal/image   uint8 (H, W, 3), the goal from now on; the same again, without goal/steps, changes nothing
    goal/steps   with it: environment steps left to reach it
    reset        true: forget goal, plan and context first
    timestamp    seconds, when the frame was taken, by the client's clock; comes back with the reply
    executed     what was done since the frame before: how many actions of the plan, or these, (n, A); no more
                 counts as done than the plan before had
    committed    what will be done from this frame on until the plan can take over, (n, A); it begins so
    deadline     seconds for this plan; the server's own limit holds, too

A model of several cameras takes {"observation/front": …, "observation/wrist": …, "observation/proprio": …},
any of which may be missing, and goals as {"goal/front": …}, for the cameras and the vector that a goal shows.

Other keys (a prompt, cameras that the model does not know) are ignored. The reply holds
actions float32 (K, A), cost, iterations, policy_timing and missed_deadlines, of this connection's plans so
far; or, where no frame came, only the timing. The first reply that ignores a key names it under "ignored",
and the reply to a new goal holds goal_unfamiliarity: above 1, it looks like nothing that the model has seen.
"""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from ..agent import Agent
from ..model.senses import VECTOR
from ..pixels import frame_advice

PROTOCOL = 1
KEYS = {"goal/image", "goal/steps", "reset", "timestamp", "executed", "committed", "deadline"}
SEEN, GOAL = "observation/", "goal/"  # before the names of several cameras and the vector
IMAGE = "goal/image"  # of one camera
SIDE = 2048  # most pixels of a side of a picture
LATEST = 1e11  # seconds: a time stamp beyond it is not in seconds
NAMED = 8  # ignored keys that one reply names


class RequestError(ValueError):
    """A request that cannot be answered; the message is for whoever sent it."""


def metadata(agent: Agent, image_key: str, deadline: float | None = None) -> dict[str, Any]:
    """What the server says of itself to everyone who connects: plain values.

    chunk_length: actions in a reply (fewer near the end of goal/steps).   execute: how many of them to do
    before asking again, as the checkpoint plans best.   control_hz: actions a second, None: not known.
    deadline: most seconds for a plan, the server's or the agent's; None: as long as it takes.
    action_space: what an action is made of where not of numbers alone; choices come as whole numbers.
    proprio: names of the vector's components, where the model knows one.
    """
    config, own, plan = agent.config, agent.settings, agent.settings.plan_config
    return {
        "server": "latent-planner",
        "protocol": PROTOCOL,
        "env": config.env,
        "action_low": list(config.action_low),
        "action_high": list(config.action_high),
        "action_space": config.action_space,
        "max_change": _plain(own.max_change),
        "control_hz": config.control_hz,
        "deadline": min((limit for limit in (deadline, own.deadline) if limit is not None), default=None),
        "chunk_length": plan.horizon * config.frameskip,
        "execute": min(plan.replan_every, plan.horizon) * config.frameskip,
        "image_keys": [f"{SEEN}{name}" for name in config.cameras] if config.several else [image_key],
        "proprio": list(config.proprio),
        "image_size": config.image_size,
        "picture_side": SIDE,
        "requires_goal": True,
        "goal_key": f"{GOAL}{config.cameras[0]}" if config.several else IMAGE,
    }


class Session:
    """What one client asks of an agent that is its own.

    deadline: most seconds for a plan, whatever the request says; None: as long as it takes.
    """

    def __init__(self, agent: Agent, image_key: str, deadline: float | None = None) -> None:
        self.agent, self.image_key, self.deadline = agent, image_key, deadline
        self.missed_deadlines = 0  # plans that took longer than they were to, the wait before included
        self._senses = tuple(agent.config.parts)  # of a model of several cameras
        self._goal_keys = tuple(f"{GOAL}{name}" for name in self._senses) or (IMAGE,)
        self._goal: Any = None
        self._stamp: float | None = None  # of the last frame planned from
        self._ignored: set[str] = set()  # keys that were named already
        self._given = 0  # actions of the last plan

    def answer(self, request: Any, waited: float = 0.0) -> dict[str, Any]:
        """The reply to a request that has waited so many seconds. RequestError and PlanError; the session
        then is as it was before, but for a goal or reset that came with the request."""
        if not isinstance(request, dict) or not all(isinstance(key, str) for key in request):
            raise RequestError("A request is a map from names to values.")
        begun = time.perf_counter()
        stamp = _stamp(request)
        deadline = self._time_left(request, waited)
        frame = self._frame(request)
        if _flag(request, "reset"):
            self.agent.reset()
            self._goal = self._stamp = None
        new_goal = self._take_goal(request)
        reply: dict[str, Any] = {} if stamp is None else {"timestamp": stamp}
        if new_goal and self.agent.goal_looks:
            reply["goal_unfamiliarity"] = self.agent.goal_looks[0].unfamiliarity
        if frame is None and not {*self._goal_keys, "reset"} & set(request):
            raise RequestError(self._no_frame(request))
        if ignored := self._newly_ignored(request):
            reply["ignored"] = ignored
        if frame is None:
            return {**reply, "policy_timing": {}}
        if self._goal is None:
            keys = " or ".join(map(repr, self._goal_keys))
            raise RequestError(f"There is no goal yet: send its picture under {keys}, once.")
        done, committed = self._executed(request, stamp), request.get("committed")
        plan = self.agent.replan(frame, executed=done, committed=committed, deadline=deadline)
        self._stamp, self._given = stamp, len(plan.actions)
        self.missed_deadlines += deadline is not None and time.perf_counter() - begun > deadline
        timing = {f"{name}_ms": 1000 * spent for name, spent in plan.seconds.items()}
        return {
            **reply,
            "actions": plan.actions,
            "cost": float(plan.cost),
            "iterations": plan.iterations,
            "missed_deadlines": self.missed_deadlines,
            "policy_timing": {"infer_ms": 1000 * plan.solve_seconds, **timing},
        }

    def _frame(self, request: dict[str, Any]) -> Any:
        """What is seen, for the agent; None where nothing came."""
        if self._senses:
            return _views(request, SEEN, self._senses)
        return None if request.get(self.image_key) is None else _picture(request, self.image_key)

    def _no_frame(self, request: dict[str, Any]) -> str:
        """What to say where no frame came under its key."""
        if self._senses:
            keys = ", ".join(repr(SEEN + name) for name in self._senses)
            return f"There is nothing to look at in this request: send some of {keys}."
        others = [key for key, value in request.items() if key not in KEYS and _like_a_picture(value)]
        if len(others) != 1:
            return f"There is no {self.image_key!r} in this request: send the frame under it."
        name = _shown(others[0])
        return (
            f"There is no {self.image_key!r} in this request, but {name!r} holds a picture: send it under "
            f"{self.image_key!r}, or start the server with --image-key {name}"
        )

    def _newly_ignored(self, request: dict[str, Any]) -> list[str]:
        """Keys that nothing here reads and that no reply has named yet; no more than NAMED of a session."""
        own = {f"{SEEN}{name}" for name in self._senses} or {self.image_key}
        unknown = sorted(set(request) - KEYS - own - {*self._goal_keys} - self._ignored)
        chosen = unknown[: NAMED - len(self._ignored)]
        self._ignored.update(chosen)
        return [_shown(key) for key in chosen]

    def _take_goal(self, request: dict[str, Any]) -> bool:
        """Pursue the goal that came with the request; whether that is a new one."""
        goal: Any
        if self._senses:
            if request.get(IMAGE) is not None:
                keys = ", ".join(self._goal_keys)
                raise RequestError(f"This model knows several cameras: send its goal under some of {keys}.")
            goal = _views(request, GOAL, self._senses)
        else:
            goal = None if request.get(IMAGE) is None else _picture(request, IMAGE)
        if goal is None:
            return False
        steps = request.get("goal/steps")
        if steps is None and self._goal is not None and _equal(goal, self._goal):
            return False
        if steps is not None and (isinstance(steps, bool) or not isinstance(steps, (int, np.integer))):
            raise RequestError(f"goal/steps is a whole number of steps, not {_told(steps)}.")
        self.agent.set_goal(goal, steps=None if steps is None else int(steps))
        self._goal = {**goal} if isinstance(goal, dict) else goal.copy()
        return True

    def _executed(self, request: dict[str, Any], stamp: float | None) -> Any:
        """What was done since the frame before, by the request or, where the rate is known, by the clock: but
        not more than was given out, as the robot may have paused."""
        rate, before = self.agent.config.control_hz, self._stamp
        if request.get("executed") is not None or stamp is None or before is None or rate is None:
            return request.get("executed")
        number = (stamp - before) * rate
        return round(min(number, self._given)) if number >= -0.5 else None

    def _time_left(self, request: dict[str, Any], waited: float) -> float | None:
        asked = _number(request, "deadline")
        if asked is not None and asked < 0:
            raise RequestError(f"deadline is a number of seconds, not {asked}.")
        limits = [
            limit for limit in (asked, self.deadline, self.agent.settings.deadline) if limit is not None
        ]
        return max(0.0, min(limits) - waited) if limits else None


def _views(request: dict[str, Any], prefix: str, senses: tuple[str, ...]) -> dict[str, Any] | None:
    """What the request holds of each sense, pictures checked; None where that is nothing."""
    found: dict[str, Any] = {}
    for name in senses:
        key = f"{prefix}{name}"
        if request.get(key) is not None:
            found[name] = np.array(request[key] if name == VECTOR else _picture(request, key))
    return found or None


def _equal(goal: Any, before: Any) -> bool:
    """Whether two goals are the same picture, or the same views."""
    if isinstance(goal, dict):
        return set(goal) == set(before) and all(np.array_equal(goal[name], before[name]) for name in goal)
    return np.array_equal(goal, before)


def _picture(request: dict[str, Any], key: str) -> np.ndarray:
    value = request[key]
    if not isinstance(value, np.ndarray) or value.dtype != np.uint8 or value.ndim != 3 or value.shape[2] != 3:
        advice = frame_advice(value) if isinstance(value, np.ndarray) else ""
        given = f"{key} must be uint8 of shape (H, W, 3), not {_told(value)}"
        raise RequestError(f"{given}: {advice}." if advice else f"{given}.")
    if 0 in value.shape:
        raise RequestError(f"{key} is empty: {value.shape}.")
    if max(value.shape) > SIDE:
        raise RequestError(
            f"{key} has {value.shape[0]} x {value.shape[1]} pixels, and no side may have more than {SIDE}: "
            "send it smaller, metadata's image_size is all that the model looks at."
        )
    return value


def _like_a_picture(value: Any) -> bool:
    if not isinstance(value, np.ndarray) or value.ndim not in (3, 4) or 0 in value.shape:
        return False
    return value.shape[-1] in (1, 3, 4) or value.shape[-3] in (1, 3, 4)


def _number(request: dict[str, Any], key: str) -> float | None:
    value = request.get(key)
    if value is None:
        return None
    plain = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
    if not plain or not math.isfinite(value):
        raise RequestError(f"{key} is a number of seconds, not {_told(value)}.")
    return float(value)


def _stamp(request: dict[str, Any]) -> float | None:
    stamp = _number(request, "timestamp")
    if stamp is not None and abs(stamp) > LATEST:
        raise RequestError(f"timestamp is in seconds, and {stamp:g} is too many: divide nanoseconds by 1e9.")
    return stamp


def _flag(request: dict[str, Any], key: str) -> bool:
    value = request.get(key)
    if not isinstance(value, (bool, np.bool_, type(None))):
        raise RequestError(f"{key} is true or false, not {_told(value)}.")
    return bool(value)


def _shown(key: str) -> str:
    """A key as a line of text may show it."""
    return repr(key)[1:-1][:60]


def _plain(value: Any) -> Any:
    """A number, a list of numbers or None."""
    return value if value is None else np.asarray(value, float).tolist()


def _told(value: Any) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else f"{value!r}"[:60]
