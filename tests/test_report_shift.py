"""Other looks in the report, on a world whose answer is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import known_world
import numpy as np
import pytest

from latent_planner import envs
from latent_planner.cli.reporting import shifts as shifts_of
from latent_planner.envs.goals import pairs as lists
from latent_planner.envs.looks.families import FAMILIES
from latent_planner.report import Evidence, Shift, Shifts, Skipped, shift
from latent_planner.report.section import Table
from latent_planner.report.sections import shift as section


@dataclass
class Pairs(known_world.Pairs):
    def options(self, index: int) -> dict[str, Any]:
        return {**super().options(index), "vary": list(self.vary), "shown": self.shown}

    def first(self, count: int) -> Pairs:
        return replace(self, start=self.start[:count], goal=self.goal[:count], seed=self.seed[:count])


class DressedWorld(known_world.KnownWorld):
    """Colours change places under "color.swapped", which the known models do not mind, and ground is black
    under "background.black", in which they see nothing."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        options = dict(options or {})
        self.vary, self.shown = options.pop("vary", []), options.pop("shown", "both")
        return super().reset(seed=seed, options=options)

    def _dressed(self, frame: np.ndarray) -> np.ndarray:
        frame = frame[..., ::-1].copy() if "color.swapped" in self.vary else frame
        return 255 - frame if "background.black" in self.vary else frame

    def _look(self) -> dict[str, np.ndarray]:
        seen = super()._look()
        return seen if self.shown == "goal" else {**seen, "pixels": self._dressed(seen["pixels"])}

    def _info(self) -> dict[str, Any]:
        info = super()._info()
        return info if self.shown == "scene" else {**info, "goal": self._dressed(info["goal"])}


class DarkIsStrange:
    """What a model knows that learned from bright pictures."""

    def of(self, world_model: Any, frames: np.ndarray, kind: str) -> list[Any]:
        return [SimpleNamespace(unfamiliarity=2 - frame.mean() / 128) for frame in frames]


def evidence(
    *words: str, model: str = "true", looks: Any = None, played: int = 6, shown: str = ""
) -> Evidence:
    usual = known_world.pairs()
    pairs = Pairs(usual.start, usual.goal, usual.seed)
    asked = [
        Shift(word, shown or "unseen", replace(pairs, vary=(word,), shown=shown or "both")) for word in words
    ]
    known = Shifts(asked, dict.fromkeys(words, False), played, looks)
    made: Evidence = known_world.evidence(model, make_env=DressedWorld, pairs=pairs, shifts=known)
    return made


def test_a_look_that_the_model_reads_keeps_its_success() -> None:
    found = shift(evidence("color.swapped"))
    assert found.good and [one.name for one in found.looks] == ["usual", "color.swapped"]
    assert [one.success for one in found.looks] == [1.0, 1.0] and found.looks[1].count == 6
    assert found.looks[0].auc is None and not found.families
    assert not np.array_equal(found.looks[0].strip[0], found.looks[1].strip[0])
    assert "strip" not in found.to_json()["looks"][0]
    assert "no looks.json" in found.finding


def test_a_look_that_it_cannot_read_is_found_and_whether_it_is_recognised() -> None:
    found = shift(evidence("color.swapped", "background.black", looks=DarkIsStrange()))
    usual, swapped, black = found.looks
    assert not found.good and black.success < 0.5 < swapped.success
    assert (usual.unfamiliar, swapped.unfamiliar, black.unfamiliar) == (0, 0, 1)
    assert black.auc == 1 and 0.3 < swapped.auc < 0.7
    assert [(one.name, one.unfamiliar) for one in found.families] == [
        ("usual", 0), ("color.swapped", 0), ("background.black", 1)
    ]  # fmt: skip
    assert "background.black 1.00" in found.finding and "color.swapped 1" not in found.finding.split("ROC")[1]
    titles = [shown.title for shown in section.draw(found)]
    assert len(titles) == len(set(titles)) == 4
    table = next(shown.content for shown in section.draw(found) if isinstance(shown.content, Table))
    assert [row[0] for row in table.rows] == ["usual", "color.swapped", "background.black"]


def test_a_goal_in_another_look_than_the_scene_shows_both_in_the_strip() -> None:
    found = shift(evidence("background.black", shown="goal", looks=DarkIsStrange()))
    scene, goal = found.looks[1].strip[:2]
    assert scene.mean() > 128 > goal.mean() and found.looks[1].unfamiliar == 1
    assert found.good  # looks of goals alone are shown, and decide nothing


def test_who_sees_nothing_fails() -> None:
    assert not shift(evidence("color.swapped", model="collapsed")).good


def test_without_looks_or_goals_it_is_left_out_with_a_sentence() -> None:
    with pytest.raises(Skipped, match="one look"):
        shift(known_world.evidence())
    with pytest.raises(Skipped, match="no goals in other looks"):
        shift(evidence("color.swapped", played=0))
    for lacking in ("make_env", "agent"):
        with pytest.raises(Skipped):
            shift(known_world.evidence(**{lacking: None}))


def test_every_unseen_and_trained_group_of_a_world_is_played() -> None:
    def make_env() -> envs.World:
        return envs.make("two_room", image_size=16)

    found = shifts_of(make_env, lists.load("two_room"), 3, None)
    assert found is not None and found.families == {one.name: one.trained for one in FAMILIES}
    groups = dict.fromkeys(one.group for one in FAMILIES)
    words = [f"{kind}.{group}" for kind in ("unseen", "trained") for group in groups]
    assert [one.name for one in found.shifts] == [
        *words, "unseen, goal alone", "unseen, scene alone", "photograph, goal alone"
    ]  # fmt: skip
    last = found.shifts[-1].pairs
    assert last.shown == "goal" and last.vary == ("photograph",)
    with make_env() as env:
        _, info = env.reset(seed=1, options=last.options(0))
        assert info["factors"] and np.array_equal(last.start, lists.load("two_room").start)
    assert shifts_of(None, None, 3, None) is None
