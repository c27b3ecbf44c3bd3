"""LeRobot folders of version 3: each row's own frame, and what is wrong with a folder."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from published import CAMERA, Columns, lerobot

from latent_planner.cli import train
from latent_planner.envs.recordings.episodes import EpisodeReader, RecordingError

TWO = ("observation.images.top", "observation.images.wrist")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Columns]:
    folder = tmp_path_factory.mktemp("lerobot") / "robot"
    return folder, lerobot(folder)


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether frames are those expected: their codes are ten grey levels apart, and videos lose a few."""
    codes = [
        (f[:, 8:-8, 4:24].mean((1, 2, 3)), f[:, 8:-8, -24:-4].mean((1, 2, 3))) for f in (found, expected)
    ]
    return bool(np.abs(np.array(codes[0]) - np.array(codes[1])).max() < 4)


def test_every_row_has_its_own_frame_and_numbers(dataset: tuple[Path, Columns]) -> None:
    folder, columns = dataset
    with EpisodeReader(folder) as reader:
        assert reader.lengths.tolist() == [7, 4, 9, 6] and reader.offsets.tolist() == [0, 7, 11, 20]
        assert reader.num_frames == 26 and reader.env is None and reader.complete
        assert np.array_equal(reader.read("action", 0, 26), columns["action"])
        assert np.array_equal(reader.read("state", 0, 26), columns["state"])
        assert reader.state_names == ("pan", "lift", "grip") and reader.attrs["control_hz"] == 10
        assert set(reader.columns) == {
            "pixels", "action", "state", "timestamp", "frame_index", "episode_index", "index", "task_index"
        }  # fmt: skip
        pixels = reader.read("pixels", 0, 26)
        assert pixels.shape == (26, 48, 64, 3) and close(pixels, columns["pixels"])
        rows = np.random.default_rng(0).integers(0, 26, 60)
        assert close(reader.read_rows("pixels", rows), columns["pixels"][rows])


def test_threads_and_copies_read_alike(dataset: tuple[Path, Columns]) -> None:
    folder, columns = dataset
    reader = EpisodeReader(folder)
    with ThreadPoolExecutor(3) as pool:
        for start, read in zip(
            range(0, 20, 2), pool.map(lambda s: reader.read("pixels", s, s + 6), range(0, 20, 2))
        ):
            assert close(read, columns["pixels"][start : start + 6])
    again = pickle.loads(pickle.dumps(reader))
    assert close(again.read("pixels", 9, 13), columns["pixels"][9:13])


def test_of_several_cameras_one_is_chosen(tmp_path: Path) -> None:
    columns = lerobot(tmp_path / "two", cameras=TWO)
    with pytest.raises(RecordingError, match="2 cameras: say data.camera= one of .*top, .*wrist"):
        EpisodeReader(tmp_path / "two")
    with pytest.raises(RecordingError, match="no camera 'head'"):
        EpisodeReader(tmp_path / "two", camera="head")
    reader = EpisodeReader(tmp_path / "two", camera=TWO[1], state="action")
    assert reader.attrs["camera"] == TWO[1] and close(reader.read("pixels", 0, 9), columns["pixels"][:9])
    assert np.array_equal(reader.read("state", 0, 26), columns["action"])
    assert pickle.loads(pickle.dumps(reader)).attrs["camera"] == TWO[1]


def info(**changes: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "meta" / "info.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


def remove(pattern: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for path in folder.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def overwrite(pattern: str, keep: int) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = sorted(folder.glob(pattern))[0]
        path.write_bytes(path.read_bytes()[:keep])

    return spoil


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (info(codebase_version="v1.6"), "version 'v1.6', and versions 2 and 3 are read here: convert it"),
        (info(fps=0), "no description of a LeRobot dataset"),
        (overwrite("meta/info.json", 20), "no description of a LeRobot dataset"),
        (info(features={}), "has no videos"),
        (info(data_path="../other/file-{file_index:03d}.parquet"), "points outside its folder"),
        (info(data_path="data/{nonsense}"), "unusable path"),
        (info(video_path=None), "does not say where the videos"),
        (remove("meta/episodes"), "has no tables"),
        (remove("data/chunk-000/file-001.parquet"), "file-001.parquet is missing"),
        (remove(f"videos/{CAMERA}/chunk-000/file-000.mp4"), "file-000.mp4 is missing"),
        (overwrite("data/chunk-000/*.parquet", 300), "cannot be read"),
        (overwrite("videos/*/*/*.mp4", 500), "not a video that can be read"),
    ],
)
def test_bad_folders_are_explained(
    dataset: tuple[Path, Columns], tmp_path: Path, spoil: Callable[[Path], None], sentence: str
) -> None:
    folder = shutil.copytree(dataset[0], tmp_path / "bad")
    spoil(folder)
    with pytest.raises(RecordingError, match=sentence) as caught:
        EpisodeReader(folder)
    assert "\n" not in str(caught.value)


def test_a_folder_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="is a folder and no LeRobot dataset"):
        EpisodeReader(tmp_path)


def test_without_pyarrow_the_extra_is_told(dataset: tuple[Path, Columns], monkeypatch: Any) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(RecordingError, match=r"pip install 'latent-planner\[lerobot\]'"):
        EpisodeReader(dataset[0])


def test_a_robot_recording_trains_without_a_world(tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    monkeypatch.chdir(tmp_path)
    lerobot(tmp_path / "robot", lengths=(20, 20, 20), size=(64, 96))
    words = [
        "env=recorded", "data.path=robot", f"data.camera={CAMERA}", "data.state=observation.state", "out=run",
        "model.image_size=32", "model.frameskip=2", "model.latent_dim=8", "model.projector_dim=8",
        "model.encoder_width=4", "model.predictor_width=8", "model.predictor_depth=1",
        "model.predictor_heads=1", "model.predictor_head_dim=8", "model.predictor_mlp_dim=8",
        "train.batch_size=4", "train.steps=2", "train.log_every=1", "device=cpu", "wandb.mode=disabled",
    ]  # fmt: skip
    assert train.main(words) == 0, capsys.readouterr().err
    out = capsys.readouterr().out
    assert "Agent.from_pretrained" in out and "goals reached" not in out
    config = json.loads(Path("run/config.json").read_text())["model"]
    assert config["env"] == "recorded" and config["image_size"] == 32
    assert train.main(["env=recorded"]) == 2
    assert "say data.path=RECORDING" in capsys.readouterr().err
