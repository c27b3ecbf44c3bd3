"""Components of an action that are choices among a few instead of numbers.

A choice among n takes n numbers of a block, one of which is 1 and the others 0 (one-hot). The mean of such
candidates is how often each was chosen, so what refits a mean refits these chances as well: CEM to those of
the elites (Rubinstein, "The Cross-Entropy Method for Combinatorial and Continuous Optimization", 1999), MPPI
to all of them with their weights. Only drawing differs, and that every candidate is one of the choices.

The normal noise of the search becomes Gumbel noise, and the largest of log chance + noise is chosen (Gumbel,
1954): a sample of exactly these chances. Noise correlated in time so becomes choices held for a while.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .config import PlanError

WARM = 0.5  # share that a first plan has of the first chances; the rest is the same for all choices
TINY = 1e-6  # distance of a uniform number to 0 and 1


class Choices:
    """Where the choices are in blocks of actions.

    counts: of one action's components in their order, how many choices each has; 0 for a number, which takes
    one place.   size: numbers in a block.   PlanError where these do not fit.
    """

    def __init__(self, counts: Sequence[int], size: int) -> None:
        widths = [count or 1 for count in counts]
        if any(count < 0 for count in counts) or not widths or size % sum(widths):
            raise PlanError(f"Blocks of {size} numbers do not hold actions with the choices {list(counts)}.")
        self.action_dim = sum(widths)
        starts = [sum(widths[:i]) for i in range(len(widths))]
        self.groups = [(start, count) for start, count in zip(starts, counts) if count]
        self.even = torch.zeros(self.action_dim, dtype=torch.float64)  # chances that are the same for all
        for start, count in self.groups:
            self.even[start : start + count] = 1 / count
        self.even = self.even.repeat(size // self.action_dim)
        self.where = self.even > 0  # (FA,) bool

    def __bool__(self) -> bool:
        return bool(self.groups)

    def settle(self, blocks: Tensor) -> Tensor:
        """Blocks (…, FA), changed in place: of every choice, the place with the largest number is 1."""
        actions = blocks.unflatten(-1, (-1, self.action_dim))
        for start, count in self.groups:
            scores = actions[..., start : start + count]
            largest = scores.argmax(-1, keepdim=True)
            scores.zero_().scatter_(-1, largest, 1.0)
        return blocks

    def first_chances(self, mean: Tensor, *, known: bool) -> Tensor:
        """A first mean (B, H, FA) whose choices are chances: even, or half of them those of a known plan."""
        even = self.even.to(mean)
        chances = torch.lerp(even.expand_as(mean), mean, WARM) if known else even
        return torch.where(self.where.to(mean.device), chances, mean)

    def draw(self, candidates: Tensor, mean: Tensor, share: Tensor, noise: Tensor) -> None:
        """Put scores in the place of the choices of candidates (B, N, H, FA), whose largest are samples.

        mean: (B, H, FA), chances.   share: likewise, how much of them is the same for all choices.
        noise: like candidates, of unit variance.
        """
        where = self.where.to(mean.device)
        even, share = self.even.to(mean), share.clamp(0, 1)
        chances = torch.lerp(mean, even.expand_as(mean), share)[..., where].clamp_min(TINY)
        uniform = torch.special.ndtr(noise[..., where]).clamp(TINY, 1 - TINY)
        candidates[..., where] = chances.log()[:, None] - (-uniform.log()).log()
