"""Gradient descent on the actions, through the cost function.

Adam (Kingma & Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, arXiv 1412.6980) moves several
candidates at once, and after each step the actions are put back inside their limits. As in Henaff et al.,
"Model-Based Planning with Discrete and Continuous Actions", arXiv 1705.07177, restarts are what saves it from
poor local optima.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .planner import Planner, Search


class Adam:
    """Moves candidates (B, N, H, FA) down their gradients, each number with its own step size."""

    def __init__(self, learning_rate: float, betas: tuple[float, float] = (0.9, 0.999)) -> None:
        self.learning_rate, self.betas, self.steps = learning_rate, betas, 0
        self.mean = self.square = torch.zeros(())

    def step(self, candidates: Tensor, gradient: Tensor) -> Tensor:
        self.steps += 1
        first, second = self.betas
        self.mean = torch.lerp(gradient, self.mean.to(gradient).expand_as(gradient), first)
        self.square = torch.lerp(gradient.square(), self.square.to(gradient).expand_as(gradient), second)
        mean, square = self.mean / (1 - first**self.steps), self.square / (1 - second**self.steps)
        return candidates - self.learning_rate * mean / (square.sqrt() + 1e-8)


class Gradient(Planner):
    """Draws `num_samples` starts around the mean, the mean among them, and moves each for `iterations`."""

    chooses = False

    def wants_gradient(self, iteration: int) -> bool:
        return iteration + 1 < self.rounds  # the last step's outcome is only looked at

    def propose(self, search: Search) -> Tensor:
        return search.draw(self.config.num_samples) if search.iteration == 0 else search.proposed

    def learn(self, search: Search) -> None:
        if search.memory is None:
            search.memory = Adam(self.config.learning_rate)
        search.proposed = search.memory.step(search.candidates, search.gradient)
