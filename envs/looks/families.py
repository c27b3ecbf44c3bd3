"""Families of looks: what training draws from, and what it never sees. Both are drawn from a seed.

A family draws values of some factors. Of each group, some families are trained on and the others are only
ever tested on. Whatever is drawn is drawn again until what matters stands out (`visible`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..factors import LOOKS, NUMBERS, Color, Factor
from .grounds import ground
from .picture import light_table

Known = Mapping[str, Factor]
Values = dict[str, Any]

VERSION = 2  # of everything that is drawn here: another number, other pictures
APART = 48.0  # RGB distance at least, of 441, of a thing from the ground, and of things from each other
HIDDEN = 0.02  # share of the ground that may be nearer
SHARES = {"color": 0.7, "background": 0.7, "light": 0.5, "camera": 0.5, "clutter": 0.4}
TRAINED, UNSEEN, PHOTOGRAPH = "trained", "unseen", "photograph"
_LOOKED_AT = 24  # px, of the ground that is compared with things


@dataclass(frozen=True)
class Family:
    """One way in which things may look.

    sets: the factors whose values it draws; a world has the family when it has one of these, where "*.color"
    stands for the colours of all things.
    """

    name: str
    trained: bool
    about: str
    sets: tuple[str, ...]
    draw: Callable[[np.random.Generator, Known, Values], Values]

    @property
    def group(self) -> str:
        return self.name.partition(".")[0]

    def of(self, known: Known) -> bool:
        """Whether a world with these factors has it."""
        return bool(things(known)) if self.sets == ("*.color",) else self.sets[0] in known


def things(known: Known) -> dict[str, Color]:
    """The colours of what matters in a world."""
    return {name: f for name, f in known.items() if isinstance(f, Color) and f.group == "color"}


def _each(**ranges: Any) -> Callable[[np.random.Generator, Known, Values], Values]:
    """Every thing in a colour of its own, of these ranges; by default of its factor's."""

    def draw(rng: np.random.Generator, known: Known, values: Values) -> Values:
        return {n: Color("", f.default, "", **ranges).draw(rng) if ranges else f.draw(rng)
                for n, f in things(known).items()}  # fmt: skip

    return draw


def _swapped(rng: np.random.Generator, known: Known, values: Values) -> Values:
    """Each thing has the usual colour of another one."""
    names = list(things(known))
    by = int(rng.integers(1, len(names))) if len(names) > 1 else 0
    return {name: things(known)[other].default for name, other in zip(names, names[by:] + names[:by])}


def _ground(kind: str, hue: tuple[float, float] = (0.0, 1.0), **ranges: Any) -> Any:
    def draw(rng: np.random.Generator, known: Known, values: Values) -> Values:
        base = Color("", (0, 0, 0), "", **ranges, hue=hue)
        pattern = kind if kind == "plain" else f"{kind} {int(rng.integers(NUMBERS))}"
        return {"background.color": base.draw(rng), "background.pattern": pattern}

    return draw


def _own(*names: str) -> Callable[[np.random.Generator, Known, Values], Values]:
    """Each of these factors as it draws by itself."""
    return lambda rng, known, values: {name: known[name].draw(rng) for name in names}


def _picture(name: str, kind: str) -> Callable[[np.random.Generator, Known, Values], Values]:
    return lambda rng, known, values: {name: f"{kind} {int(rng.integers(NUMBERS))}"}


_ANY = {"saturation": (0.0, 0.6), "brightness": (0.3, 1.0)}
_DARK = {"saturation": (0.3, 1.0), "brightness": (0.08, 0.38)}
_PALE = {"saturation": (0.15, 0.45), "brightness": (0.75, 1.0)}
_BACK, _STILL, _MOVING = ("background.color", "background.pattern"), "clutter.still", "clutter.moving"
_TILT = ("camera.perspective_x", "camera.perspective_y")
_SHIFT = ("camera.shift_x", "camera.shift_y")
FAMILIES = (
    Family("color.any", True, "any hue, vivid", ("*.color",), _each()),
    Family("color.dark", False, "any hue, dark", ("*.color",), _each(**_DARK)),
    Family("color.pastel", False, "any hue, pale", ("*.color",), _each(**_PALE)),
    Family("color.swapped", False, "each thing in another's usual colour", ("*.color",), _swapped),
    Family("background.plain", True, "one colour", _BACK, _ground("plain", **_ANY)),
    Family("background.stripes", True, "stripes of any width and angle", _BACK, _ground("stripes", **_ANY)),
    Family("background.checks", True, "checks of any size and angle", _BACK, _ground("checks", **_ANY)),
    Family("background.gradient", True, "from one colour to another", _BACK, _ground("gradient", **_ANY)),
    Family("background.noise", True, "clouds of two colours", _BACK, _ground("noise", **_ANY)),
    Family("background.wood", False, "boards with a grain", _BACK,
           _ground("wood", hue=(0.05, 0.12), saturation=(0.25, 0.65), brightness=(0.45, 1.0))),
    Family("background.photo", False, "like a photograph out of focus", _BACK, _ground("photo", **_ANY)),
    Family("light.brightness", True, "darker or brighter", ("light.brightness",), _own("light.brightness")),
    Family("light.contrast", True, "flatter or harder", ("light.contrast",), _own("light.contrast")),
    Family("light.gamma", True, "darker or brighter in the middle", ("light.gamma",), _own("light.gamma")),
    Family("light.cast", False, "a coloured lamp", ("light.cast",), _own("light.cast")),
    Family("light.vignette", False, "dark corners", ("light.vignette",), _own("light.vignette")),
    Family("camera.shift", True, "up to 5 % aside", _SHIFT, _own(*_SHIFT)),
    Family("camera.zoom", True, "up to 8 % nearer or farther", ("camera.zoom",), _own("camera.zoom")),
    Family("camera.blur", True, "out of focus", ("camera.blur",), _own("camera.blur")),
    Family("camera.rotation", False, "up to 8 degrees", ("camera.rotation",), _own("camera.rotation")),
    Family("camera.perspective", False, "not quite from above, up to 5 %", _TILT, _own(*_TILT)),
    Family("camera.jpeg", False, "JPEG of quality 10 to 40", ("camera.jpeg",), _own("camera.jpeg")),
    Family("clutter.discs", True, "discs lie around", (_STILL,), _picture(_STILL, "discs")),
    Family("clutter.boxes", True, "boxes lie around", (_STILL,), _picture(_STILL, "boxes")),
    Family("clutter.disc", True, "a disc moves about", (_MOVING,), _picture(_MOVING, "disc")),
    Family("clutter.lines", False, "long lines lie around", (_STILL,), _picture(_STILL, "lines")),
    Family("clutter.writing", False, "lines of small writing", (_STILL,), _picture(_STILL, "writing")),
    Family("clutter.star", False, "a star moves about", (_MOVING,), _picture(_MOVING, "star")),
)  # fmt: skip
_PHOTOGRAPH = ("light.brightness", "light.contrast", "light.cast", *_TILT, "camera.jpeg")


def families(known: Known, *, trained: bool | None = None, group: str | None = None) -> list[Family]:
    """Those of a world with these factors; only trained or unseen ones, or of one group, if asked."""
    return [
        family
        for family in FAMILIES
        if family.of(known) and trained in (None, family.trained) and group in (None, family.group)
    ]


def look_words(known: Known) -> list[str]:
    """Words that stand for more than a factor or a group of them."""
    groups = [group for group in LOOKS if families(known, group=group)]
    if not groups:
        return []
    of_groups = [f"{word}.{group}" for word in (TRAINED, UNSEEN) for group in groups]
    named = [family.name for family in families(known) if family.name not in known]
    return [TRAINED, UNSEEN, PHOTOGRAPH, *of_groups, *named]


def chosen(known: Known, words: Sequence[str], rng: np.random.Generator) -> list[Family]:
    """The families that words of `look_words` stand for in one episode."""
    return [family for word in words for family in _chosen(known, word, rng)]


def _chosen(known: Known, word: str, rng: np.random.Generator) -> list[Family]:
    if word == PHOTOGRAPH:
        names = tuple(name for name in _PHOTOGRAPH if name in known)
        return [Family(word, False, "", names, _own(*names))]
    kind, _, group = word.partition(".")
    if kind not in (TRAINED, UNSEEN):
        return [family for family in families(known) if family.name == word]
    if group:
        some = families(known, trained=kind == TRAINED, group=group)
        return [some[int(rng.integers(len(some)))]]
    return several(known, LOOKS, rng, trained=kind == TRAINED)


def several(known: Known, groups: Sequence[str], rng: np.random.Generator, *, trained: bool) -> list[Family]:
    """Families of several groups at once, and at times of none: each group with its share of SHARES."""
    return [
        family
        for group in groups
        for family in _some(families(known, trained=trained, group=group), SHARES[group], rng)
    ]


def _some(of: Sequence[Family], share: float, rng: np.random.Generator) -> list[Family]:
    """With this probability one of a group's families, and others of it that go with that one."""
    if not of or rng.random() >= share:
        return []
    found: list[Family] = []
    for position in rng.permutation(len(of)).tolist():
        alone = not any(set(of[position].sets) & set(other.sets) for other in found)
        if alone and (not found or rng.random() < 0.5):
            found.append(of[position])
    return found


def visible(known: Known, values: Mapping[str, Any]) -> bool:
    """Whether things stand out: under the light, from nearly all of the ground, and from each other."""
    under = known.get("background.color")
    if not isinstance(under, Color):
        return True
    found = [values.get(name, thing.default) for name, thing in things(known).items()]
    colours = np.array(found, int).reshape(-1, 3)
    table = light_table(values)
    if table is not None:
        colours = table[np.arange(3), colours]
    places = [tuple(colour) for colour in colours.tolist()]
    if any(math.dist(a, b) < APART for i, a in enumerate(places) for b in places[:i]):
        return False
    red, green, blue = values.get("background.color", under.default)
    pattern = values.get("background.pattern", "plain")
    below = ground(_LOOKED_AT, (red, green, blue), pattern).reshape(-1, 3).round().astype(int)
    if table is not None:
        below = table[np.arange(3), below]
    away = np.linalg.norm(below[:, None].astype(float) - colours, axis=-1)
    return bool((away < APART).mean(0).max(initial=0.0) <= HIDDEN)
