"""The loop that all planners share.

A planner looks for the sequence of action blocks with the lowest cost. It knows nothing but the limits of
an action block and a cost function, so it plans through any model:

    planner = CEM(PlanConfig(horizon=5), low, high)
    plan = planner.plan(cost_fn, batch_size=B)        # cost_fn: (B, N, H, FA) -> (B, N)

Each iteration asks the planner for candidates (`propose`; here: normal around the mean, if asked correlated
in time), puts them inside the limits, asks for their cost, keeps the best one seen, and lets the planner
`learn`: most only say in `update` how costs move the mean and the standard deviation.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from . import noise
from .checks import checked_tensor
from .config import Plan, PlanConfig, PlanError, is_int
from .costs import CostFn, cost_and_gradient, usable
from .limits import Limits, Numbers
from .proposals import mingle, whole_plans

logger = logging.getLogger(__name__)


@dataclass
class Search:
    """One solve under way. B problems, n candidates in this iteration.

    mean, std, best: (B, H, FA).   best_cost: (B,).   candidates: (B, n, H, FA), inside the limits.
    cost: (B, n), +inf where it was not finite.       gradient: like candidates, where it was asked for.
    draw: n -> (B, n, H, FA) normal around mean, the first the mean itself, some near proposals.
    proposed, memory: what a planner itself carries from one iteration to the next.
    """

    mean: Tensor
    std: Tensor
    best: Tensor
    best_cost: Tensor
    candidates: Tensor
    cost: Tensor
    gradient: Tensor
    proposed: Tensor
    draw: Callable[[int], Tensor] = lambda n: torch.empty(0)
    memory: Any = None
    iteration: int = 0
    history: list[Tensor] = field(default_factory=list)
    elites: list[Tensor] = field(default_factory=list)

    @classmethod
    def start(cls, mean: Tensor, init_std: float) -> Search:
        none = mean[:, :0]
        cost = torch.full((len(mean),), math.inf, device=mean.device)
        return cls(mean, torch.full_like(mean, init_std), mean, cost, none, none, none, none)

    def look(self, candidates: Tensor, cost: Tensor, gradient: Tensor, num_elites: int) -> None:
        """Take in an iteration's candidates and what they cost."""
        self.candidates, self.cost, self.gradient = candidates, cost, gradient
        elites, elite_cost = cheapest(candidates, cost, num_elites)
        better = elite_cost[:, 0] < self.best_cost
        self.best = torch.where(better[:, None, None], elites[:, 0], self.best)
        self.best_cost = torch.where(better, elite_cost[:, 0], self.best_cost)
        self.history.append(self.best_cost)
        self.elites.append(elite_cost.mean(dim=1))


class Planner:
    """Base of all planners: subclasses define `update`, or `learn` and `propose`.

    low, high: (FA,) bounds of every component of an action block, low <= high; infinite means unbounded.
    action_dim: A, where a block is FA / A actions in the order of time; default: the block is one action.
    max_change: one number or (A,), the most by which an action may differ from the one before it.
    choices: of one action's components, how many choices each has, 0 for a number; see planners.choices.
    Every candidate that a cost function sees keeps all of these. PlanError if they make no sense.
    """

    bounded = True  # whether plans keep inside the bounds
    chooses = True  # whether it can plan choices

    def __init__(
        self,
        config: PlanConfig,
        low: Numbers,
        high: Numbers,
        *,
        action_dim: int | None = None,
        max_change: Numbers | float | None = None,
        choices: Sequence[int] | None = None,
    ) -> None:
        self.config = config
        self.limits = Limits(low, high, action_dim=action_dim, max_change=max_change, choices=choices)
        if self.limits.choices is not None and not self.chooses:
            raise PlanError(
                f"{type(self).__name__} plans numbers only, and some of these actions are choices: take cem, "
                "icem, mppi or predictive."
            )
        self._warned = False

    # -- what planners differ in -----------------------------------------------------------------------------

    @property
    def rounds(self) -> int:
        """Iterations of a solve that no deadline ends."""
        return self.config.iterations

    def mixing(self, steps: int) -> Tensor | None:
        """(L, steps, steps) that correlate white noise over the steps of a plan; None to leave it white."""
        correlation = self.config.noise_correlation
        return noise.spread(correlation, steps) if correlation else None

    def propose(self, search: Search) -> Tensor:
        """Candidates (B, n, H, FA) of the next iteration; they are put inside the limits afterwards."""
        return search.draw(self.config.num_samples)

    def wants_gradient(self, iteration: int) -> bool:
        """Whether this iteration needs the gradient of the cost."""
        return False

    def learn(self, search: Search) -> None:
        """Change what the next iteration proposes, from `search.candidates` and `search.cost`."""
        mean, std = self.update(search.candidates, search.cost)
        search.mean = torch.lerp(mean, search.mean, self.config.momentum)
        search.std = torch.lerp(std, search.std, self.config.momentum).clamp_(min=self.config.min_std)

    def moments(self, candidates: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """As `weighted_moments`; of choices the mean is their chances, and no spread is added to these."""
        mean, std = weighted_moments(candidates, weights)
        choices = self.limits.choices
        return mean, std if choices is None else std.masked_fill(choices.where.to(std.device), 0.0)

    def update(self, candidates: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, both (B, H, FA), from candidates (B, N, H, FA) and their cost (B, N).

        Costs that were not finite arrive as +inf and must carry no weight; every problem has a finite one.
        """
        raise NotImplementedError

    # -- what they share -------------------------------------------------------------------------------------

    @torch.no_grad()
    def plan(
        self,
        cost_fn: CostFn,
        *,
        batch_size: int = 1,
        horizon: int | None = None,
        warm_start: Plan | Tensor | None = None,
        last_action: Tensor | None = None,
        proposals: Tensor | None = None,
        committed: Tensor | None = None,
        deadline: float | None = None,
        seeds: Sequence[int] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        watch: Callable[[Search], None] | None = None,
    ) -> Plan:
        """Search for the cheapest action sequence of each of B problems.

        cost_fn: (B, N, H, FA) -> (B, N), lower is better. Costs that are not finite count as worst. Planners
            that follow gradients need one that torch can differentiate.
        batch_size: B. Each problem draws from its own stream, so it gets the plan it would get alone.
        horizon: model steps, instead of the config's.
        warm_start: (B, H', FA), or a plan holding that, to start the mean from; cut, or filled up with the
            action nearest to zero, to the horizon. Shift what was executed already (`shift`).
        last_action: (B, A), what was executed last: max_change counts from it.
        proposals: (B, P, H', FA), plans that may be good: a share of the candidates are these, and plans near
            them. Cut, or filled up with zeros, to the horizon.
        committed: (B, n, A), what will be done first, whatever is planned: every candidate begins with it.
        deadline: seconds. No iteration is begun that would end after it, judged by the last one; the first
            always runs.
        seeds: B whole numbers, one stream each; default `config.seed + i`.
        device, dtype: of the candidates, float32 or float64; cost_fn must answer on that device.
        watch: called in each iteration with the search, once its candidates have their cost.

        Raises PlanError for arguments or costs of the wrong shape, and where no candidate's cost is finite.
        """
        started = time.perf_counter()
        horizon = self.config.horizon if horizon is None else horizon
        for name, value in (("horizon", horizon), ("batch_size", batch_size)):
            if not is_int(value) or value < 1:
                raise PlanError(f"{name} must be a whole number of at least 1, not {value!r}.")
        if dtype not in (torch.float32, torch.float64):
            raise PlanError(f"dtype must be torch.float32 or torch.float64, not {dtype}.")
        like = torch.empty(0, dtype=dtype, device=device)
        last_action = self._checked_last(last_action, batch_size, like)
        if committed is not None:
            sizes, axes = (batch_size, None, self.limits.action_dim), "problems, actions, action"
            committed = (
                checked_tensor("committed", committed, axes, sizes, "leave it out").to(like).flatten(1)
            )
        mean = self._first_mean(warm_start, batch_size, horizon, like)
        mean = self.limits.keep_numbers(mean[:, None], last_action)[:, 0]
        if self.limits.choices is not None:
            mean = self.limits.choices.first_chances(mean, known=warm_start is not None)
        search = Search.start(mean, self.config.init_std)
        if proposals is not None:
            proposals = whole_plans(proposals, mean)
        search.draw = self._drawing(search, self._streams(seeds, batch_size, like.device), proposals)

        seconds = dict.fromkeys(("propose", "cost", "learn"), 0.0)
        now = time.perf_counter()
        for search.iteration in range(self.rounds):
            begun = now
            candidates = self.propose(search)
            if committed is not None:
                begin = candidates.view(*candidates.shape[:2], -1)[..., : committed.shape[1]]
                begin[:] = committed[:, None, : begin.shape[-1]]
            candidates = self.limits.keep(candidates, last_action)
            proposed = time.perf_counter()
            cost, gradient = cost_and_gradient(cost_fn, candidates, self.wants_gradient(search.iteration))
            search.look(candidates, self._finite(cost), gradient, self.config.num_elites)
            if watch is not None:
                watch(search)
            judged = time.perf_counter()
            late = deadline is not None and judged + (judged - begun) > started + deadline
            if not late and search.iteration + 1 < self.rounds:
                self.learn(search)
            now = time.perf_counter()
            for name, spent in zip(seconds, (proposed - begun, judged - proposed, now - judged)):
                seconds[name] += spent
            if late:
                break
        return Plan(
            actions=search.best,
            cost=search.best_cost,
            iterations=len(search.history),
            solve_seconds=time.perf_counter() - started,
            history=torch.stack(search.history, dim=1),
            elites=torch.stack(search.elites, dim=1),
            seconds=seconds,
        )

    def shift(self, actions: Tensor, steps: int) -> Tensor:
        """What is left of actions (B, H, FA) after `steps` of them: moved to the front, the end filled with
        the allowed action nearest to zero. Use it for `warm_start`."""
        if not is_int(steps) or steps < 0:
            raise PlanError(f"steps to shift by must be a whole number of at least 0, not {steps!r}.")
        shifted = self.limits.nearest_to_rest(actions).expand_as(actions).clone()
        kept = max(actions.shape[1] - steps, 0)
        shifted[:, :kept] = actions[:, steps:]
        return shifted

    def _first_mean(self, warm_start: Plan | Tensor | None, batch: int, horizon: int, like: Tensor) -> Tensor:
        size = len(self.limits)
        mean = self.limits.nearest_to_rest(like).expand(batch, horizon, size).clone()
        if warm_start is None:
            return mean
        given = warm_start.actions if isinstance(warm_start, Plan) else warm_start
        sizes, axes = (batch, None, size), "problems, steps, block"
        given = checked_tensor("warm_start", given, axes, sizes, "start from nothing")
        steps = min(horizon, given.shape[1])
        mean[:, :steps] = given[:, :steps]
        return mean

    def _checked_last(self, last_action: Tensor | None, batch: int, like: Tensor) -> Tensor | None:
        if last_action is None:
            return None
        sizes = (batch, self.limits.action_dim)
        return checked_tensor("last_action", last_action, "problems, action", sizes, "leave it out").to(like)

    def _streams(
        self, seeds: Sequence[int] | None, batch: int, device: torch.device
    ) -> list[torch.Generator]:
        if seeds is None:
            seeds = range(self.config.seed, self.config.seed + batch)
        if len(seeds) != batch:
            raise PlanError(f"seeds must be one whole number per problem: {batch}, not {len(seeds)}.")
        return [torch.Generator(device).manual_seed(int(seed) % 2**63) for seed in seeds]

    def _drawing(
        self, search: Search, streams: list[torch.Generator], proposals: Tensor | None
    ) -> Callable[[int], Tensor]:
        """`Search.draw`: every problem from its own stream."""
        batch, horizon, size = search.mean.shape
        mixing = self.mixing(horizon * size // self.limits.action_dim)
        mixing = None if mixing is None else mixing.to(search.mean)
        choices = self.limits.choices

        def draw(count: int) -> Tensor:
            white = search.mean.new_empty(batch, count, horizon, size)
            for own, stream in zip(white, streams):
                own.normal_(generator=stream)
            mixed = white if mixing is None else noise.mix(white, mixing, self.limits.action_dim)
            candidates = torch.addcmul(search.mean[:, None], search.std[:, None], mixed)
            if choices is not None:
                choices.draw(candidates, search.mean, search.std, mixed)
            candidates[:, 0] = search.mean
            if proposals is not None:
                share, std = self.config.proposal_share, self.config.proposal_std
                mingle(candidates, proposals, mixed, share=share, std=std)
            return candidates

        return draw

    def _finite(self, cost: Tensor) -> Tensor:
        """The cost with whatever is not finite as +inf; warns once."""
        cost, odd = usable(cost)
        if odd and not self._warned:
            self._warned = True
            logger.warning(
                "%d of %d candidate costs are not finite; they count as worst (said once).", odd, cost.numel()
            )
        return cost


def cheapest(candidates: Tensor, cost: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The `count` cheapest of candidates (B, N, H, FA), or all if there are fewer: they and their cost, best
    first."""
    least, which = cost.topk(min(count, cost.shape[1]), dim=1, largest=False)
    return candidates[torch.arange(len(cost), device=cost.device)[:, None], which], least


def weighted_moments(candidates: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (B, H, FA) of candidates (B, N, H, FA); weights (B, N) sum to 1."""
    weights = weights.to(candidates.dtype)[:, :, None, None]
    mean = (weights * candidates).sum(dim=1)
    variance = (weights * (candidates - mean[:, None]).square_()).sum(dim=1)
    return mean, variance.sqrt_()
