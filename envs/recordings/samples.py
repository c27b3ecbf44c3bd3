"""A few thousand frames to compare others with: from a recording, or recorded on the spot."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np

from .collect import collect
from .episodes import EpisodeReader

LENGTH = 100  # steps an episode


def sample_frames(
    name: str,
    count: int,
    image_size: int,
    recording: str | os.PathLike | None = None,
    *,
    progress: bool = True,
) -> np.ndarray:
    """Up to `count` frames, uint8 (n, H, W, 3), spread evenly over a recording of the world `name`.

    Without a recording, its behaviour policy plays for as long as that takes. Raises RecordingError.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "some.h5" if recording is None else Path(recording)
        if recording is None:
            episodes = -(-count // LENGTH)
            collect(
                name,
                path,
                episodes=episodes,
                length=LENGTH,
                image_size=image_size,
                workers=1,
                progress=progress,
            )
        with EpisodeReader(path) as reader:
            rows = np.unique(np.linspace(0, reader.num_frames - 1, count).astype(int))
            return reader.read_rows("pixels", rows)
