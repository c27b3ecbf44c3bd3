"""SIGReg: pulls the latents of a batch towards an isotropic Gaussian, which keeps them from collapsing.

Along random unit directions, the empirical characteristic function of the projected latents is compared with
that of N(0, 1) (Epps-Pulley), by trapezoids over t in [0, 3] weighted with exp(-t²/2), times the batch size.
Source: LeJEPA, arXiv 2511.08544, as LeWorldModel (arXiv 2603.19312) uses it. Perfectly Gaussian latents give
about 1.05, not 0.

Over several processes the value is that of the whole global batch: every process draws the same directions,
and the characteristic functions are averaged over processes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ..model.projector import num_ranks

LAST_KNOT = 3.0


class SIGReg(nn.Module):
    """forward(latents (T, B, D), directions=None (D, K) unit columns, step=0) -> scalar, the mean over T, K.

    Without `directions`, those of this training step are drawn from (seed, step): all processes agree, and a
    resumed run goes on as it would have. All processes must hold the same number of rows B. Computed in
    float32 whatever autocast says.
    """

    def __init__(self, knots: int = 17, num_directions: int = 1024, seed: int = 0) -> None:
        super().__init__()
        if knots < 2 or num_directions < 1:
            raise ValueError(f"SIGReg needs knots >= 2, num_directions >= 1, not {knots}, {num_directions}.")
        self.num_directions, self.seed = num_directions, seed
        t = torch.linspace(0, LAST_KNOT, knots)
        target = torch.exp(-t.square() / 2)  # the characteristic function of N(0, 1), and the weight
        weights = 2 * LAST_KNOT / (knots - 1) * target  # twice the trapezoids: t < 0 counts too
        weights[[0, -1]] /= 2
        for name, value in (("t", t), ("target", target), ("weights", weights)):
            self.register_buffer(name, value, persistent=False)

    def forward(self, latents: Tensor, directions: Tensor | None = None, *, step: int = 0) -> Tensor:
        with torch.autocast(latents.device.type, enabled=False):
            latents = latents if latents.dtype == torch.float64 else latents.float()
            if directions is None:
                directions = self.draw(step, latents.shape[-1], latents.device)
            projected = latents @ directions.to(latents.dtype)
            constants = (value.to(latents.dtype) for value in (self.t, self.target, self.weights))
            return _EppsPulley.apply(projected, *constants)

    def draw(self, step: int, dim: int, device: torch.device | str = "cpu") -> Tensor:
        """The directions of this step: (dim, num_directions), unit columns, equal on every process."""
        mixed = (self.seed * 0x9E3779B1 + step) % 2**32  # torch's CPU generator keeps 32 bits of a seed
        generator = torch.Generator().manual_seed(mixed)
        directions = torch.randn(dim, self.num_directions, generator=generator)
        return (directions / directions.norm(dim=0)).to(device, non_blocking=True)


class _EppsPulley(torch.autograd.Function):
    """B · mean over (T, K) of sum_t w(t) |mean over B of exp(i t x) - target(t)|², for x (T, B, K).

    Value and gradient come from one pass over the knots. Plain autograd would keep several tensors of
    T·B·K·knots numbers (36 MB each at 4 x 128 x 1024 x 17) and takes six times as long on a CPU.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, t: Tensor, target: Tensor, weights: Tensor) -> Tensor:
        ranks, need_grad = num_ranks(), ctx.needs_input_grad[0]
        value, grad = x.new_zeros(()), torch.zeros_like(x) if need_grad else None
        # how many knots at once: a CPU's cache holds few, a GPU likes many
        knots = 1 if x.device.type == "cpu" else len(t) - 1
        angle, cos, sin = (x.new_empty(knots, *x.shape) for _ in range(3))
        for i in range(1, len(t), knots):  # at t = 0 both functions are 1
            tt, ww = (v[i : i + knots, None, None, None] for v in (t, weights))
            torch.mul(x, tt, out=angle)
            torch.cos(angle, out=cos)
            torch.sin(angle, out=sin)
            off = torch.stack([cos.mean(-2, keepdim=True), sin.mean(-2, keepdim=True)])  # (2, knots, T, 1, K)
            if ranks > 1:
                dist.all_reduce(off)
                off /= ranks
            off[0] -= target[i : i + knots, None, None, None]
            value += (ww * off.square().sum(0)).sum()
            if grad is not None:
                slope = 2 * ww * tt * off
                for j in range(knots):
                    grad.addcmul_(cos[j], slope[1, j]).addcmul_(sin[j], slope[0, j], value=-1)
        columns = x.shape[0] * x.shape[2]
        if grad is not None:
            # one rank's latents move the value by grad / columns; each rank holds the whole value, and
            # DistributedDataParallel will average over ranks, so the sum over ranks is what must go back
            ctx.save_for_backward(grad.mul_(ranks / columns))
        return value * (x.shape[1] * ranks / columns)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return upstream * grad, None, None, None
