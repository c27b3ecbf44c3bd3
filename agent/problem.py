"""What the Agent remembers of one goal it pursues: context, plan, and place in the block under way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor

from planners import PlanError


@dataclass
class Problem:
    """Blocks are normalised and flat, (FA,) each, on the CPU; latents on the device."""

    seed: int
    goal: Tensor | None = None  # (D,)
    later: list[Tensor] = field(default_factory=list)  # (D,) each: goals that come after this one
    near: float = 0.0  # latent distance at which a goal that is not the last counts as passed
    stalled: bool = False  # the last plan came no nearer to the goal
    steps_left: int | None = None  # environment steps
    replans: int = 0
    latents: list[Tensor] = field(default_factory=list)  # (D,) each, one per model step, newest last
    past: list[Tensor] = field(default_factory=list)  # the blocks executed between them
    blocks: list[Tensor] = field(default_factory=list)  # planned and not begun
    begun: int = 0  # blocks begun since the last replan
    pending: list[np.ndarray] = field(default_factory=list)  # (A,) each: what is left of the block under way
    last: np.ndarray | None = None  # (A,), what was done last, in environment units

    def drop_plan(self) -> None:
        if self.pending:  # cut short, so the context's frames would not be one model step apart
            self.latents, self.past = [], []
        self.blocks, self.pending, self.stalled = [], [], False

    def passing(self) -> Problem:
        """Itself, or a copy that pursues the next goal, with no plan yet, when this one is passed."""
        if not self.later or self.goal is None:
            return self
        if not self.stalled and float((self.latents[-1] - self.goal).norm()) > self.near:
            return self
        return replace(self, goal=self.later[0], later=self.later[1:], blocks=[], stalled=False)

    def context(self, latent: Tensor, length: int) -> tuple[list[Tensor], list[Tensor]]:
        """Latents and blocks with this latent as the newest, at most `length` frames."""
        latents = [*self.latents, latent][-length:] if not self.pending else [latent]
        return latents, self.past[len(self.past) - len(latents) + 1 :]

    def next_block(self) -> Tensor:
        self.past = [*self.past, self.blocks[0]]
        self.blocks = self.blocks[1:]
        self.begun += 1
        return self.past[-1]


def mix_seeds(seed: int, branch: int) -> int:
    """The seed of one branch of a stream: problem i of an agent, or replan k of a problem."""
    return int(np.random.SeedSequence([int(seed) % 2**64, branch]).generate_state(1, np.uint64)[0])


def chosen_problems(mask: np.ndarray | None, count: int) -> list[int]:
    """Indices of the problems a mask names; all for None."""
    if mask is None:
        return list(range(count))
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.shape != (count,):
        raise PlanError(
            f"mask must be bool of shape ({count},), one per problem, not {mask.dtype} {mask.shape}."
        )
    return np.flatnonzero(mask).tolist()


def steps_per_problem(steps: int | Sequence[int] | np.ndarray | None, count: int) -> list[int | None]:
    """Steps left of every problem."""
    if steps is None:
        return [None] * count
    left = np.asarray(steps)
    if left.dtype.kind not in "iu" or left.shape not in ((), (count,)) or (left < 1).any():
        raise PlanError(f"steps must be a whole number of at least 1, or one per problem, not {steps!r}.")
    return np.broadcast_to(left, count).tolist()
