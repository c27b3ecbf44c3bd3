"""Far goals: which leg to begin with, over landmarks that the model has learned.

Where no plan straight to the goal is trusted to arrive, the way leads over recorded latents. Landmarks on
the cheapest ways are candidates for the end of the first leg. The model imagines its own proposals towards
them, and the one whose imagined end has the cheapest rest of the way is the leg to begin with. Each
replanning looks again.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .model.landmarks import STEP, Landmarks, imagine_proposals
from .model.proposer import Proposer
from .model.world_model import WorldModel

CANDIDATES = 8  # landmarks that the first leg may aim at
KEPT = 4  # imagined ends of each, the nearest
NEXT = 48  # landmarks that the second leg may aim at, on two lists


@dataclass(frozen=True)
class Aim:
    """Where to plan to now, for B problems.

    goals: (B, D), the end of the first leg, or the goal itself.   plans: (B, 1, H, F·A), proposals that lead
    there.   far: (B,) bool, where `goals` is not the goal itself.
    """

    goals: Tensor
    plans: Tensor
    far: Tensor


class Legs:
    """Chooses first legs in a world model with landmarks.   most: legs a way may have."""

    def __init__(self, world_model: WorldModel, most: int) -> None:
        self.world_model, self.most = world_model, most
        self.seconds = 0.0  # that `aim` took lately for a far goal

    @property
    def landmarks(self) -> Landmarks | None:
        """None where far goals cannot be planned to: one leg only, or nothing learned."""
        landmarks = self.world_model.landmarks
        return landmarks if self.most > 1 and landmarks is not None and landmarks.known else None

    @property
    def _proposer(self) -> Proposer:
        proposer = self.world_model.proposer
        assert proposer is not None  # landmarks are learned with one
        return proposer

    @torch.no_grad()
    def aim(self, latents: Tensor, goals: Tensor, blocks_left: Sequence[int | None]) -> Aim | None:
        """Where to plan to from latents (B, D), on the way to goals (B, D); None: straight to all of them.

        blocks_left: model steps until each must be there; None: no limit.
        """
        landmarks = self.landmarks
        if landmarks is None:
            return None
        longest = self._proposer.longest
        most = [
            self.most if left is None else min(self.most, math.ceil(left / longest)) for left in blocks_left
        ]
        begun = time.perf_counter()
        several = torch.tensor([legs > 1 for legs in most], device=latents.device)
        if not several.any():
            return None
        straight, path = imagine_proposals(self.world_model, latents, goals, range(1, longest + 1))
        nearest, best = (path[:, :, 1:] - goals[:, None, None]).square().sum(-1).amin(-1).min(-1)
        far = (nearest > landmarks.trust) & several
        straightest = landmarks.price(torch.log1p(nearest))
        aims, plans = (
            goals.clone(),
            straight.gather(1, best[:, None, None, None].expand(-1, 1, *straight.shape[2:])),
        )
        for i in far.nonzero()[:, 0].tolist():
            one = slice(i, i + 1)
            cost, aim, plan = self._first_leg(landmarks, latents[one], goals[one], most[i])
            if cost < straightest[i]:
                aims[i], plans[i, 0] = aim, plan
            else:
                far[i] = False
        if far.any():
            self.seconds = time.perf_counter() - begun
        return Aim(aims, plans, far)

    def prepare(self) -> None:
        """Do beforehand what would make the first plan to a far goal late."""
        landmarks = self.landmarks
        if landmarks is not None and self.seconds == 0:
            landmarks.table()
            begun = time.perf_counter()
            self._first_leg(landmarks, landmarks.latents[:1], landmarks.latents[1:2], self.most)
            self.seconds = time.perf_counter() - begun

    def _first_leg(
        self, landmarks: Landmarks, latent: Tensor, goal: Tensor, most: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """For one problem (1, D): what the best way costs, where its first leg ends (D,), and the leg's plan
        (H, F·A)."""
        rest = landmarks.values(goal, most - 1)[-1][0]  # (M,), what comes after the first leg
        ways = landmarks.price(landmarks.between(latent[None], landmarks.latents[None])[0, 0]) + rest
        chosen = landmarks.latents[ways.topk(min(CANDIDATES, len(ways)), largest=False).indices]
        targets = torch.cat([chosen, goal])  # perhaps half of the way is straight
        plans, ends = self._legs(latent.expand(len(targets), -1), targets)
        off = (ends[:-1] - chosen[:, None]).square().sum(-1)
        which = off.topk(min(KEPT, ends.shape[1]), dim=1, largest=False).indices
        rows = torch.arange(len(chosen), device=which.device)[:, None]
        plans = torch.cat([plans[rows, which].flatten(0, 1), plans[-1]])
        ends = torch.cat([ends[rows, which].flatten(0, 1), ends[-1]])
        count = min(NEXT, len(rest))
        then = torch.cat([value.topk(count, largest=False).indices for value in (rest, ways)])
        prices = landmarks.price(landmarks.between(ends[None], landmarks.latents[then][None])[0]) + rest[then]
        last = landmarks.price(landmarks(ends, goal.expand_as(ends)))
        costs = torch.minimum(prices.amin(1), last)
        best = costs.argmin()
        return costs[best] + STEP, ends[best], plans[best]

    def _legs(self, latents: Tensor, goals: Tensor) -> tuple[Tensor, Tensor]:
        """Proposals for a leg (B, P, H, F·A), and where each ends (B, P, D)."""
        proposer = self._proposer
        plans, path = imagine_proposals(self.world_model, latents, goals, proposer.leg_steps)
        steps = torch.tensor(proposer.leg_steps, device=path.device).repeat_interleave(proposer.guesses)
        return plans, path[:, torch.arange(path.shape[1], device=path.device), steps]
