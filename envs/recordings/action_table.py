"""The table of actions that goes with a folder of videos; see from_videos for what is in it."""

from __future__ import annotations

import csv
import io
import logging
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latent_planner.common.files import read_bytes

from .formats.names import is_clock, runs_like_a_clock
from .journal import RecordingError

logger = logging.getLogger(__name__)
NAMES, WHEN = ("video", "episode"), ("frame", "time")


@dataclass
class ActionRows:
    """The rows of one video: `when` (T,) are frames or seconds, None where every frame is meant."""

    video: str
    line: int  # of the table, for messages
    when: np.ndarray | None
    action: np.ndarray  # (T, A)
    state: np.ndarray  # (T, S), S may be 0
    vector: np.ndarray  # (T, P), the robot's own; P may be 0


@dataclass
class Table:
    """What the table says."""

    path: Path
    clock: str | None  # "frame", "time" or None
    actions: list[str]
    states: list[str]
    vector: list[str]
    episodes: list[ActionRows]


def read_table(path: Path) -> Table:
    """Read and check the table; RecordingError names the line that is wrong."""
    try:
        reader = csv.reader(io.StringIO(read_bytes(path).decode("utf-8-sig"), newline=""))
        rows = [(reader.line_num, row) for row in reader if any(row)]
    except FileNotFoundError:
        raise RecordingError(f"there is no file {path}: give the table of actions") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(
            f"{path} is no table of comma-separated text ({error}): save it as CSV"
        ) from error
    if len(rows) < 2:
        raise RecordingError(f"{path} holds no rows under a header: one row for each frame is needed")
    header = [name.strip() for name in rows[0][1]]
    name, clock, actions, states, vector = _header(path, header)
    groups: dict[str, list[tuple[int, list[float]]]] = {}
    numbers = [*([clock] if clock else []), *actions, *states, *vector]
    last: str | None = None
    for line, row in rows[1:]:
        if len(row) != len(header):
            raise RecordingError(
                f"{path} line {line} has {len(row)} fields, and the header has {len(header)}"
            )
        fields = dict(zip(header, row))
        video = fields[name].strip()
        if video != last and video in groups:
            raise RecordingError(
                f"{path} line {line} comes back to {video}: keep the rows of a video together"
            )
        last = video
        groups.setdefault(video, []).append(
            (line, [_number(path, line, key, fields[key]) for key in numbers])
        )
    sizes = len(actions), len(states)
    found = [_episode(path, video, some, clock, sizes) for video, some in groups.items()]
    _tell_clocks(path, actions, found)
    return Table(path, clock, actions, states, vector, found)


def _header(path: Path, header: list[str]) -> tuple[str, str | None, list[str], list[str], list[str]]:
    """Names of the column of videos, that of frames or times, of the actions, the states and the vector."""
    if len(header) == 1 and (";" in header[0] or "\t" in header[0]):
        raise RecordingError(f"{path} is separated by something else than commas: save it with commas")
    names, clocks = [n for n in header if n in NAMES], [n for n in header if n in WHEN]
    if len(set(header)) < len(header) or "" in header:
        raise RecordingError(f"{path} has a header with equal or empty names: {', '.join(header)}")
    if len(names) != 1 or len(clocks) > 1:
        raise RecordingError(
            f"{path} needs one column called video or episode, and frame or time but not both; its columns "
            f"are {', '.join(header)}"
        )
    rest = [name for name in header if name not in (*names, *clocks)]
    states = [name for name in rest if name.startswith("state")]
    vector = [name for name in rest if name.startswith("proprio")]
    actions = [name for name in rest if name not in (*states, *vector)]
    if not actions:
        raise RecordingError(f"{path} has no column of actions; its columns are {', '.join(header)}")
    counting = [name for name in actions if is_clock(name)]
    if counting:
        raise RecordingError(
            f"{path} has a column {counting[0]!r}, which by its name is a clock or a counter and no action: "
            "leave it out, call it time (seconds from the video's start) or frame (from 0), or, if it is an "
            "action after all, give it another name"
        )
    return names[0], clocks[0] if clocks else None, actions, states, vector


def _tell_clocks(path: Path, actions: list[str], episodes: list[ActionRows]) -> None:
    """Warn of actions that go up with every row, whatever they are called."""
    for number, name in enumerate(actions):
        if runs_like_a_clock([episode.action[:-1, number] for episode in episodes]):
            logger.warning(
                "%s: the column %r goes up with every row, as a clock or a counter does: leave it out unless "
                "it is an action",
                path, name,
            )  # fmt: skip


def _number(path: Path, line: int, key: str, text: str) -> float:
    try:
        return float(text) if text.strip() else math.nan
    except ValueError:
        raise RecordingError(f"{path} line {line} has {key} = {text!r}, which is no number") from None


def _episode(
    path: Path, video: str, rows: list[tuple[int, list[float]]], clock: str | None, sizes: tuple[int, int]
) -> ActionRows:
    """Checked: finite numbers, but for the last action; even times.   sizes: of the action and the state."""
    lines, values = [line for line, _ in rows], np.array([values for _, values in rows], np.float64)
    when = values[:, 0] if clock else None
    action, state, vector = np.split(values[:, 1 if clock else 0 :], np.cumsum(sizes), axis=1)
    for what, part in (
        ("an action", action[:-1]),
        ("a state", state),
        ("a number of the vector", vector),
        (f"a {clock}", values[:, : 1 if clock else 0]),
    ):
        bad = np.flatnonzero(~np.isfinite(part).all(axis=1))
        if len(bad):
            raise RecordingError(
                f"{path} line {lines[bad[0]]} ({video}) has {what} that is missing or no finite number: "
                "only the action of a video's last row may be"
            )
    if when is not None and len(when) > 1:
        gaps = np.diff(when)
        uneven = np.flatnonzero((gaps <= 0) | (np.abs(gaps - np.median(gaps)) > 0.5 * np.median(gaps)))
        if len(uneven):
            raise RecordingError(
                f"{path} line {lines[uneven[0] + 1]} ({video}) has {clock} {when[uneven[0] + 1]:g} after "
                f"{when[uneven[0]]:g}: rows must go on evenly in time, so leave no step out"
            )
    return ActionRows(video, lines[0], when, action, state, vector)
