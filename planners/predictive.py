"""Predictive sampling.

Howell et al., "Predictive Sampling: Real-time Behaviour Synthesis with MuJoCo", arXiv 2212.00541: draw
candidates around the plan there is, with a standard deviation that stays, and go on with the best of them.
One iteration a solve, warm-started, is the published use.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .planner import Planner, cheapest


class PredictiveSampling(Planner):
    """Moves the mean to the cheapest candidate; the standard deviation stays `init_std`."""

    def update(self, candidates: Tensor, cost: Tensor) -> tuple[Tensor, Tensor]:
        best = cheapest(candidates, cost, 1)[0][:, 0]
        return best, torch.full_like(best, self.config.init_std)
