"""What every planner shares: its configuration, its result, and the sampling loop.

A planner looks for the sequence of action blocks with the lowest cost. It knows nothing but the bounds of
one block and a cost function, so it plans through any model:

    planner = CEM(PlanConfig(horizon=5), low, high)
    plan = planner.plan(cost_fn, batch_size=B)        # cost_fn: (B, N, H, FA) -> (B, N)

The loop draws candidates from a normal per component, if asked correlated in time, keeps the best one seen,
and lets the subclass say in `update` how costs move the mean and the standard deviation.
"""

from __future__ import annotations

import dataclasses
import difflib
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

CORRELATIONS = 9  # different ones among the candidates, where their noise is correlated in time
CostFn = Callable[[Tensor], Tensor]


class PlanError(ValueError):
    """A plan cannot be made with what was given; the message says why and what to change."""


@dataclass(frozen=True)
class PlanConfig:
    """How to search. Standard deviations are in the units of the candidates.

    horizon, replan_every: in model steps. `replan_every` is read by whoever executes the plan.
    num_samples, num_elites, iterations: the search's size; MPPI has no elites and ignores theirs.
    init_std, min_std: where the standard deviation starts, and the least it may fall to.
    noise_correlation: of one action's noise with the next one's, in [0, 1). White noise (0) hardly leaves the
        spot, for its steps cancel out; neighbours that go together explore far with few samples, but cannot
        refine. So candidates get correlations spread evenly from 0 to this. The idea is that of coloured
        noise, Pinneri et al., arXiv 2008.06389; here it is a first-order autoregression.
    momentum: share of the old mean and standard deviation kept by each update, in [0, 1).
    temperature: MPPI's weights are softmax(-cost / temperature), lower is greedier; see `planners.mppi`.
    warm_start: whether whoever replans starts from the shifted last plan.
    seed: problem i of a batch draws from the stream `seed + i` unless `plan` is given seeds.
    """

    horizon: int = 5
    replan_every: int = 1
    num_samples: int = 300
    num_elites: int = 30
    iterations: int = 10
    init_std: float = 1.0
    min_std: float = 0.05
    noise_correlation: float = 0.0
    momentum: float = 0.0
    temperature: float = 0.15
    warm_start: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("horizon", "replan_every", "num_samples", "num_elites", "iterations"):
            value = getattr(self, name)
            if not _is_int(value) or value < 1:
                raise PlanError(f"{name} must be a whole number of at least 1, not {value!r}.")
        if self.num_elites > self.num_samples:
            raise PlanError(
                f"num_elites ({self.num_elites}) is more than num_samples ({self.num_samples}): "
                "choose at most as many elites as samples."
            )
        for name, lowest, open_below in (
            ("init_std", 0, True),
            ("min_std", 0, False),
            ("temperature", 0, True),
        ):
            value = getattr(self, name)
            if not _is_number(value) or value < lowest or (open_below and value == lowest):
                raise PlanError(
                    f"{name} must be a number {'above' if open_below else 'of at least'} 0, not {value!r}."
                )
        for name in ("momentum", "noise_correlation"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 <= value < 1:
                raise PlanError(f"{name} must be in [0, 1), not {value!r}.")
        if not isinstance(self.warm_start, bool):
            raise PlanError(f"warm_start must be true or false, not {self.warm_start!r}.")
        if not _is_int(self.seed):
            raise PlanError(f"seed must be a whole number, not {self.seed!r}.")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PlanConfig:
        """Build from plain values; PlanError names an unknown key and the nearest known one."""
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise PlanError(f"Unknown planner option {key!r}{did_you_mean(key, known)}.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `from_dict` takes them."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Plan:
    """The best candidates found.

    actions: (B, H, FA) in the units of the candidates.   cost: (B,), that of `actions`.
    iterations: how many were finished.                    solve_seconds: wall clock.
    history: (B, iterations), best cost so far.            latents: (B, H+1, D), where a model filled it in.
    """

    actions: Any
    cost: Any
    iterations: int
    solve_seconds: float
    history: Any = None
    latents: Any = None


class Planner:
    """Base of the sampling planners: subclasses define `update`.

    low, high: (FA,) bounds of every component of an action block, low <= high; infinite means unbounded.
    Every candidate a cost function sees lies inside them. PlanError if they are reversed, NaN or unequal.
    action_dim: A, where a block is FA / A actions in the order of time; default: the block is one action.
    """

    bounded = True  # whether plans keep inside the bounds

    def __init__(
        self,
        config: PlanConfig,
        low: Tensor | Sequence[float],
        high: Tensor | Sequence[float],
        *,
        action_dim: int | None = None,
    ) -> None:
        self.config = config
        self.low = torch.as_tensor(low).detach().cpu().double()
        self.high = torch.as_tensor(high).detach().cpu().double()
        if self.low.ndim != 1 or self.low.shape != self.high.shape or len(self.low) == 0:
            raise PlanError(
                "low and high must be two vectors of one size, a number per action component; "
                f"got shapes {tuple(self.low.shape)} and {tuple(self.high.shape)}."
            )
        wrong = ~(self.low <= self.high)  # also true for NaN
        if wrong.any():
            i = int(wrong.nonzero()[0])
            raise PlanError(
                f"The bounds of action component {i} are [{self.low[i]:g}, {self.high[i]:g}]: "
                "low must be at most high."
            )
        self.action_dim = len(self.low) if action_dim is None else action_dim
        if not _is_int(self.action_dim) or self.action_dim < 1 or len(self.low) % self.action_dim:
            raise PlanError(f"A block of {len(self.low)} numbers does not hold actions of {action_dim!r}.")
        self._warned = False

    def update(self, candidates: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation, both (B, H, FA), from candidates (B, N, H, FA) and their cost (B, N).

        Costs that were not finite arrive as +inf and must carry no weight; every problem has a finite one.
        """
        raise NotImplementedError

    @torch.no_grad()
    def plan(
        self,
        cost_fn: CostFn,
        *,
        batch_size: int = 1,
        horizon: int | None = None,
        warm_start: Plan | Tensor | None = None,
        deadline: float | None = None,
        seeds: Sequence[int] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Plan:
        """Search for the cheapest action sequence of each of B problems.

        cost_fn: (B, N, H, FA) -> (B, N), lower is better. Costs that are not finite count as worst.
        batch_size: B. Each problem draws from its own stream, so it gets the plan it would get alone.
        horizon: model steps, instead of the config's.
        warm_start: (B, H', FA), or a plan holding that, to start the mean from; cut, or filled up with the
            action nearest to zero, to the horizon. Shift what was executed already (`shift`).
        deadline: seconds. No iteration is begun that would end after it, judged by the last one; the first
            always runs.
        seeds: B whole numbers, one stream each; default `config.seed + i`.
        device, dtype: of the candidates; cost_fn must answer on that device.

        Raises PlanError for arguments or costs of the wrong shape, and where no candidate's cost is finite.
        """
        started = time.perf_counter()
        cfg = self.config
        horizon = cfg.horizon if horizon is None else horizon
        if not _is_int(horizon) or horizon < 1:
            raise PlanError(f"horizon must be a whole number of at least 1, not {horizon!r}.")
        if not _is_int(batch_size) or batch_size < 1:
            raise PlanError(f"batch_size must be a whole number of at least 1, not {batch_size!r}.")
        device = torch.device("cpu" if device is None else device)
        low, high = self.low.to(dtype).to(device), self.high.to(dtype).to(device)
        streams = self._streams(seeds, batch_size, device)

        mean = self._first_mean(warm_start, batch_size, horizon, low, high)
        std = torch.full_like(mean, cfg.init_std)
        noise = torch.empty(batch_size, cfg.num_samples, *mean.shape[1:], dtype=dtype, device=device)
        mixing = self._mixing(noise)
        problems = torch.arange(batch_size, device=device)
        best, best_cost = mean, torch.full((), math.inf, device=device)
        history: list[Tensor] = []

        for iteration in range(cfg.iterations):
            begun = time.perf_counter()
            for i, stream in enumerate(streams):
                noise[i].normal_(generator=stream)
            candidates = torch.addcmul(mean[:, None], std[:, None], self._correlate(noise, mixing))
            candidates[:, 0] = mean
            candidates.clamp_(low, high)
            cost = self._checked(cost_fn(candidates), candidates)

            least, which = cost.min(dim=1)
            better = least < best_cost
            best = torch.where(better[:, None, None], candidates[problems, which], best)
            best_cost = torch.where(better, least, best_cost)
            history.append(best_cost)

            now = time.perf_counter()
            if deadline is not None and now + (now - begun) > started + deadline:
                break
            if iteration + 1 < cfg.iterations:
                new_mean, new_std = self.update(candidates, cost)
                mean = torch.lerp(new_mean, mean, cfg.momentum)
                std = torch.lerp(new_std, std, cfg.momentum).clamp_(min=cfg.min_std)

        return Plan(
            actions=best,
            cost=best_cost,
            iterations=len(history),
            solve_seconds=time.perf_counter() - started,
            history=torch.stack(history, dim=1),
        )

    def _mixing(self, like: Tensor) -> Tensor | None:
        """(N, steps, steps) that correlate white noise over the steps of a plan; None to leave it white."""
        if self.config.noise_correlation == 0:
            return None
        spread = torch.linspace(0, self.config.noise_correlation, CORRELATIONS, dtype=torch.float64)
        when = torch.arange(like.shape[2] * like.shape[3] // self.action_dim, dtype=torch.float64)
        covariance = spread[:, None, None] ** (when[:, None] - when).abs()
        levels = torch.arange(like.shape[1]) * CORRELATIONS // like.shape[1]
        return torch.linalg.cholesky(covariance)[levels].to(like.dtype).to(like.device)

    def _correlate(self, noise: Tensor, mixing: Tensor | None) -> Tensor:
        """White noise (B, N, H, FA) -> noise of unit variance whose neighbours in time go together."""
        if mixing is None:
            return noise
        in_time = noise.unflatten(-1, (-1, self.action_dim)).flatten(2, 3)  # (B, N, steps, A)
        return (mixing @ in_time).view_as(noise)

    def shift(self, actions: Tensor, steps: int) -> Tensor:
        """What is left of actions (B, H, FA) after `steps` of them: moved to the front, the end filled with
        the allowed action nearest to zero. Use it for `warm_start`."""
        if not _is_int(steps) or steps < 0:
            raise PlanError(f"steps to shift by must be a whole number of at least 0, not {steps!r}.")
        shifted = self._rest(actions).expand_as(actions).clone()
        kept = max(actions.shape[1] - steps, 0)
        shifted[:, :kept] = actions[:, steps:]
        return shifted

    def _rest(self, like: Tensor) -> Tensor:
        """(FA,): the allowed action nearest to zero."""
        return torch.zeros_like(self.low).clamp(self.low, self.high).to(like.dtype).to(like.device)

    def _first_mean(
        self, warm_start: Plan | Tensor | None, batch: int, horizon: int, low: Tensor, high: Tensor
    ) -> Tensor:
        size = len(low)
        mean = self._rest(low).expand(batch, horizon, size).clone()
        if warm_start is None:
            return mean
        given = warm_start.actions if isinstance(warm_start, Plan) else warm_start
        if (
            not isinstance(given, Tensor)
            or given.ndim != 3
            or given.shape[0] != batch
            or given.shape[2] != size
        ):
            shape = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise PlanError(
                f"warm_start must be a tensor of shape (problems, steps, block) = ({batch}, any, {size}), "
                f"not {shape}."
            )
        if not given.isfinite().all():
            raise PlanError("warm_start holds values that are not finite: start from nothing instead.")
        steps = min(horizon, given.shape[1])
        mean[:, :steps] = given[:, :steps]
        return mean.clamp_(low, high)

    def _streams(
        self, seeds: Sequence[int] | None, batch: int, device: torch.device
    ) -> list[torch.Generator]:
        if seeds is None:
            seeds = range(self.config.seed, self.config.seed + batch)
        if len(seeds) != batch:
            raise PlanError(f"seeds must be one whole number per problem: {batch}, not {len(seeds)}.")
        return [torch.Generator(device).manual_seed(int(seed) % 2**63) for seed in seeds]

    def _checked(self, cost: Tensor, candidates: Tensor) -> Tensor:
        """The cost with whatever is not finite as +inf, or a PlanError for one that cannot be used."""
        expected = tuple(candidates.shape[:2])
        if not isinstance(cost, Tensor):
            raise PlanError(
                f"The cost function must return a tensor of shape {expected}, not {type(cost).__name__}."
            )
        if tuple(cost.shape) != expected:
            raise PlanError(
                f"The cost function returned shape {tuple(cost.shape)} for candidates "
                f"{tuple(candidates.shape)}: it must return one cost per candidate, {expected}."
            )
        if cost.device != candidates.device:
            raise PlanError(
                f"The cost function answered on {cost.device} but the candidates are on {candidates.device}: "
                "plan with device= that of the model."
            )
        if cost.dtype not in (torch.float32, torch.float64):
            cost = cost.float()
        finite = cost.isfinite()
        if finite.all():
            return cost
        hopeless = ~finite.any(dim=1)
        if hopeless.any():
            raise PlanError(
                f"No candidate of problem {int(hopeless.nonzero()[0])} has a finite cost: most likely the "
                "model's weights, its input or the goal hold NaN or infinite values."
            )
        if not self._warned:
            self._warned = True
            logger.warning(
                "%d of %d candidate costs are not finite; they count as worst (said once).",
                int((~finite).sum()),
                finite.numel(),
            )
        return cost.masked_fill(~finite, math.inf)


def weighted_moments(candidates: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (B, H, FA) of candidates (B, N, H, FA); weights (B, N) sum to 1."""
    weights = weights.to(candidates.dtype)[:, :, None, None]
    mean = (weights * candidates).sum(dim=1)
    variance = (weights * (candidates - mean[:, None]).square_()).sum(dim=1)
    return mean, variance.sqrt_()


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def did_you_mean(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(str(name), known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; choose from {', '.join(known)}"
