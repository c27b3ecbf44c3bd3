"""The cross-entropy method.

Rubinstein, "The Cross-Entropy Method for Combinatorial and Continuous Optimization", Methodology and
Computing in Applied Probability, 1999: fit the sampling distribution to the best few candidates, and repeat.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planners.planner import Planner, weighted_moments


class CEM(Planner):
    """Refits mean and standard deviation to the `num_elites` cheapest candidates, all weighing the same."""

    def update(self, candidates: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
        elite_cost, which = cost.topk(self.config.num_elites, dim=1, largest=False)
        problems = torch.arange(len(cost), device=cost.device)[:, None]
        weights = elite_cost.isfinite().to(cost.dtype)  # fewer finite costs than elites: only those
        return weighted_moments(candidates[problems, which], weights / weights.sum(dim=1, keepdim=True))
