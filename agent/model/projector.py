"""The MLP with BatchNorm that makes a latent, and BatchNorm that is the same over several processes.

SIGReg holds latents at a Gaussian only when nothing normalises each latent by itself: the norm in front of it
is over the batch (BatchNorm, not LayerNorm).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


def num_ranks() -> int:
    """How many processes train together; 1 outside torch.distributed."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


class _MeanOverRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        mean = x.contiguous().clone()
        dist.all_reduce(mean)
        return mean.div_(num_ranks())

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # of the ranks' summed losses: the same mean again
        return _MeanOverRanks.apply(grad)


def mean_over_ranks(x: Tensor) -> Tensor:
    """The mean of x over all processes, with gradient; x itself when there is one.

    The gradient is that of the sum of the ranks' losses, so that DistributedDataParallel, which averages
    parameter gradients over ranks, ends at the gradient of their mean.
    """
    return x if num_ranks() == 1 else _MeanOverRanks.apply(x)


class BatchNorm(nn.BatchNorm1d):
    """BatchNorm1d over the global batch: in training, mean and variance are taken over all processes.

    Same weights and names as nn.BatchNorm1d. Works on CPU too, which nn.SyncBatchNorm does not. Every process
    must hold the same number of rows.   x: (rows, features).
    """

    def forward(self, x: Tensor) -> Tensor:
        ranks = num_ranks()
        if ranks == 1 or not self.training:
            return super().forward(x)
        rows = x.float()
        mean = mean_over_ranks(rows.mean(0))
        var = mean_over_ranks((rows - mean).square().mean(0))
        self._track(mean.detach(), var.detach(), count=x.shape[0] * ranks)
        scale = self.weight * torch.rsqrt(var + self.eps)
        return ((rows - mean) * scale + self.bias).to(x.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, *, count: int) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        assert self.num_batches_tracked is not None
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var * (count / (count - 1)), self.momentum)
        self.num_batches_tracked.add_(1)


class Projector(nn.Module):
    """Linear, BatchNorm, GELU, Linear over the last axis: (…, in_dim) -> (…, out_dim)."""

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(in_dim, hidden_dim)
        self.norm = BatchNorm(hidden_dim)
        self.output = nn.Linear(hidden_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.hidden(x.flatten(0, -2))
        return self.output(F.gelu(self.norm(rows))).unflatten(0, x.shape[:-1])
