"""Frames of video files: upright, in true colours, by number or by time."""

from __future__ import annotations

import gc
import io
import itertools
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...drawing.resize import squeezed
from ..journal import RecordingError
from .border import readable, reason

ENDINGS = (".mp4", ".mkv", ".avi", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ogv", ".ts", ".gif")
OPEN_FILES = 4  # a thread
COLLECT_EVERY, _DECODERS = 16, itertools.count(1)  # decoders between two garbage collections
MAX_PIXELS = 1 << 26  # of a frame; 8K has half of it
_ADVICE = "save it again, for example with: ffmpeg -i OLD -c:v libx264 NEW.mp4"
# FFmpeg's demuxers of ENDINGS. None of them opens another file, as those of playlists do.
_DEMUXERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegvideo,mpegts,m4v,ogg,gif"
_BT601, _BT709 = 5, 1
_MATRICES = {1: 1, 4: 4, 7: 7, 9: 9, 10: 9}  # a frame's colorspace -> FFmpeg's number of the matrix


class Video:
    """One open video file.

    source: the file; or, with `data`, the name that messages give to these bytes.

    Attributes:
        size: (height, width) of its frames as they are shown, pixels.
        fps: frames a second on average; 0 where the file does not say.
        said: how many frames the file says it has; 0 where it does not.

    Raises RecordingError where it is no such file. Frames come in RGB whatever colour matrix and range the
    file has, and turned or mirrored as its display matrix says. Nothing but this one file is opened.
    """

    def __init__(self, source: Path, data: bytes | None = None) -> None:
        self.path, self._data, self.process = source, data, os.getpid()
        with readable(source, "a video", _ADVICE):
            self._start()
            try:
                self.fps = float(self._stream.average_rate or 0)
                self.said = max(int(self._stream.frames), 0)
            except BaseException:
                self.close()
                raise
        self._frames: Iterator[Any] = iter(())
        self._at: int | None = None  # stamp of the last decoded frame
        self._last: np.ndarray | None = None

    def _start(self) -> None:
        """Open the file with a decoder at its beginning."""
        self._container, self._fresh = self._open(), True
        try:
            self._stream = self._container.streams.video[0]
            codec = self._stream.codec_context
            if not 0 < codec.width * codec.height <= MAX_PIXELS:
                size = f"{codec.width} x {codec.height} px"
                raise RecordingError(f"{self.path} is not a video that can be read: its frames have {size}")
            codec.options = {"max_pixels": str(MAX_PIXELS)}
            codec.thread_type = "AUTO"
        except BaseException:
            self.close()
            raise

    def _open(self) -> Any:
        import av

        if self._data is None and not self.path.is_file():
            raise RecordingError(f"{self.path} is missing, or no file: copy it again")
        target = f"file:{self.path.resolve()}" if self._data is None else io.BytesIO(self._data)
        limits = {"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"}
        try:
            return av.open(target, metadata_errors="ignore", options=limits)
        except Exception as error:
            raise RecordingError(
                f"{self.path} is not a video that can be read ({reason(error)}): {_ADVICE}"
            ) from error

    @cached_property
    def size(self) -> tuple[int, int]:
        with readable(self.path, "a video", _ADVICE):
            for frame in self._from_the_start():
                picture = upright(frame)
                return picture.shape[0], picture.shape[1]
        raise RecordingError(f"{self.path} holds no frames: {_ADVICE}")

    @cached_property
    def _stamps(self) -> tuple[np.ndarray, np.ndarray]:
        """Stamps of all frames and of the key frames, each in order, in the stream's own unit."""
        with readable(self.path, "a video", _ADVICE):
            container = self._open()  # its own, since the decoder is somewhere in the other
            try:
                stream = container.streams.video[0]
                packets = [
                    (p.pts, p.is_keyframe)
                    for p in container.demux(stream)
                    if p.pts is not None and not p.is_discard
                ]
            finally:
                container.close()
        if not packets:
            raise RecordingError(f"{self.path} holds no frames: {_ADVICE}")
        stamps = np.sort(np.array([pts for pts, _ in packets], np.int64))
        keys = np.sort(np.array([pts for pts, key in packets if key] or stamps[:1], np.int64))
        return stamps, keys

    @property
    def seconds(self) -> np.ndarray:
        """When each frame is shown, (N,) in order; the file's own time, which need not begin at 0."""
        return self._stamps[0] * float(self._stream.time_base or Fraction(0))

    def at(self, times: np.ndarray) -> np.ndarray:
        """Numbers (T,) of the frames nearest to these times, seconds from the first frame."""
        seconds = self.seconds - self.seconds[0]
        found = nearest(seconds, times)
        gap = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 1.0
        off = np.flatnonzero(~(np.abs(seconds[found] - times) <= 0.6 * gap))
        if len(off):
            raise RecordingError(
                f"{self.path} has no frame at {times[off[0]]:g} s: it is {seconds[-1] + gap:.3f} s long"
            )
        return found

    def frame(self, number: int) -> np.ndarray:
        """One frame, uint8 (H, W, 3). Those that follow the last one asked for are quick."""
        stamps, keys = self._stamps
        if not 0 <= number < len(stamps):
            raise RecordingError(f"{self.path} has {len(stamps)} frames and no frame {number}: copy it again")
        stamp = int(stamps[number])
        if self._at == stamp and self._last is not None:
            return self._last
        key = int(keys[max(int(np.searchsorted(keys, stamp, side="right")) - 1, 0)])
        with readable(self.path, f"a video from frame {number} on"):
            if self._at is None or not key <= self._at < stamp:
                self._frames = self._from_key(key)
            for decoded in self._frames:
                if decoded.pts is not None and decoded.pts >= stamp:
                    self._at, self._last = int(decoded.pts), upright(decoded)
                    if self._at == stamp:
                        return self._last
                    break
        self._at = None
        raise RecordingError(f"{self.path} is damaged: its frame {number} cannot be found")

    def frames(self, wanted: np.ndarray | None, size: int, shape: tuple[int, int]) -> np.ndarray:
        """uint8 (T, h, w, 3): the frames of these numbers, ascending, or all; closes the file.

        size: they are resized to; 0: they must be of `shape`, as the first video's are.
        """
        chosen = None if wanted is None else set(wanted.tolist())
        found, count = [], 0
        try:
            with readable(self.path, "a video to its end", _ADVICE):
                for frame in self._from_the_start():
                    if chosen is None or count in chosen:
                        found.append(self._resized(upright(frame), size, shape))
                    count += 1
                    if chosen is not None and len(found) == len(chosen):
                        break
        finally:
            self.close()
        if not found or (wanted is not None and len(found) < len(wanted)):
            last = "no frames" if not count else f"{count} frames"
            asked = "" if wanted is None else f", and the table asks for frame {wanted[len(found)]}"
            raise RecordingError(f"{self.path} has {last}{asked} (they are counted from 0)")
        return np.stack(found)

    def _resized(self, picture: np.ndarray, size: int, shape: tuple[int, int]) -> np.ndarray:
        if size:
            return picture if picture.shape[:2] == (size, size) else squeezed(picture, size)
        if picture.shape[:2] != tuple(shape):
            height, width = picture.shape[:2]
            raise RecordingError(
                f"{self.path} has frames of {width} x {height} px and the first video of "
                f"{shape[1]} x {shape[0]}: say --size, and all are made equal"
            )
        return picture

    def _from_the_start(self) -> Iterator[Any]:
        """All frames, decoded one after the other."""
        if not self._fresh:  # not every container can seek to its start
            self._container.close()
            self._start()
        self._fresh, self._at = False, None
        return self._container.decode(self._stream)

    def _from_key(self, stamp: int) -> Iterator[Any]:
        """Frames from the key frame of this stamp on."""
        self._fresh = False
        self._container.seek(stamp, stream=self._stream, backward=True)
        return self._container.decode(self._stream)

    def close(self) -> None:
        """Let go of the file.

        PyAV's containers and streams refer to each other, so a decoder's threads stay until the garbage
        collector finds them. It is called now and then, or thousands of videos would leave no threads to
        start.
        """
        self._container.close()
        if not self._fresh and next(_DECODERS) % COLLECT_EVERY == 0:
            gc.collect()


def upright(frame: Any) -> np.ndarray:
    """A decoded frame as it is shown, uint8 (H, W, 3): in RGB, turned and mirrored by its display matrix."""
    if frame.width * frame.height > MAX_PIXELS:
        raise RecordingError(f"a frame of {frame.width} x {frame.height} px is larger than what is read here")
    picture = _rgb(frame)
    for item in frame.side_data:
        if getattr(item.type, "name", "") == "DISPLAYMATRIX":
            a, b, _, c, d, *_ = struct.unpack("<9i", bytes(item)[:36])
            if abs(b) > abs(a):  # a quarter turn, with or without a mirror
                picture, a, d = picture.swapaxes(0, 1), c, b
            picture = picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return np.ascontiguousarray(picture)


def _rgb(frame: Any) -> np.ndarray:
    """The frame in RGB. PyAV before 17 takes every frame for BT.601 of limited range unless it is asked for a
    change of matrix; that of RGB has no effect, so any other than the frame's will do."""
    shape = frame.format
    if shape.is_rgb or shape.has_palette or len(shape.components) < 3:
        return frame.to_ndarray(format="rgb24")
    full = int(frame.color_range) == 2 or shape.name.startswith("yuvj")
    matrix = _MATRICES.get(int(frame.colorspace), _BT601)
    other = _BT709 if matrix == _BT601 else _BT601
    options = {"dst_colorspace": other, "src_color_range": 2 if full else 1, "dst_color_range": 2}
    try:
        return frame.to_ndarray(format="rgb24", src_colorspace=matrix, **options)
    except KeyError:  # PyAV 13 does not know BT.2020; BT.709 is nearest to it
        return frame.to_ndarray(format="rgb24", src_colorspace=_BT709, **options)


def nearest(places: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """For each wanted (T,) the index of the nearest of places (N,), which ascend. NaN gives any."""
    after = np.clip(np.searchsorted(places, wanted), 0, len(places) - 1)
    before = np.maximum(after - 1, 0)
    return np.where(np.abs(places[before] - wanted) <= np.abs(places[after] - wanted), before, after)


class Videos:
    """A column of frames, uint8 (N, H, W, 3), in video files of one size.

    files: the files, or (name, a call that gives the bytes).   which: (N,) the file that each row is in.
    numbers: (N,) the row's frame in it.   episodes: (N,) the row's episode, for messages.

    Rows in order are quick. Any others cost decoding from the nearest key frame before them; recordings that
    do not fit in memory are better converted (`latent-planner convert`). Each thread has its own
    decoders.
    """

    def __init__(
        self, files: Sequence[Any], which: np.ndarray, numbers: np.ndarray, episodes: np.ndarray
    ) -> None:
        self.files, self.which, self.numbers, self.episodes = files, which, numbers, episodes
        self._threads = threading.local()
        self._lock, self._open = threading.Lock(), set[Video]()
        self.shape: tuple[int, ...] = (len(which), *self._video(int(which[0])).size, 3)
        self.dtype = np.dtype(np.uint8)

    def read(self, rows: np.ndarray, out: np.ndarray) -> None:
        """Fill `out` (n, H, W, 3) with the given rows (n,)."""
        for i in np.lexsort((self.numbers[rows], self.which[rows])).tolist():
            row = int(rows[i])
            video = self._video(int(self.which[row]))
            try:
                picture = video.frame(int(self.numbers[row]))
            except RecordingError as error:
                raise RecordingError(f"{error}; {leaving_out(int(self.episodes[row]))}") from error
            if picture.shape != self.shape[1:]:
                raise RecordingError(f"{video.path} has frames of another size than the first video")
            out[i] = picture

    def close(self) -> None:
        """Let go of the files, those of other threads too; nothing may be reading."""
        with self._lock:
            for video in self._open:
                if video.process == os.getpid():  # not those that a fork came with
                    video.close()
            self._open.clear()
            self._threads = threading.local()

    def _video(self, number: int) -> Video:
        opened = self._opened()
        if number not in opened:
            file = self.files[number]
            opened[number] = Video(file) if isinstance(file, Path) else Video(file[0], file[1]())
            with self._lock:
                self._open.add(opened[number])
            if len(opened) > OPEN_FILES:
                _, oldest = opened.popitem(last=False)
                oldest.close()
                with self._lock:
                    self._open.discard(oldest)
        opened.move_to_end(number)
        return opened[number]

    def _opened(self) -> OrderedDict[int, Video]:
        """This thread's open files, the one used last at the end; none after a fork."""
        if getattr(self._threads, "process", None) != os.getpid():
            self._threads.process, self._threads.opened = os.getpid(), OrderedDict()
        return self._threads.opened


def leaving_out(episode: int) -> str:
    """How to do without an episode; the end of a sentence."""
    return f"or do without episode {episode}: latent-planner convert RECORDING NEW.h5 --leave-out {episode}"
