"""State in the latent: what can be read from the latent of one frame, and how simply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure

from ...evaluation.plots import CAPTION
from ...training.probe import read_out, score
from .. import charts
from ..evidence import Evidence, Skipped
from ..section import Result, Section, Shown, Table, picture

FRAMES = 8000  # to fit on
ENOUGH = 0.9  # R² of a quantity that is there
PLOTTED = 250  # points in a scatter plot

# Correlations r (linear, MLP) that LeWorldModel reports (arXiv 2603.19312), per thing: position, or angle.
PUBLISHED = {
    "pusht": {"agent": (0.974, 0.998), "block": (0.986, 0.999), "block_angle": (0.902, 0.990)},
}


@dataclass(frozen=True)
class Quantity:
    """One number of the state, read from the latents of held-out frames; `lewm_*`: what LeWM reports."""

    name: str
    linear_r2: float
    linear_r: float
    mlp_r2: float
    mlp_r: float
    lewm_linear_r: float | None = None
    lewm_mlp_r: float | None = None


@dataclass(frozen=True)
class Probes(Result):
    """fit_frames, held_out_frames: how many latents the probes were fitted on, and judged on."""

    quantities: tuple[Quantity, ...]
    fit_frames: int
    held_out_frames: int
    true: dict[str, np.ndarray] = picture()  # {name: (n,)}
    read: dict[str, np.ndarray] = picture()  # by the MLP


def probes(evidence: Evidence, *, frames: int = FRAMES) -> Probes:
    """Fit a ridge regression and a small MLP on latents of `fit` episodes and score them on `held_out` ones.

    A quantity counts as there when either probe explains 90 % of its variance; the section passes when more
    than half of the quantities are there: a single frame cannot show velocities. Skipped without state.
    """
    evidence.need_state()
    fit, held_out = evidence.sample("fit", frames), evidence.sample("held_out", frames // 4)
    assert fit.state is not None and held_out.state is not None
    targets = {k: torch.as_tensor(v).float() for k, v in evidence.quantities(fit.state).items()}
    x, x_test = torch.from_numpy(fit.latents), torch.from_numpy(held_out.latents)
    read = read_out(x, targets, x_test, seed=evidence.seed)
    true = {k: torch.as_tensor(v).float() for k, v in evidence.quantities(held_out.state).items()}
    true = {name: values for name, values in true.items() if float(values.std()) > 1e-6}
    names = [name for name in true if name in read.get("linear", {})]
    if not names:
        raise Skipped("nothing in the recorded state ever varies")
    published = PUBLISHED.get(evidence.config.env, {})
    found = []
    for name in names:
        (linear_r2, linear_r), (mlp_r2, mlp_r) = (score(read[k][name], true[name]) for k in ("linear", "mlp"))
        found.append(Quantity(name, linear_r2, linear_r, mlp_r2, mlp_r, *_published(name, published)))
    there = [max(q.linear_r2, q.mlp_r2) >= ENOUGH for q in found]
    good = sum(there) > len(there) / 2
    finding = f"{sum(there)} of {len(there)} quantities can be read with R² of {ENOUGH} or more"
    lacking = [q.name for q, is_there in zip(found, there) if not is_there]
    if lacking:
        finding += f"; not so {', '.join(lacking)}"
    by_mlp = {name: read["mlp"][name].numpy() for name in names}
    return Probes(
        good, finding + ".", tuple(found), len(x), len(x_test), {n: true[n].numpy() for n in names}, by_mlp
    )


def _published(name: str, known: dict[str, tuple[float, float]]) -> tuple[float | None, float | None]:
    """Of the thing that a quantity belongs to: block_angle_sin is of block_angle, agent_x of agent."""
    thing, _, part = name.rpartition("_")
    if part in ("x", "y", "sin", "cos") and thing in known:
        return known[thing]
    return None, None


def draw(found: Probes) -> list[Shown]:
    names = [q.name for q in found.quantities]
    published = any(q.lewm_mlp_r is not None for q in found.quantities)
    known = " LeWM: as published for this world." if published else ""
    shown = [
        Shown(
            "Read from the latent of one frame",
            "Share of the variance that is explained on held-out episodes; 1 is perfect, 0 is no better than "
            "the mean. One frame cannot show how fast things move.",
            _bars(found.quantities),
        ),
        Shown(
            "The same in numbers",
            "r is the correlation between what is read and what was so." + known,
            _table(found.quantities),
        ),
    ]
    for name in names:
        shown.append(
            Shown(
                f"{name}, read by the MLP",
                "Held-out frames; on the line, it is read right.",
                _scatter(found, name),
            )
        )
    return shown


def _bars(quantities: Sequence[Quantity]) -> Figure:
    figure, axis = charts.chart("R², held out", "", height=0.8 + 0.36 * len(quantities))
    values = {
        "linear (ridge)": [max(0.0, q.linear_r2) for q in quantities],
        "MLP": [max(0.0, q.mlp_r2) for q in quantities],
    }
    charts.bars(axis, [q.name for q in quantities], values)
    axis.set_xlim(0, 1)
    charts.legend(axis, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def _table(quantities: Sequence[Quantity]) -> Table:
    head = ["quantity", "R² linear", "R² MLP", "r linear", "r MLP"]
    rows = [[q.name, *(f"{v:.3f}" for v in (q.linear_r2, q.mlp_r2, q.linear_r, q.mlp_r))] for q in quantities]
    if any(q.lewm_linear_r is not None for q in quantities):
        head += ["LeWM r linear", "LeWM r MLP"]
        for row, q in zip(rows, quantities):
            row += ["" if v is None else f"{v:.3f}" for v in (q.lewm_linear_r, q.lewm_mlp_r)]
    return Table(head, rows)


def _scatter(found: Probes, name: str) -> Figure:
    some = slice(None, None, -(-len(found.true[name]) // PLOTTED))
    true, read = found.true[name][some], found.read[name][some]
    figure, axis = charts.chart("in the world", "read from the latent", height=2.3)
    low, high = float(true.min()), float(true.max())
    axis.plot([low, high], [low, high], color=charts.GREY, linewidth=1)
    axis.plot(true, read, "o", color=charts.BLUE, markersize=3, alpha=0.6, markeredgewidth=0)
    r2 = next(q.mlp_r2 for q in found.quantities if q.name == name)
    axis.set_title(f"{name}: R² {r2:.3f}", fontsize=CAPTION, color=charts.INK, loc="left")
    return figure


SECTION = Section(
    "probes",
    "State in the latent",
    "How well each quantity of the world's state can be read from the latent of a single frame, by a linear "
    "and by a small nonlinear probe, on episodes that neither saw: above 0.9 is good, near 0 means it is not "
    "there.",
    probes,
    draw,
)
