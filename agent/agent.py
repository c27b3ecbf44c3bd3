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

from latent_planner import planners
from latent_planner.planners import Plan, PlanConfig, PlanError

from .checkpoints import checkpoint
from .imagination import Solver
from .model.device import pick_device
from .model.world_model import WorldModel
from .objective import Objective, parse
from .pixels import checked_frames, encode_frames
from .problem import Problem, chosen_problems, executed_per_problem, mix_seeds, steps_per_problem
from .settings import checked_change, checked_deadline

PASSED = 0.05  # a waypoint counts as passed at this share of the squared distance between unrelated latents


class Agent:
    """Plans inside a world model to reach goal images.

    world_model: moved to device and put in evaluation mode; shared, never changed otherwise.
    planner, plan_config, objective: how to search, and for what; see `planners` and `objective`.
    max_change: the most that an action may differ from the one before, in environment units: one number or
        one per action component; None: any change.
    precision: of imagining, float32, bfloat16 or auto (bfloat16 where the device computes it natively).
    deadline: seconds for each replanning in `act` that is not told otherwise; None: as long as it takes.
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
        objective: str | Objective = "closest",
        max_change: float | Sequence[float] | None = None,
        precision: str = "float32",
        deadline: float | None = None,
        device: torch.device | str = "auto",
        seed: int | None = None,
        context_len: int | None = None,
    ) -> None:
        self.plan_config = plan_config or PlanConfig()
        self.planner_name, self.objective = planner, parse(objective)
        self.max_change, self.deadline = max_change, checked_deadline(deadline)
        self.device = pick_device(device)
        self.world_model = world_model.to(self.device).eval()
        self.config = config = world_model.config
        self.context_len = min(context_len or config.context_len, config.context_len)
        change = checked_change(max_change, config.action_dim)
        if change is not None:
            change = change / torch.tensor(config.action_std).double()
        limits: dict[str, Any] = {"action_dim": config.action_dim, "max_change": change}
        searching = planners.make(planner, self.plan_config, config.block_low, config.block_high, **limits)
        self._solver = Solver(
            self.world_model, searching, self.objective, device=self.device, precision=precision
        )
        self.precision = precision
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
        seed: int | None = None,
        env: str | None = None,
        actions: Any = None,
        **changes: Any,
    ) -> Agent:
        """Agent from a bundled name, a checkpoint folder or hf://owner/name, which also says how to plan.

        env, actions: for published LeWM weights only, see latent_planner.checkpoints.checkpoint.load.
        changes: planner, objective, max_change, precision, deadline, and fields of PlanConfig. Raises
        CheckpointError and PlanError.
        """
        world_model, info = checkpoint.load(name_or_path, env=env, actions=actions)
        settings = checkpoint.planner_settings(info["planner"])
        own = {name: changes.pop(name) for name in settings if name in changes}
        config = PlanConfig.from_dict({**settings["plan_config"].to_dict(), **changes})
        return cls(world_model, **{**settings, "plan_config": config, **own}, device=device, seed=seed)

    def clone(self, seed: int | None = None) -> Agent:
        """A fresh agent with the same weights and settings, and nothing else in common."""
        return Agent(
            self.world_model,
            planner=self.planner_name,
            plan_config=self.plan_config,
            objective=self.objective,
            max_change=self.max_change,
            precision=self.precision,
            deadline=self.deadline,
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

    @torch.no_grad()
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
        frames, _ = checked_frames(pixels)
        self._pursue(frames[:, None], steps, mask, near=0.0)

    @torch.no_grad()
    def set_waypoints(
        self,
        pixels: np.ndarray,
        steps: int | Sequence[int] | np.ndarray | None = None,
        mask: np.ndarray | None = None,
        *,
        near: float | None = None,
    ) -> None:
        """Pursue several goal images one after the other, uint8 (G, H, W, 3), or (B, G, H, W, 3) for several
        problems; the last is the goal.

        near: latent distance, as `latent_distance` gives it, at which one counts as passed; default: about a
            fifth of that between unrelated frames. One also counts as passed when no plan would come nearer.
            Judged whenever a block of actions is done.   steps, mask: as for `set_goal`; steps are for all.
        """
        pictures = np.asarray(pixels)
        if pictures.ndim not in (4, 5):
            raise PlanError(
                "waypoints must be pictures (G, H, W, 3), or (B, G, H, W, 3) for several problems, "
                f"not {pictures.shape}."
            )
        pictures = pictures[None] if pictures.ndim == 4 else pictures
        frames, _ = checked_frames(pictures.reshape(-1, *pictures.shape[2:]))
        if near is not None and not near >= 0:
            raise PlanError(f"near must be a distance of at least 0, not {near!r}.")
        self._pursue(frames.reshape(pictures.shape), steps, mask, near)

    def _pursue(
        self,
        pictures: np.ndarray,
        steps: int | Sequence[int] | np.ndarray | None,
        mask: np.ndarray | None,
        near: float | None,
    ) -> None:
        """Give each problem that mask names its goals, of (B, G, H, W, 3), and drop its old plan."""
        problems = self._problems
        if len(problems) != len(pictures):
            if problems and (mask is not None or any(problem.goal is None for problem in problems)):
                raise PlanError(f"Give one goal image per problem: {len(problems)}, not {len(pictures)}.")
            problems = [Problem(mix_seeds(self.seed, i)) for i in range(len(pictures))]
        left = steps_per_problem(steps, len(problems))
        chosen = chosen_problems(mask, len(problems))
        latents = self._encode(pictures[chosen].reshape(-1, *pictures.shape[2:]))
        near = math.sqrt(PASSED * 2 * latents.shape[-1]) if near is None else float(near)
        for i, (goal, *later) in zip(chosen, latents.unflatten(0, (len(chosen), pictures.shape[1]))):
            problems[i].drop_plan()
            problems[i].goal, problems[i].later, problems[i].near = goal, later, near
            problems[i].steps_left = left[i]
        self._problems = problems

    @torch.no_grad()
    def act(self, pixels: np.ndarray, *, deadline: float | None = None) -> np.ndarray:
        """The next action, float32 (A,) or (B, A), in environment units and inside the bounds.

        pixels: uint8 (H, W, 3) or (B, H, W, 3), what is seen now. Call it once per environment step: most
        calls take the next action of the block under way, every `replan_every` blocks one plans.
        deadline: seconds for planning, instead of the agent's own; see Planner.plan.
        """
        started = time.perf_counter()
        deadline = self.deadline if deadline is None else checked_deadline(deadline)
        frames, single = checked_frames(pixels)
        self._check_goals(len(frames))
        for problem in self._problems:
            problem.give_up_handed()
        due = [i for i, problem in enumerate(self._problems) if not problem.pending]
        if due:
            seen = self._look(frames[due], [self._problems[i] for i in due])
            replan = [p for p in seen if not p.blocks or p.begun >= self.plan_config.replan_every]
            looked = time.perf_counter() - started
            for group in self._groups(replan):
                remaining = None if deadline is None else deadline - (time.perf_counter() - started)
                self._replan(group, remaining, looked, single)
            actions = self._env_actions(torch.stack([problem.next_block() for problem in seen])[:, None])
            for i, problem, own in zip(due, seen, actions):
                problem.pending = list(own)
                self._problems[i] = problem
        for problem in self._problems:
            if problem.steps_left is not None:
                problem.steps_left -= 1
            problem.last = problem.pending.pop(0)
        actions = np.stack([np.asarray(problem.last) for problem in self._problems])
        return actions[0] if single else actions

    @torch.no_grad()
    def plan(self, pixels: np.ndarray, *, deadline: float | None = None) -> Plan:
        """What the agent would plan now, without acting: neither plan nor context nor random streams change.

        pixels: uint8 (H, W, 3) or (B, H, W, 3). The Plan is numpy: actions float32 (B, H·F, A) in environment
        units, cost (B,), history and elites (B, iterations), latents (B, H+1, D) imagined, index 0 that of
        pixels; all without the batch axis when pixels have none. PlanError where problems differ in steps
        left or context so that they cannot be one Plan.
        """
        started = time.perf_counter()
        deadline = self.deadline if deadline is None else checked_deadline(deadline)
        frames, single = checked_frames(pixels)
        self._check_goals(len(frames))
        problems = self._one_group(self._look(frames, self._problems))
        looked = time.perf_counter() - started
        remaining = None if deadline is None else deadline - looked
        return self._to_numpy(self._solve(problems, remaining), looked, single)

    @torch.no_grad()
    def replan(
        self,
        pixels: np.ndarray,
        *,
        executed: Any = None,
        committed: np.ndarray | None = None,
        deadline: float | None = None,
    ) -> Plan:
        """Plan anew from what is seen now, and begin that plan: for programs that step through plans
        themselves, as `deploy.realtime` and the clients of a server do. Otherwise `act` is simpler.

        pixels: as for `plan`, and the Plan is as there.   deadline: as for `act`.
        executed: what was done since the frame of the call before: how many actions of the plan it gave, or
            the actions themselves, (n, A) or (B, n, A) in environment units. The plan then starts from the
            frames before, too, and counts the steps left. None: not known; as much as `replan_every` says is
            taken as done, and the plan starts from this frame alone.
        committed: what will be done from this frame on until the plan can take over, (n, A) or (B, n, A) in
            environment units, inside the bounds: the plan begins with it.
        """
        started = time.perf_counter()
        deadline = self.deadline if deadline is None else checked_deadline(deadline)
        frames, single = checked_frames(pixels)
        self._check_goals(len(frames))
        frameskip = self.config.frameskip
        done = executed_per_problem(executed, len(frames), self.config.action_dim)
        problems = [replace(problem) for problem in self._problems]
        for problem, own in zip(problems, done):
            problem.take_back(own, frameskip, self._normalised, self.plan_config.replan_every * frameskip)
        begins = None
        if committed is not None and np.size(committed):
            given = executed_per_problem(np.asarray(committed), len(frames), self.config.action_dim)
            begins = torch.stack([self._normalised(np.asarray(actions)) for actions in given])
        problems = self._one_group(self._look(frames, problems))
        looked = time.perf_counter() - started
        self._replan(problems, None if deadline is None else deadline - looked, looked, single, begins)
        plan = self.last_plan
        assert plan is not None
        for problem, actions in zip(problems, plan.actions[None] if single else plan.actions):
            problem.handed = actions
        self._problems = problems
        return plan

    @torch.no_grad()
    def latent_distance(self, pixels: np.ndarray) -> np.ndarray | float:
        """Euclidean distance of pixels to the goal in latent space: a float, or (B,) for (B, H, W, 3)."""
        frames, single = checked_frames(pixels)
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

    def _look(self, frames: np.ndarray, problems: Sequence[Problem]) -> list[Problem]:
        """Copies of these problems with what frames (B, H, W, 3) show now as the newest latent."""
        looking = []
        for problem, latent in zip(problems, self._encode(frames)):
            latents, past = problem.context(latent, self.context_len)
            looking.append(replace(problem, latents=latents, past=past).passing())
        return looking

    def _groups(self, problems: Sequence[Problem]) -> list[list[Problem]]:
        """Problems that can be solved as one batch: mostly all of them."""
        groups = defaultdict(list)
        for problem in problems:
            sizes = len(problem.latents), self._horizon(problem), len(problem.blocks), problem.last is None
            groups[sizes].append(problem)
        return list(groups.values())

    def _one_group(self, problems: Sequence[Problem]) -> list[Problem]:
        groups = self._groups(problems)
        if len(groups) > 1:
            raise PlanError("These problems are at different points of their way: plan them in own sessions.")
        return groups[0]

    def _replan(
        self,
        problems: list[Problem],
        deadline: float | None,
        looked: float,
        single: bool,
        committed: Tensor | None = None,
    ) -> None:
        plan = self._solve(problems, deadline, committed)
        self.last_plan = self._to_numpy(plan, looked, single)
        distances = (plan.latents - torch.stack([p.goal for p in problems])[:, None]).norm(dim=-1)  # type: ignore[misc]
        nowhere_nearer = (distances[:, 1:].amin(1) >= distances[:, 0]).tolist()
        for problem, blocks, stalled in zip(problems, plan.actions.cpu(), nowhere_nearer):
            problem.blocks, problem.begun, problem.stalled = list(blocks), 0, stalled
            problem.replans += 1

    def _solve(
        self, problems: list[Problem], deadline: float | None, committed: Tensor | None = None
    ) -> Plan:
        return self._solver.solve(
            problems,
            horizon=self._horizon(problems[0]),
            warm_start=self.plan_config.warm_start,
            deadline=deadline,
            committed=committed,
        )

    def _env_actions(self, blocks: Tensor) -> np.ndarray:
        """Normalised blocks (B, H, FA) -> float32 (B, H·F, A) in environment units, inside the bounds unless
        the planner leaves them."""
        actions = self._solver.env_actions(blocks.to(self.device)).cpu().numpy().astype(np.float32)
        return actions.clip(self._low, self._high) if self._solver.planner.bounded else actions

    def _normalised(self, actions: np.ndarray) -> Tensor:
        """(n, A) in environment units -> the model's, on the CPU."""
        given = torch.tensor(np.array(actions), device=self.device)
        return self.world_model.normalise_actions(given).float().cpu()

    def _to_numpy(self, plan: Plan, looked: float, single: bool) -> Plan:
        arrays = {
            "actions": self._env_actions(plan.actions),
            "cost": plan.cost.cpu().numpy(),
            "history": plan.history.cpu().numpy(),
            "elites": plan.elites.cpu().numpy(),
            "latents": plan.latents.float().cpu().numpy(),
        }
        seconds = {"encode": looked, **plan.seconds}
        return replace(plan, seconds=seconds, **({k: v[0] for k, v in arrays.items()} if single else arrays))

    # -- the border ------------------------------------------------------------------------------------------

    def _encode(self, frames: np.ndarray) -> Tensor:
        """uint8 (B, H, W, 3) -> latents (B, D)."""
        return encode_frames(self.world_model, frames, self.device)

    def _check_goals(self, count: int) -> None:
        without = [i for i, problem in enumerate(self._problems) if problem.goal is None]
        if without or not self._problems:
            which = f" for problem {without[0]}" if len(self._problems) > 1 else ""
            raise PlanError(f"There is no goal{which} yet: call set_goal(pixels) first.")
        if count != len(self._problems):
            raise PlanError(
                f"pixels show {count} problems but {len(self._problems)} goals are set: give one each."
            )
