"""What the episodes of a behaviour policy cover.

latent-planner coverage pusht
latent-planner coverage gym:Pendulum-v1        # which numbers its states are, and which count for success
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from latent_planner import envs
from latent_planner.common.commands import in_words

from .angles import wrapped
from .gym.making import bring
from .gym.names import is_gym
from .gym.world import described
from .mujoco import cube_policy
from .policies import make_policy
from .pusht.geometry import BOARD, gap
from .rooms.frames import LAYOUT
from .rooms.two_room import HIGH, LOW


def rollouts(world: str, policy: str, *, episodes: int, length: int, seed: int = 0) -> np.ndarray:
    """States (episodes, length, S) of fresh episodes, and nothing drawn of them but 16-px frames."""
    env = envs.make(world, image_size=16)
    hand = make_policy(policy, env.action_size)
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


def report(world: str, states: np.ndarray, offset: int = 25) -> dict[str, Any]:
    """What episodes (E, T, S) of a world cover, in plain numbers."""
    own = {
        "pusht": _pusht_coverage,
        "two_room": _two_room_coverage,
        "wall": _two_room_coverage,
        "cube": cube_policy.coverage,
    }
    return own[world](states, offset) if world in own else _any_coverage(world, states, offset)


def changes(world: str, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """By how much each number of a world's states (..., S) changes; angles the short way round."""
    kind = envs.world_class(world)
    change = after - before
    turns = [name in kind.angle_names for name in kind.state_names]
    change[..., turns] = wrapped(change[..., turns])
    return np.abs(change)


def _any_coverage(world: str, states: np.ndarray, offset: int) -> dict[str, Any]:
    """For worlds without a report of their own."""
    env = envs.make(world, image_size=16)
    before, after = states[:, :-offset], states[:, offset:]
    change = changes(world, before, after)
    ends = zip(before.reshape(-1, states.shape[-1]), after.reshape(-1, states.shape[-1]))
    solved = float(np.mean([env.is_success(end, start) for start, end in ends]))
    found: dict[str, Any] = {
        f"share of {offset}-step windows that end within success of their start": round(solved, 3)
    }
    for column, name in enumerate(env.state_names):
        found[f"{name}, all frames"] = _quantiles(states[..., column])
        found[f"{name}, change over {offset} steps"] = _quantiles(change[..., column])
    return found


def _pusht_coverage(states: np.ndarray, offset: int) -> dict[str, Any]:
    before, after = states[:, :-offset], states[:, offset:]
    moved = np.linalg.norm(after[..., 2:4] - before[..., 2:4], axis=-1)
    turned = np.abs(wrapped(after[..., 4] - before[..., 4]))
    angles = np.histogram(states[..., 4], bins=16, range=(0, 2 * np.pi))[0] / states[..., 4].size
    return {
        f"block displacement over {offset} steps, px": _quantiles(moved),
        f"block rotation over {offset} steps, rad": _quantiles(turned),
        f"agent displacement over {offset} steps, px": _travel(before, after),
        "share of frames in contact": round(float((gap(states) < 1.0).mean()), 3),
        f"share of {offset}-step windows in which the block moves 20 px or turns pi/9": round(
            float(((moved > 20) | (turned > np.pi / 9)).mean()), 3
        ),
        "share of the board's 64 cells visited by the block": _cells(states[..., 2:4], 0.0, BOARD),
        "share of the board's 64 cells visited by the agent": _cells(states[..., :2], 0.0, BOARD),
        "share of the rarest and commonest sixteenth of the angle": [
            round(float(angles.min()), 3),
            round(float(angles.max()), 3),
        ],
    }


def in_left_room(states: np.ndarray) -> np.ndarray:
    """Whether the agent is in the left room, for states (..., 2) of TwoRoom and (..., 4) of Wall."""
    left: np.ndarray = states[..., 0] < (states[..., 2] if states.shape[-1] > 2 else LAYOUT.wall)
    return left


def _two_room_coverage(states: np.ndarray, offset: int) -> dict[str, Any]:
    left, states = in_left_room(states), states[..., :2]
    crossings = (left[:, 1:] != left[:, :-1]).sum(axis=1)
    edge = (np.abs(states - (LOW + HIGH) / 2) > (HIGH - LOW) / 2 - 0.01).sum(axis=-1)
    return {
        "share of episodes crossing the door": round(float((crossings > 0).mean()), 3),
        "crossings an episode": round(float(crossings.mean()), 2),
        f"agent displacement over {offset} steps, px": _travel(states[:, :-offset], states[:, offset:]),
        f"share of {offset}-step windows ending in the other room": round(
            float((left[:, offset:] != left[:, :-offset]).mean()), 3
        ),
        "share of frames at an outer wall": round(float((edge > 0).mean()), 3),
        "share of frames in a corner": round(float((edge > 1).mean()), 4),
        "share of frames in the left room": round(float(left.mean()), 3),
        "share of the rooms' 64 cells visited": _cells(states, LOW, HIGH),
    }


def _quantiles(values: np.ndarray) -> dict[str, float]:
    return {f"{q}%": round(float(np.percentile(values, q)), 3) for q in (10, 25, 50, 75, 90)}


def _travel(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
    return _quantiles(np.linalg.norm(after[..., :2] - before[..., :2], axis=-1))


def _cells(places: np.ndarray, low: float, high: float) -> float:
    """Share of 8 x 8 cells that hold a thousandth of all places (..., 2) or more."""
    x, y = places.reshape(-1, 2).T
    counts = np.histogram2d(x, y, bins=8, range=[[low, high], [low, high]])[0]
    return round(float((counts >= 0.001 * counts.sum()).mean()), 3)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="latent-planner coverage", description="Report what a behaviour policy covers."
    )
    parser.add_argument("world", help=f"{', '.join(envs.names())}, or gym:ID")
    parser.add_argument("--policy", help="default: the world's own")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--length", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--module", help="of gym:ID: the module of yours that registers it")
    args = parser.parse_args(words)
    with in_words(envs.WorldError) as outcome:
        _print_report(args)
    return outcome.code


def _print_report(args: argparse.Namespace) -> None:
    if is_gym(args.world):
        bring(args.module)
        for line in described(args.world):
            print(line)
        return
    envs.world_class(args.world)  # or an error that names the nearest
    states = rollouts(
        args.world, args.policy or args.world, episodes=args.episodes, length=args.length, seed=args.seed
    )
    print(json.dumps(report(args.world, states), indent=2))
