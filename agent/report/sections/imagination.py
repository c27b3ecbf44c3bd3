"""Imagination: how far ahead the model sees, and what it sees there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from .. import charts, decoder
from ..evidence import Evidence, Windows
from ..section import Result, Section, Shown, picture
from ..statistics import spearman

LONGEST = 20  # model steps
WINDOWS = 400
PLANNED = 5  # model steps: how far ahead the model must see to be of use to a planner
LIBRARY = 4000  # recorded frames among which the nearest is looked for
FRAMES = 6000  # to train the decoder on
PATHS, COLUMNS = 3, (0, 1, 2, 3, 5, 8, 12, 16, 20)  # shown, and at which steps
BINS = 8
STARTS = 150  # states from which unusual actions are tried


@dataclass(frozen=True)
class Unusual:
    """One step ahead, in BINS groups of equally many actions, or fewer: how unusual, and the median error."""

    unusual: np.ndarray  # (bins,) median Mahalanobis distance, in standard deviations
    error: np.ndarray  # (bins,)
    rank_correlation: float  # Spearman, over single actions


@dataclass(frozen=True)
class Imagination(Result):
    """Squared errors as shares of the latents' variance, so that the mean latent has about 1.

    steps (K,): model steps ahead.   error, error_low, error_high (K,): of open-loop rollouts from one frame,
    mean and quartiles.   still, mean (K,): of the two who do not imagine.
    better_until: the last step up to which the model is ahead of both.
    recorded, tried: error against how unusual an action is, for recorded actions, and for random ones tried
    in the world (None without one).   decoded: share of the pixels' variance that the decoder explains.
    """

    steps: np.ndarray
    error: np.ndarray
    error_low: np.ndarray
    error_high: np.ndarray
    still: np.ndarray
    mean: np.ndarray
    better_until: int
    recorded: Unusual
    tried: Unusual | None
    decoded: float
    paths: list[dict[str, np.ndarray]] = picture(default_factory=list)  # frames by row, (columns, h, w, 3)
    columns: tuple[int, ...] = picture(default=())


def imagination(evidence: Evidence, *, decoder_steps: int = decoder.STEPS) -> Imagination:
    """Roll out recorded actions from one held-out frame each, and compare with what was then seen.

    Passes when, PLANNED steps ahead, the error is less than half of the better of the two baselines: nothing
    changes, and the mean latent.
    """
    longest = min(LONGEST, evidence.longest())
    windows = evidence.windows("held_out", longest, WINDOWS)
    fit = evidence.sample("fit", FRAMES)
    middle = fit.latents.mean(0)
    variance = max(float(np.square(fit.latents - middle).sum(1).mean()), 1e-12)

    def away(latents: np.ndarray, others: np.ndarray) -> np.ndarray:
        return np.square(latents - others).sum(-1) / variance

    truth = windows.latents[:, 1:]
    imagined = evidence.rollout(windows.latents[:, 0], windows.blocks)
    error = away(imagined[:, 1:], truth)
    still, mean = away(windows.latents[:, :1], truth).mean(0), away(middle, truth).mean(0)
    ahead = error.mean(0) < np.minimum(still, mean)
    at = min(PLANNED, longest) - 1
    best = min(still[at], mean[at])
    good = bool(error.mean(0)[at] < best / 2)
    finding = (
        f"{at + 1} steps ahead the error is {error.mean(0)[at]:.1%} of the latents' variance, and {best:.1%} "
        f"for the better of those who do not imagine; ahead of both up to step {_until(ahead)} of {longest}."
    )
    draws = _decoder(evidence, decoder_steps)
    paths, columns = _paths(evidence, windows, imagined, draws)
    return Imagination(
        good, finding, np.arange(1, longest + 1), error.mean(0), np.quantile(error, 0.25, 0),
        np.quantile(error, 0.75, 0),
        still, mean, _until(ahead), _recorded(evidence, away), _tried(evidence, away),
        _decoded(evidence, draws), paths, columns,
    )  # fmt: skip


def _until(ahead: np.ndarray) -> int:
    """How many of the first entries (K,) are true."""
    return len(ahead) if ahead.all() else int(np.argmin(ahead))


# How unusual an action is ----------------------------------------------------------------------------------


def _recorded(evidence: Evidence, away) -> Unusual:
    windows = evidence.windows("held_out", 1, 20 * WINDOWS)
    imagined = evidence.rollout(windows.latents[:, 0], windows.blocks)[:, 1]
    return _binned(_oddness(evidence, windows.blocks[:, 0]), away(imagined, windows.latents[:, 1]))


def _tried(evidence: Evidence, away) -> Unusual | None:
    """Actions anywhere in the bounds, from recorded states: independent, held, and at the bounds."""
    if evidence.make_env is None or not evidence.has_state:
        return None
    config, rng = evidence.config, evidence.random(3)
    frames = evidence.sample("held_out", STARTS, branch=3)
    low, high = np.array(config.action_low), np.array(config.action_high)
    actions = rng.uniform(low, high, (len(frames.latents), config.frameskip, config.action_dim))
    third = len(actions) // 3
    actions[:third] = actions[:third, :1]  # held
    actions[third : 2 * third] = np.where(rng.random(actions[third : 2 * third].shape) < 0.5, low, high)
    assert frames.state is not None
    played = evidence.simulate(frames.state, actions)
    blocks = evidence.normalise(actions)
    imagined = evidence.rollout(evidence.encode(played.pixels[:, 0]), blocks)[:, 1]
    return _binned(_oddness(evidence, blocks[:, 0]), away(imagined, evidence.encode(played.pixels[:, 1])))


def _oddness(evidence: Evidence, blocks: np.ndarray) -> np.ndarray:
    """How far normalised blocks (n, F·A) are from those of the fit episodes, in standard deviations: (n,)."""
    known = evidence.windows("fit", 1, 20 * WINDOWS, branch=2).blocks[:, 0]
    spread = np.cov(known.T).reshape(known.shape[1], -1)
    precise = np.linalg.pinv(spread + 1e-4 * np.eye(len(spread)) * np.trace(spread) / len(spread))
    from_mean = blocks - known.mean(0)
    return np.sqrt(np.einsum("ni,ij,nj->n", from_mean, precise, from_mean) / len(spread))


def _binned(unusual: np.ndarray, error: np.ndarray) -> Unusual:
    order = np.argsort(unusual, kind="stable")
    groups = np.array_split(order, min(BINS, max(1, len(order) // 10)))
    medians = [[float(np.median(values[group])) for group in groups] for values in (unusual, error)]
    return Unusual(np.array(medians[0]), np.array(medians[1]), spearman(unusual, error))


# What is seen there ----------------------------------------------------------------------------------------


def _decoder(evidence: Evidence, steps: int) -> decoder.Decoder:
    frames = evidence.sample("fit", FRAMES)
    pixels = np.concatenate([
        decoder.shrunk(evidence.pixels("fit", e, frames.frame[frames.episode == e]))
        for e in np.unique(frames.episode)
    ])  # fmt: skip
    return decoder.train(
        frames.latents, pixels, steps=steps, seed=evidence.seed,
        progress=lambda rounds: evidence.bar(rounds, "train a decoder"),
    )  # fmt: skip


def _decoded(evidence: Evidence, draws: decoder.Decoder) -> float:
    frames = evidence.sample("held_out", 500)
    pixels = decoder.shrunk(
        np.stack([evidence.pixels("held_out", e, f) for e, f in zip(frames.episode, frames.frame)])
    )
    mean_frame = 255 * draws.mean_frame.permute(1, 2, 0).numpy()
    return decoder.explained(draws.draw(frames.latents), pixels, mean_frame)


def _paths(
    evidence: Evidence, windows: Windows, imagined: np.ndarray, draws: decoder.Decoder
) -> tuple[list[dict[str, np.ndarray]], tuple[int, ...]]:
    """For the windows in which most happens: what was seen, the nearest recorded frames, decoded frames."""
    library = evidence.sample("fit", LIBRARY, branch=1)
    columns = tuple(step for step in COLUMNS if step < imagined.shape[1])
    moved = np.linalg.norm(np.diff(windows.latents, axis=1), axis=-1).sum(1)
    chosen: list[int] = []
    for index in np.argsort(-moved):  # each from another episode
        if windows.episode[index] not in windows.episode[chosen]:
            chosen.append(int(index))
    paths = []
    for index in chosen[:PATHS]:
        path = imagined[index, list(columns)]
        nearest = [int(np.square(library.latents - latent).sum(1).argmin()) for latent in path]
        seen = windows.frame[index] + np.array(columns) * evidence.config.frameskip
        paths.append({
            "what happened": decoder.shrunk(evidence.pixels("held_out", windows.episode[index], seen)),
            "imagined: nearest frame": decoder.shrunk(
                np.stack([evidence.pixels("fit", library.episode[i], library.frame[i]) for i in nearest])
            ),
            "imagined: decoded": draws.draw(path),
            "happened: decoded": draws.draw(windows.latents[index, list(columns)]),
        })  # fmt: skip
    return paths, columns


# Drawing ---------------------------------------------------------------------------------------------------


def draw(found: Imagination) -> list[Shown]:
    shown = [
        Shown(
            "Error against how far ahead",
            "Open loop: one frame, then only actions. Band: from quartile to quartile. Imagining pays where "
            "it is below both other lines.",
            _horizon(found),
        ),
        Shown(
            "Error against how unusual the action is",
            "One step ahead. A recorded action lies about 1 from the mean of all; what rises to the right is "
            "what a planner should not trust.",
            _unusual(found),
        ),
    ]
    for number, path in enumerate(found.paths, 1):
        above = ["now" if step == 0 else f"+{step}" for step in found.columns]
        left = [name.replace(": ", ":\n") for name in path]
        shown.append(
            Shown(
                f"Imagined path {number}",
                "Held-out episode. Only the first frame and the actions were given. Shown of each imagined "
                "latent: the recorded frame whose latent is nearest, and what a decoder, trained afterwards, "
                "draws. Last row: what it draws of the latents of the true frames, the best it can do.",
                charts.strip(list(path.values()), left, above),
                wide=True,
            )
        )
    return shown


def _horizon(found: Imagination) -> Figure:
    figure, axis = charts.chart("model steps ahead", "squared error / variance")
    axis.fill_between(
        found.steps, found.error_low, found.error_high, color=charts.BLUE, alpha=0.2, linewidth=0
    )
    lines = {
        "imagined": (found.error, charts.BLUE, "o-"),
        "nothing changes": (found.still, charts.VERMILION, "s--"),
        "mean latent": (found.mean, charts.GREY, ":"),
    }
    for name, (values, colour, style) in lines.items():
        axis.plot(found.steps, values, style, color=colour, markersize=3.5, linewidth=1.5, label=name)
    axis.set_ylim(bottom=0)
    axis.set_xlim(0, found.steps[-1] + 0.3)
    charts.legend(axis)
    return figure


def _unusual(found: Imagination) -> Figure:
    figure, axis = charts.chart("distance from the mean action, std", "median error / variance")
    for kind, label, colour, marker in (
        (found.recorded, "recorded actions", charts.BLUE, "o-"),
        (found.tried, "random ones, tried in the world", charts.VERMILION, "s--"),
    ):
        if kind is not None:
            axis.plot(
                kind.unusual, kind.error, marker, color=colour, markersize=4, linewidth=1.5, label=label
            )
    axis.set_ylim(bottom=0)
    charts.legend(axis)
    return figure


SECTION = Section(
    "imagination",
    "Imagination",
    "How far the latents that the model imagines from one frame and a list of actions are from those it then "
    "sees, on held-out episodes: good is less than half of what those make who imagine nothing, as far ahead "
    "as plans go.",
    imagination,
    draw,
)
