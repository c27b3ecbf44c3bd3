"""The policy in a Stable-Baselines3 file, as plain numbers.

Such a file is a zip with pickles in it, and loading it as its own library does would run whatever they say.
So only two things are read: the weights (`policy.pth`, by torch with weights_only=True), and those words of
`data` (JSON) that say which activation the network has; its pickled parts are left alone. The actor is then
rebuilt: PPO and A2C (tanh unless said otherwise, actions in the environment's units), SAC, TD3 and DDPG
(relu, then tanh, shares of the box). Layout of the files: stable-baselines3.readthedocs.io, "On saving and
loading".
"""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latent_planner.common.bounded import check_archive, parse_json
from latent_planner.common.files import beside, blame, read_bytes
from latent_planner.common.printable import printable

from .tensors import oddity

WEIGHTS, WORDS = "policy.pth", "data"
LARGEST = 256 << 20  # bytes of weights, and of words
LARGEST_FILE = 4 * LARGEST  # with the optimizer's numbers, which are not read
PACKED = 4  # times their size that may come out of the weights: torch packs nothing


class PolicyFileError(ValueError):
    """A Stable-Baselines3 file cannot be used; the message says why and what to do."""


def convert(path: str | Path, folder: Path) -> Path:
    """Write the actor of the file at `path` as an .npz (weight_0, bias_0, …, kinds) in `folder`; its path.

    The name says the content, so the same policy gives the same file. Raises PolicyFileError.
    """
    layers, kinds = read(path)
    digest = hashlib.sha256()
    for layer in layers:
        for values in layer:
            digest.update(values.tobytes())
    target = folder / f"policy-{digest.hexdigest()[:12]}.npz"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = {"kinds": np.array(kinds)}
        for i, (weight, bias) in enumerate(layers):
            arrays |= {f"weight_{i}": weight, f"bias_{i}": bias}
        with beside(target) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
    return target


def read(path: str | Path) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[str]]:
    """The actor's layers, (weight (out, in), bias (out,)) each, and what follows each: tanh, relu or none."""
    path = Path(path)
    try:
        return _read(path)
    except PolicyFileError:
        raise
    except FileNotFoundError:
        raise PolicyFileError(
            f"there is no file {path}: give the model.save(…) file of Stable-Baselines3"
        ) from None
    except Exception as error:  # zip, JSON and torch raise nearly every type on files that are none of ours
        reason = printable(blame(error)) if isinstance(error, OSError) else type(error).__name__
        raise PolicyFileError(
            f"{path} is no model of Stable-Baselines3 that can be read ({reason}): save it again"
        ) from error


def _read(path: Path) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[str]]:
    weights, words = _members(path)
    check_archive(io.BytesIO(weights), PACKED * len(weights) + 2**20)
    state = torch.load(io.BytesIO(weights), map_location="cpu", weights_only=True)
    layers, kinds = [], []
    for key, kind in _actor(path, state, _activation(parse_json(words))):
        layers.append((_numbers(path, state, f"{key}.weight", 2), _numbers(path, state, f"{key}.bias", 1)))
        kinds.append(kind)
    sizes = [weight.shape for weight, _ in layers]
    chained = all(after[1] == before[0] for before, after in zip(sizes, sizes[1:]))
    if not chained or any(bias.shape != weight.shape[:1] for weight, bias in layers):
        raise PolicyFileError(f"{path} has an actor that is no plain chain of layers: only those are read")
    return layers, kinds


def _members(path: Path) -> tuple[bytes, bytes]:
    """The weights and the words, none larger than LARGEST."""
    with zipfile.ZipFile(io.BytesIO(read_bytes(path, LARGEST_FILE))) as archive:
        for name in (WEIGHTS, WORDS):
            if archive.getinfo(name).file_size > LARGEST:
                what = "weights" if name == WEIGHTS else "words about them"
                raise PolicyFileError(
                    f"{path} holds more than {LARGEST >> 20} MB of {what}: no policy of numbers is so large"
                )
        return archive.read(WEIGHTS), archive.read(WORDS)


def _numbers(path: Path, state: Mapping[str, Any], name: str, axes: int) -> np.ndarray:
    """A weight or bias as float32."""
    value: Any = state.get(name, "nothing")
    odd = oddity(value) or (f"of {value.ndim} axes" if value.ndim != axes or not value.numel() else None)
    if odd is None and not value.is_floating_point():
        odd = "of whole numbers"
    if odd is None and not value.float().isfinite().all():
        odd = "not finite"
    if odd is not None:
        raise PolicyFileError(f"{path} has a {name} that is {odd}: save the model again")
    found: np.ndarray = value.detach().float().numpy()
    return found


def _actor(path: Path, state: Any, activation: str | None) -> list[tuple[str, str]]:
    """Names of the actor's layers in order, and what follows each."""
    if not isinstance(state, Mapping):
        raise PolicyFileError(f"{path} holds no weights by name: save the model again")
    keys = {str(key) for key in state}
    if any(".cnn." in key or "extractors." in key for key in keys):
        raise PolicyFileError(f"{path} is a policy of pictures or of several inputs: only vectors are read")
    if "action_net.weight" in keys:  # PPO, A2C
        hidden = _numbered(keys, "mlp_extractor.policy_net") or _numbered(keys, "mlp_extractor.shared_net")
        return [*((key, activation or "tanh") for key in hidden), ("action_net", "none")]
    if "actor.mu.weight" in keys:  # SAC
        return [
            *((key, activation or "relu") for key in _numbered(keys, "actor.latent_pi")),
            ("actor.mu", "tanh"),
        ]
    chain = _numbered(keys, "actor.mu")  # TD3, DDPG
    if not chain:
        raise PolicyFileError(f"{path} holds no actor of PPO, A2C, SAC, TD3 or DDPG")
    return [*((key, activation or "relu") for key in chain[:-1]), (chain[-1], "tanh")]


def _numbered(keys: set[str], start: str) -> list[str]:
    """Layers `start`.0, `start`.2, … that have weights, in order."""
    found = (re.fullmatch(re.escape(start) + r"\.(\d+)\.weight", key) for key in keys)
    return [f"{start}.{number}" for number in sorted(int(match[1]) for match in found if match)]


def _activation(words: Any) -> str | None:
    """What the file's plain words say: "tanh", "relu", or None where they say nothing of it."""
    kwargs = words.get("policy_kwargs") if isinstance(words, dict) else None
    named = str(kwargs.get("activation_fn", "")) if isinstance(kwargs, dict) else ""
    for kind in ("Tanh", "ReLU"):
        if re.search(rf"\b{kind}\b", named):
            return kind.lower()
    if named:
        raise PolicyFileError(f"the policy's activation is {named}: only tanh and relu are read")
    return None
