"""Places to keep out of, learned from pictures of them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latent_planner.planners import PlanError

from .model.world_model import WorldModel
from .pixels import encode_frames


def learn_penalty(
    world_model: WorldModel,
    forbidden: np.ndarray,
    allowed: np.ndarray,
    *,
    seed: int = 0,
    steps: int = 300,
) -> Callable[[Tensor], Tensor]:
    """A penalty for `objective.keep_out`: latents (…, D) -> (…), near 1 where it is forbidden, else 0.

    forbidden, allowed: uint8 (n, H, W, 3) frames of both kinds, a few dozen at least; the penalty knows
    nothing of places that neither shows. A classifier with one hidden layer is fitted to their latents for
    `steps` steps, which takes about a second; its probability is the penalty. Deterministic for a seed, and
    random streams stay as they were. PlanError for frames that cannot be used.
    """
    for name, frames in (("forbidden", forbidden), ("allowed", allowed)):
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) == 0:
            raise PlanError(
                f"{name} must be frames, uint8 of shape (n, H, W, 3), not {frames.dtype} {frames.shape}."
            )
    device = next(world_model.parameters()).device
    x = torch.cat([encode_frames(world_model, frames, device).float() for frames in (forbidden, allowed)])
    y = torch.cat([torch.ones(len(forbidden)), torch.zeros(len(allowed))]).to(x.device)
    weight = torch.where(
        y > 0, len(y) / (2 * len(forbidden)), len(y) / (2 * len(allowed))
    )  # kinds weigh alike
    mean, std = x.mean(0), x.std(0, correction=0).clamp_min(1e-3)
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(x.shape[1], 64), nn.SiLU(), nn.Linear(64, 1)).to(x.device)
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2, weight_decay=1e-2)
        for _ in range(steps):
            score = net((x - mean) / std)[:, 0]
            loss = F.binary_cross_entropy_with_logits(score, y, weight)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    net.requires_grad_(False)
    return lambda latents: net((latents.float() - mean) / std)[..., 0].sigmoid()
