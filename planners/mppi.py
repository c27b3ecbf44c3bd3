"""Model predictive path integral control.

Williams et al., "Information Theoretic MPC for Model-Based Reinforcement Learning", ICRA 2017: the new mean
is the average of all candidates, weighted by softmax(-cost / temperature). As in Hansen et al., "Temporal
Difference Learning for Model Predictive Control", ICML 2022, the standard deviation follows the same weights,
so that iterating narrows the search.

Costs have no natural scale here (they depend on the model), so they are first measured from the best
candidate and divided by the distance from the best to the median one: `temperature` means the same for every
cost.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .planner import Planner


class MPPI(Planner):
    """Refits mean and standard deviation to all candidates, weighted by softmax(-cost / temperature)."""

    def update(self, candidates: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
        excess = cost - cost.amin(dim=1, keepdim=True)
        middle = excess.masked_fill(excess.isinf(), torch.nan).nanmedian(dim=1, keepdim=True).values
        scale = (self.config.temperature * middle).clamp_min(torch.finfo(cost.dtype).tiny)
        return self.moments(candidates, torch.softmax(-excess / scale, dim=1))
