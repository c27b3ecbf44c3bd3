"""Search over action sequences: planners for any cost function. Imports torch only.

planner = planners.make("cem", PlanConfig(horizon=5), low, high)
plan = planner.plan(cost_fn)             # cost_fn: (B, N, H, FA) -> (B, N)
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from planners.cem import CEM
from planners.cem_lewm import LeWMCEM
from planners.mppi import MPPI
from planners.planner import CostFn, Plan, PlanConfig, PlanError, Planner, did_you_mean

PLANNERS: dict[str, type[Planner]] = {"cem": CEM, "mppi": MPPI, "cem_lewm": LeWMCEM}

__all__ = ["CEM", "MPPI", "CostFn", "LeWMCEM", "Plan", "PlanConfig", "PlanError", "Planner", "make", "names"]


def names() -> list[str]:
    """Names that `make` knows."""
    return list(PLANNERS)


def make(
    name: str,
    config: PlanConfig,
    low: Tensor | Sequence[float],
    high: Tensor | Sequence[float],
    *,
    action_dim: int | None = None,
) -> Planner:
    """The planner of that name, for blocks of actions of action_dim numbers, bounded by low and high (FA,).

    PlanError for an unknown name; see Planner.
    """
    if name not in PLANNERS:
        raise PlanError(f"Unknown planner {name!r}{did_you_mean(name, names())}.")
    return PLANNERS[name](config, low, high, action_dim=action_dim)
