"""Factors of variation: what may look or move otherwise in an episode, and within which bounds.

    env.reset(seed=0, options={"factors": {"agent.color": (255, 128, 0), "agent.size": (0.8, 1.2)}})
    env.reset(seed=0, options={"vary": "color"})      # draws every color; or ["agent.color", "size"]

A pair of numbers where one is expected is a range to draw from, and None draws from all there are. What was
drawn is in the reset's `info["factors"]`; the next reset is without factors again unless it names some.

`latent-planner shifts` lists and draws them all.
"""

from __future__ import annotations

import colorsys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from latent_planner.common.words import did_you_mean, nearest

from .errors import WorldError

GROUPS = ("color", "shape", "size", "background", "start", "physics")


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
    """A number from low to high."""

    group: str
    default: float | None
    low: float
    high: float
    about: str
    drawn: bool = True

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
        return float(rng.uniform(self.low, self.high))

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

    def read(self, value: Any, rng: np.random.Generator) -> tuple[int, int, int]:
        numbers = _array(value)
        whole = numbers.shape == (3,) and numbers.dtype.kind in "iu"
        if not whole or numbers.min() < 0 or numbers.max() > 255:
            raise ValueError("three whole numbers of 0 to 255")
        red, green, blue = numbers.tolist()
        return red, green, blue

    def draw(self, rng: np.random.Generator) -> tuple[int, int, int]:
        hsv = rng.uniform(0, 1), rng.uniform(*self.saturation), rng.uniform(*self.brightness)
        red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(*hsv))
        return red, green, blue

    def bounds(self) -> str:
        (a, b), (c, d) = self.saturation, self.brightness
        return f"any; drawn with saturation {a:g} to {b:g}, brightness {c:g} to {d:g}"


def _array(value: Any) -> np.ndarray:
    try:
        return np.asarray(value)
    except ValueError:  # lists of unequal lengths
        return np.empty(0)


def background() -> dict[str, Factor]:
    """What lies under everything else: the same in every world that is drawn here."""
    return {
        "background.color": Color("background", (255, 255, 255), "of the ground", (0.05, 0.35), (0.7, 1.0)),
        "background.pattern": Choice("background", "plain", ("plain", "stripes", "checks"), "on the ground"),
    }


def named(known: Mapping[str, Factor], words: str | Sequence[str], world: str) -> list[str]:
    """The factors that `words` mean: names, groups ("color"), or several of them; also "color,agent.size".

    Raises WorldError for a word that is neither.
    """
    words = words.split(",") if isinstance(words, str) else words
    if not isinstance(words, Sequence):
        raise WorldError(f"What shall vary is a name or a list of names, not {words!r}.")
    groups = [group for group in GROUPS if any(factor.group == group for factor in known.values())]
    found: list[str] = []
    for word in words:
        if word not in (*groups, *known):
            raise WorldError(_unknown(word, [*groups, *known], world))
        drawn = [name for name, f in known.items() if f.group == word and f.drawn]
        found += [word] if word in known else drawn
    return list(dict.fromkeys(found))


def read(
    known: Mapping[str, Factor], asked: Mapping[str, Any], vary: str | Sequence[str], world: str
) -> list[tuple[str, Any]]:
    """Checked (name, value) pairs of what is asked for, and (name, None) of what is only to be drawn."""
    if not isinstance(asked, Mapping):
        raise WorldError(f"factors is a mapping from names to values, not {type(asked).__name__}.")
    for name in asked:
        if name not in known:
            raise WorldError(_unknown(name, list(known), world))
    names = named(known, vary, world)
    return [*asked.items(), *((name, None) for name in names if name not in asked)]


def values(
    known: Mapping[str, Factor], wanted: Sequence[tuple[str, Any]], rng: np.random.Generator
) -> dict[str, Any]:
    """One value for each of `wanted`, as `read` gives it; WorldError for one that its factor cannot have."""
    found = {}
    for name, value in wanted:
        factor = known[name]
        try:
            found[name] = factor.draw(rng) if value is None else factor.read(value, rng)
        except ValueError as error:
            raise WorldError(f"The factor {name} is {error}, not {value!r}.") from None
    return found


def _unknown(word: Any, known: list[str], world: str) -> str:
    if not known:
        return f"{world} has no factors of variation, so none called {word!r}."
    return f"{world} has no factor {word!r}{did_you_mean(word, known) or '.'} There are {', '.join(known)}."
