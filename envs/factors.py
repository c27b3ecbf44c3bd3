"""Factors of variation: what may look or move otherwise in an episode, and within which bounds.

    env.reset(seed=0, options={"factors": {"agent.color": (255, 128, 0), "agent.size": (0.8, 1.2)}})
    env.reset(seed=0, options={"vary": "color"})      # draws every color; or ["agent.color", "size"]

A pair of numbers where one is expected is a range to draw from, and None draws from all there are. What was
drawn is in the reset's `info["factors"]`; the next reset is without factors again unless it names some.

`latent-planner shifts` lists and draws them all.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from latent_planner.common.words import nearest

LOOKS = ("color", "background", "light", "camera", "clutter")  # groups that change pictures alone
GROUPS = ("color", "shape", "size", "background", "light", "camera", "clutter", "start", "physics")
GROUNDS = ("plain", "stripes", "checks", "gradient", "noise", "wood", "photo")
STILL = ("none", "discs", "boxes", "lines", "writing")
MOVING = ("none", "disc", "star")
NUMBERS = 2**31  # of the pictures of one kind


class Factor(Protocol):
    """One factor of variation and its default value; None: the start state decides."""

    @property
    def group(self) -> str: ...
    @property
    def default(self) -> Any: ...
    @property
    def about(self) -> str: ...
    @property
    def drawn(self) -> bool:
        """Whether its group's draw includes it; otherwise it must be named."""

    def read(self, value: Any, rng: np.random.Generator) -> Any:
        """The value meant by `value`; ValueError, with what is possible, when there is none."""

    def draw(self, rng: np.random.Generator) -> Any:
        """Any value of its range."""

    def bounds(self) -> str:
        """Its range in words."""


@dataclass(frozen=True)
class Number:
    """A number from low to high; drawn from a narrower range where `draws` gives one."""

    group: str
    default: float | None
    low: float
    high: float
    about: str
    drawn: bool = True
    draws: tuple[float, float] | None = None

    def read(self, value: Any, rng: np.random.Generator) -> float:
        numbers = _array(value)
        if numbers.dtype.kind not in "iuf" or numbers.shape not in ((), (2,)):
            raise ValueError(f"a number {self.bounds()}, or two to draw between")
        if not ((self.low <= numbers) & (numbers <= self.high)).all():
            raise ValueError(f"a number {self.bounds()}")
        low, high = np.broadcast_to(numbers, 2).tolist()
        if low > high:
            raise ValueError("two numbers to draw between, the lower one first")
        return float(rng.uniform(low, high)) if low < high else float(low)

    def draw(self, rng: np.random.Generator) -> float:
        return float(rng.uniform(*(self.draws or (self.low, self.high))))

    def bounds(self) -> str:
        return f"from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Choice:
    """One of some words; drawn among those that differ from the default."""

    group: str
    default: str
    choices: tuple[str, ...]
    about: str
    drawn: bool = True

    def read(self, value: Any, rng: np.random.Generator) -> str:
        if value not in self.choices:
            near = nearest(value, self.choices)
            raise ValueError(f"one of {', '.join(self.choices)}" + (f" ({near!r}?)" if near else ""))
        return str(value)

    def draw(self, rng: np.random.Generator) -> str:
        others = [word for word in self.choices if word != self.default]
        return others[int(rng.integers(len(others)))]

    def bounds(self) -> str:
        return ", ".join(self.choices)


@dataclass(frozen=True)
class Color:
    """Red, green, blue of 0 to 255; drawn in any hue, with saturation and brightness from these ranges."""

    group: str
    default: tuple[int, int, int]
    about: str
    saturation: tuple[float, float] = (0.5, 1.0)
    brightness: tuple[float, float] = (0.4, 0.9)
    drawn: bool = True
    hue: tuple[float, float] = (0.0, 1.0)

    def read(self, value: Any, rng: np.random.Generator) -> tuple[int, int, int]:
        numbers = _array(value)
        whole = numbers.shape == (3,) and numbers.dtype.kind in "iu"
        if not whole or numbers.min() < 0 or numbers.max() > 255:
            raise ValueError("three whole numbers of 0 to 255")
        red, green, blue = numbers.tolist()
        return red, green, blue

    def draw(self, rng: np.random.Generator) -> tuple[int, int, int]:
        hsv = rng.uniform(*self.hue), rng.uniform(*self.saturation), rng.uniform(*self.brightness)
        red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(*hsv))
        return red, green, blue

    def bounds(self) -> str:
        (a, b), (c, d) = self.saturation, self.brightness
        return f"any; drawn with saturation {a:g} to {b:g}, brightness {c:g} to {d:g}"


@dataclass(frozen=True)
class Pictures:
    """One of some kinds of pictures, and a number that tells the pictures of one kind apart: "noise 12".

    A kind alone is its picture 0. Drawn among the kinds `draws`, with a number where `numbered` says so.
    """

    group: str
    default: str
    kinds: tuple[str, ...]
    about: str
    draws: tuple[str, ...]
    numbered: bool = True
    drawn: bool = True

    def read(self, value: Any, rng: np.random.Generator) -> str:
        kind, number = kind_and_number(value) if isinstance(value, str) else (value, 0)
        if kind not in self.kinds or number is None:
            near = nearest(kind, self.kinds)
            raise ValueError(f"{self.bounds()}" + (f" ({near!r}?)" if near and near != kind else ""))
        return str(value)

    def draw(self, rng: np.random.Generator) -> str:
        kind = self.draws[int(rng.integers(len(self.draws)))]
        return f"{kind} {int(rng.integers(NUMBERS))}" if self.numbered else kind

    def bounds(self) -> str:
        return f"one of {', '.join(self.kinds)}, with a number from 0 to {NUMBERS - 1} after it if you like"


def kind_and_number(value: str) -> tuple[str, int | None]:
    """("noise", 12) of "noise 12", and ("noise", 0) of "noise"; None where what follows is no number."""
    kind, _, number = value.partition(" ")
    if not number:
        return kind, 0
    whole = number.isascii() and number.isdecimal() and len(number) < 11
    return kind, int(number) if whole and int(number) < NUMBERS else None


def _array(value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError:  # lists of unequal lengths
        return np.empty(0)


def background(
    saturation: tuple[float, float] = (0.05, 0.35),
    brightness: tuple[float, float] = (0.7, 1.0),
    default: tuple[int, int, int] = (255, 255, 255),
) -> dict[str, Factor]:
    """What lies under everything else: the same in every world that is drawn here."""
    return {
        "background.color": Color("background", default, "of the ground", saturation, brightness),
        "background.pattern": Pictures(
            "background", "plain", GROUNDS, "on the ground", ("stripes", "checks"), numbered=False
        ),
    }


def pictured() -> dict[str, Factor]:
    """Light, camera and clutter: the same in every world."""
    return {
        "light.brightness": Number("light", 1.0, 0.2, 3.0, "times the light", draws=(0.65, 1.3)),
        "light.contrast": Number("light", 1.0, 0.2, 3.0, "about the middle grey", draws=(0.6, 1.4)),
        "light.gamma": Number("light", 1.0, 0.3, 3.0, "above 1 darkens the middle", draws=(0.65, 1.5)),
        "light.cast": Color("light", (255, 255, 255), "of the lamp", (0.2, 0.45), (1.0, 1.0), drawn=False),
        "light.vignette": Number(
            "light", 0.0, 0.0, 0.9, "share of the light that the corners lack", False, (0.35, 0.6)
        ),
        "camera.shift_x": Number(
            "camera", 0.0, -20.0, 20.0, "% of the side, to the right", draws=(-5.0, 5.0)
        ),
        "camera.shift_y": Number("camera", 0.0, -20.0, 20.0, "% of the side, down", draws=(-5.0, 5.0)),
        "camera.zoom": Number("camera", 1.0, 0.5, 2.0, "above 1 is nearer", draws=(0.92, 1.08)),
        "camera.blur": Number("camera", 0.0, 0.0, 10.0, "% of the side, a deviation", draws=(0.7, 1.8)),
        "camera.rotation": Number("camera", 0.0, -45.0, 45.0, "degrees, clockwise", False, (-8.0, 8.0)),
        "camera.perspective_x": Number(
            "camera", 0.0, -20.0, 20.0, "% by which the right side is longer", False, (-5.0, 5.0)
        ),
        "camera.perspective_y": Number(
            "camera", 0.0, -20.0, 20.0, "% by which the lower side is longer", False, (-5.0, 5.0)
        ),
        "camera.jpeg": Number("camera", 100.0, 1.0, 100.0, "quality; 100 is no JPEG", False, (10.0, 40.0)),
        "clutter.still": Pictures("clutter", "none", STILL, "that lie around", ("discs", "boxes")),
        "clutter.moving": Pictures("clutter", "none", MOVING, "that moves by itself", ("disc",)),
    }
