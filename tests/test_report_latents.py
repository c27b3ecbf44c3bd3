"""Disentanglement and health of latents whose layout is known."""

from __future__ import annotations

import known_world
import numpy as np
import pytest

from latent_planner.report import Skipped, disentanglement, health
from latent_planner.report.distance import honesty, straightness
from latent_planner.report.section import picture, plain
from latent_planner.report.sections import disentanglement as laid_out
from latent_planner.report.sections import health as healthy

pytestmark = pytest.mark.random


def made(mix: np.ndarray, n: int = 2000, seed: int = 0) -> tuple[np.ndarray, ...]:
    """Latents and quantities (n, 3), uniform and independent, to fit on and to test on; latents = q @ mix."""
    values = np.random.default_rng(seed).uniform(-1, 1, (2, n, 3))
    return values[0] @ mix, values[0], values[1] @ mix, values[1]


class TestDisentanglement:
    def test_the_simulator_is_laid_out_perfectly(self) -> None:
        found = disentanglement(known_world.evidence(plan=False))
        assert found.good and found.names == ("x", "y", "hand_sin", "hand_cos") and not found.hidden
        assert found.generalisation.outside.min() > 0.999
        same = found.identifiability
        assert min(same.latent_to_state.min(), same.state_to_latent, same.mcc, same.mcc_axes) > 0.999
        apart = ~np.eye(4, dtype=bool)
        assert same.read[apart].min() > 89 and same.moved[apart].min() > 89
        assert found.tasks.needed == 4 and found.tasks.direct > 0.999
        assert len(laid_out.draw(found)) == 4 and found.finding

    def test_a_collapsed_model_fails_everywhere(self) -> None:
        found = disentanglement(known_world.evidence("collapsed", plan=False))
        assert not found.good and found.tasks.needed is None
        assert np.median(found.generalisation.outside) < 0.1 and abs(found.tasks.accuracy - 0.5) < 0.03
        assert found.identifiability.mcc < 0.2 and found.identifiability.state_to_latent < 0.05
        laid_out.draw(found)
        plain(found)

    def test_constant_latents_are_no_error(self) -> None:
        data = made(np.zeros((3, 5)))
        same = laid_out.identifiability(*data)
        assert abs(same.mcc) < 1e-9 and same.mcc_axes == same.state_to_latent == 0
        assert np.isnan(same.read).all()
        assert laid_out.tasks(*data, most=8).needed is None
        assert (laid_out.generalisation(*data).outside < 0.05).all()

    def test_a_rotation_hides_the_axes_and_nothing_else(self) -> None:
        rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
        same = laid_out.identifiability(*made(rotation))
        assert same.mcc > 0.999 and same.mcc_axes < 0.95
        assert same.read[~np.eye(3, dtype=bool)].min() > 88

    def test_slanted_directions_are_seen(self) -> None:
        mix = np.array(
            [[1, 0, 0], [1, 1, 0], [0, 0, 1.0]]
        )  # the second moves along the first's direction too
        same = laid_out.identifiability(*made(mix))
        assert same.moved[0, 1] == pytest.approx(45, abs=2) and same.moved[0, 2] > 88
        assert same.read[0, 1] == pytest.approx(45, abs=2)

    def test_a_code_for_each_region_reads_well_and_does_not_generalise(self) -> None:
        _, values, _, others = made(np.eye(3))

        def coded(v: np.ndarray) -> np.ndarray:  # another set of coordinates on either side
            left = v[:, :1] < np.median(values[:, 0])
            return np.concatenate([v * left, v * ~left, left], 1)

        found = laid_out.generalisation(coded(values), values, coded(others), others)
        assert found.inside[0].min() > 0.99 and found.outside[0].max() < 0.5

    def test_tasks_recover_no_more_than_they_ask(self) -> None:
        found = laid_out.tasks(*made(np.eye(3)), most=16)
        recovered = dict(zip(found.counts, found.recovered))
        assert found.needed == 3 and recovered[1] < 0.4 < recovered[2] < 0.8
        half = made(np.diag([1.0, 1.0, 0.0]))  # the third quantity is not in the latent
        assert laid_out.tasks(*half, most=32).needed is None

    def test_without_state_it_is_skipped(self) -> None:
        with pytest.raises(Skipped, match="no state"):
            disentanglement(known_world.evidence(plan=False, state_names=()))


class TestHealth:
    def test_the_simulator_is_healthy_and_honest(self) -> None:
        found = health(known_world.evidence(plan=False))
        assert found.good and found.honesty is not None
        assert found.shape.effective_rank > 3.5 and found.shape.std.min() > 0.9
        assert found.honesty.correlation > 0.98 and found.honesty.nearer_overall > 0.95
        assert found.honesty.share.sum() == pytest.approx(1, abs=0.02) and found.honesty.share.min() > 0.2
        assert found.straightness["latents"] == pytest.approx(found.straightness["state"], abs=0.02)
        assert len(healthy.draw(found)) == 8
        assert "pairs" not in found.to_json()["honesty"]

    def test_a_collapsed_model_is_ill(self) -> None:
        found = health(known_world.evidence("collapsed", plan=False))
        assert not found.good and found.honesty is not None
        assert found.shape.effective_rank < 1.1 and found.shape.std.max() < 0.01
        assert found.shape.sigreg > 20 * found.shape.sigreg_expected[1]
        assert abs(found.honesty.correlation) < 0.1 and abs(found.honesty.nearer_overall - 0.5) < 0.05
        healthy.draw(found)

    def test_without_state_the_shape_is_told_alone(self) -> None:
        found = health(known_world.evidence(plan=False, state_names=(), make_env=None))
        assert found.good and found.honesty is None and "state" not in found.straightness
        assert len(healthy.draw(found)) == 3

    def test_gaussian_latents_have_the_value_that_is_expected(self) -> None:
        latents = np.random.default_rng(0).normal(size=(4096, 16))
        found = healthy.shape(latents)
        low, high = found.sigreg_expected
        assert low < found.sigreg < high and found.sigreg == pytest.approx(1.05, abs=0.1)
        assert found.coupling < 0.03 and abs(found.kurtosis).max() < 0.5
        assert np.abs(found.seen - found.normal).max() < 0.3
        assert healthy.shape(latents * 0.3).sigreg > 5 * high

    def test_distance_that_ignores_a_quantity_shows_which(self) -> None:
        values = np.random.default_rng(0).normal(size=(1500, 2))
        found = honesty(values * [1.0, 0.0], values, np.arange(1500) // 50)
        assert found.share[0] > 0.9 and found.share[1] < 0.05 and found.correlation < 0.8
        near, _ = found.worst(3)
        apart = np.abs(values[near[:, 0]] - values[near[:, 1]])
        assert (apart[:, 1] > 5 * apart[:, 0]).all()  # held for near: they differ in what is not seen

    def test_distance_that_saturates_fails_far_away(self) -> None:
        values = np.random.default_rng(0).uniform(0, 10, (1500, 1))
        latents = np.exp(-np.square(values - np.arange(0, 11)))  # places that each answer to their vicinity
        found = honesty(latents, values, np.arange(1500) // 50)
        assert found.by_distance[0] > 0.9 > 0.5 > found.by_distance[3:].max()

    def test_straightness_of_known_paths(self) -> None:
        time = np.arange(10.0)[:, None]
        line, zigzag = time * [1.0, 2.0], np.concatenate([time % 2, 0 * time], 1)
        corner = np.array([[0, 0], [1, 0], [1, 1], [2, 1], [2, 2.0]])
        assert straightness([line]) == pytest.approx(1) and straightness([zigzag]) == pytest.approx(-1)
        assert straightness([corner]) == pytest.approx(0) and straightness([np.zeros((5, 2))]) == 0
        assert straightness([]) == 0


def test_what_is_for_drawing_stays_out_of_the_numbers() -> None:
    assert picture().metadata["json"] is False
