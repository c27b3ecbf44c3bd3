"""Health of the latents: are they spread out and close to Gaussian, and is distance between them honest?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure

from ...evaluation.plots import CAPTION
from ...training.collapse import effective_rank
from ...training.sigreg import SIGReg
from .. import charts
from ..distance import Honesty, honesty, straightness
from ..evidence import Evidence
from ..quantities import values, visible
from ..section import Result, Section, Shown, picture

FRAMES = 8000
BATCH = 128  # latents that SIGReg looks at together, as in training: its value grows with the batch
REFERENCES = 24  # batches of a true Gaussian, to know how SIGReg's value scatters
DIRECTIONS = 256
QUANTILES = 99
PATHS = 40  # episodes whose pixels are compared with
ODD = 5  # pairs of frames shown of each kind of mistake


@dataclass(frozen=True)
class Shape:
    """How latents (n, D) are spread.

    effective_rank: directions really used, 1 to D.     std: of each dimension (D,).
    coupling: mean absolute correlation between two dimensions.
    kurtosis: excess over a Gaussian's, of each dimension (D,): above 0 heavy tails, below 0 a flat top.
    sigreg: mean value over batches of 128.     sigreg_expected: 95 % of such batches of a Gaussian lie here.
    correlation (D, D); normal (K,), seen (M, K): quantiles of N(0, 1), and of the latents along M random
        directions: for drawing.
    """

    effective_rank: float
    std: np.ndarray
    coupling: float
    kurtosis: np.ndarray
    sigreg: float
    sigreg_expected: tuple[float, float]
    correlation: np.ndarray = picture()
    normal: np.ndarray = picture()
    seen: np.ndarray = picture()


@dataclass(frozen=True)
class Health(Result):
    """straightness: of paths of latents, pixels and the quantities `names`, in steps of the model.

    honesty, names: distance in the latent against distance over these quantities; None without state.
    odd: pairs of frames (k, 2, h, w, 3), held for too near and for too far, and their distances (k, 2).
    """

    shape: Shape
    straightness: dict[str, float]
    honesty: Honesty | None
    names: tuple[str, ...]
    odd: list[tuple[np.ndarray, np.ndarray]] = picture()


def health(evidence: Evidence) -> Health:
    """Distances on held-out episodes; without a recorded state there is no true distance to compare with.

    How the latents are spread is judged on all episodes: a few are no sample of where things can be, which
    alone makes latents less Gaussian.
    """
    frames = evidence.sample("held_out", FRAMES)
    spread = shape(np.concatenate([frames.latents, evidence.sample("fit", FRAMES).latents]), evidence.seed)
    honest: Honesty | None = None
    names: tuple[str, ...] = ()
    odd: list[tuple[np.ndarray, np.ndarray]] = []
    finding = (
        f"The latents use {spread.effective_rank:.1f} of {len(spread.std)} directions; SIGReg is "
        f"{spread.sigreg:.2f} (a Gaussian: {spread.sigreg_expected[0]:.2f} to "
        f"{spread.sigreg_expected[1]:.2f})"
    )
    good = float(np.median(spread.std)) > 0.1 and spread.effective_rank > 1.5
    if evidence.has_state:
        assert frames.state is not None
        known = values(evidence, frames.state, visible(evidence))
        names = tuple(name for name in known if known[name].std() > 1e-6)
        table = np.stack([known[name] for name in names], -1)
        honest = honesty(frames.latents, table, frames.episode, seed=evidence.seed)
        for worst in honest.worst(ODD):
            shown = [
                [evidence.pixels("held_out", frames.episode[i], frames.frame[i]) for i in p] for p in worst
            ]
            rows = [np.flatnonzero((honest.pairs == pair).all(1))[0] for pair in worst]
            odd.append((np.array(shown), np.stack([honest.latent[rows], honest.true[rows]], 1)))
        good = good and honest.correlation > 0.5 and spread.effective_rank > len(names) / 2
        finding += (
            f"; latent distance follows true distance with rank correlation {honest.correlation:.2f}, and "
            f"says of two frames which is nearer in {honest.nearer_overall:.0%} of cases"
        )
    return Health(good, finding + ".", spread, _straight(evidence, names), honest, names, odd)


def shape(latents: np.ndarray, seed: int = 0) -> Shape:
    """Latents (n, D) of frames of many episodes."""
    flat = np.asarray(latents, np.float64)
    random = np.random.default_rng(seed)
    std, centred = flat.std(0), flat - flat.mean(0)
    varies = std > 1e-6
    scaled = np.where(varies, centred / np.where(varies, std, 1.0), 0.0)
    value, expected = sigreg(flat, seed)
    directions = random.normal(size=(flat.shape[1], 24))
    directions /= np.linalg.norm(directions, axis=0)
    at = np.linspace(0, 1, QUANTILES + 2)[1:-1]
    together = scaled.T @ scaled / len(flat)
    others = np.abs(together)[~np.eye(len(std), dtype=bool)]
    return Shape(
        effective_rank=effective_rank(torch.from_numpy(flat)),
        std=std,
        coupling=float(others.mean()) if len(others) else 0.0,
        kurtosis=np.where(varies, (scaled**4).mean(0) - 3, 0.0),
        sigreg=value,
        sigreg_expected=expected,
        correlation=together,
        normal=np.sqrt(2) * torch.erfinv(torch.from_numpy(2 * at - 1)).numpy(),
        seen=np.quantile(flat @ directions, at, axis=0).T,
    )


def sigreg(latents: np.ndarray, seed: int = 0) -> tuple[float, tuple[float, float]]:
    """Mean over shuffled batches of latents (n, D), and the 95 % range of such batches of N(0, 1)."""
    random = np.random.default_rng(seed)
    size = min(BATCH, len(latents))
    loss = SIGReg(num_directions=DIRECTIONS, seed=seed).eval()
    order = random.permutation(len(latents))[: len(latents) // size * size][: 32 * size]
    batches = torch.from_numpy(latents[order].reshape(-1, size, latents.shape[1])).float()
    gauss = torch.from_numpy(random.normal(size=(REFERENCES, size, latents.shape[1]))).float()
    low, high = np.quantile([float(loss(batch[None])) for batch in gauss], [0.025, 0.975])
    return float(loss(batches)), (float(low), float(high))


def _straight(evidence: Evidence, names: tuple[str, ...]) -> dict[str, float]:
    """Of the paths of latents, pixels, and these quantities of the state."""
    skip = evidence.config.frameskip
    tracks = evidence.tracks["held_out"]
    found = {
        "latents": straightness([path[::skip] for path in evidence.latents("held_out")]),
        "pixels": straightness(
            [t.pixels[::skip].reshape(len(t.pixels[::skip]), -1).astype(np.float32) for t in tracks[:PATHS]]
        ),
    }
    if names:
        known = [evidence.quantities(track.state) for track in tracks if track.state is not None]
        tables = [np.stack([table[name] for name in names], -1) for table in known]
        std = np.concatenate(tables).std(0)
        found["state"] = straightness([table[::skip] / np.where(std > 0, std, 1.0) for table in tables])
    return found


def draw(found: Health) -> list[Shown]:
    shown = [_draw_std(found), _draw_correlation(found.shape), _draw_gaussian(found.shape)]
    if found.honesty is not None:
        shown += [_draw_distance(found.honesty), _draw_where(found.honesty), _draw_share(found)]
        near, far = found.odd
        shown += [
            _draw_odd("Held for too near", "far apart in truth, near in the latent", near),
            _draw_odd("Held for too far", "near in truth, far apart in the latent", far),
        ]
    return shown


def _draw_std(found: Health) -> Shown:
    spread = found.shape
    figure, axis = charts.chart("dimension, widest first", "standard deviation")
    axis.bar(range(len(spread.std)), np.sort(spread.std)[::-1], width=1.0, color=charts.BLUE)
    axis.axhline(1.0, color=charts.VERMILION, linestyle="--", label="what SIGReg asks for")
    axis.set_ylim(bottom=0)
    charts.legend(axis, loc="lower left", frameon=True)
    turns = ", ".join(f"{name} {value:.2f}" for name, value in found.straightness.items())
    return Shown(
        "Spread of each dimension",
        f"None should be near 0. Mean excess kurtosis {spread.kurtosis.mean():.2f} (a Gaussian: 0). "
        f"Straightness of paths, cosine between one step and the next: {turns}.",
        figure,
    )


def _draw_correlation(spread: Shape) -> Shown:
    figure = Figure(figsize=(charts.SIZE[0], 3.4), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(spread.correlation, vmin=-1, vmax=1, cmap="PuOr", interpolation="nearest")
    axis.set_xlabel("dimension", fontsize=CAPTION, color=charts.INK)
    axis.set_ylabel("dimension", fontsize=CAPTION, color=charts.INK)
    axis.tick_params(labelsize=CAPTION - 1, colors=charts.INK)
    figure.colorbar(image, ax=axis, shrink=0.85).ax.tick_params(labelsize=CAPTION - 1, colors=charts.INK)
    return Shown(
        "Correlation between dimensions",
        f"White off the diagonal is what an isotropic Gaussian shows. Mean size {spread.coupling:.2f}; "
        f"effective rank {spread.effective_rank:.1f} of {len(spread.std)}.",
        figure,
    )


def _draw_gaussian(spread: Shape) -> Shown:
    figure, axis = charts.chart("quantile of a Gaussian", "quantile of the latents")
    for line in spread.seen:
        axis.plot(spread.normal, line, color=charts.BLUE, alpha=0.35, linewidth=1)
    axis.plot([], [], color=charts.BLUE, label=f"{len(spread.seen)} random directions")
    ends = spread.normal[[0, -1]]
    axis.plot(ends, ends, color=charts.VERMILION, linestyle="--", label="a Gaussian")
    charts.legend(axis)
    return Shown(
        "How Gaussian",
        f"Lines along the dashes are Gaussian. SIGReg is {spread.sigreg:.2f} on batches of {BATCH}; of a "
        f"Gaussian 95% lie between {spread.sigreg_expected[0]:.2f} and {spread.sigreg_expected[1]:.2f}.",
        figure,
    )


def _draw_distance(found: Honesty) -> Shown:
    figure, axis = charts.chart("true distance (standard deviations)", "latent distance")
    axis.hexbin(found.true, found.latent, gridsize=36, cmap=charts.MAP, mincnt=1, bins="log", linewidths=0.1)
    middle = np.quantile(found.true, np.linspace(0, 1, 13))
    part = np.clip(np.searchsorted(middle, found.true, side="right") - 1, 0, 11)
    centre = [np.median(found.true[part == i]) for i in range(12) if (part == i).any()]
    height = [np.median(found.latent[part == i]) for i in range(12) if (part == i).any()]
    axis.plot(centre, height, "o-", color=charts.VERMILION, markersize=4, label="median")
    charts.legend(axis, loc="lower right", frameon=True)
    return Shown(
        "Latent distance against true distance",
        "Pairs of held-out frames; brighter is more of them. Good: a narrow band that rises all the way. "
        "Where it is flat, the planner's cost does not tell how far the goal is.",
        figure,
    )


def _draw_where(found: Honesty) -> Shown:
    figure, axis = charts.chart("true distance (standard deviations)", "")
    names = [f"{low:.1f}–{high:.1f}" for low, high in zip(found.edges[:-1], found.edges[1:])]
    axis.plot(names, found.nearer, "o-", color=charts.BLUE, label="knows which of two is nearer (share)")
    axis.plot(names, found.by_distance, "s--", color=charts.VERMILION, label="rank correlation within")
    axis.axhline(0.5, color=charts.GREY, linestyle=":", linewidth=1, label="guessing which is nearer")
    axis.set_ylim(min(-0.05, float(np.nanmin(found.by_distance))), 1.05)
    charts.legend(axis, loc="upper right")
    return Shown(
        "Where distance fails",
        "By how far apart the frames are: 1 is good everywhere. A planner that looks a few steps ahead needs "
        "the left end when its goal is near and the right end when it is far.",
        figure,
    )


def _draw_share(found: Health) -> Shown:
    assert found.honesty is not None
    figure, axis = charts.chart("share of the squared latent distance", "",
                                height=max(charts.SIZE[1], 0.9 + 0.26 * len(found.names)))  # fmt: skip
    charts.bars(axis, found.names, {"": list(found.honesty.share)})
    axis.set_xlim(left=0)
    return Shown(
        "What latent distance is made of",
        "How much of it goes with a difference in each quantity, were it a weighted sum; the rest, "
        f"{max(0.0, 1 - float(found.honesty.share.sum())):.0%}, goes with none. A quantity near 0 is one "
        "that a planner does not see.",
        figure,
    )


def _draw_odd(title: str, what: str, odd: tuple[np.ndarray, np.ndarray]) -> Shown:
    pairs, distances = odd
    above = [f"{latent:.1f} / {true:.1f}" for latent, true in distances]
    figure = charts.strip([list(pairs[:, 0]), list(pairs[:, 1])], ["one frame", "the other"], above)
    caption = (
        f"Pairs {what}, the worst by rank. Above each: latent / true distance; the true one is as the crow "
        "flies, so two places with a wall between them are near in truth."
    )
    return Shown(title, caption, figure)


SECTION = Section(
    "health",
    "Health of the latents",
    "Whether the latents fill their space and whether distance between them is honest; good is an effective "
    "rank well above the state's size, a standard deviation near 1 in every dimension, SIGReg near a "
    "Gaussian's 1.05, and a latent distance that rises with the true one (rank correlation near 1).",
    health,
    draw,
)
