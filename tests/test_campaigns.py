"""The campaigns of tests/campaigns/damage.py and scale.py, very small: they run, count, and find nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE

pytest.importorskip("pyarrow")
pytest.importorskip("websockets")

CAMPAIGN = Path(__file__).parent / "campaigns" / "damage.py"
if not sys.platform.startswith("linux"):
    pytest.skip("limits memory and watches processes as Linux does", allow_module_level=True)


def rows(*words: str) -> dict[str, list[int]]:
    """The table that the campaign prints: kind -> tried, fine, sentence, traceback, lost, killed."""
    command = [sys.executable, str(CAMPAIGN), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in done.stdout.splitlines()]
    return {cells[0]: [int(cell) for cell in cells[1:]] for cells in lines if cells[-1].isdigit()}


def test_damaged_inputs_and_a_killed_recording() -> None:
    kinds = ["own", "CSV", "LeWM .pt", "goal", "killed: recording"]
    found = rows("--count", "2", "--kills", "1", "--only", *kinds)
    assert set(found) == {"own recording", "own journal", "CSV and videos", "LeWM .pt", "goal pictures",
                          "killed: recording", "all"}  # fmt: skip
    assert found["all"][0] == 11 and found["all"][3:] == [0, 0, 0]


def test_the_same_seed_damages_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(CAMPAIGN.parent))
    import mutations
    import numpy as np

    def damaged(seed: int) -> bytes:
        path = tmp_path / "a.json"
        path.write_text('{"a": [1, 2.5, "x"], "b": {"c": null}}')
        mutations.damage(path, np.random.default_rng(seed))
        return path.read_bytes()

    assert [damaged(seed) for seed in range(30)] == [damaged(seed) for seed in range(30)]
    assert len({damaged(seed) for seed in range(30)}) > 20


def test_shards_survive_a_machine_that_is_killed() -> None:
    """Takes its time: a Ray cluster of three nodes starts, two of which work, and one is replaced."""
    pytest.importorskip("ray")
    command = [sys.executable, str(CAMPAIGN.with_name("scale.py")), "--rounds", "1", "--engines", "ray"]
    done = subprocess.run([*command, "--faults", "machine"], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| ray | machine | 1 | 1 | 0 | 0 | 0 |" in done.stdout
