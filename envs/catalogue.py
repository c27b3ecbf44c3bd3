"""Which worlds there are: their names, and where each and its behaviour policy is found.

Nothing is imported before it is asked for, so a world may need packages that others do without; `extra` is
then what to install of this project.
"""

from __future__ import annotations

import importlib
import sys
from dataclasses import dataclass
from typing import Any

from latent_planner.common.words import did_you_mean

from .gym.names import is_gym
from .world import World, WorldError

TOO_NEW = {
    "worlds": (3, 13)
}  # from this version of Python on an extra cannot be installed, see pyproject.toml


@dataclass(frozen=True)
class Entry:
    """One world. `world` and `policy` are "module:Class"; `id` is Gymnasium's name for it.

    extra: what to install of this project, as pyproject.toml calls it.
    family: whether the entry stands for many worlds. Their class is made with the `name` of one, and `policy`
        is a function of the name of a policy and a world.
    """

    id: str
    world: str
    policy: str
    extra: str | None = None
    family: bool = False


WORLDS = {
    "pusht": Entry(
        "latent_planner/PushT-v0",
        "latent_planner.envs.pusht.world:PushT",
        "latent_planner.envs.pusht.policy:PushTPolicy",
    ),
    "two_room": Entry(
        "latent_planner/TwoRoom-v0",
        "latent_planner.envs.rooms.two_room:TwoRoom",
        "latent_planner.envs.rooms.policy:TwoRoomPolicy",
    ),
    "wall": Entry(
        "latent_planner/Wall-v0",
        "latent_planner.envs.rooms.wall:Wall",
        "latent_planner.envs.rooms.policy:TwoRoomPolicy",
    ),
    "reacher": Entry(
        "latent_planner/Reacher-v0",
        "latent_planner.envs.mujoco.reacher:Reacher",
        "latent_planner.envs.mujoco.reacher_policy:ReacherPolicy",
        "worlds",
    ),
    "cube": Entry(
        "latent_planner/Cube-v0",
        "latent_planner.envs.mujoco.cube:Cube",
        "latent_planner.envs.mujoco.cube_policy:CubePolicy",
        "worlds",
    ),
    "point_maze": Entry(
        "latent_planner/PointMaze-v0",
        "latent_planner.envs.mujoco.point_maze:PointMaze",
        "latent_planner.envs.mujoco.point_maze_policy:PointMazePolicy",
    ),
    "point_maze_medium": Entry(
        "latent_planner/PointMazeMedium-v0",
        "latent_planner.envs.mujoco.point_maze:PointMazeMedium",
        "latent_planner.envs.mujoco.point_maze_policy:PointMazeMediumPolicy",
    ),
}


def entry(name: str) -> Entry:
    """The entry of the world called `name`; WorldError, with the nearest name, when there is none."""
    if is_gym(name):
        return Entry(
            name,
            "latent_planner.envs.gym.world:GymWorld",
            "latent_planner.envs.gym.policies:make_gym_policy",
            "gym",
            family=True,
        )
    if name not in WORLDS:
        hint = did_you_mean(name, WORLDS, " Did")
        raise WorldError(f"There is no world called {name!r}; the worlds are {', '.join(WORLDS)}.{hint}")
    return WORLDS[name]


def world_class(name: str) -> type[World]:
    """The class of the world called `name`. Raises WorldError for an unknown one or a missing extra."""
    kind: type[World] = found(entry(name).world, name)
    return kind


def found(place: str, name: str) -> Any:
    """The class at `place`, which belongs to the world `name`; WorldError when its extra is missing."""
    module, _, label = place.partition(":")
    try:
        return getattr(importlib.import_module(module), label)
    except ModuleNotFoundError as error:
        extra = entry(name).extra
        if extra is None or str(error.name).partition(".")[0] == "latent_planner":
            raise
        what_to_do = f"pip install -e '.[{extra}]'"
        if sys.version_info >= TOO_NEW.get(extra, (4,)):
            what_to_do = "its packages are not to be had for this version of Python; use Python 3.12"
        raise WorldError(
            f"The world {name} needs {error.name}, which is not installed: {what_to_do}"
        ) from None
