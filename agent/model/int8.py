"""A predictor that computes its matrix products in 8-bit whole numbers: for rollouts on a CPU, no gradients.

Each row of a weight matrix is stored in steps of its own. What it is multiplied with is brought into steps as
it comes, all of it into the same. In between everything stays in float32. On processors with instructions for
it (VNNI) such a product, its conversions included, takes a third of the time of float32.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any, cast

import torch
from torch import Tensor, nn

from .transformer import Block, QueryKeyValue
from .world_model import WorldModel

STEPS = 127  # on either side of zero


class Int8Linear(nn.Module):
    """x (…, in) -> (…, out), in float32, of a weight (out, in) and a bias (out,)."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        weight = weight.detach().float().contiguous()
        scale = weight.abs().amax(1).clamp_min(1e-12) / STEPS
        zeros = torch.zeros(len(weight), dtype=torch.long)
        with warnings.catch_warnings():  # torch announces that such tensors will go; see device.has_int8
            warnings.simplefilter("ignore", UserWarning)
            stored = torch.quantize_per_channel(weight, scale, zeros, 0, torch.qint8)
        engine = torch.backends.quantized.engine
        torch.backends.quantized.engine = "onednn"
        try:
            self.packed: Any = torch.ops.quantized.linear_prepack(
                stored, None if bias is None else bias.detach().float()
            )
        finally:
            torch.backends.quantized.engine = engine

    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.quantized.linear_dynamic(x.contiguous(), self.packed)


class Int8QueryKeyValue(Int8Linear):
    """As QueryKeyValue."""

    def __init__(self, qkv: QueryKeyValue) -> None:
        super().__init__(qkv.weight, None)
        self.query, self.key_value = (Int8Linear(part, None) for part in qkv.weight.split(qkv.sizes))


def with_int8_predictor(world_model: WorldModel) -> WorldModel:
    """The same world model, whose predictor is a copy of its own with 8-bit products, made of the weights as
    they are now. All else is shared."""
    predictor = copy.deepcopy(world_model.predictor).requires_grad_(False)
    for block in predictor.blocks:
        _convert(cast(Block, block))
    twin = copy.copy(world_model)
    twin._modules = {**world_model._modules, "predictor": predictor}
    return twin.eval()


def _convert(block: Block) -> None:
    """Nearly all products are in the blocks; what enters and leaves them stays exact."""
    modulation, attention = block.modulation, block.attention
    block.modulation = cast(Any, Int8Linear(modulation.weight, modulation.bias + modulation.one))
    attention.qkv = cast(Any, Int8QueryKeyValue(attention.qkv))
    for layers in (attention.output, block.mlp):
        for i, layer in enumerate(layers):
            if isinstance(layer, nn.Linear):
                layers[i] = Int8Linear(layer.weight, layer.bias)
