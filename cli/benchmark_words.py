"""The benchmark's settings from words such as benchmark.offset=50 benchmark.shift=color, for plan.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from latent_planner.envs.world import SHOWN as WHERE

from .overrides import ConfigError, did_you_mean

PROTOCOLS = ("held_out", "lewm")  # ours, and the published evaluation of LeWM
PROTOCOL, DATA = "benchmark.protocol", ("data.path", "data.camera", "data.state")
OFFSET, STEPS, SHIFT = "benchmark.offset", "benchmark.budget", "benchmark.shift"
SHOWN = "benchmark.shown"  # which pictures show the look of the shift
STRICT = "benchmark.strict"
SENSES, GOAL, HISTORY = "benchmark.senses", "benchmark.goal", "benchmark.history"
YES = {"true": True, "false": False}


def benchmark_settings(overrides: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The words that are not about the benchmark, and its settings, benchmark.protocol always among them.

    Raises ConfigError for a setting or protocol that does not exist, for an offset or budget that is no
    number of steps, and for data and shifts where they have no meaning.
    """
    ours = [word for word in overrides if word.startswith(("benchmark.", "data."))]
    settings = {PROTOCOL: PROTOCOLS[0], **dict(word.split("=", 1) for word in ours)}
    known = [PROTOCOL, OFFSET, STEPS, SHIFT, SHOWN, STRICT, SENSES, GOAL, HISTORY, *DATA]
    for key in settings:
        if key not in known:
            raise ConfigError(f"there is no setting {key!r}{did_you_mean(key, known)}")
    protocol = settings[PROTOCOL]
    if protocol not in PROTOCOLS:
        raise ConfigError(f"there is no {PROTOCOL}={protocol}{did_you_mean(protocol, PROTOCOLS)}")
    if protocol == "lewm" and not settings.get("data.path"):
        raise ConfigError(f"{PROTOCOL}=lewm takes starts and goals from a recording: say data.path=FILE")
    if protocol != "lewm" and any(key in settings for key in DATA):
        raise ConfigError(f"data.… is for {PROTOCOL}=lewm: the held-out pairs need no recording")
    if protocol == "lewm" and SHIFT in settings:
        raise ConfigError(f"{SHIFT} has no meaning with {PROTOCOL}=lewm, whose frames are recorded")
    if SHOWN in settings and SHIFT not in settings:
        raise ConfigError(
            f"{SHOWN} says which pictures a shift changes: say {SHIFT}=, too, as in {SHIFT}=color"
        )
    if settings.get(SHOWN, WHERE[0]) not in WHERE:
        raise ConfigError(f"{SHOWN} is {', '.join(WHERE[:-1])} or {WHERE[-1]}, not {settings[SHOWN]!r}")
    for key in (OFFSET, STEPS):
        steps = settings.get(key, "1")
        if not (steps.isascii() and steps.isdecimal() and 1 <= int(steps) <= 10_000):
            raise ConfigError(f"{key} is a whole number of env steps from 1 to 10000, not {steps!r}")
    for key in (STRICT, HISTORY):
        if settings.get(key, "true") not in YES:
            raise ConfigError(f"{key} is true or false, not {settings[key]!r}")
    if protocol == "lewm" and any(key in settings for key in (SENSES, GOAL, HISTORY)):
        raise ConfigError(f"{SENSES} and the like have no meaning with {PROTOCOL}=lewm, of one camera")
    return [word for word in overrides if word not in ours], settings


def shows(settings: Mapping[str, str]) -> dict[str, Any]:
    """What an agent is shown in the benchmark, for `benchmark.run`."""
    lists = {
        name: [word.strip() for word in settings[key].strip("[]").split(",")] if key in settings else None
        for name, key in (("senses", SENSES), ("goal", GOAL))
    }
    return {**lists, "history": settings.get(HISTORY) == "true"}
