"""One attempt at one goal, through nothing but the Gymnasium interface: made, told and put into files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latent_planner.planners import Plan

from ..looks import Look
from ..protocols import Environment
from . import video
from .provenance import durations, provenance, write_json
from .sight import sight_of

if TYPE_CHECKING:
    from ..agent import Agent

RESULTS = {"plan.mp4": "what happened", "plan.png": "start, goal and end", "result.json": "every number"}
HOLD_SECONDS = 1.5  # the video's last frame stays


@dataclass
class Attempt:
    """T env steps: states and distances hold T + 1 entries, actions T, plan_seconds one per plan.

    budget: env steps allowed.   judged: whether the world knows the goal, so that success can be told.
    reached_at: the first step after which the world reported success; None if it never did.
    left: how the last frame differs from all that the model has seen; "" where it does not.
    """

    budget: int
    judged: bool

    states: list[np.ndarray] = field(default_factory=list)  # (S,) each, in the world's units
    distances: list[float] = field(default_factory=list)  # latent distance to the goal
    actions: list[np.ndarray] = field(default_factory=list)  # (A,) each, in the world's units
    plan_seconds: list[float] = field(default_factory=list)  # wall clock of each call that planned
    plans: list[tuple[int, Plan]] = field(default_factory=list)  # each with the env step it was made at
    reached_at: int | None = None
    left: str = ""


def attempt(
    agent: Agent,
    env: Environment,
    observation: dict[str, np.ndarray],
    *,
    budget: int,
    success: bool | None = None,
    on_step: Callable[[Attempt], None] | None = None,
    judge: Callable[[np.ndarray], Look] | None = None,
    within: Callable[[np.ndarray], np.ndarray] | None = None,
) -> Attempt:
    """Act from `observation`, the env's last, for at most `budget` env steps; the agent has its goal already.

    success: `info["success"]` of the reset; None when the env does not know the goal, and the whole budget is
    then used. Otherwise the attempt ends where the env first reports success; the agent is never told.
    on_step: called with what there is so far, before the first action and after each.
    judge: frame (H, W, 3) -> its look; the attempt ends at a frame that is not familiar.
    within: action (A,) -> the action to take instead, inside the world's limits.
    """
    so_far = Attempt(budget, judged=success is not None, reached_at=0 if success else None)

    sight = sight_of(agent)

    def look() -> None:
        so_far.states.append(np.asarray(observation["state"], dtype=float))
        so_far.distances.append(float(agent.latent_distance(sight.now(observation))))
        so_far.left = "" if judge is None else judge(observation["pixels"]).reason
        if on_step is not None:
            on_step(so_far)

    look()
    while so_far.reached_at is None and not so_far.left and len(so_far.actions) < budget:
        last_plan, started = agent.last_plan, time.perf_counter()
        action = agent.act(sight.now(observation))
        if agent.last_plan is not None and agent.last_plan is not last_plan:
            so_far.plan_seconds.append(time.perf_counter() - started)
            so_far.plans.append((len(so_far.actions), agent.last_plan))
        if within is not None:
            action = within(action)
        observation, _, _, _, info = env.step(action)
        so_far.actions.append(np.asarray(agent.config.space.row(action), dtype=float))
        if so_far.judged and info["success"]:
            so_far.reached_at = len(so_far.actions)
        look()
    return so_far


def story(played: Attempt, near: float | None = None) -> list[str]:
    """What happened, in sentences for the user.

    near: latent distance within which plans to goals that were reached end; None where it is not known.
    """
    distances, steps = played.distances, len(played.actions)
    if played.reached_at == 0:
        return ["the start already is at the goal, so nothing was planned: choose another start or goal"]
    nearest = int(np.argmin(distances))
    if played.reached_at is not None:
        first = f"goal reached at step {played.reached_at} of {played.budget}"
    elif played.judged:
        first = f"goal not reached in {steps} steps"
    else:
        first = f"{steps} steps taken; the picture carries no state, so {_verdict(distances[-1], near)}"
    left = f"stopped at step {steps}: the scene has left what the model knows ({played.left})"
    if played.left and steps:
        left += "; the pictures end one step before"
    lines = [
        *([left] if played.left else []),
        first,
        f"latent distance to the goal: {distances[0]:.3g} at the start, {distances[-1]:.3g} at the end, "
        f"least {distances[nearest]:.3g} at step {nearest}",
    ]
    spent = durations(played.plan_seconds)
    if spent["plans"]:
        total = sum(played.plan_seconds)
        lines.append(
            f"planned {spent['plans']} times, {spent['median']:.2f} s each (median), {total:.1f} s in all"
        )
    return lines


def _verdict(distance: float, near: float | None) -> str:
    """How near a goal is that only its picture describes, at this latent distance."""
    if near is None:
        return "judge by the video"
    if distance <= near:
        return f"judge by the distance: it ends about as near as goals that were reached (within {near:.3g})"
    return f"judge by the distance: it ends farther away than goals that were reached (within {near:.3g})"


def write_results(
    folder: Path,
    played: Attempt,
    goal: np.ndarray,
    about: dict[str, Any],
    *,
    render: Callable[[np.ndarray], np.ndarray],
    fps: float,
) -> None:
    """Write RESULTS into folder, each whole or not at all; OSError when that fails.

    goal: uint8 (H, W, 3).   about: plain values that also go into result.json.
    render: state (S,) -> uint8 (h, w, 3), of any size, for the pictures.   fps: env steps a second.
    """
    result = {
        "reached": played.reached_at is not None if played.judged else None,
        "reached_at": played.reached_at,
        "steps": len(played.actions),
        "left": played.left or None,
        "budget": played.budget,
        **about,
        "start_state": played.states[0].tolist(),
        "seconds_per_plan": {
            **durations(played.plan_seconds),
            "each": [round(seconds, 4) for seconds in played.plan_seconds],
        },
        "latent_distance": played.distances,
        "actions": [action.tolist() for action in played.actions],
        "states": [state.tolist() for state in played.states],
        **provenance(),
    }
    write_json(folder / "result.json", result)
    shown = len(played.states) - bool(played.left and played.actions)  # up to the last familiar frame
    frames = [render(state) for state in played.states[:shown]]
    episode = video.Clip(
        frames, goal, played.distances[:shown], played.budget, played.reached_at, played.judged
    )
    video.write_picture(folder / "plan.png", video.summary_picture(episode))
    played_back = video.held(video.episode_frames(episode), round(HOLD_SECONDS * fps))
    video.write_video(folder / "plan.mp4", played_back, fps)
