"""Wording that every room shares: what to say of a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: object, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name that is most like `word`; None where none is at least `cutoff` like it (0 to 1)."""
    near = difflib.get_close_matches(str(word), list(known), n=1, cutoff=cutoff)
    return near[0] if near else None


def did_you_mean(word: object, known: Iterable[str], start: str = "; did") -> str:
    """What to add to "there is no NAME": "; did you mean 'pusht'?", or nothing where no name is near."""
    near = nearest(word, known)
    return "" if near is None else f"{start} you mean {near!r}?"
