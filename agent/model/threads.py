"""How many threads of torch a plan gets on the CPU: measured, as the best number depends on the machine.

Threads wait for each other at every small operation. On idle cores several are quicker than one; next to
other programs they can be twenty times slower.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

log = logging.getLogger(__name__)

ROUNDS = 4  # of a measurement; the first warms up
HOPELESS = 4.0  # times slower than one thread: measured no further
WORTH = 0.9  # several threads must need at most this share of the time of one
SLOW = 3.0  # times slower than the quickest plan: measured again
PATIENCE = 10  # plans with one thread until that is measured again, then 100, 1000, ...


@contextmanager
def at_most(number: int) -> Iterator[None]:
    """torch computes with so many threads in here at most, then with as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(before, number))
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Threads:
    """Chooses between one thread and as many as torch would take, and measures again when that may be wrong.

    One may serve several agents, in several threads: what was measured last counts.   timer: in seconds.
    """

    def __init__(self, timer: Callable[[], float] = time.perf_counter) -> None:
        self.timer = timer
        self.used: int | None = None  # None: not measured yet
        self.most = 1  # as many as torch would take
        self.seconds: dict[int, float] = {}  # of a trial, by number of threads
        self._quickest: dict[Hashable, float] = {}  # plans since then, by their size
        self._plans, self._patience, self._due = 0, PATIENCE, True

    def using(self) -> AbstractContextManager[None]:
        """torch computes with the chosen number in here, with one before the first measurement; then with as
        many as before."""
        return at_most(self.used or 1)

    def choose(self, work: Callable[[], Any]) -> None:
        """Measure with `work`, a small part of what a plan computes, if that is due."""
        most = torch.get_num_threads()
        if not self._due and most == self.most:
            return
        before = self.used, self.most
        seconds = self._measured(work, most) if most > 1 else {1: 0.0}
        self.used = most if seconds[most] < WORTH * seconds[1] else 1
        self.most, self.seconds = most, seconds
        self._quickest, self._plans, self._due = {}, 0, False
        if most > 1 and (self.used, self.most) != before:
            log.info("plans are computed with %s", self)

    def planned(self, seconds: float, size: Hashable) -> None:
        """A plan took so long; only plans of one size are compared."""
        self._plans += 1
        if self.used == 1:
            if self.most > 1 and self._plans >= self._patience:
                self._due, self._patience = True, 10 * self._patience
            return
        quickest = self._quickest[size] = min(seconds, self._quickest.get(size, seconds))
        self._due = seconds > SLOW * quickest

    def _measured(self, work: Callable[[], Any], most: int) -> dict[int, float]:
        """Number of threads -> mean seconds, taken in turns so that what else runs disturbs both alike."""
        spent: dict[int, list[float]] = {1: [], most: []}
        try:
            for _ in range(ROUNDS):
                for number, own in spent.items():
                    torch.set_num_threads(number)
                    started = self.timer()
                    work()
                    own.append(self.timer() - started)
                if spent[most][-1] > HOPELESS * spent[1][-1]:
                    break
        finally:
            torch.set_num_threads(most)
        return {number: sum(own[1:] or own) / len(own[1:] or own) for number, own in spent.items()}

    def about(self) -> dict[str, Any]:
        """Plain values, for results."""
        trials = {str(number): round(seconds, 6) for number, seconds in self.seconds.items() if seconds}
        return {"used": self.used, "of": self.most, "trial_seconds": trials}

    def __str__(self) -> str:
        if len(self.seconds) < 2:
            return "one thread"
        one, many = (f"{1000 * seconds:.1f} ms" for seconds in self.seconds.values())
        if self.used == 1:
            return f"one thread: a trial took {one}, with {self.most} threads {many}"
        return f"{self.used} threads: a trial took {many}, with one {one}"
