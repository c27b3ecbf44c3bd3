"""Settings that a file holds: plain values only, for the file may come from anybody."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from latent_planner.common.kinds import plain

from .kinds import KINDS
from .overrides import ConfigError

MOST = 65_536  # bytes; a run's settings take some 3,000


class Loader(yaml.SafeLoader):
    """Plain YAML. Without aliases, of which a few lines can make gigabytes."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        if getattr(event, "anchor", None) is not None:  # of an alias, too
            raise yaml.YAMLError("it holds an anchor or alias (&name, *name)")
        return super().compose_node(parent, index)


# As OmegaConf reads YAML: dates are text, and 1e-3 is a number.
Loader.yaml_implicit_resolvers = {
    letter: [(tag, form) for tag, form in forms if tag != "tag:yaml.org,2002:timestamp"]
    for letter, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_settings(path: Path) -> dict[str, Any]:
    """The settings {section: {name: value}} in a YAML file. OSError, or ConfigError with the reason."""
    with open(path, "rb") as file:
        data = file.read(MOST + 1)
    try:
        if len(data) > MOST:
            raise ValueError(f"it is larger than {MOST} bytes")
        values = yaml.load(data.decode("utf-8"), Loader)
        if not isinstance(values, dict):
            raise ValueError("settings have names")
        _check_plain(values)
        _check_kinds(values)
    except (ValueError, TypeError, yaml.YAMLError, RecursionError) as error:
        reason = getattr(error, "problem", None) or str(error)
        raise ConfigError(
            f"{path} cannot be read ({' '.join(reason.split())[:200]}): only a run as train.py left it "
            "can go on"
        ) from error
    return values


def _check_plain(value: Any) -> None:
    """Raise ValueError for what has a meaning beyond itself, such as ${oc.env:HOME}."""
    if isinstance(value, dict):
        for name, part in value.items():
            if not isinstance(name, str):
                raise ValueError(f"the name {name!r} is no text")
            _check_plain(name)
            _check_plain(part)
    elif isinstance(value, list):
        for part in value:
            _check_plain(part)
    elif isinstance(value, str):
        if not plain(value):
            raise ValueError(f"{value!r} is not plain text")
    elif not (value is None or isinstance(value, (bool, int, float))):
        raise ValueError(f"{value!r} is no setting")


def _check_kinds(values: dict[str, Any]) -> None:
    """Raise ValueError for a setting of the wrong kind; what is not in the table is checked by its user."""
    for section, part in values.items():
        for name, value in part.items() if isinstance(part, dict) else [("", part)]:
            key = f"{section}.{name}".rstrip(".")
            if key in KINDS:
                KINDS[key].check(key, value)
