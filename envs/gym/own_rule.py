"""A GoalEnv's own rule of success, where it can be asked about goals of ours.

GoalEnvs report `is_success` or `success` for the target of their own episode, which is not what a goal
picture shows. The function behind it can be found in most: `is_success` or `_is_success`, also of a `task`,
of an achieved and a desired goal, or a `compute_reward` that takes two values. It is used when it agrees with
what the environment reports over a short episode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .components import REACHED, TARGET
from .policies import Smooth

WAYS = ("is_success", "_is_success", "task.is_success", "compute_reward")
STEPS = 20  # of smooth noise, over which the function and the report have to agree
Rule = Callable[[np.ndarray, np.ndarray], bool]


def rule(env: Any, way: str) -> Rule | None:
    """The function of `env` called `way`: (achieved, desired goal) -> reached; None where it is missing."""
    found: Any = env.unwrapped
    for word in way.split("."):
        found = getattr(found, word, None)
    if not callable(found):
        return None
    if way != "compute_reward":
        return lambda reached, wanted: bool(np.all(found(reached, wanted)))

    def rewarded(reached: np.ndarray, wanted: np.ndarray) -> bool:
        return float(found(reached, wanted, {})) == float(found(wanted, wanted, {}))

    return rewarded


def way_of(world: Any) -> str | None:
    """Which of WAYS can be asked in `world`, a GymWorld; None where nothing is reported or nothing agrees."""
    noise = Smooth(world.action_low, world.action_high, world.actions)
    noise.reset(np.random.default_rng(STEPS))
    world.replay(0, [])
    trials: list[tuple[np.ndarray, np.ndarray, bool]] = []
    for _ in range(STEPS):
        world.play(noise.act({}))
        reported = reported_success(world.told)
        if reported is None or not isinstance(world.raw, dict) or not {REACHED, TARGET} <= set(world.raw):
            return None
        trials.append((np.array(world.raw[REACHED]), np.array(world.raw[TARGET]), reported))
    return next((way for way in WAYS if _agrees(world.env, way, trials)), None)


def reported_success(info: dict[str, Any]) -> bool | None:
    """What the environment's own info says of its own episode."""
    said = info.get("is_success", info.get("success"))
    return None if said is None or np.ndim(said) else bool(said)


def _agrees(env: Any, way: str, trials: list[tuple[np.ndarray, np.ndarray, bool]]) -> bool:
    asked = rule(env, way)
    if asked is None:
        return False
    try:
        if way == "compute_reward":  # a distance has more than two values, and tells nobody what is near
            values = {float(env.unwrapped.compute_reward(*trial[:2], {})) for trial in trials}
            best = float(env.unwrapped.compute_reward(trials[0][1], trials[0][1], {}))
            if len(values - {best}) > 1:
                return False
        return all(
            asked(reached, wanted) == said and asked(wanted, wanted) for reached, wanted, said in trials
        )
    except Exception:  # other arguments than these: it is not the function that was looked for
        return False
