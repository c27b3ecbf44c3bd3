"""Start/goal pairs: what the benchmark asks of an agent, the same for everybody.

Each pair comes from its own fresh episode of the world's behaviour policy: a state of it, and the state
that the policy reached `offset` steps later. Pairs that start solved are left out. The lists under
envs/data are fixed; a changed list gets a new version, never an old name.

    python -m envs.pairs pusht two_room        write the versioned lists again
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import envs
from envs import catalogue, policies
from envs.files import beside
from envs.gym_names import is_gym
from envs.world import WorldError

VERSION = "v1"
COUNT = 100
SEED = 20_260_101  # of the versioned lists
BRANCH = 0x9A125  # pairs draw from a branch of random streams that recordings never use
_FORMAT = "start-goal pairs 1"
_DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Pairs:
    """Start and goal states of one world, and a seed of its own for each pair.

    Attributes:
        name: the world.
        version: "v1" and so on for the fixed lists, "seed-7" for those made from seed 7.
        start, goal: float64 (P, S).
        seed: int64 (P,), for whatever is drawn while that pair is played.
        offset: env steps that the behaviour policy took from start to goal.
        budget: env steps that an agent has.
    """

    name: str
    version: str
    start: np.ndarray
    goal: np.ndarray
    seed: np.ndarray
    offset: int = 25
    budget: int = 50

    def first(self, count: int) -> Pairs:
        """The first `count` pairs."""
        cut: Any = {
            name: value[:count] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        return replace(self, **cut)


def make(name: str, count: int, seed: int, offset: int = 25) -> Pairs:
    """`count` pairs of the world `name` from fresh episodes; the same for the same seed.

    Raises:
        WorldError: for an unknown world, or a count, seed or offset that makes no sense.
    """
    if count < 1 or offset < 1 or seed < 0:
        raise WorldError(
            f"Count and offset of pairs must be 1 or more, the seed 0 or more, not {count}, {offset}, {seed}."
        )
    if is_gym(name):
        from envs import replayed_pairs

        return replayed_pairs.make(name, count, seed, offset)
    env, policy = envs.make(name, image_size=16), policies.make(name)
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


def load(name: str, version: str = VERSION) -> Pairs:
    """The fixed list of the world `name`; of `gym:ID` it is made anew, the same every time.

    Raises:
        WorldError: when there is no such list, or its file is damaged.
    """
    if is_gym(name):
        return replace(make(name, COUNT, SEED), version=version)
    path = _DATA / f"{name}-{version}.json"
    if not path.is_file():
        there = ", ".join(sorted(known.stem for known in _DATA.glob("*.json")))
        raise WorldError(f"There are no start/goal pairs {name}-{version}; there are {there}.")
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
    path = folder / f"{pairs.name}-{pairs.version}.json"
    with beside(path) as temporary:
        temporary.write_text(text)
    return path


def demands(pairs: Pairs) -> dict[str, float]:
    """What the pairs ask for: how far things must move, and in which share of the pairs."""
    if pairs.name not in ("pusht", "two_room"):
        return _changes(pairs)
    away = np.linalg.norm(pairs.goal[:, :2] - pairs.start[:, :2], axis=1)
    report = {"agent must move, median px": float(np.median(away))}
    if pairs.name == "pusht":
        moved = np.linalg.norm(pairs.goal[:, 2:4] - pairs.start[:, 2:4], axis=1)
        turned = np.abs((pairs.goal[:, 4] - pairs.start[:, 4] + np.pi) % (2 * np.pi) - np.pi)
        report["block must move, median px"] = float(np.median(moved))
        report["block must turn, median rad"] = float(np.median(turned))
        report["share where the block must move 20 px or turn pi/9"] = float(
            ((moved > 20) | (turned > np.pi / 9)).mean()
        )
    if pairs.name == "two_room":
        rooms = [policies.in_left_room(states) for states in (pairs.start, pairs.goal)]
        report["share where the goal is in the other room"] = float((rooms[0] != rooms[1]).mean())
    return {key: round(value, 3) for key, value in report.items()}


def _changes(pairs: Pairs) -> dict[str, float]:
    """By how much each number of the state must change, in the middle of the pairs; angles the short way."""
    world: Any = catalogue.found(catalogue.entry(pairs.name).world, pairs.name)
    change = np.abs(pairs.goal - pairs.start)
    for column, name in enumerate(world.state_names):
        if name in world.angle_names:
            change[:, column] = np.abs((change[:, column] + np.pi) % (2 * np.pi) - np.pi)
    return {
        f"{name} must change, median": round(float(value), 3)
        for name, value in zip(world.state_names, np.median(change, axis=0))
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=f"Write the start/goal pairs {VERSION} under envs/data again."
    )
    parser.add_argument("worlds", nargs="+", choices=envs.names())
    for name in parser.parse_args().worlds:
        pairs = replace(make(name, COUNT, SEED), version=VERSION)
        print(save(pairs), json.dumps(demands(pairs), indent=2))


if __name__ == "__main__":
    main()
