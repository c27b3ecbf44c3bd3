"""What an action is made of: numbers, choices among a few, or both. One short text says it.

    ActionSpace.parse("Discrete(4)")                             one choice of 0, 1, 2, 3
    ActionSpace.parse("Discrete(4 from 1)")                      one choice of 1, 2, 3, 4
    ActionSpace.parse("MultiDiscrete(3, 2)")                     two choices
    ActionSpace.parse("Tuple(Box(2), Discrete(2))")              two numbers and a choice
    ActionSpace.parse("Dict(arm=Box(2), gripper=Discrete(2))")   the same, by name

Recordings, planners' bounds and plans hold an action as one row of A numbers, the parts one after the other,
with a whole number for each choice. Programs and environments have it in a form of their own: an int, an
array, a tuple or a dict. An empty text stands for A real numbers whose form is that row itself.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from .printable import printable

MOST_CHOICES = 4096  # of one component
MOST_PARTS = 64
LONGEST = 4000  # characters of the text
EXAMPLES = (
    "Box(2), Discrete(4), MultiDiscrete(3, 2), Tuple(Box(2), Discrete(2)) or "
    "Dict(arm=Box(2), gripper=Discrete(2))"
)
_PART = r"(Box|Discrete|MultiDiscrete|MultiBinary)\(([^()]*)\)"
_NAME = r"[A-Za-z_][\w.-]{0,63}"
_CHOICE = re.compile(r"(\d{1,5})(?: from (-?\d{1,9}))?")


class ActionSpaceError(ValueError):
    """A text is no action space, or an action does not belong to it; the message says what would."""


@dataclass(frozen=True)
class Part:
    """One part of an action: an array of numbers, or of choices.

    kind: Box, Discrete, MultiDiscrete or MultiBinary.   shape: of its own form, () for Discrete.
    choices, first: of each component, how many choices and the first; empty for a Box.
    """

    kind: str
    shape: tuple[int, ...]
    choices: tuple[int, ...] = ()
    first: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Components."""
        return math.prod(self.shape)

    def __str__(self) -> str:
        if self.kind in ("Box", "MultiBinary"):
            return f"{self.kind}({'x'.join(map(str, self.shape))})"
        counts = (f"{n} from {first}" if first else f"{n}" for n, first in zip(self.choices, self.first))
        return f"{self.kind}({', '.join(counts)})"

    def own_form(self, numbers: np.ndarray) -> Any:
        """(…, size) -> (…, *shape), whole numbers for choices; an int for one Discrete."""
        shaped = numbers.reshape((*numbers.shape[:-1], *self.shape))
        if self.kind == "Box":
            return shaped.astype(np.float32)
        whole = np.rint(shaped).astype(np.int8 if self.kind == "MultiBinary" else np.int64)
        return whole[()]  # a number where the array has no axes


@dataclass(frozen=True)
class ActionSpace:
    """The parts of an action; names: their keys in a dict, else none.   form: "", "one", "tuple" or "dict".

    The form "" is that of A real numbers, whatever A is; it has no parts.
    """

    form: str = ""
    parts: tuple[Part, ...] = ()
    names: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> ActionSpace:
        """What a text means; ActionSpaceError where it means nothing."""
        return _parsed(text)

    def __bool__(self) -> bool:
        return bool(self.parts)

    def __str__(self) -> str:
        if self.form in ("", "one"):
            return "".join(map(str, self.parts))
        if self.form == "tuple":
            return f"Tuple({', '.join(map(str, self.parts))})"
        return f"Dict({', '.join(f'{name}={part}' for name, part in zip(self.names, self.parts))})"

    @property
    def size(self) -> int:
        """A: numbers in a row; 0 for the form that has no parts."""
        return sum(part.size for part in self.parts)

    @property
    def choices(self) -> tuple[int, ...]:
        """(A,): how many choices each component has, 0 for a number. Empty where all are numbers."""
        counts = tuple(n for part in self.parts for n in part.choices or (0,) * part.size)
        return counts if any(counts) else ()

    @property
    def first(self) -> tuple[int, ...]:
        """(A,): the first choice of each component, 0 for a number."""
        return tuple(first for part in self.parts for first in part.first or (0,) * part.size)

    def own_form(self, numbers: Any) -> Any:
        """Rows (…, A) -> what env.step takes; of several rows, arrays with the same axes in front."""
        if not self.parts:
            return numbers
        rows, found, at = np.asarray(numbers), [], 0
        for part in self.parts:
            found.append(part.own_form(rows[..., at : at + part.size]))
            at += part.size
        if self.form == "dict":
            return dict(zip(self.names, found))
        return tuple(found) if self.form == "tuple" else found[0]

    def row(self, action: Any) -> np.ndarray:
        """The row float32 (A,) of one action in its own form; a row of A numbers is one, too.

        ActionSpaceError for what is no action of this space.
        """
        if not self.parts:
            return np.asarray(action, np.float32)
        try:
            row = self._row(action)
        except (TypeError, ValueError, KeyError, OverflowError):
            row = np.full(0, np.nan, np.float32)
        if row.shape != (self.size,) or not np.isfinite(row).all() or self.odd(row[None])[0]:
            raise ActionSpaceError(f"An action is one of {self}, not {printable(action, 100)}.")
        return row

    def _row(self, action: Any) -> np.ndarray:
        if isinstance(action, Mapping):
            if self.form != "dict" or set(action) != set(self.names):
                raise KeyError
            given = [action[name] for name in self.names]
        elif isinstance(action, tuple) and self.form == "tuple":
            given = list(action)
        else:
            array = np.asarray(action, np.float32)
            if self.form != "one" or array.ndim == 1:
                return array
            given = [array]
        shaped = [np.asarray(value, np.float32) for value in given]
        if [value.shape for value in shaped] != [part.shape for part in self.parts]:
            raise ValueError
        return np.concatenate([value.reshape(-1) for value in shaped])

    def random_row(self, rng: np.random.Generator, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """A row float32 (A,): numbers evenly between low and high (A,), choices evenly among all."""
        row = rng.uniform(low, high)
        for index, (count, first) in enumerate(zip(self.choices, self.first)):
            if count:
                row[index] = rng.integers(first, first + count)
        return row.astype(np.float32)

    def odd(self, rows: np.ndarray) -> np.ndarray:
        """(N,) bool: of finite rows (N, A), those with a choice that there is not."""
        if not self.choices:
            return np.zeros(len(rows), bool)
        counts, first = np.array(self.choices), np.array(self.first)
        values = np.asarray(rows, np.float64)
        wrong = (values != np.rint(values)) | (values < first) | (values >= first + counts)
        found: np.ndarray = (wrong & (counts > 0)).any(axis=1)
        return found


NUMBERS = ActionSpace()


def apart(actions: Any, count: int) -> list[Any]:
    """Each of `count` actions, of what `ActionSpace.own_form` made of their rows."""
    if isinstance(actions, dict):
        return [{name: part[i] for name, part in actions.items()} for i in range(count)]
    if isinstance(actions, tuple):
        return [tuple(part[i] for part in actions) for i in range(count)]
    return list(actions)


@lru_cache(maxsize=64)
def _parsed(text: str) -> ActionSpace:
    if not isinstance(text, str) or len(text) > LONGEST:
        raise _unknown(text)
    text = text.strip()
    if not text:
        return NUMBERS
    outer = re.fullmatch(r"(Tuple|Dict)\((.*)\)", text)
    if outer is None:
        return ActionSpace("one", (_part(text, text),))
    named = outer[1] == "Dict"
    entry = rf"\s*{f'({_NAME})=' if named else '()'}({_PART})\s*"
    if not re.fullmatch(rf"{entry}(?:,{entry})*", outer[2]):
        raise _unknown(text)
    found = [(match[1], _part(match[2], text)) for match in re.finditer(entry, outer[2])]
    names = tuple(name for name, _ in found) if named else ()
    if len(found) > MOST_PARTS or len(set(names)) < len(names):
        raise _unknown(text)
    return ActionSpace("dict" if named else "tuple", tuple(part for _, part in found), names)


def _part(text: str, whole: str) -> Part:
    match = re.fullmatch(_PART, text)
    if match is None:
        raise _unknown(whole)
    kind, inside = match[1], match[2].strip()
    if kind in ("Box", "MultiBinary"):
        if not re.fullmatch(r"\d{1,4}(x\d{1,4})*", inside):
            raise _unknown(whole)
        shape = tuple(map(int, inside.split("x")))
        if not 0 < math.prod(shape) <= MOST_CHOICES:
            raise _unknown(whole)
        size = math.prod(shape)
        return Part(kind, shape) if kind == "Box" else Part(kind, shape, (2,) * size, (0,) * size)
    found = [_CHOICE.fullmatch(word.strip()) for word in inside.split(",")]
    counts = tuple(int(match[1]) for match in found if match)
    fits = len(counts) == len(found) <= MOST_PARTS and all(0 < n <= MOST_CHOICES for n in counts)
    if not fits or (kind == "Discrete" and len(counts) != 1):
        raise _unknown(whole)
    first = tuple(int(match[2] or 0) for match in found if match)
    return Part(kind, () if kind == "Discrete" else (len(counts),), counts, first)


def _unknown(text: Any) -> ActionSpaceError:
    return ActionSpaceError(f"{printable(text, 100)!r} is no space of actions: write {EXAMPLES}.")
