"""What a training run needs to go on after it stopped: one file of tensors and JSON, and the rows it logged.

The state is one safetensors file (weights, optimizer moments, and the rest as JSON in its header), written
beside its target and renamed: at any moment there is exactly one good state, and reading it runs no code.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from latent_planner.common.files import beside, write_bytes

FORMAT = 1


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


def load_state(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Put a saved state into `model` and `optimizer`, in place, and return its values.

    Raises TrainingError, before anything is changed, when the file is damaged or belongs to another model.
    """
    try:
        with safe_open(path, framework="pt") as file:
            values = json.loads(file.metadata()["state"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} is damaged or no training state: delete it to start anew") from error
    if values.pop("format", None) != FORMAT:
        raise TrainingError(f"{path} was saved by another version of this program: delete it to start anew")
    weights = {name[len("model.") :]: value for name, value in tensors.items() if name.startswith("model.")}
    ours = {name: value.shape for name, value in model.state_dict().items()}
    if ours != {name: value.shape for name, value in weights.items()}:
        raise TrainingError(f"{path} belongs to another model: resume with the settings of that run")
    model.load_state_dict(weights)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments: dict[int, dict[str, torch.Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, entry = name.split(".", 2)
            like = parameters[int(index)]
            if value.shape == like.shape:  # keep the strides of the parameter
                value = torch.empty_like(like, device="cpu", requires_grad=False).copy_(value)
            moments.setdefault(int(index), {})[entry] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    return values


class MetricsFile:
    """metrics.jsonl: one JSON object a line, each written out before the next step begins."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row."""
        with self.path.open("a") as file:
            file.write(json.dumps(row) + "\n")

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
        with beside(self.path) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")
