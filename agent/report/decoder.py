"""From latents back to pictures: a small decoder that is trained for the report, on frozen latents.

The world model never learns from it. What it cannot draw is not in the latent, or not simply so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIDE = 64  # px, of what it draws
STEPS, BATCH, WIDTH = 1500, 48, 24
RATE = 2e-3


class Decoder(nn.Module):
    """Latents (n, D) -> frames (n, 3, SIDE, SIDE) from 0 to 1: the mean frame, and what differs from it."""

    middle: Tensor
    scale: Tensor
    mean_frame: Tensor

    def __init__(self, latents: Tensor, mean_frame: Tensor, width: int = WIDTH) -> None:
        super().__init__()
        self.register_buffer("middle", latents.mean(0))
        self.register_buffer("scale", latents.std(0).clamp_min(1e-6))
        self.register_buffer("mean_frame", mean_frame)
        layers: list[nn.Module] = [
            nn.Linear(latents.shape[1], 256), nn.GELU(), nn.Linear(256, 2 * width * (SIDE // 8) ** 2),
            nn.Unflatten(1, (2 * width, SIDE // 8, SIDE // 8)),
        ]  # fmt: skip
        for inside, outside in ((2 * width, width), (width, width)):
            layers += [nn.GroupNorm(4, inside), nn.GELU(), nn.Upsample(scale_factor=2)]
            layers += [nn.Conv2d(inside, outside, 3, padding=1)]
        layers += [nn.GroupNorm(4, width), nn.GELU(), nn.Conv2d(width, 12, 3, padding=1), nn.PixelShuffle(2)]
        self.net = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        return self.mean_frame + self.net((latents - self.middle) / self.scale)

    @torch.no_grad()
    def draw(self, latents: np.ndarray) -> np.ndarray:
        """(n, D) -> uint8 (n, SIDE, SIDE, 3)."""
        drawn = [self(part) for part in torch.from_numpy(latents).to(self.middle).split(256)]
        frames = torch.cat(drawn).clamp(0, 1).mul(255).round().byte()
        return frames.permute(0, 2, 3, 1).cpu().numpy()


def shrunk(pixels: np.ndarray) -> np.ndarray:
    """uint8 (n, h, w, 3) -> (n, SIDE, SIDE, 3)."""
    if pixels.shape[1:3] == (SIDE, SIDE):
        return pixels
    frames = torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float()
    resized = F.interpolate(frames, (SIDE, SIDE), mode="bilinear", antialias=True)
    return resized.round().byte().permute(0, 2, 3, 1).numpy()


def train(
    latents: np.ndarray, frames: np.ndarray, *, steps: int = STEPS, seed: int = 0, progress: Any = iter
) -> Decoder:
    """A decoder for latents (n, D) of frames uint8 (n, SIDE, SIDE, 3), after so many steps.

    Pixels that differ from the mean frame weigh more, since most of a frame never changes.
    """
    x = torch.from_numpy(latents)
    target = torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))
    mean_frame = target.float().mean(0) / 255
    with torch.random.fork_rng([]), torch.enable_grad():
        torch.manual_seed(seed)
        decoder = Decoder(x, mean_frame)
        optimizer = torch.optim.AdamW(decoder.parameters(), lr=RATE, weight_decay=1e-4)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=max(2, steps))
        for _ in progress(range(steps)):
            rows = torch.randint(len(x), (min(BATCH, len(x)),))
            truth = target[rows].float() / 255
            moving = (truth - mean_frame).abs().amax(1, keepdim=True)
            loss = ((decoder(x[rows]) - truth).square() * (1 + 10 * moving)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return decoder.eval()


def explained(drawn: np.ndarray, frames: np.ndarray, mean_frame: np.ndarray) -> float:
    """Share of the pixels' variance about the mean frame that drawn frames explain; all uint8 or 0..255."""
    missed = np.square(drawn.astype(float) - frames).mean()
    spread = np.square(frames.astype(float) - mean_frame).mean()
    return float(1 - missed / max(spread, 1e-12))
