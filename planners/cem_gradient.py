"""CEM that ends with gradient steps.

Sampling finds the right valley, gradients its bottom: Bharadhwaj et al., "Model-Predictive Control via
Cross-Entropy and Gradient-Based Optimization", L4DC 2020 (arXiv 2004.08763) take both in turn; here the
gradient steps come once, after the last CEM iteration, on the few best candidates.
"""

from __future__ import annotations

from torch import Tensor

from .cem import CEM
from .gradient import Adam
from .planner import Search, cheapest


class CEMGradient(CEM):
    """`iterations` of CEM, then `gradient_steps` of Adam on the `gradient_starts` cheapest candidates."""

    chooses = False

    @property
    def rounds(self) -> int:
        return self.config.iterations + self.config.gradient_steps + 1  # one more to see the last step's cost

    def wants_gradient(self, iteration: int) -> bool:
        return self.config.iterations <= iteration < self.rounds - 1

    def propose(self, search: Search) -> Tensor:
        return super().propose(search) if search.iteration < self.config.iterations else search.proposed

    def learn(self, search: Search) -> None:
        done = search.iteration + 1
        if done < self.config.iterations:
            super().learn(search)
        elif done == self.config.iterations:
            search.memory = Adam(self.config.learning_rate)
            search.proposed = cheapest(search.candidates, search.cost, self.config.gradient_starts)[0]
            search.proposed[:, -1] = search.best  # of all iterations
        else:
            search.proposed = search.memory.step(search.candidates, search.gradient)
