"""Which OpenGL MuJoCo draws with: EGL, OSMesa or GLFW, found out by trying, before mujoco is imported.

MuJoCo reads the environment variable MUJOCO_GL. Where a user has set it, that is what is used. Where not,
on Linux, a process of its own tries one after the other, because a broken OpenGL can end a process; the
answer is written to MUJOCO_GL, so processes started from here do not try again. macOS and Windows have one
way only.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import shutil
import subprocess
import sys

VARIABLE = "MUJOCO_GL"
_ON = ("enable", "enabled", "on", "true", "1")  # MuJoCo then chooses by itself
_OFF = ("disable", "disabled", "off", "false", "0")
# What has to be there for each to be worth a try: the first library of these that loads.
_LIBRARIES = {
    "egl": ("libEGL.so.1", "libEGL.so"),
    "osmesa": ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"),
    "glfw": ("libGL.so.1", "libGL.so"),
}
# Draws one frame of a sphere. A backend that draws it black is as broken as one that fails.
_PROBE = """
import importlib, mujoco, numpy, sys
context = importlib.import_module("mujoco." + sys.argv[1]).GLContext(16, 16)
context.make_current()
model = mujoco.MjModel.from_xml_string(
    "<mujoco><worldbody><light pos='0 0 1'/><geom type='sphere' size='1'/></worldbody></mujoco>")
data, scene = mujoco.MjData(model), mujoco.MjvScene(model, 10)
mujoco.mj_forward(model, data)
mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, mujoco.MjvCamera(), 7, scene)
drawing = mujoco.MjrContext(model, 50)
mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, drawing)
area, pixels = mujoco.MjrRect(0, 0, 16, 16), numpy.zeros((16, 16, 3), numpy.uint8)
mujoco.mjr_render(area, scene, drawing)
mujoco.mjr_readPixels(pixels, None, area, drawing)
drawing.free()
context.free()
sys.stdout.write("draws" if pixels.any() else "black")
"""
_late: list[str] = []  # what was found when mujoco had been imported, which others may have done too early
_reasons: dict[str, str] = {}  # why those that were tried in this process did not work


def choose() -> str | None:
    """The backend to draw with, None when there is none; MUJOCO_GL says it from now on.

    Call it before mujoco is imported. It takes about half a second where MUJOCO_GL is not set and something
    has to be tried, otherwise no time. Without a backend it raises nothing, because a world can still be
    stepped: drawing then fails, with `missing()` for a message.
    """
    _load_triton_first()
    chosen = _chosen()
    if chosen:
        os.environ[VARIABLE] = chosen  # Gymnasium knows no capitals
    if chosen or not sys.platform.startswith("linux"):
        return None if chosen in _OFF else chosen or "system"
    if _reasons:
        return None
    for backend in _LIBRARIES:
        reason = _obstacle(backend)
        if reason is None:
            if "mujoco" in sys.modules:
                _late.append(backend)
            os.environ[VARIABLE] = backend
            return backend
        _reasons[backend] = reason
    return None


def _load_triton_first() -> None:
    """Import triton, if it is installed, before Mesa is loaded.

    Both bring LLVM. torch imports triton when it makes an optimizer, and after Mesa has drawn in software
    that ends the process with a segmentation fault; the other way round both work.
    """
    if sys.platform.startswith("linux") and "triton" not in sys.modules:
        with contextlib.suppress(Exception):
            if importlib.util.find_spec("triton") is not None:
                importlib.import_module("triton")


def mistaken() -> str | None:
    """Why what MUJOCO_GL says cannot work, as far as can be seen without trying; None where it may."""
    chosen = _chosen()
    if not chosen or not sys.platform.startswith("linux") or chosen in _OFF + _ON:
        return None
    if chosen not in _LIBRARIES:
        return f"MuJoCo knows {', '.join(_LIBRARIES)}"
    names = _LIBRARIES[chosen]
    return None if any(map(_loads, names)) else f"no {names[0]}"


def missing(reason: object = "") -> str:
    """One sentence on why nothing can be drawn here, and one on what to do.

    reason: what the attempt to draw said, where there was one.
    """
    chosen = _chosen()
    reason = mistaken() or reason
    if chosen in _OFF:
        return f"{VARIABLE}={chosen} turns drawing off, and worlds with MuJoCo need it: unset {VARIABLE}."
    if chosen in _late:
        return (
            f"Drawing failed ({reason}), because mujoco was imported before OpenGL was found: set "
            f"{VARIABLE}={chosen} before Python starts."
        )
    if chosen:
        why = f" ({reason})" if reason else ""
        return (
            f"{VARIABLE}={chosen} cannot draw here{why}: unset {VARIABLE} to find what can, or {_remedy()}."
        )
    if not sys.platform.startswith("linux"):
        return f"MuJoCo cannot draw here ({reason}): {_remedy()}."
    tried = "; ".join(f"{backend}: {why}" for backend, why in _reasons.items())
    return f"MuJoCo found no OpenGL to draw with ({tried}): {_remedy()}."


def _obstacle(backend: str) -> str | None:
    """Why `backend` cannot be used on this Linux, None when it can."""
    names = _LIBRARIES[backend]
    if not any(_loads(name) for name in names):
        return f"no {names[0]}"
    if backend == "glfw" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "no display"
    if not sys.executable:
        return None  # Python inside another program: nobody to try it first
    command = [sys.executable, "-P", "-c", _PROBE, backend]  # nothing from the current folder
    try:
        tried = subprocess.run(
            command, env={**os.environ, VARIABLE: backend}, capture_output=True, text=True, timeout=60
        )
    except subprocess.TimeoutExpired:
        return "it does not answer"
    if tried.stdout == "draws":
        return None
    last = (tried.stderr.strip().splitlines() or [f"it ends with code {tried.returncode}"])[-1]
    return "it draws nothing" if tried.stdout else last


def _chosen() -> str:
    """What MUJOCO_GL says, as MuJoCo reads it."""
    return os.environ.get(VARIABLE, "").lower().strip()


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _remedy() -> str:
    """What to do on the system at hand, to go into a sentence."""
    if sys.platform == "darwin":
        return "start it from a session with a screen, not over ssh; macOS brings OpenGL itself"
    if sys.platform == "win32":
        return "install the graphics card's own driver, which brings OpenGL"
    if shutil.which("apt-get"):
        return "install Mesa: apt-get install libegl1 libgl1-mesa-dri (or libosmesa6)"
    if shutil.which("dnf"):
        return "install Mesa: dnf install mesa-libEGL mesa-dri-drivers"
    return "install Mesa with EGL through the system's package manager"
