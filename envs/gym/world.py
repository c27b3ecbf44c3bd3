"""Any of Gymnasium's environments with rgb_array rendering and a Box of actions, as a world.

    envs.make("gym:Pendulum-v1", image_size=64)

In general such an environment cannot be put into a state. So places are told by how they are reached: a seed
for its reset, and the actions taken from there. The same seed and actions give the same place again.

What is called `state` is the observation, flattened; where that is itself a picture, the frame at 8 x 8 grey.
Success: each component that counts is within `tolerance` standard deviations of what it is at the goal. The
deviations are those under smooth noise, from this world itself. Components count that the name lists
(`goal=0,1`); for the environments in POSITIONS those are where things are and not how fast they move, which a
goal picture cannot show; for others, all.

Time limits are left out. When the environment says that its episode has ended, the world stands still; with
`past_end=true` it goes on, which most simulations can do.

`plain=true` draws Gymnasium's MuJoCo environments without shadows, reflections and multisampling, which are
most of the work where OpenGL is done in software.
"""

from __future__ import annotations

import importlib
import os
import sys
import weakref
from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from PIL import Image

from ..drawing.resize import squeezed
from ..mujoco import gl
from ..world import World, WorldError
from .frames import keep, lacking, let_go, rendered
from .names import GymName, parse
from .policies import Smooth

LARGEST_STATE = 512  # numbers; a longer observation is taken for a picture
THUMB = 8  # side of the grey picture that is then the state
GOAL_STEPS = 25  # of smooth noise, to the goal of a reset that names none
EPISODES, STEPS = 20, 100  # of smooth noise, from which the deviations are taken

# Components of the observation that are positions; those left out are speeds and forces.
POSITIONS = {
    "Ant": 13, "HalfCheetah": 8, "Hopper": 5, "Humanoid": 22, "InvertedDoublePendulum": 5,
    "InvertedPendulum": 2, "MountainCarContinuous": 1, "Pendulum": 2, "Reacher": 4, "Swimmer": 3,
    "Walker2d": 8,
}  # fmt: skip


class GymWorld(World):
    """The Gymnasium environment that `name` says; actions are its own, inside its own bounds.

    reset knows the options "actions" (T, A), taken after the reset and before the episode begins;
    "goal_actions" (G, A), which lead from there to the goal; and "goal_state" (S,) instead, when no picture
    of the goal is asked for (`info["goal"]` is then missing). Rows of NaN at an end count as none.

    Raises:
        WorldError: for an unknown environment, one without frames or with other actions than a bounded Box,
            and for packages that it lacks.
    """

    settable_states = False
    slow_to_draw = True

    def __init__(self, *, name: str, goal_marker: bool = False, **options: Any) -> None:
        if goal_marker:
            raise WorldError(f"{name} cannot draw its goal into the frames: leave out goal_marker.")
        self.name, self.says = name, parse(name)
        self._env = opened(name, self.says)
        weakref.finalize(self, let_go, self._env).atexit = False  # at exit the order matters: see gym_frames
        self._box = action_box(name, self._env.action_space)
        size = state_size(self._env.observation_space)
        self._thumb = size is None
        label = "brightness" if self._thumb else "observation"
        size = THUMB**2 if size is None else size
        vars(self).update(
            state_names=tuple(f"{label}_{i}" for i in range(size)),
            state_low=np.full(size, -np.inf),
            state_high=np.full(size, np.inf),
            action_size=int(np.prod(self._box.shape)),
            control_hz=float(self._env.metadata.get("render_fps") or 30),
        )
        super().__init__(**options)
        low, high = (bound.astype(np.float32).reshape(-1) for bound in (self._box.low, self._box.high))
        self.action_space = spaces.Box(low, high, dtype=np.float32)
        self.parts = goal_parts(name, self.says, size)
        self.ended = False
        self.raw: Any = None  # the environment's own last observation

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
        if unknown:
            raise WorldError(
                f"{self.name} cannot be put into a {unknown[0]}: reset it with a seed, and give the actions "
                "to take from there as the options 'actions' and 'goal_actions'."
            )
        start = int(self.np_random.integers(2**31)) if seed is None else seed
        before = self._actions(options.get("actions", ()))
        goal_state, self._goal_frame = options.get("goal_state"), None
        if goal_state is None:
            there = options.get("goal_actions")
            self.replay(start, before)
            for action in self._noise(start) if there is None else self._actions(there):
                self.play(action)
            frame = rendered(self.name, self._env)
            goal_state, self._goal_frame = self.state(), squeezed(frame, self.image_size)
            self.goal_picture = squeezed(frame, min(*frame.shape[:2], 1024))
        self._goal_state = self.check_state(goal_state, "goal_state")
        self.replay(start, before)
        state = self.state()
        return self._observation(state), self._info(state)

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One step under `action` (A,), clipped to the bounds; the reward is 1 on success, else 0.

        Terminated once the environment has ended its episode: from then on nothing moves any more.
        """
        obs, reward, _, truncated, info = super().step(action)
        return obs, reward, self.ended, truncated, info

    def is_success(self, state: Any, goal_state: Any) -> bool:
        """Every component that counts within the tolerance."""
        away = np.abs(np.asarray(state, float) - np.asarray(goal_state, float))
        return bool((away <= self.says.tolerance * spread(self.name))[self.parts].all())

    @property
    def rule(self) -> str:
        """The rule of success in words and numbers."""
        within = (self.says.tolerance * spread(self.name))[self.parts]
        each = ", ".join(f"{self.state_names[i]} {w:.3g}" for i, w in zip(self.parts, within))
        return f"within {self.says.tolerance:g} standard deviations of the goal: {each}"

    @classmethod
    def too_quick(cls, name: str, reader: Any, steps: int) -> list[str]:
        """Components that count for success and, in a recording's first episodes, correlate by less than 0.5
        with themselves so many steps later: between two frames of a model they move too far to be followed.
        """
        if "state" not in reader.columns:
            return []
        size, rows = len(reader.state_names), slice(0, EPISODES)
        now, later = [], []
        for first, length in zip(reader.offsets[rows], reader.lengths[rows]):
            states = reader.read("state", first, first + length).astype(float)
            now.append(states[:-steps])
            later.append(states[steps:])
        before, after = np.concatenate(now), np.concatenate(later)
        if len(before) < 2:
            return []
        change, variance = np.square(after - before).mean(0), before.var(0) + after.var(0)
        quick = [i for i in goal_parts(name, parse(name), size) if change[i] > 0.5 * variance[i] > 0]
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

    # The environment --------------------------------------------------------------------------------------

    def replay(self, seed: int, actions: Any) -> None:
        """Reset with `seed` and take `actions` (T, A), with nothing drawn."""
        self.raw, _ = self._env.reset(seed=seed)
        self.ended = False
        for action in actions:
            self.play(action)

    def play(self, action: np.ndarray) -> None:
        """One step under `action` (A,), with nothing drawn; none once the episode has ended."""
        if self.ended:
            return
        own = np.asarray(action).reshape(self._box.shape).astype(self._box.dtype)
        self.raw, _, terminated, truncated, _ = self._env.step(own)
        self.ended = bool(terminated or truncated) and not self.says.past_end

    def state(self) -> np.ndarray:
        """The state (S,) now."""
        if self._thumb:
            grey = Image.fromarray(rendered(self.name, self._env)).convert("L")
            return np.asarray(grey.resize((THUMB, THUMB), Image.Resampling.BOX), np.float64).reshape(-1)
        flat = spaces.flatten(self._env.observation_space, self.raw)
        return np.array(flat, np.float64).reshape(-1)

    _move, _state = play, state

    def _place(self, state: np.ndarray) -> None:
        raise WorldError(f"{self.name} cannot be put into a state: reset it with a seed and actions.")

    def _draw(self, marker: np.ndarray | None) -> np.ndarray:
        return squeezed(rendered(self.name, self._env), self.image_size)

    def _info(self, state: np.ndarray) -> dict[str, Any]:
        assert self._goal_state is not None
        seen = {} if self._goal_frame is None else {"goal": self._goal_frame.copy()}
        return {
            **seen,
            "goal_state": self._goal_state.copy(),
            "success": self.is_success(state, self._goal_state),
        }

    def _actions(self, actions: Any) -> np.ndarray:
        """(T, A), up to the first row of NaN."""
        rows = np.asarray(actions, np.float32).reshape(-1, self.action_size)
        bad = np.flatnonzero(np.isnan(rows).any(axis=1))
        return rows[: bad[0]] if len(bad) else rows

    def _noise(self, seed: int) -> list[np.ndarray]:
        noise = Smooth(self.action_space.low, self.action_space.high)  # type: ignore[attr-defined]
        noise.reset(np.random.default_rng([seed, GOAL_STEPS]))
        return [noise.act({}) for _ in range(GOAL_STEPS)]

    def _check_action(self, action: Any) -> np.ndarray:
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


def bring(module: str | None) -> None:
    """Import the module of that name, which registers environments; None: nothing.

    Only ever called with what the user wrote on the command line. Raises WorldError.
    """
    if module is None:
        return
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(module)
    except (ImportError, TypeError, ValueError, SyntaxError) as error:  # the last three: odd names and files
        raise WorldError(f"The module {module} cannot be imported ({error}): check its name.") from error


def opened(name: str, says: GymName) -> gymnasium.Env:
    """The environment, without time limit; WorldError where it cannot be made."""
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws into memory, and needs no screen
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    try:
        if "mujoco" in str(gymnasium.spec(says.id).entry_point):
            if gl.choose() is None:
                raise WorldError(f"{name}: {gl.missing()}")
            _check_camera(name, says.options.get("default_camera_config", {}))
        env = gymnasium.make(
            says.id, render_mode="rgb_array", max_episode_steps=-1, disable_env_checker=True, **says.options
        )
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise lacking(name, error) from error
    except WorldError:
        raise
    except (gymnasium.error.Error, TypeError, ValueError) as error:
        reason = " ".join(str(error).partition(" was raised from the environment creator")[0].split())
        unknown = isinstance(error, gymnasium.error.UnregisteredEnv)
        hint = " If a module of yours registers it, say module=MODULE, or --module MODULE."
        raise WorldError(f"{name} cannot be made: {reason}{hint if unknown else ''}") from error
    modes = env.metadata.get("render_modes") or []
    if "rgb_array" not in modes:
        raise WorldError(f"{name} draws no frames: its render modes are {', '.join(modes) or 'none'}.")
    if says.plain:
        _draw_plainly(name, env)
    keep(env)
    if hasattr(env.unwrapped, "mujoco_renderer"):  # it looks for good where things are when it first draws
        env.reset(seed=0)
        rendered(name, env)
    return env


def _check_camera(name: str, wanted: Any) -> None:
    """WorldError for what Gymnasium's MuJoCo environments would only fail on when they draw."""
    known = ("distance", "azimuth", "elevation", "trackbodyid")
    wrong = [key for key in wanted if key not in known] if isinstance(wanted, dict) else [str(wanted)]
    if wrong:
        raise WorldError(
            f"{name}: a camera has {', '.join(known)} (metres, degrees), as in "
            f"default_camera_config.distance=1, not {', '.join(wrong)}."
        )


def _draw_plainly(name: str, env: gymnasium.Env) -> None:
    model: Any = getattr(env.unwrapped, "model", None)
    if not hasattr(model, "mat_reflectance"):
        raise WorldError(f"{name} is not drawn by MuJoCo, so there is no plain look: leave out plain.")
    model.vis.quality.offsamples = model.vis.quality.shadowsize = 0
    model.mat_reflectance[:] = 0


def action_box(name: str, space: Any) -> spaces.Box:
    """`space`, when it is a bounded Box of real numbers; else a WorldError that says what to do."""
    if not isinstance(space, spaces.Box):
        raise WorldError(
            f"{name} takes actions from {space}, and a planner here searches among real numbers (a Box): "
            "choose the continuous version of the environment, or wrap it so that a Box chooses the action, "
            "as docs/worlds/gym.md shows."
        )
    if space.dtype.kind != "f":  # type: ignore[union-attr]
        raise WorldError(f"{name} takes whole numbers as actions ({space}), and real ones are needed.")
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise WorldError(
            f"{name} takes actions without bounds ({space}), and a planner has to know where to search: "
            "register it wrapped so that its action space has finite bounds, see docs/worlds/gym.md."
        )
    return space


def state_size(space: spaces.Space) -> int | None:
    """Numbers in a flattened observation; None where that is a picture, or no numbers of a fixed count."""
    try:
        size = spaces.flatdim(space)
    except (NotImplementedError, ValueError):
        return None
    picture = isinstance(space, spaces.Box) and len(space.shape) == 3
    return None if picture or not 0 < size <= LARGEST_STATE else size


def goal_parts(name: str, says: GymName, size: int) -> np.ndarray:
    """Which components of the state count for success."""
    if says.goal is None:
        known = POSITIONS.get(says.id.rpartition("-v")[0])
        return np.arange(min(known or size, size))
    if says.goal[-1] >= size:
        raise WorldError(
            f"{name} has observations of {size} numbers, counted from 0: none is {says.goal[-1]}."
        )
    return np.array(says.goal)


@lru_cache(maxsize=8)
def spread(name: str) -> np.ndarray:
    """(S,) standard deviation of the state under smooth noise; 1 where it never changes."""
    world = GymWorld(name=name, image_size=16)
    episodes = EPISODES // 4 if world._thumb else EPISODES  # those have to be drawn
    noise = Smooth(world.action_space.low, world.action_space.high)  # type: ignore[attr-defined]
    seen = []
    for episode in range(episodes):
        world.replay(episode, [])
        noise.reset(np.random.default_rng([episode, STEPS]))
        seen.append(world.state())
        for _ in range(STEPS):
            if not world.ended:
                world.play(noise.act({}))
                seen.append(world.state())
    world.close()
    deviation = np.std(seen, axis=0)
    return np.where(deviation > 1e-6, deviation, 1.0)
