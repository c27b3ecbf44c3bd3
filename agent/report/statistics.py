"""A few statistics that several sections of the report need, in numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FLIPS = 10_000  # random changes of sign of the paired test, which makes 1e-4 the smallest p it can tell
RIDGE = 1e-3  # penalty per sample, on standardised inputs


def ranks(values: np.ndarray) -> np.ndarray:
    """(n,) -> (n,): place of each value, 1 for the smallest; equal values share their mean place."""
    _, which, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return (last - (count - 1) / 2)[which.reshape(-1)]


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation of (n,) and (n,), 0 where either does not vary."""
    return correlation(ranks(np.asarray(a)), ranks(np.asarray(b)))


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson's correlation of (n,) and (n,), 0 where either does not vary."""
    a, b = a - np.mean(a), b - np.mean(b)
    scale = np.sqrt(np.square(a).sum() * np.square(b).sum())
    return float((a * b).sum() / scale) if scale > 0 else 0.0


def roc_auc(ordinary: np.ndarray, odd: np.ndarray) -> float:
    """How often a value of `odd` lies above one of `ordinary`, ties counting half: 1 when they can be told
    apart by a threshold, 0.5 when not at all. (n,), (m,)."""
    placed = ranks(np.concatenate([ordinary, odd]))[len(ordinary) :]
    return float((placed.mean() - (len(odd) + 1) / 2) / len(ordinary))


def paired_test(difference: np.ndarray, seed: int = 0) -> float:
    """One-sided p that the mean of (n,) paired differences is above zero by chance.

    If nothing made a difference each sign could as well be the other: the mean is compared with those of
    FLIPS random choices of signs (R. A. Fisher, "The Design of Experiments", 1935).
    """
    difference = np.asarray(difference, dtype=np.float64)
    if not difference.any():
        return 1.0
    random = np.random.default_rng(seed)
    beyond, total = 0, difference.sum() - 1e-9 * np.abs(difference).sum()
    for count in np.diff(np.linspace(0, FLIPS, 11).astype(int)):  # in parts, which bounds the memory
        signs = random.integers(0, 2, (count, len(difference)), dtype=np.int8) * 2 - 1
        beyond += int((signs @ difference >= total).sum())
    return (beyond + 1) / (FLIPS + 1)


def effect_size(difference: np.ndarray) -> float:
    """Mean of (n,) paired differences over their standard deviation (Cohen's d of pairs); 0 if none."""
    spread = float(np.std(difference, ddof=1)) if len(difference) > 1 else 0.0
    return float(np.mean(difference)) / spread if spread > 0 else 0.0


def r_squared(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(n, Q), (n, Q) -> (Q,): share of the targets' variance that is explained; 0 where there is none."""
    variance = np.var(target, axis=0)
    error = np.square(predicted - target).mean(0)
    known = variance > 1e-12
    return np.where(known, 1 - error / np.where(known, variance, 1.0), 0.0)


@dataclass(frozen=True)
class LinearMap:
    """predicted = (x - centre) @ weights + offset.   weights (D, Q), centre (D,), offset (Q,)."""

    weights: np.ndarray
    centre: np.ndarray
    offset: np.ndarray

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return (x - self.centre) @ self.weights + self.offset


def fit_linear(x: np.ndarray, y: np.ndarray, penalty: float = RIDGE) -> LinearMap:
    """Ridge regression of (n, Q) on (n, D), after standardising the inputs; those that do not vary are left
    out, so that from constant inputs the mean is predicted."""
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    centre, offset, std = x.mean(0), y.mean(0), x.std(0)
    varies = std > 1e-5 * max(float(std.max(initial=0.0)), float(np.abs(centre).max(initial=0.0)), 1e-9)
    scale = np.where(varies, 1 / np.where(varies, std, 1.0), 0.0)
    inputs = (x - centre) * scale
    gram = inputs.T @ inputs + penalty * len(x) * np.eye(x.shape[1])
    weights = np.linalg.solve(gram, inputs.T @ (y - offset))
    return LinearMap(weights * scale[:, None], centre, offset)
