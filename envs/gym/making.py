"""Makes Gymnasium's environments from their names, and says in a sentence why one cannot be made."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from latent_planner.common.action_space import NUMBERS, ActionSpace, ActionSpaceError

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


def action_parts(name: str, space: Any) -> tuple[ActionSpace, np.ndarray, np.ndarray]:
    """What actions of `space` are made of, and float32 (A,) their bounds, of choices the first and the last.

    WorldError, which says what to do, for a Box without bounds or of whole numbers, and for other spaces.
    """
    if isinstance(space, spaces.Box):
        box = action_box(name, space)
        return NUMBERS, box.low.astype(np.float32).reshape(-1), box.high.astype(np.float32).reshape(-1)
    if isinstance(space, spaces.Dict):
        text = ", ".join(f"{key}={_part(name, space, part)}" for key, part in space.spaces.items())
        parts, text = list(space.spaces.values()), f"Dict({text})"
    elif isinstance(space, spaces.Tuple):
        parts, text = list(space.spaces), f"Tuple({', '.join(_part(name, space, p) for p in space.spaces)})"
    else:
        parts, text = [space], _part(name, space, space)
    try:
        made_of = ActionSpace.parse(text)
    except ActionSpaceError as error:
        raise _no_action(name, space) from error
    low: list[float] = []
    high: list[float] = []
    own: Any
    for own, part in zip(parts, made_of.parts):
        numbers = part.kind == "Box"
        low += own.low.reshape(-1).tolist() if numbers else part.first
        high += (
            own.high.reshape(-1).tolist()
            if numbers
            else [first + count - 1 for first, count in zip(part.first, part.choices)]
        )
    return made_of, np.array(low, np.float32), np.array(high, np.float32)


def _part(name: str, whole: Any, space: Any) -> str:
    """`space`, a part of `whole` or all of it, in the words of ActionSpace."""
    if isinstance(space, spaces.Box):
        return f"Box({'x'.join(map(str, action_box(name, space).shape))})"
    if isinstance(space, spaces.Discrete):
        return f"Discrete({int(space.n)} from {int(space.start)})"
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
        counts = zip(space.nvec.tolist(), np.broadcast_to(space.start, space.nvec.shape).tolist())
        return f"MultiDiscrete({', '.join(f'{count} from {first}' for count, first in counts)})"
    if isinstance(space, spaces.MultiBinary):
        return f"MultiBinary({'x'.join(map(str, space.shape))})"
    raise _no_action(name, whole)


def _no_action(name: str, space: Any) -> WorldError:
    return WorldError(
        f"{name} takes actions from {space}, and actions here are made of Box, Discrete, MultiDiscrete and "
        "MultiBinary, alone or in one Tuple or Dict whose keys are plain words: register it wrapped so that "
        "its actions are, as docs/worlds/gym.md shows."
    )


def action_box(name: str, space: spaces.Box) -> spaces.Box:
    """`space`, when it is a bounded Box of real numbers; else a WorldError that says what to do."""
    if space.dtype.kind != "f":  # type: ignore[union-attr]
        raise WorldError(f"{name} takes whole numbers as actions ({space}), and real ones are needed.")
    if not (np.abs([space.low, space.high]) < UNBOUNDED).all():  # infinite ones neither
        raise WorldError(
            f"{name} takes actions without bounds ({space}), and a planner has to know where to search: "
            "register it wrapped so that its action space has finite bounds, see docs/worlds/gym.md."
        )
    return space
