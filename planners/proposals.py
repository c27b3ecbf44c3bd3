"""Candidates that come from outside the search: proposed plans, as they are and with noise around them.

A proposal may be right where the mean of the search never looks. It takes part in every iteration, so that
the search can settle on it and mend what is wrong with it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from planners.config import PlanError


def whole_plans(proposals: Tensor, batch: int, mean: Tensor) -> Tensor:
    """(B, P, H', FA) -> (B, P, H, FA) for a mean (B, H, FA), cut or filled up with zeros.

    PlanError for another shape, or for values that are not finite.
    """
    _, horizon, size = mean.shape
    fits = isinstance(proposals, Tensor) and proposals.ndim == 4
    if not fits or proposals.shape[0] != batch or proposals.shape[3] != size:
        given = tuple(proposals.shape) if isinstance(proposals, Tensor) else type(proposals).__name__
        raise PlanError(
            "proposals must be a tensor of shape (problems, any, steps, block) = "
            f"({batch}, any, any, {size}), not {given}."
        )
    if not proposals.isfinite().all():
        raise PlanError("proposals hold values that are not finite: leave those out.")
    steps = min(horizon, proposals.shape[2])
    whole = mean.new_zeros(batch, proposals.shape[1], horizon, size)
    whole[:, :, :steps] = proposals[:, :, :steps]
    return whole


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
