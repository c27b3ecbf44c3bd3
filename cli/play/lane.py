"""One world and one agent, in a thread of their own; a page shows one lane, or two side by side.

The world runs ahead of what is shown by one block of actions at most. While the frames of a block are shown
at the world's pace, the agent already plans from where they end. So what happens is, step by step, what a
loop of `Agent.act` does, and planning holds nothing up unless it takes longer than a block.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from latent_planner import looks
from latent_planner.planners import Plan

from ..plan import world_of
from ..user_errors import USER_ERRORS
from . import pictures
from .doubts import Doubts
from .imagined import Ghosts, Known
from .orders import finite
from .pictures import SCENE_SIZE
from .players import Player, another, latents
from .stage import Goal

log = logging.getLogger(__name__)

FAN = 12  # candidates of each iteration that are shown
REMEMBERED = 600  # steps in the chart
Message = dict[str, Any]


@dataclass(frozen=True)
class Shown:
    """A moment of the world.

    state: (S,).   pixels: what the agent saw.   latent: (D,), of that.   goal: number of the one pursued.
    message: for the page.   plan: likewise, where one begins here.   last: of its block.
    """

    state: np.ndarray
    pixels: np.ndarray
    latent: np.ndarray
    goal: int
    message: Message
    plan: Message | None = None
    last: bool = True


class Lane:
    """deliver: called in the lane's thread with (lane, what, value, epoch): "now" (a Shown, after a start or
    a place), "next" (a Shown of a block), "goal" (its number, its latent and the warning), "failed" (a
    sentence).   known: the Known of a player, for episodes in which a state occurs.

    What is wanted is left with `ask`: of each kind only the newest counts. Whoever moves the world ("start",
    "place") begins a new epoch; what was delivered in an older one is out of date.
    """

    def __init__(
        self,
        number: int,
        player: Player,
        known: Callable[[Player, np.ndarray], Known],
        deliver: Callable[[Lane, str, Any, int], None],
        state: np.ndarray,
    ) -> None:
        self.number, self.player, self.epoch = number, player, 0
        self.world = world_of(player.agent)
        self.scene = another(player.agent, SCENE_SIZE) if self.world.settable_states else None
        self.handles = self.world.handles()
        # of the session's thread: frames that wait, the one shown, whether more are coming or none may
        self.waiting: deque[Shown] = deque()
        self.shown: Shown | None = None
        self.state = state  # that is shown, or was asked for
        self.goal_latent: np.ndarray | None = None
        self.advancing, self.rests, self.due = False, False, 0.0
        self.steps = 0  # to be shown, one at a time
        self.history: deque[list[Any]] = deque(maxlen=REMEMBERED)
        # of the lane's thread:
        self._known_of, self._deliver = known, deliver
        self._news = threading.Condition()
        self._wanted: dict[str, Any] = {}
        self._ended, self._epoch = False, 0
        self._goal: Goal | None = None
        self._use_player(player)
        self._thread = threading.Thread(target=self._run, name=f"lane {number}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with self._news:
            self._ended = True
            self._news.notify()
        self._thread.join()

    def ask(self, what: str, value: Any = None) -> None:
        """For the session's thread. "player": a Player of this world; "start": options and seed of a reset;
        "place": a state (S,); "goal": a Goal; "advance": one block of actions."""
        with self._news:
            if what in ("start", "place"):
                self._wanted.pop("advance", None)
                self.epoch += 1
                self.waiting.clear()
                self.advancing = False
            self._wanted[what] = value
            self._news.notify()

    # -- in the lane's thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        do: dict[str, Callable[[Any], None]] = {  # in this order
            "player": self._use_player, "start": self._start, "place": self._place, "goal": self._pursue,
            "advance": self._advance,
        }  # fmt: skip
        while True:
            with self._news:
                self._news.wait_for(lambda: self._wanted or self._ended)
                if self._ended:
                    return
                wanted, self._wanted, self._epoch = self._wanted, {}, self.epoch
            try:
                for what in do:
                    if what in wanted:
                        do[what](wanted[what])
            except USER_ERRORS as error:
                self._say("failed", str(error))
            except Exception:
                log.exception("the page's session failed at something")
                self._say("failed", "Something failed; the program's log says what.")

    def _say(self, what: str, value: Any = None) -> None:
        self._deliver(self, what, value, self._epoch)

    def _use_player(self, player: Player) -> None:
        self.agent = agent = player.agent
        agent.warn, agent.fan = log.info, FAN  # the page says what it warns of
        self._reach, self._scale = player.reach, math.sqrt(2 * agent.config.latent_dim)
        self._plan: Plan | None = None
        self._held: tuple[np.ndarray, Message | None] | None = None  # the next action, and its new plan
        if self._goal is not None:
            agent.set_goal(self._goal_seen)

    def _start(self, start: Mapping[str, Any]) -> None:
        observation, _ = self.world.reset(**start)
        self._known = self._known_of(self.player, observation["state"])
        self._ghosts = Ghosts(self._known, self._draw_thing)
        self._steps = 0
        self._begin(observation)

    def _place(self, state: np.ndarray) -> None:
        self._begin(self.world.reset(options={"state": state, "goal_state": state})[0])

    def _begin(self, observation: Mapping[str, np.ndarray]) -> None:
        """Go on from what is seen, without a past; the goal stays."""
        self.agent.reset()
        self._look(observation)
        self._plan, self._held, self._planned_at = None, None, self._steps
        self._surprise: float | None = None
        self._expected: float | None = None
        self._reached: int | None = None
        self._over = False
        if self._goal is not None:
            self.agent.set_goal(self._goal_seen)
        self._say("now", self._moment())

    def _look(self, observation: Mapping[str, np.ndarray]) -> None:
        self.pixels, self._state = observation["pixels"], observation["state"]
        self.latent = latents(self.agent, self.pixels[None])[0]

    def _pursue(self, goal: Goal) -> None:
        drawn = goal.state is not None and self.world.settable_states
        self._goal, self._held, self._plan, self._reached = goal, None, None, None
        self._goal_seen = self.world.render_state(goal.state) if drawn else goal.picture
        self.agent.set_goal(self._goal_seen)
        self._goal_latent = latents(self.agent, self._goal_seen[None])[0]
        self._doubts = Doubts(self._reach, self._scale)
        warning: str | None = looks.complaint(self.agent.goal_looks)
        away = self._known.distance(self._goal_latent)
        warning = warning or self._doubts.unfamiliar(self._known, away)
        self._say("goal", (goal.number, self._goal_latent, warning))

    def _advance(self, _: Any) -> None:
        """One block: as many steps as the model sees at once, fewer where the world comes to rest."""
        if self._held is None:
            self._think()
        assert self._held is not None
        (action, plan), self._held = self._held, None
        block = self.agent.config.frameskip
        for i in range(block):
            if i:
                action, plan = self.agent.act(self.pixels), None
            self._move(action)
            rests = self._reached is not None or self._over
            with self._news:
                moved = bool({"start", "place"} & set(self._wanted))
            last = i == block - 1 or rests or moved
            self._say("next", self._moment(plan, last=last))
            if last:
                break
        with self._news:
            wanted = bool(self._wanted) or self._ended
        if not (rests or wanted):
            self._think()

    def _think(self) -> None:
        """Ask for the next action now, while earlier frames are shown."""
        before = self.agent.last_plan
        action, plan = self.agent.act(self.pixels), self.agent.last_plan
        if plan is None or plan is before:
            self._held = action, None
            return
        self._plan, self._planned_at = plan, self._steps
        self._held = action, self._about(plan)

    def _move(self, action: np.ndarray) -> None:
        observation, _, over, _, _ = self.world.step(action)
        self._look(observation)
        self._steps += 1
        self._over = bool(over)
        blocks, rest = divmod(self._steps - self._planned_at, self.agent.config.frameskip)
        self._expected = None
        if self._plan is not None and rest == 0 and blocks < len(self._plan.latents):
            imagined = self._plan.latents[blocks]
            self._surprise = float(np.linalg.norm(self.latent - imagined)) / self._scale
            self._expected = float(np.linalg.norm(imagined - self._goal_latent))
            self._known.add(self._state if self._known.settable else self.pixels, self.latent)
        goal = None if self._goal is None else self._goal.state
        if goal is not None and self._reached is None and self.world.is_success(self._state, goal):
            self._reached = self._steps

    # -- what is shown ---------------------------------------------------------------------------------------

    def _moment(self, plan: Message | None = None, *, last: bool = True) -> Shown:
        message = {
            "kind": "frame",
            "lane": self.number,
            "png": pictures.png(self._picture()),
            "places": self.places(self._state),
            "step": self._steps,
            "expected": finite(self._expected),
            "surprise": finite(self._surprise),
            "reached": self._reached,
            "over": self._over,
        }
        goal = -1 if self._goal is None else self._goal.number
        return Shown(self._state, self.pixels, self.latent, goal, message, plan, last)

    def _about(self, plan: Plan) -> Message:
        things = self._known.things_of(plan.latents[1:])
        expected = np.linalg.norm(plan.latents - self._goal_latent, axis=-1)
        path = []
        if things and self.handles:
            path = [self.places(self._state), *map(self.places, things)]
        return {
            "kind": "plan",
            "lane": self.number,
            "step": self._steps,
            "ms": 1000 * sum(plan.seconds.values()),
            "iterations": plan.iterations,
            "frameskip": self.agent.config.frameskip,
            "expected": expected.tolist(),
            "fan": self._fan(plan),
            "ghosts": pictures.png(self._ghosts.over(things)) if things else None,
            "path": path,
            "known": len(self._known),
            "shown_by": "probe" if self._known.probe else "states" if self._known.settable else "frames",
            "warning": self._doubts.out_of_reach(float(expected[1:].min())),
        }

    def _fan(self, plan: Plan) -> Message | None:
        """What some candidates of each iteration lead to: how near to the goal each comes (iterations, n),
        and for each handle the paths (iterations, n, H+1, 2), as far as a probe can say where things are."""
        if plan.fan is None:
            return None
        nearest = np.linalg.norm(plan.fan - self._goal_latent, axis=-1)[..., 1:].min(-1)
        paths: dict[str, Any] = {}
        if self._known.probe is not None:
            states = self._known.probe.read(plan.fan)
            for name, handle in self.handles.items():
                places = [handle.at(state) for state in states.reshape(-1, states.shape[-1])]
                paths[name] = np.round(np.reshape(places, (*states.shape[:-1], 2)), 3).tolist()
        return {"nearest": np.round(nearest, 2).tolist(), "paths": paths}

    def places(self, state: np.ndarray) -> dict[str, list[float]]:
        return {name: [float(share) for share in handle.at(state)] for name, handle in self.handles.items()}

    def _picture(self) -> np.ndarray:
        if self.scene is None:
            return self.world.picture(SCENE_SIZE)
        return self.scene.render_state(self._state)

    def _draw_thing(self, thing: np.ndarray) -> np.ndarray:
        return thing if self.scene is None else self.scene.render_state(thing)
