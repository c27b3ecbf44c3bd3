"""`latent-planner inspect` and `convert`: any recording becomes a file of ours, and tells what is in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from published import episodes, lerobot, recording
from waiting import PATIENCE

from latent_planner.cli.__main__ import main
from latent_planner.envs.recordings.convert import resized
from latent_planner.envs.recordings.episodes import EpisodeReader, EpisodeWriter, partial_path


@pytest.fixture
def expert(tmp_path: Path) -> Path:
    recording(tmp_path / "expert.h5", episodes("pusht", 3, 12, 32))
    return tmp_path / "expert.h5"


def test_a_published_recording_becomes_ours(expert: Path, tmp_path: Path, capsys: Any) -> None:
    ours = tmp_path / "ours.h5"
    assert main(["convert", str(expert), str(ours), "--env", "pusht"]) == 0
    assert "36 frames" in capsys.readouterr().out
    with EpisodeReader(expert) as before, EpisodeReader(ours) as after:
        assert after.env == "pusht" and after.lengths.tolist() == before.lengths.tolist()
        assert set(after.columns) == set(before.columns)
        for name in before.columns:
            values = [reader.read(name, 0, 36) for reader in (before, after)]
            assert values[0].dtype == values[1].dtype
            assert np.array_equal(*values, equal_nan=values[0].dtype.kind == "f")
        assert np.array_equal(before.action_low, after.action_low)


def test_a_lerobot_folder_becomes_ours_at_another_size(tmp_path: Path) -> None:
    columns = lerobot(tmp_path / "robot")
    words = ["convert", str(tmp_path / "robot"), str(tmp_path / "ours.h5"), "--size", "32"]
    assert main(words) == 0
    with EpisodeReader(tmp_path / "ours.h5") as ours, EpisodeReader(tmp_path / "robot") as before:
        assert ours.image_size == 32 and ours.read("pixels", 0, 1).shape == (1, 32, 32, 3)
        assert ours.state_names == ("pan", "lift", "grip") and ours.lengths.tolist() == [7, 4, 9, 6]
        assert np.array_equal(ours.read("state", 0, 26), columns["state"])
        actions = ours.read("action", 0, 26)
        last = ours.offsets + ours.lengths - 1
        assert np.isnan(actions[last]).all()
        assert np.array_equal(np.delete(actions, last, 0), np.delete(columns["action"], last, 0))
        expected = resized(before.read("pixels", 0, 26), 32)
        assert np.array_equal(ours.read("pixels", 0, 26), expected)


def test_resizing_is_that_of_the_model() -> None:
    """As WorldModel.encode does to frames of another size (but for a ViT), to the grey level."""
    import torch

    from latent_planner.pixels import resize

    frames = np.random.default_rng(0).integers(0, 255, (3, 60, 84, 3), dtype=np.uint8)
    batch = torch.from_numpy(frames).permute(0, 3, 1, 2).float()
    expected = resize(batch, 28, antialias=False).permute(0, 2, 3, 1).numpy()
    assert np.abs(resized(frames, 28) - expected).max() < 1.01


def test_a_stopped_conversion_goes_on(expert: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    ours, append, count = tmp_path / "ours.h5", EpisodeWriter.append_encoded, iter(range(9))

    def stopped(writer: EpisodeWriter, record: bytes) -> None:
        if next(count) == 2:
            raise KeyboardInterrupt
        append(writer, record)

    with monkeypatch.context() as patch:
        patch.setattr(EpisodeWriter, "append_encoded", stopped)
        assert main(["convert", str(expert), str(ours)]) == 130
    assert "keeps 2 of 3 episodes" in capsys.readouterr().err
    assert partial_path(ours).exists() and not ours.exists()
    assert main(["convert", str(expert), str(ours)]) == 0
    assert EpisodeReader(ours).lengths.tolist() == [12, 12, 12]


def test_inspect_tells_and_draws(expert: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        assert main(["inspect", str(expert)]) == 0
    out = capsys.readouterr().out
    for words in ("episodes  3, of 12 to 12 frames", "32 x 32 px", "step_idx", "float32, 2", "state_6"):
        assert words in out, words
    with Image.open("expert-frames.png") as sheet, Image.open("expert-frames2.png") as again:
        assert sheet.size == again.size and sheet.width > 2 * sheet.height
        assert len(np.unique(np.asarray(sheet))) > 5
    lerobot(tmp_path / "robot")
    assert main(["inspect", "robot", "--out", "sheet.png"]) == 0
    assert "64 x 48 px, camera observation.images.top" in capsys.readouterr().out
    assert Path("sheet.png").exists()


def test_episodes_are_left_out(tmp_path: Path, capsys: Any) -> None:
    parts = episodes("pusht", 3, 12, 32)
    parts[1]["action"][4] = np.nan
    parts[1]["action"][6] = 99
    recording(tmp_path / "a.h5", parts)
    words = ["convert", str(tmp_path / "a.h5"), str(tmp_path / "b.h5"), "--leave-out"]
    assert main([*words, "0"]) == 2 and "episode 1" in capsys.readouterr().err
    assert main([*words, "3"]) == 2 and "no 3 to leave out" in capsys.readouterr().err
    assert main([*words, "0,1,2"]) == 2 and "no episodes left" in capsys.readouterr().err
    assert main([*words, "1"]) == 0 and "24 frames" in capsys.readouterr().out
    with EpisodeReader(tmp_path / "b.h5") as reader:
        assert reader.lengths.tolist() == [12, 12] and reader.action_high.max() < 99
        assert np.array_equal(reader.read("pixels", 12, 24), parts[2]["pixels"])


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["inspect", "none.h5"], "there is no recording none.h5"),
        (["inspect", "expert.h5", "--out", "expert.h5"], "is there already"),
        (["convert", "expert.h5", "expert.h5"], "exists already"),
        (["convert", "expert.h5", "a.h5", "--size", "0"], "at least 1, not 0"),
        (["convert", "expert.h5", "a.h5", "--camera", "wrist"], "no column 'wrist'"),
        (["convert", "expert.h5", "expert.h5/a.h5"], "cannot be written"),
    ],
)
def test_mistakes_get_one_sentence(
    words: list[str], sentence: str, expert: Path, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    err = capsys.readouterr().err.splitlines()
    assert len(err) == 1 and err[0].startswith("error: ") and sentence in err[0]
    assert [path.name for path in tmp_path.iterdir()] == ["expert.h5"]


def test_the_program_itself(expert: Path, root: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "latent_planner.cli",
        "inspect",
        str(expert),
        "--out",
        str(expert.parent / "s.png"),
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0 and "actions" in done.stdout and done.stderr == ""
