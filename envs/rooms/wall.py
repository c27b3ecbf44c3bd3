"""Wall: TwoRoom with the wall and its door somewhere else in every episode.

After the Wall of DINO-WM (arXiv 2411.04983; github.com/gaoyuezhou/dino_wm, env/wall), whose plane is 65 px
wide: the same ranges of wall and door, the same success rule, scaled to TwoRoom's plane of 224 x 224 px. The
agent's size and speed, the wall's thickness and how one slides along it are TwoRoom's.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..world import WorldError
from .frames import SIDE, Frames, Layout, SmoothFrames
from .two_room import TwoRoom

WALL_RANGE = (69, 155)  # px: 20 to 45 of DINO-WM's 65
DOOR_RANGE = (35, 189)  # px: 10 to 55 of 65
NEAR = 4.5 / 65 * SIDE  # px, 15.5


class Wall(TwoRoom):
    """Walk the dot through the door, wherever that is, to where the goal frame shows it.

    The state is the dot's x, y, and the layout, which an episode never changes: the x of the wall's middle
    and the y of its door's, in px of 224. An action (2,) moves the dot by 5 px at most along each axis.
    Success: closer than 15.5 px to a goal of the same layout. A start or goal that is not given has the
    layout of the one that is; with neither, the layout is drawn. `reference_look` changes nothing.
    """

    state_names = ("agent_x", "agent_y", "wall_x", "door_y")
    state_low = np.array([0.0, 0.0, WALL_RANGE[0], DOOR_RANGE[0]])
    state_high = np.array([SIDE, SIDE, WALL_RANGE[1], DOOR_RANGE[1]])

    def _make_frames(self) -> Frames:
        return SmoothFrames(self.image_size)  # at 224 px too: there are no published frames to equal

    def _layout_of(self, state: np.ndarray) -> Layout:
        return Layout(float(state[2]), float(state[3]))

    def sample_state(self, rng: np.random.Generator) -> np.ndarray:
        """Any layout, in whole px, and the dot anywhere in its two rooms: (4,)."""
        layout = [float(rng.integers(low, high + 1)) for low, high in (WALL_RANGE, DOOR_RANGE)]
        return np.array([*self._sample_place(rng, layout[0]), *layout])

    def sample_beside(self, rng: np.random.Generator, other: np.ndarray) -> np.ndarray:
        """The dot anywhere in the two rooms of the state `other`: (4,)."""
        return np.array([*self._sample_place(rng, float(other[2])), *other[2:]])

    def check_state(self, state: Any, name: str = "state") -> np.ndarray:
        """`state` as a new array (4,), or a WorldError when it is no place in the frame or no such layout."""
        array = super().check_state(state, name)
        for value, label, (low, high) in zip(array[2:], self.state_names[2:], (WALL_RANGE, DOOR_RANGE)):
            if not low <= value <= high:
                raise WorldError(f"{name} has {label} = {value:g}; it must lie between {low} and {high} px.")
        return array

    def check_goal(self, start: np.ndarray, goal: np.ndarray) -> None:
        """Raise WorldError where the goal shows another layout than the start."""
        if not _same_layout(start, goal):
            raise WorldError(
                f"The goal's wall and door are at {goal[2:].tolist()} and the start's at "
                f"{start[2:].tolist()}: give both the same wall_x and door_y."
            )

    def is_success(self, state: Any, goal_state: Any, *, tight: float = 1.0) -> bool:
        """Closer than 15.5 px (4.5 of 65), in the goal's own layout."""
        away = math.hypot(float(state[0]) - float(goal_state[0]), float(state[1]) - float(goal_state[1]))
        return away < NEAR / tight and _same_layout(state, goal_state)

    def render_state(self, state: Any) -> np.ndarray:
        """The frame of `state` (4,)."""
        x, y, *layout = self.check_state(state).tolist()
        return self._frames.draw(x, y, None, Layout(*layout))

    def _place(self, state: np.ndarray) -> None:
        self._x, self._y, *layout = state.tolist()
        self._layout = Layout(*layout)

    def _state(self) -> np.ndarray:
        return np.array([self._x, self._y, *self._layout])


def _same_layout(state: Any, other: Any) -> bool:
    return all(abs(float(a) - float(b)) < 0.01 for a, b in zip(state[2:4], other[2:4]))
