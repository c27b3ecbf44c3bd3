"""The one place where pictures are fitted to a model: checked, resized, encoded.

A benchmark, plan.py and an Agent in a program hand over pictures as they are. All of them come through here,
as do the frames of a recording in training, so the same picture is always the same input to the encoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from latent_planner.planners import PlanError

if TYPE_CHECKING:
    from .model.world_model import WorldModel

FRAMES_AT_ONCE = 64  # encoded together, which bounds the memory


def checked_frames(pixels: Any) -> tuple[np.ndarray, bool]:
    """What an Agent is shown as (B, H, W, 3), and whether the batch axis was missing. PlanError."""
    if isinstance(pixels, Mapping):
        raise PlanError(
            f"This model was trained with one camera and without proprioception: give the frame of that "
            f"camera alone, not a dict of {', '.join(map(str, pixels)) or 'nothing'}."
        )
    frames = np.asarray(pixels)
    advice = frame_advice(frames)
    advice = f": {advice}." if advice else "."
    if frames.dtype != np.uint8:
        raise PlanError(f"pixels must be uint8 from 0 to 255, not {frames.dtype}{advice}")
    if frames.ndim not in (3, 4) or frames.shape[-1] != 3 or 0 in frames.shape:
        raise PlanError(
            f"pixels must be (H, W, 3), or (B, H, W, 3) for several problems, not {frames.shape}{advice}"
        )
    return (frames[None], True) if frames.ndim == 3 else (frames, False)


def frame_advice(frames: np.ndarray) -> str:
    """How to make uint8 (..., H, W, 3) of an array that is nearly that; "" where nothing obvious helps."""
    advice = []
    shape = frames.shape[-3:]
    channels_first = len(shape) == 3 and shape[-1] not in (1, 3, 4) and shape[0] in (1, 3, 4)
    if channels_first:
        axes = {3: "(1, 2, 0)", 4: "(0, 2, 3, 1)"}.get(frames.ndim, "(..., 1, 2, 0)")
        advice.append(f"transpose it, np.transpose(frame, {axes}), as its channels come first")
    channels = shape[0 if channels_first else -1] if len(shape) == 3 else 1
    if channels == 4:
        advice.append("drop the last channel (alpha), frame[..., :3]")
    elif channels == 1 and len(shape) >= 2:
        advice.append("repeat the one channel three times")
    if np.issubdtype(frames.dtype, np.floating):
        advice.append("multiply by 255 and convert to uint8 (from 0 to 255 already: only convert)")
    return ", then ".join(advice)


@torch.no_grad()
def encode_frames(world_model: WorldModel, frames: np.ndarray, device: torch.device | str) -> Tensor:
    """uint8 (B, H, W, 3) of any size -> latents (B, D) on the device. Puts the model in evaluation mode."""
    if world_model.training:  # its owner may have gone on training
        world_model.eval()
    pixels = torch.from_numpy(np.array(frames.transpose(0, 3, 1, 2), order="C"))[:, None]
    return torch.cat([world_model.encode(part.to(device)) for part in pixels.split(FRAMES_AT_ONCE)])[:, 0]


def resize(frames: Tensor, size: int, *, antialias: bool) -> Tensor:
    """(N, C, h, w) float -> (N, C, size, size); an oblong frame is squeezed, nothing is cut off.

    Smaller, by the exact mean of what each pixel covers: so a large frame becomes the small one that a camera
    of that size would have seen, within what the two renderings differ. Larger, bilinear.
    antialias: bilinear with antialiasing in both directions, as the published preprocessing of LeWM does.
    """
    if frames.shape[-2:] == (size, size):
        return frames
    if antialias or min(frames.shape[-2:]) < size:
        return F.interpolate(frames, (size, size), mode="bilinear", antialias=True)
    rows, columns = (torch.tensor(_area_shares(length, size)).to(frames) for length in frames.shape[-2:])
    return rows @ frames @ columns.T


def resize_picture(pixels: np.ndarray, size: int) -> np.ndarray:
    """uint8 (H, W, 3) -> uint8 (size, size, 3) by `resize`, rounded: to compare pictures or to show them.

    A picture for a model is not resized with it: the model takes any size, and does not round.
    """
    frames = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None].float()
    resized = resize(frames, size, antialias=False)[0].permute(1, 2, 0)
    return (resized + 0.5).clamp(0, 255).to(torch.uint8).numpy()


@lru_cache(maxsize=16)
def _area_shares(side: int, size: int) -> np.ndarray:
    """(size, side): how much of each new pixel every old one covers, in one dimension; rows sum to 1."""
    edges = np.arange(size + 1) * (side / size)
    old = np.arange(side)
    covered = np.minimum(edges[1:, None], old + 1) - np.maximum(edges[:-1, None], old)
    return (covered.clip(0) * (size / side)).astype(np.float32)
