"""What a training run needs to go on after it stopped: one file of tensors and JSON, and the rows it logged.

The state is one safetensors file (weights, optimizer moments, and the rest as JSON in its header), written
beside its target and renamed: at any moment there is exactly one good state, and reading it runs no code.
"""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import nn

from latent_planner.common.files import (
    append_line,
    blame,
    lock,
    open_to_change,
    refuse_links,
    write_bytes,
    write_text,
)
from latent_planner.common.printable import printable

FORMAT = 1
LOCK = ".lock"  # in the run folder: whoever trains there holds it
# What a state holds beside tensors: a count where it says int, else a number, or the one that it says.
VALUES: dict[str, Any] = {
    "step": int,
    "seconds": float,
    "best": {"success": -math.inf, "step": int},
    "evaluated": {"step": int, "seconds": float, "took": float},
    "watch": {"effective rank": float, "standard deviation": float},
}
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # of AdamW, for each parameter
LATER = ("proposer.",)  # what begins so may have had no gradient yet
_LOCKED: set[Path] = set()  # folders that this process trains in


class TrainingError(ValueError):
    """A run cannot start or go on; the message says why and what to do."""


def save_state(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, values: Mapping[str, Any]
) -> None:
    """Write weights, optimizer state and `values` (what JSON can hold) to `path`, whole or not at all."""
    tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
    for index, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": value for name, value in entries.items()}
    tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, save(tensors, metadata={"state": json.dumps({"format": FORMAT, **values})}))


def load_state(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    form: Mapping[str, Any] | None = None,
    still: tuple[str, ...] = LATER,
) -> dict[str, Any]:
    """Put a saved state into `model` and `optimizer`, in place, and return its values.

    form: what those must be, such as VALUES; unchecked without it.
    still: how the names of parameters begin that may have had no gradient.

    Raises TrainingError, before anything is changed, when the file is damaged or belongs to another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except Exception as error:  # the library and JSON raise nearly every type on damaged files
        raise TrainingError(f"{path} is damaged or no training state: delete it to start anew") from error
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise TrainingError(f"{path} was saved by another version of this program: delete it to start anew")
    if form is not None and not _are_of_form(values, form):
        raise TrainingError(f"{path} holds values that no training saved: delete it to start anew")
    weights = {name[len("model.") :]: value for name, value in tensors.items() if name.startswith("model.")}
    if _kinds(weights) != _kinds(model.state_dict()):
        raise TrainingError(f"{path} belongs to another model: resume with the settings of that run")
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    moments = _moments(path, tensors, optimizer)
    parameters = (p for group in optimizer.param_groups for p in group["params"])
    for index, parameter in enumerate(parameters):
        if values.get("step") and index not in moments and not names[id(parameter)].startswith(still):
            raise TrainingError(
                f"{path} lacks the moments of {names[id(parameter)]}: delete it to start anew"
            )
    broken = [name for name, value in tensors.items() if not value.isfinite().all()]
    if broken:
        raise TrainingError(
            f"{path} holds numbers that are not finite in {broken[0]}: delete it to start anew"
        )
    model.load_state_dict(weights)
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return values


def _are_of_form(values: Any, form: Any) -> bool:
    """Whether values have the names of `form` and no others, with counts where it has int, and so on."""
    if isinstance(form, Mapping):
        same = isinstance(values, dict) and set(values) == set(form)
        return same and all(_are_of_form(values[name], kind) for name, kind in form.items())
    if isinstance(values, bool) or not isinstance(values, (int, float)):
        return False
    if form is int:
        return isinstance(values, int) and 0 <= values < 2**53
    least = 0.0 if form is float else -1e12
    return least <= values <= 1e12 or values == form


def _kinds(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (value.shape, value.dtype) for name, value in tensors.items()}


def _moments(
    path: Path, tensors: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer
) -> dict[int, dict[str, torch.Tensor]]:
    """What AdamW knows of each parameter, by its number. TrainingError unless it is all there.

    A parameter that has never had a gradient has nothing; the others have all of MOMENTS.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    found: dict[int, dict[str, torch.Tensor]] = {}
    for index, like in enumerate(parameters):
        entries = {name: tensors.get(f"optimizer.{index}.{name}") for name in MOMENTS}
        if all(value is None for value in entries.values()):
            continue
        found[index] = {}
        for name, value in entries.items():
            shape = torch.Size([]) if name == "step" else like.shape
            if value is None or value.shape != shape or value.dtype != torch.float32:
                raise TrainingError(
                    f"{path} holds no {name} of parameter {index} that fits: delete it to start anew"
                )
            if shape:  # keep the strides of the parameter
                value = torch.empty_like(like, device="cpu", requires_grad=False).copy_(value)
            found[index][name] = value
    names = {f"optimizer.{index}.{name}" for index in found for name in MOMENTS}
    odd = [name for name in tensors if not name.startswith("model.") and name not in names]
    if odd:
        raise TrainingError(
            f"{path} holds {printable(odd[0])}, which is no part of a training state: delete it"
        )
    return found


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Keep other processes from training in `folder`, which is made if needed, until the block ends.

    The system lifts the lock when this process dies, however that happens. The process that has it may enter
    again. TrainingError when another process has it, and when the folder holds links: nothing is written
    through those, and a run's own files are none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = folder.resolve()
    if key in _LOCKED:
        yield
        return
    try:
        refuse_links(folder)
        file = open_to_change(folder / LOCK, os.O_RDWR)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise TrainingError(blame(error)) from error
    try:
        if not lock(file):
            raise TrainingError(
                f"another process is training in {folder}: wait for it, or choose another folder"
            )
        _LOCKED.add(key)
        yield
    finally:
        _LOCKED.discard(key)
        os.close(file)


class MetricsFile:
    """metrics.jsonl: one JSON object a line, each written out before the next step begins."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row."""
        append_line(self.path, json.dumps(row))

    def keep_until(self, step: int) -> None:
        """Drop rows of later steps, which a resumed run logs again, and a last line that was cut off."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            at = row.get("step", 0) if isinstance(row, dict) else None
            if isinstance(at, (int, float)) and at <= step:
                kept.append(line + "\n")
        write_text(self.path, "".join(kept))
