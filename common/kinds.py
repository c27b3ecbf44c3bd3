"""What a setting takes: its kind and range, checked in one way wherever the setting comes from.

Whoever owns settings keeps a table {name: kind} next to them, as `TrainConfig.KINDS`. `read` takes what
stands on a command line, `check` a value from Python, JSON or YAML; both raise ValueError with one sentence.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from unicodedata import category

NULL = ("null", "none", "~")  # in any case; what stands for no value where a setting can have none


@dataclass(frozen=True)
class Kind:
    """optional: whether null (None) is a value, too."""

    optional: bool = False

    def wanted(self) -> str:
        """In words, as in "a number above 0"; follows "takes" and "must be"."""
        raise NotImplementedError

    def parsed(self, text: str) -> Any:
        """The value that the text stands for, of any range; ValueError where it is none of this kind."""
        raise NotImplementedError

    def fits(self, value: Any) -> bool:
        """Whether a value other than None is of this kind and in its range."""
        raise NotImplementedError

    def _words(self) -> str:
        return f"{self.wanted()}, or null" if self.optional else self.wanted()

    def read(self, name: str, text: str) -> Any:
        """The value of the setting NAME=TEXT."""
        if self.optional and text.lower() in NULL:
            return None
        try:
            value = self.parsed(text)
        except ValueError:
            value = None
        if value is None or not self.fits(value):
            raise ValueError(f"{name}={text}: {name} takes {self._words()}")
        return value

    def check(self, name: str, value: Any) -> None:
        """Raise ValueError unless the value can be the setting's."""
        if not (self.optional if value is None else self.fits(value)):
            raise ValueError(f"{name} must be {self._words()}, not {value!r}")


@dataclass(frozen=True)
class Text(Kind):
    """Any text, as it stands: a number is the text of its digits. No control characters, no "${"."""

    def wanted(self) -> str:
        return "text: not empty, no control characters, no ${"

    def parsed(self, text: str) -> str:
        return text

    def fits(self, value: Any) -> bool:
        # "???" is a missing value to OmegaConf, which also fills in what stands in ${}
        return isinstance(value, str) and value != "" and plain(value)


def plain(text: str) -> bool:
    """Whether the text means nothing but itself wherever settings are kept, and can be written to a file."""
    odd = ("Cc", "Cs", "Zl", "Zp")  # controls, half letters, line breaks
    return not any(category(letter) in odd for letter in text) and "${" not in text and text != "???"


@dataclass(frozen=True)
class Choice(Kind):
    names: tuple[str, ...] = ()

    def wanted(self) -> str:
        return f"one of {', '.join(self.names)}"

    def read(self, name: str, text: str) -> str:
        if not self.fits(text):
            raise ValueError(f"there is no {name}={text}; choose from {', '.join(self.names)}")
        return text

    def parsed(self, text: str) -> str:
        return text

    def fits(self, value: Any) -> bool:
        return isinstance(value, str) and value in self.names


@dataclass(frozen=True)
class YesNo(Kind):
    def wanted(self) -> str:
        return "true or false"

    def parsed(self, text: str) -> bool | None:
        return {"true": True, "false": False}.get(text.lower())

    def fits(self, value: Any) -> bool:
        return isinstance(value, bool)


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number, both ends included."""

    low: int = -(2**63)
    high: int = 2**63 - 1

    def wanted(self) -> str:
        default = Whole()
        if self.low == default.low:
            return "a whole number"
        most = "" if self.high == default.high else f" and at most {self.high}"
        return f"a whole number of at least {self.low}{most}"

    def parsed(self, text: str) -> int:
        if not re.fullmatch(r"[+-]?\d[\d_]{0,40}", text, re.ASCII):
            raise ValueError(text)
        return int(text)

    def fits(self, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.low <= value <= self.high


@dataclass(frozen=True)
class Number(Kind):
    """A number; ends are included unless `above` and `below` say that they are not. Never NaN."""

    low: float = -sys.float_info.max
    high: float = sys.float_info.max
    above: bool = False
    below: bool = False
    of: str = "a number"

    def wanted(self) -> str:
        ends = []
        if self.low > -sys.float_info.max:
            ends.append(f"above {self.low:g}" if self.above else f"at least {self.low:g}")
        if self.high < sys.float_info.max:
            ends.append(f"below {self.high:g}" if self.below else f"at most {self.high:g}")
        text = " and ".join(ends)
        return f"{self.of} {'of ' if text.startswith('at') else ''}{text}".rstrip()

    def parsed(self, text: str) -> float:
        return int(text) if re.fullmatch(r"[+-]?\d{1,18}", text, re.ASCII) else float(text)

    def fits(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        low = value > self.low if self.above else value >= self.low
        return low and (value < self.high if self.below else value <= self.high)


@dataclass(frozen=True)
class WordOrNumber(Kind):
    """One of some words, or a number."""

    names: tuple[str, ...] = ()
    number: Number = Number()

    def wanted(self) -> str:
        return f"{', '.join(self.names)}, or {self.number.wanted()}"

    def parsed(self, text: str) -> str | float:
        return text if text in self.names else self.number.parsed(text)

    def fits(self, value: Any) -> bool:
        return value in self.names if isinstance(value, str) else self.number.fits(value)


@dataclass(frozen=True)
class Several(Kind):
    """A list of values of one kind, as in [1,2]; `single` allows one of them without brackets."""

    each: Kind = Number()
    single: bool = False

    def wanted(self) -> str:
        listed = f"a list such as [1,2], each {self.each.wanted()}"
        return f"{self.each.wanted()}, or {listed}" if self.single else listed

    def parsed(self, text: str) -> Any:
        inside = re.fullmatch(r"[\[(](.*)[\])]", text.strip(), re.DOTALL)
        if inside:
            return [self.each.parsed(word.strip().strip("'\"")) for word in inside[1].split(",")]
        return self.each.parsed(text) if self.single else None

    def fits(self, value: Any) -> bool:
        if isinstance(value, Sequence) and not isinstance(value, str):
            return len(value) > 0 and all(self.each.fits(one) for one in value)
        return self.single and self.each.fits(value)


SEED = Whole(low=0, high=2**32 - 1)  # of random numbers, as numpy and torch both take it


def kind_of(default: Any) -> Kind:
    """The kind that a default value speaks for; of no value, any text."""
    if isinstance(default, bool):
        return YesNo()
    if isinstance(default, int):
        return Whole()
    if isinstance(default, float):
        return Number()
    if isinstance(default, Sequence) and not isinstance(default, str):
        return Several()
    return Text(optional=default is None)
