"""The command line of recordings.

    python -m envs.episodes inspect A           what is in a recording, and a picture of some of its frames
    python -m envs.episodes convert A B.h5      any recording that is read here, as a file of ours

A is an HDF5 file of ours or of others, or a LeRobot folder. A conversion that was stopped goes on with the
same command.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from envs.episodes import EpisodeReader, EpisodeWriter
from envs.files import beside
from envs.frames import usable_cpus
from envs.journal import RecordingError, encode, is_frames
from envs.squeeze import squeezed

SLAB = 32 << 20  # bytes of frames read at a time
SHEET_ROWS, SHEET_COLUMNS, SHEET_SIDE, SHEET_GAP = 4, 8, 112, 4  # episodes, frames of each, pixels


def convert(
    reader: EpisodeReader,
    path: str | Path,
    *,
    env: str | None = None,
    size: int | None = None,
    progress: bool = True,
) -> Path:
    """Write every episode and column of an open recording as our own file `path`, which must not exist yet.

    env: the world it was recorded in, where the recording does not say.
    size: frames are resized to this many pixels a side, by the mean of what each covers.

    Several threads pack episodes. Raises RecordingError; complete episodes are kept, and the same call goes
    on after them.
    """
    path = Path(path)
    if size is not None and size < 1:
        raise RecordingError(f"the size of frames is a number of pixels, at least 1, not {size}")
    reader.check_actions()
    attrs = {key: value for key, value in reader.attrs.items() if key != "format_version"}
    attrs |= {"env": env or reader.env, "image_size": size or reader.image_size}
    attrs |= {"action_low": reader.action_low, "action_high": reader.action_high}
    writer = EpisodeWriter(path, attrs={key: value for key, value in attrs.items() if value is not None})
    bar = tqdm(
        total=reader.num_frames,
        desc=f"writing {path.name}",
        unit=" frames",
        unit_scale=True,
        disable=not progress,
    )
    try:
        bar.update(int(reader.lengths[: writer.count].sum()))
        for index, record in _packed(reader, writer.count, size):
            writer.append_encoded(record)
            bar.update(int(reader.lengths[index]))
        bar.close()
        writer.close(progress=progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; {writer.partial} keeps {writer.count} of {len(reader.lengths)} episodes, and the same "
            "command goes on from there"
        ) from None
    finally:
        bar.close()
        writer.abandon()
    return path


def _packed(reader: EpisodeReader, first: int, size: int | None) -> Iterator[tuple[int, bytes]]:
    """The episodes from `first` on, in order, as journal records."""
    ahead: deque[tuple[int, Future[bytes]]] = deque()
    with ThreadPoolExecutor(usable_cpus()) as pool:
        try:
            for index in range(first, len(reader.lengths)):
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
    return encode(columns)


def _floats(values: np.ndarray) -> np.ndarray:
    return values if values.dtype.kind == "f" else values.astype(np.float32)


def resized(frames: np.ndarray, size: int) -> np.ndarray:
    """uint8 (n, H, W, 3) -> (n, size, size, 3): see envs.squeeze."""
    if frames.shape[1:3] == (size, size):
        return frames
    return np.stack([squeezed(frame, size) for frame in frames])


def described(reader: EpisodeReader) -> str:
    """What is in an open recording: episodes, lengths, columns, ranges, size."""
    lengths, size = reader.lengths, _disk_size(reader.path)
    pixels = reader.read("pixels", 0, 1)
    lines = [
        f"{reader.path}: {size / 1e6:,.1f} MB, {size / reader.num_frames:,.0f} bytes a frame"
        + ("" if reader.complete else ", not complete"),
        f"world     {reader.env or 'not said'}" + _told(", {} Hz", reader.attrs.get("control_hz")),
        f"episodes  {len(lengths)}, of {lengths.min()} to {lengths.max()} frames "
        f"(median {np.median(lengths):g}), {int(lengths.sum())} in all",
        f"frames    {pixels.shape[2]} x {pixels.shape[1]} px"
        + _told(", camera {}", reader.attrs.get("camera")),
        "columns",
    ]
    for name in reader.columns:
        row = reader.read(name, 0, 1)
        shape = " x ".join(map(str, row.shape[1:])) or "one number"
        lines.append(f"  {name:20s} {row.dtype}, {shape}")
    lines += ["actions      lowest   highest      mean  deviation"]
    lines += [f"  {label}" for label in _ranges(reader, "action", [])]
    bad = int(reader.bad_actions().sum())
    if bad:
        lines.append(f"  {bad} rows inside episodes hold NaN or infinity: they cannot be trained on")
    if "state" in reader.columns:
        lines += ["states       lowest   highest      mean  deviation"]
        lines += [f"  {label}" for label in _ranges(reader, "state", list(reader.state_names))]
    return "\n".join(lines)


def _ranges(reader: EpisodeReader, name: str, labels: Sequence[str]) -> list[str]:
    values = reader.read(name, 0, reader.num_frames).astype(np.float64)
    values = values.reshape(len(values), -1)
    values = values[np.isfinite(values).all(axis=1)]
    if not len(values):
        return ["nothing but NaN"]
    columns = values.min(0), values.max(0), values.mean(0), values.std(0)
    return [
        f"{labels[i] if i < len(labels) else i!s:10.10s} "
        + " ".join(f"{column[i]:9.4g}" for column in columns)
        for i in range(values.shape[1])
    ]


def _told(text: str, value: Any) -> str:
    return "" if value is None else text.format(value)


def _disk_size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def contact_sheet(reader: EpisodeReader) -> Image.Image:
    """Frames of up to four episodes, a row each, evenly spread over its time."""
    chosen = np.unique(np.linspace(0, len(reader.lengths) - 1, SHEET_ROWS).astype(int)).tolist()
    step = SHEET_SIDE + SHEET_GAP
    sheet = Image.new("RGB", (SHEET_COLUMNS * step + SHEET_GAP, len(chosen) * step + SHEET_GAP), (32, 32, 32))
    for line, episode in enumerate(chosen):
        rows = reader.offsets[episode] + np.linspace(0, reader.lengths[episode] - 1, SHEET_COLUMNS).astype(
            int
        )
        for column, frame in enumerate(reader.read_rows("pixels", rows)):
            picture = Image.fromarray(frame)
            picture.thumbnail((SHEET_SIDE, SHEET_SIDE))
            sheet.paste(picture, (SHEET_GAP + column * step, SHEET_GAP + line * step))
    return sheet


def _sheet_path(reader: EpisodeReader, wanted: Path | None) -> Path:
    """A name that is free: the one asked for, or one after the recording's in the working folder."""
    if wanted is not None:
        if wanted.exists():
            raise RecordingError(f"{wanted} is there already: choose another name with --out")
        return wanted
    names = (f"{reader.path.resolve().stem}-frames{number}.png" for number in ["", *range(2, 1000)])
    return next(path for path in map(Path, names) if not path.exists())


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m envs.episodes",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    inspect = commands.add_parser("inspect", help="what is in a recording, and a picture of some frames")
    inspect.add_argument("recording", type=Path)
    inspect.add_argument("--out", type=Path, help="picture to write (default: NAME-frames.png)")
    copy = commands.add_parser("convert", help="write a recording as a file of ours")
    copy.add_argument("recording", type=Path)
    copy.add_argument("target", type=Path, help="HDF5 file to write")
    copy.add_argument("--env", help="world it was recorded in, where the recording does not say")
    copy.add_argument("--size", type=int, help="resize frames to so many pixels a side")
    for command in (inspect, copy):
        command.add_argument("--camera", help="what the recording calls its frames")
        command.add_argument("--action", help="… its actions")
        command.add_argument("--state", help="… its states")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """The program; returns 0, 2 for what the user can mend, 130 for Ctrl-C."""
    args = _arguments(words)
    began = time.monotonic()
    try:
        with EpisodeReader(
            args.recording, camera=args.camera, action=args.action, state=args.state
        ) as reader:
            if args.command == "convert":
                convert(reader, args.target, env=args.env, size=args.size)
                size, seconds = args.target.stat().st_size / 1e6, time.monotonic() - began
                print(f"{args.target}: {reader.num_frames} frames, {size:,.1f} MB, {seconds:.1f} s")
                return 0
            path = _sheet_path(reader, args.out)
            print(described(reader))
            with beside(path) as temporary:
                contact_sheet(reader).save(temporary, format="PNG")
            print(f"{path}: frames of {min(len(reader.lengths), SHEET_ROWS)} episodes")
    except KeyboardInterrupt as stop:
        print(str(stop) or "stopped", file=sys.stderr)
        return 130
    except (RecordingError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
