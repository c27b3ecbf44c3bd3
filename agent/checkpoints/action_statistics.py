"""What z-scoring needs to know of recorded actions, read from where it is written down.

A model's actions are z-scored, so its weights mean nothing without the mean and the standard deviation of the
actions it learned from. They are in every recording, and in the statistics that other programs write.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .checkpoint import CheckpointError


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

    Of a recording, rows with NaN are left out and the deviation is that of the whole population, as the
    published evaluation computes it. CheckpointError for anything else, with what is wrong.
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
        values = json.loads(path.read_bytes())
        values = values.get("action", values)
        mean, std = (_numbers(values[name]) for name in ("mean", "std"))
    except (ValueError, KeyError, TypeError, AttributeError):
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
            if "action" not in file:
                raise CheckpointError(f"{path} has no column 'action'; its columns are: {', '.join(file)}.")
            actions = np.asarray(file["action"][()], np.float64)
            low, high = (_attribute(file.attrs.get(f"action_{name}")) for name in ("low", "high"))
    except (OSError, RuntimeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"The actions in {path} cannot be read ({str(error).partition('(')[0].strip()}): if it was "
            "packed with Blosc, pip install 'latent-planner[hdf5]'; otherwise copy the file again."
        ) from error
    actions = actions[np.isfinite(actions).all(axis=-1)] if actions.ndim == 2 else actions[:0]
    if not len(actions):
        raise CheckpointError(f"{path} holds no actions, a row of numbers a frame: choose another recording.")
    std = actions.std(axis=0)
    return ActionStatistics(_numbers(actions.mean(axis=0)), _numbers(np.where(std > 0, std, 1.0)), low, high)


def _attribute(value: Any) -> tuple[float, ...] | None:
    return None if value is None else _numbers(value)


def _numbers(values: Any) -> tuple[float, ...]:
    return tuple(float(value) for value in np.asarray(values, np.float64).reshape(-1))
