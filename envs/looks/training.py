"""The looks in which training sees an episode once more: only of families that it may know.

A look lasts a few frames, so that a recording holds many of them: an encoder that learned from one look an
episode knew those by heart, and read others worse.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from latent_planner.common.words import did_you_mean

from ..errors import WorldError
from ..factors import LOOKS
from . import families as looks
from . import words

LASTS = 5  # frames


def families(world: Any, vary: str) -> list[str]:
    """Names of the families that `vary` may draw in this world: "trained", or groups, "color,light".

    Raises WorldError for other words, unseen families among them, and for a world that has one look
    or is seen by several cameras.
    """
    known, label = world.factors, type(world).__name__
    if len(world.columns) > 1:
        raise WorldError(f"Looks can vary for one camera, not for {', '.join(world.columns)}: choose one.")
    groups = [group for group in LOOKS if looks.families(known, trained=True, group=group)]
    if not groups:
        raise WorldError(f"{label} has one look, so nothing of it can vary: leave that out.")
    for word in vary.split(","):
        if word not in (looks.TRAINED, *groups):
            hint = did_you_mean(word, [looks.TRAINED, *groups]) or "."
            raise WorldError(
                f"Training may vary {looks.TRAINED} (all), or {', '.join(groups)}, not {word!r}{hint} Unseen "
                "looks are for tests."
            )
    return [family.name for family in looks.families(known, trained=True) if family.group in _groups(vary)]


def values(world: Any, vary: str, source: np.random.SeedSequence) -> dict[str, Any]:
    """What one look draws: some of the families of `vary`, perhaps none, and their values."""
    rng = np.random.default_rng(source)
    families = looks.several(world.factors, _groups(vary), rng, trained=True)
    return words.settled(world.factors, [], families, rng)


def drawn_in(world: Any, vary: str, source: np.random.SeedSequence) -> Iterator[np.ndarray]:
    """The world's current frame in the looks of an episode, each time that the next one is asked for."""
    while True:
        draw = world.drawn_in(values(world, vary, source.spawn(1)[0]))
        for _ in range(LASTS):
            yield draw()


def _groups(vary: str) -> tuple[str, ...]:
    return tuple(group for group in LOOKS if {group, looks.TRAINED} & set(vary.split(",")))
