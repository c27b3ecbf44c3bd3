"""Disentanglement: is the true state laid out in the latent as separate, straight directions?

Three questions, all answered with linear maps between frozen latents and the recorded state.

*Does a reading hold where it was not fitted?* The frames are cut in two at the median of one quantity, the
probes are fitted on one side and tested on the other. Beside it stands the same test with probes fitted on
as many frames of both sides: only where the fitted frames lie differs. P. Vafidis, A. Bhargava, A. Rangel,
"Disentangling Representations through Multi-task Learning", ICLR 2025 (arXiv 2407.11249), judge
representations by such a reading from one part of the space to the rest.

*Are latent and state the same up to a linear map?* R² from latent to state and from state to latent; the mean
correlation coefficient (MCC) of quantities with their reading, and with the one latent coordinate that is
matched to each. T. Zhang, G. Chen, F. Chen, "When do neural networks learn world models?", ICML 2025 (arXiv
2502.09297), call a world model learned when such a simple map exists.

*How many tasks give the state away?* Tasks are random yes/no questions, on which side of a random plane the
state lies. A linear answer to each is read from the latent, and the state is read from the answers to K tasks
alone. Vafidis et al. show that in a disentangled latent a few more tasks than the state has dimensions are
enough; where what the latent lacks is asked for, no number is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...evaluation.plots import CAPTION
from .. import charts
from ..evidence import Evidence, Skipped
from ..maps import heat
from ..quantities import values as read_values
from ..quantities import visible
from ..section import Result, Section, Shown
from ..statistics import correlation, fit_linear, r_squared

FRAMES, TESTED = 8000, 4000
TASK_DRAWS = 8  # sets of tasks that a number of tasks is judged by
ENOUGH = 0.9  # R² at which the state counts as recovered
GOOD = 0.5  # median R² outside


@dataclass(frozen=True)
class Generalisation:
    """R² of each quantity (last axis, Q) where the cut lies along each quantity (first axis, Q).

    inside: fitted on frames of both sides.   outside: fitted on the other side only. Errors are compared with
    the quantity's variance over the whole space, so that both can be compared, and 0 is what its mean gives.
    """

    inside: np.ndarray
    outside: np.ndarray


@dataclass(frozen=True)
class Identifiability:
    """How linear the latent is in the state, on frames not fitted on.

    latent_to_state: R² of each quantity (Q,).      state_to_latent: share of the latents' variance.
    mcc: mean correlation of quantities with their linear reading.
    mcc_axes: the same with the single latent coordinate matched to each, no coordinate twice.
    read, moved: angles (Q, Q), degrees, between the directions along which quantities are read, and along
        which the latent moves when one changes and the others stay; NaN where there is no direction.
    """

    latent_to_state: np.ndarray
    state_to_latent: float
    mcc: float
    mcc_axes: float
    read: np.ndarray
    moved: np.ndarray


@dataclass(frozen=True)
class Tasks:
    """counts: numbers of tasks (K,).        recovered: R² of the state read from that many answers (K,).
    direct: R² of the state read from the latent itself, the ceiling.
    accuracy: share of right answers to tasks; 0.5 is guessing.
    needed: smallest count whose `recovered` is at least 0.9, or None.
    """

    counts: tuple[int, ...]
    recovered: np.ndarray
    direct: float
    accuracy: float
    needed: int | None


@dataclass(frozen=True)
class Disentanglement(Result):
    """names: the quantities (Q,), those that a frame shows; `hidden`: those of the state that it does not."""

    names: tuple[str, ...]
    hidden: tuple[str, ...]
    generalisation: Generalisation
    identifiability: Identifiability
    tasks: Tasks


def disentanglement(evidence: Evidence) -> Disentanglement:
    """Fitted on `fit`, judged on `held_out`. Skipped without state, or where no frame shows any of it."""
    evidence.need_state()
    shown = visible(evidence)
    fit, test = evidence.sample("fit", FRAMES), evidence.sample("held_out", TESTED)
    assert fit.state is not None and test.state is not None
    known = read_values(evidence, fit.state, shown)
    names = tuple(name for name in known if known[name].std() > 1e-6)
    if not names:
        raise Skipped("nothing in the state varies")
    values, test_values = (
        np.stack([found[name] for name in names], -1)
        for found in (known, read_values(evidence, test.state, shown))
    )
    data = fit.latents, values, test.latents, test_values
    general, same, asked = generalisation(*data, evidence.seed), identifiability(*data), tasks(*data)
    middle, inside = float(np.median(general.outside)), float(np.median(general.inside))
    answers = (
        f"{asked.needed} tasks give the state away"
        if asked.needed
        else f"{asked.counts[-1]} tasks do not give the state away (R² {asked.recovered[-1]:.2f})"
    )
    return Disentanglement(
        good=middle >= GOOD and asked.needed is not None,
        finding=(
            f"Read where nothing was fitted, the median R² is {middle:.2f} ({inside:.2f} when fitted there "
            f"too); {answers}. A linear map gives the state from the latent with R² "
            f"{max(same.latent_to_state.mean(), 0):.2f}, the latent from the state with "
            f"{max(same.state_to_latent, 0):.2f}."
        ),
        names=names,
        hidden=tuple(name for name in evidence.state_names if name not in shown),
        generalisation=general,
        identifiability=same,
        tasks=asked,
    )


def draw(found: Disentanglement) -> list[Shown]:
    names, general, same = found.names, found.generalisation, found.identifiability
    cut = [f"cut at {name}" for name in names]
    angles = np.where(np.tri(len(names), k=-1, dtype=bool), same.read, same.moved)
    np.fill_diagonal(angles, np.nan)
    return [
        Shown(
            "Read where it was not fitted",
            "R² of each quantity (columns) on the half of the space that the probe never saw, cut at the "
            "median of a quantity (rows). Fitted in both halves, all are at least "
            f"{general.inside.min():.2f}. The diagonal is the hardest: values never met.",
            heat(general.outside, cut, names, low=0, high=1),
        ),
        Shown(
            "Angles between directions",
            "In degrees; 90 is independent. Lower left: directions along which the probes read. Upper right: "
            "directions in which the latent moves when one quantity changes and the others stay.",
            heat(angles, names, names, low=0, high=90, form="{:.0f}"),
        ),
        _draw_tasks(found),
        _draw_linear(found),
    ]


def _draw_tasks(found: Disentanglement) -> Shown:
    asked = found.tasks
    figure, axis = charts.chart("tasks", "R² of the state")
    axis.plot(asked.counts, np.maximum(asked.recovered, -0.05), "o-", color=charts.BLUE, markersize=4,
              label="from the answers to so many tasks")  # fmt: skip
    axis.axhline(asked.direct, color=charts.VERMILION, linestyle="--", label="from the latent itself")
    axis.axvline(len(found.names), color=charts.GREY, linestyle=":", label="as many as the state has numbers")
    axis.set_xscale("log", base=2)
    axis.set_xticks([1, 2, 4, 8, 16, 32, 64], ["1", "2", "4", "8", "16", "32", "64"])
    axis.set_ylim(-0.08, 1.05)
    charts.legend(axis, loc="lower right")
    return Shown(
        "Tasks that give the state away",
        "The state, read from linear yes/no answers to random questions about it. Good: 0.9 with few more "
        f"questions than the state has numbers. {asked.accuracy:.0%} of the answers are right (50% is a "
        "guess).",
        figure,
    )


def _draw_linear(found: Disentanglement) -> Shown:
    same = found.identifiability
    figure, axis = charts.chart("R²", "", height=max(charts.SIZE[1], 0.9 + 0.26 * len(found.names)))
    charts.bars(axis, found.names, {"": list(np.maximum(same.latent_to_state, 0))})
    axis.axvline(max(same.state_to_latent, 0), color=charts.VERMILION, linestyle="--",
                 label="latents from the state")  # fmt: skip
    axis.set_xlim(0, 1.02)
    axis.tick_params(labelsize=CAPTION)
    charts.legend(axis, loc="lower left", frameon=True)
    return Shown(
        "Linear, both ways",
        "Bars: each quantity from the latent. Dashes: share of the latents' variance that is linear in the "
        "state; a latent that is made to fill more directions than the state has cannot come near 1. Mean "
        f"correlation (MCC) after a linear map {same.mcc:.2f}, with single latent coordinates "
        f"{same.mcc_axes:.2f}.",
        figure,
    )


def generalisation(
    latents: np.ndarray, values: np.ndarray, test_latents: np.ndarray, test_values: np.ndarray, seed: int = 0
) -> Generalisation:
    """Latents (n, D) and quantities (n, Q) to fit on, and the same of other episodes to test on.

    Each half of each cut is tested once, with probes from the other half and with probes from as many frames
    of both halves.
    """
    count = values.shape[1]
    inside, outside = np.zeros((count, count)), np.zeros((count, count))
    random = np.random.default_rng(seed)
    variance = np.maximum(test_values.var(0), 1e-12)
    for cut in range(count):
        middle = np.median(values[:, cut])
        low, tested_low = values[:, cut] < middle, test_values[:, cut] < middle
        for fitted, tested in ((low, ~tested_low), (~low, tested_low)):
            if fitted.sum() < 2 or tested.sum() < 2:
                continue  # a quantity of one value cuts nothing
            everywhere = random.permutation(len(values))[: fitted.sum()]
            for rows, scores in ((np.flatnonzero(fitted), outside), (everywhere, inside)):
                read = fit_linear(latents[rows], values[rows])
                error = np.square(read(test_latents[tested]) - test_values[tested]).mean(0)
                scores[cut] += (1 - error / variance) / 2
    return Generalisation(inside, outside)


def identifiability(
    latents: np.ndarray, values: np.ndarray, test_latents: np.ndarray, test_values: np.ndarray
) -> Identifiability:
    """Latents (n, D) and quantities (n, Q) to fit on, and the same of other episodes to test on."""
    std = values.std(0)
    std = np.where(std > 0, std, 1.0)
    values, test_values = values / std, test_values / std
    read, moved = fit_linear(latents, values), fit_linear(values, latents)
    seen = read(test_latents)
    spread = np.square(test_latents - test_latents.mean(0)).sum()
    missed = np.square(moved(test_values) - test_latents).sum()
    return Identifiability(
        latent_to_state=r_squared(seen, test_values),
        state_to_latent=float(1 - missed / spread) if spread > 1e-9 * len(test_latents) else 0.0,
        mcc=float(np.mean([correlation(a, b) for a, b in zip(seen.T, test_values.T)])),
        mcc_axes=_matched(latents, values, test_latents, test_values),
        read=angles_between(read.weights),
        moved=angles_between(moved.weights.T),
    )


def angles_between(directions: np.ndarray) -> np.ndarray:
    """Columns (D, Q) -> the angles between the lines they span, (Q, Q) degrees from 0 to 90; NaN for none."""
    length = np.linalg.norm(directions, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = directions / np.where(length > 1e-12, length, np.nan)
    return np.degrees(np.arccos(np.clip(np.abs(unit.T @ unit), 0.0, 1.0)))


def tasks(
    latents: np.ndarray,
    values: np.ndarray,
    test_latents: np.ndarray,
    test_values: np.ndarray,
    *,
    most: int = 64,
    seed: int = 0,
) -> Tasks:
    """Latents (n, D) and quantities (n, Q) to fit on, and the same of other episodes to test on.

    The planes of tasks are random in the space of standardised quantities, and go near its middle.
    """
    counts = [count for count in (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32, 48, 64, 96, 128) if count <= most]
    mean, std = values.mean(0), values.std(0)
    std = np.where(std > 0, std, 1.0)
    values, test_values = (values - mean) / std, (test_values - mean) / std
    random = np.random.default_rng(seed)
    direct = r_squared(fit_linear(latents, values)(test_latents), test_values).mean()
    recovered, right = np.zeros(len(counts)), []
    for _ in range(TASK_DRAWS):
        planes = random.normal(size=(values.shape[1], counts[-1]))
        planes /= np.linalg.norm(planes, axis=0)
        offsets = random.normal(0.0, 0.5, counts[-1])
        asked, test_asked = (np.where(v @ planes > offsets, 1.0, -1.0) for v in (values, test_values))
        answer = fit_linear(latents, asked)
        answers, test_answers = answer(latents), answer(test_latents)
        right.append(_balanced(test_answers, test_asked))
        for i, count in enumerate(counts):
            state = fit_linear(answers[:, :count], values)
            recovered[i] += r_squared(state(test_answers[:, :count]), test_values).mean() / TASK_DRAWS
    enough = [count for count, r2 in zip(counts, recovered) if r2 >= ENOUGH]
    return Tasks(
        tuple(counts), recovered, float(direct), float(np.mean(right)), enough[0] if enough else None
    )


def _balanced(answers: np.ndarray, asked: np.ndarray) -> float:
    """Share of right answers, yes and no weighing the same."""
    yes = asked > 0
    hit = np.where(answers > 0, yes, ~yes)
    hit = np.where(answers == 0, 0.5, hit)
    with np.errstate(invalid="ignore"):
        both = [(hit * side).sum(0) / side.sum(0) for side in (yes, ~yes)]
    return float(np.nanmean(both))


def _matched(
    latents: np.ndarray, values: np.ndarray, test_latents: np.ndarray, test_values: np.ndarray
) -> float:
    """Mean correlation with the matched coordinates, which are chosen on the frames to fit on."""
    strength = np.array([[abs(correlation(z, v)) for z in latents.T] for v in values.T])
    chosen = -np.ones(len(strength), int)
    for _ in range(min(strength.shape)):  # the strongest pair first; an optimal match is hardly better
        quantity, axis = np.unravel_index(np.argmax(strength), strength.shape)
        chosen[quantity] = axis
        strength[quantity], strength[:, axis] = -1.0, -1.0
    pairs = [(test_latents[:, axis], value) for axis, value in zip(chosen, test_values.T) if axis >= 0]
    return float(sum(abs(correlation(a, b)) for a, b in pairs) / len(chosen))


SECTION = Section(
    "disentanglement",
    "Disentanglement",
    "Whether each quantity of the true state has a direction of its own in the latent, so that what is read "
    "in one part of the space holds in the rest; good is an R² near 1 where nothing was fitted, directions "
    "near 90 degrees, and a state given away by few more yes/no tasks than it has numbers.",
    disentanglement,
    draw,
)
