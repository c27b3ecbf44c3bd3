"""Whatever a clock does, what goes to an arm was planned, lies between two plans, or is the safe action."""

from __future__ import annotations

import importlib
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clock_rig import HIGH, LENGTH, LOW, PIXELS, RATE, SAFE, events, happens, relaxed, rig, settle, step
from hypothesis import given
from hypothesis import strategies as st
from waiting import until

ROS = Path(__file__).resolve().parent.parent / "examples" / "ros2" / "latent_planner_ros"


@relaxed
@given(events=events, hold=st.booleans(), blend=st.sampled_from([0.0, 0.15]))
def test_commands_stay_between_the_plans_whatever_the_clock_does(
    events: list[tuple[str, float]], hold: bool, blend: float
) -> None:
    clock, planner, loop = rig(hold=hold, blend=blend, low=LOW if hold else SAFE, high=HIGH)
    last: float | None = None
    again = 0
    with loop:
        for what, number in events:
            happens(clock, what, number)
            if what == "goal":
                counts = loop.counts()
                again += counts["frames"] > counts["frames_dropped"]
                loop.set_goal(PIXELS)
            elif what == "frame" and math.isfinite(clock.now):
                loop.observe(PIXELS, clock.now + number)
            else:
                loop.observe(PIXELS)
            settle(loop, again)
            command = loop.action(clock.now + number if what == "ask" else None)
            action = float(command.action[0])
            planned = planner.planned
            if command.safe is not None:
                assert command.safe and "\n" not in command.safe
                expected = SAFE if not hold else LOW if last is None else last
                assert action == pytest.approx(expected)
            elif blend:
                known = planned if hold else [*planned, SAFE]
                assert min(known) - 1e-5 <= action <= max(known) + 1e-5
            else:
                assert np.abs(np.array(planned) - action).min() < 1e-5
            assert command.plan_age is None or math.isfinite(command.plan_age)
            last = action if command.safe is None or last is not None else None
        clock.pace, clock.now = 1.0, clock.true
        if abs(clock.true) < 1e6:  # beyond, a clock of this kind does not know tenths of a second
            commands = [step(clock, loop, again=again) for _ in range(25)]
            assert [command.safe for command in commands[-5:]] == [None] * 5, "it starts afresh"


@pytest.mark.parametrize("back", [0.15, 0.5, 30.0, 1e6])
def test_a_clock_set_back_gives_the_safe_action_once_and_a_fresh_start(back: float) -> None:
    clock, planner, loop = rig()
    with loop:
        before = [step(clock, loop) for _ in range(5)]
        assert [command.safe for command in before] == [None] * 5
        clock.jump(-back)
        command = loop.action()
        assert command.safe == f"the clock was set back by {back:.2f} s" or back == 1e6
        assert command.action.tolist() == [SAFE] and command.plan_age is None
        made = planner.made
        assert loop.action().safe == command.safe, "until there is a plan of a frame since"
        after = step(clock, loop)
        assert after.safe is None and after.action[0] > made, "and none from before"
        assert planner.executed[-1] is None, "what was done across the jump is not known"


def test_the_camera_that_notices_first_does_not_hide_it_from_the_loop() -> None:
    clock, _, loop = rig()
    with loop:
        step(clock, loop)
        clock.jump(-30)
        command = step(clock, loop)
        assert str(command.safe).startswith("the clock was set back") and command.action.tolist() == [SAFE]
        assert step(clock, loop).safe is None


def test_a_clock_set_forward_makes_plans_too_old() -> None:
    clock, _, loop = rig(takes=0.05)
    with loop:
        for _ in range(3):
            step(clock, loop)
        clock.jump(30)
        assert str(loop.action().safe).endswith(" s old")
        assert [step(clock, loop).safe for _ in range(3)] == [None] * 3


def test_a_clock_that_jumps_while_a_plan_is_made_does_not_make_the_next_ones_wait() -> None:
    clock, planner, loop = rig(takes=30.0)
    with loop:
        step(clock, loop)
        planner.takes = 0.0
        assert step(clock, loop).safe is None
        assert max(len(committed) for committed in planner.committed) <= 0.5 * RATE


def test_a_clock_that_stands_still_ends_in_the_safe_action() -> None:
    clock, _, loop = rig(max_age=0.05, control_hz=100)
    with loop:
        assert step(clock, loop, 0.01).safe is None
        until(lambda: loop.action().safe)
        command = loop.action()
        assert command.safe == "the clock stands still" and command.action.tolist() == [SAFE]
        loop.observe(PIXELS)
        settle(loop)
        assert loop.action().safe == "the clock stands still", "as long as it does"
        step(clock, loop, 0.01)
        assert step(clock, loop, 0.01).safe is None


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_clock_that_gives_no_number(wrong: float) -> None:
    clock, _, loop = rig()
    with loop:
        step(clock, loop)
        clock.now = wrong
        command = loop.action()
        assert command.safe == f"the clock says {wrong}" and command.action.tolist() == [SAFE]
        loop.observe(PIXELS)  # dropped
        assert loop.counts()["frames_dropped"] == 1
        clock.now = clock.true
        for stamp in (math.nan, math.inf, -math.inf):
            with pytest.raises(ValueError, match="stamps need the loop's clock"):
                loop.observe(PIXELS, stamp)
        step(clock, loop)
        assert step(clock, loop).safe is None


def test_a_loop_with_another_clock_than_the_frames_is_not_given_plans() -> None:
    clock, _, loop = rig()
    with loop:
        step(clock, loop)
        command = loop.action(3.0)
        assert command.action.tolist() == [SAFE] and command.safe is not None


# -- the same through the ROS 2 node's logic -----------------------------------------------------------------


@pytest.fixture
def logic(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(ROS)
    yield importlib.import_module("latent_planner_ros.logic")
    for name in [name for name in sys.modules if name.startswith("latent_planner_ros")]:
        del sys.modules[name]


def image(taken: float) -> Any:
    taken = taken if math.isfinite(taken) else 0.0
    stamp = SimpleNamespace(sec=math.floor(taken), nanosec=round(taken % 1 * 1e9))
    header = SimpleNamespace(stamp=stamp)
    return SimpleNamespace(encoding="rgb8", height=4, width=4, step=12, data=bytes(48), header=header)


@relaxed
@given(events=events, late=st.floats(0.0, 0.2))
def test_the_ros_node_sends_plans_or_the_safe_action_whatever_the_clock_does(
    logic: Any, events: list[tuple[str, float]], late: float
) -> None:
    clock, planner, loop = rig(frame_timeout=0.5)
    controller = logic.Controller(loop, safe_action=[SAFE])

    def turn() -> Any:
        try:
            controller.image(image(clock.now - late), clock.now)
        except logic.MessageError:
            pass
        settle(loop)
        return controller.tick(clock.now)

    with loop:
        controller.goal(image(clock.now))
        for what, number in events:
            happens(clock, what, number)
            command = turn()
            if command.state == "following a plan":
                assert np.abs(np.array(planner.planned) - command.action[0]).min() < 1e-5
            else:
                assert command.action.tolist() == [SAFE] and command.state
        clock.pace, clock.now = 1.0, clock.true
        if abs(clock.true) < 1e6:
            states = []
            for _ in range(25):
                clock.run(0.1)
                states.append(turn().state)
            assert states[-5:] == ["following a plan"] * 5


def test_a_simulation_that_starts_again(logic: Any) -> None:
    clock, planner, loop = rig(max_age=1.5, blend=0.1)
    controller = logic.Controller(loop, safe_action=[SAFE])
    states = []
    with loop:
        controller.goal(image(clock.now))
        for k in range(20):
            if k == 10:
                clock.jump(-clock.now)
            clock.run(0.1)
            controller.image(image(clock.now - 0.01), clock.now)
            settle(loop)
            command = controller.tick(clock.now)
            assert SAFE <= command.action[0] <= planner.made + LENGTH / 100
            states.append(command.state)
    assert states[:10] + states[11:] == ["following a plan"] * 19
    assert states[10].startswith("the clock was set back by")
