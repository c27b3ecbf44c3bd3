"""The latent action: in a few numbers, what happened between two latents, where no action was recorded.

An inverse model reads these numbers off two latents that follow each other, and the predictor gets them in
the place of an action block. They are few and noisy, so they cannot hold the next latent: they hold what of
it the latents before do not say. That is what was done.

The idea is that of latent action models (LAPO, arXiv 2312.10812); here the numbers are continuous, and SIGReg
and not a picture keeps the latents from collapsing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from .world_model import WorldModelConfig

LATENT_ACTIONS = 8  # numbers
NOISE = 0.3  # standard deviation while training; the numbers themselves have a mean square of 1
WIDTH = 256


class InverseModel(nn.Module):
    """(…, D), (…, D) -> (…, K): the latent action between a latent and the next."""

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.size = config.latent_actions
        self.layers = nn.Sequential(
            nn.Linear(2 * config.latent_dim, WIDTH),
            nn.SiLU(),
            nn.Linear(WIDTH, WIDTH),
            nn.SiLU(),
            nn.Linear(WIDTH, self.size),
        )

    def forward(self, latents: Tensor, following: Tensor) -> Tensor:
        numbers = self.layers(torch.cat([latents, following - latents], -1))
        numbers = F.layer_norm(numbers, (self.size,))
        return numbers + NOISE * torch.randn_like(numbers) if self.training else numbers
