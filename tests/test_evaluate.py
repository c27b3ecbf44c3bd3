"""The benchmark in blocks: the outcomes of one process, pair by pair, resumed and never mixed up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from waiting import started, until

from latent_planner.checkpoints.checkpoint import CheckpointError
from latent_planner.cli import plan
from latent_planner.cli.overrides import ConfigError
from latent_planner.cli.scale import evaluate as module
from latent_planner.cli.scale.blocks import load_agent
from latent_planner.cli.scale.evaluate import evaluate
from latent_planner.common.engines.engine import Engine
from latent_planner.envs.goals import pairs as lists
from latent_planner.envs.goals import stored

QUICK = ("planner.iterations=1", "planner.num_samples=8", "planner.num_elites=4")
SAME: dict[str, Any] = {"planner": QUICK, "progress": False, "device": "cpu", "pairs_seed": 7}
NEAR = [5, 3]  # offsets, so that episodes are short


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Path) -> Path:
    """An evaluation of 30 pairs at two offsets: two blocks each."""
    out = tmp_path_factory.mktemp("done")
    evaluate([str(tiny_checkpoint)], out, pairs=30, offsets=NEAR, engine=Engine(workers=2), **SAME)
    return out


def outcomes(out: Path, offset: int) -> list[dict[str, Any]]:
    (path,) = out.glob(f"*-offset{offset}.json")
    return json.loads(path.read_text())["episodes"]


def test_the_outcomes_are_those_of_the_benchmark_pair_by_pair(
    done: Path, tiny_checkpoint: Path, tmp_path: Path, one_thread: None
) -> None:
    words = ["--benchmark", "--checkpoint", str(tiny_checkpoint), "--device", "cpu", "--pairs", "30"]
    words += ["--out", str(tmp_path), "--pairs-seed", "7", "benchmark.offset=5", *QUICK]
    assert plan.main(words) == 0
    whole = json.loads((tmp_path / "benchmark.json").read_text())
    (path,) = done.glob("*-offset5.json")
    ours = json.loads(path.read_text())
    assert ours["episodes"] == whole["episodes"]
    for key in ("success", "interval", "floors", "pairs", "seed", "pairs_at_once", "planner", "checkpoint"):
        if key == "checkpoint":
            assert ours[key]["sha256"] == whole[key]["sha256"]
        else:
            assert ours[key] == whole[key]


@pytest.mark.parametrize("name", ["ray", "slurm"])
def test_a_cluster_plays_the_same(
    done: Path, tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pytest.importorskip({"ray": "ray", "slurm": "submitit"}[name])
    monkeypatch.chdir(tmp_path)  # where submitit keeps its scripts
    options = {"ray": {"address": "local"}, "slurm": {"cluster": "local", "timeout_min": "5"}}[name]
    where = Engine(name, workers=2, options=options)
    evaluate([str(tiny_checkpoint)], tmp_path / "out", pairs=30, offsets=NEAR[:1], engine=where, **SAME)
    assert outcomes(tmp_path / "out", NEAR[0]) == outcomes(done, NEAR[0])
    assert (tmp_path / "out" / "evaluation.json").exists()


def test_the_table_and_the_rows(done: Path) -> None:
    rows = json.loads((done / "evaluation.json").read_text())["cases"]
    assert [row["offset"] for row in rows] == NEAR and {row["world"] for row in rows} == {"pusht"}
    for row in rows:
        share = np.mean([episode["success"] for episode in outcomes(done, row["offset"])])
        assert row["success"] == pytest.approx(share, abs=1e-4) and row["pairs"] == 30
    assert module.table(rows).count("\n") == 2


def test_strict_success_is_measured_on_request(
    tiny_checkpoint: Path, tmp_path: Path, one_thread: None
) -> None:
    same = {**SAME, "pairs": 3, "offsets": [3]}
    with ThreadPoolExecutor(1) as pool:
        (row,) = evaluate([str(tiny_checkpoint)], tmp_path, strict=True, executor=pool, **same)
    assert row["strict"]["held"] == 5 and 0 <= row["strict"]["success"] <= row["success"]
    assert all("held_at" in episode for episode in outcomes(tmp_path, 3))
    assert "held for 5 steps" in module.table([row])


def test_what_is_done_stays_and_the_rest_is_played(done: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:  # any executor will do
        threads = torch.get_num_threads()
        evaluate([str(tiny_checkpoint)], tmp_path, pairs=30, offsets=NEAR, executor=pool, **SAME)
        torch.set_num_threads(threads)
        blocks = sorted((tmp_path / "blocks").iterdir())
        assert len(blocks) == 4
        before = {path: path.stat().st_mtime_ns for path in blocks}
        blocks[1].unlink()
        evaluate([str(tiny_checkpoint)], tmp_path, pairs=30, offsets=NEAR, executor=pool, **SAME)
        torch.set_num_threads(threads)
    assert {path for path in blocks if path.stat().st_mtime_ns != before[path]} == {blocks[1]}
    for offset in NEAR:
        assert outcomes(tmp_path, offset) == outcomes(done, offset)


HELD = """\
import os, time
from latent_planner.evaluation import benchmark
played, blocks = benchmark.part, []

def part(*words, **options):
    blocks.append(words)
    while len(blocks) == 3 and not os.path.exists("go"):
        time.sleep(0.01)
    return played(*words, **options)

benchmark.part = part
"""  # the third block waits for a file, so that the command does not end


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_killed_and_started_again(done: Path, tiny_checkpoint: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "latent_planner.cli", "evaluate", str(tiny_checkpoint), *QUICK]
    command += ["--pairs", "30", "--offset", "5", "3", "--pairs-seed", "7", "--device", "cpu"]
    command += ["--out", str(tmp_path / "out"), "--module", "held", "workers=1"]  # each imports torch anew
    (tmp_path / "held.py").write_text(HELD)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    options: dict[str, Any] = {"cwd": tmp_path, "env": environment}
    with started(command, **options, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        until(lambda: list((tmp_path / "out" / "blocks").glob("*.json")), process)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "out" / "evaluation.json").exists()
    (tmp_path / "go").touch()
    finished = subprocess.run(command, **options, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert "95 % interval" in finished.stdout and "evaluation.json" in finished.stdout
    for offset in NEAR:
        assert outcomes(tmp_path / "out", offset) == outcomes(done, offset)


def test_more_pairs_than_the_fixed_list_are_that_list_continued() -> None:
    fixed, more = lists.load("two_room").first(20), lists.draw("two_room", 20, lists.SEED)
    assert np.array_equal(fixed.start, more.start) and np.array_equal(fixed.seed, more.seed)


@pytest.mark.parametrize("name", ["two_room", "gym:Pendulum-v1"])
def test_pairs_keep_every_bit(tmp_path: Path, name: str) -> None:
    pairs = lists.draw(name, 3, 1, 25)
    stored.save(pairs, tmp_path / "a.npz")
    again = stored.load(tmp_path / "a.npz")
    assert type(again) is type(pairs) and again.name == pairs.name and again.vary == pairs.vary
    for index in range(3):
        for key, value in pairs.options(index).items():
            assert np.array_equal(again.options(index)[key], value, equal_nan=True)
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(lists.WorldError, match="are damaged"):
        stored.load(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairs": 31}, "holds an evaluation of pairs=30 and not 31: choose another --out"),
        ({"offsets": [5]}, "holds an evaluation of other checkpoints or offsets"),
        ({"seed": 3}, "seed=0 and not 3"),
    ],
)
def test_another_evaluation_in_the_same_folder(
    done: Path, tiny_checkpoint: Path, change: dict[str, Any], message: str
) -> None:
    options = {"pairs": 30, "offsets": NEAR, **SAME} | change
    with pytest.raises(ConfigError, match=message):
        evaluate([str(tiny_checkpoint)], done, **options)


def test_a_checkpoint_that_changes_is_not_mixed_with_itself(tiny_checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="has changed since this evaluation began"):
        load_agent(str(tiny_checkpoint), "0" * 64, (), "cpu")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["engine=ray"], "which checkpoint is to be tested"),
        (["pusht", "--pairs", "0"], "--pairs is a whole number from 1"),
        (["pusht", "--offset", "0"], "--offset is a whole number from 1"),
        (["pusht", "planner.samples=3"], "there is no setting 'planner.samples'"),
        (["pusht", "engine=mars"], "there is no engine=mars"),
        (["runs/none"], "runs/none"),
        (["pusht", "pusht"], "two checkpoints are called pusht"),
    ],
)
def test_mistakes_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert module.main([*words, "--out", str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert message in told and told.count("\n") == 1
