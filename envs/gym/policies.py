"""What acts in a Gymnasium environment while it is recorded.

random              every action evenly from the box, or of its choices
smooth              noise that keeps its direction for a while; now gentle, now at the bounds; choices are
                    held for a while
module:function     your own: function(observation, random) -> action, with the environment's own
                    observation and a numpy Generator; only ever named on a command line
mlp:FILE.npz        a network with smooth noise on top, as train.py makes it of sb3:FILE.zip
"""

from __future__ import annotations

import importlib
import io
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from latent_planner.common.bounded import check_archive
from latent_planner.common.files import read_bytes

from ..policies import RandomPolicy
from ..world import WorldError

KINDS = "random, smooth, module:function and sb3:FILE.zip"
LARGEST_NETWORK = 256 << 20  # bytes
NOISE = (0.0, 0.2, 0.5)  # on top of a network, in halves of the box; one is drawn for each episode
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tanh": np.tanh,
    "relu": lambda x: np.maximum(x, 0.0),
    "none": lambda x: x,
}


class Smooth(RandomPolicy):
    """Noise with a memory of 1 to 30 steps (a first-order autoregressive process), drawn anew now and then
    along with its size; the largest is cut off at the bounds. Choices are held as long as noise lasts."""

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode whose choices all come from `rng`."""
        super().reset(rng)
        self._value, self._left = rng.normal(size=self.low.shape), 0
        self._held: np.ndarray | None = None

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """The next action, float32 (A,); it does not look."""
        half = (self.high - self.low) / 2
        row = np.clip(self.low + half + half * self.wave(), self.low, self.high).astype(np.float32)
        return self._hold(row) if self.space.choices else row

    def _hold(self, row: np.ndarray) -> np.ndarray:
        """The row with its choices held, or made anew as often as the noise forgets."""
        drawn = self.space.random_row(self._rng, self.low, self.high)
        anew = self._rng.random(len(row)) > self._keep
        self._held = drawn if self._held is None else np.where(anew, drawn, self._held)
        return np.where(np.array(self.space.choices) > 0, self._held, row).astype(np.float32)

    def wave(self) -> np.ndarray:
        """The next value (A,) in [-1, 1]."""
        if self._left == 0:
            memory = 30.0 ** self._rng.uniform(0.0, 1.0)
            self._keep, self._gain = float(np.exp(-1.0 / memory)), self._rng.uniform(0.3, 2.0)
            self._left = int(self._rng.integers(15, 60))
        self._left -= 1
        fresh = self._rng.normal(size=self.low.shape)
        self._value = self._keep * self._value + np.sqrt(1 - self._keep**2) * fresh
        return np.clip(self._gain * self._value, -1.0, 1.0)


class Function(RandomPolicy):
    """A function of the user's: observation, Generator -> action; it is cut off at the bounds."""

    def __init__(self, world: Any, function: Callable[[Any, np.random.Generator], Any], name: str) -> None:
        super().__init__(world.action_low, world.action_high, world.actions)
        self.world, self.function, self.name = world, function, name

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """The next action, float32 (A,)."""
        try:
            given = self.function(self.world.raw, self._rng)
            action = self.space.row(given) if self.space.parts else np.asarray(given, np.float32).reshape(-1)
        except (TypeError, ValueError) as error:
            raise WorldError(f"{self.name}(observation, random) failed: {error}.") from error
        if action.shape != self.low.shape or not np.isfinite(action).all():
            raise WorldError(
                f"{self.name}(observation, random) gave {action}: {len(self.low)} finite numbers are needed."
            )
        return action.clip(self.low, self.high)


class Network(Smooth):
    """A multilayer perceptron on the flat observation; each episode adds more or less smooth noise."""

    def __init__(self, world: Any, layers: list[tuple[np.ndarray, np.ndarray]], kinds: list[str]) -> None:
        super().__init__(world.action_low, world.action_high)
        self.layers, self.kinds = layers, kinds

    def reset(self, rng: np.random.Generator) -> None:
        """Start an episode whose choices all come from `rng`."""
        super().reset(rng)
        self._noise = float(rng.choice(NOISE))

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """The next action, float32 (A,), from obs["state"] (S,)."""
        x: Any = np.asarray(obs["state"], np.float32)
        for (weight, bias), kind in zip(self.layers, self.kinds):
            x = ACTIVATIONS[kind](weight @ x + bias)
        half = (self.high - self.low) / 2
        if self.kinds[-1] == "tanh":  # its actions lie in [-1, 1] and mean shares of the box
            x = self.low + half * (x + 1)
        return np.clip(x + self._noise * half * self.wave(), self.low, self.high).astype(np.float32)


def make_gym_policy(how: str, world: Any) -> RandomPolicy:
    """The policy called `how` for `world`, a GymWorld. Raises WorldError for what is none."""
    if how in ("random", "smooth"):
        noise = Smooth if how == "smooth" else RandomPolicy
        return noise(world.action_low, world.action_high, world.actions)
    kind, _, rest = how.partition(":")
    if kind == "mlp" and rest:
        return _network(world, rest)
    if kind == "sb3":
        raise WorldError(f"{how} is read by train.py: python train.py env=gym env.policy={how}")
    if not (kind and rest.isidentifier()):
        raise WorldError(f"There is no policy {how!r}; there are {KINDS}.")
    return Function(world, _function(kind, rest, how), how)


def _function(module: str, name: str, how: str) -> Any:
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise WorldError(f"The policy {how} cannot be imported ({error}): check both names.") from error
    if not callable(function):
        raise WorldError(f"The policy {how} is no function.")
    return function


def _network(world: Any, path: str) -> Network:
    """From an .npz of weight_0, bias_0, …, and kinds, as `latent_planner.checkpoints.sb3` writes it."""
    try:
        data = io.BytesIO(read_bytes(path, LARGEST_NETWORK))
        check_archive(data, LARGEST_NETWORK)
        data.seek(0)
        with np.load(data, allow_pickle=False) as file:
            kinds = [str(kind) for kind in file["kinds"]]
            layers = [(file[f"weight_{i}"], file[f"bias_{i}"]) for i in range(len(kinds))]
        _check_chain(layers, kinds)
    except Exception as error:  # zip and numpy raise nearly every type on damaged files
        raise WorldError(f"{path} holds no policy that can be read: make it again.") from error
    if world.actions.choices:
        raise WorldError(f"{path} is a policy of numbers, and actions of {world.name} are {world.actions}.")
    sizes = layers[0][0].shape[1], layers[-1][0].shape[0]
    wanted = len(world.state_names), world.action_size
    if sizes != wanted:
        raise WorldError(
            f"{path} is a policy of {sizes[0]} observed numbers and {sizes[1]} actions, and {world.name} has "
            f"{wanted[0]} and {wanted[1]}: choose one that was trained in it."
        )
    return Network(world, layers, kinds)


def _check_chain(layers: list[tuple[np.ndarray, np.ndarray]], kinds: list[str]) -> None:
    """ValueError unless these are layers of finite numbers, each as wide as the one before gives."""
    if not layers or not set(kinds) <= set(ACTIVATIONS):
        raise ValueError("no layers, or activations that are not known")
    wide = layers[0][0].shape[-1]
    for weight, bias in layers:
        if weight.dtype != np.float32 or bias.dtype != np.float32 or weight.ndim != 2 or not weight.size:
            raise ValueError("a layer is a matrix and a vector, float32")
        if weight.shape[1] != wide or bias.shape != weight.shape[:1]:
            raise ValueError("layers that do not follow on each other")
        if not np.isfinite(weight).all() or not np.isfinite(bias).all():
            raise ValueError("numbers that are not finite")
        wide = len(weight)
