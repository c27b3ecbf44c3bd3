"""A planner that looks for the best plan inside a world model. Everything is torch and normalised here."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from latent_planner.planners import Plan, Planner

from .model.cuda_graphs import Graphed
from .model.device import choose_precision
from .objective import Imagined, Objective
from .problem import Problem, mix_seeds
from .settings import checked_precision


class Solver:
    """Plans through world_model for whatever objective asks.

    precision: of the rollouts, float32, bfloat16 or auto (bfloat16 where the device computes it natively).
    """

    def __init__(
        self,
        world_model: Any,
        planner: Planner,
        objective: Objective,
        *,
        device: torch.device,
        precision: str = "float32",
    ) -> None:
        self.world_model, self.planner, self.objective, self.device = world_model, planner, objective, device
        self.precision = choose_precision(checked_precision(precision), device)
        self._cost = Graphed(self._price) if device.type == "cuda" else self._price

    def solve(
        self,
        problems: Sequence[Problem],
        *,
        horizon: int,
        warm_start: bool,
        deadline: float | None,
        committed: Tensor | None = None,
    ) -> Plan:
        """One plan for each of these problems, which have equally long contexts and plans: actions
        (B, H, F·A), latents (B, H+1, D) as imagined. PlanError."""
        latents = torch.stack([torch.stack(problem.latents) for problem in problems])
        goal = torch.stack([problem.goal for problem in problems])  # type: ignore[misc]
        past = self._blocks([problem.past for problem in problems])
        last = None
        if problems[0].last is not None:
            last = torch.stack([torch.as_tensor(problem.last) for problem in problems]).to(self.device)
        plan = self.planner.plan(
            lambda candidates: self._cost(candidates, latents, goal, past, last),
            batch_size=len(problems),
            horizon=horizon,
            warm_start=self._blocks([problem.blocks for problem in problems]) if warm_start else None,
            proposals=self.world_model.propose(latents[:, -1], goal, horizon),
            committed=committed,
            last_action=None if last is None else self.world_model.normalise_actions(last),
            deadline=deadline,
            seeds=[mix_seeds(problem.seed, problem.replans) for problem in problems],
            device=self.device,
        )
        begun = time.perf_counter()
        imagined = self.imagine(latents, plan.actions[:, None], past)[:, 0]
        seconds = {**plan.seconds, "imagine": time.perf_counter() - begun}
        return replace(plan, latents=imagined, seconds=seconds)

    def imagine(self, latents: Tensor, candidates: Tensor, past: Tensor | None) -> Tensor:
        """(B, T, D), (B, N, H, F·A), (B, T-1, F·A) -> (B, N, H+1, D) in float32."""
        half = self.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext():
            return self.world_model.rollout(latents, candidates, past)

    def env_actions(self, blocks: Tensor) -> Tensor:
        """Normalised (…, H, F·A) -> (…, H·F, A) in environment units."""
        actions = blocks.unflatten(-1, (-1, self.world_model.config.action_dim)).flatten(-3, -2)
        return self.world_model.denormalise_actions(actions)

    def _price(
        self, candidates: Tensor, latents: Tensor, goal: Tensor, past: Tensor | None, last: Tensor | None
    ) -> Tensor:
        path = self.imagine(latents, candidates, past)
        return self.objective(Imagined(path, goal, self.env_actions(candidates), last))

    def _blocks(self, blocks: list[list[Tensor]]) -> Tensor | None:
        """(B, steps, F·A) on the device, None for no steps."""
        if not blocks[0]:
            return None
        return torch.stack([torch.stack(own) for own in blocks]).to(self.device)
