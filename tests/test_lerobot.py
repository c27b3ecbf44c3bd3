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
from published import CAMERA, Columns, coded_frame, lerobot, lerobot_2, video

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


# folders that are slightly off


def table(folder: Path, pattern: str, change: Callable[[Any], Any]) -> None:
    """Write the tables that match again, as `change` makes them."""
    from pyarrow import parquet

    for path in sorted(folder.glob(pattern)):
        parquet.write_table(change(parquet.read_table(path)), path)


def set_column(name: str, values: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda t: t.set_column(t.schema.get_field_index(name), name, values(t.column(name)))


def lose_frame(folder: Path, number: int) -> None:
    """The first video, of episodes 0 and 1 with 7 and 4 frames, without one of its frames."""
    path = folder / "videos" / CAMERA / "chunk-000" / "file-000.mp4"
    frames = [coded_frame(e, s, 48, 64) for e, length in ((0, 7), (1, 4)) for s in range(length)]
    with_gap = [frame for i, frame in enumerate(frames) if i != number]
    video(path, with_gap, 10, stamps=[i for i in range(len(frames)) if i != number])


@pytest.mark.parametrize(("number", "lost"), [(3, 0), (6, 0), (7, 1), (10, 1)])
def test_an_episode_that_lacks_a_frame_is_left_out(
    dataset: tuple[Path, Columns], tmp_path: Path, caplog: Any, number: int, lost: int
) -> None:
    folder, columns = shutil.copytree(dataset[0], tmp_path / "short"), dataset[1]
    lose_frame(folder, number)
    with EpisodeReader(folder) as reader:
        assert "1 of 4 episodes are left out" in caplog.text and f"episode {lost}: " in caplog.text
        assert "file-000.mp4 has no frame at" in caplog.text
        kept = np.delete(np.arange(26), slice(0, 7) if lost == 0 else slice(7, 11))
        assert reader.lengths.tolist() == [[4, 9, 6], [7, 9, 6]][lost] and reader.num_frames == len(kept)
        assert np.array_equal(reader.read("action", 0, len(kept)), columns["action"][kept])
        assert close(reader.read("pixels", 0, len(kept)), columns["pixels"][kept])


@pytest.mark.parametrize("drift", [0.02, 0.05, 0.06, 0.1, -0.08])
def test_frames_are_those_of_their_rows_whatever_the_drift(tmp_path: Path, caplog: Any, drift: float) -> None:
    columns = lerobot(tmp_path / "robot", per_video=4, drift=drift)
    with EpisodeReader(tmp_path / "robot") as reader:
        assert close(reader.read("pixels", 0, 26), columns["pixels"])
    assert ("frames are taken in order" in caplog.text) == (abs(3 * drift) > 0.05)


@pytest.mark.parametrize(
    "values",
    [
        lambda c: [float("nan")] * len(c),
        lambda c: [None] * len(c),
        lambda c: [1.7e9 + v for v in c.to_pylist()],
        lambda c: [[v] for v in c.to_pylist()],
    ],
)
def test_odd_times_do_not_shift_pictures(
    dataset: tuple[Path, Columns], tmp_path: Path, values: Callable[[Any], Any]
) -> None:
    import pyarrow as pa

    folder, columns = shutil.copytree(dataset[0], tmp_path / "times"), dataset[1]

    def odd(column: Any) -> Any:
        made = values(column)
        return pa.array(made, pa.list_(pa.float64()) if isinstance(made[0], list) else pa.float64())

    table(folder, "data/*/*.parquet", set_column("timestamp", odd))
    with EpisodeReader(folder) as reader:
        assert close(reader.read("pixels", 0, 26), columns["pixels"])
    lose_frame(folder, 3)
    try:
        with EpisodeReader(folder) as reader:
            assert close(reader.read("pixels", 0, reader.num_frames), columns["pixels"][-reader.num_frames :])
    except RecordingError as error:
        assert "\n" not in str(error)


def test_hidden_files_are_none_of_it(dataset: tuple[Path, Columns], tmp_path: Path) -> None:
    folder = shutil.copytree(dataset[0], tmp_path / "mac")
    listed = folder / "meta" / "episodes" / "chunk-000"
    (listed / "._file-000.parquet").write_bytes(b"\0\x05\x16\x07" + bytes(60))
    (listed / ".ipynb_checkpoints").mkdir()
    shutil.copy(listed / "file-000.parquet", listed / ".ipynb_checkpoints" / "file-000-checkpoint.parquet")
    with EpisodeReader(folder) as reader:
        assert reader.lengths.tolist() == [7, 4, 9, 6]


def test_lists_of_unequal_lengths_are_refused(dataset: tuple[Path, Columns], tmp_path: Path) -> None:
    import pyarrow as pa

    folder = shutil.copytree(dataset[0], tmp_path / "ragged")
    for ragged in ([[1.0], [2.0, 3.0, 4.0]], [[1.0, 2.0], None], [[1.0, 2.0], []]):
        values = set_column("action", lambda c: pa.array([ragged[i % 2] for i in range(len(c))]))  # noqa: B023
        table(folder, "data/*/*.parquet", values)
        with pytest.raises(RecordingError, match="'action' with lists that are empty or of unequal lengths"):
            EpisodeReader(folder)
        with pytest.raises(RecordingError, match="'action' with lists"):
            EpisodeReader(folder, action="observation.state", state="action")


def test_rows_that_are_missing_cost_their_episode_alone(
    dataset: tuple[Path, Columns], tmp_path: Path, caplog: Any
) -> None:
    folder, columns = shutil.copytree(dataset[0], tmp_path / "rows"), dataset[1]
    table(folder, "data/*/file-000.parquet", lambda t: t.filter([i != 8 for i in range(len(t))]))
    with EpisodeReader(folder) as reader:
        assert reader.lengths.tolist() == [7, 9, 6]
        assert close(reader.read("pixels", 7, 16), columns["pixels"][11:20])
    assert "episode 1: it has 3 rows in data/ and should have 4" in caplog.text


def test_clocks_and_counters_are_no_actions(dataset: tuple[Path, Columns]) -> None:
    for name in ("timestamp", "index", "frame_index", "task_index"):
        with pytest.raises(RecordingError, match=f"a clock or a counter called '{name}'"):
            EpisodeReader(dataset[0], action=name)


def test_depth_is_no_camera(dataset: tuple[Path, Columns], tmp_path: Path) -> None:
    folder = shutil.copytree(dataset[0], tmp_path / "depth")
    features = json.loads((folder / "meta" / "info.json").read_text())["features"]
    features["observation.images.top_depth"] = {"dtype": "video", "info": {"is_depth_map": True}}
    info(features=features)(folder)
    assert EpisodeReader(folder).attrs["camera"] == CAMERA


# version 2


@pytest.mark.parametrize("pictures", [False, True])
def test_version_2_is_read(tmp_path: Path, pictures: bool) -> None:
    columns = lerobot_2(tmp_path / "robot", pictures=pictures)
    with EpisodeReader(tmp_path / "robot") as reader:
        assert reader.lengths.tolist() == [7, 4, 9, 6] and reader.attrs["control_hz"] == 10
        for name in ("action", "state"):
            assert np.array_equal(reader.read(name, 0, 26), columns[name])
        assert close(reader.read("pixels", 0, 26), columns["pixels"])
        rows = np.random.default_rng(0).integers(0, 26, 40)
        assert close(reader.read_rows("pixels", rows), columns["pixels"][rows])


def test_version_2_does_without_what_was_deleted(tmp_path: Path, caplog: Any) -> None:
    columns = lerobot_2(tmp_path / "robot")
    (tmp_path / "robot" / "data" / "chunk-000" / "episode_000001.parquet").unlink()
    (tmp_path / "robot" / "videos" / "chunk-000" / CAMERA / "episode_000002.mp4").write_bytes(b"nothing")
    with EpisodeReader(tmp_path / "robot") as reader:
        assert reader.lengths.tolist() == [7, 6]
        assert close(reader.read("pixels", 7, 13), columns["pixels"][20:])
    assert "episode 1: " in caplog.text and "episode 2: " in caplog.text


def test_pictures_in_tables_that_cannot_be_read(tmp_path: Path) -> None:
    import pyarrow as pa

    lerobot_2(tmp_path / "robot", pictures=True)
    odd = [{"bytes": b"no picture", "path": None}, {"bytes": None, "path": "../../../etc/passwd"}, None]
    for one in odd:
        spoilt = set_column(CAMERA, lambda c: pa.array([*c.to_pylist()[:-1], one], c.type))  # noqa: B023
        table(tmp_path / "robot", "data/*/episode_000003.parquet", spoilt)
        with EpisodeReader(tmp_path / "robot") as reader:
            reader.read("pixels", 0, 25)
            with pytest.raises(RecordingError, match="picture"):
                reader.read("pixels", 25, 26)


# whatever is in them


def test_nonsense_gets_a_sentence(dataset: tuple[Path, Columns], tmp_path: Path) -> None:
    """Damaged descriptions at random: read, or one sentence, and no long time or much memory for it."""
    rng, text = np.random.default_rng(0), (dataset[0] / "meta" / "info.json").read_bytes()
    folder = shutil.copytree(dataset[0], tmp_path / "odd")
    odd = [b"[" * 100_000, b"5", b'{"codebase_version": "v3.0"}']
    odd.append(text.replace(b'"fps": 10', b'"fps": 1' + b"0" * 400))
    for value in (b"5", b"null", b"[]", b'"x"', b"true"):
        odd.append(text.replace(b'{"motors": ["pan", "lift", "grip"]}', value))
        odd.append(text.replace(b'{"dtype": "float32", "shape": [2], "names": ["x", "y"]}', value))
    for width in (b"3000000000", b"99", b"1000"):
        odd.append(text.replace(b"{chunk_index:03d}", b"{chunk_index:%sd}" % width))
    odd.append(text.replace(b"data/chunk", b"data\\u0000/chunk"))
    for _ in range(150):
        data = bytearray(text)
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            data[place] = rng.integers(32, 127)
        odd.append(bytes(data))
    for data in odd:
        (folder / "meta" / "info.json").write_bytes(data)
        try:
            EpisodeReader(folder).close()
        except RecordingError as error:
            assert len(str(error)) < 1500 and "\n" not in str(error)


@pytest.mark.parametrize("pattern", ["data/*/file-000.parquet", "meta/episodes/*/*.parquet"])
def test_damaged_tables_get_a_sentence(dataset: tuple[Path, Columns], tmp_path: Path, pattern: str) -> None:
    folder, rng = shutil.copytree(dataset[0], tmp_path / "odd"), np.random.default_rng(0)
    (path,) = folder.glob(pattern)
    whole = path.read_bytes()
    for _ in range(60):
        data = bytearray(whole)
        for place in rng.integers(0, len(data), 3):
            data[place] = rng.integers(0, 256)
        path.write_bytes(bytes(data))
        try:
            with EpisodeReader(folder) as reader:
                reader.read("action", 0, reader.num_frames)
        except RecordingError as error:
            assert "\n" not in str(error)


def test_missing_columns_get_a_sentence(dataset: tuple[Path, Columns], tmp_path: Path) -> None:
    for pattern, names in {
        "meta/episodes/*/*.parquet": ("data/chunk_index", "data/file_index", "length", "episode_index"),
        "data/*/*.parquet": ("action", "observation.state", "timestamp", "frame_index", "episode_index"),
    }.items():
        for name in names:
            folder = shutil.copytree(dataset[0], tmp_path / f"no {name.replace('/', ' ')}{len(pattern)}")
            table(folder, pattern, lambda t: t.drop_columns([name]))  # noqa: B023
            with pytest.raises(RecordingError, match=name if name != "episode_index" else "episode"):
                EpisodeReader(folder)


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
