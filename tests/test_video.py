"""Videos and pictures of episodes: whole files that play, or what was there before."""

from __future__ import annotations

import os

import av
import numpy as np
import pytest

from latent_planner.evaluation import video


def episode(size: int = 64, steps: int = 6, reached_at: int | None = 4) -> video.Clip:
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (size, size, 3), dtype=np.uint8) for _ in range(steps + 1)]
    return video.Clip(frames, frames[-1], list(np.linspace(9.0, 0.0, steps + 1)), 10, reached_at)


def test_video_plays_with_the_frames_and_speed_asked_for(tmp_path):
    frames = [np.full((33, 47, 3), level, np.uint8) for level in (0, 80, 160, 240)]
    path = video.write_video(tmp_path / "plan.mp4", video.held(frames, 2), fps=10)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.width, stream.height, stream.pix_fmt) == (48, 34, "yuv420p")
        assert stream.average_rate == 10
        levels = [frame.to_ndarray(format="rgb24").mean() for frame in container.decode(stream)]
    assert np.abs(np.array(levels) - [0, 80, 160, 240, 240, 240]).max() < 4
    assert os.listdir(tmp_path) == ["plan.mp4"]


def test_mpeg4_stands_in_where_h264_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "encoder", lambda: "mpeg4")
    path = video.write_video(tmp_path / "plan.mp4", [np.zeros((32, 32, 3), np.uint8)] * 3, fps=12.5)
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "mpeg4"
        assert len(list(container.decode(video=0))) == 3


def test_no_half_video_is_left(tmp_path):
    path = tmp_path / "plan.mp4"
    path.write_bytes(b"the old one")

    def frames():
        yield np.zeros((32, 32, 3), np.uint8)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        video.write_video(path, frames(), fps=10)
    with pytest.raises(ValueError, match="at least one frame"):
        video.write_video(path, [], fps=10)
    with pytest.raises(OSError):
        video.write_video(tmp_path / "missing" / "plan.mp4", [np.zeros((32, 32, 3), np.uint8)], fps=10)
    assert path.read_bytes() == b"the old one" and os.listdir(tmp_path) == ["plan.mp4"]


def test_full_disk_is_an_oserror_and_leaves_the_old_video(tmp_path):
    resource = pytest.importorskip("resource")
    (tmp_path / "plan.mp4").write_bytes(b"the old one")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))  # stands in for a full disk
    try:
        with pytest.raises(OSError):
            video.write_video(tmp_path / "plan.mp4", video.episode_frames(episode()), fps=10)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "plan.mp4").read_bytes() == b"the old one" and os.listdir(tmp_path) == ["plan.mp4"]


def test_episode_frames_show_the_world_the_goal_and_the_curve():
    shown = episode()
    frames = list(video.episode_frames(shown))
    assert len(frames) == 7 and len({frame.shape for frame in frames}) == 1
    top, left, side = video.LABEL, video.GAP, video.PANEL
    for frame, world in zip(frames, shown.frames):
        panel = frame[top : top + side, left : left + side]
        assert (panel == video.enlarge(world, side)).all()
        beside = frame[top : top + side, 2 * left + side : 2 * left + 2 * side]
        assert (beside == video.enlarge(shown.goal, side)).all()
    drawn = [(np.abs(frame[-160:].astype(int) - video.LINE).sum(axis=2) < 30).sum() for frame in frames]
    assert drawn == sorted(drawn) and drawn[-1] > drawn[0] + 200  # the curve grows


def test_odd_episodes_can_be_drawn():
    still = video.Clip([np.zeros((8, 8, 3), np.uint8)], np.zeros((300, 300, 3), np.uint8), [0.0], 1)
    nan = video.Clip(still.frames, still.goal, [float("nan")], 1, 0)
    for drawn in (still, nan):
        assert len(list(video.episode_frames(drawn))) == 1
        assert video.summary_picture(drawn).dtype == np.uint8
    tiles = list(video.tiled_frames([still, episode(), nan], columns=2))
    assert len(tiles) == 7
    with pytest.raises(ValueError, match="1 frames and 2 distances"):
        video.Clip(still.frames, still.goal, [0.0, 1.0], 1)


def test_enlarging_keeps_square_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert (video.enlarge(pixels, 128)[::2, 1::2] == pixels).all()
    assert video.enlarge(pixels, 100).shape == (100, 100, 3)
    assert video.enlarge(pixels, 16).shape == (16, 16, 3)
