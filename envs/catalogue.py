"""Which worlds there are: their names, and where each and its behaviour policy is found.

Nothing is imported before it is asked for, so a world may need packages that others do without; `extra` is
then what to install of this project.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import Any

from .gym.names import is_gym
from .world import WorldError


@dataclass(frozen=True)
class Entry:
    """One world. `world` and `policy` are "module:Class"; `id` is Gymnasium's name for it."""

    id: str
    world: str
    policy: str
    extra: str | None = None  # of pyproject.toml


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
            name, "latent_planner.envs.gym.world:GymWorld", "latent_planner.envs.gym.policies:Smooth", "gym"
        )
    if name not in WORLDS:
        near = difflib.get_close_matches(str(name), WORLDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise WorldError(f"There is no world called {name!r}; the worlds are {', '.join(WORLDS)}.{hint}")
    return WORLDS[name]


def found(place: str, name: str) -> Any:
    """The class at `place`, which belongs to the world `name`; WorldError when its extra is missing."""
    module, _, label = place.partition(":")
    try:
        return getattr(importlib.import_module(module), label)
    except ModuleNotFoundError as error:
        extra = entry(name).extra
        if extra is None or str(error.name).partition(".")[0] == "envs":
            raise
        raise WorldError(
            f"The world {name} needs {error.name}, which is not installed: pip install -e '.[{extra}]'"
        ) from None
