"""Which worlds there are: their names, and where each and its behaviour policy is found.

Nothing is imported before it is asked for, so a world may need packages that others do without; `extra` is
then what to install of this project.
"""

from __future__ import annotations

import difflib
import importlib
from dataclasses import dataclass
from typing import Any

from envs.gym_names import is_gym
from envs.world import WorldError


@dataclass(frozen=True)
class Entry:
    """One world. `world` and `policy` are "module:Class"; `id` is Gymnasium's name for it."""

    id: str
    world: str
    policy: str
    extra: str | None = None  # of pyproject.toml


WORLDS = {
    "pusht": Entry("envs/PushT-v0", "envs.pusht:PushT", "envs.pusht_policy:PushTPolicy"),
    "two_room": Entry("envs/TwoRoom-v0", "envs.two_room:TwoRoom", "envs.two_room_policy:TwoRoomPolicy"),
    "wall": Entry("envs/Wall-v0", "envs.wall:Wall", "envs.two_room_policy:TwoRoomPolicy"),
    "reacher": Entry(
        "envs/Reacher-v0", "envs.reacher:Reacher", "envs.reacher_policy:ReacherPolicy", "worlds"
    ),
    "cube": Entry("envs/Cube-v0", "envs.cube:Cube", "envs.cube_policy:CubePolicy", "worlds"),
    "point_maze": Entry(
        "envs/PointMaze-v0", "envs.point_maze:PointMaze", "envs.point_maze_policy:PointMazePolicy"
    ),
    "point_maze_medium": Entry(
        "envs/PointMazeMedium-v0",
        "envs.point_maze:PointMazeMedium",
        "envs.point_maze_policy:PointMazeMediumPolicy",
    ),
}


def entry(name: str) -> Entry:
    """The entry of the world called `name`; WorldError, with the nearest name, when there is none."""
    if is_gym(name):
        return Entry(name, "envs.gym_world:GymWorld", "envs.gym_policies:Smooth", "gym")
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
