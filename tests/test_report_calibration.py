"""Calibration on a world whose answer is known, and the warning that plan.py draws from it."""

from __future__ import annotations

from dataclasses import replace

import known_world
import numpy as np
import pytest

from latent_planner.evaluation import reachability as reach
from latent_planner.report import calibration
from latent_planner.report.sections import calibration as section

STRANGE = np.full((6, known_world.SIZE, known_world.SIZE, 3), 255, np.uint8)  # dark corners: dot and hand are
STRANGE[:, :4, :4] = STRANGE[:, -4:, -4:] = 0  # where they never can be


@pytest.fixture(scope="module")
def true() -> section.Calibration:
    pairs = replace(known_world.pairs(), budget=16)  # too few steps for the farthest goals
    return calibration(known_world.evidence(foreign=STRANGE, pairs=pairs))


def test_the_simulator_gets_what_it_expects(true) -> None:
    assert true.good and true.agreement > 0.999
    assert min(true.agreement_near, true.agreement_far) > 0.999
    assert np.allclose(true.expected, true.happened, atol=0.05)
    assert len(true.near.expected) == 12 and true.near.reached.all()


def test_it_knows_what_is_out_of_reach(true) -> None:
    told = true.telling
    assert told.auc > 0.9 and told.auc_foreign == 1
    assert told.false_alarms <= 0.1 and told.warned > 0.5
    kept = np.concatenate([goals.expected[goals.reached] for goals in (true.near, true.far)])
    assert told.threshold == pytest.approx(np.quantile(kept, 0.95))
    assert sum(group.count for group in true.reliability) == len(true.near.reached) + len(true.far.reached)
    assert len(section.draw(true)) == 3


def test_who_sees_nothing_fails() -> None:
    found = calibration(known_world.evidence("collapsed", foreign=STRANGE))
    assert not found.good and found.agreement < 0.5


def test_the_threshold_belongs_to_its_weights(tmp_path) -> None:
    assert reach.load(tmp_path, "abc") is None
    reach.save(tmp_path, 3.5, "abc")
    assert reach.load(tmp_path, "abc") == 3.5 and reach.load(tmp_path, "other") is None
    (tmp_path / reach.FILE).write_text("[1]")
    assert reach.load(tmp_path, "abc") is None


class Laid(known_world.KnownWorld):
    """The hand is part of the layout, as a wall with a door may be: start and goal show it alike."""

    def reset(self, *, seed=None, options=None):
        if "goal_state" in options and options["goal_state"][2] != options["state"][2]:
            raise ValueError("another layout")
        return super().reset(seed=seed, options=options)


def test_far_goals_are_such_as_the_world_takes() -> None:
    pairs = known_world.pairs()
    goal = np.column_stack([pairs.goal[:, :2], pairs.start[:, 2]])
    found = calibration(known_world.evidence(pairs=replace(pairs, goal=goal), make_env=Laid))
    assert len(found.far.expected) == 12 and found.agreement > 0.999
