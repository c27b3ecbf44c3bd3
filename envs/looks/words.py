"""The words that say what varies: names of factors, groups of them, and families of looks.

named(factors, "color,unseen.light", "pusht")       checked
values(factors, read(factors, {"agent.size": 1.2}, "color", "pusht"), rng)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from latent_planner.common.words import did_you_mean

from ..errors import WorldError
from ..factors import GROUPS, Factor
from .families import Family, chosen, look_words, visible

_TRIES = 2000
_HIDING = ("color", "background", "light")


def named(known: Mapping[str, Factor], words: str | Sequence[str], world: str) -> list[str]:
    """What `words` mean: names of factors, or all of a group ("color"), or looks ("unseen.color"), which stay
    as they are; several are a list, or have commas between them.

    Raises WorldError for a word that is none of these.
    """
    words = words.split(",") if isinstance(words, str) else words
    if not isinstance(words, Sequence):
        raise WorldError(f"What shall vary is a name or a list of names, not {words!r}.")
    groups = [group for group in GROUPS if any(factor.group == group for factor in known.values())]
    looks, found = look_words(known), list[str]()
    for word in words:
        if word not in (*groups, *known, *looks):
            raise WorldError(_unknown(word, [*groups, *known, *looks], world))
        of_group = [name for name, f in known.items() if f.group == word and f.drawn]
        found += of_group if word in groups else [word]
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
    """A value for each of `wanted`, as `read` gives it; WorldError for one that its factor cannot have.

    See `settled` for what is drawn.
    """
    return settled(known, wanted, chosen(known, [name for name, _ in wanted if name not in known], rng), rng)


def settled(
    known: Mapping[str, Factor],
    wanted: Sequence[tuple[str, Any]],
    families: Sequence[Family],
    rng: np.random.Generator,
) -> dict[str, Any]:
    """Values of factors: those `wanted`, and what the families draw.

    Colours, ground and light that are drawn are drawn again until things stand out (families.visible), and
    are the usual ones where that never happens.
    """
    given = {name for name, value in wanted if value is not None}
    for _ in range(_TRIES):
        found: dict[str, Any] = {}
        for name, value in wanted:
            if name in known:
                found[name] = _value(name, known[name], value, rng)
        for family in families:
            found = family.draw(rng, known, found) | found
        hiding = {name for name in found if name not in given and known[name].group in _HIDING}
        if not hiding or visible(known, found):
            return found
    return {name: value for name, value in found.items() if name not in hiding}


def _value(name: str, factor: Factor, value: Any, rng: np.random.Generator) -> Any:
    try:
        return factor.draw(rng) if value is None else factor.read(value, rng)
    except ValueError as error:
        raise WorldError(f"The factor {name} is {error}, not {value!r}.") from None


def _unknown(word: Any, known: list[str], world: str) -> str:
    if not known:
        return f"{world} has no factors of variation, so none called {word!r}."
    hint = did_you_mean(word, known) or "."
    return f"{world} has no factor {word!r}{hint} `latent-planner shifts` lists all there are."
