"""What an agent is shown in a test: which cameras and vector it sees, and which its goals are given in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from latent_planner.common.printable import printable
from latent_planner.planners import PlanError

from ..seen import PREFIX, VECTOR

if TYPE_CHECKING:
    from ..model.world_model import WorldModelConfig

PIXELS = "pixels"  # of the first camera, in observations


class Sight:
    """Takes what a model of this config is shown out of a world's observations.

    senses: names of the cameras and the vector that the agent sees; None: all that the model knows.
    goal: names of those that a goal shows; None: all cameras that the agent sees, or else the vector.
    PlanError for names that the model does not know. A model of one camera, and None, has nothing to choose.
    """

    def __init__(
        self,
        config: WorldModelConfig | None,
        senses: Sequence[str] | str | None = None,
        goal: Sequence[str] | str | None = None,
    ) -> None:
        cameras = () if config is None else config.cameras
        self.several = bool(cameras)
        self._keys = {name: PREFIX + name for name in cameras} | {VECTOR: VECTOR}
        if cameras:
            self._keys[cameras[0]] = PIXELS
        known = () if config is None else tuple(config.parts)
        self.senses = _chosen("senses", senses, known) or known
        pictures = tuple(name for name in self.senses if name != VECTOR)
        self.goal = _chosen("goal", goal, known) or pictures or self.senses

    def about(self) -> dict[str, Any]:
        """Plain values for a result; nothing of one camera."""
        return {"senses": list(self.senses), "goal_shows": list(self.goal)} if self.several else {}

    def now(self, observation: Mapping[str, Any]) -> Any:
        """What an agent sees of an observation: the frame, or views by name."""
        return self._of(observation, self.senses) if self.several else observation[PIXELS]

    def goal_of(self, info: Mapping[str, Any]) -> Any:
        """What its goal is, of the info of a reset: the picture, or views by name."""
        return self._of(info["goal_observation"], self.goal) if self.several else info["goal"]

    def _of(self, observation: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
        return {name: observation[self._keys[name]] for name in names}


def sight_of(
    agent: Any, senses: Sequence[str] | str | None = None, goal: Sequence[str] | str | None = None
) -> Sight:
    """That of an agent; one without a config, as others' may be, sees one camera."""
    return Sight(getattr(agent, "config", None), senses, goal)


def _chosen(what: str, names: Sequence[str] | str | None, known: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return ()
    names = [names] if isinstance(names, str) else names
    if not known:
        raise PlanError(f"benchmark.{what} is for models of several cameras: this one has one, leave it out.")
    for name in names:
        if name not in known:
            told = f"no {printable(name, 60)!r} in this model: it knows {', '.join(known)}"
            raise PlanError(f"benchmark.{what}: there is {told}.")
    return tuple(dict.fromkeys(names))


def together(shown: Sequence[Any]) -> Any:
    """What several agents see as one batch: frames (B, H, W, 3), or views by name."""
    if isinstance(shown[0], Mapping):
        return {name: np.stack([one[name] for one in shown]) for name in shown[0]}
    return np.stack(shown)
