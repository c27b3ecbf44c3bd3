"""What is cut out of recorded episodes, or played anew, for a section of the report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Track:
    """One recorded episode, every frame of it.

    pixels: uint8 (T, h, w, 3).   actions: float32 (T - 1, A), world's units; actions[t] follows frame t.
    state: float64 (T, S), or None.
    """

    pixels: np.ndarray
    actions: np.ndarray
    state: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.pixels)


@dataclass(frozen=True)
class Frames:
    """n frames of some episodes: latents (n, D), states (n, S) or None, and where each is from."""

    latents: np.ndarray
    state: np.ndarray | None
    episode: np.ndarray  # (n,) index into evidence.tracks[split]
    frame: np.ndarray  # (n,) index into that episode


@dataclass(frozen=True)
class Windows:
    """n stretches of an episode, K model steps each: K + 1 frames that lie frameskip env steps apart.

    latents (n, K + 1, D); blocks (n, K, F·A), normalised; state (n, K + 1, S) or None; episode, frame (n,):
    the episode, and the index of the first frame in it.
    """

    latents: np.ndarray
    blocks: np.ndarray
    state: np.ndarray | None
    episode: np.ndarray
    frame: np.ndarray


@dataclass(frozen=True)
class Played:
    """What the world showed: frames (n, T, h, w, 3) and states (n, T, S), T counted as `simulate` says."""

    pixels: np.ndarray
    state: np.ndarray
