"""What a robot can do: bounds of every action component, and how much an action may differ from the last."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .choices import Choices
from .config import PlanError, is_int

Numbers = Tensor | Sequence[float]


class Limits:
    """Checked limits of an action block of F actions with A components each, in the order of time.

    low, high: (FA,), low <= high; infinite means unbounded.   action_dim: A; default: one action a block.
    max_change: (A,) or one number, the most that an action may differ from the one before, also from the
        last of the block before; None: any change. Raises PlanError for what makes no sense.
    choices: of one action's components, how many choices each has, see planners.choices; A then counts all
        their places, and neither bounds nor max_change hold for these. None: all are numbers.
    """

    def __init__(
        self,
        low: Numbers,
        high: Numbers,
        *,
        action_dim: int | None,
        max_change: Numbers | float | None,
        choices: Sequence[int] | None = None,
    ) -> None:
        self.low = torch.as_tensor(low).detach().cpu().double()
        self.high = torch.as_tensor(high).detach().cpu().double()
        if self.low.ndim != 1 or self.low.shape != self.high.shape or len(self.low) == 0:
            raise PlanError(
                "low and high must be two vectors of one size, a number per action component; "
                f"got shapes {tuple(self.low.shape)} and {tuple(self.high.shape)}."
            )
        wrong = ~(self.low <= self.high)  # also true for NaN
        if wrong.any():
            i = int(wrong.nonzero()[0])
            raise PlanError(
                f"The bounds of action component {i} are [{self.low[i]:g}, {self.high[i]:g}]: "
                "low must be at most high."
            )
        self.action_dim = len(self.low) if action_dim is None else action_dim
        if not is_int(self.action_dim) or self.action_dim < 1 or len(self.low) % self.action_dim:
            raise PlanError(f"A block of {len(self.low)} numbers does not hold actions of {action_dim!r}.")
        self.choices = None
        if choices is not None and any(choices):
            self.choices = Choices(choices, len(self.low))
            if self.choices.action_dim != self.action_dim:
                raise PlanError(
                    f"The choices {list(choices)} take {self.choices.action_dim} numbers of an action, not "
                    f"{self.action_dim}."
                )
            self.low = self.low.masked_fill(self.choices.where, -torch.inf)
            self.high = self.high.masked_fill(self.choices.where, torch.inf)
        self.max_change = None if max_change is None else self._checked_change(max_change)
        self._moved: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor, Tensor | None]] = {}

    def _checked_change(self, max_change: Numbers | float) -> Tensor:
        change = torch.as_tensor(max_change).detach().cpu().double()
        if change.shape not in ((), (self.action_dim,)) or not (change > 0).all():
            raise PlanError(
                f"max_change must be above 0, one number or {self.action_dim}, one per action component, "
                f"not {max_change!r}."
            )
        per_action = self.low.view(-1, self.action_dim), self.high.view(-1, self.action_dim)
        if any((bound != bound[0]).any() for bound in per_action):
            raise PlanError("max_change needs bounds that are the same for every action of a block.")
        change = change.expand(self.action_dim).clone()
        if self.choices is not None:  # a choice has no size
            change[self.choices.where[: self.action_dim]] = torch.inf
        return change

    def __len__(self) -> int:
        return len(self.low)

    def nearest_to_rest(self, like: Tensor) -> Tensor:
        """(FA,): the allowed action nearest to zero, with the dtype and device of `like`; of a choice, all
        alike."""
        rest = torch.zeros_like(self.low).clamp(self.low, self.high)
        return (rest if self.choices is None else rest + self.choices.even).to(like)

    def keep(self, candidates: Tensor, last_action: Tensor | None = None) -> Tensor:
        """Candidates (B, N, H, FA), changed in place to keep the limits: each action the nearest one allowed.

        last_action: (B, A), what was done before the first; None: the first may be anything in the bounds.
        """
        candidates = self.keep_numbers(candidates, last_action)
        return candidates if self.choices is None else self.choices.settle(candidates)

    def keep_numbers(self, candidates: Tensor, last_action: Tensor | None = None) -> Tensor:
        """As `keep`, but choices stay as they are: chances, or scores."""
        low, high, change = self._beside(candidates)
        candidates.clamp_(low, high)
        if change is None:
            return candidates
        actions = candidates.view(*candidates.shape[:2], -1, self.action_dim)  # in the order of time
        first = slice(0, self.action_dim)
        before = None if last_action is None else last_action[:, None].clamp(low[first], high[first])
        for t in range(actions.shape[2]):
            if before is not None:
                actions[:, :, t] = torch.clamp(actions[:, :, t], before - change, before + change)
            before = actions[:, :, t]
        return candidates

    def _beside(self, like: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """low, high and max_change with the dtype and device of `like`; moved there once."""
        place = like.dtype, like.device
        if place not in self._moved:
            change = None if self.max_change is None else self.max_change.to(like)
            self._moved[place] = self.low.to(like), self.high.to(like), change
        return self._moved[place]
