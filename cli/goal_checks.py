"""What plan.py asks of a goal before it acts: has the model seen anything like it, and can it be reached?"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable

import numpy as np

from latent_planner import Agent, envs
from latent_planner import looks as known_looks
from latent_planner.evaluation import reachability
from latent_planner.looks import Look
from latent_planner.planners import Plan

from .overrides import ConfigError

log = logging.getLogger(__name__)


def as_the_model_sees(agent: Agent, env: envs.World, shown: np.ndarray, name: str) -> np.ndarray:
    """The goal picture without the target that the world's published version draws into every frame, unless
    the model learned to see it."""
    if agent.config.reference_look:
        return shown
    plain = env.without_reference_marker(shown)
    if plain is not shown:
        log.warning("%s has the published look of %s: its target is painted away", name, agent.config.env)
    return plain


def check_looks(
    args: argparse.Namespace, agent: Agent, shown: np.ndarray, seen: np.ndarray
) -> Callable[[np.ndarray], Look] | None:
    """What judges the frames (H, W, 3) that will be seen; None where nothing can.

    shown, seen: uint8 (H, W, 3), the goal and the first frame. ConfigError for one that does not look like
    what the model has seen, unless the user wants to go on.
    """
    looks = agent.looks
    if looks is None:
        return None

    def judge(frame: np.ndarray) -> Look:
        return looks.of(agent.world_model, frame[None])[0]

    goal = known_looks.complaint(looks.of(agent.world_model, shown[None], "goal"))
    first = judge(seen).reason
    if goal and not args.anyway:
        raise ConfigError(f"{args.goal}: {goal}; {_remedies(looks)}, or add --anyway to act all the same")
    if first and not args.anyway:
        start = "the start does not look like what the model has seen"
        raise ConfigError(f"{start}: {first}; choose another, or add --anyway to act all the same")
    return None if first else judge


def _remedies(looks: known_looks.Looks) -> str:
    """What to do about a goal picture that the model does not know."""
    if looks.shell is not None:
        return "give another picture"
    return "give another picture, teach the model other colours and light (`latent-planner robust`)"


def warn_out_of_reach(agent: Agent, most: float | None, goal: np.ndarray, first_plan: Plan) -> None:
    """Say so when this plan expects to stay farther from the goal than those that led to their goals.

    most: how far that is; None where no report has measured it. Goals that look unlike anything the model has
    seen are left out: distances to them mean nothing.
    """
    if most is None or reachability.leads_elsewhere(agent, first_plan, goal[None])[0]:
        return  # the first of several legs is not judged
    expected = reachability.expected_distance(agent, first_plan, goal[None])[0]
    if expected > most:
        message = (
            "the goal seems out of reach: the first plan ends %.1f away from it in latent space, and %.0f %% "
            "of the goals that were reached began with one that ends within %.1f"
        )
        log.warning(message, expected, 100 * reachability.KEPT, most)
