"""The benchmark: does the agent reach goals it has never seen, and how much better is it than doing nothing?

Every pair is a start state and a goal state that a policy reached from it `offset` env steps later. An
episode starts there, has `budget` env steps, and succeeds if the world ever reports `info["success"]` within
them; the agent sees pixels only and never that report. Two floors are measured on the same pairs: random
actions, and none. Shares come with their 95 % interval (E. B. Wilson, "Probable inference", 1927).

Episodes are planned many at once, one stream of random numbers each, so how many changes nothing beyond the
rounding of batched arithmetic.

Each pair says how its episode begins: `options` goes to the world's reset. Pairs of a recording also give its
frames (`first_frames`): the agent then sees those first, and success counts from the first step on, as in the
published protocol.

The stricter figure that some report is measured on request, next to this one: see `strict`.

Of a model of several cameras and a vector it can be said which of them the agent has, and which a goal shows
(`sight`). With `history` the first plan is given two frames: where pairs are played from a reset, the last
actions before the start are taken one by one, and the frame before them is shown, too.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from latent_planner.common.action_space import NUMBERS, ActionSpace, apart
from latent_planner.common.progress import Bar
from latent_planner.planners import PlanError

from ..protocols import Environment, Pairs
from .provenance import about_agent, durations, provenance
from .sight import Sight, sight_of, together
from .strict import HELD, TIGHT, Holding
from .video import Clip

if TYPE_CHECKING:
    from ..agent import Agent

PAIRS_AT_ONCE = 25
FLOORS = ("random", "still")
LATENCY_PLANS = 7  # plans for one goal alone, to time them
Z95 = 1.959963984540054


@dataclass
class Trial:
    """One episode under way; `seen` and `distances` are kept only when it is recorded.

    goal: the picture.   told: what the agent is told of it.   before: the frame before the first and the
    actions from there to here, (F, A), where these are shown, too.
    held: env steps in a row, up to now, for which the world has said that the goal is near; None where it
    does not say.
    """

    index: int
    env: Environment
    goal: np.ndarray
    observation: dict[str, np.ndarray]
    success: bool
    told: Any = None
    before: tuple[dict[str, np.ndarray], np.ndarray] | None = None
    steps: int = 0
    held: int | None = None
    ended: dict[str, Any] | None = None  # the outcome, kept while the trial goes on
    seen: list[dict[str, np.ndarray]] = field(default_factory=list)
    distances: list[float] = field(default_factory=list)

    @classmethod
    def start(
        cls, env: Environment, pairs: Pairs, index: int, sight: Sight | None = None, history: int = 0
    ) -> Trial:
        """sight: where an agent will act.   history: env steps before the start that it is shown."""
        options, last = pairs.options(index), None
        if history:
            options, last = _split(options, history)
        observation, info = env.reset(seed=int(pairs.seed[index]) % 2**63, options=options)
        before = None
        if last is not None:
            before = ({name: np.array(value) for name, value in observation.items()}, last)
            for action in last:
                observation, _, _, _, info = env.step(action)
        frames, held = pairs.first_frames(index), 0 if "near" in info else None
        if frames is not None:
            start, goal = frames
            return cls(index, env, goal, {**observation, "pixels": start}, False, told=goal, held=held)
        told = None if sight is None else sight.goal_of(info)
        goal, success = np.array(info["goal"]), bool(info["success"])
        return cls(index, env, goal, observation, success, told, before, held=held)

    def step(self, action: Any) -> None:
        self.observation, _, _, _, info = self.env.step(action)
        self.steps += 1
        self.success = bool(info["success"])
        if self.held is not None:
            self.held = self.held + 1 if info["near"] else 0

    def outcome(self) -> dict[str, Any]:
        """Plain values; `steps` are those taken: up to success, or all. Of a trial that went on after its
        success, `held_at` is the step by which it had held the goal, or None."""
        if self.ended is not None:
            return self.ended if self.held is None else {
                **self.ended, "held_at": self.steps if self.held >= HELD else None
            }  # fmt: skip
        outcome: dict[str, Any] = {"pair": self.index, "success": self.success, "steps": self.steps}
        if "state" in self.observation:
            outcome["final_state"] = np.asarray(self.observation["state"], dtype=float).tolist()
        return outcome


def _split(options: dict[str, Any], count: int) -> tuple[dict[str, Any], np.ndarray | None]:
    """Options of a reset `count` actions before the start, and these actions (count, A); None where fewer
    lead to the start. PlanError where no actions do."""
    if "goal_actions" not in options:
        raise PlanError(
            "benchmark.history needs starts that actions lead to, as those of gym:ID do: leave it out."
        )
    taken, after = (np.asarray(options[name], np.float32) for name in ("actions", "goal_actions"))
    taken = taken[~np.isnan(taken).any(1)]
    if len(taken) < count:
        return options, None
    last = taken[-count:]
    return {**options, "actions": taken[:-count], "goal_actions": np.concatenate([last, after])}, last


def run(
    agent: Agent,
    make_env: Callable[[], Environment],
    pairs: Pairs,
    *,
    seed: int = 0,
    progress: bool = True,
    pairs_at_once: int | None = None,
    recordings: list[Clip] | None = None,
    record: int = 6,
    draw: Callable[[np.ndarray], np.ndarray] | None = None,
    quick: bool = False,
    strict: bool = False,
    senses: Sequence[str] | None = None,
    goal: Sequence[str] | None = None,
    history: bool = False,
) -> dict[str, Any]:
    """Play every pair and return the plain values of benchmark.json.

    agent: an `agent.Agent`; sessions of it play, it is left as it was.
    make_env: a fresh environment with observations {"pixels": uint8 (H, W, 3)}, `info["goal"]`,
    `info["success"]` and the reset options that the pairs give.
    seed: of the planner's streams, one per pair.
    recordings: a list that receives the first `record` episodes, to be shown.
    draw: state (S,) -> uint8 (h, w, 3), to show them at another size than the agent sees.
    senses, goal: of a model of several cameras, names of what the agent sees and of what a goal shows, as for
    `sight.Sight`.
    history: show the agent the frame one model step before the start, too, where pairs say what led there.
    quick: leave out floors and seconds_per_plan, which say nothing new about another checkpoint of one run.
    strict: measure strict success too, which may take as long again.

    Returns success (share), interval (95 %), floors {"random", "still"}, seconds_per_plan (one goal alone),
    what is needed to run it again, and one outcome per pair. Raises ValueError for an empty list of pairs.
    """
    count = len(pairs.start)
    if count == 0:
        raise ValueError("there are no start/goal pairs to run: ask for at least one")
    size = max(1, min(pairs_at_once or PAIRS_AT_ONCE, count))
    record = 0 if recordings is None else record
    sight, before = sight_of(agent, senses, goal), agent.config.frameskip if history else 0
    envs: list[Environment] = []
    started = time.perf_counter()
    try:
        envs += [make_env() for _ in range(size)]
        runs: list[Trial] = []
        with Bar(total=count, desc="benchmark", unit="episode", disable=not progress) as bar:
            for first in range(0, count, size):
                indices = range(first, min(first + size, count))
                runs += _play(
                    agent.clone(), envs, pairs, indices, sight, seed=seed, bar=bar, record=record,
                    history=before, strict=strict,
                )  # fmt: skip
        beside: dict[str, Any] = {}
        if not quick:
            beside["floors"] = {kind: floor(kind, envs[0], pairs, seed=seed) for kind in FLOORS}
            beside["seconds_per_plan"] = seconds_per_plan(agent.clone(), envs[0], pairs, sight)
    finally:
        for env in envs:
            env.close()
    if recordings is not None:
        recordings += [_recording(finished, pairs, draw) for finished in runs[:record]]
    episodes = [finished.outcome() for finished in runs]
    return {
        **_share([episode["success"] for episode in episodes]),
        **_strict(episodes, strict),
        **beside,
        "seconds": round(time.perf_counter() - started, 3),
        "seed": seed,
        "pairs_at_once": size,
        "pairs": _about(pairs),
        **sight.about(),
        **({"history": True} if history else {}),
        **about_agent(agent),
        **provenance(),
        "episodes": episodes,
    }


def _strict(episodes: Sequence[dict[str, Any]], measured: bool) -> dict[str, Any]:
    """{"strict": share, interval and rule} of these outcomes, None where the world has no tighter rule; {}
    unless it was measured."""
    if not measured:
        return {}
    if not all("held_at" in episode for episode in episodes):
        return {"strict": None}
    held = [episode["held_at"] is not None for episode in episodes]
    return {"strict": {**_share(held), "held": HELD, "tight": TIGHT}}


def _about(pairs: Pairs) -> dict[str, Any]:
    return {
        "env": str(pairs.name),
        "version": str(pairs.version),
        "count": len(pairs.start),
        "offset": int(pairs.offset),
        "budget": int(pairs.budget),
        **({"vary": list(pairs.vary), "shown": pairs.shown} if pairs.vary else {}),
        **({"rule": pairs.rule} if pairs.rule else {}),
    }


def part(
    agent: Agent,
    make_env: Callable[[], Environment],
    pairs: Pairs,
    indices: range,
    *,
    seed: int = 0,
    strict: bool = False,
) -> dict[str, Any]:
    """The outcomes of some pairs, for `joined`: plain values {"episodes", "random", "still", "seconds"}.

    They are those that `run` has for these pairs, bit for bit where `indices` are PAIRS_AT_ONCE from a
    multiple of that on and torch computes with as many threads.
    """
    envs: list[Environment] = []
    started = time.perf_counter()
    try:
        envs += [make_env() for _ in indices]
        with Bar(total=len(indices), disable=True) as bar:
            sight = sight_of(agent)
            runs = _play(
                agent.clone(), envs, pairs, indices, sight, seed=seed, bar=bar, record=0, strict=strict
            )
        floors = {kind: _floor_outcomes(kind, envs[0], pairs, indices, seed) for kind in FLOORS}
    finally:
        for env in envs:
            env.close()
    seconds = round(time.perf_counter() - started, 3)
    return {"episodes": [finished.outcome() for finished in runs], **floors, "seconds": seconds}


def joined(
    parts: Sequence[dict[str, Any]], agent: Agent, pairs: Pairs, *, seed: int = 0, strict: bool = False
) -> dict[str, Any]:
    """The result of `run`, without seconds_per_plan, of all its parts in order."""
    episodes = [episode for some in parts for episode in some["episodes"]]
    return {
        **_share([episode["success"] for episode in episodes]),
        **_strict(episodes, strict),
        "floors": {kind: _share([success for some in parts for success in some[kind]]) for kind in FLOORS},
        "seconds": round(sum(some["seconds"] for some in parts), 3),
        "seed": seed,
        "pairs_at_once": min(PAIRS_AT_ONCE, len(episodes)),
        "pairs": _about(pairs),
        **about_agent(agent),
        **provenance(),
        "episodes": episodes,
    }


def floor(kind: str, env: Environment, pairs: Pairs, *, seed: int = 0) -> dict[str, Any]:
    """Success of one who does not look, on the same pairs.

    kind: "random" draws every action evenly from the action box, "still" takes the action nearest to zero;
    of choices, one evenly, and the first from 0 on.
    """
    return _share(_floor_outcomes(kind, env, pairs, range(len(pairs.start)), seed))


def _floor_outcomes(kind: str, env: Environment, pairs: Pairs, indices: range, seed: int) -> list[bool]:
    """Whether one who does not look reaches the goals of these pairs."""
    act = _blind(kind, env)
    successes = []
    with _undrawn(env):
        for index in indices:
            random = np.random.default_rng([seed % 2**63, int(pairs.seed[index]) % 2**63])
            played = Trial.start(env, pairs, index)
            while not played.success and played.steps < pairs.budget:
                played.step(act(random))
            successes.append(played.success)
    return successes


@contextmanager
def _undrawn(env: Any) -> Iterator[None]:
    """Draw no frames in a world that can leave them out: they take most of the time."""
    drawn = getattr(env, "draws", None)
    if drawn is None:
        yield
        return
    env.draws = False
    try:
        yield
    finally:
        env.draws = drawn


def _blind(kind: str, env: Any) -> Callable[[np.random.Generator], Any]:
    """What `floor` does, as the env takes it."""
    space: ActionSpace = getattr(env, "actions", NUMBERS)
    if space.parts:
        low, high = env.action_low, env.action_high
        still = space.own_form(np.clip(0.0, low, high))
        return lambda random: (
            space.own_form(space.random_row(random, low, high)) if kind == "random" else still
        )
    low, high, dtype = env.action_space.low, env.action_space.high, env.action_space.dtype
    return lambda random: (random.uniform(low, high) if kind == "random" else np.clip(0.0, low, high)).astype(
        dtype
    )


def seconds_per_plan(
    agent: Agent, env: Environment, pairs: Pairs, sight: Sight | None = None
) -> dict[str, Any]:
    """Wall clock of planning anew from pixels, for one goal alone: {"median", "p95", "plans"}, seconds."""
    sight = sight or sight_of(agent)
    played = Trial.start(env, pairs, 0, sight)
    agent.set_goal(played.told, steps=pairs.budget)
    seconds = []
    for _ in range(LATENCY_PLANS + 1):
        started = time.perf_counter()
        agent.plan(sight.now(played.observation))
        seconds.append(time.perf_counter() - started)
    return durations(seconds[1:])  # the first also warms up


def wilson(successes: int, count: int) -> tuple[float, float]:
    """95 % interval of a share, never beyond [0, 1] and never of zero width."""
    share, z2 = successes / count, Z95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return (0.0 if successes == 0 else middle - half), (1.0 if successes == count else middle + half)


def _play(
    agent: Agent,
    envs: Sequence[Environment],
    pairs: Pairs,
    indices: range,
    sight: Sight,
    *,
    seed: int,
    bar: Any,
    record: int,
    history: int = 0,
    strict: bool = False,
) -> list[Trial]:
    """These pairs side by side; a finished one leaves the batch."""
    holding = Holding(agent, sight) if strict else None
    runs = [Trial.start(env, pairs, index, sight, history) for env, index in zip(envs, indices)]
    agent.reset(seeds=[_stream(seed, int(pairs.seed[index])) for index in indices])
    agent.set_goal(together([run.told for run in runs]), steps=pairs.budget)
    for problem, run in enumerate(runs):
        if run.before is not None:
            agent.observe(sight.now(run.before[0]), run.before[1], problem=problem)
    going = list(runs)
    while going:
        seen = together([sight.now(run.observation) for run in going])
        if any(run.index < record for run in going):
            for run, distance in zip(going, np.asarray(agent.latent_distance(seen))):
                if run.index < record:
                    kept = {**run.observation, "pixels": np.array(run.observation["pixels"])}
                    run.seen.append(kept)
                    run.distances.append(float(distance))
        mask = np.array([not run.success and run.steps < pairs.budget for run in going])
        if not mask.all():
            bar.update(int((~mask).sum()))
            if holding is not None:
                holding.take(agent, going, ~mask)
            going = [run for run, goes_on in zip(going, mask) if goes_on]
            if not going:
                break
            agent.keep(mask)
            seen = together([sight.now(run.observation) for run in going])
        for run, action in zip(going, apart(agent.act(seen), len(going))):
            run.step(action)
    if holding is not None:
        for run in runs:
            run.ended = run.outcome()
        holding.play(pairs.budget)
    return runs


def _recording(finished: Trial, pairs: Pairs, draw: Callable[[np.ndarray], np.ndarray] | None) -> Clip:
    frames, goal = [seen["pixels"] for seen in finished.seen], finished.goal
    if draw is not None:
        frames = [draw(np.asarray(seen["state"])) for seen in finished.seen]
        goal = draw(np.asarray(pairs.goal[finished.index]))
    outcome = finished.outcome()
    reached = outcome["steps"] if outcome["success"] else None
    return Clip(frames, goal, finished.distances, pairs.budget, reached)


def _stream(seed: int, pair_seed: int) -> int:
    """The planner's seed for one pair: the same however many are planned at once."""
    return int(np.random.SeedSequence([seed % 2**63, pair_seed % 2**63]).generate_state(1, np.uint64)[0])


def _share(successes: Sequence[bool]) -> dict[str, Any]:
    share = sum(successes) / len(successes)
    interval = [round(bound, 4) for bound in wilson(sum(successes), len(successes))]
    return {"success": round(share, 4), "interval": interval}
