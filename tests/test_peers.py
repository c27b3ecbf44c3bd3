"""The comparison with stable-worldmodel, tiny, without that package."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from waiting import PATIENCE

BENCH = Path(__file__).parent / "benchmarks" / "bench_peers.py"
TINY = ("--samples", "6", "--elites", "2", "--iterations", "1", "--repeat", "1", "--threads", "1")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(BENCH), *TINY, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)


def test_a_plain_algorithm_stands_in_and_the_table_says_so() -> None:
    """Four seconds: torch is loaded, and the published architecture plans."""
    done = run("--plain")
    assert done.returncode == 0, done.stderr
    assert "| the published algorithm, written out plainly |" in done.stdout
    assert "| ours, float32 |" in done.stdout and "times sooner" in done.stdout


def test_an_interpreter_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run("--python", str(tmp_path / "python"))
    assert done.returncode and "Traceback" not in done.stderr
    assert f"stable-worldmodel cannot be run with {tmp_path / 'python'}" in done.stderr
