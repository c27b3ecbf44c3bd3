"""Plans that begin with what will be done anyway until they are ready."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from waiting import until

from latent_planner import Agent, planners
from latent_planner.deploy.realtime import PlannerThread
from latent_planner.planners import PlanConfig, PlanError


@pytest.mark.parametrize("name", ["cem", "icem", "mppi", "gradient", "cem_gradient", "predictive"])
def test_every_planner_begins_with_what_is_committed(name: str) -> None:
    config = PlanConfig(horizon=3, num_samples=16, num_elites=4, iterations=3)
    planner = planners.make(name, config, low=[-1.0] * 4, high=[1.0] * 4, action_dim=2)
    under_way = torch.tensor([[[0.5, -0.5], [0.25, 0.0], [-0.75, 1.0]]])
    seen = []

    def cost(candidates: torch.Tensor) -> torch.Tensor:
        seen.append(candidates.detach().flatten(2)[..., :6].clone())
        return (candidates - 0.9).square().sum((-1, -2))

    plan = planner.plan(cost, committed=under_way)
    assert torch.equal(plan.actions.flatten(1)[:, :6], under_way.flatten(1))
    assert all(torch.equal(part, under_way.flatten(1)[:, None].expand_as(part)) for part in seen)
    assert plan.actions.flatten(1)[0, 6:].mean() > 0.2  # the rest is searched as ever
    longer = torch.zeros(1, 9, 2)
    assert torch.equal(planner.plan(cost, committed=longer).actions, torch.zeros(1, 3, 4))
    with pytest.raises(PlanError, match="committed"):
        planner.plan(cost, committed=torch.zeros(1, 3, 3))


def test_an_agent_plans_on_from_there(tiny_checkpoint: Path) -> None:
    agent = Agent.from_pretrained(tiny_checkpoint, device="cpu")
    now, goal = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    agent.set_goal(goal)
    under_way = np.array([[0.5, -1.0], [1.0, 0.25], [0.0, 0.0]], np.float32)
    plan = agent.replan(now, committed=under_way)
    np.testing.assert_allclose(plan.actions[:3], under_way, atol=1e-6)
    assert np.abs(plan.actions[3:]).max() > 0.1
    free = agent.replan(now, executed=3)
    assert np.abs(free.actions[:3] - under_way).max() > 0.01  # once only
    for wrong in (np.zeros((2, 3)), np.full((2, 2), np.nan), 4):
        with pytest.raises(PlanError):
            agent.replan(now, committed=wrong)  # type: ignore[arg-type]


def test_the_thread_tells_what_it_did_and_will_do() -> None:
    told: list[Any] = []

    class Fake:
        def set_goal(self, *_: Any, **__: Any) -> None:
            pass

        def replan(self, pixels: np.ndarray, *, executed: Any, deadline: Any, committed: Any) -> Any:
            told.append(committed)
            return types.SimpleNamespace(actions=np.arange(1, 11, dtype=np.float32)[:, None])

    now = [0.0]
    safe = np.array([-1.0])
    loop = PlannerThread(Fake(), control_hz=10, safe=safe, max_age=5, lead=0.35, clock=lambda: now[0])

    def plan() -> None:
        before = loop.counts()["plans"]
        loop.observe(np.zeros((4, 4, 3), np.uint8), now[0])
        until(lambda: loop.counts()["plans"] > before or loop.counts()["failures"])
        assert not loop.counts()["failures"], loop.action(now[0]).safe

    with loop:
        loop.set_goal(np.zeros((4, 4, 3), np.uint8))
        plan()
        assert told[0].ravel().tolist() == [-1.0] * 4  # nothing is under way: the robot stands
        for now[0] in (0.0, 0.1, 0.2):
            loop.action(now[0])
        plan()
        assert told[1].ravel().tolist() == [3.0, 4.0, 5.0, 6.0]  # by the plan in force
