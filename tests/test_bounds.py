"""What every command passes on its way to an arm, and ticks that keep their rate whatever a clock does."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_planner.deploy.bounds import Bounds, between
from latent_planner.deploy.realtime import Ticker


class Clock:
    """Runs at its own pace, and jumps."""

    now, pace = 1000.0, 1.0

    def __call__(self) -> float:
        return self.now

    def run(self, seconds: float) -> None:
        self.now += self.pace * seconds


numbers = st.floats(width=32) | st.sampled_from([math.nan, math.inf, -math.inf])


@settings(deadline=None, derandomize=True)
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


@settings(deadline=None, derandomize=True)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False), st.floats(-1e30, 1e30), st.floats(-1, 2))
def test_what_is_blended_lies_between(one: float, other: float, share: float) -> None:
    a, b = np.float32([one]), np.float32([other])
    assert min(a, b) <= between(a, b, share) <= max(a, b)


@settings(max_examples=60, deadline=None, derandomize=True)
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
            if number is not None:
                clock.now = clock.now + number if math.isfinite(clock.now + number) else number
            elif not math.isfinite(clock.now):
                clock.now = 7.0
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
