"""Frames of MuJoCo models, drawn offscreen: one OpenGL context a process, whatever the number of worlds.

Instead of `mujoco.Renderer`, which has a context of its own for each world and complains at exit. Where no
graphics card helps, shadows, reflections and multisampling take 9 tenths of the time, so the plain look has
none: edges are smoothed by drawing twice as large and averaging, which costs a third of multisampling.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import logging
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..looks.clutter import SOME_MOMENT
from ..world import WorldError
from . import gl
from .dress import Dress, Worn
from .library import mujoco

_MAX_GEOMS = 2000
_MARK = np.array([0.15, 0.85, 0.2, 0.55], np.float32)  # green, and what is behind shines through
_FLAGS = ("mjRND_SHADOW", "mjRND_REFLECTION", "mjRND_SKYBOX")
_ALL = mujoco.mjtCatBit.mjCAT_ALL.value
_OFFSCREEN = mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value


class _Context:
    """The OpenGL context of this process, current only inside a `with`, for one thread at a time.

    What was current before is so again afterwards. mujoco's own Renderer and dm_control free what they drew
    with in whatever context is current when they are collected as garbage, and would free ours; dm_control
    draws without a look whether its own still is.
    """

    def __init__(self) -> None:
        backend = gl.choose()
        if backend is None:
            raise WorldError(gl.missing())
        try:
            logging.getLogger("OpenGL.acceleratesupport").setLevel(logging.WARNING)  # says what is not missed
            # by name, since mujoco may have been imported before there was an answer
            named = backend if backend in ("egl", "osmesa", "glfw") else "gl_context"
            kind = importlib.import_module(f"mujoco.{named}").GLContext
            self._backend = sys.modules[kind.__module__]
            give_back = self._holder()
            self._context = kind(64, 64)
            self._context.make_current()
            give_back()
        except Exception as error:  # each backend has errors of its own
            raise _unusable(error) from error
        self._lock = threading.RLock()
        self._made: list[mujoco.MjrContext] = []
        atexit.register(self._free)  # runs before the backend shuts down, which registered earlier

    def __enter__(self) -> None:
        self._lock.acquire()
        try:
            self._give_back = self._holder()
            self._context.make_current()
        except BaseException:
            self._lock.release()
            raise

    def __exit__(self, *_: object) -> None:
        self._give_back()
        self._lock.release()

    def make_context(self, model: mujoco.MjModel) -> mujoco.MjrContext:
        """The model's meshes and textures, and a buffer to draw it into; inside a `with`."""
        try:
            made = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
        except mujoco.FatalError as error:  # GLFW without a display goes as far as this
            raise _unusable(error) from error
        self._made.append(made)
        return made

    def _holder(self) -> Callable[[], object]:
        """What makes current again what now is, where that can be known; otherwise lets go of ours."""
        backend: Any = self._backend
        if hasattr(backend, "EGL"):
            egl = backend.EGL
            if held := egl.eglGetCurrentContext():
                surfaces = [egl.eglGetCurrentSurface(which) for which in (egl.EGL_DRAW, egl.EGL_READ)]
                return functools.partial(egl.eglMakeCurrent, egl.eglGetCurrentDisplay(), *surfaces, held)
            nothing = (egl.EGL_NO_SURFACE, egl.EGL_NO_SURFACE, egl.EGL_NO_CONTEXT)
            return lambda: egl.eglMakeCurrent(backend.EGL_DISPLAY, *nothing)
        if hasattr(backend, "osmesa"):
            return lambda: backend.osmesa.OSMesaMakeCurrent(None, None, backend.GL.GL_FLOAT, 0, 0)
        if hasattr(backend, "cgl"):
            return self._leave_cgl
        held = backend.glfw.get_current_context() if hasattr(self, "_context") else None  # it needs a start
        return lambda: backend.glfw.make_context_current(held)

    def _leave_cgl(self) -> None:
        cgl: Any = self._backend.cgl  # type: ignore[attr-defined]
        cgl.CGLUnlockContext(self._context._context)
        cgl.CGLSetCurrentContext(None)

    def _free(self) -> None:
        try:
            with self:
                for made in self._made:
                    made.free()
            self._context.free()
        except Exception:  # dm_control has ended OpenGL before: there is nothing left to free
            self._context._context = None  # or it complains when Python deletes it


class Frames:
    """Draws `model` at `size` x `size` px through one of its cameras.

    Args:
        model: the compiled model. Its quality and buffer settings are set here.
        camera: name of a camera of the model.
        reference_look: with shadows, reflections, sky and multisampling, as mujoco draws by itself.

    Raises:
        WorldError: on first drawing, when there is no OpenGL; the message says what to install.
    """

    def __init__(
        self, model: mujoco.MjModel, size: int, camera: str, *, reference_look: bool = False
    ) -> None:
        self.model, self.size, self.reference_look = model, size, reference_look
        self._scale = 1 if reference_look or size > 512 else 2
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._usual = camera
        self._look_through(camera)
        self._option = mujoco.MjvOption()
        self._scene = mujoco.MjvScene(model, _MAX_GEOMS)
        side = size * self._scale
        self._area = mujoco.MjrRect(0, 0, side, side)
        self._pixels = np.empty((side, side, 3), np.uint8)
        model.vis.global_.offwidth = model.vis.global_.offheight = side
        if not reference_look:
            model.vis.quality.offsamples = 0
            for flag in _FLAGS:
                self._scene.flags[getattr(mujoco.mjtRndFlag, flag)] = False
        self._drawing: mujoco.MjrContext | None = None
        self._worn = Worn(model)

    def _look_through(self, camera: str) -> None:
        self._camera.fixedcamid = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
        if self._camera.fixedcamid < 0:
            raise WorldError(f"The model has no camera called {camera!r}.")

    def draw(
        self,
        data: mujoco.MjData,
        marks: Sequence[tuple[int, mujoco.MjData]] = (),
        *,
        camera: str | None = None,
        dress: Dress | None = None,
        moment: float = SOME_MOMENT,
    ) -> np.ndarray:
        """The frame uint8 (size, size, 3) of `data`.

        marks: geoms to show in green on top, each as (number of the geom, data that says where it is).
        camera: of the model, where not the one that these frames are made for.
        dress: how it looks; None as usual. Clutter that moves is where it is after `moment` control steps.
        """
        context = _context()
        with context:
            if self._drawing is None:
                self._drawing = context.make_context(self.model)
            self._worn.put_on(dress, self._drawing)
            self._look_through(camera or self._usual)
            mujoco.mjr_setBuffer(_OFFSCREEN, self._drawing)
            mujoco.mjv_updateScene(self.model, data, self._option, None, self._camera, _ALL, self._scene)
            for shape in [] if dress is None else dress.flat(moment):
                self._add(*shape)
            for geom, where in marks:
                self._mark(geom, where)
            mujoco.mjr_render(self._area, self._scene, self._drawing)
            mujoco.mjr_readPixels(self._pixels, None, self._area, self._drawing)
            return self._upright()

    def _mark(self, geom: int, where: mujoco.MjData) -> None:
        model, kind = self.model, int(self.model.geom_type[geom])
        shown = self._add(kind, model.geom_size[geom], where.geom_xpos[geom], where.geom_xmat[geom], _MARK)
        if kind == mujoco.mjtGeom.mjGEOM_MESH:
            shown.dataid = 2 * model.geom_dataid[geom]

    def _add(self, kind: int, *size_place_turn_colour: np.ndarray) -> Any:
        """One more shape in the scene."""
        scene = self._scene
        shown = scene.geoms[scene.ngeom]
        mujoco.mjv_initGeom(shown, kind, *size_place_turn_colour)
        shown.category = mujoco.mjtCatBit.mjCAT_DECOR
        scene.ngeom += 1
        return shown

    def _upright(self) -> np.ndarray:
        """A new array: OpenGL's frames stand on their heads."""
        pixels = self._pixels[::-1]
        if self._scale == 1:
            return pixels.copy()
        rows = pixels[0::2].astype(np.uint16) + pixels[1::2]
        return ((rows[:, 0::2] + rows[:, 1::2] + 2) >> 2).astype(np.uint8)


def _unusable(error: Exception) -> WorldError:
    return WorldError(gl.missing(f"{type(error).__name__}: {error}".split("\n")[0]))


@functools.cache
def _context() -> _Context:
    return _Context()
