"""What the agent needs of what comes from elsewhere: a recording, start/goal pairs, an environment.

Nothing here is imported from the worlds: whatever has these attributes will do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np


class Recording(Protocol):
    """Episodes one after the other, N rows in all: what training reads, and latent_planner.envs writes."""

    @property
    def env(self) -> str | None: ...
    @property
    def image_size(self) -> int: ...
    @property
    def num_frames(self) -> int:
        """N."""

    @property
    def columns(self) -> Sequence[str]:
        """ "pixels" uint8 (N, H, W, 3), "action" (N, A) and perhaps "state" (N, S)."""

    @property
    def lengths(self) -> np.ndarray:
        """(E,) rows of each episode."""

    @property
    def offsets(self) -> np.ndarray:
        """(E,) first row of each episode."""

    @property
    def state_names(self) -> Sequence[str]: ...
    @property
    def angle_names(self) -> Sequence[str]: ...
    @property
    def action_low(self) -> np.ndarray: ...
    @property
    def action_high(self) -> np.ndarray: ...
    def read(self, column: str, start: int, stop: int, /) -> np.ndarray:
        """Rows start to stop - 1."""

    def read_rows(self, column: str, rows: np.ndarray, /) -> np.ndarray:
        """These rows, in any order."""


class Environment(Protocol):
    """The part of Gymnasium's interface that an agent is tested through: observations {"pixels": uint8
    (H, W, 3), "state": (S,)}, info {"goal": uint8 (H, W, 3), "success": bool}."""

    @property
    def action_space(self) -> Any: ...
    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]: ...
    def step(self, action: Any, /) -> tuple[dict[str, np.ndarray], Any, bool, bool, dict[str, Any]]: ...
    def close(self) -> None: ...


class Pairs(Protocol):
    """Starts and goals: state arrays (P, S) in the world's units, a seed per pair (P,).

    vary: what each episode draws anew from its seed: other looks, other physics.
    shown: which pictures show those looks, "both", "scene" or "goal".
    rule: what counts as success, in words, or nothing.
    """

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def start(self) -> np.ndarray: ...
    @property
    def goal(self) -> np.ndarray: ...
    @property
    def seed(self) -> np.ndarray: ...
    @property
    def offset(self) -> int: ...
    @property
    def budget(self) -> int: ...
    @property
    def vary(self) -> Sequence[str]: ...
    @property
    def rule(self) -> str: ...
    @property
    def shown(self) -> str: ...
    def options(self, index: int) -> dict[str, Any]:
        """The options of the reset that begins the episode of pair `index`."""

    def first_frames(self, index: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Start and goal as the agent is to see them, uint8 (H, W, 3); None: as the world draws them."""
