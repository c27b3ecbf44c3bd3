"""PointMaze: a ball is pushed through a maze to where the goal frame shows it.

Mazes, sizes, forces on a ball that slides without friction, starts, goals and success follow the PointMaze of
Gymnasium-Robotics (github.com/Farama-Foundation/Gymnasium-Robotics) and of D4RL (Fu et al. 2020,
arXiv:2004.07219) before it; DINO-WM (arXiv:2411.04983) plans in the U maze by the same rule of success.

What differs: an action holds for 0.1 s, not 0.01 s, and is a quarter as strong; the ball is as large as it
looks there (0.2 m, of the same mass); damping bounds its speed to 2.5 m/s, where theirs is cut at 5 m/s; and
it is seen from straight above.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ..handles import Handle, Point
from ..world import WorldError
from .base import MujocoWorld, mujoco
from .dress import Wardrobe, factors

NEAR = 0.5  # m
RADIUS, MASS = 0.2, 4.19  # of the ball: m, kg
FORCE, DAMPING = 25.0, 10.0  # N under a full action, N s/m
_SPREAD = 0.25  # m, of starts and goals about the middle of a cell
_RIM = 0.3  # m of the outer walls that is in the frame
_SOFT = 0.05  # m that the ball may be pressed into a wall, which gives way a little
_FASTEST = 100.0  # m/s
_EYE = 40.0  # m above the maze: from there walls hide nothing

_BALL, _WALL, _GROUND = (0.98, 0.62, 0.15), (0.47, 0.52, 0.60), (0.12, 0.14, 0.18)

# Cells of 1 m, row by row from the top; # is wall.
U_MAZE = ("#####", "#   #", "### #", "#   #", "#####")
MEDIUM_MAZE = ("########", "#  ##  #", "#  #   #", "##   ###", "#  #   #", "# #  # #", "#   #  #", "########")


def _floor(maze: tuple[str, ...]) -> tuple[float, float, float, float]:
    """What is seen of the ground: its middle, half its side, its height, m."""
    return 0.0, 0.0, max(len(maze), len(maze[0])) / 2 - 1 + _RIM, 0.0


def free_cells(maze: tuple[str, ...]) -> np.ndarray:
    """(row, column) of every cell without a wall: int (N, 2)."""
    return np.argwhere(np.array([list(row) for row in maze]) == " ")


def cell_centre(maze: tuple[str, ...], cell: Any) -> np.ndarray:
    """x, y (..., 2) in m of the middle of cells (..., 2); the maze's own middle is 0, 0, and y points up."""
    row, column = np.moveaxis(np.asarray(cell), -1, 0)
    return np.stack([column + 0.5 - len(maze[0]) / 2, len(maze) / 2 - 0.5 - row], axis=-1)


def cell_of(maze: tuple[str, ...], place: Any) -> tuple[int, int]:
    """(row, column) of the cell with the place x, y; it may lie outside the maze."""
    x, y = float(place[0]), float(place[1])
    return math.floor(len(maze) / 2 - y), math.floor(x + len(maze[0]) / 2)


class PointMaze(MujocoWorld):
    """Roll the ball to where the goal frame shows it, through a maze in the shape of a U.

    The state is the ball's x, y (m, 0 in the middle) and velocity (m/s); an action (2,) is the force on it,
    25 N at most along each axis. Success: closer than 0.5 m, half a cell; velocities do not count. The goal
    marker is a green ball. There are no published frames to match, so `reference_look` changes nothing.
    """

    maze: ClassVar[tuple[str, ...]] = U_MAZE
    state_names = ("ball_x", "ball_y", "ball_vx", "ball_vy")
    control_hz = 10.0
    state_low = np.full(4, -np.inf)
    state_high = np.full(4, np.inf)
    substeps = 10
    camera = "above"
    marker_geoms = ("ball",)
    has_reference_look = False
    factors = factors({"ball": _BALL, "wall": _WALL}, _GROUND)
    wardrobe = Wardrobe("ground", {"ball.color": ("ball",), "wall.color": ("wall_*",)}, _floor(U_MAZE))

    def compile(self) -> mujoco.MjModel:
        return mujoco.MjModel.from_xml_string(_xml(self.maze))

    def sample_state(self, rng: np.random.Generator) -> np.ndarray:
        """At rest near the middle of any free cell: (4,)."""
        centre = cell_centre(self.maze, rng.choice(free_cells(self.maze)))
        return np.array([*(centre + rng.uniform(-_SPREAD, _SPREAD, 2)), 0.0, 0.0])

    def check_state(self, state: Any, name: str = "state") -> np.ndarray:
        """`state` as a new array (4,), or a WorldError when the ball cannot be there."""
        array = super().check_state(state, name)
        if self._in_wall(array):
            raise WorldError(f"{name} has the ball in a wall or outside the maze, at {array[:2].tolist()}.")
        if np.abs(array[2:]).max() > _FASTEST:
            raise WorldError(f"{name} has a velocity of {np.abs(array[2:]).max():.3g} m/s, above 100.")
        return array

    def is_success(self, state: Any, goal_state: Any, *, tight: float = 1.0) -> bool:
        """Closer than 0.5 m."""
        away = math.dist([float(v) for v in state[:2]], [float(v) for v in goal_state[:2]])
        return away < NEAR / tight

    def handles(self) -> dict[str, Handle]:
        """The ball, which is at rest where it is put."""
        half = self._half_view(RADIUS)

        def at(state: np.ndarray) -> Point:
            return 0.5 + state[0] / (2 * half), 0.5 - state[1] / (2 * half)

        def move(state: np.ndarray, x: float, y: float) -> np.ndarray:
            return np.array([(2 * x - 1) * half, (1 - 2 * y) * half, 0.0, 0.0])

        return {"ball": Handle(at, move)}

    def _in_wall(self, place: np.ndarray) -> bool:
        row, column = cell_of(self.maze, place)
        for r in range(row - 1, row + 2):
            for c in range(column - 1, column + 2):
                inside = 0 <= r < len(self.maze) and 0 <= c < len(self.maze[0])
                if inside and self.maze[r][c] == " ":
                    continue
                out = np.maximum(np.abs(place[:2] - cell_centre(self.maze, (r, c))) - 0.5, 0.0)
                if math.hypot(*out) < RADIUS - _SOFT:
                    return True
        return False


class PointMazeMedium(PointMaze):
    """PointMaze in a maze of 8 x 8 cells."""

    maze = MEDIUM_MAZE
    wardrobe = replace(PointMaze.wardrobe, floor=_floor(MEDIUM_MAZE))


def _walls(maze: tuple[str, ...]) -> list[tuple[int, int, int, int]]:
    """Rectangles (top, left, height, width) that cover the walls, as long as can be along both axes.

    Where one ends within a straight wall the ball would stumble, so they overlap instead.
    """
    grid = np.array([list(row) for row in maze]) == "#"
    found = []
    for turned in (False, True):
        for i, line in enumerate(grid.T if turned else grid):
            ends = np.flatnonzero(np.diff(np.concatenate([[0], line.astype(int), [0]])))
            for first, last in ends.reshape(-1, 2).tolist():
                found.append((first, i, last - first, 1) if turned else (i, first, 1, last - first))
    return [box for box in found if max(box[2:]) > 1 or not _within_another(box, found)]


def _within_another(box: tuple[int, int, int, int], others: list[tuple[int, int, int, int]]) -> bool:
    top, left, _, _ = box
    return any(o != box and o[0] <= top < o[0] + o[2] and o[1] <= left < o[1] + o[3] for o in others)


def _said(colour: tuple[float, ...]) -> str:
    return " ".join(f"{part:.2f}" for part in colour) + " 1"


def _xml(maze: tuple[str, ...]) -> str:
    """The MJCF model of a ball in `maze`."""
    rows, columns = len(maze), len(maze[0])
    boxes = []
    for number, (top, left, height, width) in enumerate(sorted(set(_walls(maze)))):
        x, y = cell_centre(maze, (top + (height - 1) / 2, left + (width - 1) / 2))
        boxes.append(
            f'<geom name="wall_{number}" class="wall" pos="{x} {y} 0.2" size="{width / 2} {height / 2} 0.2"/>'
        )
    view = math.degrees(2 * math.atan((max(rows, columns) / 2 - 1 + _RIM) / _EYE))
    return f"""
<mujoco model="point maze">
  <option timestep="0.01" gravity="0 0 0"/>
  <statistic center="0 0 0" extent="{max(rows, columns)}"/>
  <visual>
    <headlight ambient="0.75 0.75 0.75" diffuse="0.3 0.3 0.3" specular="0 0 0"/>
    <quality numslices="20" numstacks="12" numquads="1"/>
  </visual>
  <asset>
    <texture name="grid" type="2d" builtin="flat" width="300" height="300"/>
    <material name="grid" texture="grid"/>
  </asset>
  <default>
    <geom condim="1"/>
    <default class="wall"><geom type="box" rgba="{_said(_WALL)}"/></default>
  </default>
  <worldbody>
    <camera name="above" pos="0 0 {_EYE}" fovy="{view}"/>
    <geom name="ground" type="plane" size="{columns} {rows} 1" rgba="{_said(_GROUND)}"
          contype="0" conaffinity="0"/>
    {"".join(boxes)}
    <body name="ball" pos="0 0 {RADIUS}">
      <joint name="x" type="slide" axis="1 0 0" damping="{DAMPING}"/>
      <joint name="y" type="slide" axis="0 1 0" damping="{DAMPING}"/>
      <geom name="ball" type="sphere" size="{RADIUS}" mass="{MASS}" rgba="{_said(_BALL)}"/>
    </body>
  </worldbody>
  <actuator>
    <motor joint="x" gear="{FORCE}" ctrlrange="-1 1"/>
    <motor joint="y" gear="{FORCE}" ctrlrange="-1 1"/>
  </actuator>
</mujoco>"""
