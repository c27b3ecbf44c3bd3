"""Soundness: how wrong can the model be made, does what it imagines hold the true state, does it know it?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ...evaluation.video import enlarge
from .. import charts
from ..attack import ROUNDS, SAMPLES, STARTS, Attack, attack, nearest
from ..evidence import Evidence
from ..ranking import Fidelity, Ranking, fidelity, ranking
from ..section import Film, Result, Section, Shown, picture

WORST = 3
SIDE, GAP, BAR, LABEL = 168, 6, 24, 66  # px of the film
HERTZ, HELD = 8.0, 8  # frames a second, and repeats of the last
RECALLED = 20_000  # recorded frames among which the one nearest to an imagined latent is looked for
ROUNDING = 0.01  # disagreement
SOUND, FAITHFUL, FIRST = 0.7, 0.5, 0.5
NAMES = {"recorded": "recorded actions", "random": "random actions", "found": "worst found"}


@dataclass(frozen=True)
class Soundness(Result):
    """See latent_planner.report.attack and latent_planner.report.ranking. film: the worst sequences found."""

    attack: Attack
    fidelity: Fidelity
    ranking: Ranking
    film: Film = picture()


def soundness(
    evidence: Evidence, *, starts: int = STARTS, samples: int = SAMPLES, rounds: int = ROUNDS
) -> Soundness:
    """Needs recorded states and a world that can be put into them.

    starts, samples, rounds: from how many frames the search begins, and how long it is.
    """
    evidence.need_state()
    evidence.need_env()
    tried = attack(evidence, starts=starts, samples=samples, rounds=rounds)
    faithful, ranked = fidelity(evidence, tried.plays), ranking(evidence)
    beyond = tried.coverage
    told = f"by {tried.found:.2f} of the latents' spread"
    told += f", {tried.ratio:.1f} times random ones ({tried.random:.2f})"
    if tried.found < ROUNDING:
        told = "by no more than rounding"
    return Soundness(
        good=tried.found < SOUND and float(faithful.random.mean()) > FAITHFUL and ranked.first > FIRST,
        finding=(
            f"The worst actions found make model and simulator disagree {told}; {beyond.found:.0%} of their "
            f"steps lie outside what was recorded (random: {beyond.random:.0%}); imagined latents hold the "
            f"state with R² {faithful.random.mean():.2f} (under attack {faithful.found.mean():.2f}); the "
            f"true next state is ranked first in {ranked.first:.0%} (guessing: {ranked.chance:.0%})."
        ),
        attack=tried,
        fidelity=faithful,
        ranking=ranked,
        film=_film(evidence, tried),
    )


def _film(evidence: Evidence, tried: Attack) -> Film:
    """Of the worst: what the simulator does, over the recorded frame nearest to what is imagined."""
    found, known = tried.plays["found"], evidence.sample("fit", RECALLED, branch=45)
    columns = []
    for index in np.argsort(-found.disagreement, kind="stable")[:WORST]:
        actions = evidence.denormalise(found.blocks[index : index + 1])
        world = evidence.simulate(found.state[index : index + 1, 0], actions, every=1).pixels[0]
        near = nearest(found.imagined[index], known.latents)[1]
        recalled = [evidence.pixels("fit", known.episode[i], known.frame[i]) for i in near]
        columns.append((world, [world[0], *recalled], found.error[index]))
    skip = evidence.config.frameskip
    frames = [_frame(columns, step, step // skip) for step in range(len(columns[0][0]))]
    return Film(frames + frames[-1:] * HELD, HERTZ)


def _frame(
    columns: list[tuple[np.ndarray, list[np.ndarray], np.ndarray]], step: int, block: int
) -> np.ndarray:
    font = ImageFont.load_default(12)
    canvas = Image.new("RGB", (LABEL + len(columns) * (SIDE + GAP), 2 * (SIDE + GAP) + BAR), (250, 250, 250))
    draw = ImageDraw.Draw(canvas)
    for row, text in enumerate(("simulator", "imagined")):
        draw.text((6, BAR + row * (SIDE + GAP) + SIDE // 2 - 6), text, fill=charts.INK, font=font)
    for column, (world, recalled, error) in enumerate(columns):
        x = LABEL + column * (SIDE + GAP)
        told = f"disagreement {error[block - 1]:.2f}" if block else "start"
        draw.text((x, 5), told, fill=charts.INK, font=font)
        for row, frame in enumerate((world[step], recalled[block])):
            canvas.paste(Image.fromarray(enlarge(frame, SIDE)), (x, BAR + row * (SIDE + GAP)))
    return np.asarray(canvas)


def draw(found: Soundness) -> list[Shown]:
    shown = [
        _draw_steps(found.attack),
        _draw_coverage(found.attack),
        _draw_fidelity(found.fidelity),
        _draw_ranking(found.ranking),
    ]
    worst = np.sort(found.attack.plays["found"].disagreement)[::-1][:WORST]
    caption = (
        f"Mean disagreement {', '.join(f'{one:.2f}' for one in worst)}. Above: what the simulator does. "
        "Below: of all recorded frames the one whose latent is nearest to the imagined one, at each step of "
        "the model."
    )
    shown.append(Shown("Worst actions found", caption, found.film, wide=True))
    if len(found.ranking.mistakes):
        rows = [list(row) for row in np.swapaxes(found.ranking.mistakes, 0, 1)]
        strip = charts.strip(rows, ["now", "truly next", "ranked first"])
        shown.append(Shown("Where another state was ranked first", "Some moments, one a column.", strip))
    return shown


def _draw_steps(tried: Attack) -> Shown:
    figure, axis = charts.chart("model steps ahead", "disagreement")
    signs = zip(NAMES.items(), (charts.GREY, charts.BLUE, charts.VERMILION), ("s", "o", "D"))
    for (name, label), colour, marker in signs:
        error = tried.plays[name].error
        steps = np.arange(1, error.shape[1] + 1)
        axis.plot(steps, error.mean(0), marker=marker, color=colour, label=label)
        axis.fill_between(
            steps, *np.quantile(error, [0.1, 0.9], axis=0), color=colour, alpha=0.15, linewidth=0
        )
    axis.axhline(np.sqrt(2), color=charts.INK, linestyle=":", linewidth=1, label="unrelated frames")
    axis.set_ylim(bottom=0)
    axis.set_xticks(steps)
    charts.legend(axis, loc="upper left", bbox_to_anchor=(0.0, 0.97))
    return Shown(
        "Imagined against simulated",
        "Distance between imagined and encoded latent, in units of the latents' spread; bands hold 80% of "
        f"the sequences. The search played {tried.sequences} sequences in {tried.rounds} rounds.",
        figure,
    )


def _draw_coverage(tried: Attack) -> Shown:
    figure, axis = charts.chart("distance to the nearest recorded state and action", "disagreement")
    signs = zip(
        ("random", "recorded", "found"), (charts.BLUE, charts.GREY, charts.VERMILION), ("o", "s", "D")
    )
    for name, colour, marker in signs:
        axis.scatter(tried.coverage.distances[name], tried.plays[name].disagreement, s=14 if name == "random"
                     else 34, color=colour, marker=marker, alpha=0.35 if name == "random" else 1.0,
                     label=NAMES[name], linewidths=0)  # fmt: skip
    axis.axvline(tried.coverage.edge, color=charts.INK, linestyle=":", label="95% of recorded steps")
    axis.set_ylim(bottom=0)
    charts.legend(axis, loc="best", frameon=True)
    return Shown(
        "Outside what was recorded?",
        "One point a sequence, mean over its steps. Right of the dots lies what the recording does not "
        f"cover. Rank correlation {tried.coverage.correlation:.2f}: near 1, the model errs because it was "
        "never shown.",
        figure,
    )


def _draw_fidelity(found: Fidelity) -> Shown:
    figure, axis = charts.chart("R²", "", height=max(charts.SIZE[1], 0.9 + 0.42 * len(found.names)))
    series = {
        "seen": found.limit, "imagined (random)": found.random, "imagined (worst)": found.found,
    }  # fmt: skip
    charts.bars(axis, found.names, {name: list(np.clip(row, -0.5, 1)) for name, row in series.items()})
    axis.set_xlim(min(0.0, float(min(np.clip(row, -0.5, 1).min() for row in series.values()))), 1.02)
    charts.legend(
        axis, loc="lower left", bbox_to_anchor=(-0.3, 1.0), ncols=3, columnspacing=0.8, handlelength=1.2
    )
    return Shown(
        "State fidelity",
        "The true state at the end of a sequence, read by linear probes from the frame that the simulator "
        "ends in, and from what the model imagined, under random actions and the worst found. Where even "
        "what is seen says little, the object has left the picture. Bars end at -0.5.",
        figure,
    )


def _draw_ranking(found: Ranking) -> Shown:
    figure, axis = charts.chart("share ranked behind the true next state", "")
    charts.bars(axis, list(found.beaten), {"": list(found.beaten.values())})
    axis.axvline(0.5, color=charts.INK, linestyle=":", linewidth=1)
    axis.set_xlim(0, 1.02)
    low, high = found.interval
    return Shown(
        "Which state comes next?",
        f"The true one is first among all in {found.first:.0%} of {found.moments} moments (95% interval "
        f"{low:.0%} to {high:.0%}; guessing {found.chance:.0%}). Bars: each kind of other state alone; dots: "
        "guessing.",
        figure,
    )


SECTION = Section(
    "soundness",
    "Soundness under attack",
    "How far actions that are searched for can drive the imagined future from the simulated one, and whether "
    "the model ranks the true next state first; good is a disagreement that stays well below 1.4, which "
    "unrelated frames have, an R² near 1 for the imagined state, and the true state first nearly always.",
    soundness,
    draw,
)
