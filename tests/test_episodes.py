"""Recordings: what is written is read, whatever happens to the writer, and bad files are explained."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from latent_planner.envs.recordings.columns import Chunks, Library, Memory
from latent_planner.envs.recordings.episodes import (
    EpisodeReader,
    EpisodeWriter,
    RecordingError,
    partial_path,
)

ATTRS: dict[str, Any] = {
    "env": "robot",
    "image_size": 16,
    "control_hz": 10.0,
    "state_names": ["x", "turn"],
    "angle_names": ["turn"],
    "action_low": [-1.0, -2.0],
    "action_high": [1.0, 2.0],
    "seed": 7,
    "policy": "hand",
    "note": {"place": "kitchen"},
}
Columns = dict[str, np.ndarray]


def episode(index: int, length: int = 6, size: int = 16) -> Columns:
    """A made-up episode with frames that compress like drawn ones."""
    rng = np.random.default_rng(index)
    pixels = np.full((length, size, size, 3), 250, np.uint8)
    pixels[:, 2:9, 3:11] = rng.integers(0, 255, (length, 1, 8, 3))
    action = rng.uniform(-1, 1, (length, 2)).astype(np.float32)
    action[-1] = np.nan
    return {"pixels": pixels, "state": rng.normal(size=(length, 2)), "action": action}


def joined(episodes: list[Columns]) -> Columns:
    return {name: np.concatenate([part[name] for part in episodes]) for name in episodes[0]}


def equal(reader: EpisodeReader, expected: Columns) -> bool:
    rows = len(expected["pixels"])
    read = {name: reader.read(name, 0, reader.num_frames) for name in expected}
    return reader.num_frames == rows and all(
        np.array_equal(read[name], expected[name], equal_nan=name != "pixels") for name in expected
    )


@pytest.fixture
def episodes() -> list[Columns]:
    return [episode(i, length=4 + i % 5) for i in range(20)]


@pytest.fixture
def recording(tmp_path: Path, episodes: list[Columns]) -> Path:
    path = tmp_path / "robot.h5"
    with EpisodeWriter(path, attrs=ATTRS) as writer:
        for columns in episodes:
            writer.append(columns)
    return path


# What is written is read -----------------------------------------------------------------------------


def test_round_trip(recording: Path, episodes: list[Columns]) -> None:
    with EpisodeReader(recording) as reader:
        assert equal(reader, joined(episodes))
        assert reader.lengths.tolist() == [len(columns["pixels"]) for columns in episodes]
        assert reader.offsets.tolist() == np.cumsum([0, *reader.lengths[:-1]]).tolist()
        assert set(reader.columns) == {"pixels", "state", "action"}
        assert reader.complete and reader.env == "robot" and reader.image_size == 16
        assert reader.state_names == ("x", "turn") and reader.angle_names == ("turn",)
        assert reader.action_low.tolist() == [-1, -2] and reader.action_high.tolist() == [1, 2]
        assert {key: reader.attrs[key] for key in ATTRS} == ATTRS
        reader.check_actions()
    assert [file.name for file in recording.parent.iterdir()] == ["robot.h5"]


def test_any_rows_in_any_order(recording: Path, episodes: list[Columns]) -> None:
    reader, expected = EpisodeReader(recording), joined(episodes)
    rows = np.random.default_rng(0).integers(reader.num_frames, size=300)
    for name in reader.columns:
        assert np.array_equal(reader.read_rows(name, rows), expected[name][rows], equal_nan=name != "pixels")
        assert len(reader.read_rows(name, [])) == 0
        with pytest.raises(IndexError):
            reader.read_rows(name, [0, reader.num_frames])


def test_many_frames_are_unpacked_by_several_threads_alike(tmp_path: Path) -> None:
    parts = [episode(i, length=40, size=96) for i in range(5)]
    with EpisodeWriter(tmp_path / "big.h5", attrs=ATTRS) as writer:
        for columns in parts:
            writer.append(columns)
    reader = EpisodeReader(tmp_path / "big.h5")
    expected = joined(parts)["pixels"]
    with ThreadPoolExecutor(4) as pool:
        for read in pool.map(lambda _: reader.read("pixels", 0, 200), range(8)):
            assert np.array_equal(read, expected)


def test_a_reader_works_in_other_processes(recording: Path, episodes: list[Columns]) -> None:
    reader = EpisodeReader(recording)
    assert equal(pickle.loads(pickle.dumps(reader)), joined(episodes))
    if hasattr(os, "fork"):
        reader.read("pixels", 0, reader.num_frames)
        child = os.fork()
        if not child:
            os._exit(0 if equal(reader, joined(episodes)) else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_the_file_is_plain_hdf5(recording: Path, episodes: list[Columns]) -> None:
    expected = joined(episodes)
    with h5py.File(recording) as file:
        assert set(file) == {"pixels", "state", "action", "ep_len", "ep_offset"}
        assert np.array_equal(file["pixels"][()], expected["pixels"])
        assert np.array_equal(file["state"][()], expected["state"])
        assert file["pixels"].compression == "gzip" and json.loads(file.attrs["state_names"]) == ["x", "turn"]


def test_the_last_action_of_an_episode_becomes_nan(tmp_path: Path) -> None:
    columns = episode(0)
    columns["action"][-1] = 0.5
    with EpisodeWriter(tmp_path / "a.h5", attrs={}) as writer:
        writer.append(columns)
    assert columns["action"][-1].tolist() == [0.5, 0.5]
    assert np.isnan(EpisodeReader(tmp_path / "a.h5").read("action", 5, 6)).all()


def test_other_columns_are_kept(tmp_path: Path) -> None:
    extra = {
        "wrist": episode(1)["pixels"],
        "reward": np.arange(6),
        "grip": np.array([0, 1, 1, 0, 0, 1], bool),
    }
    with EpisodeWriter(tmp_path / "a.h5", attrs={}) as writer:
        writer.append(episode(0) | extra)
        writer.append(episode(2) | extra)
    reader = EpisodeReader(tmp_path / "a.h5")
    for name, values in extra.items():
        assert np.array_equal(reader.read(name, 6, 12), values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": None}, "needs the columns pixels and action"),
        ({"pixels": np.zeros((6, 3, 16, 16), np.uint8)}, r"uint8 \(T, H, W, 3\)"),
        ({"pixels": np.zeros((6, 16, 16, 3), np.float32)}, "not float32"),
        ({"action": np.zeros((6, 2), int)}, "actions of an episode are float"),
        ({"action": np.zeros((5, 2))}, "as many rows"),
        ({"action": np.full((6, 2), np.nan)}, "action 0 of an episode of 6 rows is not finite"),
        ({"pixels": np.zeros((6, 8, 8, 3), np.uint8)}, "record them in two files"),
        ({"note": np.array(["a"] * 6)}, "only numbers"),
    ],
)
def test_episodes_that_do_not_fit_are_refused_and_the_others_kept(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    bad = {name: values for name, values in (episode(1) | change).items() if values is not None}
    with EpisodeWriter(tmp_path / "a.h5", attrs={}) as writer:
        writer.append(episode(0))
        with pytest.raises(RecordingError, match=message):
            writer.append(bad)
        writer.append(episode(2))
    assert equal(EpisodeReader(tmp_path / "a.h5"), joined([episode(0), episode(2)]))


# What becomes of a writer ----------------------------------------------------------------------------


def test_an_unfinished_recording_is_read_and_continued(
    tmp_path: Path, recording: Path, episodes: list[Columns]
) -> None:
    path = tmp_path / "again.h5"
    writer = EpisodeWriter(path, attrs=ATTRS)
    for columns in episodes[:7]:
        writer.append(columns)
    reader = EpisodeReader(path)  # while it is being written
    assert reader.path == partial_path(path) and not reader.complete
    assert equal(reader, joined(episodes[:7])) and reader.state_names == ("x", "turn")
    with pytest.raises(RecordingError, match="another process"):
        EpisodeWriter(path, attrs=ATTRS)
    writer.abandon()
    assert not path.exists()
    with pytest.raises(RecordingError, match="recorded with seed=7 and not 8"):
        EpisodeWriter(path, attrs=ATTRS | {"seed": 8})
    with EpisodeWriter(path, attrs=ATTRS) as writer:
        assert writer.count == 7
        for columns in episodes[7:]:
            writer.append(columns)
    assert path.read_bytes() == recording.read_bytes()
    with pytest.raises(RecordingError, match="exists already"):
        EpisodeWriter(path, attrs=ATTRS)


def test_an_error_keeps_the_complete_episodes(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), EpisodeWriter(tmp_path / "a.h5", attrs={}) as writer:
        writer.append(episode(0))
        raise ZeroDivisionError
    assert equal(EpisodeReader(tmp_path / "a.h5"), episode(0))


def test_cut_anywhere_an_unfinished_recording_keeps_its_complete_episodes(
    tmp_path: Path, episodes: list[Columns]
) -> None:
    path, ends = tmp_path / "a.h5", []
    writer = EpisodeWriter(path, attrs=ATTRS)
    for columns in episodes[:4]:
        writer.append(columns)
        ends.append(partial_path(path).stat().st_size)
    writer.abandon()
    whole, cut = partial_path(path).read_bytes(), tmp_path / "cut.h5"
    for size in [*range(0, ends[1], 31), *ends, *(end - 1 for end in ends)]:
        kept = sum(end <= size for end in ends)
        partial_path(cut).write_bytes(whole[:size])
        if kept:
            assert equal(EpisodeReader(cut), joined(episodes[:kept]))
        else:
            with pytest.raises(RecordingError, match="empty|no complete episode|not a recording"):
                EpisodeReader(cut)
        resumed = EpisodeWriter(cut, attrs=ATTRS)
        assert resumed.count == kept
        resumed.abandon()


def test_cut_anywhere_a_finished_recording_keeps_its_complete_episodes(
    tmp_path: Path, recording: Path, episodes: list[Columns]
) -> None:
    whole, cut = recording.read_bytes(), tmp_path / "cut.h5"
    kept = []
    for size in range(len(whole) - 1, 0, -199):
        cut.write_bytes(whole[:size])
        try:
            reader = EpisodeReader(cut)
        except RecordingError as error:
            assert re.search("cut off after|damaged|not an HDF5 file", str(error))
            kept.append(0)
            continue
        assert not reader.complete and equal(reader, joined(episodes[: len(reader.lengths)]))
        kept.append(len(reader.lengths))
    assert kept == sorted(kept, reverse=True) and kept[0] == 19 and {3, 10} < set(kept)


WRITER = """
import sys
from pathlib import Path
from tests.test_episodes import ATTRS, episode
from latent_planner.envs.recordings.episodes import EpisodeWriter
writer = EpisodeWriter(sys.argv[1], attrs=ATTRS)
for index in range(writer.count, 10**6):
    writer.append(episode(index, length=30, size=48))
    print(index, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_writer_leaves_what_was_appended(tmp_path: Path, root: Path) -> None:
    path, count = tmp_path / "a.h5", 0
    for extra in (0, 1, 17):
        program = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(program, cwd=root, stdout=subprocess.PIPE) as process:
            assert process.stdout
            for _ in range(extra + 3):
                told = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
        reader = EpisodeReader(path)
        assert len(reader.lengths) > told >= count
        count = len(reader.lengths)
        assert equal(reader, joined([episode(i, length=30, size=48) for i in range(count)]))


def test_a_full_disk_is_one_sentence_and_loses_nothing(
    tmp_path: Path, episodes: list[Columns], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.h5"
    writer = EpisodeWriter(path, attrs=ATTRS)
    writer.append(episodes[0])
    real = os.write

    def full(file: int, data: Any) -> int:
        if len(data) > 20:
            return real(file, data[:20])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(RecordingError, match="its 1 complete episodes are kept; make room"):
            writer.append(episodes[1])
    assert equal(EpisodeReader(path), episodes[0])
    writer.append(episodes[1])
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100}))
        with pytest.raises(RecordingError, match="No space left on device.*make room"):
            writer.close()
    assert not path.exists() and equal(EpisodeReader(path), joined(episodes[:2]))
    with EpisodeWriter(path, attrs=ATTRS) as writer:
        assert writer.count == 2
    assert equal(EpisodeReader(path), joined(episodes[:2]))


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 400 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=400k", "none", folder], capture_output=True
        )
    except OSError:
        pytest.skip("needs mount")
    if made.returncode:
        pytest.skip("needs the right to mount")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def test_a_really_full_disk(small_disk: Path) -> None:
    path, rng = small_disk / "a.h5", np.random.default_rng(0)
    noise = [episode(i) | {"noise": rng.random((6, 500))} for i in range(40)]
    writer = EpisodeWriter(path, attrs={})
    with pytest.raises(RecordingError, match="No space left on device"):
        for columns in noise:
            writer.append(columns)
    kept = writer.count
    assert kept > 5 and equal(EpisodeReader(path), joined(noise[:kept]))
    with pytest.raises(RecordingError, match="No space left on device"):
        writer.close()
    assert [file.name for file in small_disk.iterdir()] == ["a.h5.partial"]
    assert equal(EpisodeReader(path), joined(noise[:kept]))


def test_a_damaged_frame_is_told(recording: Path) -> None:
    reader = EpisodeReader(recording)
    column = reader._columns["pixels"]
    assert isinstance(column, Chunks)
    with open(recording, "r+b") as file:
        file.seek(int(column.offsets[3]) + 5)
        file.write(b"\xff" * 20)
    with pytest.raises(RecordingError, match="row 3 of .* is damaged"):
        EpisodeReader(recording).read("pixels", 0, 6)


# Files of others -------------------------------------------------------------------------------------


def published(path: Path, change: Callable[[Columns], None] = lambda _: None, **options: Any) -> Columns:
    """A file as others write it: no attributes, more columns, other chunks."""
    columns: Columns = joined([episode(i, length=5) for i in range(9)])
    columns["proprio"] = np.arange(90, dtype=np.float32).reshape(45, 2)
    columns["ep_len"], columns["ep_offset"] = np.full(9, 5, np.int32), np.arange(0, 45, 5)
    stored = dict(columns)
    change(stored)
    with h5py.File(path, "w") as file:
        for name, values in stored.items():
            file.create_dataset(name, data=values, **(options if name == "pixels" else {}))
    return {name: values for name, values in columns.items() if not name.startswith("ep_")}


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Memory, {}),
        (Chunks, {"chunks": (1, 16, 16, 3)}),
        (Chunks, {"chunks": (7, 16, 16, 3), "compression": "gzip", "shuffle": True}),
        (Library, {"chunks": (7, 16, 16, 3), "compression": "lzf"}),
        (Library, {"chunks": (8, 8, 8, 3), "compression": "gzip"}),
        (Library, {"chunks": (7, 16, 16, 3), "compression": "gzip", "fletcher32": True}),
    ],
)
@pytest.mark.parametrize("small", [True, False])
def test_the_published_layout_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type, options: dict[str, Any], small: bool
) -> None:
    monkeypatch.setattr(Library, "small", 1 << 20 if small else 100)
    expected = published(tmp_path / "expert.h5", **options)
    reader = EpisodeReader(tmp_path / "expert.h5")
    assert isinstance(reader._columns["pixels"], kind)
    assert equal(reader, expected) and reader.lengths.tolist() == [5] * 9
    rows = np.array([44, 3, 3, 20, 0, 8])
    assert np.array_equal(reader.read_rows("pixels", rows), expected["pixels"][rows])
    assert reader.env is None and reader.attrs == {} and reader.image_size == 16
    assert reader.state_names == ("state_0", "state_1") and reader.angle_names == ()
    assert np.array_equal(reader.action_low, np.nanmin(expected["action"], axis=0))
    assert np.array_equal(reader.action_high, np.nanmax(expected["action"], axis=0))
    reader.check_actions()


def test_nan_actions_inside_an_episode_are_told(tmp_path: Path) -> None:
    def spoil(columns: Columns) -> None:
        columns["action"][17] = np.nan

    published(tmp_path / "a.h5", spoil)
    with pytest.raises(RecordingError, match="first in episode 3 at step 2"):
        EpisodeReader(tmp_path / "a.h5").check_actions()


def edit(**values: Any) -> Callable[[Columns], None]:
    """Replace columns; None takes one away."""

    def change(columns: Columns) -> None:
        for name, value in values.items():
            columns.pop(name) if value is None else columns.update({name: np.asarray(value)})

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit(action=None), "lacks action; its columns are: ep_len, ep_offset, pixels, proprio, state"),
        (edit(ep_len=None, ep_offset=None), "lacks ep_len and ep_offset"),
        (edit(pixels=np.zeros((45, 3, 16, 16), np.uint8)), r"must be uint8 \(N, H, W, 3\)"),
        (edit(pixels=np.zeros((45, 16, 16, 3), np.float32)), "pixels float32"),
        (edit(pixels=np.zeros((40, 16, 16, 3), np.uint8)), "40 rows of pixels and 45 of action"),
        (edit(state=np.zeros((44, 2))), "45 rows of pixels and 44 of state"),
        (edit(pixels=np.zeros((45, 3, 16, 16), np.uint8)), "transpose"),
        (edit(pixels=np.zeros((45, 16, 16, 3), np.float32)), r"frames \* 255"),
        (edit(pixels=np.zeros((45, 16, 16, 4), np.uint8)), "fourth channel"),
        (edit(action=np.zeros((45, 2), complex)), "action complex128"),
        (edit(action=np.zeros((45, 0))), "must be numbers, a row a frame"),
        (edit(ep_len=np.full(9, 4.5)), "ep_len float64 of shape .9,.; it must be whole numbers"),
        (edit(ep_len=[], ep_offset=[]), "must be whole numbers"),
        (edit(ep_len=np.array([], int), ep_offset=np.array([], int)), "holds no episodes"),
        (edit(ep_len=[5, 5]), "2 episodes in ep_len and 9 in ep_offset"),
        (edit(ep_offset=np.arange(0, 45, 5) + 1), "episode 8 has 5 rows from row 41 on"),
        (edit(ep_len=[5] * 8 + [0]), "episode 8 has 0 rows"),
        (edit(ep_offset=[0, 4, 10, 15, 20, 25, 30, 35, 40]), "episodes 0 and 1 on the same rows"),
    ],
)
def test_bad_recordings_are_explained(
    tmp_path: Path, change: Callable[[Columns], None], message: str
) -> None:
    published(tmp_path / "bad.h5", change)
    with pytest.raises(RecordingError, match=message) as caught:
        EpisodeReader(tmp_path / "bad.h5")
    assert "bad.h5" in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_no_recording_is_explained(tmp_path: Path, recording: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.h5").touch()
    (tmp_path / "text.h5").write_text("no frames here\n" * 99)
    (tmp_path / "zip.h5").write_bytes(zlib.compress(b"x" * 999))
    published(tmp_path / "cut.h5")
    whole = (tmp_path / "cut.h5").read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole[: len(whole) // 2])
    with h5py.File(tmp_path / "newer.h5", "w") as file:
        file.attrs["format_version"] = 99
    for name, message in {
        "none.h5": "there is no recording",
        ".": "holds 6 HDF5 files: give one of them",
        "folder": "is a folder",
        "empty.h5": "is empty",
        "text.h5": "not an HDF5 file",
        "zip.h5": "not an HDF5 file",
        "cut.h5": "is cut off after",
        "newer.h5": "newer version",
    }.items():
        with pytest.raises(RecordingError, match=message):
            EpisodeReader(tmp_path / name)
    with pytest.raises(RecordingError, match="no column 'depth'; its columns are: .*pixels"):
        EpisodeReader(recording).read("depth", 0, 1)


def test_what_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RecordingError, match="cannot be written"):
        EpisodeWriter(tmp_path / "file" / "a.h5", attrs={})
    with pytest.raises(RecordingError, match="attributes of a recording"):
        EpisodeWriter(tmp_path / "a.h5", attrs={"what": object()})
    with pytest.raises(RecordingError, match="no episodes"), EpisodeWriter(tmp_path / "a.h5", attrs={}):
        pass
    partial_path(tmp_path / "b.h5").write_text("somebody's notes, which stay")
    with pytest.raises(RecordingError, match="not an unfinished recording"):
        EpisodeWriter(tmp_path / "b.h5", attrs={})
    assert partial_path(tmp_path / "b.h5").read_text().startswith("somebody")
