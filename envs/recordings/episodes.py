"""Recordings: whole episodes in, rows out.

    with EpisodeWriter("robot.h5", attrs={"env": "robot", "control_hz": 10}) as writer:
        writer.append({"pixels": pixels, "state": state, "action": action})     # (T, H, W, 3), (T, S), (T, A)

    reader = EpisodeReader("robot.h5")
    reader.read("pixels", 0, 100)                                               # rows 0 to 99

The file is HDF5: flat columns `pixels` uint8 (N, H, W, 3), `action` (N, A), `state` (N, S) and whatever else
was recorded, one row a frame, episodes one after the other; `ep_len` and `ep_offset` (E,) say where each
begins. An action is the one taken after its frame, and NaN in an episode's last row.

It stands under its name only when it is complete. Until then `robot.h5.partial` keeps the episodes so far,
whatever happens to the process that writes it.

Recordings of others are read as they are: HDF5 of the same layout, however it is packed, and what `formats`
reads (LeRobot folders, Lance tables, folders of stable-worldmodel, HDF5 of robomimic).

    latent-planner inspect robot.h5                what is in it, and a picture of some frames
    latent-planner convert lerobot_folder robot.h5
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from latent_planner.common import actions
from latent_planner.common.action_space import ActionSpace, ActionSpaceError
from latent_planner.common.files import beside, remove_leftovers
from latent_planner.common.printable import printable

from . import hdf5, senses
from .columns import Memory, map_file
from .journal import JournalWriter, RecordingError, encode, plain, scan
from .opening import existing, open_recording, partial_path
from .senses import Senses

__all__ = ["EpisodeReader", "EpisodeWriter", "RecordingError", "partial_path"]

logger = logging.getLogger(__name__)


class EpisodeWriter:
    """Records whole episodes into the HDF5 file `path`, which appears when the writer is closed.

    If an earlier writer of the same `path` and `attrs` did not come to its end, its complete episodes are
    kept and this one goes on after them: `count` says how many there are.

    Args:
        path: file to write; it must not exist yet.
        attrs: plain values about the whole recording: env, image_size, control_hz, state_names, angle_names
            (those of the state that are angles, radians), action_low, action_high (A,), seed, policy,
            action_space (what an action is made of where not of numbers alone, as
            latent_planner.common.action_space writes it; choices are recorded as whole numbers).

    As a context manager it is finished at the end of the block; after an exception the partial file stays.

    Raises:
        RecordingError: where `path` exists, an unfinished recording has other attributes, another process is
            writing it, or the disk is full; what was there stays.
    """

    def __init__(self, path: str | Path, *, attrs: Mapping[str, Any]) -> None:
        self.path, self.partial = Path(path), partial_path(path)
        self.attrs = plain(attrs)
        if self.path.exists():
            raise RecordingError(f"{self.path} exists already: delete it, or choose another file")
        with _explained(self.path, "cannot be written"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        self._journal = JournalWriter(self.partial, self.attrs)
        remove_leftovers(self.path)  # of a writer that died while finishing

    @property
    def count(self) -> int:
        """Complete episodes so far, those of earlier writers included."""
        return self._journal.count

    def append(self, columns: Mapping[str, Any]) -> None:
        """Add one whole episode: name -> array (T, ...), with at least `pixels` and `action`.

        The last action is never used and becomes NaN. Once this returns, the episode is safe from whatever
        happens to the process.
        """
        self.append_encoded(encode(columns))

    def append_encoded(self, record: bytes) -> None:
        """Add one episode that `envs.recordings.journal.encode` has made, perhaps in another process."""
        self._journal.append(record)

    def close(self, *, progress: bool = False) -> None:
        """Finish: write `path` and remove the partial file."""
        if self._journal.closed:
            return
        try:
            self._finish(progress)
        finally:
            self._journal.close()
        with suppress(OSError):
            self.partial.unlink()

    def abandon(self) -> None:
        """Stop and keep the partial file for a later writer."""
        self._journal.close()

    def _finish(self, progress: bool) -> None:
        if not self.count:
            raise RecordingError(f"{self.path} would hold no episodes: append at least one")
        view = map_file(self.partial)
        try:
            with _explained(self.partial, f"is complete, but {self.path} cannot be written"):
                _, episodes, end = scan(view, verify=True)
                if len(episodes) != self.count:
                    raise RecordingError(
                        f"{self.partial} is damaged after {end} bytes: record again from there on"
                    )
                lengths = np.array([episode.length for episode in episodes], np.int64)
                hdf5.check_room(self.path.parent, end, int(lengths.sum()))
                with beside(self.path) as target:
                    columns = hdf5.stored(episodes, view)
                    hdf5.write(target, self.attrs, lengths, columns, progress=progress)
        finally:
            with suppress(BufferError):  # an exception under way may still hold a part of it
                view.close()

    def __enter__(self) -> EpisodeWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


class EpisodeReader:
    """An open recording: a finished file of ours, an unfinished one, another file of the same layout, or a
    LeRobot folder.

    camera, action, state: what the recording calls the columns `pixels`, `action` and `state`, where these
    are not their names. Of a LeRobot folder with several cameras one must be chosen, or several:
    cameras: names of those to read, instead of `camera`; see envs.recordings.senses.
    named: whether one camera alone, given as `cameras`, keeps its name.
    proprio: what it calls the robot's own vector, where that is to be read.
    action_space: what an action is made of, where the recording does not say; see `EpisodeWriter`.
    actions: whether actions are read; without, rows have none (N, 0), whatever the recording holds.

    Usable from several threads and after a fork; pickled, it opens the file again. Where only `path`.partial
    exists, its complete episodes are read; so are those of a file whose end is missing. Both are warned of.

    Attributes:
        path: the file that is read.
        attrs: what the file says about itself; empty for most files of others.
        lengths, offsets: (E,) int64, rows of each episode and where they begin.
        columns: names of the columns, one row a frame.
        num_frames: rows of every column.
        complete: False for an unfinished or cut-off recording.

    Raises:
        RecordingError: where the file is missing or no such recording; the message says what is wrong.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        camera: str | None = None,
        action: str | None = None,
        state: str | None = None,
        cameras: Sequence[str] | None = None,
        proprio: str | None = None,
        action_space: str | None = None,
        named: bool = False,
        actions: bool = True,
    ) -> None:
        self.path = existing(Path(path))
        self._said = {
            "camera": camera, "action": action, "state": state, "cameras": cameras, "proprio": proprio,
            "action_space": action_space, "named": named, "actions": actions,
        }  # fmt: skip
        self._senses = Senses.of(camera, cameras, proprio, keep=named)
        keys = {**self._senses.keys, "pixels": cameras[0] if cameras else camera}
        keys |= {"action": action if actions else "", "state": state}
        self._keys = {name: key for name, key in keys.items() if key is not None}
        with _explained(self.path, "cannot be read"):
            opened, unfinished = open_recording(self.path, self._keys)
        self.complete = not unfinished and not opened.missing
        self.attrs, self.lengths, self.offsets = opened.attrs, opened.lengths, opened.offsets
        if action_space is not None:
            self.attrs = {**self.attrs, "action_space": action_space}
        self._columns = opened.columns
        if not actions:
            self.attrs = {key: value for key, value in self.attrs.items() if not key.startswith("action_")}
            nothing = Memory(np.zeros((opened.columns["pixels"].shape[0], 0), np.float32))
            self._columns = {**opened.columns, "action": nothing}
        if self._senses.cameras:
            senses.checked(self.path, opened.columns, self._senses)
            rate = self.attrs.get("control_hz")
            senses.check_in_step(self.path, opened.columns, self._senses, rate)
        self.columns = tuple(self._columns)
        self.num_frames = int(opened.columns["pixels"].shape[0])
        if not self.complete:
            self.num_frames = int((self.offsets + self.lengths).max())
            lost = f", {opened.missing} are lost" if opened.missing else ""
            logger.warning(
                "%s is not complete: reading its %d whole episodes%s", self.path, len(self.lengths), lost
            )

    def read(self, column: str, start: int, stop: int) -> np.ndarray:
        """Rows `start` to `stop` (not included) of a column, as a new array (stop - start, ...)."""
        if not 0 <= start <= stop <= self.num_frames:
            raise IndexError(f"rows {start} to {stop} of a recording of {self.num_frames}")
        return self.read_rows(column, np.arange(start, stop))

    def read_rows(self, column: str, rows: Any) -> np.ndarray:
        """The given rows (n,), in any order, as a new array (n, ...)."""
        source = self._column(column)
        rows = np.asarray(rows, np.int64)
        if rows.size and not (0 <= rows.min() and rows.max() < self.num_frames):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of a recording of {self.num_frames}")
        try:
            out = np.empty((len(rows), *source.shape[1:]), source.dtype)
        except MemoryError as error:
            size = len(rows) * int(np.prod(source.shape[1:], dtype=np.int64)) * source.dtype.itemsize
            raise RecordingError(
                f"{len(rows)} rows of {printable(column)} in {self.path} take {size / 1e9:,.1f} GB, more "
                "than this machine has: read fewer at a time"
            ) from error
        with _explained(self.path, f"has rows of {printable(column)} that cannot be read"):
            source.read(rows, out)
        return out

    @cached_property
    def taken(self) -> actions.Taken:
        """Which rows hold an action that was taken; only these count in bounds and statistics."""
        recorded = self.read("action", 0, self.num_frames)
        return actions.taken(recorded, self.lengths, self.offsets, space=self.action_space)

    @cached_property
    def action_space(self) -> ActionSpace:
        """What an action is made of. RecordingError where the file says so in words that mean nothing, or its
        actions have another number of components."""
        said = self.attrs.get("action_space", "")
        try:
            space = ActionSpace.parse(said)
        except ActionSpaceError as error:
            raise RecordingError(f"{self.path} has an action_space that is not understood: {error}") from None
        size = self._columns["action"].shape[1]
        if space and space.size != size:
            raise RecordingError(
                f"{self.path} says that its actions are {space}, {space.size} numbers, and they have {size}"
            )
        return space

    def action_summary(self) -> actions.Summary | None:
        """Mean, deviation and range of the actions that were taken; None where there are none."""
        rows = np.flatnonzero(self.taken.rows)
        return actions.summarised(self.read_rows("action", rows), self.action_space) if len(rows) else None

    def bad_actions(self) -> np.ndarray:
        """(N,) bool: the rows whose action is not finite though it is not an episode's last."""
        bad = ~np.isfinite(self.read("action", 0, self.num_frames)).all(axis=1)
        bad[self.offsets + self.lengths - 1] = False
        return bad

    def check_actions(self) -> None:
        """Raise RecordingError where an action inside an episode, its last row aside, is not finite."""
        bad = self.bad_actions()
        for episode, (start, length) in enumerate(zip(self.offsets.tolist(), self.lengths.tolist())):
            steps = np.flatnonzero(bad[start : start + length])
            if len(steps):
                raise RecordingError(
                    f"{self.path} has actions that are not finite numbers, the first in episode {episode} at "
                    f"step {steps[0]}: record that episode again or leave it out"
                )

    @property
    def env(self) -> str | None:
        """Name of the world that was recorded; None where the file does not say."""
        env = self.attrs.get("env")
        return env if isinstance(env, str) else None

    @property
    def image_size(self) -> int:
        """Height of the frames, which are square in recordings of ours."""
        return int(self._columns["pixels"].shape[1])

    @cached_property
    def state_names(self) -> tuple[str, ...]:
        """Different names of the state's components, on one line each; numbered where the file has none."""
        names = self.attrs.get("state_names")
        size = self._columns["state"].shape[1] if "state" in self._columns else 0
        if not isinstance(names, list) or len(names) != size:
            names = [None] * size
        found: list[str] = []
        for index, name in enumerate(names):
            shown = printable(name, 80) if isinstance(name, str) and name.strip() else f"state_{index}"
            found.append(shown if shown not in found else f"{shown}_{index}")
        return tuple(found)

    @property
    def cameras(self) -> dict[str, str]:
        """Of each camera that was asked for, its column; empty where it is one alone, without a vector."""
        return self._senses.columns

    @property
    def look_column(self) -> str | None:
        """The column that shows every frame in another look, `pixels_look`, where the recording has one.

        `attrs` say what it was drawn from: `vary`, `vary_families`, `vary_version`.
        """
        return senses.look_column(self.attrs, self._columns)

    @cached_property
    def proprio_names(self) -> tuple[str, ...]:
        """Names of the vector's components; empty where none was asked for."""
        if self._senses.vector is None:
            return ()
        size = int(self._columns[senses.VECTOR].shape[1])
        return senses.vector_names(self.attrs, self._senses.vector, size, self.state_names)

    @property
    def angle_names(self) -> tuple[str, ...]:
        """Those of the state names that are angles in radians."""
        names = self.attrs.get("angle_names")
        known = {printable(name, 80) for name in names} if isinstance(names, list) else set()
        return tuple(name for name in self.state_names if name in known)

    @property
    def action_low(self) -> np.ndarray:
        """Lower bounds of the actions, float32 (A,); where the file has none, the smallest taken."""
        return self._bounds[0]

    @property
    def action_high(self) -> np.ndarray:
        """Upper bounds of the actions, float32 (A,); where the file has none, the largest taken."""
        return self._bounds[1]

    @property
    def says_bounds(self) -> bool:
        """Whether the file itself gives the bounds of the actions."""
        return self._said_bounds is not None

    def close(self) -> None:
        """Let go of the file. Arrays that were read stay."""
        for column in self._columns.values():
            getattr(column, "close", lambda: None)()
        self._columns = {}

    def __enter__(self) -> EpisodeReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path, self._said)

    def _column(self, name: str) -> hdf5.Column:
        if name not in self._columns:
            found = ", ".join(self._columns) or "none, as the reader is closed"
            raise RecordingError(f"{self.path} has no column {name!r}; its columns are: {found}")
        return self._columns[name]

    @cached_property
    def _said_bounds(self) -> tuple[np.ndarray, np.ndarray] | None:
        low, high = self.attrs.get("action_low"), self.attrs.get("action_high")
        found = actions.said_bounds(low, high, self._columns["action"].shape[1])
        if found is None and (low is not None or high is not None):
            logger.warning(
                "%s: action_low and action_high are no bounds of its actions, so the smallest and largest "
                "actions that were taken are used", self.path
            )  # fmt: skip
        return found

    @cached_property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        if self._said_bounds is not None:
            return self._said_bounds
        known, size = self.action_summary(), self._columns["action"].shape[1]
        nothing = np.full(size, np.nan, np.float32)
        space = self.action_space
        if known is None and not space.choices:
            return nothing, nothing
        low, high = (nothing, nothing) if known is None else (known.low, known.high)
        if space.choices:  # all that there are, chosen or not
            chosen, first = np.array(space.choices) > 0, np.array(space.first)
            low = np.where(chosen, first, low)
            high = np.where(chosen, first + np.array(space.choices) - 1, high)
        return np.asarray(low, np.float32), np.asarray(high, np.float32)


def _reopened(path: Path, said: dict[str, Any]) -> EpisodeReader:
    return EpisodeReader(path, **said)


@contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    """Turn whatever the system or a library raises into one sentence."""
    try:
        yield
    except RecordingError:
        raise
    except Exception as error:
        number = getattr(error, "errno", None)
        reason = os.strerror(number) if number else str(error).partition("(")[0].strip()
        advice = "make room and try again" if number == errno.ENOSPC else "check the disk and try again"
        if not isinstance(error, OSError):
            advice = "it may be damaged: copy or record it again"
        reason = printable(reason or type(error).__name__)
        raise RecordingError(f"{path} {what} ({reason}): {advice}") from error
