"""Candidates that come from outside the search: proposed plans, as they are and with noise around them.

A proposal may be right where the mean of the search never looks. It takes part in every iteration, so that
the search can settle on it and correct what is wrong with it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import checked_tensor


def whole_plans(proposals: Tensor, mean: Tensor) -> Tensor:
    """(B, P, H', FA) -> (B, P, H, FA) for a mean (B, H, FA), cut or filled up with zeros.

    PlanError for another shape, or for values that are not finite.
    """
    batch, horizon, size = mean.shape
    sizes, axes = (batch, None, None, size), "problems, any, steps, block"
    proposals = checked_tensor("proposals", proposals, axes, sizes, "leave those out")
    return F.pad(proposals, (0, 0, 0, horizon - proposals.shape[2])).to(mean)  # a negative pad crops


def mingle(candidates: Tensor, proposals: Tensor, noise: Tensor, *, share: float, std: float) -> None:
    """Put proposals (B, P, H, FA) in the place of a share of the candidates (B, N, H, FA), all but the first.

    First each proposal as it is, then again and again with noise (B, N, H, FA), of unit variance, times std.
    """
    count = min(round(share * candidates.shape[1]), candidates.shape[1] - 1)
    if count == 0 or proposals.shape[1] == 0:
        return
    places = torch.linspace(1, candidates.shape[1] - 1, count).long().to(candidates.device)
    which = torch.arange(count, device=candidates.device)
    if count < proposals.shape[1]:  # too many: evenly spread ones
        which = which * proposals.shape[1] // count
    noisy = (which >= proposals.shape[1]).to(candidates.dtype)[:, None, None] * std
    candidates[:, places] = proposals[:, which % proposals.shape[1]] + noisy * noise[:, places]
