"""Agents and what their checkpoints say; which of them a page may choose."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latent_planner import Agent, envs, looks
from latent_planner.checkpoints import checkpoint
from latent_planner.evaluation import reachability
from latent_planner.pixels import encode_frames
from latent_planner.settings import AgentSettings

from ..overrides import ConfigError
from ..planner_words import planner_settings
from .imagined import Known


@dataclass(frozen=True)
class Player:
    """An agent, and what its checkpoint says.   stored: its "planner".   reach: see `reachability`."""

    agent: Agent
    name: str
    stored: Mapping[str, Any]
    reach: float | None

    @classmethod
    def load(
        cls, name: str, overrides: Sequence[str] = (), *, device: Any = None, seed: int | None = None
    ) -> Player:
        """From a bundled name, a run folder, or hf://owner/name. The errors of loading and of settings."""
        model, info = checkpoint.load(name)
        if model.config.several:
            parts = ", ".join(model.config.parts)
            raise ConfigError(f"the page shows models of one camera, and {name} knows {parts}: use plan.py")
        settings, folder = planner_settings(overrides, info["planner"]), Path(info["path"])
        known = looks.load(folder, info["sha256"])
        agent = Agent(model, settings, device=device or "auto", seed=seed, looks=known)
        return cls(agent, name, info["planner"], reachability.load(folder, info["sha256"]))

    @property
    def world(self) -> str:
        return self.agent.config.env

    def changed(self, settings: AgentSettings) -> Player:
        """The same model under other settings."""
        old = self.agent
        agent = Agent(
            old.world_model, settings, device=old.device, seed=old.seed, context_len=old.context_len,
            looks=old.looks,
        )  # fmt: skip
        return Player(agent, self.name, self.stored, self.reach)

    def other(self, name: str) -> Player:
        """That of another checkpoint. ConfigError where it is of another world."""
        player = Player.load(name, device=self.agent.device, seed=self.agent.seed)
        if player.world != self.world:
            raise ConfigError(f"{name} is a model of {player.world}, not of {self.world} as {self.name} is")
        return player

    def with_words(self, words: Sequence[str]) -> Player:
        """The same model, planning as the words say, such as planner=mppi."""
        return self.changed(planner_settings(words, self.stored))


class Players:
    """The first player, and names of others for the same world that may be chosen in its place.

    Those of one model share what is known. `known_for` is for any thread.
    """

    def __init__(self, first: Player, others: Sequence[str] = ()) -> None:
        self.first = first
        bundled = [name for name in checkpoint.bundled() if name == first.world]  # they bear the world's name
        self.names = list(dict.fromkeys([first.name, *others, *bundled]))
        self._known: dict[str, Known] = {}
        self._lock = threading.Lock()

    def load(self, name: str) -> Player:
        """Raises ConfigError for another world, and the errors of loading."""
        if name == self.first.name:
            return self.first.changed(self.first.agent.settings)
        if name not in self.names:
            raise ConfigError(f"{name!r} cannot be chosen here: name it on the command line")
        return self.first.other(name)

    def known_for(self, player: Player, start: np.ndarray) -> Known:
        """What its model knows of episodes in which the state `start` (S,) occurs."""
        agent = player.agent
        with self._lock:
            if player.name not in self._known:
                world = another(agent, agent.config.image_size)
                self._known[player.name] = Known(world, lambda frames: latents(agent, frames), start)
            return self._known[player.name]

    def known(self) -> Known | None:
        """The first player's, once it is being collected."""
        return self._known.get(self.first.name)

    def forget(self) -> None:
        """Collect anew when somebody asks."""
        with self._lock:
            for known in self._known.values():
                known.close()
            self._known.clear()


def another(agent: Agent, size: int) -> envs.World:
    """The agent's world once more, with frames of this size."""
    config = agent.config
    return envs.make(config.env, image_size=size, reference_look=config.reference_look)


def latents(agent: Agent, frames: np.ndarray) -> np.ndarray:
    """uint8 (n, h, w, 3) -> (n, D)."""
    return encode_frames(agent.world_model, frames, agent.device).float().cpu().numpy()
