"""Whatever a clock does, what goes to an arm was planned, lies between two plans, or is the safe action."""

from __future__ import annotations

import importlib
import math
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latent_planner.deploy.bounds import Bounds, between
from latent_planner.deploy.realtime import Command, PlannerThread, Ticker

PIXELS = np.zeros((4, 4, 3), np.uint8)
SAFE, LOW, HIGH = -9.0, 1.0, 60.0
LENGTH, RATE = 10, 10.0
ROS = Path(__file__).resolve().parent.parent / "examples" / "ros2" / "latent_planner_ros"


class Clock:
    """Runs as it is set: `run` says what happens until the next reading, then it stands."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = self.true = now
        self.pace = 1.0

    def __call__(self) -> float:
        return self.now

    def run(self, seconds: float) -> None:
        self.true += self.pace * seconds
        self.now = self.true

    def jump(self, seconds: float) -> None:
        self.true += seconds
        self.now = self.true


class Planner:
    """Plan n is n, n + .01, n + .02 and so on, at once; it may take its time of the clock."""

    def __init__(self, clock: Clock, takes: float = 0.0) -> None:
        self.clock, self.takes, self.made = clock, takes, 0
        self.executed: list[Any] = []
        self.committed: list[Any] = []
        self.planned: list[float] = []  # every action of every plan

    def set_goal(self, *_: Any, **__: Any) -> None:
        pass

    def replan(self, pixels: Any, *, executed: Any, deadline: Any, committed: Any = ()) -> Any:
        self.made += 1
        self.executed.append(executed)
        self.committed.append(np.asarray(committed).ravel().tolist())
        if self.takes:
            self.clock.run(self.takes)
        actions = self.made + np.arange(LENGTH)[:, None] / 100
        if begin := list(committed)[:LENGTH]:
            actions[: len(begin)] = begin  # as an Agent's plans do
        self.planned += actions.ravel().tolist()
        return SimpleNamespace(actions=actions)


def settle(loop: PlannerThread, again: int = 0) -> None:
    """Wait until the planner has seen to every frame, and again to so many for new goals."""
    end = time.monotonic() + 10
    while True:
        counts = loop.counts()
        if counts["frames"] + again == counts["frames_dropped"] + counts["plans"] + counts["failures"]:
            assert not counts["failures"], loop.action().safe
            return
        assert time.monotonic() < end, counts
        time.sleep(2e-4)


def rig(takes: float = 0.0, **options: Any) -> tuple[Clock, Planner, PlannerThread]:
    clock = Clock()
    planner = Planner(clock, takes)
    options = {"control_hz": RATE, "safe": [SAFE], "max_age": 0.5} | options
    loop = PlannerThread(planner, clock=clock, **options)
    loop.set_goal(PIXELS)
    return clock, planner, loop


def step(clock: Clock, loop: PlannerThread, seconds: float = 0.1, again: int = 0) -> Command:
    """The clock runs, a frame comes, the loop asks."""
    clock.run(seconds)
    loop.observe(PIXELS)
    settle(loop, again)
    return loop.action()


events = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.floats(0.0, 0.3)),
        st.tuples(st.just("jump"), st.floats(-100, 100)),
        st.tuples(st.just("jump"), st.floats(-0.3, 0.3)),
        st.tuples(st.just("jump"), st.sampled_from([-1e9, 1e9, 1e300, -1e300, -30.0, 30.0])),
        st.tuples(st.just("pace"), st.sampled_from([0.0, 0.01, 0.5, 1.001, 3.0])),
        st.tuples(st.just("says"), st.sampled_from([math.nan, math.inf, -math.inf, 0.0])),
        st.tuples(st.just("frame"), st.floats(-3, 0.9)),
        st.tuples(st.just("ask"), st.floats(-2, 2)),
        st.tuples(st.just("goal"), st.just(0.0)),
    ),
    max_size=30,
)
relaxed = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def happens(clock: Clock, what: str, number: float) -> None:
    if what == "run":
        clock.run(number)
    elif what == "jump":
        clock.jump(number)
    elif what == "pace":
        clock.pace = number
    elif what == "says":
        clock.now = number


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
        end = time.monotonic() + 10
        while (command := loop.action()).safe is None:
            assert time.monotonic() < end
            time.sleep(0.005)
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


# -- holding -------------------------------------------------------------------------------------------------


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


# -- the one way to the arm ----------------------------------------------------------------------------------

numbers = st.floats(width=32) | st.sampled_from([math.nan, math.inf, -math.inf])


@given(
    wanted=st.lists(numbers, min_size=3, max_size=3),
    before=st.none() | st.lists(numbers, min_size=3, max_size=3),
    change=st.none() | st.floats(0.01, 10),
)
def test_every_command_is_finite_inside_the_bounds_and_no_jump(
    wanted: list[float], before: list[float] | None, change: float | None
) -> None:
    bounds = Bounds([0.0, 0.1, 0.2], low=[-1.0, 0.1, -np.inf], high=[0.3, 1e300, 0.2], max_change=change)
    last = None if before is None else bounds.command(np.array(before, np.float32), None)
    action = bounds.command(np.array(wanted, np.float32), last)
    assert action.dtype == np.float32 and np.isfinite(action).all()
    assert (action >= np.float32([-1.0, 0.1, -np.inf])).all()
    assert (action[[0, 2]] <= np.float32([0.3, 0.2])).all()
    if change is not None and last is not None:
        assert (np.abs(action - last) <= change + 1e-6 * np.abs(last)).all()
    inside = np.clip(np.float32(wanted), bounds.low, bounds.high)
    if last is None and np.isfinite(wanted).all():
        np.testing.assert_array_equal(action, inside, "what may be sent is sent as it is")


@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.floats(-1e30, 1e30), st.floats(-1, 2))
def test_what_is_blended_lies_between(one: float, other: float, share: float) -> None:
    a, b = np.float32([one]), np.float32([other])
    assert min(a, b) <= between(a, b, share) <= max(a, b)


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


# -- ticks ---------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 20), st.floats(-1e9, 1e9) | numbers), max_size=5))
def test_a_tick_is_a_tick_whatever_the_clock_does(jumps: list[tuple[int, float]]) -> None:
    real = [50.0]
    clock, slept, at = Clock(), [0.0], dict(jumps)

    def sleep(seconds: float) -> None:
        assert 0 < seconds <= 0.1 + 1e-9
        slept[-1] += seconds
        real[0] += seconds
        clock.run(seconds)

    ticker, ticks = Ticker(10, seconds=2.0, clock=clock, sleep=sleep), 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("latent_planner.deploy.clocks.time", SimpleNamespace(monotonic=lambda: real[0]))
        for _ in ticker:
            number = at.get(ticks)
            if number is not None and math.isfinite(number) and abs(number) > 1:
                clock.jump(number)
            elif number is not None:
                clock.now = number
            slept.append(0.0)
            ticks += 1
    assert ticks == 20 and ticker.missed == 0
    assert ticker.latest < 1


def test_a_clock_that_stands_still_or_crawls_does_not_stop_the_ticks() -> None:
    for pace in (0.0, 0.3):
        clock, slept = Clock(), []
        clock.pace = pace

        def sleep(seconds: float, clock: Clock = clock, slept: list[float] = slept) -> None:
            slept.append(seconds)
            clock.run(seconds)

        assert len(list(Ticker(10, seconds=2.0, clock=clock, sleep=sleep))) == 20
        assert max(slept) <= 0.1 + 1e-9 and len(slept) >= 19


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
