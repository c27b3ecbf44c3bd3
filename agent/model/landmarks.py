"""Landmarks: recorded latents to plan through when a goal is too far for one plan.

A plan imagines a few model steps. Beyond those, the way leads over landmarks: latents of recorded frames.
How well one plan (a *leg*) gets from one latent to another is a number that the model can work out by itself:
it imagines its own proposals and takes the squared distance that the best one leaves. A small network learns
that number, so that all legs between landmarks are known at once and the way is a shortest path.

Searching a graph of recorded observations is due to Eysenbach et al., "Search on the replay buffer", arXiv
1906.05253; here an edge is priced by what the model imagines and not by a learned value function.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from .world_model import WorldModel, WorldModelConfig

WIDTH = 256
SHARPNESS = 0.3  # of a leg's price around the trusted distance, in its logarithm
STEP = 0.1  # least price of a leg: fewer legs are better
PAIRS_AT_ONCE = 2048  # of latents: what the network makes of so many stays in a core's cache


def imagine_proposals(
    world_model: WorldModel, latents: Tensor, goals: Tensor, steps: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """(B, D), (B, D) -> proposals for arriving after each of `steps` model steps, inside the action bounds
    (B, P, H, F·A), and what they lead to (B, P, H+1, D). The model must have a proposer."""
    proposer = world_model.proposer
    assert proposer is not None  # landmarks are learned with one
    plans = world_model.clip_blocks(proposer.propose(latents, goals, proposer.longest, steps))
    return plans, world_model.rollout(latents[:, None], plans)


class Landmarks(nn.Module):
    """Recorded latents (M, D), and what a leg between two latents leaves.

    trust: squared distance that a leg may leave and still count as having arrived; 0 until it is learned.
    """

    latents: Tensor
    trust: Tensor

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        dim = config.latent_dim
        self.register_buffer("latents", torch.zeros(config.landmarks, dim))
        self.register_buffer("trust", torch.zeros(()))
        self.layers = nn.Sequential(
            nn.Linear(2 * dim, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Linear(WIDTH, 1)
        )
        self.requires_grad_(False)  # learned on their own, see training.landmarks
        self._table: Tensor | None = None

    @property
    def known(self) -> bool:
        """Whether they have been learned."""
        return bool(self.trust > 0)

    def forward(self, latents: Tensor, goals: Tensor) -> Tensor:
        """(…, D), (…, D) -> (…): log(1 + the squared distance that the best proposed plan leaves)."""
        return self.layers(torch.cat([latents, goals - latents], -1))[..., 0]

    def between(self, latents: Tensor, goals: Tensor) -> Tensor:
        """The same for every pair of (B, N, D) and (B, M, D): (B, N, M). The first layer is computed once for
        each latent."""
        first, _, second, _, last = self.layers
        assert isinstance(first, nn.Linear)
        weight, dim = first.weight, latents.shape[-1]
        here = F.linear(latents, weight[:, :dim] - weight[:, dim:], first.bias)[:, :, None]
        there = F.linear(goals, weight[:, dim:])[:, None]
        rows = max(1, PAIRS_AT_ONCE // max(1, len(latents) * goals.shape[1]))
        parts = [last(F.silu(second(F.silu(some + there))))[..., 0] for some in here.split(rows, 1)]
        return torch.cat(parts, 1)

    def price(self, left: Tensor) -> Tensor:
        """What a leg costs that leaves `left`, as `forward` gives it: little up to the trusted distance, then
        more and more."""
        return F.softplus((left - torch.log1p(self.trust)) / SHARPNESS) * SHARPNESS + STEP

    def table(self) -> Tensor:
        """(M, M): the price of the leg from each landmark to each other; computed once."""
        if self._table is None or self._table.device != self.latents.device:
            legs = self.between(self.latents[None], self.latents[None])[0]
            self._table = self.price(legs).fill_diagonal_(math.inf)
        return self._table

    def forget_table(self) -> None:
        """Compute the table anew when it is asked for: weights or landmarks have changed."""
        self._table = None

    def values(self, goals: Tensor, legs: int) -> list[Tensor]:
        """Of goals (B, D): the price (B, M) of reaching them from each landmark in at most 1, 2, …, `legs`
        legs."""
        prices = [
            self.price(self.between(self.latents[None].expand(len(goals), -1, -1), goals[:, None])[..., 0])
        ]
        for _ in range(legs - 1):
            through = (self.table() + prices[-1][:, None]).amin(-1)
            prices.append(torch.minimum(prices[0], through))
        return prices
