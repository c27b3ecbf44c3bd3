"""Progress and log messages: a bar on a terminal, plain lines in a file."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys

import pytest
from waiting import PATIENCE

from latent_planner.common import progress
from latent_planner.common.progress import AboveBars, Bar

CODE = """
import logging
from latent_planner.common.progress import Bar, log_above_bars
log_above_bars("%(message)s", logging.INFO)
with Bar(total=4, desc="train", bar_format="{l_bar}{bar}| {note}", mininterval=0, ncols=40) as bar:
    for step in range(4):
        bar.set_postfix_str(f"step {step}", refresh=False)
        bar.update()
        logging.info("message %d", step)
"""


def test_a_file_gets_whole_lines_and_no_bar() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stderr == "".join(f"message {step}\n" for step in range(4)) + "train: 100 %, step 3\n"


def test_on_a_terminal_messages_stand_above_the_bar() -> None:
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    subprocess.run([sys.executable, "-c", CODE], stdin=theirs, stdout=theirs, stderr=theirs, timeout=PATIENCE)
    shown = os.read(ours, 100_000).decode()
    assert "message 2\r\n" in shown and "leftmessage" not in shown
    assert "| step 3" in shown and "|," not in shown


def test_a_line_now_and_then(monkeypatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    monkeypatch.setattr(sys, "stderr", said := io.StringIO())
    with Bar(range(2), desc="outer"), Bar(total=10, desc="inner", leave=False, mininterval=0) as bar:
        bar.set_postfix_str("step 5", refresh=False)
        bar.update(5)
        bar.refresh()
    assert "inner: 50 %, step 5\n" in said.getvalue()
    assert not {"\x1b", "\r", "|"} & set(said.getvalue())


def test_a_message_that_cannot_be_written_ends_nothing(monkeypatch) -> None:
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    AboveBars().emit(logging.LogRecord("a", logging.INFO, "", 0, "%d", ("no number",), None))
