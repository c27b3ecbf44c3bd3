"""PushT: a disc pushes a T-shaped block over a board of 512 x 512 px.

Physics and drawing follow the PushT of stable-worldmodel (github.com/galilai-group/stable-worldmodel):
trajectories from a fresh reset are equal to its own bit for bit, and frames at 224 px pixel for pixel.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pymunk

from ..factors import Choice, Color, Factor, Number, background, pictured
from ..handles import Handle, Point
from ..looks.picture import finished
from ..world import World, WorldError
from . import target
from .frames import SmoothFrames
from .geometry import AGENT_RADIUS, BOARD, T_COG, WALLS, block_corners, block_points, gap
from .reference_frames import SIZE, PublishedFrames
from .shapes import BLOCKS, BODIES, TOOLS, Bodies
from .varied_frames import Look, VariedFrames

SUBSTEPS, DT = 10, 0.01
AGENT_PLACES = WALLS[0] + AGENT_RADIUS, WALLS[1] - AGENT_RADIUS  # of its middle, along x and along y
_FAR = 1e6  # beyond this, numbers in a state are a mistake
_REACH = 100  # px: a full action puts the target this far from the agent
_STIFFNESS, _DAMPING, _DAMPING32, _DT32 = np.float32(100), 20.0, np.float32(20), np.float32(DT)


class Simulation:
    """The board: four walls, the T as a free body, the agent as a kinematic disc that steers for a target."""

    def __init__(self, bodies: Bodies = BODIES) -> None:
        self.space = space = pymunk.Space()
        space.gravity = (0.0, 0.0)
        space.damping = bodies.slide ** (1.0 / (SUBSTEPS * DT))  # of its speed, left after a second
        self.reach = np.float32(_REACH * bodies.speed)
        low, high = WALLS
        ring = [(low, high), (low, low), (high, low), (high, high), (low, high)]
        ends = [(ring[0], ring[1]), (ring[1], ring[2]), (ring[2], ring[3]), (ring[0], ring[3])]
        space.add(*[pymunk.Segment(space.static_body, a, b, 2.0) for a, b in ends])
        self.agent = pymunk.Body(body_type=pymunk.Body.KINEMATIC)
        tool, corners = bodies.tool(self.agent), bodies.parts()
        space.add(self.agent, tool)
        # The published T takes the bar's moment of inertia for both of its parts.
        self.block = pymunk.Body(1.0, 2.0 * pymunk.moment_for_poly(1.0, corners[0]))
        parts = [pymunk.Poly(self.block, part) for part in corners]
        self.block.center_of_gravity = (parts[0].center_of_gravity + parts[-1].center_of_gravity) / 2
        space.add(self.block, *parts)
        for shape in (tool, *parts):
            shape.friction = bodies.friction
        self._parts = [part.get_vertices() for part in parts]

    def place(self, state: np.ndarray, *, moving: bool = False) -> None:
        """Put agent and block where `state` (7,) says, then let one physics step of 0.01 s see them.

        The angle goes before the position, because turning moves the block about its centre of gravity. The
        agent gets its velocity after that step, so that the step does not move it; `moving` gives it before,
        as the published world does. Meant for a new simulation: an old one keeps contact impulses that nobody
        can clear.
        """
        agent_x, agent_y, block_x, block_y, angle, agent_vx, agent_vy = state.tolist()
        self.agent.velocity = (agent_vx, agent_vy) if moving else (0.0, 0.0)
        self.agent.position = (agent_x, agent_y)
        self.block.velocity, self.block.angular_velocity = (0.0, 0.0), 0.0
        self.block.angle = angle
        self.block.position = (block_x, block_y)
        self.space.step(DT)
        self.agent.velocity = (agent_vx, agent_vy)

    def move(self, action: np.ndarray) -> None:
        """Ten physics steps of 0.01 s towards the target `agent + 100 * action`, under a PD controller.

        The published controller computes in float32 what the float32 action touches. So does this one, one
        rounding at a time, or a contact would soon amplify the difference.
        """
        agent, advance, float32 = self.agent, self.space.step, np.float32
        (x, y), (vx, vy) = agent.position, agent.velocity
        reach = self.reach
        target_x, target_y = float32(x) + action[0] * reach, float32(y) + action[1] * reach
        drag_x, drag_y = float32(-_DAMPING * vx), float32(-_DAMPING * vy)
        speed_x, speed_y = float32(vx), float32(vy)
        for _ in range(SUBSTEPS):
            speed_x = speed_x + (_STIFFNESS * (target_x - float32(x)) + drag_x) * _DT32
            speed_y = speed_y + (_STIFFNESS * (target_y - float32(y)) + drag_y) * _DT32
            agent.velocity = (float(speed_x), float(speed_y))
            advance(DT)
            x, y = agent.position
            drag_x, drag_y = -_DAMPING32 * speed_x, -_DAMPING32 * speed_y

    def state(self) -> np.ndarray:
        """Agent x, y, block x, y, block angle in [0, 2 pi), agent velocity x, y: (7,), px, radians, px/s."""
        (ax, ay), (bx, by), (vx, vy) = self.agent.position, self.block.position, self.agent.velocity
        return np.array([ax, ay, bx, by, self.block.angle % (2.0 * math.pi), vx, vy])

    def block_parts(self) -> list[list[tuple[float, float]]]:
        """Board coordinates of the corners of the T's two parts, four each, as the physics has them."""
        return [[self.block.local_to_world(corner) for corner in part] for part in self._parts]

    def contacts(self) -> list[tuple[tuple[int, int], tuple[int, int]]]:
        """The contacts of the last physics step: for each the two points that touch, to whole pixels."""
        _CONTACTS.lines.clear()
        self.space.debug_draw(_CONTACTS)
        return list(_CONTACTS.lines)


class _Contacts(pymunk.SpaceDebugDrawOptions):
    """Collects contacts, which the physics library tells only to those who draw."""

    def __init__(self) -> None:
        super().__init__()
        self.flags = pymunk.SpaceDebugDrawOptions.DRAW_COLLISION_POINTS
        self.lines: list[tuple[tuple[int, int], tuple[int, int]]] = []

    def draw_segment(self, a: Any, b: Any, color: Any) -> None:
        self.lines.append(((round(a[0]), round(a[1])), (round(b[0]), round(b[1]))))


_CONTACTS = _Contacts()


FACTORS: dict[str, Factor] = {
    "agent.color": Color("color", Look().agent, "of the pusher; its rim is darker"),
    "block.color": Color("color", Look().block, "of the block; its outline is darker"),
    "agent.shape": Choice("shape", BODIES.agent, tuple(TOOLS), "of the pusher, of the disc's area"),
    "block.shape": Choice("shape", BODIES.block, tuple(BLOCKS), "of the block"),
    "agent.size": Number("size", BODIES.agent_size, 0.6, 1.6, "of the pusher, in its own radius"),
    "block.size": Number("size", BODIES.block_size, 0.7, 1.3, "of the block, in its own length"),
    **background(),
    **pictured(),
    "start.agent_x": Number("start", None, 25.0, BOARD - 25.0, "where the pusher starts, px"),
    "start.agent_y": Number("start", None, 25.0, BOARD - 25.0, "where the pusher starts, px"),
    "start.block_x": Number("start", None, 60.0, BOARD - 60.0, "only when named: the block, px", False),
    "start.block_y": Number("start", None, 60.0, BOARD - 60.0, "only when named: the block, px", False),
    "start.block_angle": Number("start", None, 0.0, 6.2831, "only when named: the block, radians", False),
    "agent.speed": Number("physics", BODIES.speed, 0.5, 1.5, "times the reach of a full action, 100 px"),
    "block.friction": Number(
        "physics", BODIES.friction, 0.0, 1.0, "of the pusher, and of walls on the block"
    ),
    "block.slide": Number("physics", BODIES.slide, 0.0, 0.5, "share of its speed kept for 0.1 s, not pushed"),
}


class PushT(World):
    """Push the T and bring the agent to where the goal frame shows them.

    The state is agent x, y, block x, y (px of the 512 px board), block angle (radians), agent velocity
    (px/s); the block's position is the middle of the T's top edge. An action (2,) sets a target 100 px away
    at most. Success: agent and block together within 20 px of the goal (one distance over the four
    coordinates) and the block's angle within pi / 9. The goal marker is the T in green at the goal's pose.

    With `reference_look`, every frame, the goal's too, shows a green T in the middle of the board where the
    goal is; actions are not clipped; and resetting to a moving agent lets it move for the first 0.01 s.
    """

    state_names = ("agent_x", "agent_y", "block_x", "block_y", "block_angle", "agent_vx", "agent_vy")
    angle_names = ("block_angle",)
    proprio_names = ("agent_x", "agent_y", "agent_vx", "agent_vy")
    control_hz = 10.0
    state_low = np.array([-np.inf] * 4 + [0.0] + [-np.inf] * 2)
    state_high = np.array([np.inf] * 4 + [2 * np.pi] + [np.inf] * 2)
    factors = FACTORS
    reference_marker = np.array([0.0, 0.0, 256.0, 256.0, np.pi / 4, 0.0, 0.0])
    reference_clips = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        exact = self.image_size == SIZE
        plain: SmoothFrames | PublishedFrames = PublishedFrames() if exact else SmoothFrames(self.image_size)
        self._plain_frames = plain
        self._frames = self._plain_frames
        self._bodies = BODIES
        self._simulation = Simulation()

    @classmethod
    def without_reference_marker(cls, frame: np.ndarray) -> np.ndarray:
        """A frame uint8 (H, W, 3) of any size without the published green T; itself where none is seen."""
        seen = target.shows(frame, cls.reference_marker)
        return target.painted_away(frame, cls.reference_marker) if seen else frame

    def _vary(self, varied: dict[str, Any]) -> None:
        self._bodies = Bodies.of(varied)
        self._frames = self._frames_for(varied)

    def _frames_for(self, varied: dict[str, Any]) -> Any:
        bodies, look = self._bodies, Look.of(varied)
        shown = replace(bodies, speed=BODIES.speed, friction=BODIES.friction, slide=BODIES.slide)
        usual = look == Look() and shown == BODIES
        frames = self._plain_frames if usual else VariedFrames(self.image_size, look, bodies)
        return finished(frames, self.image_size, varied)

    def _is_clear(self, state: np.ndarray) -> bool:
        corners = block_corners(state)
        low, high = WALLS
        return bool(gap(state) > 5.0 and corners.min() > low and corners.max() < high)

    def sample_state(self, rng: np.random.Generator) -> np.ndarray:
        """The block anywhere on the board at any angle, the agent anywhere beside it, both at rest: (7,)."""
        low, high = WALLS[0] + 7.0, WALLS[1] - 7.0
        state = np.zeros(7)
        while True:
            state[4] = rng.uniform(0.0, 2.0 * math.pi)
            state[2:4] = rng.uniform(low, high, 2)
            corners = block_corners(state)
            if corners.min() > low and corners.max() < high:
                break
        while True:
            state[:2] = rng.uniform(25.0, BOARD - 25.0, 2)
            if gap(state) > 5.0:
                return state

    def check_state(self, state: Any, name: str = "state") -> np.ndarray:
        """`state` as a new array (7,), or a WorldError when nothing could be simulated from it."""
        array = super().check_state(state, name)
        if np.abs(array).max() > _FAR:
            raise WorldError(f"{name} holds {np.abs(array).max():.3g}, far off the board of 512 x 512 px.")
        return array

    def is_success(self, state: Any, goal_state: Any, *, tight: float = 1.0) -> bool:
        """Within 20 px over agent and block together, and within pi / 9 in angle."""
        away = math.dist([float(value) for value in state[:4]], [float(value) for value in goal_state[:4]])
        turn = abs(float(state[4]) - float(goal_state[4])) % (2.0 * math.pi)
        return away < 20.0 / tight and min(turn, 2.0 * math.pi - turn) < math.pi / 9.0 / tight

    def render_state(self, state: Any) -> np.ndarray:
        """The frame of `state` (7,), drawn from a simulation of its own."""
        simulation = Simulation(self._bodies)
        simulation.place(self.check_state(state))
        image: np.ndarray = self._frames.draw(
            simulation, self.reference_marker if self.reference_look else None
        )
        return image

    def handles(self) -> dict[str, Handle]:
        """The agent, and the block, which turns about its centre of gravity."""
        return {"agent": Handle(_agent_at, _move_agent), "block": Handle(_block_at, _move_block, _turn_block)}

    def within_limits(self, action: np.ndarray) -> np.ndarray:
        """The walls do not stop the agent, whose target a controller follows; so the target stays inside."""
        place, reach = self._state()[:2], self._simulation.reach
        wanted = place + reach * np.asarray(action)
        target = np.clip(wanted, *AGENT_PLACES)
        shortened = np.clip((target - place) / reach, -1.0, 1.0).astype(np.float32)
        return np.where(target == wanted, action, shortened)

    def _place(self, state: np.ndarray) -> None:
        self._simulation = Simulation(self._bodies)
        self._simulation.place(state, moving=self.reference_look)

    def _move(self, action: np.ndarray) -> None:
        self._simulation.move(action)

    def _state(self) -> np.ndarray:
        return self._simulation.state()

    def _draw_with(self, frames: Any, marker: np.ndarray | None) -> np.ndarray:
        image: np.ndarray = frames.draw(self._simulation, marker, self.moment)
        return image


def _agent_at(state: np.ndarray) -> Point:
    return state[0] / BOARD, state[1] / BOARD


def _move_agent(state: np.ndarray, x: float, y: float) -> np.ndarray:
    return np.array([*np.clip([x * BOARD, y * BOARD], *AGENT_PLACES), *state[2:5], 0.0, 0.0])


def _block_at(state: np.ndarray) -> Point:
    x, y = block_points(state, T_COG) / BOARD
    return x, y


def _move_block(state: np.ndarray, x: float, y: float) -> np.ndarray:
    """At rest, with the middle there, or pushed back inside the walls."""
    moved = np.array([*state[:5], 0.0, 0.0])
    moved[2:4] += np.array([x * BOARD, y * BOARD]) - block_points(state, T_COG)
    return _inside(moved)


def _turn_block(state: np.ndarray, radians: float) -> np.ndarray:
    moved = np.array([*state[:5], 0.0, 0.0])
    moved[4] = (state[4] + radians) % (2 * math.pi)
    moved[2:4] += block_points(state, T_COG) - block_points(moved, T_COG)
    return _inside(moved)


def _inside(state: np.ndarray) -> np.ndarray:
    """The state with the block moved as far as it stuck out of the walls."""
    corners, (low, high) = block_corners(state), WALLS
    state[2:4] += np.maximum(low + 2.0 - corners.min(0), 0.0) - np.maximum(corners.max(0) - high + 2.0, 0.0)
    return state
