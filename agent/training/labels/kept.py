"""Inferred actions in a run folder, so that a run goes on with those that it began with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from latent_planner.common.files import write_bytes

from ..run_state import TrainingError

FILE = "actions.safetensors"


def keep(folder: Path, actions: np.ndarray) -> None:
    """Leave the actions (N, A) in the folder."""
    write_bytes(folder / FILE, save({"action": actions.astype(np.float32)}))


def kept(folder: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The actions of this shape (N, A) that were left there; None without them. TrainingError where they are
    damaged, or of another recording."""
    path, again = folder / FILE, "delete it, and the actions are inferred again"
    if not path.exists():
        return None
    try:
        actions = load(path.read_bytes())["action"]
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        raise TrainingError(f"{path} is damaged: {again}") from error
    if actions.shape != shape or actions.dtype != np.float32:
        raise TrainingError(f"{path} is of another recording: {again}")
    return actions
