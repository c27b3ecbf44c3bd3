"""Frames of video files: turned as they are shown, in true colours, of this one file and no other."""

from __future__ import annotations

import os
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from published import video

from latent_planner.envs.recordings import from_videos
from latent_planner.envs.recordings.episodes import EpisodeReader, RecordingError
from latent_planner.envs.recordings.formats.video import Video, Videos

UPRIGHT = (1, 0, 0, 1)
# rows of the display matrix -> what is done to the stored picture
TURNS = {
    UPRIGHT: lambda p: p,
    (0, 1, -1, 0): lambda p: np.rot90(p, -1),  # clockwise, as telephones say
    (-1, 0, 0, -1): lambda p: np.rot90(p, 2),
    (0, -1, 1, 0): lambda p: np.rot90(p, 1),
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (0, 1, 1, 0): lambda p: p.swapaxes(0, 1),
}


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, np.ndarray]:
    """An mp4 of three frames, each corner another grey; its bytes, and the picture."""
    picture = np.zeros((32, 64, 3), np.uint8)
    picture[:16, :32], picture[:16, 32:], picture[16:, :32], picture[16:, 32:] = 30, 90, 150, 210
    path = tmp_path_factory.mktemp("plain") / "a.mp4"
    video(path, [picture] * 3, 10)
    return path.read_bytes(), picture


def turned(data: bytes, matrix: tuple[int, ...]) -> bytes:
    """The mp4 with another display matrix in its track's header."""
    start = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (65536 * value for value in matrix)
    return data[:start] + struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30) + data[start + 36 :]


@pytest.mark.parametrize("matrix", TURNS)
def test_a_turned_video_is_turned(plain: Any, tmp_path: Path, matrix: tuple[int, ...]) -> None:
    data, picture = plain
    (tmp_path / "a.mp4").write_bytes(turned(data, matrix))
    expected = TURNS[matrix](picture)
    for read in (lambda v: v.frames(None, 0, v.size)[1], lambda v: v.frame(1)):
        opened = Video(tmp_path / "a.mp4")
        assert opened.size == expected.shape[:2]
        assert np.abs(read(opened).astype(int) - expected).max() < 6
    (tmp_path / "a.csv").write_text("video,dx\na,1\na,2\na,3\n")
    words = [str(tmp_path), str(tmp_path / "a.csv"), str(tmp_path / "a.h5"), "--size", "0"]
    assert from_videos.main(words) == 0
    with EpisodeReader(tmp_path / "a.h5") as reader:
        assert np.abs(reader.read("pixels", 1, 2)[0].astype(int) - expected).max() < 6


COLOURS = np.array([(255, 0, 0), (0, 255, 0), (0, 0, 255), (200, 120, 40)])
MATRICES = {"bt709": (0.2126, 0.0722), "smpte170m": (0.299, 0.114), "smpte240m": (0.212, 0.087)}


def coloured(path: Path, matrix: str, full: bool, bits: int) -> None:
    """A video of plain frames in COLOURS, whose file says which matrix and range it has."""
    red, blue = MATRICES[matrix]
    with av.open(str(path), "w") as container:
        about = f"colormatrix={matrix}:fullrange={'on' if full else 'off'}:log-level=none"
        stream: Any = container.add_stream("libx264", rate=10, options={"crf": "0", "x264-params": about})
        stream.width, stream.height = 32, 32
        stream.pix_fmt = "yuv420p" if bits == 8 else "yuv420p10le"
        for r, g, b in COLOURS / 255:
            y = red * r + (1 - red - blue) * g + blue * b
            chroma = (b - y) / (2 - 2 * blue), (r - y) / (2 - 2 * red)
            scale = (0, 255, 255) if full else (16, 219, 224)
            planes = scale[0] + scale[1] * y, *(128 + scale[2] * part for part in chroma)
            frame = av.VideoFrame(32, 32, stream.pix_fmt)
            for plane, value in zip(frame.planes, planes):
                row = np.full(plane.line_size * 8 // (8 if bits == 8 else 16), value.clip(0, 255))
                row = row.round().astype(np.uint8) if bits == 8 else (4 * row).round().astype(np.uint16)
                plane.update(row.tobytes() * plane.height)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize("bits", [8, 10])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", MATRICES)
def test_colours_are_right_whatever_the_file_says(tmp_path: Path, matrix: str, full: bool, bits: int) -> None:
    coloured(tmp_path / "a.mp4", matrix, full, bits)
    found = Video(tmp_path / "a.mp4").frames(None, 0, (32, 32))[:, 16, 16]
    assert np.abs(found.astype(int) - COLOURS).max() <= 3


def test_frames_by_number_and_by_time_agree(tmp_path: Path) -> None:
    frames = [np.full((32, 32, 3), 10 * step, np.uint8) for step in range(20)]
    video(tmp_path / "a.mp4", frames, 10)
    opened = Video(tmp_path / "a.mp4")
    assert opened.said == 20 and opened.fps == 10
    assert opened.at(np.arange(20) / 10 + 0.03).tolist() == list(range(20))
    for number in np.random.default_rng(0).integers(0, 20, 30).tolist():
        assert abs(int(opened.frame(number)[5, 5, 0]) - 10 * number) < 4
    for late in (2.2, np.nan, -0.2):
        with pytest.raises(RecordingError, match="has no frame at"):
            opened.at(np.array([0.0, late]))
    with pytest.raises(RecordingError, match="has 20 frames and no frame 20"):
        opened.frame(20)


def test_times_need_little_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour at 30 frames a second: a table of all distances would have 12 billion numbers."""
    video(tmp_path / "a.mp4", [np.zeros((16, 16, 3), np.uint8)] * 2, 10)
    opened = Video(tmp_path / "a.mp4")
    monkeypatch.setattr(Video, "seconds", np.arange(108_000) / 30)
    assert np.array_equal(opened.at(np.arange(108_000) / 30), np.arange(108_000))


@pytest.fixture
def listener() -> Iterator[tuple[int, list[Any]]]:
    """A port that counts who comes."""
    came: list[Any] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def wait() -> None:
            while True:
                try:
                    came.append(server.accept())
                except OSError:
                    return
                came[-1][0].close()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        yield server.getsockname()[1], came
        server.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def test_no_name_fetches_anything(
    plain: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listener: tuple[int, list[Any]], capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    port, came = listener
    address = f"http:127.0.0.1:{port}"
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}/a.ts\n#EXT-X-ENDLIST\n"
    for name in (address, f"{address}.mp4", "pl.m3u8", "list.mp4", "list.ts"):
        Path(name).write_text(playlist)
        Path("a.csv").write_text(f"video,dx\n{name},1\n{name},2\n{name},3\n")
        assert from_videos.main([".", "a.csv", "o.h5"]) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    Path(f"{address}.mp4").write_bytes(plain[0])  # a name like an address is a name
    Path("a.csv").write_text("video,dx\n" + f"{address}.mp4,1\n" * 3)
    assert from_videos.main([".", "a.csv", "o.h5"]) == 0
    assert not came


def test_damaged_videos_get_a_sentence(plain: Any, tmp_path: Path) -> None:
    """Single bytes and cuts, at random: right frames, or one sentence."""
    rng, path = np.random.default_rng(0), tmp_path / "a.mp4"
    for case in range(150):
        data = bytearray(plain[0])
        if case % 3:
            for place in rng.integers(0, len(data), 4):
                data[place] = rng.integers(0, 256)
        else:
            del data[int(rng.integers(0, len(data))) :]
        path.write_bytes(bytes(data))
        try:
            opened = Video(path)
            opened.at(np.zeros(1))
            opened.frame(1)
            opened.frames(None, 16, opened.size)
        except RecordingError as error:
            assert "\n" not in str(error)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads as Linux tells them")
def test_many_videos_leave_no_threads_behind(plain: Any, tmp_path: Path) -> None:
    """Decoders have threads of their own; a long conversion of short videos ran out of them."""
    path = tmp_path / "a.mp4"
    path.write_bytes(plain[0])
    opened = Video(path)
    opened.frame(1)
    before, most = len(os.listdir("/proc/self/task")), 0
    for _ in range(100):
        another = Video(path)
        another.frame(1)
        another.close()
        most = max(most, len(os.listdir("/proc/self/task")))
    each = 1 + (os.cpu_count() or 1)
    assert most <= before + 20 * each
    opened.close()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts files as Linux tells them")
def test_a_column_lets_go_of_the_files_of_every_thread(plain: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(plain[0])
    column = Videos([path], *np.zeros((2, 3), np.int64), np.zeros(3, np.int64))
    finish = threading.Event()
    read = threading.Semaphore(0)

    def work() -> None:
        column.read(np.arange(1), np.zeros((1, 32, 64, 3), np.uint8))
        read.release()
        finish.wait()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
        read.acquire()
    try:
        here = [link for link in Path("/proc/self/fd").iterdir() if os.path.realpath(link) == str(path)]
        assert len(here) == 4
        column.close()
        here = [link for link in Path("/proc/self/fd").iterdir() if os.path.realpath(link) == str(path)]
        assert not here
    finally:
        finish.set()
        for thread in threads:
            thread.join()


def test_text_that_is_not_utf8_is_no_matter(tmp_path: Path) -> None:
    """Real cameras write such."""
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "XXXXXXXX"
        stream: Any = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame(32, 32, "yuv420p")))
        container.mux(stream.encode())
    data = path.read_bytes()
    assert b"XXXXXXXX" in data
    path.write_bytes(data.replace(b"XXXXXXXX", b"\xff\xfe\x80\xc3\x28\xff\xff\xff"))
    assert len(Video(path).frames(None, 0, (32, 32))) == 3
