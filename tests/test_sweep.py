"""Sweeps: every combination once, on Hydra's launchers, resumed, and one table at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from waiting import PATIENCE

from latent_planner.cli import train
from latent_planner.cli.scale import sweep

ROOT = Path(__file__).resolve().parent.parent
TINY = [
    "env=two_room", "env.episodes=6", "env.length=30", "data.workers=1", "train.steps=4",
    "train.batch_size=4",
    "train.log_every=2", "model.latent_dim=8", "model.encoder_width=8", "model.projector_dim=16",
    "model.predictor_width=16", "model.predictor_depth=1", "model.predictor_heads=2",
    "model.predictor_head_dim=8", "model.predictor_mlp_dim=16", "model.image_size=32", "benchmark.pairs=0",
    "benchmark.validation_pairs=0", "device=cpu", "wandb.mode=disabled",
]  # fmt: skip


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "train.py"), "-m", "hydra.sweep.dir=all", *TINY, *words]
    options: dict[str, Any] = {"capture_output": True, "text": True, "timeout": PATIENCE}
    return subprocess.run(command, cwd=folder, **options)


def ended(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text()) for path in sorted((folder / "all").glob(f"*/{sweep.ROW}"))]


LAUNCHERS = {
    "joblib": ("hydra_plugins.hydra_joblib_launcher", ["hydra.launcher.n_jobs=2"]),
    "submitit_local": ("hydra_plugins.hydra_submitit_launcher", ["hydra.launcher.timeout_min=5"]),
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_of_hydra_trains_every_combination(tmp_path: Path, launcher: str) -> None:
    package, words = LAUNCHERS[launcher]
    pytest.importorskip(package)
    done = run(tmp_path, "seed=0,1", f"hydra/launcher={launcher}", *words)
    assert done.returncode == 0, done.stderr
    assert sorted(row["settings"][-1] for row in ended(tmp_path)) == ["seed=0", "seed=1"]
    assert "python train.py -m" in done.stdout and "seed=0,1" in done.stdout
    losses = [row["held_out"] for row in ended(tmp_path)]
    assert all(loss > 0 for loss in losses) and losses[0] != losses[1]


def test_an_engine_trains_every_combination(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    where = ["engine=ray", "ray.address=local", "workers=2"]
    done = run(tmp_path, "train.freeze_encoder=0.5,1", "seed=0,1", *where)
    assert done.returncode == 2, done.stderr  # of the runs that would never learn proposals
    assert "set freeze_encoder below 1" in done.stderr
    assert sorted(row["settings"][-1] for row in ended(tmp_path)) == ["seed=0", "seed=1"]
    losses = [row["held_out"] for row in ended(tmp_path)]
    assert all(loss > 0 for loss in losses) and losses[0] != losses[1]
    assert "2 of 4 runs are not finished; to go on: python train.py -m" in done.stderr
    assert "hydra.sweep.dir=all engine=ray ray.address=local workers=2" in done.stderr


def test_where_runs_go_is_said_once_and_for_sweeps_alone(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main(["seed=0", "engine=ray"]) == 2
    assert "engine=ray says where the runs of a sweep go: add -m" in capsys.readouterr().err
    assert train.main(["-m", "seed=0,1", "engine=local", "hydra/launcher=joblib"]) == 2
    assert "leave one out" in capsys.readouterr().err
    assert train.main(["-m", "seed=0,1", "engine=spark"]) == 2
    assert "there is no engine=spark" in capsys.readouterr().err
    assert train.main(["-m", "--dry", "seed=0,1", "engine=ray"]) == 0
    assert capsys.readouterr().out == "python train.py seed=0\npython train.py seed=1\n"


def test_a_sweep_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["-m", "seed=0,1,2", "model.latent_dim=64,128", "hydra.sweep.dir=all"]
    begun: list[tuple[str | None, str | None]] = []

    def fake(config: Any) -> None:
        """Leaves what a run leaves; the second one is preempted."""
        begun.append((config.out, config.resume))
        folder = Path(config.out)
        folder.mkdir(parents=True, exist_ok=True)
        train.OmegaConf.save(config, folder / "train.yaml", resolve=True)
        if len(begun) == 2:
            raise OSError(28, "No space left on device")
        floors = {"random": {"success": 0.05}, "still": {"success": 0}}
        outcome = {"success": 0.1 * config.seed, "floors": floors}
        (folder / "benchmark.json").write_text(json.dumps({**outcome, "episodes": [0] * 100}))

    monkeypatch.setattr(train, "train", fake)
    assert train.main(words) == 2
    told = capsys.readouterr()
    assert "1 of 6 runs are not finished; to go on: python train.py -m" in told.err
    assert "hydra.sweep.dir=all" in told.err and "No space left on device" in told.err
    assert len(begun) == 6
    assert train.main(words) == 0
    assert len(begun) == 7 and begun[6] == (begun[1][0], begun[1][0])  # resumed, that one alone
    lines = capsys.readouterr().out.splitlines()
    assert sum("python train.py -m model.latent_dim=" in line for line in lines) == 2
    (row,) = [line for line in lines if line.endswith("model.latent_dim=64")]
    assert row.split()[0] == "10.0%" and row.split()[-2] == "3"
    assert train.main([*words[:1], "seed=0,1,2,3", *words[2:]]) == 0  # more seeds are added
    assert len(begun) == 9


def test_dry_prints_the_jobs(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main(["-m", "--dry", "seed=0,1,2", "model.latent_dim=64,128", "env=pusht"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(set(lines)) == 6
    assert lines[0] == "python train.py seed=0 model.latent_dim=64 env=pusht"
    assert train.main(["--dry", "seed=3"]) == 0
    assert capsys.readouterr().out == "python train.py seed=3\n"
    assert list(tmp_path.iterdir()) == []


def test_what_a_sweep_names_itself_is_refused(capsys, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main(["-m", "seed=0,1", "out=a"]) == 2
    assert "a sweep names the folders of its runs: leave out out= and resume=" in capsys.readouterr().err


def test_folders_are_named_for_settings_whatever_their_order() -> None:
    assert sweep.folder_of(["b=2", "a=1"]) == sweep.folder_of(["a=1", "b=2"]) == "a-1-b-2"
    long = [f"model.number_{index}=1" for index in range(30)]
    assert len(sweep.folder_of(long)) < 140 and sweep.folder_of(long) != sweep.folder_of(long[:-1])


def test_intervals_over_seeds() -> None:
    half = 4.303 * 0.1 / 3**0.5
    assert sweep.interval([0.5, 0.6, 0.7], 300) == pytest.approx((0.6 - half, 0.6 + half))
    low, high = sweep.interval([1.0, 1.0, 1.0], 300)  # seeds that agree do not make it certain
    assert high == 1 and 0.97 < low < 1
    low, high = sweep.interval([0.5], 100)
    assert 0.39 < low < 0.41 and 0.59 < high < 0.61
