"""Is a goal out of reach? Judged by how near the first plan expects to come.

The report (`report`, section calibration) measures, on goals that were then reached, how far from the
goal their first plans expected to end, and leaves the distance that 95 % of them kept below in `reach.json`
beside the checkpoint. A goal whose first plan expects more is probably one that cannot be reached.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from latent_planner.common.bounded import read_json

from ..pixels import encode_frames
from .provenance import write_json

if TYPE_CHECKING:
    from latent_planner.planners import Plan

    from ..agent import Agent

FILE = "reach.json"
KEPT = 0.95  # share of the goals within reach that are not warned of


def expected_distance(agent: Agent, plans: Plan, goals: np.ndarray) -> np.ndarray:
    """Least latent distance to the goal along each plan, the present left out: (B,).

    plans: what agent.plan gave for B problems.   goals: uint8 (B, h, w, 3).
    """
    goal = encode_frames(agent.world_model, goals, agent.device).float().cpu().numpy()
    imagined = np.asarray(plans.latents).reshape(len(goal), -1, goal.shape[-1])[:, 1:]
    least: np.ndarray = np.linalg.norm(imagined - goal[:, None], axis=-1).min(1)
    return least


def leads_elsewhere(agent: Agent, plans: Plan, goals: np.ndarray) -> np.ndarray:
    """Whether each plan is a first leg, which does not lead to the goal itself: (B,) bool.

    plans, goals: as for `expected_distance`.
    """
    goal = encode_frames(agent.world_model, goals, agent.device).float().cpu().numpy()
    aims = np.asarray(plans.aims).reshape(goal.shape)
    elsewhere: np.ndarray = np.linalg.norm(aims - goal, axis=-1) > 1e-3
    return elsewhere


def save(folder: Path, threshold: float, sha256: str) -> Path:
    """Leave the threshold (a latent distance) for the weights of this SHA-256 in folder."""
    return write_json(folder / FILE, {"threshold": threshold, "sha256": sha256})


def load(folder: Path, sha256: str) -> float | None:
    """The threshold beside these weights; None where there is none, or one of other weights."""
    try:
        found = read_json(folder / FILE)
        threshold = float(found["threshold"]) if found["sha256"] == sha256 else math.nan
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return threshold if math.isfinite(threshold) and threshold > 0 else None
