"""One world, one agent and the thread that moves both. Tabs give orders; everything they show is published.

Messages are plain dicts with a "kind"; the newest of each kind is all that a tab needs, so whoever comes late
or reads slowly is given the newest only:

    settings   what is chosen, and what there is to choose from; also as a command line and as Python
    frame      the world now: picture, places of the handles, distance to the goal
    goal       the goal: picture, places of the handles where its state is known
    plan       the newest plan: expected distances, milliseconds, ghosts, the path of each handle; empty after
               the goal has changed
    history    distances so far, for a tab that was opened later
    note       one sentence for the user
"""

from __future__ import annotations

import logging
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from latent_planner import Agent, envs, looks
from latent_planner.checkpoints import checkpoint
from latent_planner.evaluation import reachability
from latent_planner.pixels import encode_frames
from latent_planner.planners import Plan

from ..overrides import ConfigError, options
from ..plan import check_state, world_of
from ..planner_words import planner_settings
from ..user_errors import USER_ERRORS
from . import pictures, words
from .doubts import Doubts
from .imagined import Known
from .orders import DEADLINES, SPEEDS, Order, finite

log = logging.getLogger(__name__)

SCENE_SIZE = 384  # px of what people see
REMEMBERED = 600  # steps in the chart
WAITING = 200  # orders

Publish = Callable[[dict[str, Any]], None]


class Session:
    """checkpoint_name, sha256, stored: of the checkpoint, as `checkpoint.load` gives them ("planner").

    publish: called with each message, in this session's thread.   viewers: tabs that are open.
    ConfigError for a world whose states cannot be set.
    """

    def __init__(
        self,
        agent: Agent,
        checkpoint_name: str,
        sha256: str,
        stored: Mapping[str, Any],
        *,
        publish: Publish = lambda message: None,
    ) -> None:
        self.agent, self.publish, self.viewers = agent, publish, 0
        agent.warn = log.info  # the page says it
        self.checkpoint_name, self.stored = checkpoint_name, dict(stored)
        self.world = world_of(agent)
        if not self.world.settable_states:
            raise ConfigError(
                f"the states of {agent.config.env} cannot be set, so nothing in it can be dragged; "
                "use plan.py --goal"
            )
        self.scene = self._another(SCENE_SIZE)
        self.handles = self.world.handles()
        self._reach = reachability.load(checkpoint.find(checkpoint_name), sha256)
        self._scale = math.sqrt(2 * agent.config.latent_dim)  # distance between unrelated latents
        self.reached_at: int | None = None
        self._doubts = Doubts(self._reach, self._scale)
        self._orders: queue.Queue[Order] = queue.Queue(WAITING)
        self._ended = threading.Event()
        self._period, self.speed, self.running = 1 / self.world.control_hz, 1.0, False
        self._known: Known | None = None
        self._rng = np.random.default_rng(agent.seed)
        self._thread = threading.Thread(target=self._run, name="play", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._known is not None:
            self._known.close()

    def order(self, order: Order) -> bool:
        """Leave an order; False when too many are waiting. For any thread."""
        try:
            self._orders.put_nowait(order)
        except queue.Full:
            return False
        return True

    def goal_file(self) -> bytes:
        """The goal as a PNG file. For any thread."""
        return pictures.goal_file(self.goal_picture, self.goal_state, self.state, self.agent.config.env)

    # -- in the session's thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        self._restart()
        due = time.monotonic()
        while not self._ended.is_set():
            active = self._active()
            wait = max(0.0, due - time.monotonic()) if active else 0.5
            try:
                for order in self._take(wait):
                    self._obey(order)
                if self._active() and time.monotonic() >= due:
                    self._step()
                    due = max(due + self._period / self.speed, time.monotonic())
            except USER_ERRORS as error:
                self._note(str(error), bad=True)
            except Exception:
                log.exception("the page's session failed at something")
                self.running = False
                self._note("Something failed; the program's log says what. It is paused.", bad=True)
                self._publish_settings()

    def _active(self) -> bool:
        """Whether the world moves: it rests at its goal, and while nobody looks."""
        return self.running and self.viewers > 0 and self.reached_at is None

    def _take(self, wait: float) -> list[Order]:
        """The orders that wait, of drags only the last; waits so many seconds for a first one."""
        taken: list[Order] = []
        try:
            taken.append(self._orders.get(timeout=wait) if wait > 0 else self._orders.get_nowait())
            while True:
                order = self._orders.get_nowait()
                if order.replaces(taken[-1]):
                    taken.pop()
                taken.append(order)
        except queue.Empty:
            return taken

    def _obey(self, order: Order) -> None:
        if order.do in ("run", "pause"):
            self.running = order.do == "run"
        elif order.do == "step":
            self.running = False
            self._step()
        elif order.do == "restart":
            self._restart()
        elif order.do == "another":
            self._set_goal(self.world.sample_beside(self._rng, self.state))
        elif order.do == "freeze":
            self._set_goal(self.state)
        elif order.do == "picture":
            self._take_picture(order.value)
        elif order.do in ("move", "nudge", "turn"):
            self._drag(order)
            return
        elif order.do == "speed":
            self.speed = float(order.value)
        elif order.do in ("planner", "deadline"):
            self._change_agent(order)
        elif order.do == "hello":
            self.publish({"kind": "history", "steps": list(self._history)})
        self._publish_settings()

    def _restart(self) -> None:
        """Another start and goal."""
        observation, info = self.world.reset(seed=int(self._rng.integers(2**31)))
        if self._known is None or type(self.world).sample_beside is not envs.World.sample_beside:
            if self._known is not None:
                self._known.close()
            sees = self._another(self.agent.config.image_size)
            self._known = Known(sees, self._another(SCENE_SIZE), self._latents, observation["state"])
        self.agent.reset()
        self._take_observation(observation)
        self._set_goal(info["goal_state"])
        self._publish_frame()
        self._publish_settings()

    def _take_observation(self, observation: dict[str, np.ndarray]) -> None:
        self.pixels, self.state = observation["pixels"], observation["state"]
        self.latent = self._latents(self.pixels[None])[0]
        self.steps = 0
        self.surprise: float | None = None
        self._plan: Plan | None = None
        self._planned_at = 0
        self._stepped: deque[float] = deque(maxlen=20)
        self._history: deque[tuple[int, float]] = deque(maxlen=REMEMBERED)

    def _step(self) -> None:
        """One step of the world, as the agent wants it."""
        before = self.agent.last_plan
        action = self.agent.act(self.pixels)
        plan = self.agent.last_plan
        if plan is not None and plan is not before:
            self._plan, self._planned_at = plan, self.steps
            self._publish_plan(plan)
        observation, _, _, _, info = self.world.step(action)
        self.pixels, self.state = observation["pixels"], observation["state"]
        self.latent = self._latents(self.pixels[None])[0]
        self.steps += 1
        self._stepped.append(time.monotonic())
        blocks, rest = divmod(self.steps - self._planned_at, self.agent.config.frameskip)
        if self._plan is not None and rest == 0 and blocks < len(self._plan.latents):
            self.surprise = float(np.linalg.norm(self.latent - self._plan.latents[blocks])) / self._scale
            if self._known is not None:
                self._known.add(self.state, self.latent)
        if self.goal_state is not None and info["success"] and self.reached_at is None:
            self.reached_at = self.steps
        self._publish_frame()

    def _drag(self, order: Order) -> None:
        """Move or turn a thing in the goal or in the running world."""
        handle = self.handles.get(order.handle)
        if handle is None:
            raise ConfigError(f"there is no handle {order.handle!r} in this world")
        state = self.state if order.where == "world" or self.goal_state is None else self.goal_state
        if order.do == "move":
            moved = handle.move(state, order.x, order.y)
        elif order.do == "nudge":  # from where it is, whatever the tab has heard of that
            x, y = handle.at(state)
            moved = handle.move(state, x + order.x, y + order.y)
        elif handle.turn is not None:
            moved = handle.turn(state, order.by)
        else:
            raise ConfigError(f"the {order.handle} has no direction, so it cannot be turned")
        try:
            moved = self.world.check_state(moved)
        except envs.WorldError:
            return  # it stays where it can be
        if order.where == "goal":
            self._set_goal(moved)
            return
        goal = {} if self.goal_state is None else {"goal_state": self.goal_state}
        observation, _ = self.world.reset(options={"state": moved, **goal})
        self.pixels, self.state = observation["pixels"], observation["state"]
        self.latent = self._latents(self.pixels[None])[0]
        self.surprise, self.reached_at, self._plan = None, None, None
        self.agent.reset()
        self.agent.set_goal(self._goal_seen)
        self._publish_frame()

    def _set_goal(self, state: np.ndarray | None, picture: np.ndarray | None = None) -> None:
        """Pursue this state, or a picture whose state nobody knows."""
        if state is not None:
            self.world.reset(options={"state": self.state, "goal_state": state})
            picture = self.scene.render_state(state)
            seen = self.world.render_state(state)
        else:
            assert picture is not None
            seen = picture
        self.goal_state, self.goal_picture, self._goal_seen = state, picture, seen
        self.agent.set_goal(seen)
        self.goal_latent = self._latents(seen[None])[0]
        self.reached_at = None
        self._history.clear()
        places = {} if state is None else self._places(state)
        assert self._known is not None
        self._doubts = Doubts(self._reach, self._scale)
        warning: str | None = _sentence(looks.complaint(self.agent.goal_looks))
        warning = warning or self._doubts.unfamiliar(self._known, self._known.distance(self.goal_latent))
        self.publish(
            {"kind": "goal", "png": pictures.png(picture), "places": places, "known": state is not None,
             "warning": warning}
        )  # fmt: skip
        self.publish({"kind": "plan"})
        self._publish_frame()

    def _take_picture(self, data: bytes) -> None:
        picture, text = pictures.read(data)
        state = None
        if text is not None and text.env == self.agent.config.env:
            try:
                check_state(self.world, text.state, "the goal's state")
                state = self.world.check_state(text.state)
                self.world.check_goal(self.state, state)
            except USER_ERRORS:
                state = None
        self._set_goal(state, picture)
        self._note("The goal is the picture that you gave.", bad=False)

    def _change_agent(self, order: Order) -> None:
        """Another planner or deadline; the goal stays."""
        settings = self.agent.settings
        if order.do == "deadline":
            settings = settings.changed(deadline=order.value)
        else:
            deadline = "null" if settings.deadline is None else settings.deadline
            chosen = [f"planner={order.value}", f"planner.deadline={deadline}"]
            settings = planner_settings(chosen, self.stored)
        old = self.agent
        self.agent = Agent(
            old.world_model, settings, device=old.device, seed=old.seed, context_len=old.context_len,
            looks=old.looks,
        )  # fmt: skip
        self.agent.warn = log.info
        self.agent.set_goal(self._goal_seen)
        self._plan = None

    # -- what tabs are shown ---------------------------------------------------------------------------------

    def _publish_settings(self) -> None:
        settings = self.agent.settings
        start = ",".join(f"{value:.6g}" for value in self.state)
        self.publish(
            {
                "kind": "settings",
                "checkpoint": self.checkpoint_name,
                "world": self.agent.config.env,
                "running": self.running,
                "speed": self.speed,
                "speeds": SPEEDS,
                "planner": settings.planner,
                "planners": options("planner"),
                "deadline": settings.deadline,
                "deadlines": DEADLINES,
                "hz": self.world.control_hz,
                "handles": {name: handle.turn is not None for name, handle in self.handles.items()},
                "command": words.command_line(self.checkpoint_name, settings, self.stored, start),
                "python": words.python(self.checkpoint_name, settings, self.stored),
            }
        )

    def _publish_frame(self) -> None:
        distance = float(np.linalg.norm(self.latent - self.goal_latent))
        if not self._history or self._history[-1][0] != self.steps:
            self._history.append((self.steps, distance))
        took = self._stepped[-1] - self._stepped[0] if len(self._stepped) > 1 else 0.0
        self.publish(
            {
                "kind": "frame",
                "png": pictures.png(self.scene.render_state(self.state)),
                "places": self._places(self.state),
                "step": self.steps,
                "distance": distance,
                "surprise": finite(self.surprise),
                "rate": (len(self._stepped) - 1) / took if took > 0 else None,
                "reached": self.reached_at,
            }
        )

    def _publish_plan(self, plan: Plan) -> None:
        assert self._known is not None
        states = self._known.states_of(plan.latents[1:])
        path = [self._places(self.state), *map(self._places, states)] if states else []
        expected = np.linalg.norm(plan.latents - self.goal_latent, axis=-1)
        self.publish(
            {
                "kind": "plan",
                "step": self.steps,
                "ms": 1000 * sum(plan.seconds.values()),
                "iterations": plan.iterations,
                "frameskip": self.agent.config.frameskip,
                "expected": expected.tolist(),
                "narrowing": np.sqrt(np.maximum(plan.elites, 0)).tolist(),
                "ghosts": pictures.png(self._known.ghosts(states)) if states else None,
                "path": path,
                "known": len(self._known),
                "probed": self._known.probe is not None,
                "warning": self._doubts.out_of_reach(float(expected[1:].min())),
            }
        )

    def _note(self, text: str, *, bad: bool) -> None:
        self.publish({"kind": "note", "text": _sentence(text), "bad": bad})

    def _places(self, state: np.ndarray) -> dict[str, list[float]]:
        return {name: [float(share) for share in handle.at(state)] for name, handle in self.handles.items()}

    def _latents(self, frames: np.ndarray) -> np.ndarray:
        latents = encode_frames(self.agent.world_model, frames, self.agent.device)
        return latents.float().cpu().numpy()

    def _another(self, size: int) -> envs.World:
        config = self.agent.config
        return envs.make(config.env, image_size=size, reference_look=config.reference_look)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
