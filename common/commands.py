"""What command lines share: mistakes become one sentence and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .files import blame


@dataclass
class Outcome:
    """How a command ended: 0, 2 on a user error, 130 after Ctrl-C."""

    code: int = 0


@contextmanager
def in_words(*mistakes: type[Exception], system_error: Callable[[OSError], str] = blame) -> Iterator[Outcome]:
    """Run a command; `mistakes`, errors of the system and Ctrl-C become one sentence and an exit code.

    system_error: words an OSError, with what to do about it.
    Any other exception is a fault of the program and passes through with its traceback.
    """
    outcome = Outcome()
    expected: tuple[type[Exception], ...] = (*mistakes, OSError)
    try:
        yield outcome
    except KeyboardInterrupt as stop:
        print(str(stop) or "stopped", file=sys.stderr)
        outcome.code = 130
    except expected as error:
        sentence = system_error(error) if isinstance(error, OSError) else str(error)
        print(f"error: {sentence}", file=sys.stderr)
        outcome.code = 2
