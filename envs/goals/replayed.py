"""Start/goal pairs of worlds that cannot be put into a state: each is a seed and the actions from there on.

A start is where smooth noise led after up to 75 steps, the goal where it led `offset` steps later. The same
seed and actions lead there again, which is checked. Many of these worlds move by themselves: pairs whose goal
is also passed when nothing is done are left out, as are those that start solved.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from latent_planner.common.progress import Bar

from .. import policies
from ..gym.world import undrawn
from ..world import WorldError
from .base import BRANCH, Pairs

WAIT = 75  # most steps before a start
TRIES = 30  # episodes for each pair


@dataclass(frozen=True)
class ReplayedPairs(Pairs):
    """Pairs with the actions to the start and from there to the goal, (P, L, A), NaN after the last.

    `start` and `goal` are the states (P, S) that the world reports there, `seed` is that of the reset.
    """

    to_start: np.ndarray = field(default_factory=lambda: np.empty(0))
    to_goal: np.ndarray = field(default_factory=lambda: np.empty(0))

    def options(self, index: int) -> dict[str, Any]:
        """The actions of pair `index`, as `envs.gym.world.GymWorld.reset` takes them."""
        return {"actions": self.to_start[index], "goal_actions": self.to_goal[index]}


def draw(name: str, count: int, seed: int, offset: int) -> ReplayedPairs:
    """`count` pairs of the world `name` from fresh episodes, the same for a seed. Raises WorldError."""
    world: Any = undrawn(name)
    policy = policies.make_policy(name, world=world)
    with Bar(total=count, desc=f"finding goals in {name}", unit=" pairs", delay=2, leave=False) as bar:
        found = _search(world, policy, count, seed, offset, bar)
    seeds, starts, goals, actions_taken, waits = zip(*found)
    return ReplayedPairs(
        name,
        f"seed-{seed}",
        np.array(starts),
        np.array(goals),
        np.array(seeds, np.int64),
        offset,
        2 * offset,
        to_start=_padded([taken[:wait] for taken, wait in zip(actions_taken, waits)]),
        to_goal=_padded([taken[wait:] for taken, wait in zip(actions_taken, waits)]),
        rule=world.rule,
    )


Found = tuple[int, np.ndarray, np.ndarray, np.ndarray, int]  # seed, start, goal, actions, those to the start


def _search(world: Any, policy: Any, count: int, seed: int, offset: int, bar: Any) -> list[Found]:
    name: str = world.name
    found: list[Found] = []
    longest = 0
    for episode in range(TRIES * count):
        source = np.random.SeedSequence([seed, BRANCH, episode])
        rng = np.random.default_rng(source)
        begin, wait = int(rng.integers(2**31)), int(rng.integers(WAIT))
        actions, states = _episode(world, policy, rng, begin, wait + offset)
        longest = max(longest, len(actions))
        wait = min(wait, len(actions) - offset)  # the world may have ended the episode
        if wait < 0 or world.is_success(states[wait], states[wait + offset]):
            continue
        if _comes_by_itself(world, begin, actions[:wait], states[wait + offset], 2 * offset):
            continue
        found.append((begin, states[wait], states[wait + offset], actions[: wait + offset], wait))
        bar.update()
        if len(found) == 1:
            _check(world, found[0])
        if len(found) == count:
            break
    else:
        ends = f"its episodes end after {longest} steps at most"
        why = ends if longest < offset else "most are where it is already, or comes to by itself,"
        raise WorldError(
            f"{name} gives {len(found)} of {count} goals {offset} steps away, for {why} under smooth noise: "
            "add ?past_end=true to its name (env.past_end=true), or leave the benchmark out "
            "(benchmark.pairs=0 benchmark.validation_pairs=0)."
        )
    return found


def _episode(
    world: Any, policy: Any, rng: np.random.Generator, seed: int, steps: int
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Actions (T, A) of at most `steps` steps, fewer where the world ends, and the T + 1 states."""
    world.replay(seed, ())
    policy.reset(rng)
    actions: list[np.ndarray] = []
    states = [world.state()]
    while len(actions) < steps and not world.ended:
        actions.append(policy.act({}))
        world.play(actions[-1])
        states.append(world.state())
    return np.array(actions, np.float32).reshape(-1, world.action_size), states


def _comes_by_itself(world: Any, seed: int, actions: np.ndarray, goal: np.ndarray, budget: int) -> bool:
    """Whether the goal is passed within the budget when nothing is done from the start on."""
    world.replay(seed, actions)
    nothing = np.clip(0.0, world.action_low, world.action_high)
    for _ in range(budget):
        world.play(nothing)
        if world.is_success(world.state(), goal):
            return True
    return False


def _check(world: Any, pair: Found) -> None:
    begin, start, goal, actions, wait = pair
    world.replay(begin, actions[:wait])
    again = [world.state()]
    for action in actions[wait:]:
        world.play(action)
    if not np.allclose([*again, world.state()], [start, goal], rtol=1e-6, atol=1e-6):
        raise WorldError(
            f"{world.name} leads elsewhere when the same seed and actions are played again, so it cannot be "
            "tested: leave the benchmark out (benchmark.pairs=0 benchmark.validation_pairs=0)."
        )


def _padded(rows: list[np.ndarray]) -> np.ndarray:
    """(P, L, A), NaN after each one's end; L is at least 1."""
    longest = max(1, *map(len, rows))
    padded = np.full((len(rows), longest, rows[0].shape[1]), np.nan, np.float32)
    for out, row in zip(padded, rows):
        out[: len(row)] = row
    return padded
