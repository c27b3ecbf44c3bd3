"""Planning on a world whose answer is known, and failures that are told apart."""

from __future__ import annotations

import known_world
import numpy as np
import pytest

from latent_planner.evaluation.video import Clip
from latent_planner.report import Skipped, planning
from latent_planner.report.section import Film
from latent_planner.report.sections import planning as section


def test_who_knows_the_world_reaches_its_goals() -> None:
    found = planning(known_world.evidence())
    assert found.good and found.reached.success == 1 and not found.failures
    assert set(found.floors) == {"random", "still"} and found.floors["still"].success == 0
    assert len(found.groups) == 4 and sum(group.count for group in found.groups) == 12
    assert all(a.farthest <= b.nearest for a, b in zip(found.groups, found.groups[1:]))
    assert list(found.films) == ["best"] and "films" not in found.to_json()
    films = [shown for shown in section.draw(found) if isinstance(shown.content, Film)]
    assert len(films) == 1 and films[0].content.frames[0].dtype == np.uint8


def test_who_sees_nothing_fails() -> None:
    found = planning(known_world.evidence("collapsed"))
    assert not found.good and found.reached.success < 0.5
    assert sum(found.failures.values()) == 12 - round(12 * found.reached.success) == len(found.kinds)
    assert "worst" in found.films and set(found.failures) <= set(section.KINDS)


def test_each_kind_of_failure_is_told_from_its_distances() -> None:
    frame = np.zeros((8, 8, 3), np.uint8)

    def episode(distances: list[float], reached: bool = False) -> Clip:
        count = len(distances)
        return Clip([frame] * count, frame, distances, count - 1, count - 1 if reached else None)

    down = list(np.linspace(10, 1, 11))
    played = [
        episode(down, reached=True),
        episode([*down[:-1], 0.9]),
        episode(list(np.linspace(10, 5, 11))),
        episode([10, 6, 4, 3, 4, 6, 8, 9, 9, 9, 9]),
        episode([10, 9, 9, 9, 9, 10, 10, 10, 10, 10, 9]),
    ]
    assert section.failure_kinds(played) == dict(enumerate(section.KINDS, 1))


def test_without_a_world_or_goals_it_is_skipped() -> None:
    for lacking in ("make_env", "pairs", "agent"):
        with pytest.raises(Skipped):
            planning(known_world.evidence(**{lacking: None}))
