"""What the numbers of a state are: their names, which of them count for success, and how far they range.

A state is the environment's observation, flattened: the parts of a dictionary in alphabetical order, each
with its numbers in their own order. `desired_goal`, which a goal picture replaces, is left out, and so are
pictures in a dictionary, which are cameras.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces

from latent_planner.common.progress import Bar

from ..views import NAME, PIXELS, RESERVED
from ..world import WorldError
from .names import GymName
from .policies import Smooth

LARGEST_STATE = 512  # numbers; a longer observation is taken for a picture
EPISODES, STEPS = 20, 100  # of smooth noise, from which the ranges are taken
_NO_NAMES = (PIXELS, *RESERVED)  # of cameras
TARGET, REACHED = "desired_goal", "achieved_goal"  # as Gymnasium-Robotics calls them in its GoalEnvs

# Components of the observation that are positions; those left out are speeds and forces.
POSITIONS = {
    "Ant": 13, "HalfCheetah": 8, "Hopper": 5, "Humanoid": 22, "InvertedDoublePendulum": 5,
    "InvertedPendulum": 2, "MountainCarContinuous": 1, "Pendulum": 2, "Reacher": 4, "Swimmer": 3,
    "Walker2d": 8,
}  # fmt: skip


@dataclass(frozen=True)
class Ranges:
    """Of each component of the state, (S,) each, under smooth noise: standard deviation (1 where it never
    changes), smallest and largest value."""

    deviation: np.ndarray
    low: np.ndarray
    high: np.ndarray


def seen_space(space: spaces.Space) -> spaces.Space:
    """The part of an observation space that is the state."""
    if not isinstance(space, spaces.Dict):
        return space
    left_out = {TARGET, *pictures(space)}
    kept = {key: part for key, part in space.spaces.items() if key not in left_out}
    return spaces.Dict(kept) if kept else space


def pictures(space: spaces.Space) -> list[str]:
    """Keys of a dictionary's parts that are pictures, uint8 (H, W, 3) or (3, H, W) of at least 16 px."""
    parts = space.spaces.items() if isinstance(space, spaces.Dict) else ()
    return [key for key, part in parts if _is_picture(part) and NAME.fullmatch(key) and key not in _NO_NAMES]


def _is_picture(part: spaces.Space) -> bool:
    shape = part.shape or ()
    sides = shape[:2] if shape[2:] == (3,) else shape[1:]
    return len(shape) == 3 and 3 in (shape[0], shape[2]) and min(sides) >= 16 and part.dtype == np.uint8


def upright(picture: Any) -> np.ndarray:
    """A picture (H, W, 3) or (3, H, W) as (H, W, 3)."""
    found = np.asarray(picture, np.uint8)
    return found if found.shape[2] == 3 else found.transpose(1, 2, 0)


def seen(space: spaces.Space, observation: Any) -> np.ndarray:
    """The state (S,) in an observation; `space` is what `seen_space` gave."""
    if isinstance(space, spaces.Dict):
        observation = {key: observation[key] for key in space.spaces}
    return np.array(spaces.flatten(space, observation), np.float64).reshape(-1)


def state_size(space: spaces.Space) -> int | None:
    """Numbers in a flattened observation; None where that is a picture, or no numbers of a fixed count."""
    try:
        size = spaces.flatdim(space)
    except (NotImplementedError, ValueError):
        return None
    picture = isinstance(space, spaces.Box) and len(space.shape) == 3
    return None if picture or not 0 < size <= LARGEST_STATE else size


def state_names(space: spaces.Space) -> tuple[str, ...]:
    """A name for each component: observation_0, …, or in a dictionary KEY_0, …"""
    if not isinstance(space, spaces.Dict):
        return tuple(f"observation_{i}" for i in range(spaces.flatdim(space)))
    sizes = {key: spaces.flatdim(part) for key, part in space.spaces.items()}
    return tuple(f"{key}_{i}" for key, size in sizes.items() for i in range(size))


def goal_parts(name: str, says: GymName, names: tuple[str, ...]) -> np.ndarray:
    """Which components count for success: those that the name lists, else what a GoalEnv calls achieved,
    else the known positions, else all."""
    size = len(names)
    if says.goal is None:
        reached = [i for i, label in enumerate(names) if label.rpartition("_")[0] == REACHED]
        known = POSITIONS.get(says.id.rpartition("-v")[0])
        return np.array(reached) if reached else np.arange(min(known or size, size))
    if says.goal[-1] >= size:
        raise WorldError(
            f"{name} has observations of {size} numbers, counted from 0: none is {says.goal[-1]}."
        )
    return np.array(says.goal)


def measured(world: Any) -> Ranges:
    """The ranges in `world`, a GymWorld, with a progress bar where that takes more than two seconds."""
    episodes = EPISODES // 4 if world.has_thumb else EPISODES  # those have to be drawn
    noise = Smooth(world.action_low, world.action_high, world.actions)
    states = []
    bar = Bar(
        total=episodes * STEPS, desc=f"measuring ranges in {world.name}", unit=" steps", delay=2, leave=False
    )
    with bar:
        for episode in range(episodes):
            world.replay(episode, [])
            noise.reset(np.random.default_rng([episode, STEPS]))
            states.append(world.state())
            for _ in range(STEPS):
                if not world.ended:
                    world.play(noise.act({}))
                    states.append(world.state())
                bar.update()
    seen_values = np.ma.masked_invalid(states)  # a sensor may drop out
    deviation, low, high = (
        np.ma.filled(f(seen_values, axis=0), fill).astype(float)
        for f, fill in ((np.ma.std, 0.0), (np.ma.min, np.nan), (np.ma.max, np.nan))
    )
    return Ranges(np.where(deviation > 1e-6, deviation, 1.0), low, high)
