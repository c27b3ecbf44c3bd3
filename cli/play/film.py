"""A recorded session as a film: the worlds with what was imagined, next to the goal, over the distance."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from latent_planner.evaluation import video
from latent_planner.evaluation.video import Clip

from .pictures import SCENE_SIZE
from .recorder import Message, ReplayError, picture_of

FPS = 10.0
MOST_FRAMES, MOST_GIF_FRAMES = 1200, 300  # the newest
GIF_WIDTH = 480  # px
PANEL = 240  # px of a world, where two are shown


def mp4(messages: Sequence[tuple[float, Message]]) -> bytes:
    """An MP4 file of a recording's messages. ReplayError where nothing was recorded."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "session.mp4"
        return video.write_video(path, _frames(messages, MOST_FRAMES), FPS).read_bytes()


def gif(messages: Sequence[tuple[float, Message]]) -> bytes:
    """The same as an animated GIF, small enough to be sent around."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "session.gif"
        return video.write_gif(path, _frames(messages, MOST_GIF_FRAMES), FPS, width=GIF_WIDTH).read_bytes()


class _Scene:
    """What is collected of one goal, for each world: pictures and distances."""

    def __init__(self, goal: np.ndarray) -> None:
        self.goal = goal
        self.frames: dict[int, list[np.ndarray]] = {}
        self.distances: dict[int, list[float]] = {}
        self.reached: dict[int, int] = {}

    def add(self, frame: Message, ghosts: Message | None) -> None:
        lane = frame.get("lane", 0)
        frames = self.frames.setdefault(lane, [])
        if frame.get("reached") is not None and lane not in self.reached:
            self.reached[lane] = len(frames)
        frames.append(_picture(frame, ghosts))
        self.distances.setdefault(lane, []).append(float(frame.get("distance", np.nan)))

    def clips(self) -> list[Clip]:
        return [
            Clip(self.frames[lane], self.goal, self.distances[lane], len(self.frames[lane]) - 1,
                 self.reached.get(lane), judged=False)
            for lane in sorted(self.frames)
        ]  # fmt: skip


def _frames(messages: Sequence[tuple[float, Message]], most: int) -> Iterator[np.ndarray]:
    """uint8 (H, W, 3), all of one size, for each moment that was shown; the newest `most`."""
    scenes = _scenes([message for _, message in messages], most)
    if not scenes:
        raise ReplayError("nothing was recorded yet")
    both = any(len(scene.frames) > 1 for scene in scenes)
    for scene in scenes:
        clips = scene.clips()
        if both:
            clips = (clips * 2)[:2] if len(clips) == 1 else clips
            yield from video.tiled_frames(clips, columns=1, panel=PANEL)
        else:
            yield from video.episode_frames(clips[0])


def _scenes(messages: Sequence[Message], most: int) -> list[_Scene]:
    """What was shown, cut where the goal changed."""
    total = sum(message["kind"] == "frame" and message.get("lane", 0) == 0 for message in messages)
    scenes: list[_Scene] = []
    ghosts: dict[int, Message] = {}
    goal, seen = None, 0
    for message in messages:
        lane = message.get("lane", 0)
        if message["kind"] == "goal" and (goal is None or message["png"] != goal["png"]):
            goal = message
            scenes.append(_Scene(np.asarray(picture_of(goal["png"]).convert("RGB"))))
        elif message["kind"] == "plan":
            ghosts[lane] = message
        elif message["kind"] == "frame" and scenes:
            seen += lane == 0
            if seen > total - most:
                scenes[-1].add(message, ghosts.get(lane))
    return [scene for scene in scenes if 0 in scene.frames]


def _picture(frame: Message, plan: Message | None) -> np.ndarray:
    """The world, under the ghosts of its newest plan."""
    image: Any = picture_of(frame["png"]).convert("RGBA")
    if plan is not None and plan.get("ghosts"):
        over: Any = picture_of(plan["ghosts"]).convert("RGBA")
        image = Image.alpha_composite(image, over.resize(image.size))
    return np.asarray(image.convert("RGB").resize((SCENE_SIZE, SCENE_SIZE)))
