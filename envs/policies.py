"""Behaviour policies: what acts in a world while it is recorded; one a world, and a random one."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from latent_planner import envs

from .catalogue import entry, found
from .gym import policies as gym_policies
from .gym.names import is_gym
from .world import WorldError


class Policy(Protocol):
    """Chooses actions from observations; all its randomness comes from the generator of the last `reset`."""

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode."""

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """The action float32 (A,) for this observation."""


class RandomPolicy:
    """Independent uniform actions of `size` numbers."""

    def __init__(self, size: int = 2) -> None:
        self.size = size

    def reset(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        return self._rng.uniform(-1.0, 1.0, self.size).astype(np.float32)


def policy_names() -> list[str]:
    """The names that `make_policy` knows: the worlds, and "random"."""
    return [*envs.names(), "random"]


def make_policy(name: str, action_size: int = 2) -> Policy:
    """The behaviour policy of the world called `name`, or "random" for actions of `action_size` numbers.

    Raises:
        WorldError: for a name that is not in `policy_names()`.
    """
    if name == "random":
        return RandomPolicy(action_size)
    if is_gym(name):
        return gym_policies.make_gym_policy("smooth", envs.make(name))
    if name not in policy_names():
        raise WorldError(f"There is no policy called {name!r}; the policies are {', '.join(policy_names())}.")
    policy: type[Any] = found(entry(name).policy, name)
    return policy()
