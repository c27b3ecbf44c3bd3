"""Plans and commands on the time line of a control loop: which action is due, what was done, what will be."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from .clocks import Era

REMEMBERED = 4096  # commands given, to tell the planner what was done
LASTS = 1.5  # control steps for which a command counts as done where no other follows


class Given(NamedTuple):
    """A command that the loop got: when, what (A,), and whether a plan said so."""

    at: float
    action: np.ndarray
    planned: bool
    era: Era


@dataclass(frozen=True)
class TimedPlan:
    """actions (K, A), one after the other from `begins` on.   stamp: when the frame behind them was taken.
    goal: which of the goals set so far they are for."""

    actions: np.ndarray
    stamp: float
    goal: int
    begins: float
    era: Era

    def at(self, now: float, rate: float) -> np.ndarray | None:
        """One of the actions, (A,), or None once they are used up."""
        index = (now - self.begins) * rate + 1e-6
        return self.actions[int(max(0.0, index))] if index < len(self.actions) else None


class Ahead(NamedTuple):
    """What the loop will do by itself: follow `plan` up to max_age seconds after its stamp, and do `standing`
    (A,) without one. None there: with hold nothing was followed yet, so nothing is done."""

    plan: TimedPlan | None
    max_age: float
    standing: np.ndarray | None
    hold: bool  # whether the last action is what is done without a plan
    rate: float

    def planned(self, at: float) -> np.ndarray | None:
        trusted = self.plan is not None and at - self.plan.stamp <= self.max_age
        return self.plan.at(at, self.rate) if trusted else None  # type: ignore[union-attr]


def committed(
    given: Sequence[Given], ahead: Ahead, *, stamp: float, now: float, steps: float
) -> tuple[list[np.ndarray], bool]:
    """What is done in so many control steps from stamp on, one action (A,) each: by now, as it was given,
    later, as it lies ahead. And whether no plan is followed all the while. Empty where nothing is done."""
    times, standing = [one.at for one in given], ahead.standing
    done: list[np.ndarray] = []
    action: np.ndarray | None
    stands = ahead.planned(now) is None
    for middle in middles(stamp, steps, ahead.rate):
        if given and times[0] <= middle < now:
            one = given[bisect.bisect_right(times, middle) - 1]
            action, stands = one.action, stands and not one.planned
        else:
            action = ahead.planned(middle)
            stands = stands and action is None
            action = standing if action is None else action
        if action is None:
            return [], stands
        standing = action if ahead.hold else standing
        done.append(action)
    return done, stands


def executed(given: Sequence[Given], *, begins: float, stamp: float, rate: float) -> list[np.ndarray] | None:
    """What was done from begins to stamp, one action (A,) for each control step, and never more than was
    given; None where that is forgotten."""
    if len(given) == REMEMBERED and given[0].at > begins:
        return None
    times = [one.at for one in given]
    number = sum(begins - 0.5 / rate < at < stamp for at in times)
    done: list[np.ndarray] = []
    for middle in middles(begins, (stamp - begins) * rate, rate):
        index = bisect.bisect_right(times, middle) - 1
        if index >= 0 and middle - times[index] <= LASTS / rate:
            done.append(given[index].action)
    return done[:number]


def middles(begin: float, steps: float, rate: float) -> np.ndarray:
    """(n,) seconds: the middles of so many control steps, of 4096 at most."""
    count = round(min(max(0.0, steps), REMEMBERED))
    return begin + (np.arange(count) + 0.5) / rate
