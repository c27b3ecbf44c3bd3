"""The run folder: made new for each run, with the settings in it from which the run can go on."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from latent_planner.common.files import beside
from latent_planner.common.words import did_you_mean
from latent_planner.model.world_model import WorldModelConfig
from latent_planner.training.train_config import TrainConfig

from .overrides import ConfigError, flat
from .stored import read_settings

RENAMED = {"data.published": "data.reference_look"}  # settings of older runs
NUMBERS = ("model.image_size", "model.frameskip", "model.context_len")
LATER = ("practice",)  # groups of settings that older runs do not have
NEEDED = ("env.name", "model.name", *NUMBERS)  # of a run that goes on
SETTINGS = "train.yaml"  # config.json in the same folder is the checkpoint's
# What the command line may change when a run goes on; anything else would make it another run.
CHANGEABLE = (
    "device",
    "train.minutes",
    "train.steps",
    "data.path",
    "data.workers",
    "data.memory_gb",
    "wandb.mode",
    "module",
    "report",
    "play",
)


def check_free(config: DictConfig) -> None:
    """Raise ConfigError when the folder of config.out is in use and config.resume does not ask for it."""
    if config.out is not None and config.resume is None:
        folder = Path(config.out)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"out={folder} is there already: choose another, or go on with resume={folder}")


def run_folder(config: DictConfig) -> Path:
    """Make the folder of config.out, or a new one in runs/, and write the settings into it."""
    check_free(config)
    if config.out is None:
        stamp = time.strftime("%Y%m%d-%H%M%S")
        folder = new_folder(Path("runs") / f"{file_name(config.env.name)}-{config.model.name}-{stamp}")
    else:
        folder = Path(config.out)
        folder.mkdir(parents=True, exist_ok=True)
    with beside(folder / SETTINGS) as temporary:
        OmegaConf.save(config, temporary, resolve=True)
    return folder


def file_name(text: str) -> str:
    """`text` as a part of a file's name, on every system."""
    return re.sub(r"[^\w.-]+", "-", text).strip("-.")


def new_folder(wanted: Path) -> Path:
    """Make this folder, or one with a number behind its name when that is taken."""
    for number in range(1, 1000):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            continue
    raise ConfigError(f"there are a thousand folders called {wanted}: choose another name")


def resumed(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """The settings that the run config.resume began with, changed by those overrides that may change them.

    overrides: the words of the command line, key=value. Raises ConfigError for others, and for a folder that
    holds no readable settings.
    """
    folder = Path(config.resume)
    if not (folder / SETTINGS).is_file():
        raise ConfigError(f"resume={folder}: there is no {SETTINGS} in it; give the folder of a run")
    keys = [word.partition("=")[0].lstrip("+") for word in overrides]
    keys = [key for key in keys if key != "resume"]
    for key in keys:
        if key not in CHANGEABLE:
            raise ConfigError(f"resume={folder} goes on with the settings of that run: leave out {key}=")
    try:
        stored = OmegaConf.create(read_settings(folder / SETTINGS))
        stored.module = None  # code is only ever named on the command line
        _check_sections(stored, config)
        _bring_up_to_date(stored, config)
        _check_names(stored)
        if stored.env.get("policy"):
            stored.env.policy = None  # may name code, too, and the recording is there
        if {"train.steps", "train.minutes"} & set(keys):
            stored.train.update(steps=None, minutes=None)
        for key in keys:
            OmegaConf.update(stored, key, OmegaConf.select(config, key))
    except ConfigError:
        raise
    except (ValueError, TypeError, AttributeError, KeyError, OmegaConfBaseException) as error:
        raise ConfigError(
            f"{folder / SETTINGS} cannot be read: only a run as train.py left it can go on"
        ) from error
    stored.out, stored.resume = str(folder), str(folder)
    return stored


def _check_sections(stored: DictConfig, config: DictConfig) -> None:
    """Raise ConfigError unless each group of settings is one."""
    for section in [str(name) for name, part in config.items() if isinstance(part, DictConfig)]:
        if section in LATER and section not in stored:
            continue
        if not isinstance(stored.get(section), DictConfig):
            raise ConfigError(
                f"{config.resume}/{SETTINGS}: {section} is no group of settings: only a run as train.py left "
                "it can go on"
            )


def _check_names(stored: DictConfig) -> None:
    """Raise ConfigError for names in model or train that do not exist, and for a model without its sizes."""
    for section, kind in (("model", WorldModelConfig), ("train", TrainConfig)):
        known = {"name", *(field.name for field in fields(kind))}
        for name in map(str, stored[section]):
            if name not in known:
                raise ConfigError(f"there is no setting {section}.{name}{did_you_mean(name, sorted(known))}")
    for name in NEEDED:
        section, _, key = name.partition(".")
        value, number = stored[section].get(key), name in NUMBERS
        if value is None:
            raise ConfigError(f"the settings of the run lack {name}")
        if not (type(value) is int and value > 0 if number else isinstance(value, str) and value):
            what = "a whole number above 0" if number else "a name"
            raise ConfigError(f"the settings of the run have {name}={value!r}, and it must be {what}")


def _bring_up_to_date(stored: DictConfig, config: DictConfig) -> None:
    """Give the settings of an older run their new names, and those it did not have their defaults."""
    for old, new in RENAMED.items():
        section, _, name = old.partition(".")
        if name in stored[section]:
            OmegaConf.update(stored, new, stored[section].pop(name), force_add=True)
    known = dict(flat(stored))
    for key, default in flat(config):
        # other models, planners and worlds have settings of their own
        if key not in known and not key.startswith(("model.", "planner.", "env.")):
            OmegaConf.update(stored, key, default, force_add=True)


def stored_settings(folder: Path) -> dict[str, Any] | None:
    """The settings that a run folder holds, as plain values; None where it holds none, ConfigError where they
    are not as train.py writes them."""
    path = folder / SETTINGS
    if not path.is_file():
        return None
    plain = read_settings(path)
    return plain if isinstance(plain.get("data"), dict) and "seed" in plain else None
