"""Frames of Gymnasium's environments, as they draw them."""

from __future__ import annotations

import atexit
import os
from typing import Any

import gymnasium
import numpy as np

from ..world import WorldError
from .failures import in_a_sentence


def rendered(name: str, env: gymnasium.Env) -> np.ndarray:
    """The environment's own frame, uint8 (H, W, 3), of whatever size it draws."""
    viewer = _mujoco_viewer(env)
    if viewer is not None:
        viewer.make_context_current()  # Gymnasium does not, and would draw with what the last one left
    with in_a_sentence(name, "fails when it draws"):
        frame: Any = env.render()
    if not _open.get(env, True):
        _open[env] = True
        atexit.unregister(_close)
        atexit.register(_close)  # the last to come is the first to go: before OpenGL, which a frame starts
    frame = np.asarray(frame)
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
        raise WorldError(f"{name} draws {frame.dtype} of shape {frame.shape}: uint8 (H, W, 3) is needed.")
    return frame


def blank(frame: np.ndarray) -> bool:
    """Whether a frame shows nothing: one colour all over."""
    return bool((frame == frame[:1, :1]).all())


def nothing_drawn(name: str, what: str) -> str:
    """What to say of an environment whose frames cannot be learned from.

    what: as in "draws 39 frames in which nothing changes".
    """
    driver = os.environ.get("SDL_VIDEODRIVER")
    try_this = (
        f"SDL_VIDEODRIVER is {driver}, and some draw only with SDL_VIDEODRIVER=offscreen, so try that; or "
    )
    return (
        f"{name} {what}, so there is nothing to learn from: {try_this if driver == 'dummy' else ''}"
        "check its options for drawing, and that actions move something in sight."
    )


_open: dict[gymnasium.Env, bool] = {}  # whether it has drawn


def keep(env: gymnasium.Env) -> None:
    """Hold it until `let_go`, or until the program ends."""
    _open[env] = False


def let_go(env: gymnasium.Env) -> None:
    """Close it, once."""
    if _open.pop(env, None) is None:
        return
    viewer = _mujoco_viewer(env)
    if viewer is not None:
        viewer.make_context_current()
        viewer.con.free()  # or it frees in whatever context is current when it is collected as garbage
    env.close()


@atexit.register
def _close() -> None:
    """Windows and OpenGL contexts do not like to outlive the interpreter."""
    for env in list(_open):
        let_go(env)


def mujoco_model(env: gymnasium.Env) -> Any:
    """The MuJoCo model that is drawn, where one is found; else None."""
    bare: Any = env.unwrapped
    inner = getattr(getattr(bare, "_env", None), "physics", None)  # as Shimmy holds those of dm_control
    models = (getattr(holder, "model", None) for holder in (*_holders(env), inner))
    return next((model for model in models if hasattr(model, "mat_reflectance")), None)


def _mujoco_viewer(env: gymnasium.Env) -> Any:
    """What Gymnasium draws with, where MuJoCo does it and has drawn before; else None."""
    renderers: list[Any] = [getattr(holder, "mujoco_renderer", None) for holder in _holders(env)]
    return next((renderer.viewer for renderer in renderers if getattr(renderer, "viewer", None)), None)


def _holders(env: gymnasium.Env) -> list[Any]:
    """The environment, and those inside it that Gymnasium-Robotics' mazes are built around."""
    bare: Any = env.unwrapped
    inside = (getattr(bare, label, None) for label in ("point_env", "ant_env"))
    return [bare, *(getattr(inner, "unwrapped", inner) for inner in inside if inner is not None)]
