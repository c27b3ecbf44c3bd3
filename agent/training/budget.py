"""When a run ends: after so many steps or minutes, or when the user presses Ctrl-C."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Budget:
    """A number of steps, or of minutes in which evaluations count; time before an interruption counts too.

    seconds  spent so far, over all sittings
    reserve  seconds to keep for the evaluation that comes last; only a budget in minutes heeds it
    """

    def __init__(self, *, steps: int | None, minutes: float | None) -> None:
        self.steps, self.minutes = steps, minutes
        self.reserve = 0.0
        self.begin(step=0, seconds=0.0)

    def begin(self, *, step: int, seconds: float) -> None:
        """Start, or go on after `step` steps and `seconds`."""
        self._first, self._before, self._started = step, seconds, time.perf_counter()

    @property
    def seconds(self) -> float:
        return self._before + time.perf_counter() - self._started

    def spent(self, step: int) -> float:
        """The share of the budget that is spent after `step` steps; 1 or more: stop."""
        if self.steps is not None:
            return step / self.steps
        return self.seconds / self._available()

    def left(self, step: int) -> float:
        """Seconds until the end, as far as one can tell."""
        if self.steps is not None:
            return (self.seconds - self._before) / max(1, step - self._first) * (self.steps - step)
        return max(0.0, self._available() - self.seconds)

    def _available(self) -> float:
        assert self.minutes is not None
        return max(1e-9, 60 * self.minutes - self.reserve)


class CtrlC:
    """Inside `with`, Ctrl-C is noted in `asked` and waits for a good moment; a second one does not wait."""

    def __init__(self) -> None:
        self.asked = self._at_once = False

    def __enter__(self) -> CtrlC:
        self._usual: Any = None
        if threading.current_thread() is threading.main_thread():
            self._usual = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self._usual is not None:
            signal.signal(signal.SIGINT, self._usual)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """For long calls that may be cut off anywhere."""
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False

    def _note(self, *_: object) -> None:
        if self.asked or self._at_once:
            raise KeyboardInterrupt
        self.asked = True
