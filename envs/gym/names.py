"""Names of Gymnasium's environments as worlds here: `gym:ID`, or `gym:ID?key=value&key=value`.

    gym:Pendulum-v1
    gym:InvertedPendulum-v5?past_end=true&tolerance=0.1
    gym:Swimmer-v5?plain=true&width=128&height=128&default_camera_config.distance=5
    gym:Meta-World/MT1?env_name=reach-v3

A name says everything that changes what the world is, so recordings, checkpoints and goal pictures need to
carry nothing else. `tolerance`, `past_end`, `goal` and `plain` are ours (see envs.gym.world); any other key
is handed to the environment itself: a number, true or false, or plain text as in `env_name=reach-v3`, and in
a dictionary where the key has a dot. A name comes with checkpoints and pictures of others, so it never makes
anything be imported, names no file, and sizes and repetitions in it have limits.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from ..world import WorldError

PREFIX = "gym:"
TOLERANCE = 0.2
_ID = re.compile(r"([\w.-]+/)?[\w.-]+")
_KEY = re.compile(r"([a-z_][a-z0-9_]*\.)?[a-z_][a-z0-9_]*")
_OURS = ("tolerance", "goal", "past_end", "plain")
# Letters, digits, "_" and "-", and a dot before a digit: no path, no module, nothing that has to be quoted.
_TEXT = re.compile(r"[A-Za-z]([A-Za-z0-9_-]|\.(?=[0-9])){0,63}")
_LONGEST, _MOST = 500, 32  # characters of a name, options in it
_LARGEST = 1e6  # of any number
# Numbers that cost time or memory in code that nothing can stop: the last word of a key, smallest, largest.
_LIMITS = {
    **dict.fromkeys(("skip", "frameskip", "substeps", "repeat", "iterations"), (1, 1000)),
    **dict.fromkeys(("width", "height", "size", "resolution", "side"), (0, 4096)),
    **dict.fromkeys(("count", "freq", "frequency"), (0, 10_000)),
}
_SET_HERE = ("render_mode", "max_episode_steps", "disable_env_checker", "id")


@dataclass(frozen=True)
class GymName:
    """What a name says.

    id: Gymnasium's own, as in "Pendulum-v1".
    tolerance, goal, past_end, plain: see envs.gym.world; goal None: the components that are known to be
        positions.
    options: what the environment is made with.
    """

    id: str
    tolerance: float = TOLERANCE
    goal: tuple[int, ...] | None = None
    past_end: bool = False
    plain: bool = False
    options: dict[str, Any] = field(default_factory=dict)


def is_gym(name: str | None) -> bool:
    """Whether this names one of Gymnasium's environments."""
    return name is not None and name.startswith(PREFIX)


def parse(name: str) -> GymName:
    """What `name` says; WorldError where it says nothing that can be understood."""
    if len(name) > _LONGEST or name.count("&") >= _MOST:
        raise WorldError(
            f"{name[:60]!r}… is too long: a name has at most {_LONGEST} characters and {_MOST} options."
        )
    ident, _, rest = name.removeprefix(PREFIX).partition("?")
    if not _ID.fullmatch(ident):
        raise WorldError(
            f"{name!r} names no Gymnasium environment: write gym:ID, as in gym:Pendulum-v1. What a module of "
            "your own registers is found with module=MODULE (train.py) or --module MODULE."
        )
    values: dict[str, Any] = {}
    for word in filter(None, rest.split("&")):
        key, _, text = word.partition("=")
        outer, dot, inner = key.rpartition(".")
        inside = values.setdefault(outer, {}) if dot else values
        allowed = _KEY.fullmatch(key) and key not in _SET_HERE and outer not in _OURS + _SET_HERE
        if not allowed or not isinstance(inside, dict) or inner in inside:
            raise WorldError(f"{name!r}: {key!r} cannot be set there.")
        inside[inner] = _goal(name, text) if key == "goal" else _value(name, key, text)
    ours = {key: values.pop(key) for key in _OURS if key in values}
    tolerance = ours.get("tolerance", TOLERANCE)
    if isinstance(tolerance, (bool, str)) or not tolerance > 0:
        raise WorldError(f"{name!r}: the tolerance is a number above 0, in standard deviations.")
    switches = {key: ours.get(key, False) for key in ("past_end", "plain")}
    for key, on in switches.items():
        if not isinstance(on, bool):
            raise WorldError(f"{name!r}: {key} is true or false.")
    return GymName(ident, float(tolerance), ours.get("goal"), **switches, options=values)


def compose(
    ident: str,
    *,
    tolerance: float | None = None,
    goal: Any = None,
    past_end: bool = False,
    plain: bool = False,
) -> str:
    """The name of the environment `ident`, which may have a `?…` of its own; checked by `parse`.

    goal: numbers of components of the observation, or one of them.
    """
    words = []
    if tolerance is not None and tolerance != TOLERANCE:
        words.append(f"tolerance={tolerance!r}")
    if goal is not None:
        numbers = [goal] if isinstance(goal, (int, str)) else goal
        words.append("goal=" + ",".join(map(str, numbers)))
    words += ["past_end=true"] * past_end + ["plain=true"] * plain
    name = PREFIX + str(ident).removeprefix(PREFIX)
    if words:
        name += ("&" if "?" in name else "?") + "&".join(words)
    parse(name)
    return name


def as_recorded(name: str) -> str:
    """The name without the rule of success, which changes no recording; those of other worlds unchanged."""
    if not is_gym(name):
        return name
    ident, _, rest = name.partition("?")
    kept = [word for word in rest.split("&") if not word.startswith(("tolerance=", "goal="))]
    return f"{ident}?{'&'.join(kept)}" if any(kept) else ident


def _value(name: str, key: str, text: str) -> Any:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = text if _TEXT.fullmatch(text) else None
    if not isinstance(value, (bool, int, float, str)) or value != value or text.startswith('"'):
        raise WorldError(
            f"{name!r}: {key} is a number, true or false, or plain text (a letter, then at most 63 letters, "
            f"digits, - and _), not {text!r}."
        )
    if isinstance(value, (bool, str)):
        return value
    word = key.rpartition(".")[2].rpartition("_")[2]
    least, most = _LIMITS.get(word, (-_LARGEST, _LARGEST))
    if not least <= value <= most:
        raise WorldError(f"{name!r}: {key} lies between {least:g} and {most:g}, and {text} does not.")
    return value


def _goal(name: str, text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"\d{1,4}(,\d{1,4})*", text):
        raise WorldError(f"{name!r}: goal lists components of the observation, as in goal=0,1, not {text!r}.")
    return tuple(sorted({int(word) for word in text.split(",")}))
