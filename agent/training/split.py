"""Which episodes of a recording are trained on, and which are held out."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Literal

import numpy as np

logger = logging.getLogger(__name__)

Split = Literal["train", "held_out"]
SPLITS: tuple[Split, Split] = ("train", "held_out")


class DatasetError(ValueError):
    """A recording cannot be trained on as asked; the message says why and what to do."""


def split_parts(
    lengths: np.ndarray,
    parts: Sequence[int],
    *,
    num_frames: int,
    frameskip: int,
    held_out: float,
    seed: int,
    name: str,
) -> dict[Split, np.ndarray]:
    """As `split_episodes`, each part by itself: the first is split as if it were alone, whatever came later.

    parts: how many episodes each has.   Of later parts those without two usable episodes are left out.
    """
    windows = {"num_frames": num_frames, "frameskip": frameskip}
    found: dict[Split, list[np.ndarray]] = {split: [] for split in SPLITS}
    first = 0
    for count in parts:
        try:
            some = split_episodes(
                lengths[first : first + count], **windows, held_out=held_out, seed=seed, name=name
            )
        except DatasetError:
            if first == 0:
                raise
            logger.warning("the %d episodes from number %d on are too short to learn from", count, first)
            some = {split: np.zeros(0, np.int64) for split in SPLITS}
        for split in SPLITS:
            found[split].append(some[split] + first)
        first += count
    return {split: np.concatenate(found[split]) for split in SPLITS}


def split_episodes(
    lengths: np.ndarray, *, num_frames: int, frameskip: int, held_out: float, seed: int, name: str
) -> dict[Split, np.ndarray]:
    """Indices of training and held-out episodes, ascending, without those shorter than a window.

    lengths: (E,) frames.   name: of the recording, for the sentences of DatasetError; the rest as for
    WindowDataset, which splits with this.
    """
    span = (num_frames - 1) * frameskip + 1
    if len(lengths) == 0:
        raise DatasetError(f"{name} holds no complete episode: record some first")
    long_enough = np.flatnonzero(lengths >= span)
    window = f"the window of {span} ({num_frames} frames, {frameskip} steps apart)"
    if len(long_enough) == 0:
        raise DatasetError(
            f"every episode of {name} is shorter than {window}, the longest has {lengths.max()} "
            "frames: record longer episodes, or lower num_frames or frameskip"
        )
    if len(long_enough) < len(lengths):
        short = len(lengths) - len(long_enough)
        logger.warning("%d episodes are shorter than %s and are left out", short, window)
    if not 0 < held_out < 1:
        raise DatasetError(f"held_out is a share between 0 and 1, not {held_out}")
    if len(long_enough) < 2:
        raise DatasetError(f"{name} has one usable episode; record at least one more to hold out")
    count = min(max(1, round(held_out * len(long_enough))), len(long_enough) - 1)
    shuffled = np.random.default_rng(seed).permutation(long_enough)
    return {"train": np.sort(shuffled[count:]), "held_out": np.sort(shuffled[:count])}
