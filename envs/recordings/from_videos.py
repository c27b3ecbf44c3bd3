"""Make a recording to train on from a folder of videos and a table of actions.

    latent-planner from-videos FOLDER actions.csv my.h5
    latent-planner from-videos FOLDER actions.csv my.h5 --cameras front,wrist    # FOLDER/front, FOLDER/wrist

The table has one row for each frame to be taken, and these columns:

    video      (or episode) the video's name in FOLDER, with or without its ending; one video is one episode
    frame      number of the frame, from 0; or time, seconds from the video's start; without either, the rows
               of a video are its frames from the first to the last
    state…     every column whose name begins with "state": other quantities known at that moment (optional)
    proprio…   every column whose name begins so: the robot's own vector, which a model may see (optional)
    the rest   the action that was taken after the frame, a column a component, in your own units

The rows of a video are in order of time, evenly spaced; the action of its last row is never used and may be
empty. Frames are squeezed into squares of --size pixels a side. Of several cameras, each has a folder of
videos with the same names, begun together. If it is stopped, the same command continues.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from latent_planner.common.commands import in_words
from latent_planner.common.progress import Bar, log_above_bars

from .action_table import ActionRows, Table, read_table
from .episodes import EpisodeWriter, RecordingError
from .formats.video import ENDINGS
from .formats.video import Video as _Video
from .senses import Senses

logger = logging.getLogger(__name__)
SIZE = 64  # of the default model's frames


def convert(
    folder: str | Path,
    table: str | Path,
    path: str | Path,
    *,
    size: int = SIZE,
    cameras: Sequence[str] = (),
    progress: bool = True,
) -> Path:
    """Write the recording `path` of the videos in `folder` and the actions in `table`; returns `path`.

    size: height and width of the recorded frames, pixels; 0 keeps the videos' own, which must then be equal.
    cameras: names of folders in `folder` with videos of the same names, the first of them read as `pixels`.

    Raises RecordingError, which says in one sentence what is wrong with which file; whole episodes are kept.
    """
    folder, read = Path(folder), read_table(Path(table))
    if size < 0:
        raise RecordingError(f"the size of frames is a number of pixels, 0 to keep them, not {size}")
    columns = Senses.of(None, list(cameras), None, keep=True).columns if cameras else {"": "pixels"}
    found = [_videos(folder / name, read) for name in columns]
    sizes, fps = zip(*map(_size, (videos[0] for videos in found)))
    attrs = {
        "image_size": size or sizes[0][0],
        "control_hz": _pace(read, fps[0]),
        "camera": cameras[0] if cameras else None,
        "proprio_names": [name.removeprefix("proprio_") for name in read.vector],
        "action_names": read.actions,
        "state_names": read.states,
        "table": hashlib.sha256(read.path.read_bytes()).hexdigest()[:12],  # another one is another recording
    }
    writer = EpisodeWriter(path, attrs={key: value for key, value in attrs.items() if value})
    try:
        todo = list(zip(read.episodes, *found))[writer.count :]
        for episode, *videos in Bar(
            todo, desc="reading videos", unit=" videos", disable=not progress, delay=2
        ):
            seen = [_frames(read, episode, video, size, shape) for video, shape in zip(videos, sizes)]
            _check_in_step(videos, seen)
            pixels = {column: frames for column, (frames, _) in zip(columns.values(), seen)}
            writer.append(pixels | _columns(read, episode, videos[0], len(pixels["pixels"])))
        writer.close(progress=progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; {writer.partial} keeps {writer.count} of {len(read.episodes)} episodes, and the same "
            "command goes on from there"
        ) from None
    finally:
        writer.abandon()
    return Path(path)


def _videos(folder: Path, table: Table) -> list[Path]:
    """The video of each episode, in this folder."""
    if not folder.is_dir():
        raise RecordingError(f"there is no folder {folder}: give the one that holds the videos")
    videos = [_find(folder, episode.video, table.path, episode.line) for episode in table.episodes]
    _tell_unused(folder, videos)
    return videos


def _size(video: Path) -> tuple[tuple[int, int], float]:
    """Height and width of its frames, and how many there are a second."""
    opened = _Video(video)
    size, fps = opened.size, opened.fps
    opened.close()
    return size, fps


def _frames(
    table: Table, episode: ActionRows, video: Path, size: int, shape: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The frames of an episode (T, h, w, 3), and when each was taken (T,), seconds from the video's start."""
    opened = _Video(video)
    wanted = episode.when
    if wanted is not None:
        wanted = opened.at(wanted) if table.clock == "time" else np.round(wanted).astype(np.int64)
        if wanted[0] < 0 or (np.diff(wanted) < 1).any():
            raise RecordingError(
                f"{table.path} line {episode.line} on ({episode.video}) gives the same frame twice, or one "
                f"before the first: {video.name} has {opened.fps:g} frames a second"
            )
    seconds = opened.seconds  # before its frames are read, which closes it
    pixels = opened.frames(wanted, size, shape)
    return pixels, (seconds if wanted is None else seconds[wanted]) - seconds[0]


def _check_in_step(videos: Sequence[Path], seen: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """RecordingError where what is shown together was taken more than a frame apart."""
    first, times = videos[0], seen[0][1]
    frame = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    for video, (_, own) in zip(videos[1:], seen[1:]):
        if len(own) != len(times):
            raise RecordingError(
                f"{video} gives {len(own)} frames and {first} {len(times)}: what is shown together must "
                "be of the same moments, so cut them alike, or say in a column which frame a row belongs to"
            )
        apart = np.flatnonzero(np.abs(own - times) > frame * (1 + 1e-6))
        if len(apart):
            off = float(own[apart[0]] - times[apart[0]])
            raise RecordingError(
                f"{video} is {abs(off):.2g} s {'ahead of' if off > 0 else 'behind'} {first} in row "
                f"{apart[0]} of the episode, more than a frame ({frame:.2g} s): give the column time"
            )


def _columns(table: Table, episode: ActionRows, video: Path, count: int) -> dict[str, np.ndarray]:
    """What goes with the `count` frames of an episode."""
    action = episode.action.astype(np.float32)
    others = {"state": episode.state, "proprio": episode.vector}
    known = {name: values.astype(np.float32) for name, values in others.items() if values.shape[1]}
    if count == len(action) + 1 and not known:  # no row for the last frame, which has no action
        action = np.concatenate([action, np.full((1, action.shape[1]), np.nan, np.float32)])
    if count != len(action):
        raise RecordingError(
            f"{video} has {count} frames and {table.path} {len(action)} rows for it: one row a frame "
            "is needed, or a column that says which frame a row belongs to"
        )
    if count < 2:
        raise RecordingError(
            f"{table.path} line {episode.line} is the only row of {episode.video}: give more"
        )
    return {"action": action, **known}


def _find(folder: Path, name: str, table: Path, line: int) -> Path:
    """The video called `name`, which lies in `folder`."""
    if name and Path(name).name == name:
        if (folder / name).is_file():
            if Path(name).suffix.lower() in ENDINGS:
                return folder / name
            raise RecordingError(
                f"{table} line {line} names {name!r}, whose ending is not that of a video: give one of "
                f"{', '.join(ENDINGS)}"
            )
        found = [
            path for path in sorted(folder.glob("*")) if path.stem == name and path.suffix.lower() in ENDINGS
        ]
        if len(found) == 1:
            return found[0]
        if found:
            raise RecordingError(
                f"{table} line {line} means {' or '.join(path.name for path in found)}: give the ending too"
            )
    raise RecordingError(f"{table} line {line} names the video {name!r}, and there is none in {folder}")


def _tell_unused(folder: Path, videos: list[Path]) -> None:
    unused = sorted(p.name for p in folder.glob("*") if p.suffix.lower() in ENDINGS and p not in videos)
    if unused:
        logger.warning(
            "%d videos have no rows in the table and are left out, such as %s", len(unused), unused[0]
        )


def _pace(table: Table, fps: float) -> float | None:
    """Recorded frames a second; None where nothing tells."""
    when = table.episodes[0].when
    step = 1.0 if when is None or len(when) < 2 else float(np.median(np.diff(when)))
    return round(1.0 / step, 3) if table.clock == "time" else (round(fps / step, 3) or None)


def main(words: Sequence[str] | None = None) -> int:
    """The program; returns 0, 2 on a user error, 130 after Ctrl-C."""
    log_above_bars("warning: %(message)s")
    parser = argparse.ArgumentParser(
        prog="latent-planner from-videos",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, help="where the videos are")
    parser.add_argument("table", type=Path, help="CSV file of actions")
    parser.add_argument("target", type=Path, help="HDF5 file to write")
    parser.add_argument(
        "--size", type=int, default=SIZE, help=f"pixels a side (default {SIZE}); 0 keeps them"
    )
    parser.add_argument("--cameras", help="several, as front,wrist: folders in FOLDER, one for each")
    args = parser.parse_args(words)
    with in_words(RecordingError) as outcome:
        cameras = args.cameras.split(",") if args.cameras else ()
        convert(args.folder, args.table, args.target, size=args.size, cameras=cameras)
        print(f"{args.target}: train on it with: python train.py env=recorded data.path={args.target}")
    return outcome.code
