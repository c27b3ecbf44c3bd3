"""TwoRoom: a dot walks from room to room through a door, in a plane of 224 x 224 px.

Movement and drawing follow the TwoRoom of stable-worldmodel (github.com/galilai-group/stable-worldmodel);
frames at 224 px equal its own pixel for pixel.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from ..factors import Choice, Color, Factor, Number, background, pictured
from ..handles import Handle
from ..looks.picture import finished
from ..world import World, WorldError
from .frames import LAYOUT, LOOK, SHAPES, SIDE, Frames, Layout, Look, PublishedFrames, SmoothFrames

SPEED = 5.0  # px a control step under a full action
LOW, HIGH = 21.0, 203.0  # the agent's centre stays between these
FACE = 12.0  # nearer to the wall's middle the agent touches it: 5 px of wall, and its own radius of 7
DOOR_REACH = 15.75  # how far from the door's centre the agent may be and still pass


_SPEED, _DRIFT = "agent.speed", ("drift.x", "drift.y")
FACTORS: dict[str, Factor] = {
    "agent.color": Color("color", LOOK.agent, "of the dot"),
    "wall.color": Color("color", LOOK.wall, "of walls and borders", (0.0, 1.0), (0.0, 0.5)),
    "agent.shape": Choice("shape", LOOK.shape, SHAPES, "of the dot"),
    "agent.size": Number("size", LOOK.size, 0.6, 1.8, "of the dot as it is drawn, in its own radius"),
    **background(),
    **pictured(),
    "start.agent_x": Number("start", None, LOW, HIGH, "where the dot starts, px of 224"),
    "start.agent_y": Number("start", None, LOW, HIGH, "where the dot starts, px of 224"),
    _SPEED: Number("physics", 1.0, 0.5, 1.5, "times 5 px a step, under a full action"),
    _DRIFT[0]: Number("physics", 0.0, -1.0, 1.0, "px a step by which the dot is blown aside"),
    _DRIFT[1]: Number("physics", 0.0, -1.0, 1.0, "px a step by which the dot is blown down"),
}


class TwoRoom(World):
    """Walk the dot to where the goal frame shows it.

    The state is the dot's x, y in px of 224; an action (2,) moves it by 5 px at most along each axis.
    Success: closer than 16 px to the goal. The goal marker is a green dot. `reference_look` changes nothing.
    """

    state_names: ClassVar[tuple[str, ...]] = ("agent_x", "agent_y")
    control_hz = 10.0
    state_low = np.zeros(2)
    state_high = np.full(2, SIDE)
    factors = FACTORS

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._plain_frames = self._frames = self._make_frames()
        self._speed, self._drift = SPEED, (0.0, 0.0)
        self._x = self._y = 0.0
        self._layout = LAYOUT

    def _make_frames(self) -> Frames:
        return PublishedFrames() if self.image_size == int(SIDE) else SmoothFrames(self.image_size)

    def _vary(self, varied: dict[str, Any]) -> None:
        self._speed = SPEED * varied.get(_SPEED, 1.0)
        self._drift = varied.get(_DRIFT[0], 0.0), varied.get(_DRIFT[1], 0.0)
        self._frames = self._frames_for(varied)

    def _frames_for(self, varied: dict[str, Any]) -> Frames:
        look = Look.of(varied)
        return finished(
            self._plain_frames if look == LOOK else SmoothFrames(self.image_size, look),
            self.image_size,
            varied,
        )

    def _is_clear(self, state: np.ndarray) -> bool:
        return abs(float(state[0]) - self._wall_of(state)) >= FACE

    def _wall_of(self, state: np.ndarray) -> float:
        return self._layout_of(state).wall

    def _layout_of(self, state: np.ndarray) -> Layout:
        return LAYOUT

    def handles(self) -> dict[str, Handle]:
        """The dot; it stays inside the rooms and out of the wall."""
        return {"dot": Handle(lambda state: (state[0] / SIDE, state[1] / SIDE), self._moved)}

    def _moved(self, state: np.ndarray, x: float, y: float) -> np.ndarray:
        """The state with the dot at x, y, shares of the frame, or beside what is there."""
        moved = np.array(state, dtype=float)
        moved[:2] = np.clip([x * SIDE, y * SIDE], LOW, HIGH)
        wall, door = self._layout_of(moved)
        if abs(moved[0] - wall) < FACE and abs(moved[1] - door) > DOOR_REACH:
            moved[0] = wall + math.copysign(FACE + 0.5, moved[0] - wall)
        return moved

    def sample_state(self, rng: np.random.Generator) -> np.ndarray:
        """Anywhere in the two rooms, clear of the wall between them: (2,)."""
        return self._sample_place(rng, LAYOUT.wall)

    @staticmethod
    def _sample_place(rng: np.random.Generator, wall: float) -> np.ndarray:
        while True:
            x, y = rng.uniform(LOW, HIGH, 2)
            if not wall - FACE < x < wall + FACE:
                return np.array([x, y])

    def check_state(self, state: Any, name: str = "state") -> np.ndarray:
        """`state` as a new array (2,), or a WorldError when it is no place in the frame."""
        array = super().check_state(state, name)
        if array.min() < 0.0 or array.max() > SIDE:
            raise WorldError(f"{name} {array.tolist()} lies outside the plane of 224 x 224 px.")
        return array

    def is_success(self, state: Any, goal_state: Any, *, tight: float = 1.0) -> bool:
        """Closer than 16 px."""
        away = math.hypot(float(state[0]) - float(goal_state[0]), float(state[1]) - float(goal_state[1]))
        return away < 16.0 / tight

    def render_state(self, state: Any) -> np.ndarray:
        """The frame of `state` (2,)."""
        x, y = self.check_state(state).tolist()
        return self._frames.draw(x, y, None)

    def _place(self, state: np.ndarray) -> None:
        self._x, self._y = state.tolist()

    def _move(self, action: np.ndarray) -> None:
        dx, dy = action.tolist()
        x = min(max(self._x + self._speed * dx + self._drift[0], LOW), HIGH)
        y = min(max(self._y + self._speed * dy + self._drift[1], LOW), HIGH)
        wall, door = self._layout
        if abs(y - door) > DOOR_REACH:  # what it meets is wall
            if self._x < wall and x > wall - FACE:
                x = wall - FACE - 0.5
            elif self._x >= wall and x < wall + FACE:
                x = wall + FACE + 0.5
        self._x, self._y = x, y

    def _state(self) -> np.ndarray:
        return np.array([self._x, self._y])

    def _draw_with(self, frames: Frames, marker: np.ndarray | None) -> np.ndarray:
        place = None if marker is None else (float(marker[0]), float(marker[1]))
        return frames.draw(self._x, self._y, place, self._layout, self.moment)
