"""Planning: which goals are reached, how long that takes, and how it fails where it fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ...evaluation import benchmark
from ...evaluation.video import Clip, tiled_frames
from .. import charts
from ..evidence import Evidence, Skipped
from ..section import Film, Result, Section, Shown, picture

GROUPS = 4  # of goals, by distance
FILMED = 4  # episodes in one film
PANEL = 96  # px of a world in a film
NEAR = 0.9  # quantile of the last distances of goals that were reached: so near, a plan may think it is there

# How an episode fails, told by its latent distances to the goal alone; the first that fits.
KINDS = {
    "thought it was there": "its latent came as near as those of reached goals end, and the world disagreed",
    "out of time": "it was still coming nearer when its steps ran out",
    "turned away": "it had come much nearer, and left again",
    "got stuck": "it never came much nearer",
}


@dataclass(frozen=True)
class Share:
    """Successes of `count` goals, with their 95 % interval (Wilson)."""

    count: int
    success: float
    low: float
    high: float


@dataclass(frozen=True)
class Group(Share):
    """Goals that are about equally far: distances from `nearest` to `farthest`."""

    nearest: float
    farthest: float


@dataclass(frozen=True)
class Planning(Result):
    """reached: all goals.   floors: those of random actions and of standing still.

    distances: in which unit goals are sorted, see `goal_distances`.   groups: by that distance.
    seconds_per_plan: {"median", "p95", "plans"}, one goal alone.   failures: {kind: how many}, see KINDS.
    steps: of each goal (P,), up to success or all; success (P,); kinds: of each failure by goal.
    """

    reached: Share
    floors: dict[str, Share]
    offset: int
    budget: int
    unit: str
    groups: tuple[Group, ...]
    seconds_per_plan: dict[str, Any]
    failures: dict[str, int]
    kinds: dict[int, str]
    success: np.ndarray
    steps: np.ndarray
    goal_distance: np.ndarray
    films: dict[str, list[np.ndarray]] = picture(default_factory=dict)


def planning(evidence: Evidence) -> Planning:
    """Play every pair, and both floors. Passes when the interval lies above those of both floors.

    Skipped without agent, world, or pairs.
    """
    result, played = played_pairs(evidence)
    pairs = evidence.pairs
    success = np.array([outcome["success"] for outcome in result["episodes"]])
    reached = share(success)
    floors = {name: Share(len(success), f["success"], *f["interval"]) for name, f in result["floors"].items()}
    kinds = failure_kinds(played)
    counted = Counter(kinds.values())
    distance, unit = goal_distances(evidence)
    good = all(reached.low > floor.high for floor in floors.values())
    floor_told = ", ".join(f"{_said(name)} {floor.success:.0%}" for name, floor in floors.items())
    finding = (
        f"{reached.success:.0%} of {reached.count} goals reached (95 % interval {reached.low:.0%} to "
        f"{reached.high:.0%}; {floor_told}), {result['seconds_per_plan']['median']:.2f} s a plan."
    )
    groups, failures = _groups(success, distance), {kind: counted[kind] for kind in KINDS if counted[kind]}
    steps = np.array([outcome["steps"] for outcome in result["episodes"]])
    return Planning(
        good, finding, reached, floors, int(pairs.offset), int(pairs.budget), unit, groups,
        result["seconds_per_plan"], failures, kinds, success, steps, distance, _films(played, kinds),
    )  # fmt: skip


def played_pairs(evidence: Evidence) -> tuple[dict[str, Any], list[Clip]]:
    """The benchmark of the evidence's pairs and all its episodes, played once. Skipped where it cannot be."""
    agent, make_env, pairs = evidence.need_agent(), evidence.need_env(), evidence.pairs
    if pairs is None or not len(pairs.start):
        raise Skipped("there are no start/goal pairs of this world")

    def play() -> tuple[dict[str, Any], list[Clip]]:
        played: list[Clip] = []
        result = benchmark.run(
            agent.clone(), make_env, pairs, seed=evidence.seed, progress=evidence.progress,
            recordings=played, record=len(pairs.start),
        )  # fmt: skip
        return result, played

    found: tuple[dict[str, Any], list[Clip]] = evidence.once("benchmark", play)
    return found


def share(success: np.ndarray) -> Share:
    """Of these outcomes (n,) bool."""
    return Share(len(success), float(success.mean()), *benchmark.wilson(int(success.sum()), len(success)))


def goal_distances(evidence: Evidence) -> tuple[np.ndarray, str]:
    """How far each pair's goal is from its start, and in which unit.

    Where the recording has states: root mean square over the state's quantities, each in standard deviations
    of the recording, angles as sine and cosine. Otherwise that of the states as they are.
    """
    start, goal = np.asarray(evidence.pairs.start), np.asarray(evidence.pairs.goal)
    if not evidence.has_state or start.shape[1] != len(evidence.state_names):
        return np.linalg.norm(goal - start, axis=1), "state units"
    known = evidence.quantities(np.concatenate([track.state for track in evidence.tracks["fit"]]))  # type: ignore[misc]
    first, last = evidence.quantities(start), evidence.quantities(goal)
    apart = [(last[name] - first[name]) / max(known[name].std(), 1e-9) for name in known]
    return np.sqrt(np.square(apart).mean(0)), "std of the state"


def failure_kinds(played: Sequence[Clip]) -> dict[int, str]:
    """{index: one of KINDS} of the episodes that did not reach their goal."""
    ends = [episode.distances[-1] for episode in played if episode.reached_at is not None]
    near = float(np.quantile(ends, NEAR)) if ends else 0.0
    kinds = {}
    for index, episode in enumerate(played):
        if episode.reached_at is not None:
            continue
        path = np.asarray(episode.distances)
        nearest = int(path.argmin())
        if path[nearest] <= near:
            kinds[index] = "thought it was there"
        elif nearest >= 0.85 * (len(path) - 1) and path[nearest] < 0.8 * path[0]:
            kinds[index] = "out of time"
        elif path[nearest] < 0.6 * path[0]:
            kinds[index] = "turned away"
        else:
            kinds[index] = "got stuck"
    return kinds


def _groups(success: np.ndarray, distance: np.ndarray) -> tuple[Group, ...]:
    groups = np.array_split(np.argsort(distance, kind="stable"), min(GROUPS, len(distance)))
    return tuple(
        Group(**vars(share(success[g])), nearest=float(distance[g].min()), farthest=float(distance[g].max()))
        for g in groups
    )


def _films(played: Sequence[Clip], kinds: dict[int, str]) -> dict[str, list[np.ndarray]]:
    """Frames of the best and the worst episodes, and of each kind of failure."""
    reached = [i for i, episode in enumerate(played) if episode.reached_at]
    best = sorted(reached, key=lambda i: played[i].reached_at / played[i].distances[0])[:FILMED]  # type: ignore[operator]
    failed = sorted(kinds, key=lambda i: -played[i].distances[-1] / max(played[i].distances[0], 1e-9))
    films = {"best": best, "worst": failed[:FILMED]}
    for kind in KINDS:
        films[kind] = [i for i in kinds if kinds[i] == kind][:FILMED]
    return {
        name: list(tiled_frames([played[i] for i in chosen], columns=2, panel=PANEL))
        for name, chosen in films.items()
        if chosen
    }


def _said(floor: str) -> str:
    return {"random": "random actions", "still": "standing still"}.get(floor, floor)


def draw(found: Planning) -> list[Shown]:
    shown = [
        Shown(
            "Goals reached, beside the floors",
            f"{found.reached.count} goals that the behaviour policy reached {found.offset} steps after the "
            f"start; {found.budget} steps to get there. Lines: 95 % intervals.",
            _reached(found),
        ),
        Shown(
            "By how far the goal is",
            f"Goals in {len(found.groups)} groups of equal size, by how far the state has to change "
            f"({found.unit}).",
            _by_distance(found),
        ),
    ]
    if found.failures:
        shown.append(
            Shown(
                "How it failed",
                "; ".join(f"{kind}: {KINDS[kind]}" for kind in found.failures) + ".",
                _failures(found),
            )
        )
    captions = {
        "best": "The goals that were reached soonest for how far they were.",
        "worst": "Those that ended farthest from their goals, for how far they were.",
    }
    for name, frames in found.films.items():
        title = f"The {name}" if name in captions else f"Failed: {name}"
        caption = captions.get(name) or f"{KINDS[name].capitalize()}."
        shown.append(Shown(title, f"{caption} Each world stands beside its goal.", Film(frames)))
    return shown


def _reached(found: Planning) -> Figure:
    figure, axis = charts.chart("goals reached", "", height=1.7)
    for y, one in enumerate((found.reached, *found.floors.values())):
        colour = charts.BLUE if y == 0 else charts.GREY
        axis.barh(y, one.success, 0.6, color=colour)
        axis.plot([one.low, one.high], [y, y], color=charts.INK, linewidth=2)
    axis.set_yticks(range(1 + len(found.floors)), ["the agent", *map(_said, found.floors)])
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return figure


def _by_distance(found: Planning) -> Figure:
    figure, axis = charts.chart(f"goal's distance, {found.unit}", "goals reached", height=2.3)
    for group in found.groups:
        middle = (group.nearest + group.farthest) / 2
        axis.plot([group.nearest, group.farthest], [group.success] * 2, color=charts.BLUE, linewidth=3)
        axis.plot([middle, middle], [group.low, group.high], color=charts.INK, linewidth=1.5)
    axis.set_ylim(-0.03, 1.03)
    axis.set_xlim(left=0)
    axis.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
    return figure


def _failures(found: Planning) -> Figure:
    figure, axis = charts.chart("episodes", "", height=0.8 + 0.35 * len(found.failures))
    charts.bars(axis, list(found.failures), {"episodes": list(found.failures.values())})
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


SECTION = Section(
    "planning",
    "Planning",
    "How many goals it reaches that it never saw, with 95 % intervals, beside two who do not look: good is "
    "an interval above both floors, and as near to 100 % as the goals allow.",
    planning,
    draw,
)
