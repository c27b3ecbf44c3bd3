"""Calibration: does the planner get what it expects, and does it know what is out of reach?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ...evaluation import benchmark
from ...evaluation import reachability as reach
from .. import charts
from ..evidence import Evidence, Skipped
from ..quantities import moved, objects, visible
from ..section import Result, Section, Shown
from ..statistics import roc_auc
from .planning import Share, played_pairs, share

FAR = 40  # goals from far away
GROUPS = 6  # of the reliability plots
AGREES, TELLS = 0.8, 0.8  # R² and ROC-AUC from which the section passes


@dataclass(frozen=True)
class Goals:
    """Goals of one kind.

    expected (n,): least latent distance to the goal along the first plan.   reached (n,): whether the agent,
    planning again and again, then got there.
    """

    expected: np.ndarray
    reached: np.ndarray


@dataclass(frozen=True)
class Telling:
    """How well `expected` tells goals that are not reached from those that are.

    auc, auc_far, auc_foreign: ROC-AUC for all of them, those far away, other worlds; None where there are
    none.   threshold: above it plan.py warns; None when nothing is reached.   warned: share of the goals not
    reached that it warns of, false_alarms: of those reached.
    """

    auc: float | None
    auc_far: float | None
    auc_foreign: float | None
    threshold: float | None
    warned: float | None
    false_alarms: float | None


@dataclass(frozen=True)
class Calibration(Result):
    """expected, happened (n,): latent distance to the goal at the end of plans that are executed without
    looking, those to near goals first; agreement: R² of what happened about what was expected, and of near
    and of far goals alone, where less is left to explain.

    near, far, foreign: goals that a policy reached, goals of other episodes far away, other worlds' pictures.
    reliability: share reached by groups of near and far goals; edges: the largest expected distance of each.
    """

    expected: np.ndarray
    happened: np.ndarray
    agreement: float
    agreement_near: float
    agreement_far: float
    near: Goals
    far: Goals
    foreign: Goals | None
    telling: Telling
    reliability: tuple[Share, ...]
    edges: np.ndarray


@dataclass(frozen=True)
class _FarPairs:
    """The evidence's starts with goals from elsewhere."""

    name: str
    version: str
    start: np.ndarray
    goal: np.ndarray
    seed: np.ndarray
    offset: int
    budget: int
    vary: tuple[str, ...] = ()
    rule: str = ""
    shown: str = "both"

    def options(self, index: int) -> dict[str, np.ndarray]:
        return {"state": self.start[index], "goal_state": self.goal[index]}

    def first_frames(self, index: int) -> None:
        """As the world draws them."""


def calibration(evidence: Evidence) -> Calibration:
    """Plan to goals that are near, far away, and of other worlds; see what the plans come to.

    Passes when the expected distances explain most of what then happens (R² 0.8), and goals that are not
    reached are told with a ROC-AUC of 0.8. Skipped as planning is.
    """
    result, _ = played_pairs(evidence)
    pairs, far_pairs = evidence.pairs, _far_pairs(evidence)
    played = benchmark.run(
        evidence.agent.clone(), evidence.need_env(), far_pairs, seed=evidence.seed,
        progress=evidence.progress, quick=True,
    )  # fmt: skip
    near, plans = _goals(evidence, pairs, result)
    far, far_plans = _goals(evidence, far_pairs, played)
    foreign = _foreign(evidence, pairs)
    executed = _executed(evidence, pairs, plans), _executed(evidence, far_pairs, far_plans)
    expected, happened = (np.concatenate(both) for both in zip(*executed))
    agreement = _explained(expected, happened)
    alone = _explained(*executed[0]), _explained(*executed[1])
    asked = Goals(*(np.concatenate([getattr(goals, name) for goals in (near, far)]) for name in vars(near)))
    telling = _telling(near, far, foreign)
    groups = np.array_split(np.argsort(asked.expected, kind="stable"), min(GROUPS, len(asked.expected)))
    tells = bool(asked.reached.all()) if telling.auc is None else telling.auc >= TELLS
    return Calibration(
        agreement >= AGREES and tells, _finding(agreement, alone, telling), expected, happened, agreement,
        alone[0], alone[1], near, far, foreign, telling, tuple(share(asked.reached[g]) for g in groups),
        np.array([asked.expected[g].max() for g in groups]),
    )  # fmt: skip


def _explained(expected: np.ndarray, happened: np.ndarray) -> float:
    """R² of what happened about what was expected, as it was expected: no line is fitted."""
    return 1 - float(np.square(happened - expected).mean()) / max(float(happened.var()), 1e-12)


def _finding(agreement: float, alone: tuple[float, float], telling: Telling) -> str:
    said = (
        f"What happens agrees with what was expected with R² {agreement:.2f} (near goals alone "
        f"{alone[0]:.2f}, far ones {alone[1]:.2f}); "
    )
    if telling.auc is None:
        return said + "whether goals out of reach are known cannot be told: all were reached, or none."
    return said + (
        f"goals that are not reached are told with a ROC-AUC of {telling.auc:.2f}: plan.py warns of "
        f"{telling.warned:.0%} of them, and of {telling.false_alarms:.0%} of those that are reached."
    )


def _far_pairs(evidence: Evidence) -> _FarPairs:
    """Some of the starts, each with one of the goals that are farthest away in latent space.

    Where the world does not take that goal from this start, one object of the start's own goal goes where it
    is in the far one.
    """
    pairs = evidence.pairs
    count = min(FAR, len(pairs.start))
    start = evidence.encode(evidence.render(pairs.start[:count]))
    goals = evidence.encode(evidence.render(pairs.goal))
    farthest = np.square(start[:, None] - goals[None]).sum(-1).argsort(1)
    # one of the farthest tenth, so that not all starts share the few most unusual goals
    tenth = max(1, len(goals) // 10)
    pick = evidence.random(5).integers(tenth, size=count)
    starts, every = np.asarray(pairs.start)[:count], np.asarray(pairs.goal)
    own, far = every[:count], every[farthest[np.arange(count), -1 - pick]]
    goal, taken = far, evidence.possible(starts, far)
    for components in objects(evidence, visible(evidence)).values():
        if taken.all():
            break
        goal = np.where(taken[:, None], goal, moved(evidence, own, far, components))
        taken = evidence.possible(starts, goal)
    if not taken.any():
        raise Skipped("the world takes no start with another pair's goal")
    return _FarPairs(
        str(pairs.name), str(pairs.version), starts[taken], goal[taken], pairs.seed[:count][taken],
        int(pairs.offset), int(pairs.budget),
    )  # fmt: skip


def _plan(evidence: Evidence, pairs: Any, goals: np.ndarray) -> Any:
    """The first plans, from each pair's start to each of goals uint8 (P, h, w, 3)."""
    agent = evidence.agent.clone(evidence.seed)
    agent.reset(seeds=[int(seed) % 2**63 for seed in pairs.seed[: len(goals)]])
    agent.set_goal(goals, steps=int(pairs.budget))
    return agent.plan(evidence.render(pairs.start[: len(goals)]))


def _goals(evidence: Evidence, pairs: Any, result: dict[str, Any]) -> tuple[Goals, Any]:
    frames = evidence.render(pairs.goal)
    plans = _plan(evidence, pairs, frames)
    reached = np.array([outcome["success"] for outcome in result["episodes"]])
    return Goals(reach.expected_distance(evidence.agent, plans, frames), reached), plans


def _foreign(evidence: Evidence, pairs: Any) -> Goals | None:
    if evidence.foreign is None:
        return None
    frames = evidence.foreign[: len(pairs.start)]
    plans = _plan(evidence, pairs, frames)
    return Goals(reach.expected_distance(evidence.agent, plans, frames), np.zeros(len(frames), bool))


def _executed(evidence: Evidence, pairs: Any, plans: Any) -> tuple[np.ndarray, np.ndarray]:
    """Latent distance to the goal at the end of each plan: as expected, and as it happens."""
    goal = evidence.encode(evidence.render(pairs.goal))
    end = evidence.encode(evidence.simulate(pairs.start, plans.actions).pixels[:, -1])
    return np.linalg.norm(plans.latents[:, -1] - goal, axis=-1), np.linalg.norm(end - goal, axis=-1)


def _telling(near: Goals, far: Goals, foreign: Goals | None) -> Telling:
    within = np.concatenate([goals.expected[goals.reached] for goals in (near, far)])
    missed, missed_far = (goals.expected[~goals.reached] for goals in (near, far))
    strange = np.empty(0) if foreign is None else foreign.expected
    beyond = np.concatenate([missed, missed_far, strange])
    auc, auc_far, auc_foreign = (_auc(some, within) for some in (beyond, missed_far, strange))
    if not len(within):
        return Telling(auc, auc_far, auc_foreign, None, None, None)
    threshold = float(np.quantile(within, reach.KEPT))
    warned = float((beyond > threshold).mean()) if len(beyond) else None
    false_alarms = float((within > threshold).mean())
    return Telling(auc, auc_far, auc_foreign, threshold, warned, false_alarms)


def _auc(beyond: np.ndarray, within: np.ndarray) -> float | None:
    return roc_auc(within, beyond) if len(beyond) and len(within) else None


def draw(found: Calibration) -> list[Shown]:
    return [
        Shown(
            "Expected, and what then happened",
            "Plans executed to their end without looking; latent distance to the goal there. On the line the "
            "plan got what it expected; above it, it hoped too much.",
            _agreement(found),
        ),
        Shown(
            "Reached, by what the first plan expected",
            "Goals in groups of equal size by how near the first plan hoped to come, and the share that was "
            "then reached with replanning; lines are 95 % intervals.",
            _reliability(found),
        ),
        Shown(
            "Does it know what is out of reach?",
            "How near the first plans hoped to come, by what became of the goals. Dashed: where plan.py "
            "begins to warn.",
            _kinds(found),
        ),
    ]


def _agreement(found: Calibration) -> Figure:
    figure, axis = charts.chart("expected distance", "distance that happened")
    most = float(max(found.expected.max(), found.happened.max())) * 1.05
    axis.plot([0, most], [0, most], color=charts.GREY, linewidth=1)
    kinds = (("near goals", slice(len(found.near.expected)), charts.BLUE, "o"),
             ("far goals", slice(len(found.near.expected), None), charts.VERMILION, "^"))  # fmt: skip
    for label, some, colour, marker in kinds:
        axis.plot(found.expected[some], found.happened[some], marker, color=colour, markersize=4, alpha=0.7,
                  markeredgewidth=0, label=label)  # fmt: skip
    axis.set_xlim(0, most)
    axis.set_ylim(0, most)
    charts.legend(axis, loc="lower right")
    return figure


def _reliability(found: Calibration) -> Figure:
    figure, axis = charts.chart("expected distance, group's largest", "reached")
    axis.vlines(found.edges, [g.low for g in found.reliability], [g.high for g in found.reliability],
                color=charts.SKY, linewidth=3)  # fmt: skip
    axis.plot(found.edges, [g.success for g in found.reliability], "o-", color=charts.BLUE, markersize=5)
    axis.set_ylim(-0.03, 1.03)
    axis.set_xlim(left=0)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return figure


def _kinds(found: Calibration) -> Figure:
    kinds = {
        "reached": [g.expected[g.reached] for g in (found.near, found.far)],
        "near, missed": [found.near.expected[~found.near.reached]],
        "far, missed": [found.far.expected[~found.far.reached]],
        "another world": [] if found.foreign is None else [found.foreign.expected],
    }
    rows = {name: np.concatenate(parts) for name, parts in kinds.items() if parts and sum(map(len, parts))}
    figure, axis = charts.chart("expected distance (log)", "", height=1.0 + 0.35 * len(rows))
    for y, (values, colour, marker) in enumerate(zip(rows.values(), charts.COLOURS, charts.MARKERS)):
        spread = y + np.linspace(-0.25, 0.25, len(values))
        axis.plot(values, spread, marker, color=colour, markersize=4, alpha=0.7, markeredgewidth=0)
    if found.telling.threshold is not None:
        axis.axvline(found.telling.threshold, color=charts.INK, linewidth=1, linestyle="--")
    axis.set_yticks(range(len(rows)), list(rows))
    axis.invert_yaxis()
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return figure


SECTION = Section(
    "calibration",
    "Calibration",
    "Whether plans end as near to the goal as they expected, and whether goals that cannot be reached are "
    "known by what their first plans expect: good is an R² of at least 0.8 and a ROC-AUC of at least 0.8.",
    calibration,
    draw,
)
