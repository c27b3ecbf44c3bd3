"""A PlannerThread on a clock of the test's own and a planner whose plans are easily told apart."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from waiting import until

from latent_planner.deploy.realtime import Command, PlannerThread

PIXELS = np.zeros((4, 4, 3), np.uint8)
SAFE, LOW, HIGH = -9.0, 1.0, 60.0
LENGTH, RATE = 10, 10.0


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

    def settled() -> bool:
        counts = loop.counts()
        return counts["frames"] + again == counts["frames_dropped"] + counts["plans"] + counts["failures"]

    until(settled)
    assert not loop.counts()["failures"], loop.action().safe


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
    max_examples=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
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
