"""Surprise: is the model's prediction error larger where physics is broken than where all is as it should be?

Stretches of held-out episodes go on as recorded, or from one moment on in a way that cannot be:

- *moved*: an object is suddenly where it was in another episode, and from there on obeys physics again,
- *reversed*: what was seen comes again, backwards, while the recorded actions go on,
- *frozen*: nothing moves any more, whatever the actions,
- *colours*: red turns to green, green to blue, blue to red; nothing impossible moves, so this is a control.

The model is shown either and asked at each step for the next latent. Each stretch is its own control, so the
test is paired. Violation of expectation is how infants are asked what they know of objects (R. Baillargeon,
E. Spelke, S. Wasserman, 1985); LeWorldModel (arXiv 2603.19312) asks world models so, with moved objects and
changed colours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from matplotlib.figure import Figure

from ...evaluation.plots import CAPTION
from .. import charts
from ..evidence import Evidence, Skipped, Windows
from ..quantities import moved, objects, visible
from ..section import Result, Section, Shown, Table, picture
from ..statistics import effect_size, paired_test, roc_auc

PAIRS = 150
STEPS = 8  # model steps in a stretch, fewer where episodes are short
AHEAD = 3  # model steps that are also predicted at once
TINY = 1e-8  # relative errors below are rounding
SAME = 2.0  # grey levels by which the world's drawing of a recorded state may differ from the recorded frame
CERTAIN, GOOD = 0.01, 0.7  # p and ROC-AUC that every violation of physics must pass
COLOURS = "colours changed"


@dataclass(frozen=True)
class Violation:
    """One kind of violation, over all stretches in which it changed what is seen.

    Errors are squared, relative to the latents' variance: 1 is what the mean latent would give.
    ordinary, odd: mean error at the moment of the violation.     ratio: odd / ordinary.
    p: one-sided paired test.     effect: mean difference over its standard deviation.
    auc: ROC-AUC of telling the two apart by the error; auc_ahead (AHEAD,): the same when 1, 2, … steps are
        predicted at once from before the moment.
    higher: share of stretches with the larger error where physics is broken.
    curve_ordinary, curve_odd (steps, 3): quartiles of the error at each step of the stretch.
    """

    physical: bool
    pairs: int
    ordinary: float
    odd: float
    ratio: float
    p: float
    effect: float
    auc: float
    auc_ahead: np.ndarray
    higher: float
    curve_ordinary: np.ndarray
    curve_odd: np.ndarray
    frames: np.ndarray = picture()  # (steps + 1, h, w, 3) of one stretch, and its two curves
    example: np.ndarray = picture()


@dataclass(frozen=True)
class Surprise(Result):
    """violations by name; skipped: what could not be tried, and why; moment: index of the first odd frame."""

    violations: dict[str, Violation]
    skipped: dict[str, str]
    moment: int


def surprise(evidence: Evidence, *, pairs: int = PAIRS) -> Surprise:
    """On at most `pairs` stretches of held-out episodes.

    Moved objects need a world and recorded states, the rest needs neither.
    """
    steps = min(STEPS, evidence.longest())
    if steps < 2:
        raise Skipped("no episode is long enough to be surprised in")
    moment = (steps + 1) // 2 + 1
    windows = evidence.windows("held_out", steps, pairs, branch=31)
    every = np.arange(0, steps * evidence.config.frameskip + 1, evidence.config.frameskip)
    frames = np.stack([
        evidence.pixels("held_out", e, f + every) for e, f in zip(windows.episode, windows.frame)
    ])  # fmt: skip
    found: dict[str, Violation] = {}
    skipped: dict[str, str] = {}
    for name, make in _violations(evidence, windows, frames, moment).items():
        try:
            odd = make()
            found[name] = _judge(evidence, windows, frames, odd, moment, physical=name != COLOURS)
        except Skipped as reason:
            skipped[name] = str(reason)
    physical = {name: one for name, one in found.items() if one.physical}
    if not physical:
        raise Skipped("; ".join(f"{name}: {reason}" for name, reason in skipped.items()))
    told = ", ".join(f"{name} {_times(one.ratio)} (AUC {one.auc:.2f})" for name, one in found.items())
    return Surprise(
        good=all(one.p < CERTAIN and one.auc >= GOOD for one in physical.values()),
        finding=f"The error where something is odd, against the ordinary one: {told}.",
        violations=found,
        skipped=skipped,
        moment=moment,
    )


def _violations(
    evidence: Evidence, windows: Windows, frames: np.ndarray, moment: int
) -> dict[str, Callable[[], np.ndarray]]:
    """{name: a function that gives the odd frames, like frames (n, T, h, w, 3)}."""
    found: dict[str, Callable[[], np.ndarray]] = {}
    if evidence.has_state and evidence.make_env is not None:
        for name, components in objects(evidence, visible(evidence)).items():
            found[f"{name} moved"] = partial(_moved, evidence, windows, frames, moment, components)
    else:
        found["objects moved"] = _cannot_move
    found["time reversed"] = lambda: _reversed(frames, moment)
    found["frozen"] = lambda: _frozen(frames, moment)
    found[COLOURS] = lambda: _recoloured(frames, moment)
    return found


def _cannot_move() -> np.ndarray:
    raise Skipped("needs recorded states and a world to draw them")


def _moved(
    evidence: Evidence, windows: Windows, frames: np.ndarray, moment: int, components: list[int]
) -> np.ndarray:
    """From `moment` on, what the world shows under the recorded actions after the object was moved."""
    assert windows.state is not None
    now = windows.state[:, moment]
    drawn = evidence.render(now[:8])
    if drawn.shape[1:] != frames.shape[2:]:
        raise Skipped(
            f"the world's frames are {drawn.shape[1:3]} and the recording's {frames.shape[2:4]} pixels"
        )
    if np.abs(drawn.astype(float) - frames[:8, moment]).mean() > SAME:
        raise Skipped("the world draws recorded states differently from the recording")
    order = evidence.random(32).permutation(len(now))
    others = now[np.roll(order, 1)[np.argsort(order)]]  # never a stretch's own state
    played = evidence.simulate(
        moved(evidence, now, others, components), evidence.denormalise(windows.blocks[:, moment:])
    )
    return np.concatenate([frames[:, :moment], played.pixels], 1)


def _reversed(frames: np.ndarray, moment: int) -> np.ndarray:
    back = moment - 2 - np.arange(frames.shape[1] - moment)
    return np.concatenate([frames[:, :moment], frames[:, back]], 1)


def _frozen(frames: np.ndarray, moment: int) -> np.ndarray:
    return np.concatenate([frames[:, :moment], frames[:, [moment - 1] * (frames.shape[1] - moment)]], 1)


def _recoloured(frames: np.ndarray, moment: int) -> np.ndarray:
    return np.concatenate([frames[:, :moment], np.roll(frames[:, moment:], 1, axis=-1)], 1)


def _judge(
    evidence: Evidence, windows: Windows, frames: np.ndarray, odd: np.ndarray, moment: int, *, physical: bool
) -> Violation:
    shows = (odd[:, moment] != frames[:, moment]).any((1, 2, 3))
    if shows.sum() < 2:
        raise Skipped("it does not change what is seen")
    latents, blocks = windows.latents[shows], windows.blocks[shows]
    changed = odd[shows, moment:]
    seen = evidence.encode(changed.reshape(-1, *changed.shape[2:])).reshape(*changed.shape[:2], -1)
    strange = np.concatenate([latents[:, :moment], seen], 1)
    unit = float(np.concatenate(evidence.latents("held_out")).var(0).mean())
    ordinary, broken = (one_step(evidence, z, blocks, unit) for z in (latents, strange))
    at = moment - 1  # error t is that of frame t + 1
    ahead = min(AHEAD, blocks.shape[1] - at)
    imagined = _imagine(evidence, latents, blocks, at, ahead)
    far = [_error(imagined, z[:, moment : moment + ahead], unit) for z in (latents, strange)]
    difference = broken[:, at] - ordinary[:, at]
    typical = np.argsort(broken[:, at], kind="stable")[len(broken) // 2]
    return Violation(
        physical=physical,
        pairs=int(shows.sum()),
        ordinary=float(ordinary[:, at].mean()),
        odd=float(broken[:, at].mean()),
        ratio=float(broken[:, at].mean() / max(ordinary[:, at].mean(), TINY)),
        p=paired_test(difference, evidence.seed),
        effect=effect_size(difference),
        auc=roc_auc(ordinary[:, at], broken[:, at]),
        auc_ahead=np.array([roc_auc(a, b) for a, b in zip(far[0].T, far[1].T)]),
        higher=float((difference > 0).mean()),
        curve_ordinary=np.quantile(ordinary, [0.25, 0.5, 0.75], axis=0).T,
        curve_odd=np.quantile(broken, [0.25, 0.5, 0.75], axis=0).T,
        frames=odd[shows][typical],
        example=np.stack([ordinary[typical], broken[typical]]),
    )


def one_step(evidence: Evidence, latents: np.ndarray, blocks: np.ndarray, unit: float) -> np.ndarray:
    """Error of each next latent, from what was seen before it: (n, T + 1, D), (n, T, F·A) -> (n, T)."""
    found = [
        _error(_imagine(evidence, latents, blocks, t, 1), latents[:, t + 1 : t + 2], unit)
        for t in range(blocks.shape[1])
    ]
    return np.concatenate(found, 1)


def _imagine(evidence: Evidence, latents: np.ndarray, blocks: np.ndarray, now: int, ahead: int) -> np.ndarray:
    """The `ahead` latents after frame `now`, from as many frames as the model looks at: (n, ahead, D)."""
    first = max(0, now + 1 - evidence.config.context_len)
    return evidence.rollout(latents[:, first : now + 1], blocks[:, first : now + ahead])[:, 1:]


def _error(imagined: np.ndarray, seen: np.ndarray, unit: float) -> np.ndarray:
    """(n, K, D), (n, K, D) -> (n, K)."""
    error = np.square(imagined.astype(np.float64) - seen).mean(-1) / max(unit, 1e-12)
    return np.where(error < TINY, 0.0, error)


def draw(found: Surprise) -> list[Shown]:
    return [
        _draw_told(found),
        _draw_table(found),
        _draw_time(found),
        *(_draw_film(name, one, found.moment) for name, one in found.violations.items()),
    ]


def _draw_told(found: Surprise) -> Shown:
    names = list(found.violations)
    figure, axis = charts.chart("ROC-AUC", "", height=max(charts.SIZE[1], 0.9 + 0.4 * len(names)))
    ahead = max(len(one.auc_ahead) for one in found.violations.values())
    series: dict[str, Sequence[float]] = {"1 step": [one.auc for one in found.violations.values()]}
    for step in range(1, ahead):
        series[f"{step + 1} at once"] = [one.auc_ahead[step] for one in found.violations.values()]
    charts.bars(axis, names, series)
    axis.axvline(0.5, color=charts.INK, linestyle=":", linewidth=1)
    axis.set_xlim(0, 1.02)
    charts.legend(
        axis, loc="lower left", bbox_to_anchor=(-0.45, 1.0), ncols=3, columnspacing=0.8, handlelength=1.2
    )
    return Shown(
        "Can odd be told from ordinary by the error?",
        "ROC-AUC: at 1 always, at 0.5 (dots) not at all. The change of colours is a control: the less, the "
        "better.",
        figure,
    )


def _draw_table(found: Surprise) -> Shown:
    rows = [
        [name, str(one.pairs), f"{one.ordinary:.3f}", f"{one.odd:.3f}", f"{one.effect:.1f}", _p(one.p)]
        for name, one in found.violations.items()
    ]
    left = "".join(f" Not tried: {name}, as {reason}." for name, reason in found.skipped.items())
    return Shown(
        "Error with and without",
        "Mean squared error at the moment, relative to the latents' variance; effect size: mean difference "
        f"over its standard deviation; p of the paired test.{left}",
        Table(["", "pairs", "ordinary", "odd", "effect", "p"], rows),
    )


def _draw_time(found: Surprise) -> Shown:
    figure, axis = charts.chart("model steps after the moment", "error of the prediction (log)")
    one = next(iter(found.violations.values()))
    time = np.arange(1, len(one.curve_odd) + 1) - found.moment
    low, middle, high = np.maximum(one.curve_ordinary.T, TINY)
    axis.fill_between(time, low, high, color=charts.GREY, alpha=0.3, linewidth=0)
    axis.plot(time, middle, color=charts.GREY, label="ordinary (half of all)")
    for (name, one), colour, marker in zip(found.violations.items(), charts.COLOURS, charts.MARKERS):
        axis.plot(time, np.maximum(one.curve_odd[:, 1], TINY), marker=marker, markersize=4, color=colour,
                  linestyle="-" if one.physical else "--", label=name)  # fmt: skip
    axis.axvline(0, color=charts.INK, linestyle=":", linewidth=1)
    axis.set_yscale("log")
    charts.legend(axis, loc="upper left")
    return Shown(
        "Surprise through time",
        "Median error of predicting each next latent, relative to the latents' variance. At 0 the odd frame "
        "is seen for the first time.",
        figure,
    )


def _draw_film(name: str, one: Violation, moment: int) -> Shown:
    """The frames of one stretch, and under each the error with which it was predicted."""
    count, side, label = len(one.frames), 0.8, 0.75
    figure = Figure(figsize=(label + count * side, side + 1.5))
    width, height = figure.get_size_inches()
    for index, frame in enumerate(one.frames):
        axis = figure.add_axes(((label + (index + 0.03) * side) / width, 1.4 / height, 0.94 * side / width,
                                0.94 * side / height))  # fmt: skip
        axis.imshow(frame, interpolation="nearest", vmin=0, vmax=255)
        axis.set_xticks([]), axis.set_yticks([])
        for spine in axis.spines.values():
            spine.set_color(charts.VERMILION if index >= moment else charts.GREY)
            spine.set_linewidth(2.0 if index >= moment else 0.6)
    axis = figure.add_axes((label / width, 0.3 / height, count * side / width, 1.0 / height))
    for values, colour, style, text in (
        (one.example[0], charts.GREY, "s--", "as recorded"),
        (one.example[1], charts.VERMILION, "o-", name),
    ):
        axis.plot(range(1, count), values, style, color=colour, markersize=4, label=text)
    axis.set_xlim(-0.5, count - 0.5)
    axis.set_ylim(bottom=0)
    axis.set_xticks(
        range(count), [f"{index - moment:+d}" if index != moment else "0" for index in range(count)]
    )
    axis.tick_params(labelsize=CAPTION - 1, colors=charts.INK)
    for side_name in ("top", "right"):
        axis.spines[side_name].set_visible(False)
    charts.legend(axis, loc="upper left")
    caption = (
        f"One stretch, the middle one of {one.pairs} by its error; edges mark odd frames. Over all, the "
        f"error is larger than as recorded in {one.higher:.0%}."
    )
    return Shown(f"Surprise: {name}", caption, figure, wide=True)


def _times(ratio: float) -> str:
    return "over 1000 times" if ratio > 1000 else f"{ratio:.3g} times"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


SECTION = Section(
    "surprise",
    "Surprise",
    "How much larger the prediction error is where physics is broken than on the same stretch as recorded; "
    "good is a ROC-AUC near 1 and a p below 0.01 for moved objects, reversed time and frozen frames; a mere "
    "change of colours is shown beside, and the less it surprises, the better.",
    surprise,
    draw,
)
