"""Imagination on a world whose answer is known: the simulator is never wrong, the collapsed model always."""

from __future__ import annotations

import known_world
import numpy as np
import pytest

from latent_planner.report import imagination
from latent_planner.report.sections import imagination as section


@pytest.fixture(scope="module")
def true() -> section.Imagination:
    return imagination(known_world.evidence(plan=False), decoder_steps=60)


def test_the_simulator_imagines_what_happens(true) -> None:
    assert true.good and true.better_until == 20 and list(true.steps) == list(range(1, 21))
    assert true.error.max() < 1e-4 and (true.still > 0.01).all()
    assert np.abs(true.mean - 1).max() < 0.25
    assert true.recorded.error.max() < 1e-3 and true.tried is not None and true.tried.error.max() < 1e-3
    assert true.tried.unusual.max() > true.recorded.unusual.max()


def test_its_paths_are_shown_as_recorded_and_as_decoded_frames(true) -> None:
    assert len(true.paths) == 3 and true.columns == section.COLUMNS
    for path in true.paths:
        assert {frames.shape for frames in path.values()} == {(9, 64, 64, 3)}
    assert 0.2 < true.decoded <= 1
    titles = [shown.title for shown in section.draw(true)]
    assert titles[:2] == ["Error against how far ahead", "Error against how unusual the action is"]
    assert "paths" not in true.to_json() and len(true.to_json()["error"]) == 20


@pytest.mark.parametrize("model", ["blind", "collapsed"])
def test_who_imagines_nothing_fails(model: str) -> None:
    found = imagination(known_world.evidence(model, plan=False), decoder_steps=1)
    assert not found.good and found.better_until == 0
    assert np.allclose(found.error, found.still)
