"""A mixture of normal distributions, fitted by expectation maximisation.

A. P. Dempster, N. M. Laird and D. B. Rubin, "Maximum likelihood from incomplete data via the EM algorithm",
1977. How many parts there are is chosen by H. Akaike's criterion, 1974.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

ITERATIONS = 60
SETTLED = 1e-4  # gain in mean log likelihood below which it stops
LEAST_VARIANCE = 1e-3  # of a part, as a share of that of all points


@dataclass(frozen=True)
class Mixture:
    """K parts: weights (K,), means (K, d), covariances (K, d, d)."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray

    def log_densities(self, points: np.ndarray) -> np.ndarray:
        """(n, d) -> (n, K): of each part, weighted."""
        roots = np.linalg.cholesky(self.covariances)
        off = (points[None] - self.means[:, None]).transpose(0, 2, 1)  # (K, d, n)
        squared = np.square(np.linalg.solve(roots, off)).sum(1)
        sizes = np.log(np.diagonal(roots, axis1=1, axis2=2)).sum(1)
        constant = np.log(self.weights) - sizes - 0.5 * points.shape[1] * np.log(2 * np.pi)
        return (constant[:, None] - 0.5 * squared).T

    def sample(self, part: int, rng: np.random.Generator) -> np.ndarray:
        """One point (d,) of a part."""
        return rng.multivariate_normal(self.means[part], self.covariances[part], method="cholesky")


def fit(points: np.ndarray, parts: Sequence[int], rng: np.random.Generator) -> Mixture:
    """The mixture of one of these numbers of parts that explains points (n, d) best by Akaike's criterion.

    More parts than there are points are not tried.
    """
    best, least = None, np.inf
    for count in parts:
        if count <= len(points):
            mixture, likelihood = expectation_maximisation(points, count, rng)
            size = points.shape[1]
            free = count * (1 + size + size * (size + 1) / 2) - 1
            criterion = 2 * free - 2 * likelihood * len(points)
            if criterion < least:
                best, least = mixture, criterion
    assert best is not None
    return best


def expectation_maximisation(
    points: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[Mixture, float]:
    """A mixture of `count` parts for points (n, d), and the mean log likelihood that it gives them."""
    spread = np.diag(points.var(0) + 1e-12)
    centres = points[rng.choice(len(points), size=count, replace=False)]
    mixture = Mixture(np.full(count, 1 / count), centres, np.repeat(spread[None], count, 0))
    before = -np.inf
    for _ in range(ITERATIONS):
        densities = mixture.log_densities(points)
        likelihoods = np.logaddexp.reduce(densities, axis=1)
        shares = np.exp(densities - likelihoods[:, None])  # (n, K), how much each part explains each point
        mixture = _maximised(points, shares, LEAST_VARIANCE * spread)
        now = float(likelihoods.mean())
        if now - before < SETTLED:
            break
        before = now
    return mixture, float(np.logaddexp.reduce(mixture.log_densities(points), axis=1).mean())


def _maximised(points: np.ndarray, shares: np.ndarray, least: np.ndarray) -> Mixture:
    """The likeliest mixture, given by which part each point is explained."""
    totals = shares.sum(0) + 1e-9
    means = (shares.T @ points) / totals[:, None]
    off = points[None] - means[:, None]  # (K, n, d)
    covariances = np.einsum("nk,kni,knj->kij", shares, off, off) / totals[:, None, None] + least
    return Mixture(totals / totals.sum(), means, covariances)
