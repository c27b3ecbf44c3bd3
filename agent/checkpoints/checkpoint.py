"""Checkpoints: a folder with `model.safetensors` and `config.json`, and nothing that could run code.

    save(world_model, "runs/a", planner={"name": "cem", "objective": "closest", "horizon": 5})
    world_model, info = load("runs/a")          # a folder, a bundled name such as "pusht", or hf://owner/name

config.json carries everything that changes a score, and the SHA-256 of the weights it belongs to. The file of
weights, in turn, holds the SHA-256 of the settings (SEAL); older checkpoints have none. Two files cannot be
replaced at once, so a save first leaves the new config as `config.next.json`, then replaces the weights (from
here on the new checkpoint stands), then moves the config to its place. `load` takes whichever config the
weights match: a save killed at any moment leaves the old checkpoint or the new one.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from latent_planner.common.bounded import parse_json, read_json
from latent_planner.common.files import flush, write_bytes, write_text
from latent_planner.common.printable import printable

from ..model.threads import at_most
from ..model.world_model import WorldModel, WorldModelConfig
from ..settings import AgentSettings
from .tensors import as_float32, halved, not_finite, oddity

FORMAT, VERSION = "latent-planner", 1
WEIGHTS, CONFIG, NEXT_CONFIG = "model.safetensors", "config.json", "config.next.json"
SEAL = "settings_sha256"  # in the header of the weights: of "model" and "planner" in CONFIG
LARGEST_CONFIG = 16 << 20  # bytes
KEYS = {"format", "version", "model", "planner", "sha256", "training"}


class CheckpointError(ValueError):
    """A checkpoint cannot be found, read, trusted or written; the message says why and what to do."""


def save(
    world_model: WorldModel,
    folder: str | Path,
    *,
    planner: AgentSettings | Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> Path:
    """Write the checkpoint into folder (made if needed; other files in it stay) and return the folder.

    planner: how this model plans best, as AgentSettings or as its `from_dict` takes it; default {}.
    training: metrics, free.
    CheckpointError for weights that are not finite or unknown planner settings: nothing is written then.
    """
    folder = Path(folder)
    planner = planner.to_dict() if isinstance(planner, AgentSettings) else dict(planner or {})
    agent_settings(planner)
    state = {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in world_model.state_dict().items()
    }
    broken = not_finite(state)
    if broken:
        raise CheckpointError(f"The weights {broken[0]!r} are not finite: nothing was saved to {folder}.")
    settings = _plain({"model": world_model.config.to_dict(), "planner": planner})
    data = save_safetensors(halved(state), metadata={SEAL: _seal(settings)})
    config = {
        "format": FORMAT,
        "version": VERSION,
        **settings,
        "sha256": hashlib.sha256(data).hexdigest(),
        "training": dict(training or {}),
    }
    text = json.dumps(_plain(config), indent=2, allow_nan=False) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / NEXT_CONFIG, text)
    write_bytes(folder / WEIGHTS, data)
    os.replace(folder / NEXT_CONFIG, folder / CONFIG)
    flush(folder)
    return folder


def files(folder: str | Path) -> list[Path]:
    """What a save writes in folder."""
    return [Path(folder) / name for name in (WEIGHTS, CONFIG, NEXT_CONFIG)]


def load(
    name_or_path: str | Path,
    device: torch.device | str = "cpu",
    *,
    env: str | None = None,
    actions: Any = None,
    frames_alone: bool = False,
) -> tuple[WorldModel, dict[str, Any]]:
    """The world model on device, in evaluation mode, and its config.json as a dict, with "path" added.

    env, actions: of published LeWM weights, which say neither, the world, and a recording, statistics or a
    pair (mean, std) of (A,) numbers; of no meaning for ours.
    frames_alone: whether it may be a model that has learned from frames alone and knows no actions yet.

    Raises CheckpointError when the checkpoint is missing, cut off, changed, of another program or a newer
    version, holds weights that are not finite or do not fit its config, or knows no actions.
    """
    folder = find(name_or_path)
    if _is_published(folder):
        from . import lewm  # which writes checkpoints itself

        world_model, info = lewm.read_folder(folder, env=env, actions=actions)
        return world_model.to(device), info
    with at_most(1):  # hundreds of small operations, which a second thread only delays
        world_model, info = _built(folder)
    if world_model.config.latent_actions and not frames_alone:
        raise CheckpointError(
            f"{folder} has learned from frames alone and knows no actions, so it cannot plan: teach it some "
            f"with python train.py start={folder} and a recording where some episodes have actions."
        )
    return world_model.to(device).eval(), {**info, "path": str(folder)}


def _built(folder: Path) -> tuple[WorldModel, dict[str, Any]]:
    """The world model in folder, on the CPU, and its config.json."""
    data, info = _read(folder)
    state, seal = _tensors(data, folder)
    try:
        config = WorldModelConfig.from_dict(info["model"])
        check_depth(config, state)
        with torch.device("meta"):  # asks for no memory: do the shapes fit those of the weights?
            expected = WorldModel(config).state_dict()
    except Exception as error:  # any setting may have any value
        raise CheckpointError(
            f"The model config in {folder / CONFIG} cannot be used: {printable(error, 400)}"
        ) from error
    agent_settings(info["planner"], where=folder / CONFIG)
    state = _checked(state, expected, folder)
    if seal not in (None, _seal(info)):
        raise CheckpointError(
            f"The settings in {folder / CONFIG} are not those that the checkpoint was saved with: one was "
            "changed or is damaged; copy or train the checkpoint again."
        )
    with torch.random.fork_rng(
        devices=[]
    ):  # the first weights are thrown away: leave the caller's stream alone
        world_model = WorldModel(config)
    world_model.load_state_dict(state)
    return world_model, info


def agent_settings(planner: Mapping[str, Any], *, where: Path | None = None) -> AgentSettings:
    """How to plan, from a checkpoint's "planner" (`AgentSettings.to_dict`, or a part of it). CheckpointError
    for anything unknown, saying `where`."""
    try:
        return AgentSettings.from_dict(planner)
    except Exception as error:  # any setting may have any value
        told = printable(error, 400)
        raise CheckpointError(
            f"The planner settings{f' in {where}' if where else ''} are wrong: {told}"
        ) from error


def bundled() -> list[str]:
    """Names of the checkpoints that come with the package."""
    home = _home()
    return (
        sorted(entry.name for entry in home.iterdir() if (entry / CONFIG).is_file()) if home.is_dir() else []
    )


def find(name_or_path: str | Path) -> Path:
    """The folder of a bundled name, of a folder, or of a file in one; CheckpointError if there is none.

    A bundled name comes before a folder of the same name: write ./name for the folder. hf://owner/name is
    fetched from the hub, see latent_planner.checkpoints.hub.
    """
    from . import hub  # whose errors are ours

    if hub.is_remote(name_or_path):
        return hub.fetch(str(name_or_path))
    names = bundled()
    if str(name_or_path) in names:
        return _home() / str(name_or_path)
    path = Path(name_or_path)
    if path.is_dir():
        return path
    if path.is_file() and path.name in (WEIGHTS, CONFIG):
        return path.parent
    raise CheckpointError(
        f"There is no checkpoint {str(name_or_path)!r}: give the folder of a run, "
        f"a bundled name ({', '.join(names) or 'none in this installation'}), or hf://owner/name."
    )


def _home() -> Path:
    return Path(str(resources.files("latent_planner"))) / "pretrained"


def _is_published(folder: Path) -> bool:
    """Whether these are LeWM weights as published: not in our format, and no config of ours beside them."""
    if (folder / "weights.pt").is_file() or (folder / "weights.safetensors").is_file():
        return not (folder / WEIGHTS).is_file()
    if not (folder / WEIGHTS).is_file() or not (folder / CONFIG).is_file():
        return False
    try:
        info = read_json(folder / CONFIG, LARGEST_CONFIG)
    except (OSError, ValueError):
        return False
    return isinstance(info, dict) and "format" not in info and "encoder" in info and "predictor" in info


def _read(folder: Path) -> tuple[bytes, dict[str, Any]]:
    """The bytes of the weights and the config that belongs to them."""
    weights = folder / WEIGHTS
    for _ in range(3):  # a training run may save while we read: look again before complaining
        if not weights.is_file():
            raise CheckpointError(
                f"{folder} holds no {WEIGHTS}: it is not a checkpoint, or its save never finished."
            )
        data = weights.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        for path in (folder / CONFIG, folder / NEXT_CONFIG):
            if path.is_file() and (info := _parse(path))["sha256"] == digest:
                return data, info
    if not (folder / CONFIG).is_file():
        raise CheckpointError(
            f"{folder} holds no {CONFIG}: copy the whole folder of the run, not the weights alone."
        )
    raise CheckpointError(
        f"{weights} is not the file that {folder / CONFIG} was written for (its SHA-256 differs): "
        "it is cut off, damaged or exchanged; copy or train the checkpoint again."
    )


def _parse(path: Path) -> dict[str, Any]:
    try:
        info = read_json(path, LARGEST_CONFIG)
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} is not readable JSON, perhaps cut off: copy the checkpoint again."
        ) from error
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} was not written by this program: give a checkpoint that train.py made."
        )
    if info.get("version") != VERSION:
        raise CheckpointError(
            f"{path} has format version {printable(info.get('version'), 20)} but this program reads "
            f"{VERSION}: update it."
        )
    if set(info) != KEYS:
        odd = printable(", ".join(sorted(set(info) ^ KEYS)))
        raise CheckpointError(f"{path} has missing or unknown entries ({odd}): copy the checkpoint again.")
    for key in ("model", "planner", "training"):
        if not isinstance(info[key], dict):
            raise CheckpointError(f"{key!r} in {path} must be an object: copy the checkpoint again.")
    return info


def _tensors(data: bytes, folder: Path) -> tuple[dict[str, Tensor], str | None]:
    """The weights, and the seal of the settings that they were saved with; None in older checkpoints."""
    try:
        state = load_safetensors(data)
        header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")])  # after its own length
        return state, (header.get("__metadata__") or {}).get(SEAL)
    except Exception as error:  # the library raises nearly every type on damaged files
        raise CheckpointError(
            f"{folder / WEIGHTS} is not a safetensors file: copy the checkpoint again."
        ) from error


def check_depth(config: WorldModelConfig, state: Mapping[str, Tensor]) -> None:
    """ValueError when a model has more blocks than there are weights: to build it would take for ever."""
    depth = config.predictor_depth + (config.encoder_depth if config.encoder == "vit" else 0)
    if depth > len(state):
        raise ValueError(f"it asks for {depth} blocks, and there are {len(state)} weights in all.")


def _checked(state: dict[str, Tensor], expected: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    """The weights in the types that the model has; CheckpointError unless they are its, and finite."""
    shapes = {name: tuple(value.shape) for name, value in expected.items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    for name in sorted(set(shapes) | set(found)):
        if shapes.get(name) != found.get(name):
            raise CheckpointError(
                f"The weights in {folder} do not fit its config: '{printable(name)}' is "
                f"{found.get(name, 'absent')} instead of {shapes.get(name, 'absent')}; give weights and "
                "config of the same run."
            )
        odd = oddity(state[name])
        if odd is None and expected[name].is_floating_point() and not state[name].is_floating_point():
            odd = f"of the type {str(state[name].dtype).removeprefix('torch.')}"
        if odd is not None:
            raise CheckpointError(f"The weights {name!r} in {folder} are {odd}: copy the checkpoint again.")
    state = as_float32(state)
    broken = not_finite(state)
    if broken:
        raise CheckpointError(f"The weights {broken[0]!r} in {folder} are not finite: train the model again.")
    return state


def _seal(info: Mapping[str, Any]) -> str:
    """SHA-256 of the settings that change what an agent does."""
    settings = {key: info[key] for key in ("model", "planner")}
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """What JSON can hold: arrays and tuples as lists, paths as text, numbers that are not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (np.ndarray, np.generic, Tensor)):
        return _plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
