"""What scripted hands share: a script of wishes, step by step, and noise around them that changes slowly."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np


class ScriptedPolicy:
    """Acts on `obs["state"]`; `reset(rng)` starts an episode whose choices all come from `rng`.

    A subclass says in `_behave` what it wishes to do, one action (2,) after the other; it reads `_state`
    (S,), draws from `_rng`, and sets `_noise_scale`.
    """

    def reset(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._state = np.zeros(4)
        self._noise = np.zeros(2)
        self._noise_scale = 0.0
        self._script = self._behave()

    def act(self, obs: dict[str, np.ndarray]) -> np.ndarray:
        """The next action, float32 (2,) in [-1, 1]."""
        self._state = np.asarray(obs["state"], dtype=np.float64)
        wish = next(self._script)
        self._noise = 0.7 * self._noise + self._rng.normal(0.0, self._noise_scale, 2)
        return (wish + self._noise).clip(-1.0, 1.0).astype(np.float32)

    def _behave(self) -> Iterator[np.ndarray]:
        raise NotImplementedError
