"""HDF5 files that nobody vouches for are read right or refused with one sentence, quickly, from within."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from waiting import PATIENCE

from latent_planner.checkpoints import action_statistics
from latent_planner.checkpoints.checkpoint import CheckpointError
from latent_planner.cli.__main__ import main
from latent_planner.common import hdf5_files
from latent_planner.common.printable import printable
from latent_planner.envs.recordings.episodes import (
    EpisodeReader,
    EpisodeWriter,
    RecordingError,
    partial_path,
)
from latent_planner.envs.recordings.inspection import contact_sheet

Columns = dict[str, np.ndarray]
Change = Callable[[h5py.File], None]
ROWS = 30


def columns() -> Columns:
    rng = np.random.default_rng(0)
    return {
        "pixels": rng.integers(0, 255, (ROWS, 16, 16, 3)).astype(np.uint8),
        "action": rng.uniform(-1, 1, (ROWS, 2)).astype(np.float32),
        "state": rng.uniform(0, 9, (ROWS, 3)).astype(np.float32),
        "ep_len": np.full(3, 10),
        "ep_offset": np.arange(0, ROWS, 10),
    }


def store(path: Path, change: Change = lambda _: None, **others: Any) -> Path:
    """A file of another program, with columns replaced or left out (None), and whatever `change` does."""
    with h5py.File(path, "w") as file:
        for name, values in (columns() | others).items():
            if values is not None:
                file[name] = values
        change(file)
    return path


def refused(path: Path, *words: str) -> str:
    with pytest.raises(RecordingError) as caught:
        EpisodeReader(path).read("pixels", 0, 1)
    sentence = str(caught.value)
    assert all(word in sentence for word in (path.name, *words)) and sentence.isprintable(), sentence
    return sentence


# columns as people have them


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("action", lambda a: a[:, 0]),
        ("action", lambda a: (10 * a).astype(np.int32)),
        ("action", lambda a: a[:, None]),
        ("action", lambda a: a.astype(">f8")),
        ("action", lambda a: a.astype(np.float16)),
        ("state", lambda s: (10 * s).astype(np.int64)),
        ("state", lambda s: s[:, 0]),
        ("state", lambda s: s > 4),
        ("state", lambda s: np.stack([s, s], 2)),
        ("ep_len", lambda n: n[:, None]),
        ("ep_len", lambda n: n.astype(float)),
        ("ep_offset", lambda n: n.astype(np.uint64)),
    ],
)
@pytest.mark.parametrize("packing", [{}, {"compression": "gzip"}])
def test_numbers_of_any_kind_are_read(name: str, change: Any, packing: dict, tmp_path: Path) -> None:
    values = change(columns()[name])
    with h5py.File(store(tmp_path / "a.h5", **{name: None}), "r+") as file:
        file.create_dataset(name, data=values, **packing)
    with EpisodeReader(tmp_path / "a.h5") as reader:
        assert reader.lengths.tolist() == [10, 10, 10]
        for column in ("action", "state"):
            expected = values if name == column else columns()[column]
            read = reader.read(column, 0, ROWS)
            assert read.dtype.kind == "f" and read.ndim == 2
            assert np.array_equal(read, expected.reshape(ROWS, -1))
        assert len(reader.state_names) == reader.read("state", 0, 1).shape[1]
        assert len(reader.action_low) == reader.read("action", 0, 1).shape[1]
    assert len(action_statistics.read(tmp_path / "a.h5").mean) == len(reader.action_low)


# nothing comes from another file


def _external(name: str, source: str) -> Change:
    def change(file: h5py.File) -> None:
        shape, dtype = columns()[name].shape, columns()[name].dtype
        size = int(np.prod(shape)) * dtype.itemsize
        file.create_dataset(name, shape, dtype, external=[(source, 0, size)])

    return change


def _virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout(shape=(ROWS, 16, 16, 3), dtype="u1")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "pixels", shape=(ROWS, 16, 16, 3))
    file.create_virtual_dataset("pixels", layout)


def _linked(link: Any) -> Change:
    def change(file: h5py.File) -> None:
        file["away"] = h5py.ExternalLink("elsewhere.h5", "/")
        file["pixels"] = link

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_external("pixels", "secret"), "kept in another file"),
        (_virtual, "kept in another file"),
        (_linked(h5py.ExternalLink("elsewhere.h5", "pixels")), "link to another file"),
        (_linked(h5py.SoftLink("/away/pixels")), "link to another file"),
        (_linked(h5py.SoftLink("pixels")), "link to another file"),
    ],
    ids=["external", "virtual", "external link", "soft link", "circle"],
)
def test_what_lies_in_another_file_is_refused(change: Change, words: str, tmp_path: Path) -> None:
    store(tmp_path / "elsewhere.h5")
    (tmp_path / "secret").write_bytes(b"s" * 99_999)
    refused(store(tmp_path / "a.h5", change, pixels=None), words)


@pytest.mark.parametrize("name", ["note", "state", "action"])
def test_no_column_at_all_comes_from_another_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"s" * 9_999)
    known = columns() | {"note": np.zeros((ROWS, 16), np.uint8)}

    def change(file: h5py.File) -> None:
        values = known[name]
        file.create_dataset(name, values.shape, values.dtype, external=[("secret", 0, values.nbytes)])

    refused(store(tmp_path / "a.h5", change, **({name: None} if name != "note" else {})), name)
    if name == "action":
        with pytest.raises(CheckpointError, match="kept in another file"):
            action_statistics.read(tmp_path / "a.h5")


def test_links_within_the_file_are_read(tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        file["obs/camera"] = columns()["pixels"]
        file["pixels"] = h5py.SoftLink("/obs/camera")

    with EpisodeReader(store(tmp_path / "a.h5", change, pixels=None)) as reader:
        assert np.array_equal(reader.read("pixels", 0, ROWS), columns()["pixels"])
    with EpisodeReader(tmp_path / "a.h5", camera="obs/camera") as reader:
        assert np.array_equal(reader.read("pixels", 0, ROWS), columns()["pixels"])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_in_the_place_of_another_file_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    store(tmp_path / "a.h5", _external("pixels", "pipe"), pixels=None)
    store(tmp_path / "b.h5", lambda file: file.__setitem__("x", h5py.ExternalLink("pipe", "/x")))
    for name in ("a.h5", "b.h5"):
        words = [sys.executable, "-m", "latent_planner.cli", "inspect", str(tmp_path / name)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 2 and "another file" in done.stderr


# no more memory than a file can fill


def _claims(name: str, shape: tuple[int, ...], **options: Any) -> Change:
    return lambda file: file.create_dataset(name, shape, columns()[name].dtype, **options) and None


@pytest.mark.parametrize(
    ("change", "left_out"),
    [
        (_claims("pixels", (10**9, 16, 16, 3), chunks=(1, 16, 16, 3)), "pixels"),
        (_claims("pixels", (ROWS, 60_000, 60_000, 3), chunks=(1, 600, 600, 3)), "pixels"),
        (_claims("action", (10**9, 2), chunks=(100, 2)), "action"),
        (_claims("ep_len", (10**10,), chunks=(1000,)), "ep_len"),
        (_claims("state", (ROWS, 10**9), chunks=(1, 1000)), "state"),
        (_claims("state", (ROWS, 3), chunks=(1, 3)), "state"),
        (_claims("pixels", (ROWS, 16, 16, 3)), "pixels"),
    ],
)
def test_shapes_that_a_file_cannot_fill_are_refused(change: Change, left_out: str, tmp_path: Path) -> None:
    refused(store(tmp_path / "a.h5", change, **{left_out: None}), left_out)


def _packed(name: str, stream: bytes, chunk: tuple[int, ...], **options: Any) -> Change:
    def change(file: h5py.File) -> None:
        values = columns()[name]
        dataset = file.create_dataset(name, data=values, chunks=chunk, compression="gzip", **options)
        dataset.id.write_direct_chunk((0,) * values.ndim, stream)

    return change


BOMB = zlib.compress(bytes(600 << 20), 9)  # what 600 MiB of nothing become


@pytest.mark.parametrize(
    ("name", "chunk", "options"),
    [
        ("pixels", (1, 16, 16, 3), {}),
        ("pixels", (1, 8, 8, 3), {}),
        ("state", (ROWS, 3), {"shuffle": True}),
    ],
)
def test_what_unpacks_to_too_much_is_refused(name: str, chunk: Any, options: Any, tmp_path: Path) -> None:
    path = store(tmp_path / "a.h5", _packed(name, BOMB, chunk, **options), **{name: None})
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_DATA, (400 << 20,) * 2)\n"
        "from latent_planner.envs.recordings.episodes import EpisodeReader, RecordingError\n"
        "try: EpisodeReader(sys.argv[1]).read(sys.argv[2], 0, 30)\n"
        "except RecordingError as error: print(error)"
    )
    words = [sys.executable, "-c", program, str(path), name]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, env=environment)
    assert "a.h5" in done.stdout and done.stderr == "", done.stderr


# attributes


def old_text(path: Path) -> Path:
    """A file as earlier versions wrote it, whose text has variable length."""

    def change(file: h5py.File) -> None:
        file.attrs["format_version"] = 1
        file.attrs["env"], file.attrs["state_names"] = "robot", json.dumps(["x", "y", "turn"])
        file.attrs["control_hz"], file.attrs["action_low"] = 10.0, np.array([-2.0, -3.0])
        file.attrs["action_high"], file.attrs["note"] = np.array([2.0, 3.0]), "[kitchen"

    return store(path, change)


def test_recordings_of_earlier_versions_are_read(tmp_path: Path) -> None:
    with EpisodeReader(old_text(tmp_path / "a.h5")) as reader:
        assert reader.env == "robot" and reader.state_names == ("x", "y", "turn")
        assert reader.attrs["note"] == "[kitchen" and reader.action_low.tolist() == [-2, -3]
    assert action_statistics.read(tmp_path / "a.h5").low == (-2.0, -3.0)


def test_text_that_does_not_end_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In some damaged files the library searches for ever; here a program that sleeps stands for it."""
    sleeper = tmp_path / "sleeper.py"
    sleeper.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(hdf5_files, "__file__", str(sleeper))
    monkeypatch.setattr(hdf5_files, "SECONDS", 0.3)
    refused(old_text(tmp_path / "a.h5"), "does not come to an end")


def test_our_own_files_need_no_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "a.h5", {"env": "robot", "note": ["x", {"y": None}]})
    monkeypatch.setattr(subprocess, "run", None)
    assert EpisodeReader(tmp_path / "a.h5").attrs["note"] == ["x", {"y": None}]


@pytest.mark.parametrize(
    "attrs",
    [
        {"format_version": "x"}, {"format_version": [1, 2]}, {"state_names": 5}, {"angle_names": 5},
        {"state_names": [1, 2, 3]}, {"env": 7}, {"image_size": "large"}, {"control_hz": "fast"},
        {"action_low": ["a", "b"], "action_high": ["c", "d"]}, {"action_low": 5}, {"camera": [1]},
        {"action_low": [1.0, 1.0], "action_high": [0.0, 0.0]}, {"action_high": [np.inf, np.nan]},
        {"state_names": json.dumps([[1], {"a": 2}, None])}, {"state_names": "[" * 50_000},
    ],
)  # fmt: skip
def test_attributes_of_any_type_are_borne(attrs: dict[str, Any], tmp_path: Path) -> None:
    def change(file: h5py.File) -> None:
        for name, value in attrs.items():
            file.attrs.create(name, value) if not isinstance(value, str) else file.attrs.create(
                name, np.bytes_(value)
            )

    store(tmp_path / "a.h5", change)
    with EpisodeReader(tmp_path / "a.h5") as reader:
        assert len(set(reader.state_names)) == 3 and reader.angle_names == ()
        assert (reader.action_low < reader.action_high).all() and reader.env is None
    assert main(["inspect", str(tmp_path / "a.h5"), "--out", str(tmp_path / "a.png")]) == 0


def test_names_from_files_are_one_line_of_text(tmp_path: Path, capsys: Any) -> None:
    evil = "x\x1b]0;owned\x07\nerror: \u202edisk\ud800"
    written(tmp_path / "a.h5", {"env": evil, "camera": evil, "state_names": [evil, "y", "y"]})
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["odd\x1b[2J\nname"] = np.zeros(ROWS)
    assert main(["inspect", str(tmp_path / "a.h5"), "--out", str(tmp_path / "a.png")]) == 0
    out = capsys.readouterr().out
    assert all(line.isprintable() for line in out.splitlines()) and "\\x1b]0;owned" in out
    assert EpisodeReader(tmp_path / "a.h5").state_names == (printable(evil), "y", "y_2")


def test_printable_text_is_left_alone_and_cut() -> None:
    assert printable("Grüße, 世界 $^$ a/b") == "Grüße, 世界 $^$ a/b"
    assert printable("\t\x00") == "\\t\\x00" and len(printable("a" * 999)) == 200


# what the writer takes, the reader reads


def written(path: Path, attrs: dict[str, Any] | None = None, **others: Any) -> Path:
    with EpisodeWriter(path, attrs=attrs or {}) as writer:
        writer.append({name: columns()[name] for name in ("pixels", "action", "state")} | others)
    return path


@pytest.mark.parametrize(
    "state",
    [
        np.arange(ROWS), np.arange(ROWS) % 2 > 0, np.arange(4 * ROWS).reshape(ROWS, 2, 2),
        np.arange(ROWS, dtype=np.uint8)[:, None], np.arange(ROWS, dtype=">f8"), list(range(ROWS)),
    ],
)  # fmt: skip
def test_states_of_any_kind_are_recorded(state: Any, tmp_path: Path) -> None:
    with EpisodeReader(written(tmp_path / "a.h5", state=state)) as reader:
        assert np.array_equal(reader.read("state", 0, ROWS), np.reshape(state, (ROWS, -1)))


@pytest.mark.parametrize(
    "others",
    [
        {"ep_len": np.zeros(ROWS)}, {"ep_offset": np.zeros(ROWS)}, {".": np.zeros(ROWS)},
        {"": np.zeros(ROWS)},
        {"..": np.zeros(ROWS)}, {"a/b": np.zeros(ROWS)}, {"a\0": np.zeros(ROWS)}, {"\ud800": np.zeros(ROWS)},
        {3: np.zeros(ROWS)}, {"x" * 300: np.zeros(ROWS)}, {"nothing": np.zeros((ROWS, 0))},
        {"pixels": np.zeros((ROWS, 0, 0, 3), np.uint8)}, {"wrist": np.zeros((ROWS, 0, 4, 3), np.uint8)},
        {"action": np.zeros((ROWS, 0), np.float32)}, {"z": np.zeros(ROWS, np.complex64)},
        {"z": np.zeros(ROWS, np.longdouble)}, {"z": [[1], [2, 3]] * 15}, {"z": 5},
        {"z": np.broadcast_to(np.uint8(0), (ROWS, 40_000, 40_000, 3))},
    ],
)  # fmt: skip
def test_what_could_not_be_finished_is_refused_at_once(others: dict, tmp_path: Path) -> None:
    good = {name: columns()[name] for name in ("pixels", "action")}
    with EpisodeWriter(tmp_path / "a.h5", attrs={}) as writer:
        writer.append(good)
        with pytest.raises(RecordingError):
            writer.append(good | others)
        writer.append(good)
    assert EpisodeReader(tmp_path / "a.h5").lengths.tolist() == [ROWS, ROWS]


@pytest.mark.parametrize(
    "value",
    [
        "a\0b", "\ud800", 2**64, -(2**70), [2**64, 1], [1, 2.5], [True, 2], "[1]", "null", "", [], {}, None,
        True, 1.5, "x" * 200_000, [float(i) for i in range(20_000)], {"a": {"b": ["\0"]}}, [[1, 2], [3]],
    ],
)  # fmt: skip
def test_attributes_of_any_value_come_back(value: Any, tmp_path: Path) -> None:
    with EpisodeReader(written(tmp_path / "a.h5", {"what": value, "a/b": 1})) as reader:
        assert reader.attrs["what"] == value and type(reader.attrs["what"]) is type(value)
        assert reader.attrs["a/b"] == 1


@pytest.mark.parametrize("name", ["format_version", "", "a\0", "\ud800", "x" * 300])
def test_attributes_that_a_file_cannot_hold_are_refused_at_once(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be called"):
        EpisodeWriter(tmp_path / "a.h5", attrs={name: 99})
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(RecordingError, match="attributes of a recording are"):
        EpisodeWriter(tmp_path / "a.h5", attrs={"deep": nested})


def test_an_unfinished_recording_with_odd_attributes_goes_on(tmp_path: Path) -> None:
    for _ in range(2):
        EpisodeWriter(tmp_path / "a.h5", attrs={"low": [float("nan")]}).abandon()


def test_a_damaged_journal_is_one_sentence(tmp_path: Path) -> None:
    """Heads that are JSON and no heads of episodes, under checksums that are right."""
    from latent_planner.envs.recordings.journal import _record, header

    for head in ([1], {"length": 1}, {"length": "x", "columns": {}}, {"length": 3, "columns": {"pixels": 5}}):
        partial_path(tmp_path / "a.h5").write_bytes(header({}) + _record(head, b""))
        refused(tmp_path / "a.h5")
        with pytest.raises(RecordingError, match="damaged"):
            EpisodeWriter(tmp_path / "a.h5", attrs={})
    for shape, dtype in (([10**9, 10**9, 3], "|u1"), ([4, 4, 3], "|O"), ([-1, 4, 3], "|u1")):
        column = {"dtype": dtype, "shape": shape, "sizes": [1]}
        head = {"length": 1, "columns": {"pixels": column, "action": {"dtype": "<f4", "shape": [1]}}}
        partial_path(tmp_path / "a.h5").write_bytes(header({}) + _record(head, bytes(5)))
        refused(tmp_path / "a.h5")


def test_bytes_changed_at_random_are_a_sentence_or_the_recording(tmp_path: Path) -> None:
    whole = written(tmp_path / "a.h5", {"env": "robot", "state_names": ["x", "y", "z"]}).read_bytes()
    rng, path = np.random.default_rng(0), tmp_path / "b.h5"
    for _ in range(150):
        changed = bytearray(whole)
        for place in rng.integers(0, min(len(whole), 6000), rng.integers(1, 4)):
            changed[place] = rng.integers(256)
        path.write_bytes(changed[: rng.integers(2000, len(whole))] if rng.random() < 0.3 else changed)
        try:
            with EpisodeReader(path) as reader:
                for name in reader.columns:
                    reader.read(name, 0, reader.num_frames)
                reader.action_summary()
        except RecordingError as error:
            assert str(error).isprintable()


# the picture


@pytest.mark.parametrize("size", [(16, 16), (30, 20), (48, 200), (300, 300)])
def test_the_frames_fill_the_picture(size: tuple[int, int], tmp_path: Path) -> None:
    frames = np.full((ROWS, *size, 3), 90, np.uint8)
    with EpisodeReader(store(tmp_path / "a.h5", pixels=frames)) as reader:
        sheet = np.asarray(contact_sheet(reader))
    assert (sheet == 90).all(axis=2).mean() > 0.9 and Image.fromarray(sheet).width > 200
