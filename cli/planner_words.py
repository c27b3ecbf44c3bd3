"""Planner settings from words such as planner=mppi planner.num_samples=100, for programs without Hydra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from latent_planner.settings import AgentSettings

from .overrides import FOLDER, ConfigError, did_you_mean, options


def planner_settings(overrides: Sequence[str], stored: Mapping[str, Any]) -> AgentSettings:
    """A checkpoint's "planner" with key=value words applied.

    Another planner than the checkpoint's starts from its file in configs/planner/. Raises ConfigError for a
    key that does not exist, naming the nearest, and PlanError for a value that makes no sense.
    """
    pairs = [word.partition("=")[::2] for word in overrides]
    names = [value for key, value in pairs if key == "planner"]
    name = names[-1] if names else stored.get("name", "cem")
    if name not in options("planner"):
        raise ConfigError(f"there is no planner={name}{did_you_mean(name, options('planner'))}")
    defaults: Any = OmegaConf.to_container(OmegaConf.load(FOLDER / "planner" / f"{name}.yaml"))
    settings = {"name": name, **stored} if name == stored.get("name", "cem") else dict(defaults)
    known = [f"planner.{key}" for key in defaults if key != "name"]
    for key, value in pairs:
        if key == "planner":
            continue
        if key not in known:
            raise ConfigError(f"there is no setting {key!r}{did_you_mean(key, ['planner', *known])}")
        try:
            settings[key.removeprefix("planner.")] = OmegaConf.from_dotlist([f"value={value}"])["value"]
        except (YAMLError, OmegaConfBaseException):
            raise ConfigError(f"{key}={value}: the value cannot be read") from None
    if "num_elites" not in defaults:  # not used, but PlanConfig wants at most as many as samples
        settings["num_elites"] = 1
    return AgentSettings.from_dict(settings)
