"""Learning from frames alone, and then from few actions: what train.py does with data.actions and start.

    python train.py env=two_room data.path=videos.h5 data.actions=none       # an encoder, from frames alone
    python train.py env=two_room data.path=labelled.h5 start=runs/RUN        # a planner

The second run keeps the encoder. An inverse model learns from the episodes with actions, and says of all
others what was done there: the recording's own without actions, and the first run's videos.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import broadcast_object_list
from omegaconf import DictConfig

from latent_planner.checkpoints import checkpoint
from latent_planner.envs.recordings.appended import AppendedReader
from latent_planner.envs.recordings.episodes import EpisodeReader
from latent_planner.model.inverse import LATENT_ACTIONS
from latent_planner.model.world_model import WorldModel, WorldModelConfig
from latent_planner.training.dataset import WindowDataset
from latent_planner.training.labels import kept
from latent_planner.training.labels.learn import Labeller
from latent_planner.training.labels.view import View, rows_of, with_actions

from ..overrides import ConfigError
from ..recording import reader_options
from ..reporting import training_data

log = logging.getLogger(__name__)

ALL, NONE = "all", "none"  # of data.actions
FEWEST = 2  # episodes with actions: one to learn from, one to hold out
ALONE = {"train.freeze_encoder": 1.0, "benchmark.pairs": 0, "benchmark.validation_pairs": 0, "report": False}
OF_THE_ENCODER = (
    "image_size", "latent_dim", "projector_dim", "encoder", "encoder_width", "encoder_values",
    "encoder_layers", "encoder_depth", "encoder_heads", "patch_size", "cameras", "camera_encoders", "proprio",
    "proprio_dims", "proprio_width",
)  # fmt: skip
AS_LEARNED = ("pixel_mean", "pixel_std", "proprio_mean", "proprio_std")  # the encoder expects these numbers


def settings(config: DictConfig) -> dict[str, Any]:
    """The settings that data.actions=none decides. ConfigError where data.actions and start do not go with
    the others."""
    alone, few = config.data.actions == NONE, config.data.actions != ALL or config.start is not None
    if config.start is not None and alone:
        raise ConfigError("start= goes on with actions: leave out data.actions=none, or start=")
    if few and config.rounds > 1:
        raise ConfigError("rounds= records actions of its own: leave it out, or data.actions= and start=")
    if alone and (config.data.vary or config.play):
        name = "data.vary" if config.data.vary else "play"
        raise ConfigError(f"{name} needs a model that knows actions: leave it out, or data.actions=none")
    if alone:
        return dict(ALONE)
    own = config.start is not None and Path(config.start).is_dir()
    return {"start": str(Path(config.start).resolve())} if own else {}  # so that the run can go on elsewhere


def start_model(config: DictConfig, device: torch.device) -> WorldModel | None:
    """The model that the run starts from. CheckpointError, or ConfigError where it is of another world."""
    if config.start is None:
        return None
    model, _ = checkpoint.load(config.start, device, frames_alone=True)
    if model.config.env != config.env.name:
        raise ConfigError(f"start={config.start} knows {model.config.env}, not {config.env.name}")
    return model


def model_settings(config: DictConfig) -> dict[str, int]:
    """What a model of frames alone has in the place of actions."""
    return {"latent_actions": LATENT_ACTIONS} if config.data.actions == NONE else {}


def adapted(wanted: WorldModelConfig, start: WorldModel | None, name: str | None) -> WorldModelConfig:
    """The config of a model without actions, or of one that keeps the encoder of `start`, called `name`."""
    if wanted.latent_actions:
        return replace(wanted, proposals=0, landmarks=0)
    if start is None:
        return wanted
    if (wanted.encoder, start.config.encoder) == ("keypoint", "robust"):  # it has learned other looks since
        wanted = replace(wanted, encoder="robust", encoder_layers=start.config.encoder_layers)
    for field in OF_THE_ENCODER:
        ours, theirs = getattr(wanted, field), getattr(start.config, field)
        if ours != theirs:
            raise ConfigError(
                f"start={name} has an encoder with {field}={_shown(theirs)}, and this run asks for "
                f"{_shown(ours)}: give it the settings of that run"
            )
    return replace(wanted, **{field: getattr(start.config, field) for field in AS_LEARNED})


def _shown(value: Any) -> str:
    return ",".join(value) or "none" if isinstance(value, tuple) else str(value)


@dataclass
class Source:
    """What a run learns from.   inferred: all its actions (N, A), where this process inferred some."""

    reader: Any
    inferred: np.ndarray | None = None

    def keep(self, folder: Path) -> None:
        """Leave inferred actions in the run folder, to go on with."""
        if self.inferred is not None:
            kept.keep(folder, self.inferred)


def source(
    config: DictConfig,
    reader: EpisodeReader,
    start: WorldModel | None,
    dataset_of: Callable[..., WindowDataset],
    *,
    first: bool,
) -> Source:
    """What to learn from: the recording with the actions that data.actions leaves it; with `start` also all
    other episodes, with the actions that an inverse model gives them.

    dataset_of: (recording, memory_gb=…) -> what to train on.   first: whether this is the main process.

    Raises ConfigError where too few episodes have actions.
    """
    if config.data.actions == NONE:
        return Source(reader)
    known = _chosen(config, reader)
    if start is None:
        if len(known) == len(reader.lengths):
            return Source(reader)
        log.info(
            "%d of %d episodes have actions and are learned from; start=RUN, of a run with "
            "data.actions=none, learns from the others, too",
            len(known),
            len(reader.lengths),
        )
        return Source(View(reader, episodes=known))
    whole = _with_videos(config, reader)
    if len(known) == len(whole.lengths):
        return Source(whole)
    shape = whole.num_frames, whole.read("action", 0, 1).shape[1]
    stored = None if config.resume is None else kept.kept(Path(config.resume), shape)
    if stored is not None:
        return Source(View(whole, actions=stored))
    actions = _inferred(config, whole, known, start, dataset_of) if first else None
    actions = broadcast_object_list([actions])[0]
    return Source(View(whole, actions=actions), actions)


def _chosen(config: DictConfig, reader: EpisodeReader) -> np.ndarray:
    """Indices of the episodes whose actions are used; a larger share has all those of a smaller one."""
    known, total, share = with_actions(reader), len(reader.lengths), config.data.actions
    if len(known) < FEWEST:
        raise ConfigError(
            f"{reader.path} has actions in {len(known)} of {total} episodes, and at least {FEWEST} are "
            f"needed: say data.actions={NONE} to learn from its frames alone"
        )
    if share == ALL:
        return known
    count = round(share * total)
    if count < FEWEST:
        raise ConfigError(
            f"data.actions={share:g} leaves {count} of the {total} episodes of {reader.path}, and at least "
            f"{FEWEST} are needed: use a larger share"
        )
    return np.sort(np.random.default_rng([config.seed, 0xAC7]).permutation(known)[:count])


def _with_videos(config: DictConfig, reader: EpisodeReader) -> Any:
    """The recording, and after it the one that the first run learned from, where that is another."""
    trained = training_data(checkpoint.find(config.start))
    if not trained.get("path") or Path(trained["path"]).resolve() == Path(reader.path).resolve():
        return reader
    path = Path(trained["path"])
    if not path.exists():
        log.warning("%s, which start=%s has learned from, is gone", path, config.start)
        return reader
    options: Mapping[str, Any] = {**reader_options(trained), "actions": False}
    videos = EpisodeReader(path, **options, named=bool(reader.cameras))
    for column in reader.cameras.values() or ["pixels"]:
        sizes = [tuple(some.read(column, 0, 1).shape[1:3]) for some in (reader, videos)]
        if sizes[0] != sizes[1]:
            raise ConfigError(
                f"the frames of {reader.path} are {sizes[0][0]} x {sizes[0][1]} px and those of {path} "
                f"{sizes[1][0]} x {sizes[1][1]}: record or convert them at one size"
            )
    nothing = np.full((videos.num_frames, reader.read("action", 0, 1).shape[1]), np.nan)
    return AppendedReader(reader, [View(videos, actions=nothing)])


def _inferred(
    config: DictConfig,
    whole: Any,
    known: np.ndarray,
    start: WorldModel,
    dataset_of: Callable[..., WindowDataset],
) -> np.ndarray:
    """All actions (N, A), those of the episodes `known` as recorded."""
    dataset = dataset_of(View(whole, episodes=known), memory_gb=0)
    count = len(whole.lengths)
    log.info("%d of %d episodes have actions; an inverse model learns from them", len(known), count)
    with torch.no_grad():
        dataset.encode_frames(start.eval().encode)
    lesson = Labeller(
        dataset, whole.lengths, whole.offsets, low=whole.action_low, high=whole.action_high, seed=config.seed
    )
    actions = lesson.learn()
    log.info("it explains %.1f %% of the actions in held-out episodes", 100 * lesson.explained)
    rows, recorded = rows_of(whole, known), np.asarray(whole.read("action", 0, whole.num_frames))
    actions[rows] = recorded[rows]
    return actions
