"""Which goals to practise: those where the agent's success changes, or any.

After ALP-GMM: R. Portelas, C. Colas, K. Hofmann and P.-Y. Oudeyer, "Teacher algorithms for curriculum
learning of Deep RL in continuously parameterized environments", CoRL 2019, arXiv:1910.07224. The absolute
learning progress of an attempt is |its success - that of the nearest goal attempted before|. A Gaussian
mixture is fitted to (goal, progress). Four goals in five are drawn from its parts, in proportion to their
mean progress; the others evenly. There are two differences. "Before" means in an earlier round, since within
a round nothing is learned. And a draw only says what to look for: the goal is the recorded frame that is
nearest to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .mixture import fit

KINDS = ("alp", "uniform")
DIMENSIONS = 6  # principal components of the latents that describe a goal
EVENLY = 0.2  # share of the goals that is drawn from all
PARTS = range(2, 8)  # of the mixture
WINDOW = 250  # attempts, the newest, that the mixture is fitted to
FEWEST = 20  # attempts with a known progress, before which goals are drawn evenly


@dataclass
class Attempts:
    """n attempts, in order: goals (n, k) as described, success (n,) in [0, 1], and the round (n,) of each."""

    goals: np.ndarray
    success: np.ndarray
    rounds: np.ndarray

    @classmethod
    def none(cls, size: int) -> Attempts:
        return cls(np.zeros((0, size)), np.zeros(0), np.zeros(0, np.int64))

    def add(self, goals: np.ndarray, success: np.ndarray, number: int) -> None:
        """More attempts, of the round of this number."""
        self.goals = np.concatenate([self.goals, goals])
        self.success = np.concatenate([self.success, success])
        self.rounds = np.concatenate([self.rounds, np.full(len(success), number)])

    def progress(self) -> np.ndarray:
        """(n,): |success - that of the nearest goal of an earlier round|; NaN in the first round."""
        found = np.full(len(self.success), np.nan)
        for number in np.unique(self.rounds):
            now, before = np.flatnonzero(self.rounds == number), np.flatnonzero(self.rounds < number)
            if len(before):
                nearest = before[nearest_of(self.goals[now], self.goals[before])]
                found[now] = np.abs(self.success[now] - self.success[nearest])
        return found


def described(latents: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Latents (n, D) and others (m, D) by the first's DIMENSIONS principal components, (n, k) and (m, k),
    in units of the largest standard deviation among them."""
    mean = latents.mean(0)
    _, sizes, axes = np.linalg.svd(latents - mean, full_matrices=False)
    scale = max(float(sizes[0]) / np.sqrt(len(latents)), 1e-9)
    axes = axes[:DIMENSIONS].T / scale
    return (latents - mean) @ axes, (others - mean) @ axes


def nearest_of(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(n,): which of others (m, k) is nearest to each of points (n, k)."""
    return np.square(points[:, None] - others[None]).sum(-1).argmin(1)


def choose(
    kind: str, pool: np.ndarray, attempts: Attempts, count: int, rng: np.random.Generator
) -> np.ndarray:
    """Which `count` goals of the pool (P, k) to attempt next: indices (count,).   kind: one of KINDS."""
    chosen = rng.integers(len(pool), size=count)
    progress = attempts.progress()
    known = np.flatnonzero(np.isfinite(progress))[-WINDOW:]
    if kind != "alp" or len(known) < FEWEST:
        return chosen
    mixture = fit(np.column_stack([attempts.goals[known], progress[known]]), PARTS, rng)
    worth = mixture.means[:, -1].clip(min=0)
    if not worth.sum() > 0:
        return chosen
    parts = rng.choice(len(worth), size=count, p=worth / worth.sum())
    wanted = np.stack([mixture.sample(part, rng)[:-1] for part in parts])
    return np.where(rng.random(count) < EVENLY, chosen, nearest_of(wanted, pool))
