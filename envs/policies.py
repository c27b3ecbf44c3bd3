"""Behaviour policies: what moves in a world while it is recorded. One purposeful policy a world, and a random one.

    python -m envs.policies pusht        what the policy's episodes cover
"""

from __future__ import annotations

import argparse
import json
from typing import Any, Protocol

import numpy as np

import envs
from envs.pusht_geometry import gap
from envs.pusht_policy import PushTPolicy
from envs.world import WorldError


class Policy(Protocol):
    """Chooses actions from observations; all its randomness comes from the generator of the last `reset`."""

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode."""

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """The action float32 (A,) for this observation."""


class RandomPolicy:
    """Independent uniform actions."""

    def reset(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        return self._rng.uniform(-1.0, 1.0, 2).astype(np.float32)


_POLICIES: dict[str, type[Any]] = {"pusht": PushTPolicy, "random": RandomPolicy}


def names() -> list[str]:
    """The names that `make` knows: the worlds, and "random"."""
    return list(_POLICIES)


def make(name: str) -> Policy:
    """The behaviour policy of the world called `name`, or "random".

    Raises:
        WorldError: for a name that is not in `names()`.
    """
    if name not in _POLICIES:
        raise WorldError(f"There is no policy called {name!r}; the policies are {', '.join(_POLICIES)}.")
    return _POLICIES[name]()


def rollouts(world: str, policy: str, *, episodes: int, length: int, seed: int = 0) -> np.ndarray:
    """States (episodes, length, S) of fresh episodes, and nothing drawn of them but 16-px frames."""
    env, hand = envs.make(world, image_size=16), make(policy)
    states = np.zeros((episodes, length, len(env.state_names)))
    for episode, source in enumerate(np.random.SeedSequence(seed).spawn(episodes)):
        rng = np.random.default_rng(source)
        obs, _ = env.reset(seed=int(rng.integers(2**31)))
        hand.reset(rng)
        states[episode, 0] = obs["state"]
        for step in range(1, length):
            obs, *_ = env.step(hand.act(obs))
            states[episode, step] = obs["state"]
    return states


def coverage(world: str, states: np.ndarray, offset: int = 25) -> dict[str, Any]:
    """What episodes (E, T, S) of a world cover, in plain numbers."""
    if world == "pusht":
        return _pusht_coverage(states, offset)
    raise WorldError(f"There is no coverage report for {world!r}.")


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {f"{q}%": round(float(np.percentile(values, q)), 3) for q in (10, 25, 50, 75, 90)}


def _pusht_coverage(states: np.ndarray, offset: int) -> dict[str, Any]:
    before, after = states[:, :-offset], states[:, offset:]
    moved = np.linalg.norm(after[..., 2:4] - before[..., 2:4], axis=-1)
    turned = np.abs((after[..., 4] - before[..., 4] + np.pi) % (2 * np.pi) - np.pi)
    travelled = np.linalg.norm(after[..., :2] - before[..., :2], axis=-1)
    cells = np.histogram2d(*states[..., 2:4].reshape(-1, 2).T, bins=8, range=[[0, 512]] * 2)[0]
    agent_cells = np.histogram2d(*states[..., :2].reshape(-1, 2).T, bins=8, range=[[0, 512]] * 2)[0]
    angles = np.histogram(states[..., 4], bins=16, range=(0, 2 * np.pi))[0]
    return {
        f"block displacement over {offset} steps, px": _quantiles(moved),
        f"block rotation over {offset} steps, rad": _quantiles(turned),
        f"agent displacement over {offset} steps, px": _quantiles(travelled),
        "share of frames in contact": round(float((gap(states) < 1.0).mean()), 3),
        "share of windows with the block moved": round(float(((moved > 20) | (turned > np.pi / 9)).mean()), 3),
        "share of 64 board cells visited by block, agent": [
            round(float((c > 0.001 * c.sum()).mean()), 3) for c in (cells, agent_cells)
        ],
        "rarest and commonest sixteenth of the angle": [round(float(x), 4) for x in (angles.min() / angles.sum(), angles.max() / angles.sum())],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Report what a behaviour policy covers.")
    parser.add_argument("world", choices=envs.names())
    parser.add_argument("--policy", help="default: the world's own")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    states = rollouts(
        args.world, args.policy or args.world, episodes=args.episodes, length=args.length, seed=args.seed
    )
    print(json.dumps(coverage(args.world, states), indent=2))


if __name__ == "__main__":
    main()
