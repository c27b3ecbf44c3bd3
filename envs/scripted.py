"""What scripted hands share: a script of wishes, step by step, and noise around them that changes slowly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np


class ScriptedPolicy:
    """Acts on `obs["state"]`; `reset(rng)` starts an episode whose choices all come from `rng`.

    A subclass says in `_behave` what it wishes to do, one wish (W,) after the other. It reads `_state` or
    what `_see` took from it, draws from `_rng`, and sets `_noise_scale`. A wish is an action (W,) unless
    `_to_action` makes one of it.
    """

    wish_size: ClassVar[int] = 2

    def reset(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._noise = np.zeros(self.wish_size)
        self._noise_scale = 0.0
        self._script = self._behave()

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """The next action, float32 (W,) in [-1, 1]."""
        self._state = np.asarray(obs["state"], dtype=np.float64)
        self._see(self._state)
        wish = next(self._script)
        self._noise = 0.7 * self._noise + self._rng.normal(0.0, self._noise_scale, self.wish_size)
        return (self._to_action(wish) + self._noise).clip(-1.0, 1.0).astype(np.float32)

    def _behave(self) -> Iterator[np.ndarray]:
        raise NotImplementedError

    def _see(self, state: np.ndarray) -> None:
        """Take from the state (S,) what the script reads."""

    def _to_action(self, wish: np.ndarray) -> np.ndarray:
        """The action (W,) that does what is wished for."""
        return wish
