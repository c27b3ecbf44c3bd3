"""What a clock may do while an arm moves, how that is noticed, and a loop that keeps its rate all the same.

A clock may be set back (NTP, a simulation or a recording that starts again), stop (a simulation that is
paused), run too fast or too slow, or give NaN. Nothing here trusts it: a Watch judges every reading first.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

JUMP = 1.0  # seconds by which a clock may disagree with another one
STUCK = 5  # equal readings after which a clock may count as standing still


@dataclass(frozen=True, eq=False)
class Era:
    """A stretch of time over which a clock ran on: times of two eras cannot be compared.

    why: what the clock did when the era before ended; None for the first.
    """

    why: str | None = None


class Watch:
    """Judges the readings that one thread takes of a clock.

    slack: seconds by which a reading may be less than an earlier one.
    patience: seconds of real time after which equal readings mean that the clock stands still.
    """

    def __init__(self, era: Era, *, slack: float, patience: float = math.inf) -> None:
        self.slack, self.patience = slack, patience
        self.follow(era)

    def follow(self, era: Era) -> None:
        """Begin anew in this era: what was read before does not count."""
        self.era, self._most = era, -math.inf
        self._equal, self._moved = 0, time.monotonic()

    def fault(self, now: float) -> str | None:
        """What is wrong with this reading, in words; None where nothing is."""
        if not math.isfinite(now):
            return f"the clock says {now}"
        back = self._most - now
        if back > self.slack or back < 0:
            self._most, self._equal, self._moved = now, 0, time.monotonic()
            return f"the clock was set back by {seconds(back)}" if back > 0 else None
        self._equal += 1
        still = time.monotonic() - self._moved
        if self._equal >= STUCK and still > self.patience:
            return "the clock stands still"
        return None


def seconds(number: float) -> str:
    """For messages: 0.50 s, and a short text for absurd numbers."""
    return f"{number:.2f} s" if abs(number) < 1e6 else f"{number:.1e} s"


class Ticker:
    """`for now in Ticker(100)`: 100 times a second, for seconds (None: for ever).

    A tick that is over before the loop comes to it is left out, and counted in `missed`. A clock that is set
    back or forward, stops or gives NaN changes nothing: no wait is longer than a tick, and none is left out
    for it. `now` is what the clock says, whatever that is: `PlannerThread.action` judges it.
    """

    def __init__(
        self,
        hz: float,
        seconds: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.period, self.clock, self.sleep = 1 / hz, clock, sleep
        self.count = None if seconds is None else round(seconds * hz)
        self.missed = 0
        self.latest = 0.0  # most seconds by which a tick began late

    def __iter__(self) -> Iterator[float]:
        first, tick, real = self.clock(), 0, time.monotonic()
        while self.count is None or tick < self.count:
            due = first + tick * self.period
            early = due - self.clock()
            if not -JUMP < early <= self.period:  # the clock jumped or is no number, or the loop was held up
                early = self.period - (time.monotonic() - real)
            if early > 0:
                self.sleep(early)
            now, before, real = self.clock(), real, time.monotonic()
            late = now - due
            ahead = late - (real - before)  # of the time that went by
            if not (-self.period / 2 < late and ahead < JUMP):  # the clock jumped, stands or is no number
                if math.isfinite(now):
                    first = now - tick * self.period
                late = 0.0
            over = max(0, int(late / self.period))
            self.missed += over
            self.latest = max(self.latest, late)
            yield now
            tick += over + 1
