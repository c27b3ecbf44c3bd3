"""Makes Gymnasium's environments from their names, and says in a sentence why one cannot be made."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from ..mujoco import gl
from ..world import WorldError
from .failures import in_a_sentence, is_opengl, last_line, place
from .frames import keep, mujoco_model, rendered
from .names import GymName

UNBOUNDED = 1e9  # an action bound this large stands for none


def bring(module: str | None) -> None:
    """Import the module of that name, which registers environments; None: nothing.

    Only ever called with what the user wrote on the command line. Raises WorldError.
    """
    if module is None:
        return
    gl.choose()  # the module may import mujoco, which looks for OpenGL then
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        importlib.import_module(module)
    except (ImportError, TypeError, ValueError, SyntaxError) as error:  # the last three: odd names and files
        if is_opengl(error):
            raise WorldError(gl.missing(last_line(error))) from error
        raise WorldError(f"The module {module} cannot be imported ({error}): check its name.") from error
    except Exception as error:
        if is_opengl(error):
            raise WorldError(gl.missing(last_line(error))) from error
        raise WorldError(
            f"The module {module} fails when it is imported: {last_line(error)}{place(error)}."
        ) from error


def opened(name: str, says: GymName, *, drawn: bool = True) -> gymnasium.Env:
    """The environment, without time limit; WorldError where it cannot be made.

    drawn: whether frames are wanted; some environments step faster where none are.
    """
    os.environ.setdefault("SDL_VIDEODRIVER", "dummy")  # pygame draws into memory, and needs no screen
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    _prepare_opengl(name, says)
    options = {"max_episode_steps": -1, "disable_env_checker": True, **says.options}
    with in_a_sentence(name, "cannot be made"):
        env = gymnasium.make(says.id, render_mode="rgb_array" if drawn else None, **options)
    modes = env.metadata.get("render_modes") or []
    if "rgb_array" not in modes:
        raise WorldError(f"{name} draws no frames: its render modes are {', '.join(modes) or 'none'}.")
    if says.plain:
        _draw_plainly(name, env)
    keep(env)
    if drawn and hasattr(env.unwrapped, "mujoco_renderer"):
        with in_a_sentence(name, "fails when it is reset"):
            env.reset(seed=0)  # it looks for good where things are when it first draws
        rendered(name, env)
    return env


def _prepare_opengl(name: str, says: GymName) -> None:
    """Find OpenGL before mujoco is imported; WorldError for an unknown name and a MuJoCo that cannot draw."""
    try:
        entry_point = str(gymnasium.spec(says.id).entry_point)
    except gymnasium.error.Error as error:
        hint = " If a module of yours registers it, say module=MODULE, or --module MODULE."
        raise WorldError(f"{name} cannot be made: {error}{hint}") from error
    own = entry_point.startswith("gymnasium.envs.")  # of these it is known which MuJoCo draws
    if own and "mujoco" not in entry_point:
        return
    found = gl.choose()
    if own:
        if found is None or gl.mistaken():
            raise WorldError(f"{name}: {gl.missing()}")
        _check_camera(name, says.options.get("default_camera_config", {}))


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
    model = mujoco_model(env)
    if model is None:
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
    if not (np.abs([space.low, space.high]) < UNBOUNDED).all():  # infinite ones neither
        raise WorldError(
            f"{name} takes actions without bounds ({space}), and a planner has to know where to search: "
            "register it wrapped so that its action space has finite bounds, see docs/worlds/gym.md."
        )
    return space
