"""OGBench's single cube as a MuJoCo model: its UR5e arm, gripper and cube, in its look or in a plain one.

The plain look is simple shapes instead of 170,000 triangles, and draws a hundred times as fast without a
graphics card. It is made to be learned from: a red cube, yellow fingers, an arm that lets through what is
behind it, and under cube and hand a dark spot on the floor, which tells how high they are.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from .dress import Wardrobe
from .frames import mujoco

if TYPE_CHECKING:
    from ogbench.manipspace.envs.cube_env import CubeEnv

for _package in ("ogbench", "dm_control"):
    resources.files(_package)  # a missing one is told before anything is made

CAMERA = "front_pixels"  # OGBench's, for observations
CAMERAS = {"front": CAMERA, "wrist": "ur5e/robotiq/wrist", "low": "low", "side": "side"}
# Where ours stand: body, place (m), axes across and up of the picture, angle of view (degrees).
_OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "wrist": ("ur5e/robotiq/base", {"pos": (0.09, 0, 0.01), "xyaxes": (0, 1, 0, 0.9, 0, 0.44), "fovy": 75}),
    "low": ("", {"pos": (1.7, 0, 0.03), "xyaxes": (0, 1, 0, 0.115, 0, 1), "fovy": 34}),
    "side": ("", {"pos": (0.42, 1.5, 0.03), "xyaxes": (-1, 0, 0, 0, 0.115, 1), "fovy": 30}),
}

CUBE, FINGER = (0.96, 0.16, 0.20, 1.0), (0.98, 0.85, 0.15, 1.0)
HAND, ARM, SPOT = (0.25, 0.45, 0.85, 0.45), (0.50, 0.54, 0.60, 0.35), (0.05, 0.06, 0.09, 1.0)
GROUND = (0.38, 0.41, 0.46, 1.0)
_EYE, _FOVY = ((1.47, 0.0, 1.31), (0.0, 1.0, 0.0, -0.766, 0.0, 0.643)), 29.0  # place, axes; degrees

_PAINTS = {
    "cube": ("look_cube",), "finger": ("*look_right_finger", "*look_left_finger"),
    "hand": ("*look_hand", "*knuckle"), "arm": ("*look_wrist_?", "*look_elbow", "*look_forearm"),
    "spot": ("look_*_spot",),
}  # fmt: skip
WARDROBE = Wardrobe(
    "look_ground", {f"{name}.color": geoms for name, geoms in _PAINTS.items()}, (0.42, 0.0, 0.5, 0.0001)
)

# Shapes of the plain look: body, name, colour, and what MJCF says of a geom.
_FINGER_SHAPE: dict[str, Any] = {"type": "box", "pos": (0, -0.0006, 0.015), "size": (0.012, 0.007, 0.023)}
_KNUCKLE: dict[str, Any] = {"type": "capsule", "fromto": (0, 0, 0, 0, 0.0315, -0.0041), "size": (0.009,)}
_PALM: dict[str, Any] = {"type": "cylinder", "pos": (0, 0, 0.035), "size": (0.036, 0.042)}
_ALONG, _ACROSS = {"type": "capsule"}, {"type": "capsule", "quat": (1, 1, 0, 0)}
_SHAPES: list[tuple[str, str, tuple[float, ...], dict[str, Any]]] = [
    ("ground", "look_ground", GROUND, {"type": "box", "size": (2, 2, 0.01), "pos": (0, 0, -0.01)}),
    ("object_0", "look_cube", CUBE, {"type": "box", "size": (0.02, 0.02, 0.02)}),
    ("cube_spot", "look_cube_spot", SPOT, {"type": "cylinder", "size": (0.024, 0.0005)}),
    ("hand_spot", "look_hand_spot", SPOT, {"type": "box", "size": (0.013, 0.05, 0.0004)}),
    ("ur5e/robotiq/right_pad", "look_right_finger", FINGER, _FINGER_SHAPE),
    ("ur5e/robotiq/left_pad", "look_left_finger", FINGER, _FINGER_SHAPE),
    ("ur5e/robotiq/right_driver", "look_right_knuckle", HAND, _KNUCKLE),
    ("ur5e/robotiq/left_driver", "look_left_knuckle", HAND, _KNUCKLE),
    ("ur5e/robotiq/base", "look_hand", HAND, _PALM),
    ("ur5e/wrist_2_link", "look_wrist_2", ARM, {**_ALONG, "pos": (0, 0, 0.04), "size": (0.04, 0.06)}),
    ("ur5e/wrist_2_link", "look_wrist_3", ARM, {**_ACROSS, "pos": (0, 0.02, 0.1), "size": (0.04, 0.04)}),
    ("ur5e/wrist_1_link", "look_wrist_1", ARM, {**_ACROSS, "pos": (0, 0.05, 0), "size": (0.04, 0.07)}),
    ("ur5e/forearm_link", "look_elbow", ARM, {**_ACROSS, "pos": (0, 0.08, 0), "size": (0.055, 0.06)}),
    ("ur5e/forearm_link", "look_forearm", ARM, {**_ALONG, "pos": (0, 0, 0.2), "size": (0.038, 0.19)}),
]  # fmt: skip


def ogbench_cube(*, reference_look: bool) -> CubeEnv:
    """OGBench's own environment with its model compiled, but nothing simulated or drawn.

    The model has four numbers of user data, for the effector's pose as the controller sees it.
    """
    from ogbench.manipspace.envs.cube_env import CubeEnv

    source = CubeEnv("single", ob_type="pixels")  # which paints the arm as in the published frames
    root = source.build_mjcf_model()
    root.size.nuserdata = 4
    root.worldbody.add("body", name="ground")  # a box draws several times as fast as the plane that carries
    for name in ("cube_spot", "hand_spot"):
        root.worldbody.add("body", name=name, mocap=True)
    for name, (body, place) in _OURS.items():
        (root.find("body", body) if body else root.worldbody).add("camera", name=name, **place)
    if not reference_look:
        _reshape(root)
    source._mjcf_model = root
    source.compile_model_and_data()
    model = source.model
    model.light_cutoff[model.light_cutoff > 90.0] = 180.0  # what OpenGL makes of 100 degrees, after an error
    model.geom("target_object_0").rgba = 0.0  # OGBench shows where its task wants the cube
    if not reference_look:
        _plain(model)
    return source


def _reshape(root: Any) -> None:
    """Add the plain shapes, drop the arm's 120,000 triangles: its masses do not depend on them."""
    for mesh in root.find_all("mesh"):
        if not mesh.full_identifier.startswith("ur5e/robotiq/"):
            for geom in root.find_all("geom"):
                if geom.mesh is mesh:
                    geom.remove()
            mesh.remove()
    root.find("texture", "skybox").remove()
    hollow = {"contype": 0, "conaffinity": 0, "mass": 0, "group": 0}
    for body, name, colour, shape in _SHAPES:
        root.find("body", body).add("geom", name=name, rgba=colour, **hollow, **shape)


def _plain(model: mujoco.MjModel) -> None:
    """Show the plain look's shapes alone, from its camera. Masses are settled: nothing moves otherwise."""
    shown = [i for i in range(model.ngeom) if "look_" in model.geom(i).name]
    model.geom_matid[:] = -1
    model.geom_rgba[np.setdiff1d(np.arange(model.ngeom), shown)] = 0.0
    eye = model.cam(CAMERA)
    eye.pos, across, up = _EYE[0], np.array(_EYE[1][:3]), np.array(_EYE[1][3:])
    turn = np.column_stack([across, up, np.cross(across, up)])
    mujoco.mju_mat2Quat(eye.quat, turn.ravel())
    model.cam_fovy[eye.id] = _FOVY
    model.light_active[:] = False
    model.light_active[0], model.light_castshadow[0] = True, False
    model.light_dir[0] = np.array([0.1, 0.2, -1.0]) / np.linalg.norm([0.1, 0.2, -1.0])
    model.light_diffuse[0], model.light_specular[0] = 0.45, 0.0
    headlight = model.vis.headlight
    headlight.ambient, headlight.diffuse, headlight.specular = [0.35] * 3, [0.35] * 3, [0.0] * 3
    model.vis.quality.shadowsize = 0  # no shadows, no memory for them
    model.vis.quality.numslices, model.vis.quality.numstacks, model.vis.quality.numquads = 10, 6, 1
