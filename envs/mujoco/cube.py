"""Cube: a robot arm picks up a cube, carries it, puts it down: OGBench's `cube-single` (Park et al. 2024).

Model, gains, action scales and inverse kinematics are OGBench's own (github.com/seohongpark/ogbench): in free
motion the arm goes where it goes there, to the last bit. Once the fingers touch something, the two part:
here the solver of contacts starts cold with every control step, so that a state is all there is to remember.
"""

from __future__ import annotations

import copy
import functools
import math
from typing import Any

import numpy as np

from ..world import WorldError
from .base import MujocoWorld, mujoco
from .cube_model import ARM, CAMERA, CAMERAS, CUBE, FINGER, GROUND, HAND, SPOT, WARDROBE, ogbench_cube
from .dress import factors

NEAR = 0.04  # m
FLOOR = np.array([[0.30, -0.30], [0.55, 0.30]])  # where cubes start, m
ABOVE = np.array([[0.25, -0.35, 0.20], [0.60, 0.35, 0.35]])  # where the effector starts, m
_WORKSPACE = np.array([[0.25, -0.35, 0.02], [0.60, 0.35, 0.35]])  # where the controller lets it go, m
_REACH = np.array([0.05, 0.05, 0.05, 0.3, 1.0])  # a full action: m, m, m, rad, share of the gripper's way
_HOME = np.array([-0.5, -0.5, 0.5, -0.5, -0.5, 0.0]) * math.pi
_SHUT = 0.8  # the gripper's joint when it is shut, rad
_ARM, _DRIVER, _CUBE = slice(0, 6), 6, slice(14, 21)  # in qpos
_FAR, _FASTEST = 3.0, 1000.0

_JOINTS = (
    "shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3",
    "right_driver", "right_coupler", "right_spring_link", "right_follower",
    "left_driver", "left_coupler", "left_spring_link", "left_follower",
)  # fmt: skip


class Cube(MujocoWorld):
    """Bring the cube to where the goal frame shows it.

    The state (45,) is, in this order: the effector, which is the point between the finger tips, x, y, z (m)
    and yaw (rad); the cube, x, y, z (m) and quaternion w, x, y, z; the angles of the arm's 6 and the
    gripper's 8 joints (rad; the driver's is 0 open and 0.8 shut); the cube's velocity (m/s) and rotation
    (rad/s); the joints' velocities (rad/s). x points away from the arm's foot, z up from the floor.

    An action (5,), held for 0.05 s, sets a target relative to where the effector is: dx, dy, dz (1 is 5 cm),
    turn (1 is 0.3 rad), and how much further to shut the gripper (1 is all the way, -1 opens it). Success:
    the cube within 4 cm of its place in the goal; the arm does not count. The goal marker is cube and fingers
    in green.

    Cameras: `front`, the usual one, from above; `wrist`, on the hand; `low`, in front at the height of the
    cube, and `side`, likewise from the left: neither of these two shows how far away a thing is, and both
    together show all. The robot's own vector is the arm's 6 angles and the gripper's driver (rad).

    `reference_look`: OGBench's own look for pixels, without its marker at the goal.
    """

    state_names = (
        "effector_x", "effector_y", "effector_z", "effector_yaw",
        "cube_x", "cube_y", "cube_z", "cube_qw", "cube_qx", "cube_qy", "cube_qz",
        *_JOINTS,
        "cube_vx", "cube_vy", "cube_vz", "cube_wx", "cube_wy", "cube_wz",
        *(f"{name}_velocity" for name in _JOINTS),
    )  # fmt: skip
    angle_names = ("effector_yaw",)
    action_size = 5
    control_hz = 20.0
    state_low = np.full(45, -np.inf)
    state_high = np.full(45, np.inf)
    substeps = 25
    camera = CAMERA
    cameras = CAMERAS
    views = tuple(CAMERAS)
    proprio_names = _JOINTS[:7]
    factors = factors({"cube": CUBE, "finger": FINGER, "hand": HAND, "arm": ARM, "spot": SPOT}, GROUND)
    wardrobe = WARDROBE
    marker_geoms = ("object_0", "ur5e/robotiq/right_pad1", "ur5e/robotiq/left_pad1")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        # cold in every physics step would cost half as much again; once a control step is enough
        self._model.opt.disableflags &= ~mujoco.mjtDisableBit.mjDSBL_WARMSTART.value
        from ogbench.manipspace import controllers, lie

        source = _source(self.reference_look)
        self._lie, self._attach = lie, source._T_pa  # from the effector to where the arm ends
        self._kinematics = controllers.DiffIKController(source._ik._model, sites=["attachment_site"])
        self._down = lie.SO3(np.array([0.0, 1.0, 0.0, 0.0]))
        self._pinch = self._model.site("ur5e/robotiq/pinch").id

    def compile(self) -> mujoco.MjModel:
        return copy.copy(_source(self.reference_look).model)  # one for each size of frames

    def sample_state(self, rng: np.random.Generator) -> np.ndarray:
        """The cube anywhere on the floor in reach, the open hand somewhere above, all at rest: (45,)."""
        place, yaw = rng.uniform(*ABOVE), rng.uniform(-math.pi, math.pi)
        turn = rng.uniform(0.0, 2.0 * math.pi)
        cube = [*rng.uniform(*FLOOR), 0.02, math.cos(turn / 2), 0.0, 0.0, math.sin(turn / 2)]
        return self.resting(place, yaw, cube)

    def resting(self, place: Any, yaw: float, cube: Any) -> np.ndarray:
        """The state (45,) at rest: open hand at `place` (3,) and `yaw`, cube at the pose `cube` (7,)."""
        joints = self._reach(np.asarray(place, float), yaw, _HOME)
        state = np.zeros(45)
        state[4:11], state[11:17] = cube, joints
        self._other.qpos[:] = _positions(state)
        mujoco.mj_kinematics(self._model, self._other)
        state[:4] = self._effector(self._other)
        return state

    def check_state(self, state: Any, name: str = "state") -> np.ndarray:
        """`state` as a new array (45,), or a WorldError when nothing could be simulated from it."""
        array = super().check_state(state, name)
        if np.abs(array[:25]).max() > 2.0 * math.pi + 0.1 or np.abs(array[4:7]).max() > _FAR:
            raise WorldError(f"{name} has the arm or the cube far outside this world.")
        if np.abs(array[25:]).max() > _FASTEST:
            raise WorldError(f"{name} has a velocity of {np.abs(array[25:]).max():.3g}, above {_FASTEST:g}.")
        if abs(np.linalg.norm(array[7:11]) - 1.0) > 1e-3:
            raise WorldError(f"{name} has no rotation for the cube: {array[7:11]} is no unit quaternion.")
        return array

    def is_success(self, state: Any, goal_state: Any, *, tight: float = 1.0) -> bool:
        """The cube's centres at most 4 cm apart."""
        away = math.dist([float(v) for v in state[4:7]], [float(v) for v in goal_state[4:7]])
        return away <= NEAR / tight

    def write_state(self, data: mujoco.MjData, state: np.ndarray) -> None:
        data.qpos[:], data.qvel[:] = _positions(state), np.append(state[31:], state[25:31])
        data.userdata[:] = state[:4]
        _place_spots(data)

    def read_state(self, data: mujoco.MjData) -> np.ndarray:
        qpos, qvel = data.qpos, data.qvel
        return np.concatenate([data.userdata, qpos[_CUBE], qpos[:14], qvel[14:], qvel[:14]])

    def write_action(self, data: mujoco.MjData, action: np.ndarray) -> None:
        """OGBench's controller, rounding as it does."""
        lie, effector = self._lie, data.userdata
        reach = 0.5 * (action + 1) * (_REACH + _REACH) - _REACH
        place = np.clip(effector[:3] + reach[:3], *_WORKSPACE)
        turned = lie.SO3.from_z_radians(reach[3]) @ lie.SO3.from_z_radians(effector[3])
        yaw = np.clip((turned @ self._down.inverse()).compute_yaw_radians(), -math.pi, math.pi)
        data.ctrl[_ARM] = self._reach(place, yaw, data.qpos[_ARM])
        shut = np.clip(np.clip(data.qpos[_DRIVER] / _SHUT, 0.0, 1.0) + reach[4], 0.0, 1.0)
        data.ctrl[6] = 255.0 * shut
        data.qacc_warmstart[:] = 0.0

    def _move(self, action: np.ndarray) -> None:
        super()._move(action)
        self._data.userdata[:] = self._effector(self._data)
        _place_spots(self._data)

    def _reach(self, place: np.ndarray, yaw: float, start: np.ndarray) -> np.ndarray:
        """The arm's joint angles (6,), found from `start`, that bring the effector to `place` and `yaw`."""
        lie = self._lie
        pose = lie.SE3.from_rotation_and_translation(lie.SO3.from_z_radians(yaw) @ self._down, place)
        wrist = pose @ self._attach
        return self._kinematics.solve(wrist.translation(), wrist.rotation().wxyz, curr_qpos=start)

    def _effector(self, data: mujoco.MjData) -> np.ndarray:
        """x, y, z, yaw where `data` has it; after a step, that is at the start of its last substep."""
        turn = self._lie.SO3.from_matrix(data.site_xmat[self._pinch].reshape(3, 3).copy())
        return np.array([*data.site_xpos[self._pinch], turn.compute_yaw_radians()])


def _positions(state: np.ndarray) -> np.ndarray:
    return np.append(state[11:25], state[4:11])


def _place_spots(data: mujoco.MjData) -> None:
    """The dark spots on the floor go under cube and hand."""
    x, y, _, yaw = data.userdata
    data.mocap_pos[-2:] = [[*data.qpos[14:16], 0.001], [x, y, 0.001]]
    data.mocap_quat[-1] = math.cos(yaw / 2), 0.0, 0.0, math.sin(yaw / 2)


@functools.cache
def _source(reference_look: bool) -> Any:
    return ogbench_cube(reference_look=reference_look)
