"""What the commands share that make a new checkpoint: their arguments, and the recording it learns from."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from latent_planner import envs
from latent_planner.checkpoints import checkpoint
from latent_planner.envs.looks.families import TRAINED
from latent_planner.envs.recordings.collect import collect
from latent_planner.envs.recordings.episodes import EpisodeReader
from latent_planner.envs.recordings.senses import VECTOR
from latent_planner.model.world_model import WorldModelConfig
from latent_planner.training.dataset import WindowDataset

from ..overrides import ConfigError
from ..reporting import training_data

EPISODES, LENGTH, SEED = 400, 101, 20_260_919  # of fresh episodes


def new_checkpoint_parser(command: str, about: str | None) -> argparse.ArgumentParser:
    """The arguments of a command that makes a new checkpoint of another: checkpoint, out, recording."""
    parser = argparse.ArgumentParser(
        prog=f"latent-planner {command}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", help="a bundled name, a run folder, or hf://owner/name")
    parser.add_argument("--out", type=Path, required=True, help="new folder for the checkpoint")
    parser.add_argument("--recording", type=Path, help="HDF5 file or LeRobot folder to learn from")
    return parser


def new_folder(out: Path, *, but_for: str = "") -> None:
    """ConfigError where `out` holds something else than a file of this name."""
    if out.exists() and (not out.is_dir() or any(file.name != but_for for file in out.iterdir())):
        raise ConfigError(f"{out} is there already: choose another folder with --out")


@contextmanager
def training_dataset(
    name: str, config: WorldModelConfig, recording: Path | None, *, looks: bool = False
) -> Iterator[tuple[WindowDataset, EpisodeReader]]:
    """What a model of this config can learn from, and the open recording that it is in.

    name: of the checkpoint.   looks: whether other looks of the frames are wanted, where there are any.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = recording or _training_recording(name) or _fresh(config, folder, looks)
        with EpisodeReader(path, **_senses(config, name)) as reader:
            dataset = WindowDataset(
                reader, num_frames=config.context_len + 1, frameskip=config.frameskip, looks=looks
            )
            dataset.check(config)
            yield dataset, reader


def _training_recording(name: str) -> Path | None:
    path = training_data(checkpoint.find(name)).get("path")
    return Path(path) if path and Path(path).is_file() else None


def _senses(config: WorldModelConfig, name: str) -> dict[str, Any]:
    """What the model is to be shown of a recording; nothing for one camera."""
    if not config.several:
        return {}
    own = training_data(checkpoint.find(name)).get("proprio") or VECTOR
    return {"cameras": list(config.cameras), "proprio": own if config.proprio else None, "named": True}


def _fresh(config: WorldModelConfig, folder: str, looks: bool) -> Path:
    if config.env not in envs.names():
        raise ConfigError(f"there are no episodes of {config.env} to learn from: add --recording FILE")
    options: dict[str, Any] = {"image_size": config.image_size, "cameras": config.cameras or None}
    options |= {"vary": TRAINED} if looks else {}
    path, proprio = Path(folder) / "fresh.h5", bool(config.proprio)
    return collect(config.env, path, episodes=EPISODES, length=LENGTH, seed=SEED, proprio=proprio, **options)
