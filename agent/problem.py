"""What the Agent remembers of one goal it pursues: context, plan, and place in the block under way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latent_planner.planners import PlanError

Normalise = Callable[[np.ndarray], Tensor]  # (n, A) in environment units -> the model's, on the CPU


@dataclass
class Problem:
    """Blocks are normalised and flat, (FA,) each, on the CPU; latents on the device."""

    seed: int
    goal: Tensor | None = None  # (D,)
    said: Tensor | None = None  # (D,) 1 where the goal says what the latent is to be; None: everywhere
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
    handed: np.ndarray | None = None  # (H·F, A), the plan that `Agent.replan` gave out, in environment units

    def drop_plan(self) -> None:
        if self.pending:  # cut short, so the context's frames would not be one model step apart
            self.latents, self.past = [], []
        self.blocks, self.pending, self.stalled = [], [], False

    def note_before(self, latent: Tensor, executed: Any, frameskip: int, normalise: Normalise) -> None:
        """A frame from before the first plan, and the actions (F, A) from there to the next. PlanError."""
        if self.replans:
            raise PlanError("A plan is under way: observe frames before the first `act`, or after `reset`.")
        if not isinstance(executed, np.ndarray) or len(executed) != frameskip:
            raise PlanError(
                f"executed must be the {frameskip} actions that led from this frame to the next: frames of "
                "this model are so many apart."
            )
        self.latents = [*self.latents, latent]
        self.past = [*self.past, normalise(executed).flatten()]
        self.last = executed[-1]

    def give_up_handed(self) -> None:
        """Nobody will say what was done of the plan that `Agent.replan` gave out."""
        if self.handed is not None:
            self.drop_plan()
            self.handed, self.latents, self.past = None, [], []

    def take_back(
        self, executed: int | np.ndarray | None, frameskip: int, normalise: Normalise, assumed: int
    ) -> None:
        """Note what was done since `Agent.replan` gave out a plan: so many of its actions, or these (n, A);
        None: perhaps `assumed` of its actions. No more counts as done than the plan had: a robot that paused
        has not used up its steps. What is left of the plan stays, as whole blocks."""
        handed, self.handed = self.handed, None
        if handed is None:
            if self.pending:
                self.drop_plan()
            return
        number = assumed if executed is None else executed if isinstance(executed, int) else len(executed)
        number = min(number, len(handed))
        done = executed if isinstance(executed, np.ndarray) else handed[:number]
        if len(done):
            self.last = done[-1]
        if number == 0:
            self.latents = self.latents[:-1]  # this moment is looked at again
        elif len(done) == frameskip and executed is not None:
            self.past = [*self.past, normalise(done).flatten()]
        else:  # the frames are not one model step apart, or nobody knows what lies between
            self.latents, self.past = [], []
        if self.blocks:  # otherwise there is a new goal since
            if self.steps_left is not None:
                self.steps_left -= number
            rest = handed[number:]
            whole = len(rest) // frameskip
            left = normalise(rest[: whole * frameskip])
            self.blocks = list(left.reshape(whole, frameskip * left.shape[1]))

    def take_plan(self, blocks: Tensor, *, stalled: bool) -> None:
        """Begin this plan, (H, FA) on the CPU; stalled: it comes no nearer to the goal."""
        self.blocks, self.begun, self.stalled = list(blocks), 0, stalled
        self.replans += 1

    def passing(self) -> Problem:
        """Itself, or a copy that pursues the next goal, with no plan yet, when this one is passed."""
        if not self.later or self.goal is None:
            return self
        off = (
            self.latents[-1] - self.goal if self.said is None else (self.latents[-1] - self.goal) * self.said
        )
        if not self.stalled and float(off.norm()) > self.near:
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


def groups(problems: Sequence[Problem], horizon: Callable[[Problem], int]) -> list[list[Problem]]:
    """Problems that can be solved as one batch: mostly all of them. horizon: how far each looks ahead."""
    found = defaultdict(list)
    for problem in problems:
        sizes = len(problem.latents), horizon(problem), len(problem.blocks), problem.last is None
        found[sizes].append(problem)
    return list(found.values())


def one_group(problems: Sequence[Problem], horizon: Callable[[Problem], int]) -> list[Problem]:
    """These problems, if they can be solved as one batch; PlanError if not."""
    found = groups(problems, horizon)
    if len(found) > 1:
        raise PlanError("These problems are at different points of their way: plan them in own sessions.")
    return found[0]


def goals_of(problems: Sequence[Problem]) -> Tensor:
    """(B, D); every problem has a goal."""
    return torch.stack([problem.goal for problem in problems if problem.goal is not None])


def said_of(problems: Sequence[Problem]) -> Tensor | None:
    """(B, D), where the goals of these problems say anything; None: everywhere."""
    known = [problem.said for problem in problems if problem.said is not None]
    if not known:
        return None
    return torch.stack([torch.ones_like(known[0]) if p.said is None else p.said for p in problems])


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


def committed_per_problem(committed: Any, count: int, action_dim: int) -> list[np.ndarray] | None:
    """The actions (n, A) that each problem is bound to begin with; None for none."""
    if committed is None:
        return None
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused below
            actions = np.asarray(committed, np.float32)
    except (TypeError, ValueError):
        actions = np.full(1, np.nan, np.float32)
    if actions.size == 0:
        return None
    return [np.asarray(own) for own in executed_per_problem(actions, count, action_dim)]


def executed_per_problem(executed: Any, count: int, action_dim: int) -> list[int | np.ndarray | None]:
    """What each problem did: one whole number, (n, A) for one problem or (B, n, A) for several; or None."""
    if executed is None or (isinstance(executed, (int, np.integer)) and not isinstance(executed, bool)):
        if executed is not None and executed < 0:
            raise PlanError(f"executed must be at least 0 actions, not {executed}.")
        return [executed if executed is None else int(executed)] * count
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused below
            actions = np.array(executed, np.float32)
    except (TypeError, ValueError):
        actions = np.full(0, np.nan, np.float32)
    actions = actions[None] if actions.ndim == 2 and count == 1 else actions
    if actions.ndim != 3 or (len(actions), actions.shape[2]) != (count, action_dim):
        raise PlanError(
            f"executed must be a number of actions, or, as committed, the actions: (n, {action_dim}), or "
            f"({count}, n, {action_dim})."
        )
    if not np.isfinite(actions).all():
        raise PlanError("executed or committed holds actions that are not finite numbers.")
    return list(actions)
