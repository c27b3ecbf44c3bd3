"""What a plan should reach, avoid and spend: costs of imagined plans, to be added and weighed.

    objective = closest() + 0.01 * smoothness()      # or, in a config: "closest + 0.01*smoothness"
    objective(imagined)                              # (B, N), lower is better

Distances are squared Euclidean ones in latent space, as LeWorldModel plans with (arXiv 2603.19312). SIGReg
gives every component of a latent variance one, so two frames that have nothing in common are about 2 D apart.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from latent_planner.common.words import did_you_mean
from latent_planner.planners import PlanError


@dataclass(frozen=True)
class Imagined:
    """Plans and where they lead, for B problems and N candidates.

    latents: (B, N, H+1, D), index 0 the current one.   goal: (B, D).
    said: (B, D), 1 where the goal says what the latent is to be, else 0; None: everywhere.
    actions: (B, N, H·F, A) in environment units, where somebody knows them; `last`: (B, A), the one before.
        Choices are one-hot: none costs more effort than another, and each change of one counts 2.
    """

    latents: Tensor
    goal: Tensor
    actions: Tensor | None = None
    last: Tensor | None = None
    said: Tensor | None = None

    def squared_distances(self) -> Tensor:
        """To the goal, of every imagined latent: (B, N, H).

        The current latent is the same for every candidate. It is left out, so that standing at the goal does
        not make all plans equal.
        """
        off = (self.latents[:, :, 1:] - self.goal[:, None, None]).float().square()
        return off.sum(dim=-1) if self.said is None else (off * self.said[:, None, None]).sum(dim=-1)


Term = Callable[[Imagined], Tensor]
Penalty = Callable[[Tensor], Tensor]  # latents (…, D) -> (…), zero where one may be


@dataclass(frozen=True)
class Objective:
    """A weighted sum of terms, each (weight, name, imagined -> (B, N)). `str` gives what `parse` takes."""

    terms: tuple[tuple[float, str, Term], ...]

    def __call__(self, imagined: Imagined) -> Tensor:
        costs = [cost(imagined) if weight == 1 else weight * cost(imagined) for weight, _, cost in self.terms]
        return costs[0] if len(costs) == 1 else torch.stack(costs).sum(dim=0)

    def __add__(self, other: Objective) -> Objective:
        return Objective(self.terms + other.terms)

    def __mul__(self, factor: float) -> Objective:
        if not math.isfinite(factor) or factor < 0:
            raise PlanError(f"The weight of an objective must be a number of at least 0, not {factor!r}.")
        return Objective(tuple((factor * weight, name, cost) for weight, name, cost in self.terms))

    __rmul__ = __mul__

    def __str__(self) -> str:
        weights = [f"{weight:g}".replace("e+", "e") for weight, _, _ in self.terms]
        return " + ".join(
            name if weight == "1" else f"{weight}*{name}" for weight, (_, name, _) in zip(weights, self.terms)
        )


def _term(name: str, cost: Term) -> Objective:
    return Objective(((1.0, name, cost),))


def last() -> Objective:
    """Be at the goal at the very end."""
    return _term("last", lambda imagined: imagined.squared_distances()[..., -1])


def closest() -> Objective:
    """Pass the goal as near as possible, whenever."""
    return _term("closest", lambda imagined: imagined.squared_distances().amin(dim=-1))


def discounted(discount: float = 0.9) -> Objective:
    """Be near the goal soon and stay there: the mean over the plan, step h weighing discount ** h.

    discount: above 0, at most 1; PlanError otherwise.
    """
    if not 0 < discount <= 1:
        raise PlanError(f"The discount must be above 0 and at most 1, not {discount:g}.")

    def cost(imagined: Imagined) -> Tensor:
        distances = imagined.squared_distances()
        weights = discount ** torch.arange(distances.shape[-1], device=distances.device)
        return distances @ (weights / weights.sum())

    return _term(f"discounted({discount:g})", cost)


def effort() -> Objective:
    """Act little: the mean over the plan's actions of their squared length, in environment units."""
    return _term("effort", lambda imagined: _actions(imagined).square().sum(-1).mean(-1))


def smoothness() -> Objective:
    """Change little from one action to the next: the mean squared length of the change."""

    def cost(imagined: Imagined) -> Tensor:
        actions = _actions(imagined)
        if imagined.last is not None:
            before = imagined.last[:, None, None].to(actions).expand(-1, actions.shape[1], -1, -1)
            actions = torch.cat([before, actions], dim=2)
        if actions.shape[2] == 1:
            return actions.new_zeros(actions.shape[:2])
        return actions.diff(dim=2).square().sum(-1).mean(-1)

    return _term("smoothness", cost)


def keep_out(penalty: Penalty, name: str = "keep_out") -> Objective:
    """Do not go where penalty (…, D) -> (…) is above zero: its sum over the imagined latents.

    penalty: any function of latents, or `keep_out.learn_penalty`. Give it a weight that is large beside
    the squared distances between latents. It is asked at the end of each action block only.
    """

    def cost(imagined: Imagined) -> Tensor:
        there = penalty(imagined.latents[:, :, 1:])
        if there.shape != (*imagined.latents.shape[:2], imagined.latents.shape[2] - 1):
            raise PlanError(
                f"The penalty {name} must give one number per latent: latents "
                f"{tuple(imagined.latents[:, :, 1:].shape)} became {tuple(there.shape)}."
            )
        return there.float().sum(-1)

    return _term(name, cost)


# What a config can name; those in NUMBERED take a number, as in discounted(0.8).
OBJECTIVES: dict[str, Callable[..., Objective]] = {
    "last": last,
    "closest": closest,
    "discounted": discounted,
    "effort": effort,
    "smoothness": smoothness,
}
NUMBERED = ("discounted",)
GOALS = ("last", "closest", "discounted")  # the terms that lead anywhere

_NUMBER = r"[0-9.]+(?:[eE]-?[0-9]+)?"
_WORD = re.compile(rf"(?:({_NUMBER})\s*\*\s*)?(\w+)\s*(?:\(\s*({_NUMBER})\s*\))?")


def parse(text: str | Objective) -> Objective:
    """The objective that a text such as "closest + 0.01*smoothness" means; an Objective is given back.

    PlanError for what is not understood, and for one that has no goal in it.
    """
    if isinstance(text, Objective):
        return text
    parts = [_parse_term(part.strip(), str(text)) for part in str(text).split("+")]
    if not any(name.split("(")[0] in GOALS for part in parts for _, name, _ in part.terms):
        raise PlanError(f"The objective {text!r} leads nowhere: add one of {', '.join(GOALS)}.")
    return sum(parts[1:], parts[0])


def _parse_term(part: str, text: str) -> Objective:
    found = _WORD.fullmatch(part)
    if found is None:
        raise PlanError(
            f"The objective {text!r} is not understood at {part!r}: write terms such as closest or "
            "0.01*smoothness, with + between them."
        )
    weight, name, number = found.groups()
    if name not in OBJECTIVES:
        near = did_you_mean(name, OBJECTIVES)
        hint = f"{near} There are" if near else "; choose from"
        raise PlanError(f"Unknown objective {name!r}{hint} {', '.join(OBJECTIVES)}.")
    if number is not None and name not in NUMBERED:
        raise PlanError(f"The objective {name!r} takes no number in brackets, but {text!r} gives it one.")
    try:
        made = OBJECTIVES[name]() if number is None else OBJECTIVES[name](float(number))
        return made if weight is None else float(weight) * made
    except ValueError as error:
        if isinstance(error, PlanError):
            raise
        raise PlanError(f"The objective {text!r} holds a number that cannot be read, at {part!r}.") from None


def _actions(imagined: Imagined) -> Tensor:
    if imagined.actions is None:
        raise PlanError("This objective judges actions, and none were given.")
    return imagined.actions
