"""Which frame of which video each row of a LeRobot dataset has.

Where a file has as many frames as rows, they are taken in order, whatever the clocks say: stamps in tables
drift, are missing, or count from 1970. Only where the numbers differ do times decide, and an episode whose
times find no frames is dropped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latent_planner.common.progress import Bar

from ..columns import usable_cpus
from ..journal import RecordingError
from .video import Video, nearest

logger = logging.getLogger(__name__)
FAR, UNSURE = 0.6, 0.3  # in frames: no such frame at this time; the frame before or after may be meant


@dataclass
class Span:
    """An episode in its video: place in the list of episodes, file, second where it begins, rows."""

    episode: int
    path: Path
    begin: float
    length: int


def find_frames(
    spans: Sequence[Span],
    first: np.ndarray,
    times: np.ndarray,
    steps: np.ndarray,
    fps: float,
    drop: Callable[[int, str], object],
    *,
    whole: bool,
) -> tuple[list[Path], np.ndarray, np.ndarray]:
    """The files, and of each row (N,) the file and the number of its frame there.

    first: (E,) first row of each episode.   times, steps: (N,) seconds and frames since its episode's begin,
    as the tables say.   whole: a file is one episode; if it cannot be read, the episode is dropped.
    """
    paths = list(dict.fromkeys(span.path for span in spans))
    which, numbers = np.zeros(len(times), np.int64), np.zeros(len(times), np.int64)
    inside: dict[Path, list[Span]] = {path: [] for path in paths}
    for span in spans:
        inside[span.path].append(span)
    with ThreadPoolExecutor(usable_cpus()) as pool:
        bar = {"desc": "looking at videos", "unit": " files", "total": len(paths), "delay": 2}
        counts = list(Bar(pool.map(_count, paths), **bar))
    for number, (path, count) in enumerate(zip(paths, counts)):
        here = sorted(inside[path], key=lambda span: span.begin)
        for span in here:
            which[first[span.episode] : first[span.episode] + span.length] = number
        if isinstance(count, RecordingError):
            if not whole:
                raise count
            drop(here[0].episode, str(count))
        elif count == sum(span.length for span in here):
            _by_number(here, first, numbers, fps)
        else:
            _by_time(Video(path), here, first, times, steps, numbers, fps, drop)
    return paths, which, numbers


def _count(path: Path) -> int | RecordingError:
    """Frames in a file: what it says, or, where it does not, what is there."""
    try:
        video = Video(path)
        try:
            return video.said or len(video.seconds)
        finally:
            video.close()
    except RecordingError as error:
        return error


def _by_number(here: Sequence[Span], first: np.ndarray, numbers: np.ndarray, fps: float) -> None:
    start, worst = 0, 0.0
    for span in here:
        rows = slice(first[span.episode], first[span.episode] + span.length)
        numbers[rows] = np.arange(start, start + span.length)
        worst = max(worst, abs((span.begin - here[0].begin) * fps - start))
        start += span.length
    if worst > 0.5:
        logger.warning(
            "%s: its episodes are listed up to %.1f frames from where they are; frames are taken in order",
            here[0].path, worst,
        )  # fmt: skip


def _by_time(
    video: Video,
    here: Sequence[Span],
    first: np.ndarray,
    times: np.ndarray,
    steps: np.ndarray,
    numbers: np.ndarray,
    fps: float,
    drop: Callable[[int, str], object],
) -> None:
    seconds, unsure = video.seconds, 0.0
    video.close()
    for span in here:
        rows = slice(first[span.episode], first[span.episode] + span.length)
        since = times[rows].astype(np.float64)
        if not np.isfinite(since).all():
            since = steps[rows] / fps
        wanted = span.begin + since
        found = nearest(seconds, wanted)
        off = np.abs(seconds[found] - wanted) * fps
        bad = np.flatnonzero(~(off <= FAR) | np.insert(np.diff(found) < 1, 0, False)[: span.length])
        if len(bad):
            drop(span.episode, f"{video.path} has no frame at {wanted[bad[0]]:.3f} s for its row {bad[0]}")
            continue
        if not span.length:
            continue
        numbers[rows], unsure = found, max(unsure, float(off.max()))
    for before, after in zip(here[:-1], here[1:]):
        if numbers[first[before.episode] + before.length - 1] >= numbers[first[after.episode]] > 0:
            drop(before.episode, f"{video.path} has too few frames for it")
    if unsure > UNSURE:
        logger.warning(
            "%s has another number of frames than rows, and they lie up to %.2f of a frame from the times of "
            "the rows: pictures may be one row early or late",
            video.path, unsure,
        )  # fmt: skip
