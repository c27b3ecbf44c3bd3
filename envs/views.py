"""What of a world is observed: its usual camera alone, or several by name and the robot's own vector.

The first camera that is asked for is `pixels` in observations, each other `pixels_<name>`, the vector
`proprio`: the names that recordings have for them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from .errors import WorldError

PIXELS, VECTOR = "pixels", "proprio"
RESERVED = ("look", VECTOR)  # `pixels_look` holds frames drawn again in another look, and is no camera
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,79}")  # of a camera


def columns(asked: Sequence[str] | str | None, known: Sequence[str], world: str) -> dict[str, str]:
    """Of each camera asked for, its name in observations.

    asked: names of `known`, or "pixels", the first of these; None: that one alone.   world: its name.
    Raises WorldError for names that are unknown, or the same twice.
    """
    names = [known[0]] if asked is None else [asked] if isinstance(asked, str) else list(asked)
    meant = [known[0] if name == PIXELS else name for name in names]
    unknown = [name for name in meant if name not in known]
    if unknown or not names or len(set(meant)) < len(meant):
        wrong = f"there is no {unknown[0]!r}" if unknown else f"{names} names none, or one twice"
        raise WorldError(f"{world} has the cameras {', '.join(known)}: {wrong}.")
    return {name: PIXELS if i == 0 else f"{PIXELS}_{name}" for i, name in enumerate(meant)}
