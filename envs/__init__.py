"""Worlds with pixels, as Gymnasium environments: PushT, TwoRoom, Wall and those in envs/catalogue.py.

    from latent_planner import envs
    env = envs.make("pusht", image_size=64)
    obs, info = env.reset(seed=0)

Importing the package also registers them for `gymnasium.make("latent_planner/PushT-v0", image_size=64)`.
"""

from __future__ import annotations

from typing import Any

import gymnasium

from .catalogue import WORLDS, entry, world_class
from .gym.names import is_gym
from .world import World, WorldError

__all__ = ["World", "WorldError", "known", "make", "names", "world_class"]

for _entry in WORLDS.values():
    if _entry.id not in gymnasium.registry:
        gymnasium.register(_entry.id, entry_point=_entry.world)


def names() -> list[str]:
    """The names that `make` knows; beside them it takes `gym:ID`, see latent_planner.envs.gym.names."""
    return list(WORLDS)


def known(name: str) -> bool:
    """Whether `make` knows a world of this name, or may: of `gym:ID` only Gymnasium can tell."""
    return name in WORLDS or is_gym(name)


def make(
    name: str,
    *,
    image_size: int = 64,
    goal_marker: bool = False,
    reference_look: bool = False,
    **options: Any,
) -> World:
    """The world called `name`, bare: no time limit and no wrapper.

    reference_look: as the published version of the world looks and moves, where ours differs.
    options: what else that world's class takes.

    Raises:
        WorldError: for a name that is not in `names()`, a world whose extra is not installed, or an image
            size that cannot be drawn.
    """
    if entry(name).family:
        options["name"] = name
    options |= {"image_size": image_size, "goal_marker": goal_marker, "reference_look": reference_look}
    return world_class(name)(**options)
