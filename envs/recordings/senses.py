"""What of a recording a model is to see: several cameras and a vector of the robot's own, by name.

A recording has one camera as the column `pixels` and more as `pixels_<name>`; LeRobot calls them
`observation.images.<name>`. Outside they go by the name alone. The vector, joint angles for example, is the
column `proprio`, or whatever the recording calls it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from latent_planner.common.printable import printable

from .journal import RecordingError

PREFIXES = ("pixels_", "observation.images.", "observation.image.")
VECTOR = "proprio"
TIME = "time_"  # before a camera's name: when its frames were taken, seconds
LOOK = "pixels_look"  # the same frames in another look, where the recording's attribute `vary` says of which
NO_CAMERAS = (LOOK.removeprefix(PREFIXES[0]), VECTOR)


@dataclass(frozen=True)
class Senses:
    """cameras: name -> what the recording calls it, the first of them read as `pixels`.   vector: likewise.

    Nothing of both: one camera, which has no name.
    """

    cameras: Mapping[str, str]
    vector: str | None

    @classmethod
    def of(
        cls, camera: str | None, cameras: Sequence[str] | None, vector: str | None, *, keep: bool = False
    ) -> Senses:
        """From settings; RecordingError for those that contradict each other.

        keep: of `cameras`, keep the name where there is one alone.
        """
        if cameras is not None and camera is not None:
            raise RecordingError("say data.camera, one of them, or data.cameras, several, and not both")
        wanted = list(cameras) if cameras is not None else [camera or "pixels"]
        named = {short(word): word for word in wanted}
        if not wanted or len(named) < len(wanted) or set(NO_CAMERAS) & set(named):
            raise RecordingError(f"data.cameras must be different names of cameras, not {printable(wanted)}")
        if len(named) == 1 and vector is None and not (keep and cameras is not None):
            return cls({}, None)
        return cls(named, vector)

    @property
    def columns(self) -> dict[str, str]:
        """Of each camera, the column that it is read as."""
        return {name: "pixels" if i == 0 else f"pixels_{name}" for i, name in enumerate(self.cameras)}

    @property
    def keys(self) -> dict[str, str]:
        """Of each column, what the recording calls it."""
        found = {column: self.cameras[name] for name, column in self.columns.items()}
        return found | ({} if self.vector is None else {VECTOR: self.vector})


def look_column(attrs: Mapping[str, Any], columns: Mapping[str, Any]) -> str | None:
    """LOOK where the recording says that it has a second look."""
    return LOOK if "vary" in attrs and LOOK in columns else None


def short(word: str) -> str:
    """The name of a camera without what recordings put in front of it."""
    for prefix in PREFIXES:
        if word.startswith(prefix) and len(word) > len(prefix):
            return word.removeprefix(prefix)
    return word


def spellings(word: str) -> tuple[str, ...]:
    """What a recording may call the camera of this name."""
    return (word, *(prefix + word for prefix in PREFIXES))


def vector_names(
    attrs: Mapping[str, Any], vector: str, size: int, state_names: Sequence[str]
) -> tuple[str, ...]:
    """Names of the vector's components: as the recording says, those of its state where that is the vector,
    or numbered."""
    names = attrs.get("proprio_names")
    if names is None and vector in ("state", "observation.state") and len(state_names) == size:
        names = list(state_names)
    if not isinstance(names, list) or len(names) != size or not all(isinstance(name, str) for name in names):
        return tuple(f"proprio_{i}" for i in range(size))
    shown = tuple(printable(name, 80) for name in names)
    return shown if len(set(shown)) == size else tuple(f"proprio_{i}" for i in range(size))


def check_in_step(path: Any, columns: Mapping[str, Any], senses: Senses, rate: Any) -> None:
    """RecordingError where a recording says, in columns time_<camera> (N,), when frames were taken, and two
    that are shown together were taken more than a frame apart.

    rate: frames a second; None where it is not known: then the times of the first camera say.
    """
    stamps = {name: columns[TIME + name] for name in senses.cameras if TIME + name in columns}
    if len(stamps) < 2:
        return
    times = {name: _numbers(column) for name, column in stamps.items()}
    first, *others = times
    steps = np.diff(times[first])
    known = isinstance(rate, (int, float)) and rate > 0
    frame = 1 / rate if known else float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
    for name in others:
        apart = np.flatnonzero(~(np.abs(times[name] - times[first]) <= frame * (1 + 1e-6)))
        if len(apart):
            off = float(times[name][apart[0]] - times[first][apart[0]])
            raise RecordingError(
                f"{path} has {TIME + name} {off:+.2g} s from {TIME + first} in row {apart[0]}, more than a "
                f"frame ({frame:.2g} s): what is shown together must be of the same moment"
            )


def _numbers(column: Any) -> np.ndarray:
    out = np.empty(column.shape, column.dtype)
    column.read(np.arange(column.shape[0]), out)
    return out.astype(float).reshape(len(out), -1)[:, 0]


def checked(path: Any, columns: Mapping[str, Any], senses: Senses) -> None:
    """RecordingError, which names the column, unless all that is asked for is there and fits together."""
    for column, key in senses.keys.items():
        if column not in columns:
            raise RecordingError(f"{path} has no {key!r}; its columns are: {', '.join(columns)}")
        found = columns[column]
        picture = found.dtype == np.uint8 and len(found.shape) == 4 and found.shape[3] == 3
        vector = found.dtype.kind in "fiub" and len(found.shape) == 2 and found.shape[1] > 0
        if not (vector if column == VECTOR else picture):
            wanted = "numbers (N, P)" if column == VECTOR else "frames, uint8 (N, H, W, 3)"
            raise RecordingError(
                f"{path} has {key!r} as {found.dtype} {tuple(found.shape)}, and it must be {wanted}"
            )
        if found.shape[0] != columns["pixels"].shape[0]:
            raise RecordingError(
                f"{path} has {columns['pixels'].shape[0]} rows of pixels and {found.shape[0]} of {key!r}: "
                "record it again"
            )
