"""Frames of any size brought to the size that a model looks at, oblong ones squeezed."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .goal_image import area_shares


def squeeze(frames: Tensor, size: int, *, antialias: bool) -> Tensor:
    """(N, C, h, w) -> (N, C, size, size).

    Smaller, by the exact mean of what each pixel covers: so a large frame becomes the small one that a camera
    of that size would have seen, within what the two renderings differ. Larger, bilinear.
    antialias: bilinear with antialiasing in both directions, as the published preprocessing of LeWM does.
    """
    if frames.shape[-2:] == (size, size):
        return frames
    if antialias or min(frames.shape[-2:]) < size:
        return F.interpolate(frames, (size, size), mode="bilinear", antialias=True)
    rows, columns = (torch.tensor(area_shares(length, size)).to(frames) for length in frames.shape[-2:])
    return rows @ frames @ columns.T
