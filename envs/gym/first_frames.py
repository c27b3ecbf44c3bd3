"""A short look at a Gymnasium environment before thousands of frames of it are recorded.

The first episodes' beginnings are played in the collecting process itself: what is missing or fails comes up
there, frames that show nothing are refused, and the time they take says how long the recording will.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..world import WorldError
from .frames import blank, mujoco_model, nothing_drawn

LENGTHS = (13, 2, 25)  # frames of the beginnings that are played; the first warms up, the others are timed
PATIENCE = 60  # further frames, where nothing has changed so far
WORTH_SAYING = 120.0  # seconds that a recording may take without a word


def seconds_per_frame(name: str, play: Callable[[int, int], dict[str, np.ndarray]], length: int) -> float:
    """Seconds that a frame of the world `name` takes in this process, a share of the resets included.

    play: (number of the episode, most frames) -> its columns, pixels (T, H, W, 3) among them.
    length: frames of the episodes that will be recorded.

    Raises WorldError where all frames are equal, or each is of one colour.
    """
    took: list[float] = []
    counts: list[int] = []
    moving, visible = False, False
    first: np.ndarray | None = None
    for episode, most in enumerate((*LENGTHS, PATIENCE)):
        if most == PATIENCE and moving and visible:
            break
        began = time.perf_counter()
        pixels = play(episode, min(length, most))["pixels"]
        took.append(time.perf_counter() - began)
        counts.append(len(pixels))
        first = pixels[0] if first is None else first
        moving = moving or bool((pixels != first).any())
        visible = visible or not all(map(blank, pixels))
    frames = sum(counts)
    if not visible:
        black = "black" if pixels.max() < 4 else "of one colour"
        raise WorldError(nothing_drawn(name, f"draws frames that are all {black} ({frames} were looked at)"))
    if not moving:
        raise WorldError(nothing_drawn(name, f"draws frames that never change ({frames} were looked at)"))
    if counts[2] <= counts[1]:
        return sum(took) / frames
    each = max(0.0, took[2] - took[1]) / (counts[2] - counts[1])
    begin = max(0.0, took[1] - counts[1] * each)
    return each + begin / length


def cost(world: Any, seconds: float, frames: int, processes: int) -> str | None:
    """What `frames` more frames will take, and what makes them cheaper; None where they take no time."""
    total = seconds * frames / processes
    if total < WORTH_SAYING:
        return None
    can_be_plainer = mujoco_model(world.env) is not None and not world.says.plain
    smaller = "smaller frames, if the environment has options for that,"
    cheaper = "env.plain=true" if can_be_plainer else smaller
    cores = f"{processes} cores" if processes > 1 else "one core"
    return (
        f"{frames:,} frames at {1000 * seconds:.0f} ms each are about {total / 60:.0f} minutes on {cores}; "
        f"{cheaper} or fewer episodes (env.episodes=, --episodes) make it cheaper"
    )
