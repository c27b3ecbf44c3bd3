"""Several cameras and the robot's own vector through the policy server and its client."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny_run import tiny_dataset, tiny_model
from two_cameras import NAMES, look, write
from waiting import until

from latent_planner import Agent
from latent_planner.deploy.client import Client, ServerError
from latent_planner.deploy.connection import RequestError, Session
from latent_planner.deploy.realtime import PlannerThread
from latent_planner.deploy.server import PolicyServer, running
from latent_planner.envs.recordings.episodes import EpisodeReader
from latent_planner.planners import PlanConfig, PlanError
from latent_planner.seen import blank

QUICK = PlanConfig(horizon=3, num_samples=32, num_elites=4, iterations=2)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Agent:
    path = write(tmp_path_factory.mktemp("two") / "a.h5", episodes=3)
    dataset = tiny_dataset(EpisodeReader(path, cameras=["front", "wrist"], proprio="proprio"))
    return Agent(tiny_model(dataset, latent_dim=20, proprio_dims=4), device="cpu", plan_config=QUICK)


@pytest.fixture(scope="module")
def server(agent: Agent) -> Iterator[PolicyServer]:
    with running(agent) as running_server:
        yield running_server


def seen_at(*place: float) -> dict[str, Any]:
    return {**look(np.array(place)), "proprio": np.array([*place, 0.0, 0.0], np.float32)}


def test_a_client_gets_what_an_agent_here_would_plan(agent: Agent, server: PolicyServer) -> None:
    here, goal = seen_at(0.2, 0.6), {"wrist": look(np.array([0.5, 0.1]))["wrist"]}
    own = agent.clone()
    own.set_goal(goal)
    with Client(f"ws://127.0.0.1:{server.port}") as client:
        assert client.metadata["image_keys"] == ["observation/front", "observation/wrist"]
        assert client.metadata["proprio"] == NAMES
        client.set_goal(goal)
        np.testing.assert_array_equal(client.replan(here).actions, own.replan(here).actions)
        few = {"front": here["front"]}  # a camera has failed
        np.testing.assert_array_equal(
            client.replan(few, executed=2).actions, own.replan(few, executed=2).actions
        )
        with pytest.raises(ServerError, match="proprio is NaN or infinite at 'down'"):
            client.replan({"proprio": [0.0, np.nan, 0.0, 0.0]})
        named = {**here, "proprio": dict(zip(NAMES, here["proprio"]))}
        assert "ignored" not in client.replan(named).answer  # nothing is lost
        with pytest.raises(ValueError, match="must have the names across, down.*not across"):
            client.replan({"proprio": {"across": 0.5}})


def test_what_is_missing_or_wrong_names_its_key(agent: Agent) -> None:
    session, here = Session(agent.clone(), "observation/image"), seen_at(0.2, 0.6)
    seen = {f"observation/{name}": view for name, view in here.items()}
    for request, message in (
        ({"timestamp": 1.0}, "send some of 'observation/front', 'observation/wrist', 'observation/proprio'"),
        (seen, "no goal yet: send its picture under 'goal/front' or 'goal/wrist' or 'goal/proprio'"),
        ({**seen, "goal/image": here["front"]}, "several cameras: send its goal under some of goal/front"),
        ({"observation/front": here["front"][..., 0]}, "observation/front must be uint8"),
    ):
        with pytest.raises(RequestError, match=message):
            session.answer(request)
    with pytest.raises(PlanError, match="proprio must be \\(4,\\) numbers"):
        session.answer({**seen, "goal/proprio": np.zeros(3)})
    answer = session.answer({**seen, "goal/proprio": here["proprio"], "observation/head": here["front"]})
    assert answer["actions"].shape == (6, 2) and answer["ignored"] == ["observation/head"]
    before = session.agent._problems[0].goal
    session.answer({**seen, "goal/proprio": here["proprio"]})  # the same again changes nothing
    assert session.agent._problems[0].goal is before


def test_a_model_can_be_tried_without_a_camera(agent: Agent) -> None:
    own = agent.clone()
    own.set_goal(blank(agent.config))
    assert own.replan(blank(agent.config)).actions.shape == (6, 2)


class Kept:
    """A planner that keeps what it is shown."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.goals: list[Any] = []

    def set_goal(self, pixels: Any, steps: int | None = None) -> None:
        self.goals.append(pixels)

    def replan(self, pixels: Any, **_: Any) -> Any:
        self.seen.append(pixels)
        return SimpleNamespace(actions=np.zeros((4, 2), np.float32))


def test_the_control_loop_takes_them_and_cameras_out_of_step_are_named() -> None:
    planner, here = Kept(), seen_at(0.2, 0.6)
    with PlannerThread(planner, control_hz=10, safe=[0.0, 0.0], max_age=2.0, clock=lambda: 100.0) as loop:
        loop.set_goal({"wrist": here["wrist"]})
        loop.observe(here, {"front": 99.95, "wrist": 99.9, "proprio": 100.0})
        before = here["front"].copy()
        here["front"][:] = 0  # the loop has copied it
        until(lambda: loop.counts()["plans"])
        with pytest.raises(ValueError, match="wrist is 0.3 s behind front.*within 0.1 s"):
            loop.observe(here, {"front": 100.0, "wrist": 99.7})
        with pytest.raises(ValueError, match="one for each camera"):
            loop.observe(here, {})
        assert loop.action(100.0).safe is None  # nothing is lost
        assert loop.action(100.0).plan_age == pytest.approx(0.1)  # the oldest counts
    np.testing.assert_array_equal(planner.seen[0]["front"], before)
    assert set(planner.goals[0]) == {"wrist"}
