"""Soundness under attack on a world whose answer is known."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import known_world
import numpy as np
import pytest

from latent_planner.report import Skipped, soundness
from latent_planner.report.attack import nearest
from latent_planner.report.section import Film
from latent_planner.report.sections import soundness as section

QUICK = {"starts": 3, "samples": 10, "rounds": 4}


@lru_cache
def found(model: str) -> Any:
    return soundness(known_world.evidence(model, plan=False), **QUICK)


def test_nothing_makes_the_simulator_disagree_with_itself() -> None:
    true = found("true")
    assert true.good and true.attack.worst < 0.02 and "rounding" in true.finding
    assert true.ranking.first == 1 and set(true.ranking.beaten.values()) == {1.0}
    assert true.ranking.chance < 0.15 and len(true.ranking.mistakes) == 0
    faithful = true.fidelity
    assert min(faithful.limit.min(), faithful.random.min(), faithful.found.min()) > 0.99


def test_a_collapsed_model_fails() -> None:
    collapsed = found("collapsed")
    assert not collapsed.good and collapsed.attack.random > 0.7
    assert collapsed.ranking.first < 0.1 and collapsed.fidelity.random.mean() < 0.5
    section.draw(collapsed)


def test_the_search_finds_worse_than_chance_where_there_is_worse() -> None:
    blind = found("blind")  # the farther the world goes, the more it is wrong
    attack = blind.attack
    assert not blind.good and attack.ratio > 1.5 and attack.found > attack.plays["random"].disagreement.max()
    assert (np.diff(attack.found_steps) > 0).all() and attack.rounds == 4 and attack.sequences == 120
    actions = attack.plays["found"].blocks * 0.5
    assert np.abs(actions).max() <= 1 + 1e-6  # inside the bounds
    assert blind.ranking.beaten["nothing moved"] == 0 and blind.ranking.first == 0
    assert blind.ranking.beaten["hand elsewhere"] > 0.7 and len(blind.ranking.mistakes) == 5
    assert blind.fidelity.limit.min() > 0.99 > blind.fidelity.found.min()


def test_what_was_found_is_drawn_and_told() -> None:
    shown = section.draw(found("blind"))
    films = [one.content for one in shown if isinstance(one.content, Film)]
    assert len(films) == 1 and len(films[0].frames) == 5 * known_world.FRAMESKIP + 1 + section.HELD
    assert films[0].frames[0].dtype == np.uint8 and films[0].frames[0].ndim == 3
    numbers = found("blind").to_json()
    assert "plays" not in numbers["attack"] and numbers["attack"]["coverage"]["edge"] > 0


def test_actions_beyond_those_recorded_are_not_covered() -> None:
    calm = tuple(
        type(track)(track.pixels[:1].repeat(41, 0), 0 * track.actions[:40], track.state[:1].repeat(41, 0))
        for track in known_world.tracks(12, 49, seed=1)
    )
    still = soundness(known_world.evidence(plan=False, fit=calm, held_out=calm), **QUICK)
    cover = still.attack.coverage
    assert cover.recorded == 0 and cover.random > 0.95


def test_nearest_is_the_nearest() -> None:
    points, known = np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[3.0, 3.0], [0.0, 1.0]])
    distance, which = nearest(points, known)
    assert np.allclose(distance, [1, 1]) and which.tolist() == [1, 0]


def test_without_a_world_or_states_it_is_skipped() -> None:
    for lacking in ({"make_env": None}, {"state_names": ()}):
        with pytest.raises(Skipped):
            soundness(known_world.evidence(plan=False, **lacking), **QUICK)
