"""Where filters respond, and what stands there: weighted means over the cells of their maps.

On a CPU the maps of a training batch are far larger than its caches, so that moving them costs more than
computing with them. There, a few frames at a time go through all of it, forward and backward.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

FRAMES_AT_ONCE = 16  # in training on a CPU: about a megabyte of maps


def pool(found: Tensor, bias: Tensor, places: Tensor, *, training: bool) -> Tensor:
    """Maps and values of every cell (N, W + V, C), a bias of the values (V,), places of the cells (P, C) ->
    of each map the means of places and of silu(values + bias), weighted by its softmax: (N, W, P + V)."""
    if training and found.device.type == "cpu":
        with torch.autocast("cpu", enabled=False):
            return _Pool.apply(found, bias, places)
    maps, values = found.split([found.shape[1] - len(bias), len(bias)], 1)
    return maps.softmax(-1) @ _cells(values, bias, places).mT


def _cells(values: Tensor, bias: Tensor, places: Tensor) -> Tensor:
    seen = F.silu(values + bias[:, None])
    count = seen.shape[0]  # a graph's batch has no len
    return torch.cat([places.to(seen.dtype).expand(count, -1, -1), seen], 1)


class _Pool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, found: Tensor, bias: Tensor, places: Tensor) -> Tensor:
        width = found.shape[1] - len(bias)
        weights = torch.empty_like(found[:, :width])
        means = found.new_empty(len(found), width, len(places) + len(bias))
        for first in range(0, len(found), FRAMES_AT_ONCE):
            some = slice(first, first + FRAMES_AT_ONCE)
            weights[some] = found[some, :width].softmax(-1)
            cells = _cells(found[some, width:], bias, places).to(found.dtype)
            torch.bmm(weights[some], cells.mT, out=means[some])
        ctx.save_for_backward(found, bias, places, weights)
        return means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        found, bias, places, weights = ctx.saved_tensors
        width, dtype = weights.shape[1], found.dtype
        to_found, to_bias = torch.empty_like(found), torch.zeros_like(bias)
        for first in range(0, len(found), FRAMES_AT_ONCE):
            some = slice(first, first + FRAMES_AT_ONCE)
            cells = _cells(found[some, width:], bias, places).to(dtype)
            to_weights = torch.bmm(grad[some], cells)
            to_found[some, :width] = torch._softmax_backward_data(to_weights, weights[some], -1, dtype)
            to_seen = torch.bmm(grad[some, :, len(places) :].mT, weights[some])
            to_values = _silu_slope(found[some, width:] + bias[:, None]).mul_(to_seen)
            to_found[some, width:] = to_values
            to_bias += to_values.sum((0, 2))
        return to_found, to_bias, None


def _silu_slope(x: Tensor) -> Tensor:
    share = x.sigmoid()
    return share * (1 + x * (1 - share))
