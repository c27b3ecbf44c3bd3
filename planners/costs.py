"""Asking a cost function, and making sure of what it answers."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .config import PlanError

GRADIENTS_AT_ONCE = 1024  # candidates whose gradient is taken together: bounds the memory of the graph
CostFn = Callable[[Tensor], Tensor]  # (B, N, H, FA) -> (B, N)


def cost_and_gradient(cost_fn: CostFn, candidates: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
    """Cost (B, N), and its gradient (B, N, H, FA) if that is wanted, otherwise an empty tensor. PlanError."""
    if not gradient:
        return _checked(cost_fn(candidates), candidates), candidates[:, :0]
    costs, gradients = [], []
    for part in candidates.split(max(1, GRADIENTS_AT_ONCE // len(candidates)), dim=1):
        with torch.enable_grad():
            leaf = part.detach().clone().requires_grad_()
            cost = _checked(cost_fn(leaf), leaf)
            own = _gradient(cost, leaf)
        costs.append(cost.detach())
        gradients.append(own.nan_to_num(0.0, 0.0, 0.0))
    return torch.cat(costs, dim=1), torch.cat(gradients, dim=1)


def _gradient(cost: Tensor, leaf: Tensor) -> Tensor:
    if cost.requires_grad:
        (gradient,) = torch.autograd.grad(cost.sum(), leaf, allow_unused=True)
        if gradient is not None:
            return gradient
    raise PlanError(
        "The cost function gives no gradient with respect to the candidates: this planner needs one that "
        "torch can differentiate; choose cem or another that only samples."
    )


def _checked(cost: Tensor, candidates: Tensor) -> Tensor:
    """The cost in float32 or float64, or a PlanError for one of a wrong type, shape or device."""
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
    return cost if cost.dtype in (torch.float32, torch.float64) else cost.float()


def usable(cost: Tensor) -> tuple[Tensor, int]:
    """Cost (B, N) with whatever is not finite as +inf, and how many were not; PlanError if all of a problem's
    are not."""
    finite = cost.isfinite()
    if finite.all():
        return cost, 0
    hopeless = ~finite.any(dim=1)
    if hopeless.any():
        raise PlanError(
            f"No candidate of problem {int(hopeless.nonzero()[0])} has a finite cost: most likely the "
            "model's weights, its input or the goal hold NaN or infinite values."
        )
    return cost.masked_fill(~finite, math.inf), int((~finite).sum())
