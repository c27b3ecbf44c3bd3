"""Proposals: plans that may lead from one latent to another, guessed for the planner to improve on.

A push that turns a block is a needle in the haystack of action sequences, yet recordings are full of pushes.
So a small network learns, from any two latents of an episode, the actions taken between them (inverse
dynamics; the goal is relabelled in hindsight). More than one way may lead there, so it makes several guesses
and only the best of them has to be right. The planner searches around them, and the predictor has the last
word on which one is any good.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from .world_model import WorldModelConfig

RELAXED = 0.05  # share of the loss that also the worse guesses get, so that none is left behind


class Proposer(nn.Module):
    """Some guesses of the action blocks that lead to a goal latent in a given number of model steps."""

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.guesses, self.longest = config.proposals, config.proposal_steps
        self.block_dim = config.block_dim
        width = config.proposer_width
        self.layers = nn.Sequential(
            nn.Linear(2 * config.latent_dim + self.longest, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, self.guesses * self.longest * self.block_dim),
        )

    def forward(self, latents: Tensor, goals: Tensor, steps: Tensor) -> Tensor:
        """(B, D), (B, D), int (B,) of 1 to longest -> blocks (B, guesses, longest, F·A), 0 after `steps`."""
        which = F.one_hot(steps - 1, self.longest).to(latents.dtype)
        guesses = self.layers(torch.cat([latents, goals - latents, which], -1))
        guesses = guesses.unflatten(-1, (self.guesses, self.longest, self.block_dim))
        before = torch.arange(self.longest, device=steps.device) < steps[:, None]
        return guesses * before[:, None, :, None]

    def propose(
        self, latents: Tensor, goals: Tensor, horizon: int, steps: Sequence[int] | None = None
    ) -> Tensor:
        """(B, D), (B, D) -> (B, P, horizon, F·A): guesses for arriving after each of `steps` model steps, by
        default 1, 2, … up to the longest that was learned."""
        steps = range(1, min(self.longest, horizon) + 1) if steps is None else steps
        found = [self(latents, goals, torch.full((len(latents),), k, device=latents.device)) for k in steps]
        return F.pad(torch.cat(found, 1), (0, 0, 0, horizon - self.longest))  # a negative pad crops

    @property
    def leg_steps(self) -> tuple[int, ...]:
        """Model steps of the plans that a leg is judged by: half of the longest, and the longest."""
        return tuple(sorted({(self.longest + 1) // 2, self.longest}))

    def loss(self, latents: Tensor, goals: Tensor, steps: Tensor, actions: Tensor) -> Tensor:
        """Mean squared error of the best guess, and a little of all, for the blocks (B, longest, F·A) that
        led from latents to goals (B, D) in `steps` (B,), and are 0 after those.

        Relaxed winner-takes-all, Rupprecht et al., arXiv 1612.00197.
        """
        error = (self(latents, goals, steps) - actions[:, None]).float().square().mean(-1)
        error = error.sum(-1) / steps[:, None]
        return ((1 - RELAXED) * error.amin(1) + RELAXED * error.mean(1)).mean()
