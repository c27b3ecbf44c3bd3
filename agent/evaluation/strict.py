"""Strict success, as some report it: the goal is held for five env steps, within half of the tolerance.

An attempt of the benchmark ends at the first success, and its outcome is kept. If it succeeded it then goes
on, with an agent of its own, until it has held the goal or has used up its steps: so no published figure
changes.
The world says in `info["near"]` whether the goal is twice as near as success asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latent_planner.common.action_space import apart

from .sight import Sight, together

if TYPE_CHECKING:
    from ..agent import Agent
    from .benchmark import Trial

HELD, TIGHT = 5, 2  # env steps in a row, and how many times as near


class Holding:
    """Trials that succeeded, and an agent that goes on with them."""

    def __init__(self, agent: Agent, sight: Sight) -> None:
        self.agent, self.sight = agent.clone(), sight
        self.trials: list[Trial] = []

    def take(self, agent: Agent, trials: Sequence[Trial], mask: np.ndarray) -> None:
        """Go on with the successful ones among those of the agent's trials that mask (B,) bool names."""
        succeeded = mask & np.array([trial.success and trial.held is not None for trial in trials])
        if succeeded.any():
            self.agent.join(agent, succeeded)
            self.trials += [trial for trial, stays in zip(trials, succeeded) if stays]

    def play(self, budget: int) -> None:
        """Act until each trial has held its goal or has used up `budget` env steps."""
        going = self.trials
        while True:
            mask = np.array([(trial.held or 0) < HELD and trial.steps < budget for trial in going], bool)
            if not mask.all():
                self.agent.keep(mask)
                going = [trial for trial, goes_on in zip(going, mask) if goes_on]
            if not going:
                return
            seen = together([self.sight.now(trial.observation) for trial in going])
            for trial, action in zip(going, apart(self.agent.act(seen), len(going))):
                trial.step(action)


def held_line(result: dict[str, Any]) -> str:
    """The strict figure of a benchmark's result, in a line."""
    strict = result["strict"]
    if strict is None:
        return "held, and twice as near: this world has its own rule, which cannot be made tighter"
    low, high = strict["interval"]
    return (
        f"held for {HELD} steps, twice as near: {strict['success']:.0%} "
        f"(95 % interval {low:.0%} to {high:.0%})"
    )
