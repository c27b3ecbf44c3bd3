"""Published LeWorldModel checkpoints (arXiv 2603.19312), to and from ours.

    latent-planner lewm weights.pt --env pusht --actions pusht_expert_train.h5 --out runs/lewm-pusht

reads a published state dict and writes an ordinary checkpoint. A published file holds weights alone; what
z-scored actions mean stands in the recording they were learned from, or in a file of statistics (see
`action_statistics`). As functions: `from_lewm`, `to_lewm`. No pickle is trusted with more than tensors.
"""

from __future__ import annotations

import argparse
import hashlib
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from latent_planner.common.bounded import check_archive
from latent_planner.common.commands import in_words
from latent_planner.common.printable import printable

from ..model.world_model import WorldModel, WorldModelConfig
from . import action_statistics, checkpoint, hub
from .checkpoint import CheckpointError
from .lewm_names import SETTINGS, from_lewm_keys, newer_spelling, to_lewm_keys
from .tensors import as_float32, not_finite, oddity

# How LeWM plans: the whole plan is carried out before the next. Our planners keep inside the action bounds.
PLANNER: dict[str, Any] = {
    "name": "cem",
    "objective": "last",
    "horizon": 5,
    "replan_every": 5,
    "num_samples": 300,
    "num_elites": 30,
    "iterations": 30,
    "init_std": 1.0,
    "min_std": 0.0,
    "noise_correlation": 0.0,
    "warm_start": True,
}
WEIGHTS = ("weights.pt", "weights.safetensors", "model.safetensors")  # as published folders call them
FIRST_KEY = "embeddings.cls_token"  # of the encoder: finds the prefix that a training program put before all
CONTAINERS = ("state_dict", "model_state_dict", "model", "module", "weights")  # of training checkpoints
WRAPPERS = ("_orig_mod", "module")  # words in names, of torch.compile and DataParallel
AVERAGED = re.compile(
    r"(^|[._])(ema|averaged?|teacher|target|shadow|swa)([._]|$)"
)  # of a copy of the weights
LOSS = "sigreg."  # what the loss keeps, which no model needs
PACKED = 4  # times a file's size that may come out of it
TOLD = 12  # names in one error, of each kind


def from_lewm(
    state_dict: Mapping[str, Tensor],
    *,
    env: str,
    action_mean: Sequence[float],
    action_std: Sequence[float],
    frameskip: int = 5,
    action_low: Sequence[float] | None = None,
    action_high: Sequence[float] | None = None,
) -> WorldModel:
    """The world model, in evaluation mode, that these published weights are.

    state_dict: published names in either spelling of the vision transformer's, perhaps behind a prefix such
    as "model.".   env: the world they were trained in.   action_*: (A,) numbers in its units; the bounds are
    −1 and 1 unless given.   frameskip: environment actions in one block.

    Raises CheckpointError that lists, by name, weights that are missing, extra, misshapen or not finite.
    """
    size = len(action_mean)
    try:
        config = WorldModelConfig(
            env=env,
            action_mean=tuple(action_mean),
            action_std=tuple(action_std),
            action_low=tuple([-1.0] * size if action_low is None else action_low),
            action_high=tuple([1.0] * size if action_high is None else action_high),
            reference_look=True,
            **{**SETTINGS, "frameskip": frameskip},
        )
    except ValueError as error:
        raise CheckpointError(f"These action statistics cannot be used: {error}") from error
    with torch.random.fork_rng(devices=[]):
        world_model = WorldModel(config)
    state = newer_spelling(_without_wrappers(state_dict))
    _check(state, to_lewm_keys(world_model.state_dict()), config)
    world_model.load_state_dict(from_lewm_keys(state))
    return world_model.eval()


def to_lewm(world_model: WorldModel) -> dict[str, Tensor]:
    """The weights under their published names (newer spelling), for models of the published shape.

    Copies on the CPU, in an order of their own. CheckpointError for a model that LeWM has no names for.
    """
    config = world_model.config
    if config.encoder != "vit" or config.predictor != "lewm":
        raise CheckpointError(
            f"Only models with encoder=vit and predictor=lewm have published names, and this one has "
            f"encoder={config.encoder} and predictor={config.predictor}: train one with model=lewm."
        )
    if any(
        abs(a - b) > 1e-6
        for key in ("pixel_mean", "pixel_std")
        for a, b in zip(getattr(config, key), SETTINGS[key])
    ):
        raise CheckpointError(
            f"These weights expect pixels of mean {config.pixel_mean} and deviation {config.pixel_std}, and "
            "LeWM's programs normalise with ImageNet's: train with model=lewm, which does too."
        )
    state = {name: value.detach().cpu().clone() for name, value in world_model.state_dict().items()}
    return to_lewm_keys(state)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a .pt, .ckpt or .safetensors file; of a training checkpoint, the one in CONTAINERS.

    Nothing in the file is run: a pickle that needs more than tensors and plain containers is refused.
    Raises CheckpointError.
    """
    path = _weights_file(Path(path))
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except Exception as error:  # the library raises nearly every type on damaged files
            raise CheckpointError(f"{path} is not a safetensors file: copy it again.") from error
    found_state = _unpickled(path)
    inside = [found_state.get(name) for name in CONTAINERS] if isinstance(found_state, Mapping) else []
    found_state = next((found for found in (found_state, *inside) if _is_state(found)), None)
    if found_state is None:
        raise CheckpointError(
            f"{path} holds no state dict, names with tensors, at its top or under {', '.join(CONTAINERS)}: "
            "give the file of the weights."
        )
    return {str(name): value for name, value in found_state.items()}


def read_folder(
    folder: str | Path, *, env: str | None, actions: str | Path | Any | None
) -> tuple[WorldModel, dict[str, Any]]:
    """The model in a folder of published weights, and how LeWM plans, as `checkpoint.load` gives them.

    env, actions: what the weights do not say: the world, and a recording, statistics or a pair (mean, std).
    Raises CheckpointError.
    """
    if env is None or actions is None:
        raise CheckpointError(
            f"{folder} holds published LeWM weights, which do not say which world or actions they mean: give "
            "env= and actions= (a recording, or statistics), or convert them once with latent-planner lewm."
        )
    if isinstance(actions, (str, Path)):
        statistics = action_statistics.read(actions).settings()
    else:
        statistics = dict(zip(("action_mean", "action_std"), actions))
    path = _weights_file(Path(folder))
    world_model = from_lewm(read_weights(path), env=env, **statistics)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return world_model, {"planner": dict(PLANNER), "training": {}, "sha256": digest, "path": str(folder)}


def _weights_file(path: Path) -> Path:
    """The file itself, or the one in a folder."""
    if path.is_dir():
        found = [path / name for name in WEIGHTS if (path / name).is_file()]
        if not found:
            raise CheckpointError(f"There are no weights in {path}: give the file, usually weights.pt.")
        return found[0]
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}: give published weights, usually weights.pt.")
    return path


def _unpickled(path: Path) -> Any:
    try:
        if zipfile.is_zipfile(path):  # torch packs nothing: larger means that somebody else did
            check_archive(path, PACKED * path.stat().st_size + 2**20)
        with warnings.catch_warnings(action="ignore"):  # about pickles in general
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        told = re.search(r"(?:GLOBAL|global|class|type) ([A-Za-z_][\w.]*\.[\w.]+)", str(error))
        wanted = told[1] if told else _first_global(path)
        if wanted is None:
            raise CheckpointError(f"{path} is not a file of weights, or cut off: copy it again.") from error
        raise CheckpointError(
            f"{path} is a pickle that would run code when opened (it asks for {wanted}), so it stays "
            "closed: get the plain state dict, usually weights.pt, or save model.state_dict() where you "
            "trust the file."
        ) from error
    except Exception as error:  # torch raises nearly every type on damaged files
        raise CheckpointError(f"{path} is not a file of weights, or cut off: copy it again.") from error


def _is_state(found: Any) -> bool:
    """Whether this is names with tensors."""
    return isinstance(found, Mapping) and all(isinstance(value, Tensor) for value in found.values())


def _first_global(path: Path) -> str | None:
    """The first thing that a bare pickle asks for beside plain data; it is read, not run."""
    words: list[str] = []
    with open(path, "rb") as file, suppress(Exception):  # a damaged one asks for nothing
        for code, argument, _ in pickletools.genops(file):
            if code.name == "GLOBAL":
                return str(argument).replace(" ", ".")
            if code.name == "STACK_GLOBAL":
                return ".".join(words[-2:])
            if isinstance(argument, str):
                words.append(argument)
    return None


def _without_wrappers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The model's own weights under their own names.

    torch.compile and DataParallel put a word of theirs anywhere into a name, a training program puts its name
    before all, and keeps a running average or what the loss needs next to them.
    """
    plain = {
        ".".join(part for part in str(name).split(".") if part not in WRAPPERS): value
        for name, value in sorted(state.items(), key=lambda item: -len(str(item[0])))  # the shortest counts
    }
    first = f"encoder.{FIRST_KEY}"
    prefixes = [name.removesuffix(first) for name in plain if name == first or name.endswith(f".{first}")]
    prefix = min(prefixes, key=lambda name: (AVERAGED.search(name) is not None, len(name)), default="")
    copies = tuple(other for other in prefixes if other not in prefix)
    found = {
        name.removeprefix(prefix): value
        for name, value in plain.items()
        if name.startswith(prefix) and not name.startswith(copies)
    }
    return {name: value for name, value in found.items() if not name.startswith(LOSS)}


def _check(state: Mapping[str, Tensor], expected: Mapping[str, Tensor], config: WorldModelConfig) -> None:
    """Raise CheckpointError unless names and shapes are those expected, and all numbers finite."""
    odd = [f"{printable(name)} ({why})" for name, value in state.items() if (why := oddity(value))]
    if odd:
        raise CheckpointError(
            f"Weights that are no plain numbers: {_listed(odd)}; save the state dict again."
        )
    size, block = state.get("action_encoder.patch_embed.weight"), config.block_dim
    if size is not None and size.ndim == 3 and size.shape[1] != block:
        raise CheckpointError(
            f"These weights take action blocks of {size.shape[1]} numbers, but frameskip {config.frameskip} "
            f"times {config.action_dim} action components is {block}: give their frameskip and statistics."
        )
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    misshapen = [
        f"{name} {shapes[name]} instead of {tuple(value.shape)}"
        for name, value in expected.items()
        if name in shapes and shapes[name] != tuple(value.shape)
    ]
    wrong = {
        "missing": [name for name in expected if name not in state],
        "extra": [printable(name) for name in state if name not in expected],
        "misshapen": misshapen,
    }
    told = [f"{kind}: {_listed(names)}" for kind, names in wrong.items() if names]
    if told:
        raise CheckpointError(f"These are not the weights of a published LeWM; {'; '.join(told)}.")
    broken = not_finite(as_float32(state))
    if broken:
        raise CheckpointError(f"Weights that are not finite: {_listed(broken)}; copy the file again.")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - TOLD} more" if len(names) > TOLD else ""
    return ", ".join(names[:TOLD]) + more


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="latent-planner lewm", description="Make a checkpoint of published LeWM weights."
    )
    add = parser.add_argument
    add("weights", help="weights.pt, .safetensors, a training checkpoint, or hf://owner/name")
    add("--env", required=True, help="the world they were trained in, as in pusht")
    add("--actions", required=True, metavar="FILE", help="the recording they learned from, or statistics")
    add("--out", required=True, type=Path, help="folder to write, as in runs/lewm-pusht")
    add("--frameskip", type=int, default=5, help="world actions in one block (default 5)")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """The command line. Returns 0, 2 on a user error, 130 after Ctrl-C."""
    args = _arguments(words)
    with in_words(CheckpointError) as outcome:
        if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
            raise CheckpointError(f"{args.out} is there already: choose another folder with --out.")
        source = hub.fetch(args.weights) if hub.is_remote(args.weights) else Path(args.weights)
        known = action_statistics.read(args.actions)
        world_model = from_lewm(
            read_weights(source), env=args.env, frameskip=args.frameskip, **known.settings()
        )
        checkpoint.save(world_model, args.out, planner=PLANNER, training={"converted_from": args.weights})
    if outcome.code:
        return outcome.code
    count = sum(parameter.numel() for parameter in world_model.parameters()) / 1e6
    mean, std = (", ".join(f"{v:.4g}" for v in values) for values in (known.mean, known.std))
    print(f"{args.out}: {count:.2f} million parameters; actions have mean {mean} and deviation {std}")
    print(f"next: python plan.py --benchmark --checkpoint {args.out} --pairs 10")
    return 0
