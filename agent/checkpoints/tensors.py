"""Tensors from a file that a stranger may have made: plain numbers, as a model of ours holds them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def oddity(value: Any) -> str | None:
    """Why this is not a dense array of numbers in memory; None where it is."""
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    if value.device.type != "cpu":
        return f"without numbers, on the device {value.device.type}"
    if value.is_nested or value.layout != torch.strided:
        return "not dense"
    if value.is_quantized or value.dtype not in (*FLOATS, *WHOLE):
        return f"of the type {str(value.dtype).removeprefix('torch.')}"
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        return "larger than the numbers that it holds"
    return None


def as_float32(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same with all fractions in float32; whole numbers stay as they are."""
    return {name: value.float() if value.is_floating_point() else value for name, value in state.items()}


def halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same with matrices and kernels of float32 in float16 where that loses nothing."""

    def short(value: Tensor) -> Tensor:
        if value.dtype != torch.float32 or value.ndim < 2:
            return value
        half = value.half()
        return half if torch.equal(half.float(), value) else value

    return {name: short(value) for name, value in state.items()}


def not_finite(state: Mapping[str, Tensor]) -> list[str]:
    """Names of those that hold NaN or an infinity."""
    return [name for name, value in state.items() if not value.isfinite().all()]
