"""What a plan should reach: costs of imagined latents against a goal latent. Pure functions.

Squared Euclidean distance to the goal, as LeWorldModel plans with (arXiv 2603.19312), at one of two places
along the plan. With "last" the goal must be reached at the very end; "closest" lets a plan arrive early.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from planners import PlanError

# Each: latents that a plan passes through (B, N, H, D), goal (B, 1, 1, D) -> cost (B, N).
OBJECTIVES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "last": lambda path, goal: _squared_distance(path[:, :, -1:], goal)[..., 0],
    "closest": lambda path, goal: _squared_distance(path, goal).amin(dim=-1),
}


def check(kind: str) -> str:
    """`kind` itself, or a PlanError that lists the objectives there are."""
    if kind not in OBJECTIVES:
        raise PlanError(f"Unknown objective {kind!r}: choose from {', '.join(OBJECTIVES)}.")
    return kind


def goal_cost(latents: Tensor, goal: Tensor, kind: str) -> Tensor:
    """Cost (B, N) of imagined latents (B, N, H+1, D) against goal latents (B, D), lower is better.

    Index 0 along the plan is the current latent. It is the same for every candidate and is left out, so that
    standing at the goal does not make all plans equal. kind: a name in OBJECTIVES; PlanError for another.
    """
    return OBJECTIVES[check(kind)](latents[:, :, 1:], goal[:, None, None])


def _squared_distance(path: Tensor, goal: Tensor) -> Tensor:
    return (path - goal).float().square().sum(dim=-1)
