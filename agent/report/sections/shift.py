"""Shift: what is reached in looks never trained on, and whether the model knows what it cannot see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ...evaluation import benchmark
from ...evaluation.plots import CAPTION
from .. import charts
from ..evidence import Evidence, Skipped
from ..recordings import Shift, Shifts
from ..section import Result, Section, Shown, Table, picture
from ..statistics import roc_auc
from .planning import Share

USUAL = "usual"
KEPT = 0.8  # share of the usual success from which a look counts as known
RECOGNISED = 0.95  # ROC-AUC that a look which lowers success should have
LOOKED_AT = 60  # pairs whose pictures are judged, played or not
FRAMES = 40  # of each family
STRIP = 10  # episodes shown of each look
COLOURS = {"usual": charts.GREY, "unseen": charts.VERMILION, "trained": charts.BLUE, "goal": charts.GREEN,
         "scene": charts.GREEN}  # fmt: skip


@dataclass(frozen=True)
class Reached(Share):
    """Goals reached in one look, `usual` first.

    kind: "usual", or of the Shift.   unfamiliar: share of the pairs whose start or goal is called unlike
    anything trained on; auc: ROC-AUC of that against pairs in the usual look. None where looks are unknown.
    """

    name: str
    kind: str
    unfamiliar: float | None
    auc: float | None
    strip: list[np.ndarray] = picture(default_factory=list)


@dataclass(frozen=True)
class Called:
    """Frames of one family of looks: the share called unfamiliar, and its ROC-AUC against the usual."""

    name: str
    trained: bool
    unfamiliar: float
    auc: float


@dataclass(frozen=True)
class ShiftResult(Result):
    """looks: the usual one, then the others.   floors: of random actions and of standing still, usual look.
    families: frames of each; empty where the checkpoint does not say what its frames look like."""

    looks: tuple[Reached, ...]
    floors: dict[str, Share]
    families: tuple[Called, ...]


def shift(evidence: Evidence) -> ShiftResult:
    """Play some pairs in the usual look, and the same in every other.

    Passes when every unseen group of looks keeps KEPT of the usual success, which lies above both floors.
    Skipped without agent, world, or pairs, and for a world that has one look.
    """
    agent, make_env, known = evidence.need_agent(), evidence.need_env(), evidence.shifts
    if known is None or not known.shifts:
        raise Skipped("this world has one look")
    if known.played < 1:
        raise Skipped("no goals in other looks were asked for")
    usual = Shift(USUAL, USUAL, evidence.pairs)
    strange = None if known.looks is None else _Judge(known.looks, evidence.world_model)
    found: list[Reached] = []
    floors: dict[str, Share] = {}
    ordinary = np.empty(0)
    for each in evidence.bar([usual, *known.shifts], "looks", "look"):
        pairs = _first(each.pairs, known.played)
        played = benchmark.run(
            agent.clone(), make_env, pairs, seed=evidence.seed, progress=False, quick=each is not usual
        )
        starts, goals = _pictures(make_env, _first(each.pairs, LOOKED_AT))
        away = None if strange is None else np.maximum(strange(starts, "scene"), strange(goals, "goal"))
        if each is usual:
            count = len(played["episodes"])
            floors = {n: Share(count, f["success"], *f["interval"]) for n, f in played["floors"].items()}
            ordinary = away if away is not None else ordinary
        found.append(_reached(each, played, starts, goals, away, ordinary))
    called = () if strange is None else _called(evidence, make_env, known, strange)
    return ShiftResult(_good(found, floors), _finding(found, called), tuple(found), floors, called)


class _Judge:
    """How unlike anything trained on pictures are: uint8 (n, h, w, 3) -> (n,), above 1: unlike."""

    def __init__(self, looks: Any, world_model: Any) -> None:
        self.looks, self.world_model = looks, world_model

    def __call__(self, frames: np.ndarray, kind: str) -> np.ndarray:
        judged = self.looks.of(self.world_model, frames, kind)
        return np.array([look.unfamiliarity for look in judged], float)


def _first(pairs: Any, count: int) -> Any:
    return pairs.first(min(count, len(pairs.start)))


def _pictures(make_env: Callable[[], Any], pairs: Any) -> tuple[np.ndarray, np.ndarray]:
    """First frames and goals of all pairs, (P, h, w, 3) each."""
    starts, goals = [], []
    with closing(make_env()) as env:
        for index in range(len(pairs.start)):
            seed = int(pairs.seed[index]) % 2**63
            observation, info = env.reset(seed=seed, options=pairs.options(index))
            starts.append(np.array(observation["pixels"]))
            goals.append(np.array(info["goal"]))
    return np.stack(starts), np.stack(goals)


def _reached(
    each: Shift,
    played: dict[str, Any],
    starts: np.ndarray,
    goals: np.ndarray,
    away: np.ndarray | None,
    ordinary: np.ndarray,
) -> Reached:
    """ordinary: of the pairs in the usual look."""
    auc = None if away is None or each.kind == USUAL else roc_auc(ordinary, away)
    unfamiliar = None if away is None else float((away > 1).mean())
    if each.kind in ("goal", "scene"):
        strip = [frame for pair in zip(starts, goals) for frame in pair][:STRIP]
    else:
        strip = list(starts[:STRIP])
    low, high = played["interval"]
    return Reached(
        len(played["episodes"]), played["success"], low, high, each.name, each.kind, unfamiliar, auc, strip
    )


def _called(
    evidence: Evidence, make_env: Callable[[], Any], known: Shifts, strange: _Judge
) -> tuple[Called, ...]:
    """Frames of each family, those of held-out episodes in the usual look first."""
    step = max(1, sum(map(len, evidence.tracks["held_out"])) // (10 * FRAMES))
    usual = strange(np.concatenate([track.pixels[::step] for track in evidence.tracks["held_out"]]), "scene")
    found = [Called(USUAL, True, float((usual > 1).mean()), 0.5)]
    states = evidence.pairs.start[:FRAMES]
    with closing(make_env()) as env:
        for name, trained in known.families.items():
            frames = [
                np.array(env.reset(seed=k, options={"state": state, "vary": [name]})[0]["pixels"])
                for k, state in enumerate(states)
            ]
            away = strange(np.stack(frames), "scene")
            found.append(Called(name, trained, float((away > 1).mean()), roc_auc(usual, away)))
    return tuple(found)


def _lost(found: Sequence[Reached]) -> list[Reached]:
    """The unseen looks that lower success."""
    return [one for one in found if one.kind == "unseen" and one.success < KEPT * found[0].success]


def _good(found: Sequence[Reached], floors: dict[str, Share]) -> bool:
    return all(found[0].low > floor.high for floor in floors.values()) and not _lost(found)


def _finding(found: Sequence[Reached], called: Sequence[Called]) -> str:
    usual, lost = found[0], _lost(found)
    others = "; ".join(f"{one.name} {one.success:.0%}" for one in found[1:] if one.kind != "trained")
    said = f"{usual.success:.0%} of {usual.count} goals reached in the usual look; {others}."
    if not called:
        return f"{said} The checkpoint has no looks.json, so it recognises no unfamiliar picture."
    if lost:
        known = ", ".join(f"{one.name} {one.auc:.2f}" for one in lost)
        said += f" Where success is lowered, unfamiliar pictures are recognised with a ROC-AUC of {known}."
    return f"{said} {called[0].unfamiliar:.0%} of usual frames are called unfamiliar."


def draw(found: ShiftResult) -> list[Shown]:
    shown = [
        Shown(
            "Goals reached in each look",
            f"The same {found.looks[0].count} goals in every look; lines are 95 % intervals, dashed is the "
            "usual look. Orange: looks that training never draws. Blue: looks that it may draw. Green: a "
            "look that the goal picture, or the scene, has alone.",
            _success(found.looks),
        ),
        Shown("In figures", _about_table(found), _table(found.looks)),
        Shown(
            "What the agent sees",
            "First frames of a few episodes in each look. Where goal and scene differ: a scene, its goal, "
            "the next scene, its goal, and so on.",
            charts.strip([one.strip for one in found.looks], [_line(one.name) for one in found.looks]),
            wide=True,
        ),
    ]
    if found.families:
        shown.append(
            Shown(
                "Which frames are called unfamiliar",
                "Share of the frames of each family of looks that plan.py refuses, and the server warns of. "
                "Few are right for the usual look, and for looks that the model can read; all are right "
                "for those in which it fails. Numbers: ROC-AUC against usual frames.",
                _families(found.families),
            )
        )
    return shown


def _about_table(found: ShiftResult) -> str:
    if not found.families:
        return "The checkpoint has no looks.json, so whether a look is noticed is unknown."
    return (
        "Unfamiliar: share of the pairs whose first frame or goal is called unlike anything trained on. "
        f"ROC-AUC: how well this separates them from pairs in the usual look; where success is lowered it "
        f"should be {RECOGNISED:.2f} or more."
    )


def _line(name: str) -> str:
    """A name in at most two lines."""
    return name.replace(", ", ",\n").replace(".", ".\n", 1)


def _table(looks: Sequence[Reached]) -> Table:
    rows = [
        (
            one.name,
            f"{one.success:.0%}",
            f"{one.low:.0%} to {one.high:.0%}",
            "–" if one.unfamiliar is None else f"{one.unfamiliar:.0%}",
            "–" if one.auc is None else f"{one.auc:.2f}",
        )
        for one in looks
    ]
    return Table(("look", "reached", "95 % interval", "unfamiliar", "ROC-AUC"), rows)


def _success(looks: Sequence[Reached]) -> Figure:
    figure, axis = charts.chart("goals reached", "", height=0.7 + 0.27 * len(looks))
    for y, one in enumerate(looks):
        axis.barh(y, one.success, 0.7, color=COLOURS[one.kind])
        axis.plot([one.low, one.high], [y, y], color=charts.INK, linewidth=1.5)
    axis.axvline(looks[0].success, color=charts.INK, linewidth=1, linestyle="--")
    axis.set_yticks(range(len(looks)), [one.name for one in looks])
    return _as_shares(figure, axis)


def _families(families: Sequence[Called]) -> Figure:
    figure, axis = charts.chart("called unfamiliar", "", height=0.8 + 0.2 * len(families))
    for y, one in enumerate(families):
        kind = USUAL if y == 0 else "trained" if one.trained else "unseen"
        axis.barh(y, one.unfamiliar, 0.7, color=COLOURS[kind])
        if y:
            axis.text(1.02, y, f"{one.auc:.2f}", fontsize=CAPTION - 1, color=charts.INK, va="center")
    names = [one.name + ("" if one.trained else " (unseen)") for one in families]
    axis.set_yticks(range(len(families)), names)
    return _as_shares(figure, axis)


def _as_shares(figure: Figure, axis: Any) -> Figure:
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return figure


SECTION = Section(
    "shift",
    "Other looks",
    "How many goals it reaches in other colours, on other grounds, in other light, with another camera, and "
    f"among clutter: good is {KEPT:.0%} of the usual success in each group that training never draws.",
    shift,
    draw,
)
