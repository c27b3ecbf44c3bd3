"""Is the latent space collapsing? Effective rank and spread of the latents, and a watch over both."""

from __future__ import annotations

import logging

import torch
from torch import Tensor

logger = logging.getLogger(__name__)


def effective_rank(latents: Tensor) -> float:
    """Directions that the latents (n, D) really use: exp of the entropy of their covariance's eigenvalues.

    Between 1 (a line, or a point) and min(n − 1, D). Roy and Vetterli 2007, on the covariance.
    """
    centred = latents.double().flatten(0, -2).cpu()
    centred = centred - centred.mean(0)
    values = torch.linalg.eigvalsh(centred.T @ centred).clamp_min(0)
    if values.sum() <= 0:
        return 1.0
    share = values / values.sum()
    return float(torch.exp(-torch.xlogy(share, share).sum()))


class CollapseWatch:
    """Warns once when rank or spread falls far below its best so far, and again after a recovery.

    SIGReg asks for a standard deviation of 1 in every dimension. A healthy run climbs towards it; a run whose
    rank halves, or whose median standard deviation falls to a third, is losing what it knew.
    """

    def __init__(self) -> None:
        self.best = {"effective rank": 0.0, "standard deviation per dimension": 0.0}
        self.warned = False

    def check(self, rank: float, std: Tensor, step: int) -> bool:
        """Look at the effective rank and the standard deviations (D,); True while they are collapsing."""
        now = {"effective rank": rank, "standard deviation per dimension": float(std.median())}
        limits = {"effective rank": 1 / 2, "standard deviation per dimension": 1 / 3}
        fallen = [name for name, value in now.items() if value < limits[name] * self.best[name]]
        for name in now:
            self.best[name] = max(self.best[name], now[name])
        if fallen and not self.warned:
            logger.warning(
                "the latents are collapsing at step %d: %s; raise sigreg_weight or lower learning_rate",
                step,
                " and ".join(f"{name} fell from {self.best[name]:.2f} to {now[name]:.2f}" for name in fallen),
            )
        self.warned = bool(fallen)
        return self.warned
