"""Is the planner's cost honest: distance between latents against distance between true states."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .section import picture
from .statistics import ranks, spearman

BINS = 5
SOLVE = 3000  # steps of the fit of weights


@dataclass(frozen=True)
class Honesty:
    """Latent distance against true distance of P pairs of frames.

    True distance is Euclidean over quantities, each in units of its standard deviation.
    correlation: of ranks, 1 when the latent orders all pairs as the truth does.
    edges: true distances (BINS + 1,) that part the pairs, near to far, into equally many.
    by_distance: rank correlation within each part (BINS,).
    nearer: of two frames, how often the latent knows which is nearer to a third, by the true distance of the
        nearer one (BINS,); nearer_overall: over all; 0.5 is guessing.
    share: of the squared latent distance, how much goes with each quantity's difference (Q,): a quantity near
        zero is one that the planner cannot see.
    latent, true (P,), pairs (P, 2): for drawing; pairs are indices of the frames.
    """

    correlation: float
    edges: np.ndarray
    by_distance: np.ndarray
    nearer: np.ndarray
    nearer_overall: float
    share: np.ndarray
    latent: np.ndarray = picture()
    true: np.ndarray = picture()
    pairs: np.ndarray = picture()

    def worst(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Pairs (count, 2): those that the latent holds for much too near, and for much too far."""
        off = ranks(self.latent) - ranks(self.true)
        order = np.argsort(off, kind="stable")
        return self.pairs[order[:count]], self.pairs[order[::-1][:count]]


def honesty(
    latents: np.ndarray, values: np.ndarray, episode: np.ndarray, *, pairs: int = 20_000, seed: int = 0
) -> Honesty:
    """Latents (n, D) and quantities (n, Q) of frames, and their episodes (n,), which ascend.

    Half of the pairs are frames of one episode, where a plan begins and ends, half are any two.
    """
    random = np.random.default_rng(seed)
    first, any_two, third = random.integers(len(latents), size=(3, pairs))
    begin = np.searchsorted(episode, episode[first])
    end = np.searchsorted(episode, episode[first], side="right")
    within = begin + (random.random(pairs) * (end - begin)).astype(int)
    second = np.where(np.arange(pairs) % 2 == 0, within, any_two)
    kept = (first != second) & (first != third)
    a, b, c = first[kept], second[kept], third[kept]
    z, std = np.asarray(latents, np.float64), values.std(0)
    v = values / np.where(std > 0, std, 1.0)

    def apart(x: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.linalg.norm(x[a] - x[other], axis=1)

    latent, true = apart(z, b), apart(v, b)
    edges = np.quantile(true, np.linspace(0, 1, BINS + 1))
    part = _part(true, edges)
    nearer, overall = _nearer((latent, apart(z, c)), (true, apart(v, c)), edges)
    return Honesty(
        correlation=spearman(latent, true),
        edges=edges,
        by_distance=np.array([spearman(latent[part == i], true[part == i]) for i in range(BINS)]),
        nearer=nearer,
        nearer_overall=overall,
        share=_share(latent, np.square(v[a] - v[b])),
        latent=latent,
        true=true,
        pairs=np.stack([a, b], 1),
    )


def straightness(paths: list[np.ndarray]) -> float:
    """Mean cosine between a step of a path and the next, of paths (T, D): 1 is a straight line, 0 turns at
    right angles, below 0 goes back and forth; 0 where nothing moves.

    O. Hénaff, R. Goris, E. Simoncelli, "Perceptual straightening of natural videos", Nature Neuroscience
    2019, compare such turns with those of the pixels.
    """
    found = []
    for path in paths:
        moves = np.diff(np.asarray(path, np.float64), axis=0)
        length = np.linalg.norm(moves, axis=-1)
        known = (length[:-1] > 1e-9) & (length[1:] > 1e-9)
        found.append(((moves[:-1] * moves[1:]).sum(-1)[known]) / (length[:-1] * length[1:])[known])
    cosines = np.concatenate(found) if found else np.zeros(0)
    return float(cosines.mean()) if len(cosines) else 0.0


def _part(true: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.clip(np.searchsorted(edges, true, side="right") - 1, 0, BINS - 1)


def _nearer(
    seen: tuple[np.ndarray, np.ndarray], true: tuple[np.ndarray, np.ndarray], edges: np.ndarray
) -> tuple[np.ndarray, float]:
    """Distances to the two frames, in the latent and in truth."""
    decided = true[0] != true[1]
    right = np.where(seen[0] == seen[1], 0.5, (seen[0] < seen[1]) == (true[0] < true[1]))[decided]
    part = _part(np.minimum(*true)[decided], edges)
    shares = [right[part == i].mean() if (part == i).any() else np.nan for i in range(BINS)]
    return np.array(shares), float(right.mean()) if len(right) else 0.5


def _share(latent: np.ndarray, terms: np.ndarray) -> np.ndarray:
    """Squared latent distance (P,) as a weighted sum of squared differences (P, Q) and a constant, no weight
    below zero (projected gradient); each term as a share of the whole."""
    target = np.square(latent)
    whole = target.mean()
    if whole <= 1e-12:
        return np.zeros(terms.shape[1])
    design = np.column_stack([terms, np.ones(len(terms))])
    gram, aim = design.T @ design / len(design), design.T @ (target / whole) / len(design)
    weights, step = np.zeros(design.shape[1]), 1 / np.linalg.eigvalsh(gram)[-1]
    for _ in range(SOLVE):
        weights = np.maximum(weights - step * (gram @ weights - aim), 0.0)
    return weights[:-1] * terms.mean(0)
