"""How an Agent plans: one settings object for a program, plan.py, train.py, checkpoints and results.

Its defaults are those of configs/planner/cem.yaml.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from latent_planner import planners
from latent_planner.common.kinds import Choice, Kind, Number, Several, Text, Whole
from latent_planner.planners import PlanConfig, PlanError

from .model.device import PLANNING_PRECISIONS
from .objective import Objective, parse

LEGS = 5

# What is named in addition to the planner and the fields of PlanConfig.
OWN_KINDS: Mapping[str, Kind] = {
    "objective": Text(),
    "legs": Whole(low=1),
    "max_change": Several(optional=True, single=True, each=Number(low=0, above=True)),  # or a tensor
    "precision": Choice(names=PLANNING_PRECISIONS),
    "deadline": Number(optional=True, low=0, of="a number of seconds"),
}
OWN = tuple(OWN_KINDS)


@dataclass(frozen=True)
class AgentSettings:
    """How to search, and for what. PlanError for values that make no sense.

    planner, plan_config: see `latent_planner.planners`.   objective: see `latent_planner.objective`.
    legs: most legs of a way to a far goal, over landmarks that the checkpoint holds; 1: always straight.
    max_change: the most that an action may differ from the one before, in environment units: one number or
        one per action component; None: any change.
    precision: of imagining, float32, bfloat16, int8 (on a CPU), or auto: on a GPU bfloat16 where it has that,
        on a CPU the quickest of those it has instructions for, measured at the first plan.
    deadline: seconds for each replanning in `Agent.act`, unless a call gives another; None: no limit.
    """

    planner: str = "cem"
    plan_config: PlanConfig = PlanConfig()
    objective: str | Objective = "closest"
    legs: int = LEGS
    max_change: float | Sequence[float] | None = None
    precision: str = "float32"
    deadline: float | None = None

    def __post_init__(self) -> None:
        planners.find(self.planner)
        if not isinstance(self.plan_config, PlanConfig):
            raise PlanError(f"plan_config must be a PlanConfig, not {self.plan_config!r}.")
        parse(self.objective)
        self.change_limit()
        for name in ("legs", "precision", "deadline"):
            try:
                OWN_KINDS[name].check(name, getattr(self, name))
            except ValueError as error:
                raise PlanError(f"{error}.") from None

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AgentSettings:
        """From what `to_dict` gives, or a part of it: the rest takes its defaults. PlanError names a key that
        is not known, and the nearest that is."""
        rest = {name: value for name, value in values.items() if name not in ("name", *OWN)}
        own = {name: values[name] for name in OWN if name in values}
        return cls(values.get("name", "cem"), PlanConfig.from_dict(rest), **own)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as checkpoints hold them: "name" of the planner, "objective", "max_change",
        "precision", "deadline", and the fields of PlanConfig."""
        limit = self.change_limit()
        return {
            "name": self.planner,
            "objective": str(parse(self.objective)),
            "legs": self.legs,
            "max_change": None if limit is None else limit.tolist(),
            "precision": self.precision,
            "deadline": self.deadline,
            **self.plan_config.to_dict(),
        }

    def changed(self, **changes: Any) -> AgentSettings:
        """With other values for these fields, or for fields of PlanConfig. PlanError for unknown names."""
        own = {name: changes.pop(name) for name in ("planner", *OWN) if name in changes}
        config = changes.pop("plan_config", None) or self.plan_config
        if changes:
            config = PlanConfig.from_dict({**config.to_dict(), **changes})
        return replace(self, plan_config=config, **own)

    def change_limit(self, action_dim: int | None = None) -> Tensor | None:
        """max_change as a tensor () or (A,), float64; None for no limit. PlanError if it does not fit."""
        if self.max_change is None:
            return None
        try:
            limit = torch.as_tensor(self.max_change, dtype=torch.float64)
        except (TypeError, ValueError, RuntimeError):
            limit = torch.zeros(())
        fits = limit.ndim == 0 or (limit.ndim == 1 and action_dim in (None, len(limit)))
        if not fits or not (limit > 0).all():
            count = "several" if action_dim is None else action_dim
            raise PlanError(
                f"max_change must be above 0, one number or {count}, one per action component, "
                f"not {self.max_change!r}."
            )
        return limit


def checked_deadline(seconds: float | None) -> float | None:
    """The same, or PlanError for what is no number of seconds."""
    usable = isinstance(seconds, (int, float)) and not isinstance(seconds, bool) and not math.isnan(seconds)
    if seconds is not None and not usable:
        raise PlanError(f"deadline must be a number of seconds, not {seconds!r}.")
    return seconds
