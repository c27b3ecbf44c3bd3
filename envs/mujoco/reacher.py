"""Reacher: an arm of two links turns in the plane until both joints are where the goal frame shows them.

The model is dm_control's `reacher` (Tassa et al. 2018, arXiv:1801.00690), stepped by mujoco itself. Goal and
success are those of stable-worldmodel (github.com/galilai-group/stable-worldmodel): a pose of the joints.
"""

from __future__ import annotations

import math
from importlib import resources
from typing import Any

import numpy as np

from ..angles import wrapped
from ..handles import Handle, Point
from ..world import WorldError
from .base import MujocoWorld, mujoco
from .dress import Wardrobe, factors

# The file alone: to import dm_control's suite takes a second, and brings a renderer of its own.
_MODEL = resources.files("dm_control") / "suite" / "reacher.xml"

NEAR = 0.05  # rad, of each joint
WRIST = math.radians(160.0)  # the wrist stops here on both sides; the shoulder turns freely
LINK, _ARM_HEIGHT = 0.12, 0.01  # m: of both links, and above the ground
_FASTEST = 100.0  # rad/s; the motors reach 5

# The plain look: the camera just above the arm's reach, thicker links in two colours, one ground, one light.
_HEIGHT = 0.62
_COLOURS = {
    "ground": (0.12, 0.14, 0.18),
    "root": (0.55, 0.60, 0.68),
    "arm": (0.95, 0.72, 0.25),
    "hand": (0.25, 0.75, 0.95),
    "finger": (0.95, 0.30, 0.30),
}
_LIMBS = ("arm", "hand", "finger")
_RADII = {"root": 0.020, "arm": 0.017, "hand": 0.015, "finger": 0.019}
_WALLS = ("wall_x", "wall_y", "wall_neg_x", "wall_neg_y")


class Reacher(MujocoWorld):
    """Turn the arm to where the goal frame shows it.

    The state is the angles of shoulder and wrist (radians, the shoulder's in [-pi, pi)) and their velocities
    (rad/s); an action (2,) is the torque of both motors, held for 0.04 s, as in stable-worldmodel's
    version. Success: each joint within 0.05 rad of the goal, whole turns of the shoulder aside; velocities do
    not count. The goal marker is the arm in green.

    dm_control's target ball is not part of this goal, and is never drawn, as in the published frames.
    `reference_look`: dm_control's own look, seen from its camera `fixed`.
    """

    state_names = ("shoulder", "wrist", "shoulder_velocity", "wrist_velocity")
    angle_names = ("shoulder",)
    proprio_names = ("shoulder_cos", "shoulder_sin", "wrist", "shoulder_velocity", "wrist_velocity")
    control_hz = 25.0
    state_low = np.array([-np.pi, -np.inf, -np.inf, -np.inf])
    state_high = -state_low
    substeps = 2
    camera = "fixed"
    marker_geoms = ("arm", "hand", "finger")
    factors = factors({name: _COLOURS[name] for name in _LIMBS}, _COLOURS["ground"])
    wardrobe = Wardrobe("ground", {f"{name}.color": (name,) for name in _LIMBS}, (0.0, 0.0, 0.26, 0.0))

    def compile(self) -> mujoco.MjModel:
        model = mujoco.MjModel.from_xml_path(str(_MODEL))
        model.geom("target").matid, model.geom("target").rgba = -1, 0.0
        if not self.reference_look:
            _plain(model)
        return model

    def sample_state(self, rng: np.random.Generator) -> np.ndarray:
        """Any pose of the joints, at rest: (4,)."""
        return np.array([rng.uniform(-np.pi, np.pi), rng.uniform(-WRIST, WRIST), 0.0, 0.0])

    def check_state(self, state: Any, name: str = "state") -> np.ndarray:
        """`state` as a new array (4,), or a WorldError when the arm cannot be like that."""
        array = super().check_state(state, name)
        if abs(array[1]) > math.pi:  # the stop gives way a little
            raise WorldError(f"{name} has the wrist at {array[1]:.3g} rad, beyond its stop at {WRIST:.2f}.")
        if np.abs(array[2:]).max() > _FASTEST:
            raise WorldError(f"{name} has a velocity of {np.abs(array[2:]).max():.3g} rad/s, above 100.")
        return array

    def is_success(self, state: Any, goal_state: Any, *, tight: float = 1.0) -> bool:
        """Each joint within 0.05 rad, the short way round for the shoulder."""
        shoulder = float(abs(wrapped(float(state[0]) - float(goal_state[0]))))
        near = NEAR / tight
        return shoulder < near and abs(float(state[1]) - float(goal_state[1])) < near

    def vector(self, state: np.ndarray) -> np.ndarray:
        """The joints and their velocities (5,); the shoulder, which turns freely, as cosine and sine."""
        return np.array([math.cos(state[0]), math.sin(state[0]), *state[1:]])

    def handles(self) -> dict[str, Handle]:
        """The elbow, which turns the shoulder, and the finger, which takes both joints along."""
        half = self._half_view(_ARM_HEIGHT)

        def shown(x: float, y: float) -> Point:
            return 0.5 + x / (2 * half), 0.5 - y / (2 * half)

        def elbow(state: np.ndarray) -> Point:
            return shown(LINK * math.cos(state[0]), LINK * math.sin(state[0]))

        def finger(state: np.ndarray) -> Point:
            both = state[0] + state[1]
            return shown(
                LINK * (math.cos(state[0]) + math.cos(both)), LINK * (math.sin(state[0]) + math.sin(both))
            )

        def move_elbow(state: np.ndarray, x: float, y: float) -> np.ndarray:
            return np.array([math.atan2(0.5 - y, x - 0.5), state[1], 0.0, 0.0])

        def move_finger(state: np.ndarray, x: float, y: float) -> np.ndarray:
            across, up = (2 * x - 1) * half, (1 - 2 * y) * half
            bent = 2 * math.acos(min(1.0, math.hypot(across, up) / (2 * LINK)))  # both links are equally long
            wrist = math.copysign(min(bent, WRIST), state[1])
            return np.array([float(wrapped(math.atan2(up, across) - wrist / 2)), wrist, 0.0, 0.0])

        def turn_elbow(state: np.ndarray, radians: float) -> np.ndarray:
            return np.array([float(wrapped(state[0] - radians)), state[1], 0.0, 0.0])

        def turn_finger(state: np.ndarray, radians: float) -> np.ndarray:
            return np.array([state[0], min(max(state[1] - radians, -WRIST), WRIST), 0.0, 0.0])

        return {
            "elbow": Handle(elbow, move_elbow, turn_elbow),
            "finger": Handle(finger, move_finger, turn_finger),
        }

    def tidy(self, data: mujoco.MjData) -> None:
        data.qpos[0] = wrapped(data.qpos[0])


def _plain(model: mujoco.MjModel) -> None:
    """Give the compiled model its plain look. Masses are settled by then, so it moves as before."""
    model.geom_matid[:] = -1
    for name, colour in _COLOURS.items():
        model.geom(name).rgba = (*colour, 1.0)
    for name, radius in _RADII.items():
        model.geom(name).size[0] = radius
    for name in _WALLS:
        model.geom(name).rgba = 0.0
    model.geom("ground").size[:2] = 1.0
    model.cam("fixed").pos[2] = _HEIGHT
    model.light_active[:] = False
    headlight = model.vis.headlight
    headlight.ambient, headlight.diffuse, headlight.specular = [0.75] * 3, [0.3] * 3, [0.0] * 3
    model.vis.quality.numslices, model.vis.quality.numstacks, model.vis.quality.numquads = 16, 8, 1
