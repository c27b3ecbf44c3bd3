"""Progress on a terminal as a bar, in a file as a line now and then; log messages that keep clear of both."""

from __future__ import annotations

import io
import logging
import sys
import threading
import time
from typing import Any

from tqdm import tqdm

EVERY = 30.0  # seconds between two lines in a file

# tqdm's own lock is a semaphore of the system, which a process that is killed leaves behind
tqdm.set_lock(threading.RLock())


class Bar(tqdm):
    """A tqdm bar; where standard error is no terminal, a line every half a minute, and one at the end.

    A bar_format may hold {note}: the text of set_postfix_str without tqdm's comma.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self.lines = not sys.stderr.isatty()
        if self.lines:
            options |= {"file": io.StringIO(), "mininterval": 1.0, "dynamic_ncols": False}
        self.began = self.line_at = time.monotonic()
        super().__init__(*args, **options)

    @property
    def format_dict(self) -> dict[str, Any]:
        return {**super().format_dict, "note": getattr(self, "postfix", None) or ""}

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        if not self.lines:
            return bool(super().display(msg, pos))
        if time.monotonic() - self.line_at >= EVERY:
            self.line_at = time.monotonic()
            tqdm.write(self.line(), file=sys.stderr)
        return True

    def close(self) -> None:
        """End it, with a last line where a bar would stay on the screen."""
        if self.lines and not self.disable and self.leave and time.monotonic() - self.began >= self.delay:
            tqdm.write(self.line(), file=sys.stderr)
        super().close()

    def line(self) -> str:
        """What the bar would show, as one line of text."""
        what = str(self.desc or "").rstrip(": ")
        done = f"{100 * self.n / self.total:.0f} %" if self.total else f"{self.n}{self.unit}"
        return ", ".join(part for part in (f"{what}: {done}".lstrip(": "), self.postfix) if part)


class AboveBars(logging.Handler):
    """Writes log messages to standard error, above the bars that are on the screen."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            tqdm.write(self.format(record), file=sys.stderr)
        except Exception:
            self.handleError(record)


def log_above_bars(form: str, level: int = logging.WARNING) -> None:
    """Show log messages of at least this level, in this form, unless the program shows them already."""
    logging.basicConfig(level=level, format=form, handlers=[AboveBars()])
