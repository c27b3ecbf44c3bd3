"""A planner that looks for the best plan inside a world model. Torch and normalised units inside; its methods
to_env, from_env and in_numpy lead out to numpy and environment units."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from latent_planner import planners
from latent_planner.planners import Plan, PlanError

from .legs import Legs
from .model.cuda_graphs import Graphed
from .model.precision import Precision
from .model.threads import Threads
from .model.world_model import WorldModel
from .objective import Imagined, parse
from .problem import Problem, goals_of, mix_seeds, said_of
from .settings import AgentSettings


class Solver:
    """Plans through world_model as settings say. PlanError where they do not fit the model's actions."""

    def __init__(self, world_model: WorldModel, settings: AgentSettings, device: torch.device) -> None:
        self.world_model, self.device, self.objective = world_model, device, parse(settings.objective)
        self.precision = Precision(settings.precision, world_model, device)
        config = world_model.config
        self.planner = planners.make(
            settings.planner,
            settings.plan_config,
            max_change=_change(settings, config),
            **config.block_limits,
        )
        self.legs = Legs(world_model, settings.legs)
        self._code = config.action_code if config.space.choices else None
        self._low = np.asarray(config.action_low, np.float32)
        self._high = np.asarray(config.action_high, np.float32)
        self.threads = Threads()
        self._cost = Graphed(self._price) if device.type == "cuda" else self._price

    def horizon(self, problem: Problem) -> int:
        """Model steps to look ahead: the config's, but no more than the steps left."""
        longest, left = self.planner.config.horizon, self._blocks_left(problem)
        return longest if left is None else max(1, min(longest, left))

    def _blocks_left(self, problem: Problem) -> int | None:
        """Model steps until the problem's steps are used up; None: no limit."""
        left = problem.steps_left
        return None if left is None else math.ceil(left / self.world_model.config.frameskip)

    def solve(
        self,
        problems: Sequence[Problem],
        until: float | None,
        committed: Tensor | None = None,
        *,
        fan: int = 0,
    ) -> Plan:
        """One plan for each of these problems, which are one of `groups`: actions (B, H, F·A), latents
        (B, H+1, D) as imagined. PlanError.

        until: when to be done, on the clock of time.perf_counter.   committed: see Planner.plan.
        fan: candidates of each iteration that the Plan shows as imagined.
        """
        latents = torch.stack([torch.stack(problem.latents) for problem in problems])
        goal, horizon = goals_of(problems), self.horizon(problems[0])
        past, blocks = (
            self._stacked([getattr(problem, name) for problem in problems]) for name in ("past", "blocks")
        )
        last = None
        if problems[0].last is not None:
            last = torch.stack([torch.as_tensor(problem.last) for problem in problems]).to(self.device)
        if self.device.type == "cpu":
            trial = partial(self._one_step, latents, past)
            self.precision.choose(trial)
            self.threads.choose(trial)
        begun = time.perf_counter()
        watched: list[Tensor] = []
        with self.threads.using():
            said = said_of(problems)
            partly = said is not None and not bool((said > 0).all())
            goal, proposals = self._aim(latents[:, -1], goal, problems, horizon, until, partly=partly)
            aimed = time.perf_counter() - begun
            plan = self.planner.plan(
                partial(self._cost, latents, goal, past, self._judged_last(last), said),
                batch_size=len(problems),
                horizon=horizon,
                warm_start=blocks if self.planner.config.warm_start else None,
                proposals=proposals,
                committed=committed,
                last_action=None if last is None else self.world_model.normalise_actions(last),
                deadline=None if until is None else until - time.perf_counter(),
                seeds=[mix_seeds(problem.seed, problem.replans) for problem in problems],
                device=self.device,
                watch=(lambda search: watched.append(some(search.candidates, fan))) if fan else None,
            )
            begun = time.perf_counter()
            imagined = self.imagine(latents, plan.actions[:, None], past)[:, 0]
            shown = self._imagine_fan(latents, watched, past) if watched else None
        plan.seconds["propose"] = plan.seconds.get("propose", 0.0) + aimed
        seconds = {**plan.seconds, "imagine": time.perf_counter() - begun}
        self.threads.planned(plan.solve_seconds / plan.iterations, size=(len(problems), horizon))
        return replace(plan, latents=imagined, aims=goal, fan=shown, seconds=seconds)

    def _imagine_fan(self, latents: Tensor, watched: list[Tensor], past: Tensor | None) -> Tensor:
        """Candidates (B, n, H, F·A) of each iteration -> (B, iterations, n, H+1, D); n is the least."""
        count = min(own.shape[1] for own in watched)
        imagined = self.imagine(latents, torch.cat([own[:, :count] for own in watched], 1), past)
        return imagined.unflatten(1, (len(watched), count))

    def _one_step(self, latents: Tensor, past: Tensor | None) -> None:
        """Imagine as many candidates as a plan does, one step far."""
        size = len(latents), self.planner.config.num_samples, 1, len(self.planner.limits.low)
        self.imagine(latents, torch.zeros(size), past)

    def _aim(
        self,
        latents: Tensor,
        goals: Tensor,
        problems: Sequence[Problem],
        horizon: int,
        until: float | None,
        *,
        partly: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """What to plan to from latents (B, D): goals or ends of first legs; and proposals that may lead
        there.   partly: goals say nothing of some of the latent; ways to these are always straight."""
        aim = None
        in_time = until is None or time.perf_counter() + self.legs.seconds <= until
        if in_time and not partly:
            aim = self.legs.aim(latents, goals, [self._blocks_left(problem) for problem in problems])
        goals = goals if aim is None else aim.goals
        proposals = self.world_model.propose(latents, goals, horizon)
        if aim is not None and proposals is not None:
            leg = F.pad(aim.plans, (0, 0, 0, horizon - aim.plans.shape[2]))  # a negative pad crops
            proposals = torch.cat([leg, proposals], 1)
        return goals, proposals

    def imagine(self, latents: Tensor, candidates: Tensor, past: Tensor | None) -> Tensor:
        """(B, T, D), (B, N, H, F·A), (B, T-1, F·A) -> (B, N, H+1, D) in float32."""
        return self.precision.rollout(latents, candidates, past)

    def to_env(self, blocks: Tensor) -> np.ndarray:
        """Normalised blocks (B, H, F·A) -> float32 (B, H·F, A) in environment units, inside the bounds unless
        the planner leaves them."""
        actions = self._env_actions(blocks.to(self.device)).cpu().numpy().astype(np.float32)
        return actions.clip(self._low, self._high) if self.planner.bounded else actions

    def from_env(self, actions: np.ndarray) -> Tensor:
        """(n, A) in environment units -> the model's, on the CPU."""
        given = torch.tensor(np.array(actions), device=self.device)
        return self.world_model.normalise_actions(given).float().cpu()

    def in_numpy(self, plan: Plan, looked: float, single: bool) -> Plan:
        """The plan as `Agent.plan` describes it.   looked: seconds that encoding took.   single: without the
        batch axis."""
        arrays = {
            "actions": self.to_env(plan.actions),
            "cost": plan.cost.cpu().numpy(),
            "history": plan.history.cpu().numpy(),
            "elites": plan.elites.cpu().numpy(),
            "latents": plan.latents.float().cpu().numpy(),
            "aims": plan.aims.float().cpu().numpy(),
        }
        if plan.fan is not None:
            arrays["fan"] = plan.fan.float().cpu().numpy()
        seconds = {"encode": looked, **plan.seconds}
        return replace(plan, seconds=seconds, **({k: v[0] for k, v in arrays.items()} if single else arrays))

    def _price(
        self,
        latents: Tensor,
        goal: Tensor,
        past: Tensor | None,
        last: Tensor | None,
        said: Tensor | None,
        candidates: Tensor,
    ) -> Tensor:
        """What the objective says of candidates (B, N, H, F·A): (B, N)."""
        path = self.imagine(latents, candidates, past)
        return self.objective(Imagined(path, goal, self._judged(candidates), last, said))

    def _env_actions(self, blocks: Tensor) -> Tensor:
        """Normalised (…, H, F·A) -> (…, H·F, A) in environment units."""
        return self.world_model.denormalise_actions(self._in_time(blocks))

    def _judged(self, blocks: Tensor) -> Tensor:
        """As `_env_actions`, but choices stay one-hot, so that objectives can tell how far two are apart."""
        if self._code is None:
            return self._env_actions(blocks)
        return self._code.measured(self._in_time(blocks))

    def _judged_last(self, last: Tensor | None) -> Tensor | None:
        """The action (B, A) before a plan, as `_judged` gives those of the plan."""
        if last is None or self._code is None:
            return last
        return self._code.measured(self._code.encode(last))

    def _in_time(self, blocks: Tensor) -> Tensor:
        """(…, H, F·A) -> (…, H·F, A), still normalised."""
        return rearrange(blocks, "... h (f a) -> ... (h f) a", a=self.planner.limits.action_dim)

    def _stacked(self, blocks: list[list[Tensor]]) -> Tensor | None:
        """(B, steps, F·A) on the device, None for no steps."""
        if not blocks[0]:
            return None
        return torch.stack([torch.stack(own) for own in blocks]).to(self.device)


def _change(settings: AgentSettings, config: Any) -> Tensor | None:
    """max_change of the numbers of an action inside the model; None for any change. PlanError where there are
    none."""
    change = settings.change_limit(config.action_dim)
    if change is None:
        return None
    change = change / torch.tensor(config.action_std).double()
    choices = torch.tensor(config.space.choices, dtype=torch.long)
    if len(choices) and choices.all():
        raise PlanError("max_change limits numbers, and these actions are choices: leave it out.")
    return change.repeat_interleave(choices.clamp_min(1)) if len(choices) else change


def some(candidates: Tensor, count: int) -> Tensor:
    """A copy of `count` of candidates (B, N, H, F·A), spread evenly over them; of all if there are fewer."""
    number = candidates.shape[1]
    return candidates[:, torch.linspace(0, number - 1, min(count, number)).long()].clone()
