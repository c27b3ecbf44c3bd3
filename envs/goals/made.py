"""A goal of a world that its policy is known to reach, for a goal picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latent_planner import envs

from ..world import WorldError
from .base import OFFSET
from .pairs import draw


@dataclass(frozen=True)
class MadeGoal:
    """pixels: uint8 (H, W, 3).   state: (S,).   start: (S,), or None where it is the reset with the seed."""

    pixels: np.ndarray
    state: np.ndarray
    start: np.ndarray | None


def make_goal(name: str, seed: int, *, image_size: int) -> MadeGoal:
    """What the behaviour policy of the world `name` reaches OFFSET env steps after its start.

    image_size: of the picture; worlds whose states cannot be set give it as large as they draw it.
    Raises WorldError.
    """
    world = envs.make(name, image_size=image_size)
    if world.settable_states:
        pair = draw(name, 1, seed, offset=OFFSET)
        return MadeGoal(world.render_state(pair.goal[0]), pair.goal[0], pair.start[0])
    _, info = world.reset(seed=seed)
    if world.goal_picture is None:
        raise WorldError(f"{name} shows no goal after a reset.")
    return MadeGoal(world.goal_picture, info["goal_state"], None)
