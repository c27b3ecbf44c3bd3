"""Sentences for goals that look like nothing known, or out of reach."""

from __future__ import annotations

from latent_planner.evaluation.reachability import KEPT

from .imagined import Known

# Share of the distance between unrelated latents. States of the bundled worlds that were not among the known
# ones were at most 0.5 away; noise and flat colours 0.63 and more where the encoder knows other looks, 2 and
# more elsewhere.
UNFAMILIAR = 0.57


class Doubts:
    """About one goal.

    most: latent distance as in `reachability`; None: not measured.
    scale: distance between unrelated latents.
    """

    def __init__(self, most: float | None, scale: float) -> None:
        self._most, self._scale = most, scale
        self._within = most is None  # whether a plan came near enough

    def out_of_reach(self, nearest: float) -> str | None:
        """A sentence as long as no plan expects to come as near as those that led to their goals.

        nearest: least distance to the goal that the newest plan expects.
        """
        self._within = self._within or self._most is None or nearest <= self._most
        if self._within:
            return None
        return (
            f"The goal seems out of reach: this plan expects to come within {nearest:.1f} of it, and "
            f"{KEPT:.0%} of the goals that were reached began with a plan within {self._most:.1f}."
        )

    def unfamiliar(self, known: Known, away: float | None) -> str | None:
        """A sentence where the goal is this far from everything known; None: not known yet."""
        if away is None or away < UNFAMILIAR * self._scale:
            return None
        return (
            f"This goal looks like nothing that the model knows: the nearest of {len(known)} known frames is "
            f"{away:.1f} away, and unrelated frames are about {self._scale:.0f} apart."
        )
