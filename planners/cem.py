"""The cross-entropy method.

Rubinstein, "The Cross-Entropy Method for Combinatorial and Continuous Optimization", Methodology and
Computing in Applied Probability, 1999: fit the sampling distribution to the best few candidates, and repeat.
"""

from __future__ import annotations

from torch import Tensor

from .planner import Planner, cheapest


class CEM(Planner):
    """Refits mean and standard deviation to the `num_elites` cheapest candidates, all weighing the same."""

    def update(self, candidates: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
        elites, elite_cost = cheapest(candidates, cost, self.config.num_elites)
        weights = elite_cost.isfinite().to(cost.dtype)  # fewer finite costs than elites: only those
        return self.moments(elites, weights / weights.sum(dim=1, keepdim=True))
