"""Holding, what counts as done, whose deadline is missed, and whose bounds are kept."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clock_rig import PIXELS, RATE, SAFE, rig, settle, step

from latent_planner.deploy.realtime import PlannerThread


def test_holding_never_gives_what_nobody_planned() -> None:
    """Neither at the first command, nor at a new goal, nor when a plan is used up, nor to the planner."""
    clock, planner, loop = rig(takes=0.25, hold=True, blend=0.1, safe=[0.0], max_age=3.0)
    again = 0
    with loop:
        assert loop.action().safe == "there is no plan yet"
        first = step(clock, loop)
        assert first.safe is None and first.action[0] == 1, "not blended from where nobody was"
        for k in range(30):
            if k in (8, 9, 20):
                loop.set_goal(PIXELS)
                assert loop.action().action[0] >= 1
                again += 1
                settle(loop, again)
            assert step(clock, loop, again=again).action[0] >= 1
        clock.run(1.2)
        assert loop.action().safe == "the plan is used up" and loop.action().action[0] >= 1
        assert step(clock, loop, again=again).action[0] >= 1
    assert min(min(committed, default=1) for committed in planner.committed) >= 1


def test_plans_that_last_less_than_they_take_are_followed_by_turns() -> None:
    clock, planner, loop = rig(takes=1.3, max_age=3.0)
    followed = 0
    with loop:
        for _ in range(40):
            command = step(clock, loop)
            followed += command.safe is None
    assert followed > 2 and planner.made > 10


# -- what was done -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 5], ids=["at the plans' rate", "five times as often"])
def test_no_more_counts_as_done_than_was_given(times: int) -> None:
    clock, planner, loop = rig(max_age=500.0)
    with loop:
        step(clock, loop)
        for _ in range(4 * times):
            clock.run(0.1 / times)
            loop.action()
        clock.run(60)  # the loop pauses
        loop.observe(PIXELS)
        settle(loop)
        assert 4 <= len(planner.executed[-1]) <= 5
        for _ in range(3):  # frames come, and nothing is asked for
            clock.run(0.5)
            loop.observe(PIXELS)
            settle(loop)
        assert [len(done) for done in planner.executed[-3:]] == [0, 0, 0]


def test_a_pause_does_not_use_up_the_steps(tiny_checkpoint: Path) -> None:
    from dataclasses import replace

    from latent_planner import Agent
    from latent_planner.deploy.connection import Session

    agent = Agent.from_pretrained(tiny_checkpoint, device="cpu")
    agent.config = replace(agent.config, control_hz=10.0)
    frames = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), np.uint8)
    image = "observation/image"
    for pause in (60.0, 1e8):
        session = Session(agent, image)
        session.answer({"reset": True})
        session.answer({"goal/image": frames[1], "goal/steps": 60, image: frames[0], "timestamp": 0.0})
        answer = session.answer({image: frames[0], "timestamp": pause})
        assert len(answer["actions"]) == 25, "of the 60 steps at most 25 were given out"
    for executed in (600, np.zeros((600, 2), np.float32)):
        session.answer({"reset": True})
        session.answer({"goal/image": frames[1], "goal/steps": 60, image: frames[0]})
        assert len(session.answer({image: frames[0], "executed": executed})["actions"]) == 25


# -- the planner's own deadline ------------------------------------------------------------------------------


def test_a_deadline_of_the_planner_s_own_is_counted_when_missed() -> None:
    clock, planner, _ = rig(takes=0.6)
    planner.deadline = 0.05  # type: ignore[attr-defined]
    loop = PlannerThread(planner, control_hz=RATE, safe=[SAFE], max_age=2.0, clock=clock)
    loop.set_goal(PIXELS)
    with loop:
        for _ in range(3):
            step(clock, loop)
    assert loop.counts()["missed_deadlines"] == 3


def test_the_server_counts_deadlines_that_it_missed_and_names_its_own(tiny_checkpoint: Path) -> None:
    pytest.importorskip("websockets")
    from latent_planner import Agent
    from latent_planner.deploy.client import Client
    from latent_planner.deploy.server import running

    frames = np.random.default_rng(0).integers(0, 256, (2, 48, 48, 3), np.uint8)
    agent = Agent.from_pretrained(tiny_checkpoint, device="cpu", deadline=1e-6)
    with running(agent) as server, Client(f"ws://127.0.0.1:{server.port}") as client:
        assert client.metadata["deadline"] == 1e-6
        client.set_goal(frames[1])
        assert [client.replan(frames[0]).answer["missed_deadlines"] for _ in range(2)] == [1, 2]
        loop = PlannerThread(client, control_hz=10, safe=np.zeros(2), max_age=5)
        with loop:
            loop.observe(frames[0])
            settle(loop)
        assert loop.counts()["missed_deadlines"] == 1


def test_bounds_are_those_of_the_planner_and_kept_by_every_command() -> None:
    clock, planner, _ = rig()
    planner.config = SimpleNamespace(action_low=(-1.0,), action_high=(1.5,))  # type: ignore[attr-defined]
    planner.max_change = 0.25  # type: ignore[attr-defined]
    options: dict[str, Any] = {"control_hz": RATE, "max_age": 2.0, "clock": clock}
    with pytest.raises(ValueError, match="safe is outside the bounds of the actions"):
        PlannerThread(planner, safe=[3.0], **options)
    with pytest.raises(ValueError, match="must be one number or 2, as safe has"):
        PlannerThread(planner, safe=[0.0, 0.0], low=[0.0, 0.0, 0.0], **options)
    loop = PlannerThread(planner, safe=[0.0], **options)
    loop.set_goal(PIXELS)
    with loop:
        sent = [float(loop.action().action[0])] + [float(step(clock, loop).action[0]) for _ in range(9)]
    assert sent == pytest.approx([0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.5, 1.5, 1.5])
