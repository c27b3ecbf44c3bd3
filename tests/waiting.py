"""Waiting for what another thread or process does, on a machine that may be busy."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

PATIENCE = 300.0  # seconds; a test that passes waits much less
Found = TypeVar("Found")


def until(true: Callable[[], Found], process: subprocess.Popen[Any] | None = None) -> Found:
    """Wait until `true()` is, and return it. AssertionError where `process` ends first, or PATIENCE does."""
    end, pause = time.monotonic() + PATIENCE, 2e-4
    while True:
        ended = process is not None and process.poll() is not None
        if found := true():
            return found
        assert not ended, "the process ended before what it was waited for"
        assert time.monotonic() < end, f"nothing happened within {PATIENCE:.0f} s"
        time.sleep(pause)
        pause = min(0.02, 1.5 * pause)


@contextmanager
def started(command: Sequence[str | Path], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """A process that does not outlive the block. Options are those of Popen."""
    with subprocess.Popen([str(word) for word in command], **options) as process:
        try:
            yield process
        finally:
            process.kill()


class Ticks:
    """A clock in place of time.perf_counter, which `tick` seconds pass on with each look at it."""

    def __init__(self, tick: float = 1e-3) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now

    def sleep(self, seconds: float) -> None:
        """What takes so long."""
        self.now += seconds
