"""What goes wrong inside somebody else's environment, in one sentence."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import gymnasium

from ..mujoco import gl
from ..world import WorldError

LONGEST = 300  # characters of an environment's own message


@contextmanager
def in_a_sentence(name: str, doing: str) -> Iterator[None]:
    """Turn whatever the environment `name` raises into a WorldError with the environment's own last line.

    doing: what it was asked for, as in "fails when it is reset".
    """
    try:
        yield
    except WorldError:
        raise
    except (gymnasium.error.DependencyNotInstalled, ImportError) as error:
        raise WorldError(
            f"{name}: {gl.missing(error)}" if is_opengl(error) else _lacking(name, error)
        ) from error
    except MemoryError as error:
        raise WorldError(f"{name} {doing}: it asks for more memory than there is.") from error
    except Exception as error:
        if is_opengl(error):
            raise WorldError(f"{name}: {gl.missing(last_line(error))}") from error
        raise WorldError(f"{name} {doing}: {last_line(error)}{place(error)}.") from error


def last_line(error: BaseException) -> str:
    """The kind of the error and what it says, on one line."""
    said = " ".join(str(error).partition(" was raised from the environment creator")[0].split())
    said = "".join(letter for letter in said if letter.isprintable())[:LONGEST].rstrip(". ")
    kind = type(error).__name__
    if not said:  # a bare assert, for example
        said = "".join(frame.line or "" for frame in traceback.extract_tb(error.__traceback__)[-1:])[:LONGEST]
    return f"{kind}: {said}" if said else kind


def place(error: BaseException) -> str:
    """The innermost line of source, as in " (reach.py, line 12)"."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames or frames[-1].filename.endswith(("gymnasium/envs/registration.py", "failures.py")):
        return ""
    return f" ({os.path.basename(frames[-1].filename)}, line {frames[-1].lineno})"


def _lacking(name: str, error: Exception) -> str:
    """What to say of an environment for which a package is missing."""
    reason = " ".join(str(error).split())
    what_to_do = reason
    if "pygame" in reason.lower():
        what_to_do = f"pip install pygame-ce, or pygame, whichever your other packages need ({reason})"
    elif any(word in reason.lower() for word in ("mujoco", "imageio")):
        what_to_do = f"pip install -e '.[gym]' ({reason})"
    return f"{name} needs what is not installed: {what_to_do}"


def is_opengl(error: BaseException) -> bool:
    """Whether it was OpenGL that failed: MuJoCo's, PyOpenGL's or dm_control's way to it."""
    if any(word in str(error) for word in ("OpenGL", "EGL", "OSMesa", "GLFW", gl.VARIABLE, "gladLoad")):
        return True
    ends: tuple[str, ...] = ("_render/__init__.py", "gl_context.py", "egl_ext.py", "mujoco/egl/__init__.py")
    ends += ("mujoco/osmesa/__init__.py", "mujoco/glfw/__init__.py")
    files = [frame.filename.replace("\\", "/") for frame in traceback.extract_tb(error.__traceback__)]
    return any(file.endswith(ends) or "/site-packages/OpenGL/" in file for file in files)
