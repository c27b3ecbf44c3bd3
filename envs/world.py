"""What every world shares: the Gymnasium interface, goals, success, states and frames.

A world is a `gymnasium.Env` with observations `{"pixels": uint8 (H, W, 3), "state": float64 (S,)}` and
actions in [-1, 1]^A. A subclass says how it moves and how it is drawn; this class does the rest.

Where several cameras or the robot's own vector are asked for, observations hold them as `pixels_<name>` and
`proprio` float32 (P,), and `info["goal_observation"]` all that would be seen at the goal, without the state.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces

from latent_planner.common.action_space import NUMBERS, ActionSpace

from . import factors as variation
from . import views as known_views
from .drawing.resize import squeezed
from .errors import WorldError
from .handles import Handle
from .looks import words

__all__ = ["World", "WorldError"]

_OPTIONS = ("state", "goal_state", "factors", "vary", "shown")
SHOWN = ("both", "scene", "goal")  # whose pictures show the look that an episode draws


class World(gymnasium.Env):
    """Base of the worlds.

    Args:
        image_size: height and width of the frames, 16 to 1024.
        goal_marker: draw the goal into observations and `render()`; the goal frame itself never shows it.
        reference_look: look and move as the world's published version where ours differs, for models
            that learned from its recordings; see the subclass.
        render_mode: None or "rgb_array", as Gymnasium asks; `render()` works in both cases.
        cameras: names of `views` to observe, the first as `pixels`; None: the usual one alone.
        proprio: whether to observe the robot's own vector, whose components are `proprio_names`.

    Raises:
        WorldError: for a size, state or action that cannot be used; `goal_marker` with `reference_look`; a
            camera or vector that this world does not have.
    """

    state_names: ClassVar[tuple[str, ...]]
    angle_names: ClassVar[tuple[str, ...]] = ()
    views: ClassVar[tuple[str, ...]] = (known_views.PIXELS,)  # its cameras, the usual one first
    proprio_names: ClassVar[tuple[str, ...]] = ()  # of the robot's own vector, where there is one
    action_size: ClassVar[int] = 2
    control_hz: ClassVar[float]
    state_low: ClassVar[np.ndarray]
    state_high: ClassVar[np.ndarray]
    reference_marker: ClassVar[np.ndarray | None] = None  # state whose goal marker published frames all show
    factors: ClassVar[dict[str, variation.Factor]] = {}  # what may look or move otherwise, by name
    reference_clips: ClassVar[bool] = True  # whether the published world clips actions
    settable_states: ClassVar[bool] = True  # whether an episode can begin, and a frame show, any given state
    slow_to_draw: ClassVar[bool] = False  # whether a frame takes milliseconds at any size
    actions: ActionSpace = NUMBERS  # what an action is made of
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(
        self,
        *,
        image_size: int = 64,
        goal_marker: bool = False,
        reference_look: bool = False,
        render_mode: str | None = None,
        cameras: Sequence[str] | str | None = None,
        proprio: bool = False,
    ) -> None:
        if isinstance(image_size, bool) or not isinstance(image_size, (int, np.integer)):
            raise WorldError(
                f"image_size is a whole number of pixels between 16 and 1024, not {image_size!r}."
            )
        if not 16 <= image_size <= 1024:
            raise WorldError(f"image_size must lie between 16 and 1024, and {image_size} does not.")
        if render_mode not in (None, "rgb_array"):
            raise WorldError(f"render_mode is None or 'rgb_array', not {render_mode!r}.")
        self.image_size = int(image_size)
        if goal_marker and reference_look:
            raise WorldError(
                "Published frames have no marker at the goal: leave out goal_marker or reference_look."
            )
        self.goal_marker, self.reference_look = bool(goal_marker), bool(reference_look)
        self.render_mode = render_mode
        label = getattr(self, "name", type(self).__name__)
        self.columns = known_views.columns(cameras, self.views, label)  # of each camera that is observed
        if proprio and not self.proprio_names:
            raise WorldError(f"{label} has no vector of a robot's own: leave out proprio.")
        self.proprio, self.several = bool(proprio), cameras is not None or bool(proprio)
        self.observation_space = spaces.Dict(self._spaces())
        self.action_space = spaces.Box(-1.0, 1.0, (self.action_size,), np.float32)
        self._varied: dict[str, Any] = {}
        self._frames: Any = None  # what draws, of `_frames_for`, where the subclass draws so
        self.moment = 0.0  # control steps since the reset; clutter that moves is where it is then
        self.draws = True  # whether observations have frames; without, for a policy that does not look
        self._goal_state: np.ndarray | None = None
        self._goal_seen: dict[str, np.ndarray] = {}  # what would be observed there
        self.goal_picture: np.ndarray | None = None  # info["goal"] of the last reset, where it comes larger

    def _spaces(self) -> dict[str, spaces.Space]:
        frame = spaces.Box(0, 255, (self.image_size, self.image_size, 3), np.uint8)
        seen: dict[str, spaces.Space] = {column: frame for column in self.columns.values()}
        if self.proprio:
            seen[known_views.VECTOR] = spaces.Box(-np.inf, np.inf, (len(self.proprio_names),), np.float32)
        return seen | {"state": spaces.Box(self.state_low, self.state_high, dtype=np.float64)}

    @property
    def action_low(self) -> np.ndarray:
        """(A,): the least of each number of an action; of choices, the first."""
        low: np.ndarray = self.action_space.low  # type: ignore[attr-defined]
        return low

    @property
    def action_high(self) -> np.ndarray:
        """(A,): the most of each number of an action; of choices, the last."""
        high: np.ndarray = self.action_space.high  # type: ignore[attr-defined]
        return high

    # What a subclass provides -----------------------------------------------------------------------------

    def sample_state(self, rng: np.random.Generator) -> np.ndarray:
        """One state (S,) of the world's own start distribution."""
        raise NotImplementedError

    def _vary(self, varied: dict[str, Any]) -> None:
        """Look and move from now on as these values of `factors` say, and else as always."""

    def within_limits(self, action: np.ndarray) -> np.ndarray:
        """`action` (A,), changed as little as needed for the driven thing to stay where recordings have it.

        For worlds in which nothing else stops it; `step` does not ask.
        """
        return action

    def _is_clear(self, state: np.ndarray) -> bool:
        """Whether things stand apart in `state` (S,), so that an episode can start there."""
        return True

    def sample_beside(self, rng: np.random.Generator, other: np.ndarray) -> np.ndarray:
        """One state (S,) for an episode in which `other` (S,) occurs: what never changes is as there."""
        return self.sample_state(rng)

    def is_success(self, state: Any, goal_state: Any, *, tight: float = 1.0) -> bool:
        """The published success rule, on two states (S,).   tight: how many times as near as that asks."""
        raise NotImplementedError

    def _place(self, state: np.ndarray) -> None:
        """Put the simulation into `state`, with no memory of what was before."""
        raise NotImplementedError

    def _move(self, action: np.ndarray) -> None:
        """Advance the simulation by one control step under a checked, clipped float32 action (A,)."""
        raise NotImplementedError

    def _state(self) -> np.ndarray:
        """The current state (S,) as a new float64 array."""
        raise NotImplementedError

    def _draw(self, marker: np.ndarray | None) -> np.ndarray:
        """The current frame, with the goal of the state `marker` drawn when that is given."""
        return self._draw_with(self._frames, marker)

    def _frames_for(self, varied: dict[str, Any]) -> Any:
        """What draws this world, moving as it now does, under these values of `factors`."""
        raise WorldError(f"{type(self).__name__} has one look, so data.vary is not for it: leave it out.")

    def _draw_with(self, frames: Any, marker: np.ndarray | None) -> np.ndarray:
        """As `_draw`, with what `_frames_for` made."""
        raise NotImplementedError

    def render_state(self, state: Any) -> np.ndarray:
        """The frame (H, W, 3) of `state` (S,), without goal marker; the running simulation is left alone.

        Raises WorldError without `settable_states`.
        """
        raise NotImplementedError

    def _draw_from(self, view: str, marker: np.ndarray | None) -> np.ndarray:
        """As `_draw`, through the camera `view`; for worlds with several."""
        return self._draw(marker)

    def render_from(self, view: str, state: Any) -> np.ndarray:
        """As `render_state`, through the camera `view`; for worlds with several."""
        return self.render_state(state)

    def vector(self, state: np.ndarray) -> np.ndarray:
        """The robot's own vector (P,) in `state` (S,); here those of its numbers that have the same names."""
        return state[[self.state_names.index(name) for name in self.proprio_names]]

    def handles(self) -> dict[str, Handle]:
        """What can be dragged or turned in a frame, by name; none where the world names none."""
        return {}

    @classmethod
    def without_reference_marker(cls, frame: np.ndarray) -> np.ndarray:
        """A frame uint8 (H, W, 3) of any size without the goal marker of the published look; itself where no
        such marker is seen."""
        return frame

    @classmethod
    def too_quick(cls, name: str, reader: Any, steps: int) -> list[str]:
        """Numbers of the state that a recording shows to move too far within `steps` steps to be followed.

        name: of the world.   reader: the open recording.
        """
        return []

    # The Gymnasium interface ------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Start an episode.

        `options` may hold "state" and "goal_state", each (S,); what is missing is drawn from the world's
        own start distribution, in the layout of the other where layouts differ. From equal states two
        resets give trajectories that are equal bit for bit.

        It may also hold "factors", a mapping from names of `factors` to values or, for numbers, ranges, and
        "vary", names, groups or looks to be drawn: see envs.looks.words. They hold until the next reset, in
        the goal's frame too; the values are then in `info["factors"]`. With "shown" as "scene" or "goal" only
        the frames or only the goal's frame look so, and the other has colours, ground, light, camera and
        clutter as usual.
        """
        super().reset(seed=seed)
        options = options or {}
        unknown = sorted(set(options) - set(_OPTIONS))
        if unknown:
            raise WorldError(f"reset knows the options {', '.join(map(repr, _OPTIONS))}, not {unknown[0]!r}.")
        label = type(self).__name__
        asked = words.read(self.factors, options.get("factors", {}), options.get("vary", ()), label)
        shown = options.get("shown", SHOWN[0])
        if shown not in SHOWN:
            raise WorldError(f"The option shown is one of {', '.join(map(repr, SHOWN))}, not {shown!r}.")
        start, goal = self._start_and_goal(options.get("state"), options.get("goal_state"))
        start, varied = self._vary_start(start, asked)
        clean = {name: v for name, v in varied.items() if self.factors[name].group not in variation.LOOKS}
        self._look_as(clean if shown == "scene" else varied)
        self._set_goal_state(goal)
        self._look_as(clean if shown == "goal" else varied)
        self._place(start)
        self.moment = 0.0
        state = self._state()
        info = self._info(state)
        return self._observation(state), {**info, "factors": dict(varied)} if varied else info

    def step(self, action: Any) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One control step under `action` (A,), clipped to [-1, 1]; the reward is 1 on success, else 0.

        With `reference_look`, a world whose published version does not clip does not either.

        An episode never ends by itself: success is told in `info["success"]` only. `info["near"]` is success
        by a rule twice as tight.
        """
        if self._goal_state is None:
            raise WorldError("Call reset before step.")
        self._move(self._check_action(action))
        self.moment += 1.0
        state = self._state()
        info = self._info(state)
        return self._observation(state), float(info["success"]), False, False, info

    def render(self) -> np.ndarray:
        """The current frame, uint8 (H, W, 3)."""
        if self._goal_state is None:
            raise WorldError("Call reset before render.")
        return self._draw(self._marker())

    def drawn_in(self, varied: Mapping[str, Any]) -> Callable[[], np.ndarray]:
        """What draws the current frame, now and later, under other values of `factors` of its looks.

        WorldError for a world that has one look.
        """
        frames = self._frames_for({**self._varied, **varied})
        return lambda: self._draw_with(frames, self._marker())

    def picture(self, size: int) -> np.ndarray:
        """The current frame as people look at it, uint8 (size, size, 3)."""
        return squeezed(self.render(), size)

    def set_state(self, state: Any) -> None:
        """Continue from `state` (S,), all simulator memory cleared; the goal stays."""
        self._place(self.check_state(state))
        if self._goal_state is None:
            self._set_goal_state(self._state())

    def _set_goal_state(self, goal: np.ndarray) -> None:
        self._goal_state = goal
        self._goal_seen = self._shown(lambda view: self.render_from(view, goal), goal)

    def _look_as(self, varied: dict[str, Any]) -> None:
        if varied != self._varied:
            self._varied = varied
            self._vary(varied)

    def _start_and_goal(self, start: Any, goal: Any) -> tuple[np.ndarray, np.ndarray]:
        """Both checked, or drawn where they are None; both are always drawn, so that a seed stays a seed."""
        rng = self.np_random
        start = None if start is None else self.check_state(start)
        goal = None if goal is None else self.check_state(goal, "goal_state")
        drawn = self.sample_state(rng) if goal is None else self.sample_beside(rng, goal)
        start = drawn if start is None else start
        drawn = self.sample_beside(rng, start)
        goal = drawn if goal is None else goal
        self.check_goal(start, goal)
        return start, goal

    def _vary_start(
        self, start: np.ndarray, asked: list[tuple[str, Any]]
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """The start, its entries replaced by those factors "start.…" that are asked for, and all values."""
        if not asked:
            return start, {}
        for _ in range(1000):
            varied = words.values(self.factors, asked, self.np_random)
            moved = start.copy()
            for index, name in enumerate(self.state_names):
                moved[index] = varied.get(f"start.{name}", start[index])
            if np.array_equal(moved, start) or self._is_clear(moved):
                return moved, varied
        raise WorldError("At these start.… factors things would overlap: choose others, or leave one out.")

    # Checks -----------------------------------------------------------------------------------------------

    def check_state(self, state: Any, name: str = "state") -> np.ndarray:
        """`state` as a new float64 array (S,), or a WorldError that says what is wrong with it."""
        size = len(self.state_names)
        try:
            array = np.array(state, dtype=np.float64)
        except (TypeError, ValueError):
            raise WorldError(f"{name} must be {size} numbers ({', '.join(self.state_names)}).") from None
        if array.shape != (size,):
            raise WorldError(
                f"{name} must be {size} numbers ({', '.join(self.state_names)}), not of shape {array.shape}."
            )
        if not np.isfinite(array).all():
            raise WorldError(f"{name} holds NaN or infinity; every one of its {size} numbers must be finite.")
        return array

    def check_goal(self, start: np.ndarray, goal: np.ndarray) -> None:
        """Raise WorldError where no episode can lead from the state `start` to `goal`."""

    def _check_action(self, action: Any) -> np.ndarray:
        wanted = f"An action is {self.action_size} number{'s' * (self.action_size > 1)} in [-1, 1]"
        try:
            array = np.asarray(action, dtype=np.float32)
        except (TypeError, ValueError):
            raise WorldError(f"{wanted}, not {type(action).__name__}.") from None
        if array.shape != (self.action_size,):
            raise WorldError(f"{wanted}, not an array of shape {array.shape}.")
        numbers = array.tolist()
        if not all(map(math.isfinite, numbers)):
            raise WorldError("The action holds NaN or infinity; give finite numbers in [-1, 1].")
        inside = all(-1.0 <= number <= 1.0 for number in numbers)
        return (
            array if inside or (self.reference_look and not self.reference_clips) else array.clip(-1.0, 1.0)
        )

    def _marker(self) -> np.ndarray | None:
        """The state whose goal marker observations show."""
        if self.reference_look:
            return self.reference_marker
        return self._goal_state if self.goal_marker else None

    def _observation(self, state: np.ndarray) -> dict[str, np.ndarray]:
        if not self.draws:
            return {"state": state}
        marker = self._marker()
        return {**self._shown(lambda view: self._draw_from(view, marker), state), "state": state}

    def _shown(self, draw: Callable[[str], np.ndarray], state: np.ndarray) -> dict[str, np.ndarray]:
        """What is observed in `state` (S,), without that.   draw: a camera's name -> its frame."""
        seen = {column: draw(view) for view, column in self.columns.items()}
        if self.proprio:
            seen[known_views.VECTOR] = np.asarray(self.vector(state), np.float32)
        return seen

    def _goal_info(self) -> dict[str, Any]:
        """What `info` shows of the goal."""
        seen = {name: value.copy() for name, value in self._goal_seen.items()}
        shown: dict[str, Any] = {"goal": seen[known_views.PIXELS]} if known_views.PIXELS in seen else {}
        return {**shown, "goal_observation": seen} if self.several else shown

    def _info(self, state: np.ndarray) -> dict[str, Any]:
        assert self._goal_state is not None
        return {
            **self._goal_info(),
            "goal_state": self._goal_state.copy(),
            "success": self.is_success(state, self._goal_state),
            "near": self.is_success(state, self._goal_state, tight=2.0),
        }
