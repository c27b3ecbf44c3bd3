"""What the worlds that MuJoCo simulates share: states without memory, substeps, frames.

A subclass compiles a model, names its camera, and says how actions and states go in and out:

    class Pendulum(MujocoWorld):
        state_names, control_hz, substeps, camera = ("angle", "velocity"), 25.0, 4, "front"

        def compile(self) -> mujoco.MjModel:
            return mujoco.MjModel.from_xml_string(...)

Models, and what is needed to draw them, are made once a process for all worlds that look the same.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Hashable
from typing import Any, ClassVar

import numpy as np

from ..looks.picture import finished
from ..world import World, WorldError
from .dress import Dress, DressedFrames, Wardrobe
from .frames import Frames, mujoco

_FAR = 1e5  # beyond this, numbers in a state are a mistake


class MujocoWorld(World):
    """Base of the worlds with MuJoCo.

    What follows from a state is a function of that state and the actions alone, bit for bit, also when the
    state was met in the middle of an episode: the solver starts cold in every step.

    `reference_look`: frames as mujoco draws them by itself, with shadows, reflections and multisampling, and
    what else the subclass says.
    """

    substeps: ClassVar[int]  # physics steps in one control step
    camera: ClassVar[str]  # name of the model's camera
    cameras: ClassVar[dict[str, str]] = {}  # of each of `views`, where these are several
    marker_geoms: ClassVar[tuple[str, ...]] = ()  # geoms that show, in green, where the goal is
    wardrobe: ClassVar[Wardrobe | None] = None  # what its looks change, where it has any
    has_reference_look: ClassVar[bool] = (
        True  # whether there is a published look for `reference_look` to take
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._model, self._usual_frames = self._shared()
        self._frames = self._usual_frames
        self._data, self._other = mujoco.MjData(self._model), mujoco.MjData(self._model)
        self._marks = [self._model.geom(name).id for name in self.marker_geoms]

    # What a subclass provides, beside `sample_state` and `is_success` --------------------------------------

    def compile(self) -> mujoco.MjModel:
        """The model of this world, looking as `self.reference_look` says."""
        raise NotImplementedError

    def look(self) -> Hashable:
        """What `compile` depends on beside class, image size and `reference_look`."""
        return None

    def write_state(self, data: mujoco.MjData, state: np.ndarray) -> None:
        """Put a checked `state` (S,) into freshly reset `data`; here positions, then velocities."""
        data.qpos[:], data.qvel[:] = np.split(state, [self._model.nq])

    def read_state(self, data: mujoco.MjData) -> np.ndarray:
        """The state (S,) that `write_state` would need to get to where `data` is, as a new array."""
        return np.concatenate([data.qpos, data.qvel])

    def write_action(self, data: mujoco.MjData, action: np.ndarray) -> None:
        """Turn a checked action (A,) into controls; here it is the controls."""
        data.ctrl[:] = action

    def tidy(self, data: mujoco.MjData) -> None:
        """After a control step: bring `data` into the form that states have, such as angles in [-pi, pi)."""

    # -------------------------------------------------------------------------------------------------------

    def check_state(self, state: Any, name: str = "state") -> np.ndarray:
        """`state` as a new array (S,), or a WorldError when nothing could be simulated from it."""
        array = super().check_state(state, name)
        if np.abs(array).max() > _FAR:
            raise WorldError(f"{name} holds {np.abs(array).max():.3g}, which is far outside this world.")
        return array

    def render_state(self, state: Any) -> np.ndarray:
        """The frame of `state` (S,), drawn from data of its own."""
        return self.render_from(next(iter(self.columns)), state)

    def render_from(self, view: str, state: Any) -> np.ndarray:
        """The frame of `state` (S,) through the camera `view`."""
        self._put(self._other, self.check_state(state))
        image: np.ndarray = self._frames.draw(self._other, camera=self.cameras.get(view))
        return image

    def _half_view(self, height: float) -> float:
        """Half the side, in m, of what a camera above the middle shows at this height."""
        camera = self._model.cam(self.camera)
        return float((camera.pos[2] - height) * math.tan(math.radians(camera.fovy[0]) / 2))

    def _shared(self) -> tuple[mujoco.MjModel, Frames]:
        reference_look = self.reference_look and self.has_reference_look
        key = (type(self), self.image_size, reference_look, self.look())
        with _lock:
            if key not in _models:
                model = self.compile()
                model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_WARMSTART
                _models[key] = (
                    model,
                    Frames(model, self.image_size, self.camera, reference_look=reference_look),
                )
            return _models[key]

    def _put(self, data: mujoco.MjData, state: np.ndarray) -> None:
        mujoco.mj_resetData(self._model, data)
        self.write_state(data, state)
        self.tidy(data)
        mujoco.mj_forward(self._model, data)

    def _place(self, state: np.ndarray) -> None:
        self._put(self._data, state)

    def _move(self, action: np.ndarray) -> None:
        self.write_action(self._data, action)
        mujoco.mj_step(self._model, self._data, self.substeps)
        self.tidy(self._data)

    def _state(self) -> np.ndarray:
        return self.read_state(self._data)

    def _draw(self, marker: np.ndarray | None) -> np.ndarray:
        return self._draw_from(next(iter(self.columns)), marker)

    def _vary(self, varied: dict[str, Any]) -> None:
        self._frames = self._frames_for(varied)

    def _frames_for(self, varied: dict[str, Any]) -> Any:
        if self.wardrobe is None:
            return super()._frames_for(varied)
        dressed: Any = self._usual_frames
        scene = [name for name in varied if self.factors[name].group not in ("light", "camera")]
        if scene:
            if self.reference_look and self.has_reference_look:
                raise WorldError(f"In the published look only light and camera can vary, not {scene[0]}.")
            dress = Dress.of(self._model, self.wardrobe, self.factors, varied)
            dressed = DressedFrames(dressed, dress)
        return finished(dressed, self.image_size, varied)

    def _draw_from(self, view: str, marker: np.ndarray | None) -> np.ndarray:
        return self._draw_with(self._frames, marker, view)

    def _draw_with(self, frames: Any, marker: np.ndarray | None, view: str | None = None) -> np.ndarray:
        # after a step, the bodies' places are those of before its last substep
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)
        camera = self.cameras.get(view or next(iter(self.columns)))
        marks = []
        if marker is not None:
            self._put(self._other, marker)
            marks = [(geom, self._other) for geom in self._marks]
        image: np.ndarray = frames.draw(self._data, marks, camera=camera, moment=self.moment)
        return image


_models: dict[Hashable, tuple[mujoco.MjModel, Frames]] = {}
_lock = threading.Lock()
