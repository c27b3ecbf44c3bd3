"""Behaviour policies: what acts in a world while it is recorded; one a world, and a random one."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from latent_planner import envs
from latent_planner.common.action_space import NUMBERS, ActionSpace

from .catalogue import entry, found
from .world import World, WorldError


class Policy(Protocol):
    """Chooses actions from observations; all its randomness comes from the generator of the last `reset`."""

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode."""

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """The action float32 (A,) for this observation."""


class RandomPolicy:
    """Every action evenly from the box `low` to `high`, (A,) each, or of its choices; it does not look."""

    def __init__(self, low: np.ndarray, high: np.ndarray, space: ActionSpace = NUMBERS) -> None:
        self.low, self.high = np.asarray(low, np.float32), np.asarray(high, np.float32)
        self.space = space

    def reset(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        return self.space.random_row(self._rng, self.low, self.high)


def policy_names() -> list[str]:
    """The names that `make_policy` knows: the worlds, and "random"."""
    return [*envs.names(), "random"]


def make_policy(
    name: str, action_size: int = 2, *, kind: str | None = None, world: World | None = None
) -> Policy:
    """The behaviour policy of the world called `name`, or "random" for actions of `action_size` numbers.

    kind: of a Gymnasium environment, which policy (envs.gym.policies); None for smooth noise.
    world: the Gymnasium environment that it will act in; None for a new one.

    Raises:
        WorldError: for a name that is not in `policy_names()`, and for a kind where there is no choice.
    """
    if name == "random":
        return RandomPolicy(-np.ones(action_size), np.ones(action_size))
    if not envs.known(name):
        raise WorldError(f"There is no policy called {name!r}; the policies are {', '.join(policy_names())}.")
    make: Any = found(entry(name).policy, name)
    if entry(name).family:
        return make(kind or "smooth", world or envs.make(name))
    if kind is not None:
        raise WorldError(f"{name} has one policy: leave out {kind!r}.")
    return make()
