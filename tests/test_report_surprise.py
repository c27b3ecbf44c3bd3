"""Surprise on a world whose answer is known, and the statistics behind it."""

from __future__ import annotations

import known_world
import numpy as np
import pytest

from latent_planner.report import Evidence, Skipped, Track, surprise
from latent_planner.report.sections import surprise as section
from latent_planner.report.statistics import (
    correlation,
    effect_size,
    fit_linear,
    paired_test,
    r_squared,
    ranks,
    roc_auc,
    spearman,
)

PHYSICAL = {"x moved", "y moved", "hand moved", "time reversed", "frozen"}


def test_the_simulator_is_surprised_by_all_that_cannot_be_and_by_nothing_else() -> None:
    found = surprise(known_world.evidence(plan=False), pairs=60)
    assert found.good and not found.skipped and set(found.violations) == {*PHYSICAL, section.COLOURS}
    for name in PHYSICAL:
        one = found.violations[name]
        assert one.physical and one.auc > 0.99 and one.p < 0.001 and one.effect > 0.5 and one.higher == 1
        before, at = one.curve_odd[: found.moment - 1, 1], one.curve_odd[found.moment - 1, 1]
        assert at > 1000 * before.max()
    colours = found.violations[section.COLOURS]  # the model sees dark places, whatever their colour
    assert not colours.physical and colours.auc == 0.5 and colours.p == 1 and colours.effect == 0
    moved = found.violations["hand moved"]  # after the jump the world obeys physics again
    assert moved.curve_odd[found.moment :, 1].max() < 1e-3 * moved.curve_odd[found.moment - 1, 1]
    assert found.violations["frozen"].curve_odd[found.moment :, 1].min() > 1e-3
    assert len(section.draw(found)) == 3 + len(found.violations)
    assert "frames" not in found.to_json()["violations"]["frozen"]


@pytest.mark.parametrize("model", ["collapsed", "blind"])
def test_who_knows_nothing_of_the_world_fails(model: str) -> None:
    found = surprise(known_world.evidence(model, plan=False), pairs=60)
    assert not found.good
    frozen = found.violations["frozen"]  # what it always expects
    assert frozen.auc < 0.1 and frozen.p > 0.9
    if model == "collapsed":
        assert all(abs(one.auc - 0.5) < 0.2 for name, one in found.violations.items() if name != "frozen")
    section.draw(found)


def test_without_a_world_only_the_recording_is_turned_about() -> None:
    found = surprise(known_world.evidence(plan=False, make_env=None), pairs=60)
    assert set(found.violations) == {"time reversed", "frozen", section.COLOURS}
    assert "needs recorded states" in found.skipped["objects moved"] and found.good


def test_a_world_that_draws_otherwise_is_not_compared_with() -> None:
    class Other(known_world.KnownWorld):
        def _look(self) -> dict[str, np.ndarray]:
            return {**super()._look(), "pixels": 255 - super()._look()["pixels"]}

    found = surprise(known_world.evidence(plan=False, make_env=Other), pairs=60)
    assert "differently" in found.skipped["x moved"] and found.good


def test_grey_frames_have_no_colours_to_change_and_short_episodes_no_time() -> None:
    def grey(track: Track) -> Track:
        pixels = track.pixels.min(-1, keepdims=True).repeat(3, -1)
        return Track(pixels, track.actions)

    tracks = [grey(track) for track in known_world.tracks(4, 11, seed=4)]
    model = known_world.TrueModel().eval()
    found = surprise(Evidence(model, fit=tracks, held_out=tracks))
    assert "not change" in found.skipped[section.COLOURS]
    short = [grey(track) for track in known_world.tracks(2, 3, seed=4)]
    with pytest.raises(Skipped, match="long enough"):
        surprise(Evidence(model, fit=short, held_out=short))


class TestStatistics:
    def test_ranks_and_auc_share_ties(self) -> None:
        assert ranks(np.array([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]
        assert roc_auc(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 1
        assert roc_auc(np.array([0.0, 2.0]), np.array([1.0, 3.0])) == 0.75
        assert roc_auc(np.zeros(3), np.zeros(4)) == 0.5

    def test_correlations(self) -> None:
        a = np.random.default_rng(0).normal(size=50)
        assert spearman(a, np.exp(a)) == pytest.approx(1) and spearman(a, -a) == pytest.approx(-1)
        assert correlation(a, np.zeros(50)) == 0 and spearman(np.ones(50), a) == 0
        assert correlation(a, 3 * a + 1) == pytest.approx(1)

    def test_the_paired_test_is_right_about_chance(self) -> None:
        random = np.random.default_rng(0)
        p = [paired_test(random.normal(size=12), seed=i) for i in range(60)]
        assert 0.35 < np.mean(p) < 0.65 and np.mean(np.array(p) < 0.1) < 0.25
        assert paired_test(np.ones(5)) == pytest.approx(1 / 32, abs=0.006)  # all signs must be +
        assert paired_test(np.ones(40)) < 0.001 and paired_test(-np.ones(40)) > 0.99
        assert paired_test(np.zeros(5)) == 1
        assert effect_size(np.array([1.0, 3.0])) == pytest.approx(2 / np.sqrt(2))
        assert effect_size(np.ones(1)) == 0

    def test_ridge_finds_the_map_and_leaves_constants_alone(self) -> None:
        x = np.random.default_rng(0).normal(size=(400, 3)) * [1, 10, 0] + 5
        y = x @ np.array([[1.0], [0.5], [7.0]]) - 2
        read = fit_linear(x, y, penalty=1e-9)
        assert np.allclose(read(x), y) and read.weights[2] == 0
        assert r_squared(read(x), y)[0] == pytest.approx(1)
        assert r_squared(np.zeros((4, 1)), np.zeros((4, 1)))[0] == 0
