"""Planner settings from words such as planner=mppi planner.num_samples=100, for programs without Hydra."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from latent_planner.settings import AgentSettings

from .overrides import FOLDER, ConfigError, did_you_mean, options, read


def planner_settings(overrides: Sequence[str], stored: Mapping[str, Any]) -> AgentSettings:
    """A checkpoint's "planner" with key=value words applied.

    Another planner than the checkpoint's starts from its file in configs/planner/. Raises ConfigError for a
    key that does not exist, naming the nearest, and for a value of the wrong kind; PlanError for values that
    do not go together.
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
        name_of_it = key.removeprefix("planner.")
        settings[name_of_it] = read(key, value, defaults[name_of_it])
    if "num_elites" not in defaults:  # not used, but PlanConfig wants at most as many as samples
        settings["num_elites"] = 1
    return AgentSettings.from_dict(settings)
