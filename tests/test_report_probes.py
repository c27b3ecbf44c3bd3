"""Probes on a world whose answer is known: all is in the simulator's latents, nothing in collapsed ones."""

from __future__ import annotations

from dataclasses import replace

import known_world
import pytest

from latent_planner.report import Skipped, Table, Track, probes
from latent_planner.report.sections import probes as section

pytestmark = pytest.mark.random


@pytest.fixture(scope="module")
def true() -> section.Probes:
    return probes(known_world.evidence(plan=False), frames=1500)


def test_the_simulators_state_is_read_from_its_latents(true) -> None:
    assert true.good and [q.name for q in true.quantities] == ["x", "y", "hand_sin", "hand_cos"]
    assert all(q.linear_r2 > 0.999 and q.linear_r > 0.999 and q.mlp_r2 > 0.99 for q in true.quantities)
    assert true.fit_frames == 1500 and true.held_out_frames == 375
    told = true.to_json()
    assert told["quantities"][0]["name"] == "x" and "true" not in told


def test_nothing_is_read_from_collapsed_latents() -> None:
    found = probes(known_world.evidence("collapsed", plan=False), frames=1500)
    assert not found.good and all(q.linear_r2 < 0.2 and q.mlp_r2 < 0.2 for q in found.quantities)
    assert "not so x, y, hand_sin, hand_cos" in found.finding


def test_published_figures_stand_beside_ours(true) -> None:
    known = section.PUBLISHED["pusht"]
    assert section._published("block_angle_sin", known) == (0.902, 0.990)
    assert section._published("agent_y", known) == (0.974, 0.998)
    assert section._published("agent_vx", known) == (None, None)
    ours = replace(true.quantities[0], lewm_linear_r=0.974, lewm_mlp_r=0.998)
    tables = [shown.content for shown in section.draw(replace(true, quantities=(ours,)))]
    table = next(each for each in tables if isinstance(each, Table))
    assert table.head[-1] == "LeWM r MLP" and table.rows[0][-2:] == ["0.974", "0.998"]


def test_without_state_it_is_skipped() -> None:
    bare = [Track(track.pixels, track.actions) for track in known_world.tracks(2, 9, seed=5)]
    with pytest.raises(Skipped, match="holds no state"):
        probes(known_world.evidence(fit=bare, held_out=bare, plan=False))
