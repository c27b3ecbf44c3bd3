"""The cross-entropy method exactly as LeWorldModel (arXiv 2603.19312) plans with it, for comparing numbers.

It differs from `cem` in what it leaves out: candidates are not kept inside the bounds, the standard
deviation has no floor, noise is white, and the plan is the last elites' mean rather than the best candidate
seen. A robot should plan with `cem`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .config import Plan, PlanConfig, PlanError
from .costs import CostFn, cost_and_gradient
from .planner import Planner, cheapest


class LeWMCEM(Planner):
    """Mean and sample deviation of the `num_elites` cheapest, `iterations` times; the plan is the last mean.

    Reads horizon, num_samples, num_elites, iterations, init_std and seed of the PlanConfig and nothing else:
    no bounds, no warm start, no deadline.
    """

    bounded = False
    chooses = False

    def __init__(self, config: PlanConfig, low: Any, high: Any, **options: Any) -> None:
        super().__init__(config, low, high, **options)
        if config.num_elites < 2:
            raise PlanError("cem_lewm takes a deviation of its elites: num_elites must be at least 2.")

    @torch.no_grad()
    def plan(
        self,
        cost_fn: CostFn,
        *,
        batch_size: int = 1,
        horizon: int | None = None,
        seeds: Sequence[int] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        **unused: Any,
    ) -> Plan:
        """See Planner.plan. The history is the mean cost of the elites in each iteration."""
        started, config = time.perf_counter(), self.config
        device = torch.device("cpu" if device is None else device)
        streams = self._streams(seeds, batch_size, device)
        shape = (horizon or config.horizon, len(self.limits))
        mean = torch.zeros(batch_size, *shape, dtype=dtype, device=device)
        std = torch.full_like(mean, config.init_std)
        history = []
        for _ in range(config.iterations):
            noise = torch.stack(
                [
                    torch.randn(config.num_samples, *shape, generator=s, dtype=dtype, device=device)
                    for s in streams
                ]
            )
            candidates = torch.addcmul(mean[:, None], std[:, None], noise)
            candidates[:, 0] = mean
            elites, elite_cost = cheapest(candidates, self._ask(cost_fn, candidates), config.num_elites)
            mean, std = elites.mean(dim=1), elites.std(dim=1)
            history.append(elite_cost.mean(dim=1))
        return Plan(
            actions=mean,
            cost=self._ask(cost_fn, mean[:, None])[:, 0],
            iterations=config.iterations,
            solve_seconds=time.perf_counter() - started,
            history=torch.stack(history, dim=1),
            elites=torch.stack(history, dim=1),
        )

    def _ask(self, cost_fn: CostFn, candidates: Tensor) -> Tensor:
        """Costs (B, N); what is not finite counts as worst."""
        return self._finite(cost_and_gradient(cost_fn, candidates, gradient=False)[0])
