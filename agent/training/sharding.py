"""FSDP: training with weights, gradients and moments divided over the processes.

Steps are made by a copy of the loss that torch's `fully_shard` divides. Everything else (measuring, planning,
saving) uses the whole model that every process keeps, which takes the copy's weights now and then. So a run
leaves the same files as any other, and goes on in any number of processes, divided or not.

Accelerate's configuration decides: `accelerate launch --use_fsdp`. Accelerate itself divides models on GPUs
only; this does so on CPUs, too.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator

import torch
import torch.distributed as dist
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from .loss import LatentLoss

Optimizer = torch.optim.Optimizer


def is_wanted(accelerator: Accelerator) -> bool:
    """Whether Accelerate is configured for FSDP, and there are processes to divide over."""
    chosen = accelerator.distributed_type == DistributedType.FSDP
    on_cpus = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    return (chosen or on_cpus) and accelerator.num_processes > 1


class Divided:
    """A divided copy of `whole`, and an optimizer of it.

    optimizer: of the whole model, whose moments are taken over.   make: makes one like it for another model.
    Call every method in all processes at the same time.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        whole: LatentLoss,
        optimizer: Optimizer,
        make: Callable[[nn.Module], Optimizer],
    ) -> None:
        self._accelerator, self._whole, self._whole_optimizer = accelerator, whole, optimizer
        self._mesh = init_device_mesh(accelerator.device.type, (dist.get_world_size(),))
        self.loss = copy.deepcopy(whole)
        fully_shard(self.loss, mesh=self._mesh)
        self.optimizer = make(self.loss.world_model)
        self.take()

    def __call__(self, *given: object, **named: object) -> dict[str, Tensor]:
        """What the loss gives for this process's part of a batch."""
        with self._accelerator.autocast():
            losses: dict[str, Tensor] = self.loss(*given, **named)
        return losses

    def clip(self, most: float) -> Tensor:
        """Clip the gradient to this norm; returns the norm that it had, of all processes together."""
        norm = nn.utils.clip_grad_norm_(self.loss.parameters(), most)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    @torch.no_grad()
    def take(self) -> None:
        """Begin from the weights and moments of the whole model."""
        for whole, part in self._pairs():
            if isinstance(part, DTensor):
                part.to_local().copy_(distribute_tensor(whole, self._mesh, part.placements).to_local())
            else:
                part.copy_(whole)
        for whole, part in self._parameters():
            moments = self._whole_optimizer.state.get(whole, {})
            self.optimizer.state[part] = {
                name: distribute_tensor(value, self._mesh, part.placements) if value.ndim else value.clone()
                for name, value in moments.items()
            }

    @torch.no_grad()
    def give(self) -> None:
        """Give the whole model these weights."""
        for whole, part in self._pairs():
            whole.copy_(part.full_tensor() if isinstance(part, DTensor) else part)

    @torch.no_grad()
    def give_moments(self) -> None:
        """Give the whole model's optimizer these moments."""
        for whole, part in self._parameters():
            self._whole_optimizer.state[whole] = {
                name: value.full_tensor() if isinstance(value, DTensor) else value.clone()
                for name, value in self.optimizer.state.get(part, {}).items()
            }

    def _parameters(self) -> Iterator[tuple[Tensor, DTensor]]:
        return zip(self._whole.parameters(), self.loss.parameters(), strict=True)  # type: ignore[arg-type]

    def _pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Parameters and buffers of the whole model and of this."""
        yield from self._parameters()
        yield from zip(self._whole.buffers(), self.loss.buffers(), strict=True)
