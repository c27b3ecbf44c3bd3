"""A recording of two cameras and a vector, small enough to train on in a second.

A square moves in two dimensions under its actions. `front` shows where it is across, `wrist` where it is
down, each as a bar over the whole frame; the vector says both, and how fast it was.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from latent_planner.envs.recordings.episodes import EpisodeWriter

FRONT, WRIST = (32, 32), (24, 40)  # rows and columns of their frames
NAMES = ["across", "down", "speed_across", "speed_down"]


def look(place: np.ndarray) -> dict[str, np.ndarray]:
    """What is seen at a place (2,) in [0, 1]."""
    front, wrist = (np.full((*size, 3), 30, np.uint8) for size in (FRONT, WRIST))
    column, row = int(place[0] * 26), int(place[1] * 18)
    front[:, column : column + 6] = (230, 60, 40)
    wrist[row : row + 6] = (40, 220, 90)
    return {"front": front, "wrist": wrist}


def write(path: Path, *, episodes: int = 10, length: int = 24, seed: int = 0, **attrs: object) -> Path:
    """Record it into `path`, as `pixels` (the front), `pixels_wrist` and `proprio`."""
    rng = np.random.default_rng(seed)
    said = {"env": "recorded", "camera": "front", "control_hz": 10, "proprio_names": NAMES}
    with EpisodeWriter(path, attrs={**said, **attrs}) as writer:
        for _ in range(episodes):
            place, speed, columns = rng.uniform(0.2, 0.8, 2), np.zeros(2), []
            actions = rng.uniform(-1, 1, (length, 2)).astype(np.float32)
            for action in actions:
                seen = look(place)
                columns.append((seen["front"], seen["wrist"], np.hstack([place, speed])))
                speed = 0.08 * action
                place = np.clip(place + speed, 0, 1)
            front, wrist, vector = (np.array(values) for values in zip(*columns))
            writer.append(
                {
                    "pixels": front,
                    "pixels_wrist": wrist,
                    "proprio": vector.astype(np.float32),
                    "action": actions,
                }
            )
    return path
