"""What a GPU's first minutes would be spent on, tiny and on the CPU: nothing of it fails for a trifle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE

BENCHMARKS = Path(__file__).parent / "benchmarks"
LEFT_OUT = ("av", "hydra", "matplotlib", "mujoco", "omegaconf", "wandb")  # that such a machine may lack

if sys.platform == "win32":
    pytest.skip("ends process groups", allow_module_level=True)


def test_a_dry_run_does_every_part_with_few_packages(tmp_path: Path) -> None:
    """Ten seconds: torch is loaded, two models are trained five times, and torch.compile runs once."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    for name in LEFT_OUT:
        (blocked / f"{name}.py").write_text(f"raise ImportError('{name} is not here')\n")
    environment = {**os.environ, "PYTHONPATH": str(blocked)}
    out = tmp_path / "out"
    command = [sys.executable, str(BENCHMARKS / "gpu_day.py"), "--dry", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((out / "results.json").read_text())
    assert all(result["status"] == "done" and result["rows"] for result in results.values())
    table = (out / "table.md").read_text()
    assert table in done.stdout and all(f"| {name} |" in table for name in results)
    assert "failed" not in table and "not run" not in table

    again = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    assert again.returncode == 0 and table in again.stdout  # nothing is run twice


def test_a_part_that_has_too_little_time_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_day

    found = gpu_day.run(["pusht-5"], tmp_path, tmp_path, left=90.0, dry=False)
    assert found["pusht-5"]["status"] == "not run: it needs 6 minutes, and 1.5 were left"
    found = gpu_day.run(["chip"], tmp_path, tmp_path, left=0.3, dry=True)
    assert found["chip"]["status"] == "ended at its limit"
    assert "| chip | | ended at its limit | |" in gpu_day.table(found)
    assert "| lewm | | not run | |" in gpu_day.table(found)
