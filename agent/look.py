"""Latents of frames as cameras give them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latent_planner.planners import PlanError

FRAMES_AT_ONCE = 64  # encoded together, which bounds the memory


@torch.no_grad()
def latents_of(world_model: Any, frames: np.ndarray, device: torch.device | str) -> Tensor:
    """uint8 (B, H, W, 3) of any size -> latents (B, D) on the device. Puts the model in evaluation mode."""
    if world_model.training:  # its owner may have gone on training
        world_model.eval()
    pixels = torch.from_numpy(np.array(frames.transpose(0, 3, 1, 2), order="C"))[:, None]
    return torch.cat([world_model.encode(part.to(device)) for part in pixels.split(FRAMES_AT_ONCE)])[:, 0]


def checked_frames(pixels: np.ndarray) -> tuple[np.ndarray, bool]:
    """What an Agent is shown as (B, H, W, 3), and whether the batch axis was missing. PlanError."""
    if isinstance(pixels, Mapping):
        raise PlanError(
            f"This model was trained with one camera and without proprioception: give the frame of that "
            f"camera alone, not a dict of {', '.join(map(str, pixels)) or 'nothing'}."
        )
    frames = np.asarray(pixels)
    if frames.dtype != np.uint8:
        raise PlanError(f"pixels must be uint8 from 0 to 255, not {frames.dtype}.")
    if frames.ndim not in (3, 4) or frames.shape[-1] != 3 or 0 in frames.shape:
        raise PlanError(
            f"pixels must be (H, W, 3), or (B, H, W, 3) for several problems, not {frames.shape}."
        )
    return (frames[None], True) if frames.ndim == 3 else (frames, False)
