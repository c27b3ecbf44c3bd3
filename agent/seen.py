"""What an agent of several cameras is shown, checked: a picture of each and the robot's own vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from latent_planner.common.printable import printable
from latent_planner.planners import PlanError

from .model.senses import VECTOR
from .pixels import FRAMES_AT_ONCE, checked_frames

if TYPE_CHECKING:
    from .model.world_model import WorldModel, WorldModelConfig

PREFIX = "pixels_"  # before a camera's name, in observations as recordings have them


class Seen:
    """Views of B problems, those that there are: uint8 (B, H, W, 3) by camera, the vector float32 (B, P)."""

    def __init__(self, views: Mapping[str, np.ndarray]) -> None:
        self.views = dict(views)

    def __len__(self) -> int:
        return len(next(iter(self.views.values())))

    def __getitem__(self, which: Sequence[int]) -> Seen:
        return Seen({name: value[list(which)] for name, value in self.views.items()})


def checked_seen(given: Any, config: WorldModelConfig) -> tuple[Seen, bool]:
    """What was shown, and whether the batch axis was missing. PlanError, which names the key.

    given: names, perhaps with "pixels_" before those of cameras, and their values. Any may be missing, but
    not all.
    """
    known = ", ".join(config.parts)
    if not isinstance(given, Mapping):
        raise PlanError(
            f"This model knows {known}: give a dict with some of these, not {type(given).__name__}."
        )
    views: dict[str, np.ndarray] = {}
    singles: dict[str, bool] = {}
    for key, value in given.items():
        bare = str(key).removeprefix(PREFIX)
        name = bare if bare in config.parts else str(key)
        if name not in config.parts or name in views:
            raise PlanError(
                f"There is no {printable(key, 60)!r} in this model, or it is given twice: it knows {known}."
            )
        if name == VECTOR:
            views[name], singles[name] = _vector(value, config.proprio)
            continue
        try:
            views[name], singles[name] = checked_frames(value)
        except PlanError as error:
            raise PlanError(f"{name}: {error}") from None
    if not views:
        raise PlanError(f"Nothing was given to look at: give some of {known}.")
    if len(set(singles.values())) > 1 or len({len(value) for value in views.values()}) > 1:
        told = ", ".join(f"{name} {'alone' if singles[name] else len(views[name])}" for name in views)
        raise PlanError(f"All that is shown must be of the same number of problems, not {told}.")
    return Seen(views), next(iter(singles.values()))


def checked_in_turn(given: Any, config: WorldModelConfig) -> tuple[Seen, int]:
    """Goals (G, …) or (B, G, …) by name, one after the other, as views of B·G; and G. PlanError."""
    views: dict[str, Any] = {}
    counts: set[tuple[int, ...]] = set()
    for key, value in given.items() if isinstance(given, Mapping) else ():
        own = 1 if key == VECTOR else 3  # axes of one
        array = np.asarray(value) if not isinstance(value, Mapping) else np.zeros(0)
        if array.ndim not in (own + 1, own + 2):
            shape = "(G, P)" if key == VECTOR else "(G, H, W, 3)"
            raise PlanError(
                f"waypoints must be {shape}, or with B before it, not {array.shape}: {printable(key, 60)!r}."
            )
        counts.add(array.shape[:-own])
        views[key] = array.reshape(-1, *array.shape[-own:])
    if len(counts) > 1:
        raise PlanError(f"All waypoints must show the same views: they are {sorted(counts)} of these.")
    seen, _ = checked_seen(views if isinstance(given, Mapping) else given, config)
    return seen, next(iter(counts))[-1]


def _vector(given: Any, names: Sequence[str]) -> tuple[np.ndarray, bool]:
    """(P,) or (B, P) as float32 (B, P); or a mapping with a number, or (B,), for each name."""
    if isinstance(given, Mapping):
        if set(given) != set(names):
            odd = ", ".join(sorted(map(str, set(given) ^ set(names))))
            raise PlanError(f"{VECTOR} must have the names {', '.join(names)}; too many or missing: {odd}.")
        given = np.stack([np.asarray(given[name]) for name in names], axis=-1)
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused below
            values = np.asarray(given, np.float32)
    except (TypeError, ValueError):
        values = np.zeros(0, np.float32)
    if values.ndim not in (1, 2) or values.shape[-1] != len(names) or not len(values):
        raise PlanError(
            f"{VECTOR} must be ({len(names)},) numbers, or (B, {len(names)}), for {', '.join(names)}, not of "
            f"shape {np.shape(given)}."
        )
    if not np.isfinite(values).all():
        odd = names[int(np.argwhere(~np.isfinite(values))[0][-1])]
        raise PlanError(f"{VECTOR} is NaN or infinite at {odd!r}: leave it out where it is not known.")
    return (values[None], True) if values.ndim == 1 else (values, False)


def blank(config: WorldModelConfig) -> Any:
    """A black frame, or one of each camera and the vector's mean: what a model can be tried with."""
    frame = np.zeros((config.image_size, config.image_size, 3), np.uint8)
    if not config.several:
        return frame
    vector = {VECTOR: np.array(config.proprio_mean, np.float32)} if config.proprio else {}
    return {name: frame for name in config.cameras} | vector


@torch.no_grad()
def encode_seen(world_model: WorldModel, seen: Seen, device: torch.device | str) -> Tensor:
    """Latents (B, D) on the device. Puts the model in evaluation mode."""
    if world_model.training:
        world_model.eval()
    parts = []
    for first in range(0, len(seen), FRAMES_AT_ONCE):
        views = seen[range(first, min(first + FRAMES_AT_ONCE, len(seen)))].views
        parts.append(
            world_model.encode({name: _tensor(name, view).to(device) for name, view in views.items()})
        )
    return torch.cat(parts)[:, 0]


def _tensor(name: str, view: np.ndarray) -> Tensor:
    """(B, 1, …), as the model takes it."""
    if name == VECTOR:
        return torch.from_numpy(view)[:, None]
    return torch.from_numpy(np.array(view.transpose(0, 3, 1, 2), order="C"))[:, None]


def said_by(seen: Seen, config: WorldModelConfig, device: torch.device | str) -> Tensor:
    """(D,) 1 where the latent is what these views say, 0 where they say nothing."""
    said = torch.zeros(config.latent_dim, device=device)
    for name in seen.views:
        said[config.parts[name]] = 1
    return said
