"""Videos and a table of actions become a recording, which trains and plans without any simulator."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from test_train_cli import TINY

from latent_planner import Agent
from latent_planner.cli import train
from latent_planner.envs.recordings import from_videos
from latent_planner.envs.recordings.episodes import EpisodeReader

ROOT = Path(__file__).resolve().parent.parent
FRAMES = 24


def video(
    path: Path,
    frames: int = FRAMES,
    size: tuple[int, int] = (48, 32),
    codec: str = "libx264",
    rate: int = 20,
) -> None:
    """Frame t has a bright column at 2 t, on a ground of 20 + 5 t."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 4_000_000
        for t in range(frames):
            picture = np.full((size[1], size[0], 3), 20 + 5 * t, np.uint8)
            picture[:, 2 * t % size[0] : 2 * t % size[0] + 2] = 255
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def rows(name: str, when, header: bool = False, start: int = 0) -> str:
    """Rows of the table: actions (0.1 i, -i)."""
    head = "video,frame,left,right\n" if header else ""
    return head + "".join(f"{name},{t},{0.1 * i:.1f},{-i}\n" for i, t in enumerate(when, start))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two videos, and a table of every second frame."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    video(tmp_path / "videos" / "one.mp4")
    video(tmp_path / "videos" / "two.avi", codec="mpeg4")
    every_second = range(0, FRAMES, 2)
    Path("actions.csv").write_text(rows("one", every_second, header=True) + rows("two.avi", every_second))
    return tmp_path


def told(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    capsys.readouterr()
    assert from_videos.main(["videos", "actions.csv", "my.h5", *words]) == code
    out, err = capsys.readouterr()
    if code:
        assert err.startswith("error: ") and len(err.strip().splitlines()) == 1, err
        assert not Path("my.h5").exists()
    return err if code else out + err


def test_frames_and_actions_come_together(folder, capsys) -> None:
    assert "python train.py env=recorded data.path=my.h5" in told(capsys)
    reader = EpisodeReader("my.h5")
    assert reader.lengths.tolist() == [12, 12] and reader.image_size == 64 and reader.env is None
    assert reader.attrs["control_hz"] == 10 and reader.attrs["action_names"] == ["left", "right"]
    ground = reader.read("pixels", 0, 24)[:, 40].min(axis=(1, 2))  # of every second frame
    np.testing.assert_allclose(ground[:12], 20 + 10 * np.arange(12), atol=8)
    np.testing.assert_allclose(ground[12:], 20 + 10 * np.arange(12), atol=12)
    actions = reader.read("action", 0, 24)
    np.testing.assert_allclose(actions[:11], [(0.1 * i, -i) for i in range(11)], atol=1e-6)
    assert np.isnan(actions[[11, 23]]).all() and reader.action_low.tolist() == [0, -10]


def test_rows_may_give_times_or_nothing_and_states(folder, capsys) -> None:
    Path("actions.csv").write_text(
        "\ufeffepisode,time,a,state_x\n"
        + "".join(f"one,{0.1 * i:.3f},{i if i < 5 else ''},{7 * i}\n" for i in range(6))
    )
    told(capsys, "--size", "0")
    reader = EpisodeReader("my.h5")
    assert reader.read("pixels", 0, 6).shape == (6, 32, 48, 3) and reader.attrs["control_hz"] == 10
    assert reader.state_names == ("state_x",) and reader.read("state", 0, 6)[:, 0].tolist() == [
        0,
        7,
        14,
        21,
        28,
        35,
    ]
    Path("my.h5").unlink()
    for count in (FRAMES, FRAMES - 1):  # the last frame's action may be missing
        Path("actions.csv").write_text("video,a\n" + "one,0.5\n" * count)
        told(capsys)
        assert EpisodeReader("my.h5").lengths.tolist() == [FRAMES]
        Path("my.h5").unlink()


def test_a_conversion_that_was_stopped_goes_on(folder, capsys, monkeypatch) -> None:
    read = from_videos._columns

    def stopped(table, episode, *rest):
        if episode.video == "two.avi":
            raise KeyboardInterrupt
        return read(table, episode, *rest)

    monkeypatch.setattr(from_videos, "_columns", stopped)
    assert from_videos.main(["videos", "actions.csv", "my.h5"]) == 130
    assert "keeps 1 of 2 episodes" in capsys.readouterr().err
    monkeypatch.setattr(from_videos, "_columns", read)
    told(capsys)
    assert EpisodeReader("my.h5").lengths.tolist() == [12, 12]


TABLES = {
    "video,frame,a\nthree,0,1\n": "line 2 names the video 'three', and there is none in videos",
    "video,frame,a\n../one.mp4,0,1\n": "names the video '../one.mp4'",
    rows("one", range(0, 40), header=True): "one.mp4 has 24 frames, and the table asks for frame 24",
    "video,a\n" + "one,1\n" * 20: "one.mp4 has 24 frames and actions.csv 20 rows for it",
    "video,frame,a\none,0,1\none,1,nan\none,2,1\n": "line 3 (one) has an action that is missing or no finite",
    "video,frame,a\none,0,1\none,1,\none,2,1\n": "line 3 (one)",
    "video,frame,a\none,0,1\none,1,up\n": "line 3 has a = 'up', which is no number",
    "video,frame,a\none,0,1\none,1,1\none,2,1\none,5,1\n": "line 5 (one) has frame 5 after 2: rows must",
    "video,frame,a\none,3,1\none,1,1\n": "frame 1 after 3",
    "video,time,a\none,0,1\none,0.01,1\n": "gives the same frame twice",
    "video,time,a\none,0,1\none,0.7,1\none,1.4,1\n": "one.mp4 has no frame at 1.4 s: it is 1.200 s long",
    "video,frame,a\none,0\n": "line 2 has 2 fields, and the header has 3",
    "video,frame,a\none,0,1\ntwo,0,1\none,1,1\n": "line 4 comes back to one",
    "video,frame,a\none,0,1\n": "is the only row of one",
    "video;frame;a\none;0;1\n": "separated by something else than commas",
    "name,frame,a\none,0,1\n": "needs one column called video or episode",
    "video,frame,time,a\none,0,0,1\n": "frame or time but not both",
    "video,frame,a,a\none,0,1,1\n": "equal or empty names",
    "video,frame,state\none,0,1\n": "has no column of actions",
    "video,frame,a\n": "holds no rows under a header",
    "": "holds no rows under a header",
}


@pytest.mark.parametrize("table", TABLES, ids=TABLES.values())
def test_a_mistake_in_the_table_gets_one_sentence(folder, capsys, table) -> None:
    Path("actions.csv").write_text(table)
    assert TABLES[table] in told(capsys, code=2)


def test_a_mistake_with_the_files_gets_one_sentence(folder, capsys) -> None:
    assert "--size" not in told(capsys, "--size", "-3", code=2)
    table = Path("actions.csv").read_text()
    video(Path("videos/two.avi"), size=(64, 64), codec="mpeg4")
    assert "two.avi has frames of 64 x 64 px and the first video of 48 x 32: say --size" in told(
        capsys, "--size", "0", code=2
    )
    Path("my.h5.partial").unlink()  # of the first video
    Path("videos/two.avi").write_bytes(b"no video")
    assert "two.avi is not a video that can be read" in told(capsys, code=2)
    whole = Path("videos/one.mp4").read_bytes()
    Path("videos/one.mp4").write_bytes(whole[: len(whole) // 2])
    assert "one.mp4 is not a video that can be read" in told(capsys, code=2)
    Path("videos/one.mp4").write_bytes(whole)
    Path("videos/one.avi").write_bytes(whole)
    assert "means one.avi or one.mp4: give the ending too" in told(capsys, code=2)
    Path("actions.csv").write_bytes(b"\xff\xfe\x00")
    assert "no table of comma-separated text" in told(capsys, code=2)
    Path("actions.csv").unlink()
    assert "there is no file actions.csv" in told(capsys, code=2)
    Path("actions.csv").write_text(table)
    Path("videos").rename("elsewhere")
    assert "there is no folder videos" in told(capsys, code=2)


def test_own_videos_train_and_plan_without_a_simulator(folder, capsys, caplog) -> None:
    every = range(FRAMES)
    Path("actions.csv").write_text(rows("one", every, header=True) + rows("two", every, start=3))
    told(capsys)
    tiny = [word for word in TINY if not word.startswith("benchmark.")]
    words = ["env=recorded", "data.path=my.h5", "train.steps=4", "out=run", "wandb.mode=disabled", *tiny]
    words.append("planner.horizon=3")
    assert train.main(words) == 0
    assert "next: Agent.from_pretrained('run')" in capsys.readouterr().out
    assert "15 actions look 0.75 s ahead at 20 Hz" in caplog.text
    agent = Agent.from_pretrained("run", device="cpu")
    camera = np.zeros((480, 640, 3), np.uint8)
    agent.set_goal(EpisodeReader("my.h5").read("pixels", 20, 21)[0], steps=10)
    action = agent.act(camera)
    assert action.shape == (2,) and (agent.config.action_low <= action).all()


# The example ------------------------------------------------------------------------------------------------


def example():
    spec = importlib.util.spec_from_file_location("robot_loop", ROOT / "examples" / "robot_loop.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_example_reaches_its_picture(monkeypatch, capsys) -> None:
    module = example()
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    stopped = []
    monkeypatch.setattr(module.Arm, "stop", lambda arm: stopped.append(arm))
    assert module.main(deadline=None) < 16  # as near as TwoRoom asks
    assert len(stopped) == 1 and "from where the picture shows it" in capsys.readouterr().out


def test_the_example_is_short_and_knows_the_agent_alone() -> None:
    text = (ROOT / "examples" / "robot_loop.py").read_text()
    assert len(text.splitlines()) <= 80
    imported = [line for line in text.splitlines() if line.startswith(("import ", "from "))]
    assert imported == ["import time", "import numpy as np", "from latent_planner import Agent"]


def test_the_example_stops_the_arm_whatever_happens(monkeypatch) -> None:
    module = example()
    stopped = []
    monkeypatch.setattr(module.Arm, "stop", lambda arm: stopped.append(arm))
    monkeypatch.setattr(module.Arm, "move", lambda arm, action: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        module.main(deadline=None)
    assert len(stopped) == 1


def test_the_program_says_what_its_table_looks_like() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "latent_planner.cli", "from-videos", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    ).stdout
    assert "video" in shown and "frame" in shown and "--size" in shown


def test_what_the_page_shows_in_python_records(tmp_path, monkeypatch) -> None:
    page = (ROOT / "docs" / "own-recordings.md").read_text(encoding="utf-8")
    source = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)[0]
    monkeypatch.chdir(tmp_path)
    exec(compile(source, "own-recordings.md", "exec"), {})
    assert EpisodeReader("robot.h5").lengths.tolist() == [50] * 3


# Several cameras --------------------------------------------------------------------------------------------


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two cameras with a folder each, and a table with the robot's own vector."""
    monkeypatch.chdir(tmp_path)
    for camera, size in (("front", (48, 32)), ("wrist", (32, 48))):
        (tmp_path / "videos" / camera).mkdir(parents=True)
        for name in ("one", "two"):
            video(tmp_path / "videos" / camera / f"{name}.mp4", size=size)
    lines = [f"{name},{t},{0.1 * t:.1f},{-t},{t / 2}" for name in ("one", "two") for t in range(0, FRAMES, 2)]
    header = "video,frame,left,proprio_elbow,proprio_wrist"
    Path("actions.csv").write_text("\n".join([header, *lines]))
    return tmp_path


def test_a_folder_for_each_camera_and_one_table(two: Path, capsys) -> None:
    told(capsys, "--cameras", "front,wrist", "--size", "0")
    reader = EpisodeReader("my.h5", cameras=["front", "wrist"], proprio="proprio")
    assert reader.read("pixels", 0, 1).shape == (1, 32, 48, 3)
    assert reader.read("pixels_wrist", 0, 1).shape == (1, 48, 32, 3)
    assert reader.proprio_names == ("elbow", "wrist") and reader.attrs["action_names"] == ["left"]
    np.testing.assert_allclose(reader.read("proprio", 12, 15), [(0, 0), (-2, 1), (-4, 2)])
    ground = reader.read("pixels_wrist", 0, 12)[:, 20].min(axis=(1, 2))
    np.testing.assert_allclose(ground, 20 + 10 * np.arange(12), atol=8)


def test_videos_that_are_out_of_step_are_named(two: Path, capsys) -> None:
    several = ("--cameras", "front,wrist")
    assert "there is no folder videos/head" in told(capsys, "--cameras", "front,head", code=2)
    video(two / "videos/wrist/two.mp4", size=(32, 48), rate=10)
    said = told(capsys, *several, code=2)
    assert "videos/wrist/two.mp4 is 0.2 s ahead of videos/front/two.mp4 in row 2" in said
    Path("my.h5.partial").unlink()
    Path("actions.csv").write_text("video,left\n" + "".join(f"{n},1\n" * FRAMES for n in ("one", "two")))
    video(two / "videos/wrist/two.mp4", size=(32, 48), frames=20)
    said = told(capsys, *several, code=2)
    assert "videos/wrist/two.mp4 gives 20 frames and videos/front/two.mp4 24" in said
