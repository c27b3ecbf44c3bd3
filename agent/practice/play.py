"""Attempts at goals of one's own: many at once, each kept as an episode for training.

The world is never asked for success. What counts is how much of the latent distance to its goal an attempt
covers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..agent import Agent
from ..model.world_model import WorldModel
from ..protocols import Environment
from ..settings import AgentSettings

AT_ONCE = 25  # worlds
STARTS = FRESH, NEAR = "fresh", "near"  # of attempts: resets, or recorded states some steps before the goal
GOAL, DISTANCE = "goal", "distance"  # columns: the row of the goal's frame, and the latent distance to it
Start = Callable[[Environment, int], dict[str, np.ndarray]]  # (world, which attempt) -> first observation


def cheap(settings: AgentSettings, world_model: WorldModel) -> AgentSettings:
    """Settings for many plans: where the model proposes plans, the best of these, without a search."""
    proposer = world_model.proposer
    if proposer is None:
        return settings.changed(precision="float32", deadline=None)
    count = proposer.guesses * min(proposer.longest, settings.plan_config.horizon)
    return settings.changed(
        planner="cem", precision="float32", deadline=None, iterations=1, num_samples=count + 1, num_elites=1,
        proposal_share=count / (count + 1), proposal_std=0.0,
    )  # fmt: skip


def attempt_all(
    agent: Agent,
    worlds: Sequence[Environment],
    start: Start,
    goals: np.ndarray,
    seeds: Sequence[int],
    *,
    length: int,
) -> list[dict[str, np.ndarray]]:
    """One attempt in each world at one of goals (B, H, W, 3), side by side; returns an episode of each.

    An episode is {"pixels": uint8 (T, H, W, 3), "action": float32 (T, A), the last NaN, "distance": float32
    (T, 1) to the goal in latent space, and "state": float32 (T, S) where the world has one}. T is `length`
    unless the world ends it sooner.   seeds: of the plans.
    """
    kept: list[list[dict[str, np.ndarray]]] = [[] for _ in goals]
    seen = [start(world, i) for i, world in enumerate(worlds[: len(goals)])]
    agent.reset(seeds=list(seeds))
    agent.set_goal(goals, steps=length - 1)
    going = list(range(len(goals)))
    over, ended = np.zeros((2, len(goals)), bool)  # a world that is over is looked at once more
    for step in range(length):
        pixels = np.stack([seen[i]["pixels"] for i in going])
        far = np.atleast_1d(agent.latent_distance(pixels))
        last = step == length - 1
        rows = np.full((len(going), agent.config.action_dim), np.nan) if last else agent.act_row(pixels)
        for place, i in enumerate(going):
            action, state = np.asarray(rows[place], np.float32), seen[i].get("state")
            row = {"pixels": pixels[place], "action": action, DISTANCE: np.array([far[place]], np.float32)}
            kept[i].append(row if state is None else {**row, "state": np.asarray(state, np.float32)})
            if not (last or ended[i]):
                row["action"][:] = _within(worlds[i], action)
                seen[i], _, over[i], *_ = worlds[i].step(agent.config.space.own_form(row["action"]))
        if ended.any():
            agent.keep(~ended[going])
            going = [i for i in going if not ended[i]]
        if not going:
            break
        ended = over.copy()
    return [_episode(rows) for rows in kept]


def _within(world: Any, action: np.ndarray) -> np.ndarray:
    """The action, inside what the world's recordings keep to."""
    limit = getattr(world, "within_limits", None)
    return action if limit is None else np.asarray(limit(action), np.float32)


def _episode(rows: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    columns["action"][-1] = np.nan
    return columns


def covered(distances: np.ndarray) -> float:
    """The share of the latent distance to its goal that an attempt covers, where it is nearest: (T, 1) ->
    [0, 1]."""
    first, least = float(distances.flat[0]), float(distances.min())
    return 1.0 if first <= 0 else min(1.0, max(0.0, 1 - least / first))
