"""Published LeWM checkpoints: what they have in common, and their names for our weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

# settings of WorldModelConfig (arXiv 2603.19312)
SETTINGS: dict[str, Any] = {
    "image_size": 224,
    "pixel_mean": (0.485, 0.456, 0.406),
    "pixel_std": (0.229, 0.224, 0.225),
    "frameskip": 5,
    "context_len": 3,
    "latent_dim": 192,
    "projector_dim": 2048,
    "encoder": "vit",
    "encoder_width": 192,
    "encoder_depth": 12,
    "encoder_heads": 3,
    "patch_size": 14,
    "predictor": "lewm",
    "predictor_width": 192,
    "predictor_depth": 6,
    "predictor_heads": 16,
    "predictor_head_dim": 64,
    "predictor_mlp_dim": 2048,
    "dropout": 0.1,
}

PARAMETERS = {
    "encoder.embeddings.cls_token": "encoder.backbone.cls_token",
    "encoder.embeddings.position_embeddings": "encoder.backbone.positions",
    "predictor.pos_embedding": "predictor.positions",
}
# modules: what follows (weight, bias, running_mean, …) is called the same; N stands for the layer's number
MODULES = {
    "encoder.embeddings.patch_embeddings.projection": "encoder.backbone.patches",
    "encoder.layers.N.layernorm_before": "encoder.backbone.blocks.N.attention_norm",
    "encoder.layers.N.attention.q_proj": "encoder.backbone.blocks.N.query",
    "encoder.layers.N.attention.k_proj": "encoder.backbone.blocks.N.key",
    "encoder.layers.N.attention.v_proj": "encoder.backbone.blocks.N.value",
    "encoder.layers.N.attention.o_proj": "encoder.backbone.blocks.N.attention_output",
    "encoder.layers.N.layernorm_after": "encoder.backbone.blocks.N.mlp_norm",
    "encoder.layers.N.mlp.fc1": "encoder.backbone.blocks.N.mlp_hidden",
    "encoder.layers.N.mlp.fc2": "encoder.backbone.blocks.N.mlp_output",
    "encoder.layernorm": "encoder.backbone.norm",
    "projector.net.0": "encoder.projector.hidden",
    "projector.net.1": "encoder.projector.norm",
    "projector.net.3": "encoder.projector.output",
    "action_encoder.patch_embed": "predictor.action_encoder.0",
    "action_encoder.embed.0": "predictor.action_encoder.1",
    "action_encoder.embed.2": "predictor.action_encoder.3",
    "predictor.transformer.layers.N.attn.norm": "predictor.blocks.N.attention.norm",
    "predictor.transformer.layers.N.attn.to_qkv": "predictor.blocks.N.attention.qkv",
    "predictor.transformer.layers.N.attn.to_out.0": "predictor.blocks.N.attention.output.0",
    "predictor.transformer.layers.N.mlp.net.0": "predictor.blocks.N.mlp.0",
    "predictor.transformer.layers.N.mlp.net.1": "predictor.blocks.N.mlp.1",
    "predictor.transformer.layers.N.mlp.net.4": "predictor.blocks.N.mlp.4",
    "predictor.transformer.layers.N.adaLN_modulation.1": "predictor.blocks.N.modulation",
    "predictor.transformer.norm": "predictor.norm",
    "pred_proj.net.0": "predictor.head.hidden",
    "pred_proj.net.1": "predictor.head.norm",
    "pred_proj.net.3": "predictor.head.output",
}
# the vision transformer's modules in checkpoints saved with transformers 4
OLDER = {
    "encoder.encoder.layer.N.layernorm_before": "encoder.layers.N.layernorm_before",
    "encoder.encoder.layer.N.attention.attention.query": "encoder.layers.N.attention.q_proj",
    "encoder.encoder.layer.N.attention.attention.key": "encoder.layers.N.attention.k_proj",
    "encoder.encoder.layer.N.attention.attention.value": "encoder.layers.N.attention.v_proj",
    "encoder.encoder.layer.N.attention.output.dense": "encoder.layers.N.attention.o_proj",
    "encoder.encoder.layer.N.layernorm_after": "encoder.layers.N.layernorm_after",
    "encoder.encoder.layer.N.intermediate.dense": "encoder.layers.N.mlp.fc1",
    "encoder.encoder.layer.N.output.dense": "encoder.layers.N.mlp.fc2",
}
_OURS = {theirs: ours for theirs, ours in [*PARAMETERS.items(), *MODULES.items()]}
_THEIRS = {ours: theirs for theirs, ours in _OURS.items()}
_ACTION_PATCH = (
    "action_encoder.patch_embed.weight"  # a convolution over single steps: with us, a plain matrix
)


def newer_spelling(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same weights with the vision transformer's keys as transformers 5 spells them; others stay."""
    return {_renamed(name, OLDER) or name: value for name, value in state_dict.items()}


def from_lewm_keys(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A published state dict, in either spelling, under our names; ValueError for a foreign name."""
    ours = {}
    for name, value in newer_spelling(state_dict).items():
        if (known := _renamed(name, _OURS)) is None:
            raise ValueError(f"{name!r} is no weight of a published LeWM checkpoint.")
        ours[known] = value.squeeze(-1) if name == _ACTION_PATCH else value
    return ours


def to_lewm_keys(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The reverse of `from_lewm_keys`, in the newer spelling; ValueError for a name that LeWM has not."""
    theirs = {}
    for name, value in state_dict.items():
        if (known := _renamed(name, _THEIRS)) is None:
            raise ValueError(f"A published LeWM checkpoint has no place for {name!r}.")
        theirs[known] = value[..., None] if known == _ACTION_PATCH else value
    return theirs


def _renamed(name: str, names: Mapping[str, str]) -> str | None:
    """`name` by a table of parameters and modules, where N is a layer's number; None if it is unknown."""
    if name in names:
        return names[name]
    module, _, parameter = name.rpartition(".")
    number = re.search(r"(?<=layer\.)\d+|(?<=layers\.)\d+|(?<=blocks\.)\d+", module)
    pattern = module if number is None else f"{module[: number.start()]}N{module[number.end() :]}"
    if pattern not in names:
        return None
    renamed = f"{names[pattern]}.{parameter}"
    return renamed if number is None else renamed.replace(".N.", f".{number[0]}.")
