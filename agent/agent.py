"""The Agent: from pixels and a goal image to actions. This is what a robot program imports.

    agent = Agent.from_pretrained("pusht")
    agent.set_goal(goal_pixels, steps=50)     # uint8 (H, W, 3), any size; 50 environment steps to get there
    while True:
        action = agent.act(pixels)            # float32 (A,), environment units, inside the bounds

numpy, uint8 and environment units outside; torch and normalised units inside. One agent may drive several
problems at once (a batch axis before everything). Each has its own random stream, context, steps left and
place in its block, so it acts as it would alone, up to rounding.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import planners
from agent import checkpoint
from agent.objective import check as check_objective
from agent.objective import goal_cost
from agent.problem import Problem, chosen_problems, mix_seeds, steps_per_problem
from agent.world_model import WorldModel
from planners import Plan, PlanConfig, PlanError

FRAMES_AT_ONCE = 64  # encoded together; rollouts bound their memory themselves


class Agent:
    """Plans inside a world model to reach goal images.

    world_model: moved to device and put in evaluation mode; shared, never changed otherwise.
    planner, plan_config, objective: how to search; see `planners` and `agent.objective`.
    device: "auto" takes CUDA, else MPS, else the CPU.   seed: default plan_config.seed.
    context_len: most frames, its own past included, that a plan starts from; default all the model looks at.

    Whatever cannot be planned with raises PlanError: no goal, pixels of a wrong shape or type, unknown names.
    """

    def __init__(
        self,
        world_model: WorldModel,
        *,
        planner: str = "cem",
        plan_config: PlanConfig | None = None,
        objective: str = "closest",
        device: torch.device | str = "auto",
        seed: int | None = None,
        context_len: int | None = None,
    ) -> None:
        self.plan_config = plan_config or PlanConfig()
        self.planner_name, self.objective = planner, check_objective(objective)
        config = world_model.config
        self._planner = planners.make(
            planner, self.plan_config, config.block_low, config.block_high, action_dim=config.action_dim
        )
        self.device = pick_device(device)
        self.world_model = world_model.to(self.device).eval()
        self.config = config
        self.context_len = min(context_len or config.context_len, config.context_len)
        self.seed = self.plan_config.seed if seed is None else seed
        self.last_plan: Plan | None = None  # of the last replanning in `act`, as `plan` gives it
        self._low = np.asarray(config.action_low, np.float32)
        self._high = np.asarray(config.action_high, np.float32)
        self._problems: list[Problem] = []

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        device: torch.device | str = "auto",
        planner: str | None = None,
        objective: str | None = None,
        seed: int | None = None,
        env: str | None = None,
        actions: Any = None,
        **plan_overrides: Any,
    ) -> Agent:
        """Agent from a bundled name, a checkpoint folder or hf://owner/name, planning as that says unless
        overridden.

        env, actions: for published LeWM weights only, see agent.checkpoint.load.
        plan_overrides: fields of PlanConfig. Raises CheckpointError and PlanError.
        """
        world_model, info = checkpoint.load(name_or_path, env=env, actions=actions)
        own_planner, own_objective, config = checkpoint.planner_settings(info["planner"])
        return cls(
            world_model,
            planner=planner or own_planner,
            plan_config=PlanConfig.from_dict({**config.to_dict(), **plan_overrides}),
            objective=objective or own_objective,
            device=device,
            seed=seed,
        )

    def session(self, seed: int | None = None) -> Agent:
        """A fresh agent with the same weights and settings, and nothing else in common."""
        return Agent(
            self.world_model,
            planner=self.planner_name,
            plan_config=self.plan_config,
            objective=self.objective,
            device=self.device,
            seed=self.seed if seed is None else seed,
            context_len=self.context_len,
        )

    def reset(self, mask: np.ndarray | None = None, seeds: Sequence[int] | None = None) -> None:
        """Forget goal, plan and context; random streams start again.

        mask: (B,) bool, only these problems.   seeds: B whole numbers, one per problem (of the whole batch);
        default: problem i's follows from the agent's seed and i.
        """
        if mask is None:
            self._problems = []
            if seeds is not None:
                self._problems = [Problem(int(seed)) for seed in seeds]
            return
        chosen = chosen_problems(mask, len(self._problems))
        if seeds is not None and len(seeds) != len(self._problems):
            raise PlanError(f"seeds must be one per problem: {len(self._problems)}, not {len(seeds)}.")
        for i in chosen:
            self._problems[i] = Problem(self._problems[i].seed if seeds is None else int(seeds[i]))

    def keep(self, mask: np.ndarray) -> None:
        """Go on with the problems that mask (B,) bool names, in the same order, and forget the others: those
        that are left act as if nothing had happened."""
        self._problems = [self._problems[i] for i in chosen_problems(mask, len(self._problems))]

    @torch.inference_mode()
    def set_goal(
        self,
        pixels: np.ndarray,
        steps: int | Sequence[int] | np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> None:
        """Pursue this goal image, uint8 (H, W, 3) or (B, H, W, 3) of any size, and drop the old plan.

        steps: environment steps left to reach it, one number or (B,); plans then never look further ahead.
        None: no limit.   mask: (B,) bool, only these problems; the others keep goal and plan.
        """
        frames, _ = self._frames(pixels)
        problems = self._problems
        if len(problems) != len(frames):
            if problems and (mask is not None or any(problem.goal is None for problem in problems)):
                raise PlanError(f"Give one goal image per problem: {len(problems)}, not {len(frames)}.")
            problems = [Problem(mix_seeds(self.seed, i)) for i in range(len(frames))]
        left = steps_per_problem(steps, len(problems))
        chosen = chosen_problems(mask, len(problems))
        for i, goal in zip(chosen, self._encode(frames[chosen])):
            problems[i].drop_plan()
            problems[i].goal, problems[i].steps_left = goal, left[i]
        self._problems = problems

    @torch.inference_mode()
    def act(self, pixels: np.ndarray, *, deadline: float | None = None) -> np.ndarray:
        """The next action, float32 (A,) or (B, A), in environment units and inside the bounds.

        pixels: uint8 (H, W, 3) or (B, H, W, 3), what is seen now. Call it once per environment step: most
        calls take the next action of the block under way, every `replan_every` blocks one plans.
        deadline: seconds for planning; see Planner.plan.
        """
        started = time.perf_counter()
        frames, single = self._frames(pixels)
        self._check_goals(len(frames))
        due = [i for i, problem in enumerate(self._problems) if not problem.pending]
        if due:
            seen = self._look(frames, due)
            replan = [p for p in seen if not p.blocks or p.begun >= self.plan_config.replan_every]
            for group in self._groups(replan):
                remaining = None if deadline is None else deadline - (time.perf_counter() - started)
                self._replan(group, remaining, single)
            actions = self._env_actions(torch.stack([problem.next_block() for problem in seen])[:, None])
            for i, problem, own in zip(due, seen, actions):
                problem.pending = list(own)
                self._problems[i] = problem
        for problem in self._problems:
            if problem.steps_left is not None:
                problem.steps_left -= 1
        actions = np.stack([problem.pending.pop(0) for problem in self._problems])
        return actions[0] if single else actions

    @torch.inference_mode()
    def plan(self, pixels: np.ndarray, *, deadline: float | None = None) -> Plan:
        """What the agent would plan now, without acting: neither plan nor context nor random streams change.

        pixels: uint8 (H, W, 3) or (B, H, W, 3). The Plan is numpy: actions float32 (B, H·F, A) in environment
        units, cost (B,), history (B, iterations), latents (B, H+1, D) imagined, index 0 that of pixels; all
        without the batch axis when pixels have none. PlanError where problems differ in steps left or context
        so that they cannot be one Plan.
        """
        frames, single = self._frames(pixels)
        self._check_goals(len(frames))
        groups = self._groups(self._look(frames, range(len(frames))))
        if len(groups) > 1:
            raise PlanError("These problems are at different points of their way: plan them in own sessions.")
        return self._to_numpy(self._solve(groups[0], deadline), single)

    @torch.inference_mode()
    def latent_distance(self, pixels: np.ndarray) -> np.ndarray | float:
        """Euclidean distance of pixels to the goal in latent space: a float, or (B,) for (B, H, W, 3)."""
        frames, single = self._frames(pixels)
        self._check_goals(len(frames))
        goal = torch.stack([problem.goal for problem in self._problems])  # type: ignore[misc]
        distance = (self._encode(frames) - goal).float().norm(dim=-1).cpu().numpy()
        return float(distance[0]) if single else distance

    # -- planning --------------------------------------------------------------------------------------------

    def _horizon(self, problem: Problem) -> int:
        """Model steps to look ahead: the config's, but no more than the steps left."""
        if problem.steps_left is None:
            return self.plan_config.horizon
        return max(1, min(self.plan_config.horizon, math.ceil(problem.steps_left / self.config.frameskip)))

    def _look(self, frames: np.ndarray, which: Sequence[int]) -> list[Problem]:
        """Copies of these problems with what frames (B, H, W, 3) show now as the newest latent."""
        looking = []
        for i, latent in zip(which, self._encode(frames[which])):
            latents, past = self._problems[i].context(latent, self.context_len)
            looking.append(replace(self._problems[i], latents=latents, past=past))
        return looking

    def _groups(self, problems: Sequence[Problem]) -> list[list[Problem]]:
        """Problems that can be solved as one batch: mostly all of them."""
        groups = defaultdict(list)
        for problem in problems:
            groups[len(problem.latents), self._horizon(problem), len(problem.blocks)].append(problem)
        return list(groups.values())

    def _replan(self, problems: list[Problem], deadline: float | None, single: bool) -> None:
        plan = self._solve(problems, deadline)
        self.last_plan = self._to_numpy(plan, single)
        for problem, blocks in zip(problems, plan.actions.cpu()):
            problem.blocks, problem.begun = list(blocks), 0
            problem.replans += 1

    def _solve(self, problems: list[Problem], deadline: float | None) -> Plan:
        """Plan, in torch and normalised units, for problems with equally long context, horizon and plan."""
        latents = torch.stack([torch.stack(problem.latents) for problem in problems])
        past = self._stack_blocks([problem.past for problem in problems])
        goal = torch.stack([problem.goal for problem in problems])  # type: ignore[misc]
        warm_start = self._stack_blocks([problem.blocks for problem in problems])

        def imagine(candidates: Tensor) -> Tensor:
            return self.world_model.rollout(latents, candidates, past)

        plan = self._planner.plan(
            lambda candidates: goal_cost(imagine(candidates), goal, self.objective),
            batch_size=len(problems),
            horizon=self._horizon(problems[0]),
            warm_start=warm_start if self.plan_config.warm_start else None,
            deadline=deadline,
            seeds=[mix_seeds(problem.seed, problem.replans) for problem in problems],
            device=self.device,
        )
        return replace(plan, latents=imagine(plan.actions[:, None])[:, 0])

    def _stack_blocks(self, blocks: list[list[Tensor]]) -> Tensor | None:
        """(B, steps, FA) on the device, None for no steps."""
        if not blocks[0]:
            return None
        return torch.stack([torch.stack(own) for own in blocks]).to(self.device)

    def _env_actions(self, blocks: Tensor) -> np.ndarray:
        """Normalised blocks (B, H, FA) -> float32 (B, H·F, A) in environment units, inside the bounds unless
        the planner leaves them."""
        normalised = blocks.to(self.device).reshape(len(blocks), -1, self.config.action_dim)
        actions = self.world_model.denormalise_actions(normalised).cpu().numpy()
        return actions.clip(self._low, self._high) if self._planner.bounded else actions

    def _to_numpy(self, plan: Plan, single: bool) -> Plan:
        arrays = {
            "actions": self._env_actions(plan.actions),
            "cost": plan.cost.cpu().numpy(),
            "history": plan.history.cpu().numpy(),
            "latents": plan.latents.float().cpu().numpy(),
        }
        return replace(plan, **({k: v[0] for k, v in arrays.items()} if single else arrays))

    # -- the border ------------------------------------------------------------------------------------------

    def _encode(self, frames: np.ndarray) -> Tensor:
        """uint8 (B, H, W, 3) -> latents (B, D)."""
        if self.world_model.training:  # its owner may have gone on training
            self.world_model.eval()
        pixels = torch.from_numpy(np.array(frames.transpose(0, 3, 1, 2), order="C"))[:, None]
        parts = [self.world_model.encode(part.to(self.device)) for part in pixels.split(FRAMES_AT_ONCE)]
        return torch.cat(parts)[:, 0]

    def _frames(self, pixels: np.ndarray) -> tuple[np.ndarray, bool]:
        """pixels as (B, H, W, 3), and whether the batch axis was missing."""
        frames = np.asarray(pixels)
        if frames.dtype != np.uint8:
            raise PlanError(f"pixels must be uint8 from 0 to 255, not {frames.dtype}.")
        if frames.ndim not in (3, 4) or frames.shape[-1] != 3 or 0 in frames.shape:
            raise PlanError(
                f"pixels must be (H, W, 3), or (B, H, W, 3) for several problems, not {frames.shape}."
            )
        return (frames[None], True) if frames.ndim == 3 else (frames, False)

    def _check_goals(self, count: int) -> None:
        without = [i for i, problem in enumerate(self._problems) if problem.goal is None]
        if without or not self._problems:
            which = f" for problem {without[0]}" if len(self._problems) > 1 else ""
            raise PlanError(f"There is no goal{which} yet: call set_goal(pixels) first.")
        if count != len(self._problems):
            raise PlanError(
                f"pixels show {count} problems but {len(self._problems)} goals are set: give one each."
            )


def pick_device(device: torch.device | str = "auto") -> torch.device:
    """The device itself, or for "auto" CUDA, else MPS, else the CPU; PlanError if it is not there."""
    if str(device) == "auto":
        device = (
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise PlanError(f"Device {str(device)!r} cannot be used here: choose cpu or auto.") from error
    return device
