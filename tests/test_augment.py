"""Other looks of recorded frames: drawn from a seed, and nothing lies on what matters."""

from __future__ import annotations

import numpy as np
import pytest

from latent_planner.training.robust.augment import augmented

SIDE = 16  # of the thing


def recorded(height: int, width: int, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """A red square on white: frames uint8 (n, h, w, 3), and where its corners are (n, 2)."""
    rng = np.random.default_rng(0)
    corners = np.stack([rng.integers(0, size - SIDE, count) for size in (height, width)], 1)
    frames = np.full((count, height, width, 3), 255, np.uint8)
    for frame, (top, left) in zip(frames, corners):
        frame[top : top + SIDE, left : left + SIDE] = (200, 30, 30)
    return frames, corners


@pytest.mark.random
@pytest.mark.parametrize(("height", "width"), [(64, 64), (50, 90)])
def test_the_ground_is_cluttered_and_things_are_not(height: int, width: int) -> None:
    frames, corners = recorded(height, width)
    seen = augmented(frames, seed=1).astype(int)
    assert seen.shape == frames.shape
    uneven = 0
    for frame, (top, left) in zip(seen, corners):
        inside = frame[top + 2 : top + SIDE - 2, left + 2 : left + SIDE - 2].reshape(-1, 3)
        assert np.ptp(inside, axis=0).max() <= 1  # one colour, as recorded: its edges may be blurred
        outside = np.ones((height, width), bool)
        outside[max(0, top - 2) : top + SIDE + 2, max(0, left - 2) : left + SIDE + 2] = False
        uneven += np.ptp(frame[outside], axis=0).max() > 20
    assert uneven > len(seen) / 2


def test_the_seed_says_all() -> None:
    frames, _ = recorded(64, 64, count=20)
    assert np.array_equal(augmented(frames, seed=3), augmented(frames, seed=3))
    assert not np.array_equal(augmented(frames, seed=3), augmented(frames, seed=4))
