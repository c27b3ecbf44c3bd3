"""Is the latent space collapsing? Effective rank and spread of the latents, and a watch over both."""

from __future__ import annotations

import logging
import math

import torch
from torch import Tensor

logger = logging.getLogger(__name__)
UNSETTLED = 50  # steps in which nothing can be said of the latents yet


def effective_rank(latents: Tensor) -> float:
    """Directions that the latents (n, D) really use: exp of the entropy of their covariance's eigenvalues.

    Between 1 (a line, or a point) and min(n − 1, D); NaN for latents that are not finite. Roy and Vetterli
    2007, on the covariance.
    """
    centred = latents.flatten(0, -2).cpu().double()
    centred = centred - centred.mean(0)
    covariance = centred.T @ centred
    largest = covariance.abs().max()
    if not torch.isfinite(largest):
        return math.nan
    if largest == 0:
        return 1.0
    values = torch.linalg.eigvalsh(covariance / largest).clamp_min(0)
    share = values / values.sum()
    return float(torch.exp(-torch.xlogy(share, share).sum()))


class CollapseWatch:
    """Warns once when the latents collapse, and again if they do after a recovery.

    SIGReg asks for a standard deviation of 1 in every dimension, and a healthy run climbs towards it.
    Collapse is a rank below half its best, a median deviation below a third of its best, or either near
    nothing.
    """

    def __init__(self) -> None:
        self.best = {"effective rank": 0.0, "standard deviation": 0.0}
        self.warned = False

    def check(self, rank: float, std: Tensor, step: int) -> bool:
        """Look at the effective rank and the standard deviation of each dimension (D,); True: collapsing."""
        now = {"effective rank": rank, "standard deviation": float(std.median())}
        floors = {
            "effective rank": max(1.5, self.best["effective rank"] / 2),
            "standard deviation": max(0.1, self.best["standard deviation"] / 3),
        }
        low = [name for name in now if now[name] < floors[name] and step >= UNSETTLED]
        self.best = {name: max(self.best[name], now[name]) for name in now}
        if low and not self.warned:
            fallen = any(now[name] < self.best[name] for name in low)
            logger.warning(
                "the latents %s at step %d: %s; raise sigreg_weight or lower learning_rate",
                "are collapsing" if fallen else "have not spread out",
                step,
                " and ".join(self._said(name, now[name]) for name in low),
            )
        self.warned = bool(low)
        return self.warned

    def _said(self, name: str, value: float) -> str:
        best = self.best[name]
        return f"their {name} is {value:.2g}" + (f", was {best:.2g}" if best > value else "")
