"""What a start/goal pair is: where an episode begins, where it is to end, and how a world is told."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from ..world import SHOWN

OFFSET = 25  # env steps from start to goal unless another number is given; the budget is twice that
BRANCH = 0x9A125  # pairs draw from a branch of random streams that recordings never use


@dataclass(frozen=True)
class Pairs:
    """Start and goal states of one world, and a seed of its own for each pair.

    An episode of pair i begins with `env.reset(seed=pairs.seed[i], options=pairs.options(i))`.

    Attributes:
        name: the world.
        version: "v1" and so on for the fixed lists, "seed-7" for those made from seed 7.
        start, goal: float64 (P, S).
        seed: int64 (P,), for whatever is drawn while that pair is played.
        offset: env steps that the behaviour policy took from start to goal.
        budget: env steps that an agent has.
        vary: factors of variation (latent_planner.envs.factors) or looks that each pair draws from its own
            seed.
        shown: which pictures show those that are looks, "both", "scene" or "goal".
        rule: what counts as success, in words, where the world's documentation does not say it.
    """

    name: str
    version: str
    start: np.ndarray
    goal: np.ndarray
    seed: np.ndarray
    offset: int = OFFSET
    budget: int = 2 * OFFSET
    vary: tuple[str, ...] = ()
    rule: str = ""
    shown: str = SHOWN[0]

    def options(self, index: int) -> dict[str, Any]:
        """The options of the reset that begins the episode of pair `index`."""
        options: dict[str, Any] = {"state": self.start[index], "goal_state": self.goal[index]}
        if not self.vary:
            return options
        shown = {} if self.shown == SHOWN[0] else {"shown": self.shown}
        return {**options, "vary": list(self.vary), **shown}

    def first_frames(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Start and goal of pair `index` as uint8 (H, W, 3), to be seen in place of the world's own first
        frame and goal; None where the world draws them.
        """
        return None

    def first(self, count: int) -> Self:
        """The first `count` pairs."""
        cut: Any = {
            name: value[:count] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        return replace(self, **cut)
