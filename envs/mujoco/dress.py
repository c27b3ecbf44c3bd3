"""How a MuJoCo world looks other than usual: colours of shapes, a picture on the ground, flat things on it.

The model stays as it is compiled. Colours and the ground's picture are put into it before a frame is drawn,
and taken out again for the usual look; the ground's picture goes to OpenGL only when it is another one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from ..factors import Color, Factor, background, pictured
from ..looks.clutter import Mover, Thing, lying
from ..looks.families import things
from ..looks.grounds import ground
from .library import mujoco

_DISC, _BOX = mujoco.mjtGeom.mjGEOM_CYLINDER.value, mujoco.mjtGeom.mjGEOM_BOX.value
_DARK = {"saturation": (0.1, 0.6), "brightness": (0.08, 0.35)}  # a ground that bright things stand out from


@dataclass(frozen=True)
class Wardrobe:
    """What a world's looks change.

    paints: of each factor of colour, the names of geoms, perhaps with *; the ground's usual colour.
    floor: x and y of the middle of what the camera shows of the ground, half its side, and its height, m.
    """

    ground: str
    paints: Mapping[str, tuple[str, ...]]
    floor: tuple[float, float, float, float]


def factors(colours: Mapping[str, tuple[float, ...]], below: tuple[float, ...]) -> dict[str, Factor]:
    """The factors of a world whose things and ground have these usual colours, numbers from 0 to 1."""
    own: dict[str, Factor] = {
        f"{name}.color": Color("color", _bytes(colour), f"of the {name}") for name, colour in colours.items()
    }
    return {**own, **background(**_DARK, default=_bytes(below)), **pictured()}


def _bytes(colour: tuple[float, ...]) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in colour[:3])
    return red, green, blue


@dataclass(eq=False)
class Dress:
    """One look of a model, to be worn while a frame is drawn."""

    colours: dict[int, np.ndarray] = field(default_factory=dict)  # of geoms, (3,) from 0 to 1
    ground: int = -1  # the geom that shows `picture`
    picture: np.ndarray | None = None  # of the whole texture
    things: list[Thing] = field(default_factory=list)
    mover: Mover | None = None
    floor: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 0.0)

    @staticmethod
    def of(
        model: mujoco.MjModel, wardrobe: Wardrobe, known: Mapping[str, Factor], varied: Mapping[str, Any]
    ) -> Dress:
        """The look of a model under these values of factors."""
        names = [model.geom(i).name for i in range(model.ngeom)]
        dress = Dress(ground=names.index(wardrobe.ground), floor=wardrobe.floor)
        for factor, patterns in wardrobe.paints.items():
            if factor in varied:
                for i, name in enumerate(names):
                    if any(fnmatchcase(name, pattern) for pattern in patterns):
                        dress.colours[i] = np.array(varied[factor]) / 255.0
        pattern = varied.get("background.pattern", "plain")
        below: Any = known["background.color"]
        red, green, blue = varied.get("background.color", below.default)
        colour = red, green, blue
        if pattern != "plain":
            dress.picture = _texture(model, wardrobe, dress.ground, colour, pattern)
            dress.colours[dress.ground] = np.ones(3)
        elif "background.color" in varied:
            dress.colours[dress.ground] = np.array(colour) / 255.0
        others = [tuple(varied.get(name, factor.default)) for name, factor in things(known).items()]
        dress.things = lying(varied.get("clutter.still", "none"), others)
        moving = varied.get("clutter.moving", "none")
        dress.mover = None if moving == "none" else Mover(moving, others)
        return dress

    def flat(self, moment: float) -> list[tuple[int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
        """Shapes on the ground: kind, size (3,), place (3,), rotation (9,) and colour (4,)."""
        seen = [*self.things, *([] if self.mover is None else [self.mover.at(moment)])]
        return [shape for layer, thing in enumerate(seen) for shape in self._shapes(thing, layer)]

    def _shapes(self, thing: Thing, layer: int) -> Any:
        x, y, half, height = self.floor
        thin = half * 2e-5 * (layer + 1)  # those that come later lie on top
        place = np.array([x + (2 * thing.x - 1) * half, y - (2 * thing.y - 1) * half, height])
        radius, colour = 2 * half * thing.radius, np.array([*thing.colour / 255.0, 1.0], np.float32)
        if thing.shape == "disc":
            yield _DISC, np.array([radius, thin, 0.0]), place, np.eye(3).ravel(), colour
            return
        star = thing.shape == "star"
        size = np.array([radius, 0.22 * radius, thin] if star else [radius * thing.long, radius, thin])
        for turn in range(3 if star else 1):
            angle = -thing.angle + turn * math.pi / 3
            cos, sin = math.cos(angle), math.sin(angle)
            yield _BOX, size, place, np.array([cos, -sin, 0, sin, cos, 0, 0, 0, 1.0]), colour


def _texture(
    model: mujoco.MjModel, wardrobe: Wardrobe, geom: int, colour: tuple[int, int, int], pattern: str
) -> np.ndarray:
    """The picture where the camera sees it, mirrored beyond: bytes (side, side, 3) of the whole ground."""
    side, (x, y, half, _) = int(model.tex_width[_material(model)[1]]), wardrobe.floor
    share = (half + max(abs(x), abs(y))) / float(model.geom_size[geom][0])  # about the ground's middle
    shown = min(round(side * share), side)
    before = (side - shown) // 2
    around = (before, side - shown - before)
    picture = ground(shown, colour, pattern)
    return np.pad(picture, [around, around, (0, 0)], mode="symmetric").round().astype(np.uint8)


def _material(model: mujoco.MjModel) -> tuple[int, int]:
    """The material and the texture that no shape of the usual look has."""
    texture = model.tex("grid").id
    return int(np.flatnonzero((model.mat_texid == texture).any(-1))[0]), texture


class Worn:
    """What a model wears: puts on and takes off.   Not for the published looks, which use the material."""

    def __init__(self, model: mujoco.MjModel) -> None:
        self._model = model
        self._dress: Dress | None = None
        self._sent: np.ndarray | None = None  # the picture that OpenGL has
        self._rgba, self._matid = model.geom_rgba.copy(), model.geom_matid.copy()

    def put_on(self, dress: Dress | None, drawing: mujoco.MjrContext) -> None:
        """Make the model look so, None as usual; inside a context."""
        model = self._model
        if dress is self._dress:
            return
        self._dress = dress
        model.geom_rgba[:], model.geom_matid[:] = self._rgba, self._matid
        if dress is None:
            return
        for geom, colour in dress.colours.items():
            model.geom_rgba[geom, :3] = colour
        if dress.picture is None:
            return
        material, texture = _material(model)
        model.geom_matid[dress.ground] = material
        model.mat_texrepeat[material], model.mat_texuniform[material] = 1.0, False
        model.mat_rgba[material], model.mat_reflectance[material] = 1.0, 0.0
        if self._sent is not dress.picture:
            self._sent = dress.picture
            start = int(model.tex_adr[texture])
            model.tex_data[start : start + dress.picture.size] = dress.picture.ravel()
            mujoco.mjr_uploadTexture(model, drawing, texture)


class DressedFrames:
    """Frames of a world in a dress."""

    def __init__(self, frames: Any, dress: Dress) -> None:
        self._frames, self._dress = frames, dress

    def draw(self, *args: Any, **more: Any) -> np.ndarray:
        """As `frames.Frames.draw`."""
        image: np.ndarray = self._frames.draw(*args, **more, dress=self._dress)
        return image
