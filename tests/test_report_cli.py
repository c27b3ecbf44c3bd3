"""latent-planner report as it is used, and what it says to mistakes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from latent_planner.cli.report import main
from latent_planner.cli.reporting import episodes, start_goal_pairs, world_maker


@pytest.fixture
def run(tiny_checkpoint: Path, tmp_path: Path) -> Path:
    """A run folder with an untrained model."""
    return Path(shutil.copytree(tiny_checkpoint, tmp_path / "run"))


def test_one_section_alone(run: Path, pusht_recording: Path, capsys) -> None:
    words = [str(run), "--only", "probes", "--recording", str(pusht_recording), "--device", "cpu"]
    assert main(words) == 0
    told = json.loads((run / "report.json").read_text())
    assert list(told["sections"]) == ["probes"] and told["env"] == "pusht"
    names = [quantity["name"] for quantity in told["sections"]["probes"]["quantities"]]
    assert "block_angle_sin" in names and "agent_x" in names
    assert told["sections"]["probes"]["verdict"] == "poor"  # it has learned nothing
    shown = capsys.readouterr().out
    assert "probes" in shown and str(run / "report.html") in shown
    assert "State in the latent" in (run / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("words, sentence", [
    (["nowhere"], "There is no checkpoint 'nowhere'"),
    (["RUN", "--only", "probe"], "Did you mean 'probes'?"),
    (["RUN", "--only", ","], "names no section"),
    (["RUN", "--seed", "-1"], "at least 0"),
    (["RUN", "--colour"], "--help"),
    (["RUN", "--only", "probes", "--recording", "nothing.h5"], "nothing.h5"),
    (["RUN", "--only", "probes", "--recording", "TWO_ROOM"], "was recorded in two_room"),
])  # fmt: skip
def test_mistakes_are_told_in_one_sentence(
    words: list[str], sentence: str, run: Path, two_room_recording: Path, capsys
) -> None:
    known = {"RUN": str(run), "TWO_ROOM": str(two_room_recording)}
    assert main([known.get(word, word) for word in words]) == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("error: ") and sentence in told
    assert not (run / "report.html").exists()


def test_a_run_is_judged_on_what_its_training_held_out(run: Path, pusht_recording: Path) -> None:
    from latent_planner.checkpoints import checkpoint

    config = checkpoint.load(run)[0].config
    settings = f"seed: 5\ndata: {{path: {pusht_recording}, held_out: 0.25, camera: null, state: null}}\n"
    (run / "train.yaml").write_text(settings)
    with episodes(run, config, None, progress=False) as (reader, split, name):
        assert Path(reader.path) == pusht_recording and name == "held-out episodes of pusht.h5"
        assert split == {"held_out": 0.25, "split_seed": 5}
    assert len(start_goal_pairs(config).start) == 100
    make_env = world_maker(config)
    assert make_env is not None and make_env().image_size == 64
