"""MuJoCo itself, imported after OpenGL has been chosen."""

from __future__ import annotations

from ..errors import WorldError
from . import gl

gl.choose()  # mujoco looks at it when it is imported

try:
    import mujoco
except ModuleNotFoundError:
    raise
except Exception as error:  # what MUJOCO_GL says is unknown, or not installed
    raise WorldError(gl.missing(f"{type(error).__name__}: {error}".split("\n")[0])) from error

__all__ = ["mujoco"]
