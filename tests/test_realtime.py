"""The planner beside a control loop: slow, failing, dying planners, stuttering cameras, a clock of ours."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from waiting import PATIENCE, until

from latent_planner import Agent
from latent_planner.deploy.realtime import PlannerThread, Ticker

SAFE = np.array([-1.0, -1.0], np.float32)
LENGTH = 10  # actions in a plan


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Scripted:
    """Plans (frame number, k); each waits for `go`, takes `seconds` of the clock, and may raise."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.go, self.seconds = clock, threading.Semaphore(0), 0.0
        self.error: BaseException | None = None
        self.asked: list[Any] = []
        self.committed: list[list[float]] = []
        self.goals: list[Any] = []
        self.begun = threading.Semaphore(0)

    def set_goal(self, pixels: Any, steps: int | None = None) -> None:
        self.goals.append((pixels, steps))

    def replan(
        self, pixels: np.ndarray, *, executed: Any, deadline: float | None, committed: Any = ()
    ) -> Any:
        self.committed.append([action[1] for action in committed])
        self.asked.append((int(pixels[0, 0, 0]), executed, deadline))
        self.begun.release()
        assert self.go.acquire(timeout=PATIENCE)
        self.clock.now += self.seconds
        if self.error is not None:
            raise self.error
        frame = float(pixels[0, 0, 0])
        return SimpleNamespace(actions=np.stack([np.full(LENGTH, frame), np.arange(LENGTH)], axis=1))


def frame(number: int) -> np.ndarray:
    return np.full((4, 4, 3), number, np.uint8)


class Rig:
    """A loop at 10 Hz on a scripted planner."""

    def __init__(self, **options: Any) -> None:
        self.clock = Clock()
        self.planner = Scripted(self.clock)
        options = {"control_hz": 10, "safe": SAFE, "max_age": 2.0} | options
        self.loop = PlannerThread(self.planner, clock=self.clock, **options)

    def __enter__(self) -> Rig:
        self.loop.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.planner.go.release(1000)
        self.loop.stop(timeout=PATIENCE)

    def begin(self, number: int, stamp: float) -> None:
        """Show this frame; the planner is at it when this returns."""
        self.loop.observe(frame(number), stamp)
        assert self.planner.begun.acquire(timeout=PATIENCE)

    def finish(self, count: str = "plans") -> None:
        """Let the planner go on; it is done when this returns."""
        before = self.loop.counts()[count]
        self.planner.go.release()
        until(lambda: self.loop.counts()[count] > before)

    def plan(self, number: int, stamp: float) -> None:
        self.begin(number, stamp)
        self.finish()


def test_the_action_for_now_is_the_one_the_plan_has_for_now() -> None:
    with Rig() as rig:
        rig.plan(1, stamp=100.0)
        for now, index in [(100.0, 0), (100.09, 0), (100.1, 1), (100.25, 2), (100.95, 9)]:
            command = rig.loop.action(now)
            assert command.action.tolist() == [1, index] and command.action.dtype == np.float32
            assert command.safe is None and command.plan_age == pytest.approx(now - 100)
        assert rig.loop.action(101.0).safe == "the plan is used up"


def test_a_slow_planner_keeps_nobody_waiting_and_takes_the_newest_frame_next() -> None:
    with Rig() as rig:
        assert rig.loop.action().safe == "there is no plan yet"
        rig.plan(1, stamp=100.0)
        rig.begin(2, stamp=100.1)  # and stays at it
        for i in range(3, 9):
            rig.clock.now = 100 + i / 20
            rig.loop.observe(frame(i), rig.clock.now)
            assert rig.loop.action().action[0] == 1
        assert rig.loop.action().frame_age == 0.0
        rig.finish()
        assert rig.planner.begun.acquire(timeout=PATIENCE) and rig.planner.asked[-1][0] == 8
        assert rig.loop.action(100.4).action.tolist() == [2, 3], "what it would do 0.3 s after its frame"
        counts = rig.loop.counts()
        assert counts["frames"] == 8 and counts["frames_dropped"] == 5 and counts["plans"] == 2


def test_a_plan_takes_over_gradually() -> None:
    with Rig(blend=0.2) as rig:
        rig.plan(1, stamp=100.0)
        assert rig.loop.action(100.0).action[0] == 1
        rig.plan(2, stamp=100.3)
        firsts = [rig.loop.action(now).action[0] for now in (100.4, 100.45, 100.5, 100.55, 100.6, 100.7)]
        assert np.allclose(firsts, [1, 1.25, 1.5, 1.75, 2, 2])


def test_after_the_safe_action_a_plan_takes_over_from_there() -> None:
    with Rig(blend=0.2) as rig:
        assert rig.loop.action(100.0).action.tolist() == SAFE.tolist()
        rig.plan(1, stamp=100.0)
        firsts = [rig.loop.action(now).action[0] for now in (100.1, 100.2, 100.3)]
        assert np.allclose(firsts, [-1, 0, 1])


@pytest.mark.parametrize(("hold", "action"), [(False, [-1, -1]), (True, [1, 3])])
def test_an_old_plan_is_not_trusted(hold: bool, action: list) -> None:
    with Rig(max_age=0.35, hold=hold) as rig:
        rig.plan(1, stamp=100.0)
        assert rig.loop.action(100.3).safe is None
        command = rig.loop.action(100.5)
        assert command.safe == "the plan is 0.50 s old" and command.action.tolist() == action
        rig.plan(2, stamp=100.5)
        assert rig.loop.action(100.6).action.tolist() == [2, 1], "and a new one is"
        assert rig.loop.counts()["safe"] == 1 and rig.loop.counts()["asked"] == 3


def test_a_planner_that_fails_is_heard_of_at_once_and_may_recover() -> None:
    with Rig() as rig:
        rig.plan(1, stamp=100.0)
        rig.planner.error = ValueError("no\nidea")
        rig.begin(2, stamp=100.1)
        rig.finish("failures")
        command = rig.loop.action(100.2)
        assert command.safe == "the planner failed: ValueError: no idea"
        assert command.action.tolist() == SAFE.tolist()
        rig.planner.error = None
        rig.plan(3, stamp=100.2)
        assert rig.loop.action(100.2).safe is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_planner_that_dies_is_heard_of_at_once() -> None:
    with Rig() as rig:
        rig.plan(1, stamp=100.0)
        rig.planner.error = SystemExit()
        rig.begin(2, stamp=100.1)
        rig.planner.go.release()
        until(lambda: rig.loop.action(100.2).safe is not None)
        assert rig.loop.action(100.2).safe == "the planner died"
    assert rig.loop.action(100.2).safe == "the planner is not running"


@pytest.mark.parametrize(
    "actions", [np.zeros((5, 3)), np.zeros(2), np.zeros((0, 2)), np.full((5, 2), np.nan), "nothing"]
)
def test_a_plan_that_makes_no_sense_is_a_failure(actions: Any) -> None:
    with Rig() as rig:
        rig.planner.replan = lambda *_, **__: SimpleNamespace(actions=actions)  # type: ignore[method-assign]
        rig.loop.observe(frame(1), 100.0)
        until(lambda: rig.loop.counts()["failures"] == 1)
        assert str(rig.loop.action().safe).startswith("the planner failed: ValueError")


def test_a_stuttering_camera() -> None:
    with Rig(max_age=0.5) as rig:
        rig.plan(1, stamp=100.0)
        for late in (99.9, 100.0):  # out of order, and the same again
            rig.loop.observe(frame(7), late)
        assert rig.loop.action(100.4).safe is None and rig.loop.action(100.6).safe is not None
        rig.plan(2, stamp=100.6)
        assert rig.loop.action(100.7).action.tolist() == [2, 1]
        assert [number for number, _, _ in rig.planner.asked] == [1, 2]
        assert rig.loop.counts()["frames_dropped"] == 2


def test_the_frame_may_be_overwritten_after_it_was_shown() -> None:
    with Rig() as rig:
        rig.plan(1, stamp=100.0)
        rig.begin(2, stamp=100.1)
        buffer = frame(3)
        rig.loop.observe(buffer, 100.2)
        buffer[:] = 9
        rig.finish()
        assert rig.planner.begun.acquire(timeout=PATIENCE) and rig.planner.asked[-1][0] == 3


def test_the_planner_learns_what_was_really_done_between_its_frames() -> None:
    with Rig() as rig:
        rig.plan(1, stamp=100.0)
        assert rig.planner.asked[0][1] is None
        for tick in range(11):
            rig.loop.action(99.96 + tick / 20)  # twice as often as plans have actions
        rig.plan(2, stamp=100.3)
        executed = rig.planner.asked[1][1]
        assert executed.tolist() == [[1, 0], [1, 1], [1, 2]]
        rig.plan(3, stamp=100.32)
        assert rig.planner.asked[2][1].shape == (0, 2)


def test_a_new_goal_stops_what_was_planned_for_the_old_one() -> None:
    with Rig() as rig:
        rig.loop.set_goal("first", steps=9)
        rig.plan(1, stamp=100.0)
        rig.begin(2, stamp=100.1)
        rig.loop.set_goal("second")
        assert rig.loop.action(100.1).safe == "there is no plan for the new goal yet"
        rig.finish()  # of the plan for the old goal
        assert rig.loop.action(100.1).safe == "there is no plan for the new goal yet"
        assert rig.planner.begun.acquire(timeout=PATIENCE), "the same frame, again"
        rig.finish()
        assert rig.loop.action(100.1).safe is None
        assert rig.planner.goals == [("first", 9), ("second", None)]


def test_a_goal_that_cannot_be_set_is_not_taken_for_set() -> None:
    with Rig() as rig:
        rig.plan(1, stamp=100.0)
        rig.planner.set_goal, works = lambda *_, **__: 1 / 0, rig.planner.set_goal  # type: ignore[method-assign]
        rig.loop.set_goal("second")
        until(lambda: rig.loop.counts()["failures"] == 1)
        rig.loop.observe(frame(2), 100.1)
        until(lambda: rig.loop.counts()["failures"] == 2)
        assert "ZeroDivisionError" in str(rig.loop.action(100.1).safe)
        rig.planner.set_goal = works  # type: ignore[method-assign]
        rig.plan(3, stamp=100.2)
        assert rig.planner.goals == [("second", None)] and rig.loop.action(100.2).safe is None


def test_frames_of_another_clock_are_refused() -> None:
    with Rig() as rig, pytest.raises(ValueError, match="5.0 s from now: stamps need the loop's clock"):
        rig.loop.observe(frame(1), 105.0)


def test_ages_times_and_missed_deadlines_are_counted() -> None:
    with Rig(deadline=0.2) as rig:
        for number, seconds in enumerate([0.1, 0.3, 0.15]):
            rig.planner.seconds = seconds
            rig.plan(number, stamp=rig.clock.now)
            rig.loop.action()
        assert rig.planner.asked[0][2] == 0.2
        counts = rig.loop.counts()
    assert counts["missed_deadlines"] == 1 and counts["plans"] == 3
    assert counts["solve"] == pytest.approx({"median": 0.15, "p95": 0.285, "most": 0.3})
    assert counts["plan_age"]["most"] == pytest.approx(0.3) and counts["frame_age"]["median"] > 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"safe": 0.0},
        {"safe": [np.nan, 0]},
        {"safe": [[0, 0]]},
        {"control_hz": 0},
        {"max_age": 0},
        {"blend": -1},
    ],
)
def test_settings_that_make_no_sense(wrong: dict) -> None:
    with pytest.raises(ValueError, match="safe is one action|must be above 0"):
        Rig(**wrong)


def test_a_ticker_counts_the_ticks_it_came_too_late_for() -> None:
    clock, slept = Clock(), []

    def sleep(seconds: float) -> None:
        slept.append(round(seconds, 3))
        clock.now += seconds

    ticker, ticks = Ticker(10, seconds=1.0, clock=clock, sleep=sleep), []
    for now in ticker:
        ticks.append(round(now - 100, 3))
        clock.now += 0.35 if len(ticks) == 3 else 0.02
    assert ticks == [0, 0.1, 0.2, 0.55, 0.6, 0.7, 0.8, 0.9]
    assert ticker.missed == 2 and slept[0] == 0.08 and ticker.latest == pytest.approx(0.25)


def test_an_agent_in_the_thread_of_a_quick_loop(tiny_checkpoint: Any) -> None:
    agent = Agent.from_pretrained(tiny_checkpoint, device="cpu")
    frames = np.random.default_rng(0).integers(0, 256, (4, 48, 48, 3), np.uint8)
    loop = PlannerThread(agent, control_hz=20, safe=np.zeros(2), max_age=20.0, blend=0.05, threads=None)
    loop.set_goal(frames[0], steps=200)
    commands = []
    with loop:
        for i, now in enumerate(Ticker(100)):
            loop.observe(frames[i % 4], now)
            commands.append(loop.action(now))
            if loop.counts()["plans"] >= 3:
                break
    assert commands[0].safe == "there is no plan yet" and commands[-1].safe is None
    assert all((np.abs(command.action) <= 1).all() for command in commands)
    assert loop.counts()["failures"] == 0


def test_the_planner_is_told_what_will_be_done_until_its_plan_is_there() -> None:
    """The slowest of the last plans says how long that is; with a new goal, the robot stands."""
    with Rig() as rig:
        rig.planner.seconds = 0.25
        rig.plan(1, stamp=100.0)  # (1, 0), (1, 1), ... from 100.25 on, as the robot stood until then
        assert rig.loop.action(100.3).action.tolist() == [1, 0]
        rig.clock.now = 100.4
        rig.plan(2, stamp=100.3)  # 0.1 s late, and 0.25 to come, at 10 Hz
        rig.loop.set_goal(frame(9))
        rig.plan(3, stamp=100.7)
        assert rig.planner.committed == [[], [0, 2, 3, 4], [SAFE[1]] * 3]  # 0 was done, the rest will be
