"""Search over action sequences: planners for any cost function. Imports torch only.

planner = planners.make("cem", PlanConfig(horizon=5), low, high)
plan = planner.plan(cost_fn)             # cost_fn: (B, N, H, FA) -> (B, N)
"""

from __future__ import annotations

from collections.abc import Sequence

from .cem import CEM
from .cem_gradient import CEMGradient
from .cem_lewm import LeWMCEM
from .config import Plan, PlanConfig, PlanError, nearest_or_all
from .costs import CostFn
from .gradient import Gradient
from .icem import ICEM
from .limits import Numbers
from .mppi import MPPI
from .planner import Planner
from .predictive import PredictiveSampling

PLANNERS: dict[str, type[Planner]] = {
    "cem": CEM,
    "icem": ICEM,
    "mppi": MPPI,
    "predictive": PredictiveSampling,
    "gradient": Gradient,
    "cem_gradient": CEMGradient,
}
UNBOUNDED: dict[str, type[Planner]] = {"cem_lewm": LeWMCEM}  # to compare numbers with; leaves the bounds

__all__ = [
    "CEM",
    "ICEM",
    "MPPI",
    "CEMGradient",
    "CostFn",
    "Gradient",
    "LeWMCEM",
    "Plan",
    "PlanConfig",
    "PlanError",
    "Planner",
    "PredictiveSampling",
    "find",
    "make",
    "names",
]


def names() -> list[str]:
    """Names that `make` knows, of planners that keep all limits. It knows cem_lewm too, which keeps none."""
    return list(PLANNERS)


def find(name: str) -> type[Planner]:
    """The planner of that name; PlanError, with the nearest, if there is none."""
    known = PLANNERS | UNBOUNDED
    if not isinstance(name, str) or name not in known:
        raise PlanError(f"Unknown planner {name!r}{nearest_or_all(str(name), names())}")
    return known[name]


def make(
    name: str,
    config: PlanConfig,
    low: Numbers,
    high: Numbers,
    *,
    action_dim: int | None = None,
    max_change: Numbers | float | None = None,
    choices: Sequence[int] | None = None,
) -> Planner:
    """The planner of that name, for blocks of actions of action_dim numbers, bounded by low and high (FA,),
    each at most max_change from the one before, some of them perhaps one-hot choices.

    PlanError for an unknown name; see Planner.
    """
    return find(name)(config, low, high, action_dim=action_dim, max_change=max_change, choices=choices)
