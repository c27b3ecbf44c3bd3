"""Frames of any size brought to the size that a model looks at, oblong ones squeezed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def squeeze(frames: Tensor, size: int, *, published: bool) -> Tensor:
    """(N, C, h, w) -> (N, C, size, size).

    Smaller, by the exact mean of what each pixel covers: so a large frame becomes the small one that a camera
    of that size would have seen, within what the two renderings differ. Larger, bilinear.
    published: bilinear with antialiasing in both directions, as the published preprocessing of LeWM does.
    """
    if frames.shape[-2:] == (size, size):
        return frames
    if published or min(frames.shape[-2:]) < size:
        return F.interpolate(frames, (size, size), mode="bilinear", antialias=True)
    rows, columns = (_shares(length, size, frames) for length in frames.shape[-2:])
    return rows @ frames @ columns.T


def _shares(length: int, size: int, like: Tensor) -> Tensor:
    """(size, length): which share of each new pixel every old one makes up."""
    edges = torch.arange(size + 1, dtype=torch.float64) * length / size
    pixel = torch.arange(length, dtype=torch.float64)
    low, high = edges[:-1, None], edges[1:, None]
    overlap = (torch.minimum(high, pixel + 1) - torch.maximum(low, pixel)).clamp(min=0)
    return (overlap / (high - low)).to(like)
