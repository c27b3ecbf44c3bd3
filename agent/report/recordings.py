"""What is cut out of recorded episodes, or played anew, for a section of the report."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

logger = logging.getLogger(__name__)

KNOWN = 0.9  # share of the rows in which a component of the state must be a finite number


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


@dataclass(frozen=True)
class Shift:
    """Start/goal pairs in other looks.   kind: "unseen" or "trained" looks, or those of the "goal" or the
    "scene" alone."""

    name: str
    kind: str
    pairs: Any


@dataclass(frozen=True)
class Shifts:
    """The looks that a world can have.

    shifts: pairs in other looks.   families: {name: whether training may draw it}, of words for the reset
    option "vary".   played: pairs of each that are played.   looks: what the model knows of its frames, as
    latent_planner.looks has it, or None.
    """

    shifts: Sequence[Shift]
    families: Mapping[str, bool]
    played: int
    looks: Any = None


def with_known_state(
    tracks: Mapping[Any, Sequence[Track]], names: Sequence[str]
) -> tuple[dict[Any, list[Track]], tuple[str, ...]]:
    """The tracks with finite states alone, and the names of the components that are left.

    A component that is often NaN or infinite is left out; of each track the longest stretch in which all
    others are finite is kept. Both are warned of.
    """
    whole = {name: list(some) for name, some in tracks.items()}
    states = [track.state for some in whole.values() for track in some]
    if any(state is None for state in states):
        return whole, tuple(names)
    finite = np.isfinite(np.concatenate(states))  # type: ignore[arg-type]
    if finite.all():
        return whole, tuple(names)
    kept = finite.mean(0) >= KNOWN
    for index in np.flatnonzero(~finite.all(0)).tolist():
        logger.warning(
            "the state %s is NaN or infinite in %d of %d rows: %s", names[index], (~finite[:, index]).sum(),
            len(finite), "these frames are left out" if kept[index] else "it is left out",
        )  # fmt: skip
    cut = {name: [_longest_known(track, kept) for track in some] for name, some in whole.items()}
    cut = {name: [track for track in some if len(track)] for name, some in cut.items()}
    if not kept.any() or not all(cut.values()):
        return {name: [replace(track, state=None) for track in some] for name, some in whole.items()}, ()
    return cut, tuple(name for name, keep in zip(names, kept) if keep)


def _longest_known(track: Track, kept: np.ndarray) -> Track:
    """The longest stretch of the track in which the `kept` components of the state are finite."""
    assert track.state is not None
    state = track.state[:, kept]
    breaks = np.flatnonzero(~np.isfinite(state).all(axis=1))
    edges = np.concatenate([[-1], breaks, [len(state)]])
    longest = int(np.diff(edges).argmax())
    first, stop = int(edges[longest]) + 1, int(edges[longest + 1])
    return Track(track.pixels[first:stop], track.actions[first : max(first, stop - 1)], state[first:stop])
