"""Planning choices and mixed actions, through the planners' public interface."""

from __future__ import annotations

import pytest
import torch

from latent_planner import planners
from latent_planner.planners import PlanConfig, PlanError

pytestmark = pytest.mark.random

NAMES = ["cem", "icem", "mppi", "predictive"]
WANTED = torch.tensor([2, 0, 3, 1, 1, 2])  # one of four, at each of six actions, two in a block
TURNS = torch.tensor([0.7, -0.4, 0.1, 0.9, -0.8, 0.3])
CONFIG = PlanConfig(horizon=3, num_samples=128, num_elites=12, iterations=16, init_std=0.7)


def chosen(candidates: torch.Tensor) -> torch.Tensor:
    """(B, N, 3, 8) -> (B, N, 6), after a look at whether they are choices."""
    actions = candidates.unflatten(-1, (2, 4)).flatten(2, 3)
    assert ((actions == 0) | (actions == 1)).all() and (actions.sum(-1) == 1).all()
    return actions.argmax(-1)


def lock(candidates: torch.Tensor) -> torch.Tensor:
    """How many of the choices are wrong."""
    return (chosen(candidates) != WANTED).float().sum(-1)


def gripper(candidates: torch.Tensor) -> torch.Tensor:
    """(B, N, 3, 6): two actions of one number and one of two choices each; wrong grips and squared errors."""
    turn, *grip = candidates.unflatten(-1, (2, 3)).flatten(2, 3).unbind(-1)
    assert (torch.stack(grip).sum(0) == 1).all() and turn.abs().max() <= 1
    return (grip[1] != (TURNS > 0)).float().sum(-1) + (turn - TURNS).square().sum(-1)


def make(name: str, counts: list[int], config: PlanConfig = CONFIG, **options):
    low = [0.0 if count else -1.0 for count in counts for _ in range(count or 1)]
    options = {"action_dim": len(low), "choices": counts} | options
    return planners.make(name, config, low * 2, [1.0] * (2 * len(low)), **options)


@pytest.mark.parametrize("name", NAMES)
def test_finds_the_choices_that_cost_least(name):
    spread = 0.2 if name == "predictive" else 0.7  # whose spread stays what it is
    config = PlanConfig(**{**CONFIG.to_dict(), "init_std": spread})
    plan = make(name, [4], config).plan(lock, batch_size=2)
    assert plan.cost.tolist() == [0, 0]
    assert chosen(plan.actions[:, None])[:, 0].tolist() == [WANTED.tolist()] * 2
    again = make(name, [4], config).plan(lock, seeds=[1])
    assert torch.equal(again.actions[0], plan.actions[1])  # as it would be alone


@pytest.mark.parametrize("name", NAMES)
def test_plans_numbers_and_choices_together(name):
    spread = 0.2 if name == "predictive" else 0.7
    config = PlanConfig(**{**CONFIG.to_dict(), "init_std": spread, "iterations": 30})
    plan = make(name, [0, 2], config).plan(gripper)
    assert plan.cost.item() < 0.1


def test_cem_draws_each_choice_as_often_as_its_chance_says():
    seen = []

    def cost(candidates: torch.Tensor) -> torch.Tensor:
        seen.append(chosen(candidates)[0, 1:, 0])  # the first candidate is the mean
        return candidates.sum((-1, -2)) * 0

    config = PlanConfig(horizon=3, num_samples=8000, num_elites=8000, iterations=1, init_std=1.0)
    make("cem", [4], config).plan(cost)
    share = torch.bincount(seen[0], minlength=4) / len(seen[0])
    assert torch.allclose(share, torch.full((4,), 0.25), atol=0.03)


def test_noise_correlated_in_time_holds_choices_for_a_while():
    def changes(correlation: float) -> float:
        seen = []

        def cost(candidates: torch.Tensor) -> torch.Tensor:
            seen.append((chosen(candidates).diff(dim=-1) != 0).float().mean().item())
            return candidates.sum((-1, -2)) * 0

        config = PlanConfig(
            horizon=3, num_samples=2000, iterations=1, init_std=1.0, noise_correlation=correlation
        )
        make("cem", [4], config).plan(cost)
        return seen[0]

    assert changes(0.0) == pytest.approx(0.75, abs=0.03) and changes(0.95) < 0.6


def test_what_is_known_is_kept_and_proposals_and_commitments_are_choices():
    config = PlanConfig(horizon=3, num_samples=32, num_elites=4, iterations=2)
    one_hot = torch.nn.functional.one_hot(WANTED, 4).float().view(1, 3, 8)
    found = make("cem", [4], config).plan(lock, warm_start=one_hot)
    assert found.cost.item() == 0  # a mean of which the likeliest choices are those known
    found = make("cem", [4], config).plan(lock, proposals=0.3 * one_hot[:, None] + 0.1)
    assert found.cost.item() == 0
    committed = torch.nn.functional.one_hot(torch.tensor([[3, 3]]), 4).float()
    found = make("cem", [4], CONFIG).plan(lock, committed=committed)
    assert chosen(found.actions[:, None])[0, 0, :2].tolist() == [3, 3] and found.cost.item() == 2


def test_max_change_limits_the_numbers_only():
    planner = make("cem", [0, 2], max_change=0.25)
    plan = planner.plan(gripper, last_action=torch.tensor([[0.0, 1.0, 0.0]]))
    turn = torch.cat([torch.zeros(1), plan.actions[0].view(6, 3)[:, 0]])
    assert turn.diff().abs().max() <= 0.25 + 1e-6


def test_wrong_choices_are_one_sentence():
    for name in ("gradient", "cem_gradient", "cem_lewm"):
        with pytest.raises(PlanError, match="some of these actions are choices: take cem"):
            make(name, [4])
    with pytest.raises(PlanError, match="do not hold actions with the choices"):
        planners.make("cem", CONFIG, [0.0] * 8, [1.0] * 8, action_dim=4, choices=[3])
