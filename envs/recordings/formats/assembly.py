"""What the readers of all layouts share: which camera, which episodes, which columns."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..columns import Memory
from ..hdf5 import Column
from ..journal import RecordingError
from .names import is_clock

logger = logging.getLogger(__name__)


def choose_camera(path: Path, found: Sequence[str], wanted: str | None) -> str:
    """The camera that was asked for, or the only one; else the one called `pixels`."""
    if wanted in found:
        return str(wanted)
    if wanted is not None:
        raise RecordingError(f"{path} has no camera {wanted!r}: choose data.camera from {listed(found)}")
    if len(found) == 1 or "pixels" in found:
        return found[0] if len(found) == 1 else "pixels"
    raise RecordingError(f"{path} has {len(found)} cameras: say data.camera= one of {listed(found)}")


def name_columns(
    path: Path, values: Mapping[str, np.ndarray], keys: Mapping[str, str], defaults: Mapping[str, str]
) -> dict[str, Column]:
    """The columns of numbers (N, ...), `action` and perhaps `state` as floats, the others under their names.

    keys: what the recording calls action and state, where the user says so.   defaults: where not; a state is
    left out if it is not there.
    """
    names = dict(defaults) | {name: key for name, key in keys.items() if name != "pixels"}
    for name, key in list(names.items()):
        if key in values and not (name == "action" and is_clock(key)):
            continue
        if name == "state" and "state" not in keys:
            del names["state"]
            continue
        usable = listed(other for other in values if not is_clock(other))
        kind = "a clock or a counter called" if key in values else "no numbers called"
        raise RecordingError(f"{path} has {kind} {key!r}: choose data.{name} from {usable}")
    columns: dict[str, Column] = {
        name: Memory(array) for name, array in values.items() if name not in names.values()
    }
    return columns | {name: Memory(floats(values[key])) for name, key in names.items()}


def kept_episodes(path: Path, names: Sequence[object], dropped: Mapping[int, str]) -> np.ndarray:
    """(E,) bool, the episodes that are read; a warning says which are not, and why.

    names: what the recording calls each episode.   dropped: the place of an episode, and its reason.
    """
    kept = np.ones(len(names), bool)
    kept[list(dropped)] = False
    reasons = [f"episode {names[place]}: {why}" for place, why in sorted(dropped.items())]
    if not kept.any():
        raise RecordingError(f"{path} has no episode that is whole ({listed(reasons[:1])}): copy it again")
    if reasons:
        more = f" (and {len(reasons) - 3} more)" if len(reasons) > 3 else ""
        logger.warning(
            "%s: %d of %d episodes are left out: %s%s",
            path, len(reasons), len(kept), "; ".join(reasons[:3]), more,
        )  # fmt: skip
    return kept


def floats(values: np.ndarray) -> np.ndarray:
    """As float, a row a frame."""
    rows = values.reshape(len(values), -1)
    return rows if rows.dtype.kind == "f" else rows.astype(np.float32)


def listed(names: Iterable[object]) -> str:
    """Names with commas between them."""
    return ", ".join(str(name) for name in names) or "nothing"
