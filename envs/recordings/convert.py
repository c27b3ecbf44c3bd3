"""Convert a recording: `latent-planner convert A B.h5` copies any supported recording into our own format.

A is an HDF5 file of ours or of others, a LeRobot folder, or what stable-worldmodel and robomimic write. A
conversion that was stopped continues with the same command.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from latent_planner.common.commands import in_words
from latent_planner.common.printable import printable
from latent_planner.common.progress import Bar

from ..drawing.resize import squeezed
from .columns import usable_cpus
from .episodes import EpisodeReader, EpisodeWriter
from .inspection import add_recording_options, open_as_asked
from .journal import RecordingError, encode, is_frames

logger = logging.getLogger(__name__)

SLAB = 32 << 20  # bytes of frames read at a time


def convert(
    reader: EpisodeReader,
    path: str | Path,
    *,
    env: str | None = None,
    size: int | None = None,
    leave_out: Sequence[int] = (),
    progress: bool = True,
) -> Path:
    """Write every episode and column of an open recording as our own file `path`, which must not exist yet.

    env: the world it was recorded in, where the recording does not say.
    size: frames are resized to this many pixels a side, by the mean of what each covers.
    leave_out: episodes that are not written, counted from 0.

    Several threads pack episodes. Raises RecordingError; complete episodes are kept, and the same call goes
    on after them.
    """
    path = Path(path)
    if size is not None and size < 1:
        raise RecordingError(f"the size of frames is a number of pixels, at least 1, not {size}")
    chosen = _chosen(reader, leave_out)
    _check_actions(reader, chosen)
    attrs = {printable(key): value for key, value in reader.attrs.items() if key != "format_version"}
    attrs |= {"env": env or reader.env, "image_size": size or reader.image_size}
    if reader.proprio_names:
        attrs["proprio_names"] = list(reader.proprio_names)
    if reader.cameras:
        attrs["camera"] = next(iter(reader.cameras))
    if leave_out:  # a conversion that goes on must leave out the same; bounds are those of the rest
        attrs["left_out"] = sorted(set(leave_out))
    else:
        attrs |= {"action_low": reader.action_low, "action_high": reader.action_high}
    remark = reader.taken.remark(reader.path)
    if remark is not None:
        logger.warning("%s; they are copied, and the bounds are those of the others", remark)
    writer = EpisodeWriter(path, attrs={key: value for key, value in attrs.items() if value is not None})
    lengths = reader.lengths[chosen]
    bar = Bar(
        total=int(lengths.sum()),
        desc=f"writing {path.name}",
        unit=" frames",
        unit_scale=True,
        disable=not progress,
    )
    try:
        bar.update(int(lengths[: writer.count].sum()))
        for index, record in _packed(reader, chosen[writer.count :], size):
            writer.append_encoded(record)
            bar.update(int(reader.lengths[index]))
        bar.close()
        writer.close(progress=progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; {writer.partial} keeps {writer.count} of {len(chosen)} episodes, and the same "
            "command goes on from there"
        ) from None
    finally:
        bar.close()
        writer.abandon()
    return path


def _chosen(reader: EpisodeReader, leave_out: Sequence[int]) -> list[int]:
    """The episodes that are written."""
    count = len(reader.lengths)
    wrong = [episode for episode in leave_out if not 0 <= episode < count]
    if wrong:
        raise RecordingError(f"{reader.path} has episodes 0 to {count - 1}, and no {wrong[0]} to leave out")
    chosen = [episode for episode in range(count) if episode not in set(leave_out)]
    if not chosen:
        raise RecordingError(f"{reader.path} would have no episodes left: leave out fewer")
    return chosen


def _check_actions(reader: EpisodeReader, chosen: Sequence[int]) -> None:
    """Raise RecordingError where an action of these episodes is no finite number."""
    if len(chosen) == len(reader.lengths):
        reader.check_actions()
        return
    bad = reader.bad_actions()
    for episode in chosen:
        start = int(reader.offsets[episode])
        if bad[start : start + int(reader.lengths[episode])].any():
            raise RecordingError(f"{reader.path} has actions in episode {episode} that are no finite numbers")


def _packed(reader: EpisodeReader, chosen: Sequence[int], size: int | None) -> Iterator[tuple[int, bytes]]:
    """These episodes, in order, as journal records."""
    ahead: deque[tuple[int, Future[bytes]]] = deque()
    with ThreadPoolExecutor(usable_cpus()) as pool:
        try:
            for index in chosen:
                ahead.append((index, pool.submit(_episode, reader, index, size)))
                if len(ahead) > usable_cpus():
                    done, record = ahead.popleft()
                    yield done, record.result()
            while ahead:
                done, record = ahead.popleft()
                yield done, record.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _episode(reader: EpisodeReader, index: int, size: int | None) -> bytes:
    start, stop = int(reader.offsets[index]), int(reader.offsets[index] + reader.lengths[index])
    columns = {}
    for name in reader.columns:
        if name == "action":
            columns[name] = _floats(reader.read(name, start, stop))
            continue
        row = reader.read(name, start, start + 1)
        if not is_frames(row.dtype, row.shape[1:]):
            columns[name] = reader.read(name, start, stop)
            continue
        slab, parts = max(1, SLAB // row.nbytes), []
        for begin in range(start, stop, slab):
            frames = reader.read(name, begin, min(begin + slab, stop))
            parts.append(frames if size is None else resized(frames, size))
        columns[name] = np.concatenate(parts)
    return encode({name.replace("/", "_"): values for name, values in columns.items()})


def _floats(values: np.ndarray) -> np.ndarray:
    return values if values.dtype.kind == "f" else values.astype(np.float32)


def resized(frames: np.ndarray, size: int) -> np.ndarray:
    """uint8 (n, H, W, 3) -> (n, size, size, 3): see drawing.resize."""
    if frames.shape[1:3] == (size, size):
        return frames
    return np.stack([squeezed(frame, size) for frame in frames])


def _numbers(text: str) -> list[int]:
    """Whole numbers with commas between them."""
    return [int(part) for part in text.split(",")]


def main(words: Sequence[str] | None = None) -> int:
    """The program; returns 0, 2 on a user error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="latent-planner convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_recording_options(parser)
    parser.add_argument("target", type=Path, help="HDF5 file to write")
    parser.add_argument("--env", help="world it was recorded in, where the recording does not say")
    parser.add_argument("--size", type=int, help="resize frames to so many pixels a side")
    parser.add_argument(
        "--leave-out", type=_numbers, default=[], metavar="3,17", help="episodes that are not written, from 0"
    )
    args = parser.parse_args(words)
    began = time.monotonic()
    with in_words(RecordingError) as outcome, open_as_asked(args) as reader:
        convert(reader, args.target, env=args.env, size=args.size, leave_out=args.leave_out)
        size, seconds = args.target.stat().st_size / 1e6, time.monotonic() - began
        frames = reader.num_frames - int(reader.lengths[sorted(set(args.leave_out))].sum())
        print(f"{args.target}: {frames} frames, {size:,.1f} MB, {seconds:.1f} s")
    return outcome.code
