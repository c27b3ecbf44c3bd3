"""Start/goal pairs: what the benchmark asks of an agent, the same for everybody.

Each pair comes from its own fresh episode of the world's behaviour policy: a state of it, and the state
that the policy reached `offset` steps later. Pairs that start solved are left out. The lists under
envs/goals/data are fixed; a changed list gets a new version, never an old name.

    latent-planner pairs pusht two_room                     write the versioned lists again
    latent-planner pairs pusht two_room --offset 50 100     those with goals farther away
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from latent_planner import envs
from latent_planner.common.files import write_text

from .. import coverage, policies
from ..angles import wrapped
from ..catalogue import entry
from ..looks import words
from ..mujoco import cube_policy
from ..world import WorldError
from . import replayed
from .base import BRANCH, OFFSET, Pairs

VERSION = "v1"
COUNT = 100
SEED = 20_260_101  # of the versioned lists
_FORMAT = "start-goal pairs 1"
_DATA = Path(__file__).parent / "data"


def draw(name: str, count: int, seed: int, offset: int = OFFSET) -> Pairs:
    """`count` pairs of the world `name` from fresh episodes; the same for the same seed.

    Raises:
        WorldError: for an unknown world, or a count, seed or offset that makes no sense.
    """
    if count < 1 or offset < 1 or seed < 0:
        raise WorldError(
            f"Count and offset of pairs must be 1 or more, the seed 0 or more, not {count}, {offset}, {seed}."
        )
    if not envs.world_class(name).settable_states:
        return replayed.draw(name, count, seed, offset)
    env, policy = envs.make(name, image_size=16), policies.make_policy(name)
    found: list[tuple[int, np.ndarray, np.ndarray]] = []
    episode = 0
    while len(found) < count:
        source = np.random.SeedSequence([seed, BRANCH, episode])
        episode += 1
        start, goal = _one(env, policy, source, offset)
        if not env.is_success(start, goal):
            found.append((int(source.generate_state(1)[0]), start, goal))
    seeds, starts, goals = zip(*found)
    return Pairs(
        name, f"seed-{seed}", np.array(starts), np.array(goals), np.array(seeds, np.int64), offset, 2 * offset
    )


def _one(
    env: envs.World, policy: Any, source: np.random.SeedSequence, offset: int
) -> tuple[np.ndarray, np.ndarray]:
    """A state anywhere in the first 75 steps of an episode, and the one `offset` steps later."""
    rng = np.random.default_rng(source)
    obs, _ = env.reset(seed=int(rng.integers(2**62)))
    policy.reset(rng)
    wait = int(rng.integers(75))
    for _ in range(wait):
        obs, *_ = env.step(policy.act(obs))
    start = obs["state"]
    for _ in range(offset):
        obs, *_ = env.step(policy.act(obs))
    return start, obs["state"]


def shifted(pairs: Pairs, shift: str, shown: str = "both") -> Pairs:
    """The same pairs under a shift: a group of factors, a factor, or several with commas between them,
    or looks such as unseen.color.

    shown: where a look shows, "both", "scene" or "goal".

    Raises:
        WorldError: for a name that the world does not know, with those it does.
    """
    names = words.named(envs.make(pairs.name, image_size=16).factors, shift, pairs.name)
    return replace(pairs, vary=tuple(names), shown=shown)


def load(name: str, version: str = VERSION, offset: int = OFFSET) -> Pairs:
    """The fixed list of the world `name` whose goals lie `offset` env steps from their starts.

    Worlds that are not listed one by one (gym:ID) have no files: their list is made anew, the same each time.

    Raises:
        WorldError: when there is no such list, or its file is damaged.
    """
    if envs.known(name) and entry(name).family:
        return replace(draw(name, COUNT, SEED, offset), version=version)
    path = _DATA / _file(name, version, offset)
    if not path.is_file():
        there = ", ".join(sorted(known.stem for known in _DATA.glob("*.json")))
        raise WorldError(
            f"There are no start/goal pairs {path.stem}; there are {there}. A --pairs-seed makes any."
        )
    try:
        content = json.loads(path.read_text())
        if content["format"] != _FORMAT:
            raise ValueError
        columns = [np.array([pair[key] for pair in content["pairs"]]) for key in ("start", "goal", "seed")]
        start, goal, seed = (
            columns[0].astype(np.float64),
            columns[1].astype(np.float64),
            columns[2].astype(np.int64),
        )
        if start.ndim != 2 or start.shape != goal.shape or len(seed) != len(start):
            raise ValueError
        return Pairs(name, version, start, goal, seed, int(content["offset"]), int(content["budget"]))
    except (ValueError, KeyError, TypeError):
        raise WorldError(f"The start/goal pairs in {path} are damaged; install the package again.") from None


def save(pairs: Pairs, folder: Path = _DATA) -> Path:
    """Write `pairs` as JSON, numbers to the last bit, under the name that `load` looks for."""
    content = {
        "format": _FORMAT,
        "world": pairs.name,
        "version": pairs.version,
        "offset": pairs.offset,
        "budget": pairs.budget,
        "state_names": list(envs.make(pairs.name, image_size=16).state_names),
    }
    rows = [
        json.dumps({"seed": int(seed), "start": start.tolist(), "goal": goal.tolist()})
        for seed, start, goal in zip(pairs.seed, pairs.start, pairs.goal)
    ]
    head = json.dumps(content, indent=1).removesuffix("\n}")
    text = head + ',\n "pairs": [\n  ' + ",\n  ".join(rows) + "\n ]\n}\n"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _file(pairs.name, pairs.version, pairs.offset)
    write_text(path, text)
    return path


def _file(name: str, version: str, offset: int) -> str:
    return f"{name}-{version}.json" if offset == OFFSET else f"{name}-offset{offset}-{version}.json"


def demands(pairs: Pairs) -> dict[str, float]:
    """What the pairs ask for: how far things must move, and in which share of the pairs."""
    if pairs.name == "cube":
        return cube_policy.demands(pairs.start, pairs.goal)
    if pairs.name not in ("pusht", "two_room", "wall"):
        change = np.median(coverage.changes(pairs.name, pairs.start, pairs.goal), axis=0)
        names = envs.make(pairs.name, image_size=16).state_names
        return {f"{n} must change, median": round(float(c), 3) for n, c in zip(names, change)}
    away = np.linalg.norm(pairs.goal[:, :2] - pairs.start[:, :2], axis=1)
    report = {"agent must move, median px": float(np.median(away))}
    if pairs.name == "pusht":
        moved = np.linalg.norm(pairs.goal[:, 2:4] - pairs.start[:, 2:4], axis=1)
        turned = np.abs(wrapped(pairs.goal[:, 4] - pairs.start[:, 4]))
        report["block must move, median px"] = float(np.median(moved))
        report["block must turn, median rad"] = float(np.median(turned))
        report["share where the block must move 20 px or turn pi/9"] = float(
            ((moved > 20) | (turned > np.pi / 9)).mean()
        )
    if pairs.name in ("two_room", "wall"):
        rooms = [coverage.in_left_room(states) for states in (pairs.start, pairs.goal)]
        report["share where the goal is in the other room"] = float((rooms[0] != rooms[1]).mean())
    return {key: round(value, 3) for key, value in report.items()}


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="latent-planner pairs",
        description=f"Write the start/goal pairs {VERSION} under envs/goals/data again.",
    )
    parser.add_argument("worlds", nargs="+", choices=envs.names())
    parser.add_argument(
        "--offset", nargs="+", type=int, default=[OFFSET], help="env steps from start to goal"
    )
    args = parser.parse_args(words)
    for name in args.worlds:
        for offset in args.offset:
            pairs = replace(draw(name, COUNT, SEED, offset), version=VERSION)
            print(save(pairs), json.dumps(demands(pairs), indent=2))
    return 0
