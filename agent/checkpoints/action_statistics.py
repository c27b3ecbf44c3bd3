"""What z-scoring needs to know of recorded actions, read from where it is written down.

A model's actions are z-scored, so its weights mean nothing without the mean and the standard deviation of the
actions it learned from. They are in every recording, and in the statistics that other programs write.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latent_planner.common import actions as recorded_actions
from latent_planner.common import hdf5_files
from latent_planner.common.bounded import read_json
from latent_planner.common.printable import printable

from .checkpoint import CheckpointError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ActionStatistics:
    """(A,) numbers each, in environment units; low and high only where the source says them."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: tuple[float, ...] | None = None
    high: tuple[float, ...] | None = None

    def settings(self) -> dict[str, Any]:
        """As `checkpoints.lewm.from_lewm` takes them: action_mean, action_std, action_low, action_high."""
        return {f"action_{name}": value for name, value in vars(self).items()}


def read(path: str | Path) -> ActionStatistics:
    """The statistics of a recording's actions, or statistics given as such.

    path: an HDF5 recording with a column `action`; a LeRobot folder, or its `meta/stats.json`; or any JSON
    file that holds {"mean": […], "std": […]}, at its top or under "action".

    Of a recording only the actions that were taken count (latent_planner.common.actions), and the deviation
    is that of the whole population, as the published evaluation computes it. CheckpointError for anything
    else, with what is wrong.
    """
    path = Path(path)
    source = path / "meta" / "stats.json" if path.is_dir() else path
    if not source.is_file():
        raise CheckpointError(
            f"There are no action statistics in {path}: give an HDF5 recording, a LeRobot folder, or a JSON "
            'file with {"mean": [...], "std": [...]}.'
        )
    with open(source, "rb") as file:
        is_hdf5 = file.read(8) == b"\x89HDF\r\n\x1a\n"
    return _of_recording(source) if is_hdf5 else _of_json(source)


def _of_json(path: Path) -> ActionStatistics:
    try:
        values = read_json(path)
        values = values.get("action", values)
        mean, std = (_numbers(values[name]) for name in ("mean", "std"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
        raise CheckpointError(
            f"{path} does not say what the actions are: it must be a recording, or JSON with "
            '{"mean": [...], "std": [...]}, at its top or under "action".'
        ) from None
    if len(mean) != len(std) or not mean:
        raise CheckpointError(f"{path} gives {len(mean)} means and {len(std)} deviations: give as many.")
    return ActionStatistics(mean, tuple(s if s > 0 else 1.0 for s in std))


def _of_recording(path: Path) -> ActionStatistics:
    import h5py

    with suppress(ImportError):
        import hdf5plugin  # noqa: F401  (an extra; makes h5py read more kinds of compression)
    try:
        with h5py.File(path, "r", locking="best-effort") as file:
            found = hdf5_files.columns(file)
            if "action" not in found:
                listed = ", ".join(printable(name) for name in file)
                raise CheckpointError(f"{path} has no column 'action'; its columns are: {listed}.")
            actions, *episodes = (_column(path, found, name) for name in ("action", "ep_len", "ep_offset"))
            said = hdf5_files.attributes(path, file)
    except CheckpointError:
        raise
    except Exception as error:  # the library raises whatever a damaged file leads to
        reason = printable(str(error).partition("(")[0].strip())
        raise CheckpointError(
            f"The actions in {path} cannot be read ({reason}): if it was packed with Blosc, pip install "
            "'latent-planner[hdf5]'; otherwise copy the file again."
        ) from error
    actions = actions.reshape(len(actions), -1)
    lengths, offsets = (None if some is None else some.reshape(-1) for some in episodes)
    try:
        taken = recorded_actions.taken(actions, lengths, offsets)
    except (ValueError, IndexError) as error:
        raise CheckpointError(f"The episodes of {path} do not fit its rows: copy the file again.") from error
    if not taken.rows.any():
        raise CheckpointError(f"{path} holds no actions, a row of numbers a frame: choose another recording.")
    remark = taken.remark(path)
    if remark is not None:
        logger.warning(remark)
    known = recorded_actions.summarised(actions[taken.rows])
    bounds = recorded_actions.said_bounds(said.get("action_low"), said.get("action_high"), actions.shape[1])
    low, high = (None, None) if bounds is None else map(_numbers, bounds)
    return ActionStatistics(known.mean, known.std, low, high)


def _column(path: Path, found: dict[str, Any], name: str) -> Any:
    """A small column's numbers, float64 for the actions; None where there is none."""
    if name not in found:
        return None
    hdf5_files.check_size(name, found[name], path.stat().st_size)
    hdf5_files.check_filled(name, found[name])
    hdf5_files.check_packing(name, found[name])
    values = np.asarray(found[name][()])
    if values.dtype.kind not in "fiub" or not values.ndim or not values.size:
        raise CheckpointError(f"{path} holds no {name}, a row of numbers a frame: choose another recording.")
    return values.astype(np.float64) if name == "action" else values.astype(np.int64)


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in np.asarray(values, np.float64).reshape(-1))
