"""Latents of frames as cameras give them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

FRAMES_AT_ONCE = 64  # encoded together, which bounds the memory


@torch.no_grad()
def latents_of(world_model: Any, frames: np.ndarray, device: torch.device | str) -> Tensor:
    """uint8 (B, H, W, 3) of any size -> latents (B, D) on the device. Puts the model in evaluation mode."""
    if world_model.training:  # its owner may have gone on training
        world_model.eval()
    pixels = torch.from_numpy(np.array(frames.transpose(0, 3, 1, 2), order="C"))[:, None]
    return torch.cat([world_model.encode(part.to(device)) for part in pixels.split(FRAMES_AT_ONCE)])[:, 0]
