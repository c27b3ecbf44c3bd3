"""The recording that train.py learns from: found or collected, opened, checked."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from latent_planner import envs
from latent_planner.checkpoints import sb3
from latent_planner.common.kinds import plain
from latent_planner.envs.goals.recorded import shows_reference_look
from latent_planner.envs.gym.names import as_recorded
from latent_planner.envs.recordings.collect import after_others, collect
from latent_planner.envs.recordings.episodes import EpisodeReader
from latent_planner.envs.recordings.senses import VECTOR, short

from .overrides import ConfigError
from .run_folder import file_name

log = logging.getLogger(__name__)

RECORDED = "recorded"  # the env of recordings without a world
AUGMENT = "augment"  # the data.vary of recordings that have one look
SHORT_SIGHT = 1.0  # seconds that a plan should look ahead


def open_recording(config: DictConfig) -> tuple[EpisodeReader, dict[str, Any]]:
    """The recording to learn from, collected now unless it is there, and the settings that it decides."""
    policy = policy_of(config) if config.data.path is None else None
    path = find_recording(config, policy)
    if config.data.path is None:
        collect_recording(config, path, policy)
    path = path.resolve()  # so that the run can go on from elsewhere
    if not plain(str(path)):
        raise ConfigError(
            f"{str(path)!r} holds control characters or ${{: give the file or its folder another name"
        )
    data = config.data
    reader = EpisodeReader(path, **reader_options(data), named=config.env.name != RECORDED)
    check_recording(config, reader)
    if varied(config) is not None and reader.look_column is None:
        raise ConfigError(
            f"{path} has no second look: say data.vary={AUGMENT}, or leave out data.path, so that one is "
            "recorded"
        )
    look = data.reference_look
    return reader, {
        "data.path": str(path),
        "data.reference_look": bool(shows_reference_look(reader, config.env.name)) if look is None else look,
    }


def reader_options(data: Mapping[str, Any]) -> dict[str, Any]:
    """What an EpisodeReader is to read, of the settings under `data`."""
    options = {
        key: data.get(key) for key in ("camera", "action", "state", "cameras", "proprio", "action_space")
    }
    options["actions"] = data.get("actions") != "none"
    cameras = options["cameras"]
    options["cameras"] = [cameras] if isinstance(cameras, str) else cameras and list(cameras)
    return options


def world_options(data: Mapping[str, Any]) -> dict[str, Any]:
    """What `envs.make` is to observe, of the settings under `data`."""
    cameras = reader_options(data)["cameras"]
    return {
        "cameras": None if cameras is None else [short(name) for name in cameras],
        "proprio": data.get("proprio") is not None,
    }


def policy_of(config: DictConfig) -> str | None:
    """What acts while a Gymnasium environment is recorded; None for the other worlds, which have their own.

    A Stable-Baselines3 file becomes a file of plain numbers in data/.
    """
    policy = config.env.get("policy")
    if policy is None or not policy.startswith("sb3:"):
        return policy
    return f"mlp:{sb3.convert(policy.removeprefix('sb3:'), Path('data'))}"


def find_recording(config: DictConfig, policy: str | None) -> Path:
    """The recording to learn from: data.path, or else the file that `collect_recording` writes to.

    policy: what acts in a Gymnasium environment.   Raises ConfigError.
    """
    if config.data.path is not None:
        return Path(config.data.path)
    if config.env.name == RECORDED:
        raise ConfigError("env=recorded has nothing to learn from: say data.path=RECORDING")
    env, world = config.env, as_recorded(config.env.name)
    label = world if policy in (None, "smooth") else f"{world}-{policy}"
    label = label if varied(config) is None else f"{label}-vary-{varied(config)}"
    size, wanted = config.model.image_size, world_options(config.data)
    if config.data.proprio not in (None, VECTOR):
        raise ConfigError(f"the vector of a world is data.proprio={VECTOR}, not {config.data.proprio}")
    label = "-".join([label, *(wanted["cameras"] or ()), *([VECTOR] if wanted["proprio"] else [])])
    return Path("data") / f"{file_name(label)}-{size}-{env.episodes}x{env.length}-seed{config.seed}.h5"


def collect_recording(config: DictConfig, path: Path, policy: str | None) -> None:
    """Record the world into `path`, or go on with that; a finished recording stays as it is.

    Another run that records the same, as those of a sweep may, is waited for.
    """
    make = partial(
        collect,
        as_recorded(config.env.name),
        path,
        episodes=config.env.episodes,
        length=config.env.length,
        image_size=config.model.image_size,
        seed=config.seed,
        workers=config.data.workers or None,
        policy=policy,
        module=config.module,
        vary=varied(config),
        **world_options(config.data),
    )
    after_others(make, path)


def varied(config: DictConfig) -> str | None:
    """The looks in which every frame is recorded once more, "trained" or groups such as "color,light"; None
    where other looks are not wanted, or are made from the recorded frames."""
    vary = config.data.vary
    vary = vary if vary is None or isinstance(vary, str) else ",".join(vary)
    return None if vary == AUGMENT else vary


def check_recording(config: DictConfig, reader: EpisodeReader) -> None:
    """Warn of what can hardly be learned from this recording."""
    name = config.env.name
    if config.env.get("past_end") is False and 2 * np.median(reader.lengths) < config.env.length:
        log.warning(
            "half of the episodes end within %d frames, because %s says so: env.past_end=true goes on",
            np.median(reader.lengths),
            name,
        )
    quick = too_quick(name, reader, config.model.frameskip)
    if quick:
        log.warning(
            "%s move too far within the %d steps of a block to be followed, so the model may leave "
            "them out: a gentler env.policy or a smaller model.frameskip may help",
            ", ".join(quick),
            config.model.frameskip,
        )


def too_quick(name: str, reader: EpisodeReader, steps: int) -> list[str]:
    """Numbers of the state that move too far within `steps` steps, as far as the world `name` can say."""
    try:
        return envs.world_class(name).too_quick(name, reader, steps) if envs.known(name) else []
    except envs.WorldError:  # an extra that is not installed, and that a recording does not need
        return []


def warn_of_short_sight(config: DictConfig, control_hz: float | None) -> None:
    """Warn where plans for a recording of one's own, at so many actions a second, end within a moment."""
    ahead = config.planner.get("horizon", 0) * config.model.frameskip
    if config.env.name == RECORDED and control_hz and 0 < ahead < SHORT_SIGHT * control_hz:
        log.warning(
            "%d actions look %.2g s ahead at %g Hz: a larger model.frameskip looks farther",
            ahead,
            ahead / control_hz,
            control_hz,
        )
