"""Inspect a recording: `latent-planner inspect A` describes it and draws some of its frames.

A is an HDF5 file of ours or of others, a LeRobot folder, or what stable-worldmodel and robomimic write.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from latent_planner.common.commands import in_words
from latent_planner.common.files import beside
from latent_planner.common.printable import printable

from .episodes import EpisodeReader
from .journal import RecordingError

SHEET_ROWS, SHEET_COLUMNS, SHEET_SIDE, SHEET_GAP = 4, 8, 128, 2  # episodes, frames of each, pixels


def described(reader: EpisodeReader) -> str:
    """What is in an open recording: episodes, lengths, columns, ranges, size."""
    lengths, size = reader.lengths, _disk_size(reader.path)
    pixels = reader.read("pixels", 0, 1)
    lines = [
        f"{printable(reader.path)}: {size / 1e6:,.1f} MB, {size / reader.num_frames:,.0f} bytes a frame"
        + ("" if reader.complete else ", not complete"),
        f"world     {printable(reader.env or 'not said')}" + _told(", {} Hz", reader.attrs.get("control_hz")),
        f"episodes  {len(lengths)}, of {lengths.min()} to {lengths.max()} frames "
        f"(median {np.median(lengths):g}), {int(lengths.sum())} in all",
        f"frames    {pixels.shape[2]} x {pixels.shape[1]} px"
        + _told(", camera {}", reader.attrs.get("camera")),
        "columns",
    ]
    for name in reader.columns:
        row = reader.read(name, 0, 1)
        shape = " x ".join(map(str, row.shape[1:])) or "one number"
        lines.append(f"  {printable(name):20s} {row.dtype}, {shape}")
    return "\n".join([*lines, *_actions(reader), *_states(reader)])


def _actions(reader: EpisodeReader) -> list[str]:
    """The actions that were taken, as training counts them, and what is odd about the others."""
    known = reader.action_summary()
    if known is None:
        return ["actions      nothing but NaN"]
    table = zip(known.low, known.high, known.mean, known.std)
    lines = ["actions      lowest   highest      mean  deviation"]
    lines += [_line(str(index), values) for index, values in enumerate(table)]
    if reader.action_space:
        lines.append(f"  made of {reader.action_space}")
    if reader.says_bounds:
        bounds = (f"{low:g} to {high:g}" for low, high in zip(reader.action_low, reader.action_high))
        lines.append(f"  the file gives the bounds {', '.join(bounds)}")
    still = [str(index) for index, (low, high) in enumerate(zip(known.low, known.high)) if low == high]
    if still:
        lines.append(f"  component {', '.join(still)} never changes: it is planned at that value")
    remark = reader.taken.remark(reader.path)
    if remark is not None:
        lines.append(f"  {remark}")
    bad = int(reader.bad_actions().sum())
    if bad:
        lines.append(f"  {bad} rows inside episodes hold NaN or infinity: they cannot be trained on")
    return lines


def _states(reader: EpisodeReader) -> list[str]:
    """Each component of the state, of the rows in which it is a finite number."""
    if "state" not in reader.columns:
        return []
    values = reader.read("state", 0, reader.num_frames).astype(np.float64)
    lines = ["states       lowest   highest      mean  deviation"]
    for name, column in zip(reader.state_names, values.T):
        known = column[np.isfinite(column)]
        if not len(known):
            lines.append(f"  {name:10.10s} nothing but NaN")
            continue
        lines.append(_line(name, (known.min(), known.max(), known.mean(), known.std())))
        if len(known) < len(column):
            lines[-1] += f"   {len(column) - len(known)} of {len(column)} rows are NaN or infinite"
    return lines


def _line(label: str, values: Iterable[float]) -> str:
    return f"  {label:10.10s} " + " ".join(f"{value:9.4g}" for value in values)


def _told(text: str, value: Any) -> str:
    return "" if value is None else text.format(printable(value))


def _disk_size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def contact_sheet(reader: EpisodeReader) -> Image.Image:
    """Frames of up to four episodes, a row each, evenly spread over its time; they fill the picture."""
    chosen = np.unique(np.linspace(0, len(reader.lengths) - 1, SHEET_ROWS).astype(int)).tolist()
    height, width = reader.read("pixels", 0, 1).shape[1:3]
    scale = SHEET_SIDE / max(height, width)
    width, height = max(1, round(scale * width)), max(1, round(scale * height))
    size = SHEET_COLUMNS * (width + SHEET_GAP) - SHEET_GAP, len(chosen) * (height + SHEET_GAP) - SHEET_GAP
    sheet = Image.new("RGB", size, "white")
    for line, episode in enumerate(chosen):
        times = np.linspace(0, reader.lengths[episode] - 1, SHEET_COLUMNS).astype(int)
        for column, frame in enumerate(reader.read_rows("pixels", reader.offsets[episode] + times)):
            resample = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
            picture = Image.fromarray(frame).resize((width, height), resample)
            sheet.paste(picture, (column * (width + SHEET_GAP), line * (height + SHEET_GAP)))
    return sheet


def _sheet_path(reader: EpisodeReader, wanted: Path | None) -> Path:
    """A name that is free: the one asked for, or one after the recording's in the working folder."""
    if wanted is not None:
        if wanted.exists():
            raise RecordingError(f"{wanted} is there already: choose another name with --out")
        return wanted
    names = (f"{reader.path.resolve().stem}-frames{number}.png" for number in ["", *range(2, 1000)])
    return next(path for path in map(Path, names) if not path.exists())


def add_recording_options(parser: argparse.ArgumentParser) -> None:
    """The recording, and what it calls its columns."""
    parser.add_argument("recording", type=Path, help="HDF5 file or folder")
    parser.add_argument("--camera", help="what the recording calls its frames")
    parser.add_argument("--action", help="what it calls its actions")
    parser.add_argument("--state", help="what it calls its states")
    parser.add_argument(
        "--cameras",
        type=lambda text: text.split(","),
        metavar="front,wrist",
        help="several cameras instead of one, the first of which becomes pixels",
    )
    parser.add_argument("--proprio", help="what it calls the robot's own vector")
    parser.add_argument("--action-space", help="what an action is made of, as 'Discrete(4)'")


def open_as_asked(args: argparse.Namespace) -> EpisodeReader:
    """The recording named on a command line with `add_recording_options`; its hints name these options."""
    try:
        names = ("camera", "action", "state", "cameras", "proprio", "action_space")
        return EpisodeReader(args.recording, **{name: getattr(args, name) for name in names})
    except RecordingError as error:
        sentence = re.sub(r"\bdata\.(cameras?|action|state|proprio)\b=?", r"--\1", str(error))
        raise RecordingError(sentence) from error


def main(words: Sequence[str] | None = None) -> int:
    """The program; returns 0, 2 on a user error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="latent-planner inspect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_recording_options(parser)
    parser.add_argument("--out", type=Path, help="picture to write (default: NAME-frames.png)")
    args = parser.parse_args(words)
    with in_words(RecordingError) as outcome, open_as_asked(args) as reader:
        path = _sheet_path(reader, args.out)
        print(described(reader))
        with beside(path) as temporary:
            contact_sheet(reader).save(temporary, format="PNG")
        print(f"{path}: frames of {min(len(reader.lengths), SHEET_ROWS)} episodes")
    return outcome.code
