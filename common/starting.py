"""Ctrl-C while a command is starting. Imports next to nothing, for until it is imported Python answers."""

from __future__ import annotations

import os
import signal


class StopsAtOnce:
    """Inside `with`, Ctrl-C ends the process with one word and 130: for imports, before anything has begun.

    Raised as an exception there, it may arrive as another one: numpy makes an ImportError of it.
    """

    def __enter__(self) -> None:
        self.usual = signal.getsignal(signal.SIGINT)
        self._set(_stop)

    def __exit__(self, *_: object) -> None:
        self._set(self.usual)

    def _set(self, handler: object) -> None:
        if self.usual is signal.default_int_handler:  # else the program around this one has its own way
            try:
                signal.signal(signal.SIGINT, handler)  # type: ignore[arg-type]
            except ValueError:  # not in the main thread, which gets the signals
                pass


def _stop(*_: object) -> None:
    os.write(2, b"stopped\n")
    os._exit(130)
