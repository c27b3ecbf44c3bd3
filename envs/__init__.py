"""Worlds with pixels: PushT and TwoRoom as Gymnasium environments.

    import envs
    env = envs.make("pusht", image_size=64)
    obs, info = env.reset(seed=0)

Importing the package also registers them for `gymnasium.make("envs/PushT-v0", image_size=64)`.
"""

from __future__ import annotations

import difflib

import gymnasium

from envs.pusht import PushT
from envs.two_room import TwoRoom
from envs.world import World, WorldError

__all__ = ["PushT", "TwoRoom", "World", "WorldError", "make", "names"]

_WORLDS: dict[str, type[World]] = {"pusht": PushT, "two_room": TwoRoom}
_IDS = {"pusht": "envs/PushT-v0", "two_room": "envs/TwoRoom-v0"}

for _name, _id in _IDS.items():
    if _id not in gymnasium.registry:
        gymnasium.register(_id, entry_point=f"{_WORLDS[_name].__module__}:{_WORLDS[_name].__name__}")


def names() -> list[str]:
    """The names that `make` knows."""
    return list(_WORLDS)


def make(name: str, *, image_size: int = 64, goal_marker: bool = False, published: bool = False) -> World:
    """The world called `name`, bare: no time limit and no wrapper.

    published: as the published version of the world looks and moves, where ours differs.

    Raises:
        WorldError: for a name that is not in `names()`, or an image size that cannot be drawn.
    """
    if name not in _WORLDS:
        near = difflib.get_close_matches(str(name), _WORLDS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise WorldError(f"There is no world called {name!r}; the worlds are {', '.join(_WORLDS)}.{hint}")
    return _WORLDS[name](image_size=image_size, goal_marker=goal_marker, published=published)
