"""How weights are moved: the device, the precision, the optimizer and the learning rate."""

from __future__ import annotations

import math

import torch
from accelerate import PartialState
from torch import nn

from .run_state import TrainingError


def training_device(name: str = "auto") -> torch.device:
    """The device this process trains on. `auto`: CUDA, else MPS, else CPU; otherwise "cuda", "mps" or "cpu".

    TrainingError when this machine has no such device. Under `accelerate launch`, one GPU a process.
    """
    device = PartialState(cpu=name == "cpu").device
    if name != "auto" and torch.device(name).type != device.type:
        raise TrainingError(f"device={name} is not there, this machine offers {device.type}: use device=auto")
    return device


def make_optimizer(model: nn.Module, *, learning_rate: float, weight_decay: float) -> torch.optim.AdamW:
    """AdamW that decays matrices and kernels, not biases, norms or other vectors."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (free if parameter.ndim < 2 or name.endswith("bias") else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]
    fused = all(p.device.type in ("cpu", "cuda") for p in model.parameters())
    return torch.optim.AdamW(groups, lr=learning_rate, fused=fused)


def learning_rate_scale(spent: float, warmup: float) -> float:
    """From 0 up to 1 over the first `warmup` share of the budget, then a half cosine down to 0 at its end."""
    if spent < warmup:
        return spent / warmup
    return 0.5 * (1 + math.cos(math.pi * min(1.0, (spent - warmup) / (1 - warmup))))
