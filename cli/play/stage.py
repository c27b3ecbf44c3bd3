"""Starts and goals: where they come from, and what dragging makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from latent_planner import Agent, envs

from ..overrides import ConfigError
from ..plan import check_state, world_of
from ..user_errors import USER_ERRORS
from . import pictures
from .orders import Order
from .pictures import SCENE_SIZE
from .players import another


@dataclass(frozen=True)
class Start:
    """options: of a reset, which all worlds begin with.   state: (S,).   words: for the command line."""

    options: dict[str, Any]
    state: np.ndarray
    words: str


@dataclass(frozen=True)
class Goal:
    """What is pursued.   picture: uint8 (H, W, 3), as people see it.   state: (S,), where it is known."""

    number: int
    picture: np.ndarray
    state: np.ndarray | None


class Stage:
    """The agent's world, in which nothing moves: it draws goals and says what is possible."""

    def __init__(self, agent: Agent, seed: int) -> None:
        self.world, self.name = world_of(agent), agent.config.env
        self.settable = self.world.settable_states
        self.scene = another(agent, SCENE_SIZE) if self.settable else None
        self.handles = self.world.handles()
        self._rng, self._goals = np.random.default_rng(seed), 0

    @property
    def own_starts(self) -> bool:
        """Whether each start has episodes of its own, so that what is known holds for it alone."""
        return type(self.world).sample_beside is not envs.World.sample_beside

    def begin(self) -> tuple[Start, Goal]:
        """Another start, and a goal for it."""
        seed = int(self._rng.integers(2**31))
        observation, info = self.world.reset(seed=seed)
        state = observation["state"]
        if not self.settable:
            start = Start({"seed": seed, "options": {"goal": None}}, state, f"--seed={seed}")
            return start, self._goal(info["goal_state"], self.world.goal_picture)
        words = f"--state={','.join(f'{value:.6g}' for value in state)}"
        options = {"options": {"state": state, "goal_state": state}}
        return Start(options, state, words), self._goal(info["goal_state"])

    def another(self, state: np.ndarray) -> Goal:
        """A goal from the world's own distribution, for an episode in which `state` (S,) occurs."""
        if self.settable:
            return self._goal(self.world.sample_beside(self._rng, state))
        _, info = self.world.reset(seed=int(self._rng.integers(2**31)))
        return self._goal(info["goal_state"], self.world.goal_picture)

    def at(self, state: np.ndarray, pixels: np.ndarray) -> Goal:
        """A state (S,) that the agent sees as pixels."""
        return self._goal(state, pixels)

    def of_picture(self, data: bytes, state: np.ndarray) -> Goal:
        """The goal that an image file shows; its state, too, if it carries one that goes with state (S,)."""
        picture, text = pictures.read(data)
        shown = None
        if self.settable and text is not None and text.env == self.name:
            try:
                check_state(self.world, text.state, "the goal's state")
                shown = self.world.check_state(text.state)
                self.world.check_goal(state, shown)
            except USER_ERRORS:
                shown = None
        return self._goal(shown, picture)

    def dragged(self, order: Order, state: np.ndarray | None) -> np.ndarray | None:
        """The state (S,) that a "move", "nudge" or "turn" makes of this one; None where the world cannot be
        like that. ConfigError for what cannot be moved so at all."""
        handle = self.handles.get(order.handle)
        if handle is None:
            raise ConfigError(f"there is no handle {order.handle!r} in this world")
        if state is None:
            raise ConfigError("in a picture whose state is not known, nothing can be dragged")
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
            return self.world.check_state(moved)
        except envs.WorldError:
            return None

    def moved(self, state: np.ndarray) -> Goal:
        """The goal that this state (S,) is."""
        return self._goal(state)

    def message(self, goal: Goal, warning: str | None, *, judged: bool) -> dict[str, Any]:
        """The goal, for the page.   judged: whether an agent has looked at it."""
        places = {}
        if goal.state is not None:
            places = {name: list(map(float, each.at(goal.state))) for name, each in self.handles.items()}
        return {
            "kind": "goal",
            "number": goal.number,
            "png": pictures.png(goal.picture),
            "places": places,
            "known": goal.state is not None,
            "warning": warning,
            "judged": judged,
        }

    def about(self) -> dict[str, Any]:
        """The world's name, its steps a second, and which of its handles can be turned."""
        turns = {name: handle.turn is not None for name, handle in self.handles.items()}
        return {"world": self.name, "hz": self.world.control_hz, "handles": turns}

    def file(self, goal: Goal, start: np.ndarray) -> bytes:
        """The goal as a PNG file, for an episode that begins at the state `start` (S,). For any thread."""
        state = goal.state if self.settable else None
        return pictures.goal_file(goal.picture, state, start, self.name)

    def _goal(self, state: np.ndarray | None, picture: np.ndarray | None = None) -> Goal:
        if state is not None and self.scene is not None:
            picture = self.scene.render_state(state)
        assert picture is not None
        self._goals += 1
        return Goal(self._goals, picture, state)
