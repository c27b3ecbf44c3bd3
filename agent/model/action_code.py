"""Actions inside the model: numbers normalised, choices one-hot."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from latent_planner.common.action_space import ActionSpace


class ActionCode:
    """Between rows of A numbers, as a recording has them, and the E numbers of an action in a model.

    space: which components are choices.   mean, std: (A,) of the others; 0 and 1 for choices.
    """

    def __init__(self, space: ActionSpace, mean: Sequence[float], std: Sequence[float]) -> None:
        self.choices, self.first = space.choices or (0,) * len(mean), space.first or (0,) * len(mean)
        self.mean, self.std = tuple(mean), tuple(std)

    @property
    def size(self) -> int:
        """E: a place for each number and for each of the choices."""
        return sum(count or 1 for count in self.choices)

    def bounds(self, low: Sequence[float], high: Sequence[float]) -> tuple[tuple[float, ...], ...]:
        """(E,) each, of rows between low and high (A,): those of numbers, normalised; 0 and 1 for choices."""
        found: list[tuple[float, float]] = []
        for count, mean, std, least, most in zip(self.choices, self.mean, self.std, low, high):
            found += [(0.0, 1.0)] * count or [((least - mean) / std, (most - mean) / std)]
        return tuple(zip(*found)) or ((), ())

    def encode(self, rows: Tensor) -> Tensor:
        """(…, A) -> (…, E)."""
        parts = []
        for i, (count, first) in enumerate(zip(self.choices, self.first)):
            if count:
                which = (rows[..., i] - first).round().clamp(0, count - 1).long()
                parts.append(F.one_hot(which, count).to(rows.dtype))
            else:
                parts.append(((rows[..., i] - self.mean[i]) / self.std[i])[..., None])
        return torch.cat(parts, -1) if parts else rows

    def decode(self, actions: Tensor) -> Tensor:
        """(…, E) -> (…, A): of a choice the place with the largest number."""
        parts = []
        for i, part in enumerate(self._split(actions)):
            if self.choices[i]:
                parts.append(part.argmax(-1).to(actions.dtype) + self.first[i])
            else:
                parts.append(part[..., 0] * self.std[i] + self.mean[i])
        return torch.stack(parts, -1)

    def settle(self, actions: Tensor) -> Tensor:
        """(…, E) -> the same with each choice made: its largest number 1, the others 0."""
        made = [
            F.one_hot(part.argmax(-1), count).to(part.dtype) if count else part
            for count, part in zip(self.choices, self._split(actions))
        ]
        return torch.cat(made, -1)

    def measured(self, actions: Tensor) -> Tensor:
        """(…, E) -> (…, E): numbers in environment units, choices as they are."""
        parts = [
            part if count else part * std + mean
            for count, part, mean, std in zip(self.choices, self._split(actions), self.mean, self.std)
        ]
        return torch.cat(parts, -1)

    def _split(self, actions: Tensor) -> tuple[Tensor, ...]:
        return actions.split([count or 1 for count in self.choices], dim=-1)
