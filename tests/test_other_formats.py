"""What stable-worldmodel and robomimic write: read in place, and converted; what else there is, is named."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from published import Columns, coded_frame, video

from latent_planner.cli.__main__ import main
from latent_planner.envs.recordings.episodes import EpisodeReader, RecordingError

LENGTHS = (5, 3, 6)


def episodes() -> list[Columns]:
    """Episodes whose frames tell which they are."""
    rng = np.random.default_rng(0)
    return [
        {
            "pixels": np.array([coded_frame(e, s, 48, 64) for s in range(length)]),
            "action": rng.normal(size=(length, 2)).astype(np.float32),
            "state": rng.normal(size=(length, 3)).astype(np.float32),
        }
        for e, length in enumerate(LENGTHS)
    ]


def jpeg(frame: np.ndarray) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(frame).save(packed, "JPEG", quality=95)
    return packed.getvalue()


def tables(folder: Path) -> None:
    """The columns of numbers, as stable-worldmodel's folders keep them."""
    folder.mkdir()
    np.savez(folder / "ep_len.npz", np.array(LENGTHS, np.int32))
    np.savez(folder / "ep_offset.npz", np.cumsum(LENGTHS) - LENGTHS)
    for name in ("action", "state"):
        np.savez(folder / f"{name}.npz", np.concatenate([part[name] for part in episodes()]))
    np.savez(folder / "step_idx.npz", np.concatenate([np.arange(length) for length in LENGTHS]))
    np.savez(folder / "policy.npz", np.array(["expert"] * sum(LENGTHS)))


def pictures_folder(path: Path) -> Path:
    tables(path)
    (path / "pixels").mkdir()
    for e, part in enumerate(episodes()):
        for s, frame in enumerate(part["pixels"]):
            (path / "pixels" / f"ep_{e}_step_{s}.jpeg").write_bytes(jpeg(frame))
    return path


def video_folder(path: Path) -> Path:
    tables(path)
    for e, part in enumerate(episodes()):
        video(path / "pixels" / f"ep_{e}.mp4", list(part["pixels"]), 25)
    return path


def robomimic_file(path: Path) -> Path:
    path = path.with_suffix(".hdf5")
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "env_kwargs": {"control_freq": 20}})
        for e, part in enumerate(episodes()):
            demo = data.create_group(f"demo_{9 + e}")  # 9, 10, 11: in order of numbers
            demo["actions"], demo["states"] = part["action"].astype(np.float64), part["state"]
            demo["rewards"] = np.zeros(len(part["action"]))
            packed = {"data": part["pixels"], "chunks": (2, 48, 64, 3), "compression": 4}
            demo.create_dataset("obs/agentview_image", **packed)
            demo["obs/robot0_eef_pos"] = part["state"][:, :2]
            demo["next_obs/agentview_image"] = part["pixels"]
        file.create_group("mask")["train"] = np.array([b"demo_9", b"demo_10"])
    return path


def lance_table(path: Path, *, videos: bool = False) -> Path:
    lance, pa = pytest.importorskip("lance"), pytest.importorskip("pyarrow")
    path.mkdir()
    for e, part in enumerate(episodes()):
        count = len(part["action"])
        columns = {
            "episode_idx": pa.array([e] * count, pa.int32()),
            "step_idx": pa.array(range(count), pa.int32()),
            **{
                name: pa.FixedSizeListArray.from_arrays(pa.array(part[name].reshape(-1)), part[name].shape[1])
                for name in ("action", "state")
            },
        }
        if not videos:
            columns["pixels"] = pa.array([jpeg(frame) for frame in part["pixels"]], pa.binary())
        lance.write_dataset(pa.table(columns), str(path / "push.lance"), mode="append" if e else "create")
    if videos:
        blobs = []
        for part in episodes():
            video(path / "a.mp4", list(part["pixels"]), 10)
            blobs.append((path / "a.mp4").read_bytes())
        fields = [
            pa.field("episode_idx", pa.int32()),
            pa.field("video_key", pa.string()),
            pa.field("video_bytes", pa.large_binary(), metadata={b"lance-encoding:blob": b"true"}),
        ]
        rows = pa.table([range(3), ["pixels"] * 3, blobs], pa.schema(fields))
        lance.write_dataset(rows, str(path / "push_videos.lance"))
    return path


MAKERS: dict[str, Callable[[Path], Path]] = {
    "folder of pictures": pictures_folder,
    "folder of videos": video_folder,
    "robomimic": robomimic_file,
    "Lance": lance_table,
    "Lance with videos": lambda path: lance_table(path, videos=True),
}


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    off = np.abs(found[:, 8:-8].astype(int) - expected[:, 8:-8])
    return bool(max(off[:, :, 4:24].max(), off[:, :, -24:-4].max()) < 5)


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_it_is_read_in_place_and_converted(tmp_path: Path, make: Callable[[Path], Path], capsys: Any) -> None:
    path = make(tmp_path / "push")
    expected = {name: np.concatenate([part[name] for part in episodes()]) for name in episodes()[0]}
    assert main(["convert", str(path), str(tmp_path / "ours.h5")]) == 0
    assert main(["inspect", str(path), "--out", str(tmp_path / "sheet.png")]) == 0
    for source in (path, tmp_path / "ours.h5"):
        with EpisodeReader(source) as reader:
            assert reader.lengths.tolist() == list(LENGTHS) and reader.offsets.tolist() == [0, 5, 8]
            assert np.array_equal(reader.read("state", 0, 14), expected["state"])
            taken = np.delete(np.arange(14), [4, 7, 13])  # an episode's last action is never used
            assert np.array_equal(reader.read("action", 0, 14)[taken], expected["action"][taken])
            assert reader.read("pixels", 0, 14).shape == (14, 48, 64, 3)
            rows = np.random.default_rng(1).integers(0, 14, 40)
            assert close(reader.read_rows("pixels", rows), expected["pixels"][rows])


def test_robomimic_has_several_cameras_and_quantities(tmp_path: Path) -> None:
    path = robomimic_file(tmp_path / "lift")
    with h5py.File(path, "r+") as file:
        for demo in file["data"].values():
            demo["obs/robot0_eye_in_hand_image"] = 255 - demo["obs/agentview_image"][()]
    with pytest.raises(RecordingError, match="2 cameras: say data.camera= one of agentview_image, rob"):
        EpisodeReader(path)
    with EpisodeReader(path, camera="robot0_eye_in_hand_image", state="robot0_eef_pos") as reader:
        assert reader.read("state", 0, 14).shape == (14, 2) and "rewards" in reader.columns
        assert close(255 - reader.read("pixels", 5, 8), episodes()[1]["pixels"])
    with pytest.raises(RecordingError, match="no numbers called 'joints': choose data.action from .*actions"):
        EpisodeReader(path, camera="agentview_image", action="joints")


def test_robomimic_draws_nothing_from_other_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(bytes(range(200)))
    for plant in (
        lambda demo: demo.__setitem__("obs/more", h5py.ExternalLink("other.h5", "/x")),
        lambda demo: demo.create_dataset("note", (5, 8), "u1", external=[(str(tmp_path / "secret"), 0, 40)]),
    ):
        path = robomimic_file(tmp_path / "lift")
        with h5py.File(path, "r+") as file:
            plant(file["data/demo_9"])
        with pytest.raises(RecordingError, match="another file .*do not trust it|from another file: do not"):
            EpisodeReader(path)


@pytest.mark.parametrize("make", [pictures_folder, video_folder])
def test_an_episode_with_gaps_is_left_out(tmp_path: Path, make: Callable[[Path], Path], caplog: Any) -> None:
    path = make(tmp_path / "push")
    short = path / "pixels" / "ep_1.mp4"
    if short.exists():
        video(short, list(episodes()[1]["pixels"][:2]), 25)
    else:
        (path / "pixels" / "ep_1_step_2.jpeg").unlink()
    (path / ".ipynb_checkpoints").mkdir()
    (path / "._state.npz").write_bytes(b"junk")
    with EpisodeReader(path) as reader:
        assert reader.lengths.tolist() == [5, 6]
        assert close(reader.read("pixels", 5, 11), episodes()[2]["pixels"])
        assert np.array_equal(reader.read("state", 5, 11), episodes()[2]["state"])
    assert "1 of 3 episodes are left out: episode 1: " in caplog.text


def test_folders_that_are_wrong_get_a_sentence(tmp_path: Path) -> None:
    path = pictures_folder(tmp_path / "push")
    wrong: dict[str, tuple[Any, str]] = {
        "ep_len.npz": (np.array([5, 3, 60]), "fewer rows"),
        "ep_offset.npz": (np.array([-1, 5, 8]), "cannot be"),
        "action.npz": (np.array([object()] * 14), "no numbers called 'action'"),
    }
    for name, (values, sentence) in wrong.items():
        whole = (path / name).read_bytes()
        np.savez(path / name, values)
        with pytest.raises(RecordingError, match=sentence):
            EpisodeReader(path)
        (path / name).write_bytes(whole[:100])
        with pytest.raises(RecordingError, match="cannot be read|cut off"):
            EpisodeReader(path)
        (path / name).write_bytes(whole)
    (path / "state.npz").unlink()
    (path / "state.npz").symlink_to("/etc/passwd")
    with pytest.raises(RecordingError, match="is a link"):
        EpisodeReader(path)


def test_a_lance_table_draws_nothing_from_elsewhere(tmp_path: Path) -> None:
    path = lance_table(tmp_path / "push")
    lance = pytest.importorskip("lance")
    dataset = lance.dataset(str(path / "push.lance"))
    dataset.shallow_clone(str(tmp_path / "clone.lance"), dataset.version)
    with pytest.raises(RecordingError, match="outside its folder"):
        EpisodeReader(tmp_path / "clone.lance")


def test_what_ends_pylance_ends_no_one_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some damaged tables make it ask for more memory than there is, and abort."""
    (tmp_path / "lance.py").write_text("import os\nos.abort()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "push.lance" / "_versions").mkdir(parents=True)
    with pytest.raises(RecordingError, match=r"push\.lance is damaged: pylance ended at it \(signal 6\)"):
        EpisodeReader(tmp_path / "push.lance")


def test_without_pylance_the_extra_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    (tmp_path / "push.lance" / "_versions").mkdir(parents=True)
    monkeypatch.setitem(sys.modules, "lance", None)
    with pytest.raises(RecordingError, match=r"pip install 'latent-planner\[lance\]'"):
        EpisodeReader(tmp_path / "push.lance")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("rlds/dataset_info.json", "an RLDS or TFDS data set"),
        ("rlds/1.0.0/push-train.tfrecord-00000-of-00001", "an RLDS or TFDS data set"),
        ("push.zarr/.zgroup", "a Zarr store"),
        ("bag/a.mcap", "a ROS bag"),
        ("demos/a.pkl", "a pickle"),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / name).parent.mkdir(parents=True)
    (tmp_path / name).write_bytes(b"some bytes")
    for path in (tmp_path / name.split("/")[0], tmp_path / name):
        with pytest.raises(RecordingError, match=words if path.is_dir() else "is not a recording") as caught:
            EpisodeReader(path)
        assert "\n" not in str(caught.value)


def test_a_folder_with_one_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "lift").mkdir()
    robomimic_file(tmp_path / "lift" / "demo")
    assert EpisodeReader(tmp_path / "lift").path.name == "demo.hdf5"
    robomimic_file(tmp_path / "lift" / "more")
    with pytest.raises(RecordingError, match="2 HDF5 files: give one of them"):
        EpisodeReader(tmp_path / "lift")
