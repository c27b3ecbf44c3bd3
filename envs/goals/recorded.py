"""Start/goal pairs from a recording, chosen as the published LeWM evaluation chooses them.

A start is any recorded frame that has another one `offset` steps later in its episode; that one is the goal.
The model may have trained on these very frames, so what is measured is in-distribution, unlike `pairs`.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from latent_planner import envs

from ..recordings.episodes import EpisodeReader
from ..recordings.journal import RecordingError
from .base import Pairs

logger = logging.getLogger(__name__)
COUNT, OFFSET, BUDGET, SEED = 50, 25, 50, 42  # of the published evaluation


@dataclass(frozen=True)
class RecordedPairs(Pairs):
    """Pairs with their recorded frames, uint8 (P, H, W, 3), and the rows (P,) that the starts come from."""

    start_frames: np.ndarray = field(default_factory=lambda: np.empty(0))
    goal_frames: np.ndarray = field(default_factory=lambda: np.empty(0))
    rows: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def first_frames(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """The recorded frames of start and goal, uint8 (H, W, 3)."""
        return self.start_frames[index], self.goal_frames[index]


def load(
    path: Any,
    name: str,
    *,
    camera: str | None,
    state: str | None,
    seed: int,
    reference_look: bool,
    offset: int = OFFSET,
) -> RecordedPairs:
    """The pairs that `choose` takes from a file; warns where it shows the world otherwise than the model
    learned it, `reference_look` or not.

    Raises RecordingError.
    """
    with EpisodeReader(path, camera=camera, state=state) as reader:
        pairs = choose(reader, name, seed=seed, offset=offset, budget=2 * offset)
        look = shows_reference_look(reader, name)
        if look is not None and look != reference_look:
            looks = ("as ours does", "as the published one does")
            logger.warning(
                "%s shows %s %s, and the model learned it looking %s: its frames will seem strange",
                path, name, looks[not reference_look], looks[reference_look],
            )  # fmt: skip
    return pairs


def choose(
    reader: Any,
    name: str,
    *,
    count: int = COUNT,
    offset: int = OFFSET,
    budget: int = BUDGET,
    seed: int = SEED,
) -> RecordedPairs:
    """`count` pairs of the world `name` from an open recording, in order of rows; the same for the same seed.

    They are drawn without replacement from all rows with `offset` more steps in their episode, by the same
    calls as in the published program, so that equal files and seeds give equal starts.

    Raises:
        RecordingError: where there are too few such rows, or no states of that world.
    """
    if not envs.world_class(name).settable_states:
        raise RecordingError(f"{name} cannot be put into a recorded state: leave out benchmark.protocol=lewm")
    world = envs.make(name, image_size=16)
    names = ", ".join(world.state_names)
    size = reader.read("state", 0, 1).shape[1] if "state" in reader.columns else 0
    if size != len(world.state_names):
        raise RecordingError(
            f"{reader.path} has states of {size} numbers, and the world {name} needs "
            f"{len(world.state_names)} ({names}): say which column holds them, as in data.state=pos_agent"
        )
    starts = [
        np.arange(first, first + length - offset)
        for first, length in sorted(zip(reader.offsets.tolist(), reader.lengths.tolist()))
    ]
    valid = np.concatenate(starts)
    if len(valid) < count:
        raise RecordingError(
            f"{reader.path} has {len(valid)} frames with another one {offset} steps later, and {count} are "
            "needed: record longer episodes, or more of them"
        )
    rows = np.sort(valid[np.random.default_rng(seed).choice(len(valid), size=count, replace=False)])
    start, goal = (np.asarray(reader.read_rows("state", r), np.float64) for r in (rows, rows + offset))
    return RecordedPairs(
        name,
        f"recorded-seed{seed}",
        start,
        goal,
        seed=rows,
        offset=offset,
        budget=budget,
        start_frames=reader.read_rows("pixels", rows),
        goal_frames=reader.read_rows("pixels", rows + offset),
        rows=rows,
    )


def shows_reference_look(reader: Any, name: str, count: int = 4) -> bool | None:
    """Whether the recorded frames show the world `name` as its published version draws it, not as ours does.

    Told by drawing recorded states both ways; None where both look alike or no states tell.
    """
    if name not in envs.names() or "state" not in reader.columns:
        return None
    rows = np.linspace(0, reader.num_frames - 1, count).astype(int)
    pixels, size = reader.read_rows("pixels", rows).astype(float), reader.image_size
    states = reader.read_rows("state", rows)
    if pixels.shape[1] != pixels.shape[2] or not 16 <= size <= 1024:
        return None
    try:
        first = next(iter(getattr(reader, "cameras", ())), None)
        cameras = [first] if first in envs.world_class(name).views else None
        worlds = [
            envs.make(name, image_size=size, reference_look=look, cameras=cameras) for look in (False, True)
        ]
        ours, published = (
            sum(np.abs(world.render_state(s) - p).mean() for s, p in zip(states, pixels)) for world in worlds
        )
    except envs.WorldError:
        return None
    return None if ours == published else bool(published < ours)
