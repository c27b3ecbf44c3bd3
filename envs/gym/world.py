"""Any of Gymnasium's environments with rgb_array rendering, as a world.

    envs.make("gym:Pendulum-v1", image_size=64)

In general such an environment cannot be put into a state. So places are told by how they are reached: a seed
for its reset, and the actions taken from there. The same seed and actions give the same place again.

What is called `state` is the observation, flattened (envs.gym.components); where that is itself a picture,
the frame at 8 x 8 grey. Success: each component that counts is within `tolerance` standard deviations of what
it is at the goal. The deviations are those under smooth noise, from this world itself. Components count that
the name lists (`goal=0,1`); for the environments in POSITIONS those are where things are and not how fast
they move, which a goal picture cannot show; of a GoalEnv what it calls `achieved_goal`; for others, all. A
GoalEnv that reports its success and whose rule can be asked (envs.gym.own_rule) is judged by that, unless its
name says otherwise.

Time limits are left out. When the environment says that its episode has ended, the world stands still; with
`past_end=true` it goes on, which most simulations can do.

Where its observation is a dictionary with pictures, these are cameras by their keys, next to `pixels`, the
frame that it renders; the state is what else it observes. The robot's own vector is the state, too.

`plain=true` draws Gymnasium's MuJoCo environments without shadows, reflections and multisampling, which are
most of the work where OpenGL is done in software.
"""

from __future__ import annotations

import weakref
from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from PIL import Image

from latent_planner.common.action_space import ActionSpaceError

from .. import views as known_views
from ..drawing.resize import squeezed
from ..world import World, WorldError
from .components import (
    REACHED,
    Ranges,
    goal_parts,
    measured,
    pictures,
    seen,
    seen_space,
    state_names,
    state_size,
    upright,
)
from .failures import in_a_sentence
from .frames import blank, let_go, nothing_drawn, rendered
from .making import action_parts, opened
from .names import TOLERANCE, parse
from .own_rule import rule, way_of
from .policies import Smooth

THUMB = 8  # side of the grey picture that is then the state
GOAL_STEPS = 25  # of smooth noise, to the goal of a reset that names none
FIRST_EPISODES = 20  # of a recording, that `too_quick` reads


class GymWorld(World):
    """The Gymnasium environment that `name` says; actions are its own, inside its own bounds. Those that are
    not a Box alone may also be given as a row of numbers, as recordings have them.

    reset knows the options "actions" (T, A), taken after the reset and before the episode begins;
    "goal_actions" (G, A), which lead from there to the goal; and "goal_state" (S,) instead, when no picture
    of the goal is asked for (`info["goal"]` is then missing). Rows of NaN at an end count as none. "goal":
    None leaves out goal and success, which take time to find; `info` is then empty.

    drawn: whether frames will be asked for. Some environments step faster where none are.

    Raises:
        WorldError: for an unknown environment, one without frames or with other actions than a bounded Box,
            and for packages that it lacks.
    """

    settable_states = False
    slow_to_draw = True

    def __init__(self, *, name: str, goal_marker: bool = False, drawn: bool = True, **options: Any) -> None:
        if goal_marker:
            raise WorldError(f"{name} cannot draw its goal into the frames: leave out goal_marker.")
        self.name, self.says = name, parse(name)
        self._env = opened(name, self.says, drawn=drawn)
        self._seen = seen_space(self._env.observation_space)
        size = state_size(self._seen)
        self.has_thumb = size is None
        if self.has_thumb and not drawn:
            let_go(self._env)
            self._env = opened(name, self.says)
        weakref.finalize(self, let_go, self._env).atexit = False  # at exit the order matters: see frames
        self.actions, self._low, self._high = action_parts(name, self._env.action_space)
        brightness = tuple(f"brightness_{i}" for i in range(THUMB**2))
        names = brightness if size is None else state_names(self._seen)
        vars(self).update(
            views=(known_views.PIXELS, *pictures(self._env.observation_space)),
            proprio_names=() if self.has_thumb else names,
            state_names=names,
            state_low=np.full(len(names), -np.inf),
            state_high=np.full(len(names), np.inf),
            action_size=len(self._low),
            control_hz=float(self._env.metadata.get("render_fps") or 30),
        )
        super().__init__(**options)
        if self.actions.parts:
            self.action_space = self._env.action_space
        else:
            self.action_space = spaces.Box(self._low, self._high, dtype=np.float32)
        self.parts = goal_parts(name, self.says, names)
        self.ended = False
        self.raw: Any = None  # the environment's own last observation
        self.told: dict[str, Any] = {}  # its own last info

    @property
    def action_low(self) -> np.ndarray:
        """(A,): the least of each number of an action; of choices, the first."""
        return self._low

    @property
    def action_high(self) -> np.ndarray:
        """(A,): the most of each number of an action; of choices, the last."""
        return self._high

    # Places -----------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode: the environment's own reset with `seed`, then what the options say.

        A goal that is not given is where smooth noise leads in 25 steps.
        """
        gymnasium.Env.reset(self, seed=seed)
        options = options or {}
        unknown = sorted(set(options) - {"actions", "goal_actions", "goal_state"})
        if options.get("goal", self) is None:
            unknown.remove("goal")
        if unknown:
            raise WorldError(
                f"{self.name} cannot be put into a {unknown[0]}: reset it with a seed, and give the actions "
                "to take from there as the options 'actions' and 'goal_actions'."
            )
        start = int(self.np_random.integers(2**31)) if seed is None else seed
        before = self._actions(options.get("actions", ()))
        self._goal_state, self._goal_seen, self.goal_picture = None, {}, None
        if "goal" not in options:
            self._set_goal(start, before, options)
        self.replay(start, before)
        state = self.state()
        return self._observation(state), self._info(state)

    def _set_goal(self, start: int, before: np.ndarray, options: dict[str, Any]) -> None:
        """Take the goal from the options, or go there and look."""
        goal_state = options.get("goal_state")
        if goal_state is None:
            there = options.get("goal_actions")
            self.replay(start, before)
            for action in self._noise(start) if there is None else self._actions(there):
                self.play(action)
            frame = rendered(self.name, self._env)
            if blank(frame):
                raise WorldError(nothing_drawn(self.name, "draws a goal picture of one colour"))
            state = goal_state = self.state()
            self._goal_seen = self._shown(lambda view: self._draw_from(view, None), state)
            self.goal_picture = squeezed(frame, min(*frame.shape[:2], 1024))
        self._goal_state = self.check_state(goal_state, "goal_state")
        if not self._goal_seen and self.proprio:
            self._goal_seen = {known_views.VECTOR: self.vector(self._goal_state).astype(np.float32)}

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One step under `action` (A,), clipped to the bounds; the reward is 1 on success, else 0.

        Terminated once the environment has ended its episode: from then on nothing moves any more.
        """
        if self.raw is None:
            raise WorldError("Call reset before step.")
        self.play(self._check_action(action))
        state = self.state()
        info = self._info(state)
        return self._observation(state), float(info.get("success", False)), self.ended, False, info

    def render(self) -> np.ndarray:
        """The current frame, uint8 (H, W, 3)."""
        if self.raw is None:
            raise WorldError("Call reset before render.")
        return self._draw(None)

    def picture(self, size: int) -> np.ndarray:
        """The current frame, drawn as large as the environment does and squeezed to (size, size, 3)."""
        return squeezed(rendered(self.name, self._env), size)

    def is_success(self, state: Any, goal_state: Any, *, tight: float = 1.0) -> bool:
        """By the environment's own rule, which has one tightness, or every component that counts within the
        tolerance."""
        reached, wanted = (np.asarray(given, float)[self.parts] for given in (state, goal_state))
        own = self._own_rule()
        if own is not None:
            shape = self._seen[REACHED].shape  # type: ignore[index]
            with in_a_sentence(self.name, "fails when it judges success"):
                return bool(own(reached.reshape(shape), wanted.reshape(shape)))
        return bool((np.abs(reached - wanted) <= self._within() / tight).all())

    @property
    def rule(self) -> str:
        """The rule of success in words and numbers."""
        if self._own_rule() is not None:
            names = ", ".join(self.state_names[i] for i in self.parts)
            return f"the environment's own, for the goal's {names}"
        each = ", ".join(f"{self.state_names[i]} {w:.3g}" for i, w in zip(self.parts, self._within()))
        return f"within {self.says.tolerance:g} standard deviations of the goal: {each}"

    def _within(self) -> np.ndarray:
        """(P,) how far from the goal each component that counts may be."""
        within: np.ndarray = self.says.tolerance * ranges(self.name).deviation[self.parts]
        return within

    def _own_rule(self) -> Any:
        """The environment's own rule, where it has one that the name does not replace; else None."""
        replaced = self.says.goal is not None or self.says.tolerance != TOLERANCE
        goal_env = isinstance(self._seen, spaces.Dict) and REACHED in self._seen.spaces and not self.has_thumb
        way = own_way(self.name) if goal_env and not replaced else None
        return None if way is None else rule(self._env, way)

    @classmethod
    def too_quick(cls, name: str, reader: Any, steps: int) -> list[str]:
        """Components that count for success and, in a recording's first episodes, correlate by less than 0.5
        with themselves so many steps later: between two frames of a model they move too far to be followed.
        """
        if "state" not in reader.columns:
            return []
        names, rows = reader.state_names, slice(0, FIRST_EPISODES)
        now, later = [], []
        for first, length in zip(reader.offsets[rows], reader.lengths[rows]):
            states = reader.read("state", first, first + length).astype(float)
            now.append(states[:-steps])
            later.append(states[steps:])
        before, after = np.concatenate(now), np.concatenate(later)
        if len(before) < 2:
            return []
        change, variance = np.square(after - before).mean(0), before.var(0) + after.var(0)
        quick = [i for i in goal_parts(name, parse(name), tuple(names)) if change[i] > 0.5 * variance[i] > 0]
        return [reader.state_names[i] for i in quick]

    def sample_state(self, rng: np.random.Generator) -> np.ndarray:
        """The state (S,) of one reset."""
        self.replay(int(rng.integers(2**31)), [])
        return self.state()

    def render_state(self, state: Any) -> np.ndarray:
        """There is no way to do this."""
        raise WorldError(f"{self.name} cannot be put into a state, so there is no frame of one.")

    def close(self) -> None:
        """Let go of the environment."""
        let_go(self._env)

    @property
    def env(self) -> gymnasium.Env:
        """The environment itself."""
        return self._env

    # The environment --------------------------------------------------------------------------------------

    def replay(self, seed: int, actions: Any) -> None:
        """Reset with `seed` and take `actions` (T, A), with nothing drawn."""
        with in_a_sentence(self.name, "fails when it is reset"):
            self.raw, self.told = self._env.reset(seed=seed)
        self.ended = False
        for action in actions:
            self.play(action)

    def play(self, action: np.ndarray) -> None:
        """One step under `action` (A,), with nothing drawn; none once the episode has ended."""
        if self.ended:
            return
        own: Any = self.actions.own_form(action)
        if not self.actions.parts:
            box: Any = self._env.action_space
            own = np.asarray(action).reshape(box.shape).astype(box.dtype)
        with in_a_sentence(self.name, "fails in a step"):
            self.raw, _, terminated, truncated, self.told = self._env.step(own)
        self.ended = bool(terminated or truncated) and not self.says.past_end

    def state(self) -> np.ndarray:
        """The state (S,) now."""
        if self.has_thumb:
            grey = Image.fromarray(rendered(self.name, self._env)).convert("L")
            return np.asarray(grey.resize((THUMB, THUMB), Image.Resampling.BOX), np.float64).reshape(-1)
        with in_a_sentence(self.name, "observes something else than it declares"):
            state = seen(self._seen, self.raw)
        if len(state) != len(self.state_names):
            raise WorldError(
                f"{self.name} observes {len(state)} numbers and declares {len(self.state_names)}: its "
                "observation_space has to say what it observes."
            )
        return state

    _move, _state = play, state

    def _place(self, state: np.ndarray) -> None:
        raise WorldError(f"{self.name} cannot be put into a state: reset it with a seed and actions.")

    def _draw(self, marker: np.ndarray | None) -> np.ndarray:
        return self._draw_from(next(iter(self.columns)), marker)

    def _draw_from(self, view: str, marker: np.ndarray | None) -> np.ndarray:
        if view == known_views.PIXELS:
            return squeezed(rendered(self.name, self._env), self.image_size)
        with in_a_sentence(self.name, f"observes no picture {view!r} though it declares one"):
            return squeezed(upright(self.raw[view]), self.image_size)

    def _info(self, state: np.ndarray) -> dict[str, Any]:
        if self._goal_state is None:
            return {}
        near = self.is_success(state, self._goal_state, tight=2.0)
        return {
            **self._goal_info(),
            "goal_state": self._goal_state.copy(),
            "success": self.is_success(state, self._goal_state),
            **({"near": near} if self._own_rule() is None else {}),
        }

    def _actions(self, actions: Any) -> np.ndarray:
        """(T, A), up to the first row of NaN."""
        rows = np.asarray(actions, np.float32).reshape(-1, self.action_size)
        bad = np.flatnonzero(np.isnan(rows).any(axis=1))
        return rows[: bad[0]] if len(bad) else rows

    def _noise(self, seed: int) -> list[np.ndarray]:
        noise = Smooth(self._low, self._high, self.actions)
        noise.reset(np.random.default_rng([seed, GOAL_STEPS]))
        return [noise.act({}) for _ in range(GOAL_STEPS)]

    def _check_action(self, action: Any) -> np.ndarray:
        if self.actions.parts:
            try:
                return self.actions.row(action).clip(self._low, self._high)
            except ActionSpaceError as error:
                raise WorldError(f"{self.name}: {error}") from None
        space: Any = self.action_space
        try:
            array = np.asarray(action, np.float32)
        except (TypeError, ValueError):
            array = np.full(0, np.nan)
        if array.shape != space.shape or not np.isfinite(array).all():
            raise WorldError(
                f"An action of {self.name} is {self.action_size} finite numbers between "
                f"{space.low.tolist()} and {space.high.tolist()}, not {action!r}."
            )
        return array.clip(space.low, space.high)


@lru_cache(maxsize=8)
def ranges(name: str) -> Ranges:
    """How far the components of the state range under smooth noise, measured when it is first asked."""
    world = undrawn(name)
    found = measured(world)
    world.close()
    return found


@lru_cache(maxsize=8)
def own_way(name: str) -> str | None:
    """How the environment's own rule of success can be asked; None where it cannot."""
    world = undrawn(name)
    found = way_of(world)
    world.close()
    return found


def described(name: str) -> list[str]:
    """Lines that say what the components of the state are, how far each ranges, and what success is."""
    world = undrawn(name)
    found = ranges(name)
    lines = [f"{name}: {len(world.state_names)} numbers under smooth noise; * counts for success"]
    width = max(map(len, world.state_names))
    for i, label in enumerate(world.state_names):
        mark = "*" if i in world.parts else " "
        lines.append(f"{mark} {i:3d}  {label:{width}s}  {found.low[i]:10.4g} to {found.high[i]:10.4g}")
    lines.append(f"success: {world.rule}")
    world.close()
    return lines


def undrawn(name: str) -> GymWorld:
    """The world for states alone: without drawing, where the environment can be made so."""
    try:
        return GymWorld(name=name, image_size=16, drawn=False)
    except WorldError:
        return GymWorld(name=name, image_size=16)
