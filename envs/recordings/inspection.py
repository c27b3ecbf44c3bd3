"""Inspect a recording: `latent-planner inspect A` describes it and draws some of its frames.

A is an HDF5 file of ours or of others, a LeRobot folder, or what stable-worldmodel and robomimic write.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from latent_planner.common.commands import in_words
from latent_planner.common.files import beside

from .episodes import EpisodeReader
from .journal import RecordingError

SHEET_ROWS, SHEET_COLUMNS, SHEET_SIDE, SHEET_GAP = 4, 8, 112, 4  # episodes, frames of each, pixels


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


def add_recording_options(parser: argparse.ArgumentParser) -> None:
    """The recording, and what it calls its columns."""
    parser.add_argument("recording", type=Path, help="HDF5 file or folder")
    parser.add_argument("--camera", help="what the recording calls its frames")
    parser.add_argument("--action", help="what it calls its actions")
    parser.add_argument("--state", help="what it calls its states")


def open_as_asked(args: argparse.Namespace) -> EpisodeReader:
    """The recording named on a command line with `add_recording_options`."""
    return EpisodeReader(args.recording, camera=args.camera, action=args.action, state=args.state)


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
