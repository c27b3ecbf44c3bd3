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

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from latent_planner.planners import Plan, PlanError

from . import looks as known_looks
from .checkpoints import checkpoint
from .imagination import Solver
from .looks import Look, Looks
from .model.device import pick_device
from .model.threads import Threads
from .model.world_model import WorldModel
from .pixels import checked_frames, encode_frames
from .problem import (
    Problem,
    chosen_problems,
    committed_per_problem,
    executed_per_problem,
    goals_of,
    groups,
    mix_seeds,
    one_group,
    said_of,
    steps_per_problem,
)
from .seen import Seen, checked_in_turn, checked_seen, encode_seen, said_by
from .settings import AgentSettings, checked_deadline

log = logging.getLogger(__name__)

PASSED = 0.05  # a waypoint counts as passed at this share of the squared distance between unrelated latents


class Agent:
    """Plans inside a world model to reach goal images.

    world_model: moved to device and put in evaluation mode; shared, never changed otherwise.
    settings: how to search, and for what; default AgentSettings().
    changes: fields of settings, and of its PlanConfig, that differ: planner, objective, max_change,
        precision, deadline, plan_config, horizon, num_samples, …
    device: "auto" takes CUDA, else MPS, else the CPU.   seed: default plan_config.seed.
    context_len: most frames, its own past included, that a plan starts from; default all the model looks at.
    looks: what the frames that the model learned from look like; goals unlike them are warned of.

    Whatever cannot be planned with raises PlanError: no goal, pixels of a wrong shape or type, unknown names.
    """

    def __init__(
        self,
        world_model: WorldModel,
        settings: AgentSettings | None = None,
        *,
        device: torch.device | str = "auto",
        seed: int | None = None,
        context_len: int | None = None,
        looks: Looks | None = None,
        **changes: Any,
    ) -> None:
        self.settings = (settings or AgentSettings()).changed(**changes)
        self.device = pick_device(device)
        self.world_model = world_model.to(self.device).eval()
        self.config = world_model.config
        self.context_len = min(context_len or self.config.context_len, self.config.context_len)
        self.seed = self.settings.plan_config.seed if seed is None else seed
        self.looks = looks
        self.goal_looks: list[Look] = []  # of the goals set last, where looks are known
        self.warn: Callable[[str], None] = log.warning  # gets what the agent warns of
        self.fan = 0  # candidates of each iteration in `Plan.fan` of `last_plan`; it costs a little time
        self.last_plan: Plan | None = None  # of the last replanning in `act`, as `plan` gives it
        self._solver = Solver(self.world_model, self.settings, self.device)
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
        changes: as for the Agent. Raises CheckpointError and PlanError.
        """
        world_model, info = checkpoint.load(name_or_path, env=env, actions=actions)
        settings = checkpoint.agent_settings(info["planner"])
        looks = known_looks.load(Path(info["path"]), info["sha256"])
        return cls(world_model, settings, device=device, seed=seed, looks=looks, **changes)

    def clone(self, seed: int | None = None) -> Agent:
        """A fresh agent with the same weights, settings, precision and threads, and nothing else."""
        seed = self.seed if seed is None else seed
        twin = Agent(
            self.world_model, self.settings, device=self.device, seed=seed, context_len=self.context_len,
            looks=self.looks,
        )  # fmt: skip
        twin._solver.threads, twin._solver.precision = self.threads, self._solver.precision
        twin._solver.legs = self._solver.legs
        return twin

    @property
    def threads(self) -> Threads:
        """How many threads of torch it computes with on the CPU, and why."""
        return self._solver.threads

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

    def join(self, other: Agent, mask: np.ndarray) -> None:
        """Go on with those problems of another agent of the same model that mask (B,) bool names, after one's
        own; the other agent keeps them, too."""
        for i in chosen_problems(mask, len(other._problems)):
            problem = other._problems[i]
            self._problems.append(replace(problem, pending=list(problem.pending)))

    @torch.no_grad()
    def set_goal(
        self,
        pixels: np.ndarray | Mapping[str, Any],
        steps: int | Sequence[int] | np.ndarray | None = None,
        mask: np.ndarray | None = None,
    ) -> None:
        """Pursue this goal image, uint8 (H, W, 3) or (B, H, W, 3) of any size, and drop the old plan.

        Of a model of several cameras: a dict with a picture of one of them or of several, with or without the
        vector, or of the vector alone. Costs and distances look only at what the goal says.

        steps: environment steps left to reach it, one number or (B,); plans then never look further ahead.
        None: no limit.   mask: (B,) bool, only these problems; the others keep goal and plan.
        """
        if self.config.several:
            seen, _ = checked_seen(pixels, self.config)
            self._pursue(seen, steps, mask, near=0.0)
            return
        frames, _ = checked_frames(pixels)
        self._pursue(frames[:, None], steps, mask, near=0.0)
        self.goal_looks = self._looks(frames[chosen_problems(mask, len(frames))], "goal")
        if odd := known_looks.complaint(self.goal_looks):
            self.warn(odd)

    @torch.no_grad()
    def set_waypoints(
        self,
        pixels: np.ndarray | Mapping[str, Any],
        steps: int | Sequence[int] | np.ndarray | None = None,
        mask: np.ndarray | None = None,
        *,
        near: float | None = None,
    ) -> None:
        """Pursue several goal images one after the other, uint8 (G, H, W, 3), or (B, G, H, W, 3) for several
        problems; the last is the goal. Of a model of several cameras: a dict of these, all G
        in the same views, and of the vector (G, P), or (B, G, P).

        near: latent distance, as `latent_distance` gives it, at which one counts as passed; default: about a
            fifth of that between unrelated frames. One also counts as passed when no plan would come nearer.
            Judged whenever a block of actions is done.   steps, mask: as for `set_goal`; steps are for all.
        """
        if near is not None and not near >= 0:
            raise PlanError(f"near must be a distance of at least 0, not {near!r}.")
        if self.config.several:
            seen, goals = checked_in_turn(pixels, self.config)
            self._pursue(seen, steps, mask, near, goals)
            return
        pictures = np.asarray(pixels)
        if pictures.ndim not in (4, 5):
            raise PlanError(
                "waypoints must be pictures (G, H, W, 3), or (B, G, H, W, 3) for several problems, "
                f"not {pictures.shape}."
            )
        pictures = pictures[None] if pictures.ndim == 4 else pictures
        frames, _ = checked_frames(pictures.reshape(-1, *pictures.shape[2:]))
        self._pursue(frames.reshape(pictures.shape), steps, mask, near)

    def _pursue(
        self,
        pictures: np.ndarray | Seen,
        steps: int | Sequence[int] | np.ndarray | None,
        mask: np.ndarray | None,
        near: float | None,
        goals: int = 1,
    ) -> None:
        """Give each problem that mask names its goals, (B, G, H, W, 3) or B·G views, and drop its old plan.

        goals: G, of views.
        """
        problems, count = self._problems, len(pictures) // goals
        if len(problems) != count:
            if problems and (mask is not None or any(problem.goal is None for problem in problems)):
                raise PlanError(f"Give one goal image per problem: {len(problems)}, not {count}.")
            problems = [Problem(mix_seeds(self.seed, i)) for i in range(count)]
        left = steps_per_problem(steps, len(problems))
        chosen = chosen_problems(mask, len(problems))
        said = None
        if isinstance(pictures, Seen):
            said = said_by(pictures, self.config, self.device)
            latents = self._encode(pictures[[i * goals + g for i in chosen for g in range(goals)]])
        else:
            goals = pictures.shape[1]
            latents = self._encode(pictures[chosen].reshape(-1, *pictures.shape[2:]))
        near = math.sqrt(PASSED * 2 * latents.shape[-1]) if near is None else float(near)
        for i, (goal, *later) in zip(chosen, latents.unflatten(0, (len(chosen), goals))):
            problems[i].drop_plan()
            problems[i].said = said
            problems[i].goal, problems[i].later, problems[i].near = goal, later, near
            problems[i].steps_left = left[i]
        self._problems = problems
        if self.settings.deadline is not None:
            self.prepare()

    def prepare(self) -> None:
        """Do now, once, what the first plan to a far goal would be late for: half a second with landmarks.

        `set_goal` does it where the settings hold a deadline. Programs that give each call a deadline of its
        own call it before.
        """
        with self.threads.using():
            self._solver.legs.prepare()

    @torch.no_grad()
    def observe(
        self, pixels: np.ndarray | Mapping[str, Any], executed: Any, *, problem: int | None = None
    ) -> None:
        """Note a frame from before the first plan, so that plans know how fast things move: after `set_goal`,
        from the oldest on; then `act` with the frame that is seen now.

        pixels: as for `act`.   executed: the `config.frameskip` actions that led from this frame to the next,
        (F, A) or (B, F, A) in environment units.   problem: only of this one, pixels and executed without B.
        PlanError for another number of actions, and once a plan is under way.
        """
        chosen = self._problems if problem is None else [self._problems[problem]]
        frames, _ = self._checked(pixels, len(chosen))
        done = executed_per_problem(executed, len(chosen), self.config.action_dim)
        for own, latent, actions in zip(chosen, self._encode(frames), done):
            own.note_before(latent, actions, self.config.frameskip, self._solver.from_env)

    @torch.no_grad()
    def act(self, pixels: np.ndarray | Mapping[str, Any], *, deadline: float | None = None) -> Any:
        """The next action, as env.step takes it: float32 (A,), in environment units and inside the bounds.

        Where actions have choices, an int for a Discrete space, whole numbers for a MultiDiscrete one, a
        tuple or a dict for those. For B problems: (B, A), or the same forms of arrays that begin with B.
        pixels: uint8 (H, W, 3) or (B, H, W, 3), what is seen now; of a model of several cameras a dict as
        {"front": …, "wrist": …, "proprio": …}, any of which may be missing. Call it once for each environment
        step: most calls take the next action of the block under way, every `replan_every` blocks one plans.
        deadline: seconds for planning, instead of the agent's own; see Planner.plan.
        """
        return self.config.space.own_form(self.act_row(pixels, deadline=deadline))

    @torch.no_grad()
    def act_row(self, pixels: np.ndarray | Mapping[str, Any], *, deadline: float | None = None) -> np.ndarray:
        """As `act`, but one row of numbers, as recordings hold actions: float32 (A,) or (B, A)."""
        started, until = time.perf_counter(), self._until(deadline)
        frames, single = self._checked(pixels)
        for problem in self._problems:
            problem.give_up_handed()
        due = [i for i, problem in enumerate(self._problems) if not problem.pending]
        if due:
            seen = self._look(frames[due], [self._problems[i] for i in due])
            every = self.settings.plan_config.replan_every
            replan = [problem for problem in seen if not problem.blocks or problem.begun >= every]
            looked = time.perf_counter() - started
            for group in groups(replan, self._solver.horizon):
                self._replan(group, until, looked, single)
            actions = self._solver.to_env(torch.stack([problem.next_block() for problem in seen])[:, None])
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
    def plan(self, pixels: np.ndarray | Mapping[str, Any], *, deadline: float | None = None) -> Plan:
        """What the agent would plan now, without acting: neither plan nor context nor random streams change.

        pixels: uint8 (H, W, 3) or (B, H, W, 3). The Plan is numpy: actions float32 (B, H·F, A) in environment
        units, choices as whole numbers (`config.space.own_form` gives what env.step takes), cost (B,),
        history and elites (B, iterations), latents (B, H+1, D) imagined, index 0 that of pixels; all without
        the batch axis when pixels have none. PlanError where problems differ in steps left or context so that
        they cannot be one Plan.
        """
        started, until = time.perf_counter(), self._until(deadline)
        frames, single = self._checked(pixels)
        problems = one_group(self._look(frames, self._problems), self._solver.horizon)
        looked = time.perf_counter() - started
        return self._solver.in_numpy(self._solver.solve(problems, until), looked, single)

    @torch.no_grad()
    def replan(
        self,
        pixels: np.ndarray | Mapping[str, Any],
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
        started, until = time.perf_counter(), self._until(deadline)
        frames, single = self._checked(pixels)
        frameskip, action_dim = self.config.frameskip, self.config.action_dim
        assumed = self.settings.plan_config.replan_every * frameskip
        done = executed_per_problem(executed, len(frames), action_dim)
        problems = [replace(problem) for problem in self._problems]
        for problem, own in zip(problems, done):
            problem.take_back(own, frameskip, self._solver.from_env, assumed)
        bound = committed_per_problem(committed, len(frames), action_dim)
        begins = None if bound is None else torch.stack([self._solver.from_env(own) for own in bound])
        problems = one_group(self._look(frames, problems), self._solver.horizon)
        plan = self._replan(problems, until, time.perf_counter() - started, single, begins)
        for problem, actions in zip(problems, plan.actions[None] if single else plan.actions):
            problem.handed = actions
        self._problems = problems
        return plan

    @torch.no_grad()
    def latent_distance(self, pixels: np.ndarray | Mapping[str, Any]) -> np.ndarray | float:
        """Euclidean distance of pixels to the goal in latent space: a float, or (B,) for (B, H, W, 3)."""
        frames, single = self._checked(pixels)
        off, said = self._encode(frames) - goals_of(self._problems), said_of(self._problems)
        distance = (off if said is None else off * said).float().norm(dim=-1).cpu().numpy()
        return float(distance[0]) if single else distance

    def unfamiliarity(self, pixels: np.ndarray, *, goal: bool = False) -> np.ndarray | float:
        """How little pixels look like what the model has seen: 0 in the middle of that, 1 at its border, more
        outside, where neither distances nor plans mean much. A float, or (B,); NaN where nobody measured
        what the model has seen, see `latent_planner.looks`.

        pixels: uint8 (H, W, 3) or (B, H, W, 3).   goal: a picture that may have been resized or compressed,
        and not a frame of the scene.
        """
        frames, single = checked_frames(pixels)
        found = [look.unfamiliarity for look in self._looks(frames, "goal" if goal else "scene")]
        found = found or [math.nan] * len(frames)
        return found[0] if single else np.array(found)

    def _looks(self, frames: np.ndarray, kind: str) -> list[Look]:
        """What frames (B, H, W, 3) look like; [] where nobody measured what the model has seen."""
        with self.threads.using():
            return [] if self.looks is None else self.looks.of(self.world_model, frames, kind)

    def _replan(
        self,
        problems: list[Problem],
        until: float | None,
        looked: float,
        single: bool,
        committed: Tensor | None = None,
    ) -> Plan:
        """Give these problems, which can be one batch, a new plan; it is `last_plan` in numpy."""
        plan = self._solver.solve(problems, until, committed, fan=self.fan)
        self.last_plan = self._solver.in_numpy(plan, looked, single)
        off, said = plan.latents - plan.aims[:, None], said_of(problems)
        distances = (off if said is None else off * said[:, None]).norm(dim=-1)
        nowhere_nearer = (distances[:, 1:].amin(1) >= distances[:, 0]).tolist()
        for problem, blocks, stalled in zip(problems, plan.actions.cpu(), nowhere_nearer):
            problem.take_plan(blocks, stalled=stalled)
        return self.last_plan

    def _look(self, frames: np.ndarray | Seen, problems: Sequence[Problem]) -> list[Problem]:
        """Copies of these problems with what frames (B, H, W, 3) show now as the newest latent."""
        looking = []
        for problem, latent in zip(problems, self._encode(frames)):
            latents, past = problem.context(latent, self.context_len)
            looking.append(replace(problem, latents=latents, past=past).passing())
        return looking

    def _encode(self, frames: np.ndarray | Seen) -> Tensor:
        """uint8 (B, H, W, 3), or views of several cameras -> latents (B, D)."""
        with self.threads.using():
            if isinstance(frames, Seen):
                return encode_seen(self.world_model, frames, self.device)
            return encode_frames(self.world_model, frames, self.device)

    def _until(self, deadline: float | None) -> float | None:
        """When planning must be done, on the clock of time.perf_counter; None: whenever."""
        deadline = self.settings.deadline if deadline is None else checked_deadline(deadline)
        return None if deadline is None else time.perf_counter() + deadline

    def _checked(self, pixels: Any, count: int | None = None) -> tuple[Any, bool]:
        """pixels as (B, H, W, 3) or Seen, one for each goal, and whether the batch axis was missing.

        count: problems that they show, where not all.
        """
        several = self.config.several
        frames, single = checked_seen(pixels, self.config) if several else checked_frames(pixels)
        without = [i for i, problem in enumerate(self._problems) if problem.goal is None]
        if without or not self._problems:
            which = f" for problem {without[0]}" if len(self._problems) > 1 else ""
            raise PlanError(f"There is no goal{which} yet: call set_goal(pixels) first.")
        count = len(self._problems) if count is None else count
        if len(frames) != count:
            raise PlanError(
                f"pixels show {len(frames)} problems but {count} goals are set: give one each."
            )
        return frames, single
