"""Frames in mp4 files, read by row: a frame is found by its time, and decoding goes on from where it is."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .journal import RecordingError

OPEN_FILES = 4  # a thread


class Videos:
    """A column of frames, uint8 (N, H, W, 3), in video files of one size.

    paths: the files.   which: (N,) the file that each row is in.   times: (N,) when in it, seconds.

    Rows in order are quick. Any others cost decoding from the nearest key frame before them; recordings that
    do not fit in memory are better converted (`latent-planner convert`). Each thread has its own
    decoders.
    """

    def __init__(self, paths: list[Path], which: np.ndarray, times: np.ndarray, *, fps: float) -> None:
        self.paths, self.which, self.times, self.fps = paths, which, times, fps
        self._threads = threading.local()
        self.shape = (len(which), *self._video(0).size, 3)
        self.dtype = np.dtype(np.uint8)

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Fill `out` (n, H, W, 3) with the given rows (n,)."""
        for i in np.lexsort((self.times[rows], self.which[rows])).tolist():
            row = int(rows[i])
            video = self._video(int(self.which[row]))
            if video.size != self.shape[1:3]:
                raise RecordingError(f"{video.path} has frames of another size than {self.paths[0]}")
            out[i] = video.frame(float(self.times[row]), 0.6 / self.fps)

    def close(self) -> None:
        """Let go of this thread's files."""
        for video in self._opened().values():
            video.container.close()
        self._threads = threading.local()

    def _video(self, number: int) -> _Video:
        opened = self._opened()
        if number not in opened:
            opened[number] = _Video(self.paths[number])
            if len(opened) > OPEN_FILES:
                opened.popitem(last=False)[1].container.close()
        opened.move_to_end(number)
        return opened[number]

    def _opened(self) -> OrderedDict[int, _Video]:
        """This thread's open files, the one used last at the end; none after a fork."""
        if getattr(self._threads, "process", None) != os.getpid():
            self._threads.process, self._threads.opened = os.getpid(), OrderedDict()
        return self._threads.opened


class _Video:
    """One open file: where its frames are, and a decoder somewhere in it."""

    def __init__(self, path: Path) -> None:
        import av

        self.path, self._error = path, av.FFmpegError
        try:
            self.container: Any = av.open(str(path))
            self.stream = self.container.streams.video[0]
            packets = [p for p in self.container.demux(self.stream) if p.pts is not None and not p.is_discard]
        except (av.FFmpegError, OSError, IndexError) as error:
            raise RecordingError(f"{path} is not a video that can be read: copy it again") from error
        if not packets:
            raise RecordingError(f"{path} holds no frames: copy it again")
        self.stream.thread_type = "AUTO"
        self.size = (self.stream.codec_context.height, self.stream.codec_context.width)
        self.stamps = np.sort(np.array([packet.pts for packet in packets], np.int64))
        self.keys = np.sort(np.array([p.pts for p in packets if p.is_keyframe] or self.stamps[:1], np.int64))
        self.seconds = self.stamps * float(self.stream.time_base or 0)
        self._frames: Iterator[Any] = iter(())
        self._at: int | None = None  # stamp of the last decoded frame
        self._last: np.ndarray | None = None

    def frame(self, time: float, tolerance: float) -> np.ndarray:
        """The frame nearest to `time`, uint8 (H, W, 3)."""
        place = int(np.searchsorted(self.seconds, time))
        nearest = min(
            (max(place - 1, 0), min(place, len(self.seconds) - 1)), key=lambda i: abs(self.seconds[i] - time)
        )
        if abs(self.seconds[nearest] - time) > tolerance:
            raise RecordingError(f"{self.path} has no frame at {time:.3f} s: copy the dataset again")
        stamp = int(self.stamps[nearest])
        if self._at == stamp and self._last is not None:
            return self._last
        key = int(self.keys[max(int(np.searchsorted(self.keys, stamp, side="right")) - 1, 0)])
        try:
            if self._at is None or not key <= self._at < stamp:
                self.container.seek(key, stream=self.stream, backward=True)
                self._frames = self.container.decode(self.stream)
            for decoded in self._frames:
                if decoded.pts is not None and decoded.pts >= stamp:
                    self._at, self._last = int(decoded.pts), decoded.to_ndarray(format="rgb24")
                    if self._at == stamp:
                        return self._last
                    break
        except (self._error, OSError, ValueError) as error:
            raise RecordingError(f"{self.path} cannot be decoded at {time:.3f} s: copy it again") from error
        self._at = None
        raise RecordingError(f"{self.path} is damaged: its frame at {time:.3f} s cannot be found")
