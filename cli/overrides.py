"""The command line of train.py, checked before Hydra sees it, so that a mistake gets one sentence."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_module
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from latent_planner.common.words import nearest
from latent_planner.configs import FOLDER

from .kinds import kind

GROUPS = ("env", "model", "planner")
DRY = "--dry"  # print the runs
# Flags that pass through, Hydra's and DRY; a True one is followed by a value.
FLAGS = {DRY: False, "-m": False, "--multirun": False, "-c": True, "--cfg": True, "--resolve": False}


class ConfigError(ValueError):
    """A setting that cannot be used; the message says which, and what to write instead."""


def options(group: str) -> list[str]:
    """Names that a group takes: options("model") -> ["lewm", "small"]."""
    return sorted(path.stem for path in (FOLDER / group).glob("*.yaml"))


def did_you_mean(name: str, known: Sequence[str], few: int = 8) -> str:
    """What to add to "there is no NAME": the nearest known name, or all of them when they are few."""
    word, last = name.split(".")[-1], {key.split(".")[-1]: key for key in reversed(known)}
    initials = [last[key] for key in last if "".join(part[0] for part in key.split("_")) == word]  # lr
    near = initials[0] if initials else nearest(name, known)
    if near is None:  # compare the last words alone
        similar = nearest(word, last, cutoff=0.7)
        near = None if similar is None else last[similar]
    all_of_them = f"choose from {', '.join(known)}" if len(known) <= few else ""
    if near is not None:
        return f"; did you mean {near!r}? {all_of_them}".rstrip()
    return f"; {all_of_them or '`--help` lists them all'}"


def check_word(key: str, value: str, known: Sequence[str], few: int = 8) -> None:
    """Raise ConfigError unless the value of this setting is one of the known words."""
    if value not in known:
        raise ConfigError(f"there is no {key}={value}{did_you_mean(str(value), known, few)}")


def checked(arguments: Sequence[str]) -> list[str]:
    """The arguments, ready for Hydra. Raises ConfigError for the first one that is wrong.

    Values are taken as they stand, so that a path needs no quotes; only with -m does a comma part several.
    """
    flags, pairs = _split(arguments)
    several = bool({"-m", "--multirun"} & set(flags))
    words = [_Word(pair, several) for pair in pairs]
    chosen = [word for word in words if word.key in GROUPS]
    for word in chosen:
        for name in word.texts:
            _check_choice(word.key, name)
    known = _settings([f"{word.key}={word.texts[0]}" for word in chosen if len(word.texts) == 1])
    ready = []
    for word in words:
        if word.key.startswith("hydra") or word.drawn:
            ready.append(word.pair)
        elif word in chosen:
            ready.append(f"{word.key}={','.join(word.texts)}")
        else:
            _check_key(word.key, known)
            values = [read(word.key, text, known[word.key]) for text in word.texts]
            ready.append(f"{word.key}={','.join(map(_for_hydra, values))}")
    return flags + ready


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Hydra's flags (with their values), and the key=value pairs."""
    flags, pairs, words = [], [], iter(arguments)
    for word in words:
        if word in FLAGS:
            flags.append(word)
            if FLAGS[word]:
                flags.append(next(words, ""))
        elif "=" in word and not word.startswith("-"):
            pairs.append(word)
        elif word.startswith("-"):
            name, _, value = word.lstrip("-").partition("=")
            value = value or "VALUE"
            raise ConfigError(f"{word} is not an option: settings are written {name}={value}, see --help")
        else:
            raise ConfigError(f"{word!r} is not a setting: write key=value, for example env=pusht")
    return flags, pairs


class _Word:
    """One key=value of the command line.   texts: the value; with -m (several), each of the values."""

    def __init__(self, pair: str, several: bool) -> None:
        key, _, value = pair.partition("=")
        self.pair, self.key = pair, key.lstrip("+")
        if not re.fullmatch(r"[\w./@]+", self.key):
            raise ConfigError(f"{pair!r} is not a setting: write key=value, for example env=pusht")
        self.drawn = False  # whether a sweeper draws values, as of learning_rate=interval(0.001,0.1)
        self.texts = [_unquoted(value)]
        if several and not self.key.startswith("hydra"):
            self.texts = self._swept(value)

    def _swept(self, value: str) -> list[str]:
        try:
            override = OverridesParser.create().parse_override(f"{self.key}={value}")
            self.drawn = override.is_interval_sweep()
            if override.is_sweep_override() and not self.drawn:
                return [_unquoted(text) for text in override.sweep_string_iterator()]
        except HydraException:  # not in Hydra's grammar, as a path with brackets: it stands for itself
            pass
        return [_unquoted(value)]


def _unquoted(text: str) -> str:
    """Without the quotes that Hydra would ask for."""
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "\"'"
    return text[1:-1] if quoted else text


def _check_choice(group: str, name: str) -> None:
    if group == "env" and name.startswith("gym:"):
        raise ConfigError(f"Gymnasium's environments are env=gym env.id={name.removeprefix('gym:')}")
    check_word(group, name, options(group), few=50 if group == "env" else 8)  # all worlds are listed


def read(key: str, text: str, default: Any) -> Any:
    """The value of the setting KEY=TEXT; ConfigError where it is not of the setting's kind or range."""
    try:
        return kind(key, default).read(key, text)
    except ValueError as error:
        several = "; several values, one run each, need -m" if "," in text and "[" not in text else ""
        raise ConfigError(f"{error}{several}") from None


def _for_hydra(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return QuotedString(text=value, quote=Quote.double).with_quotes()
    if isinstance(value, list):
        return f"[{','.join(map(_for_hydra, value))}]"
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _settings(choices: Sequence[str]) -> dict[str, Any]:
    """Every key with its default, for these choices of env, model and planner."""
    with initialize_config_module("latent_planner.configs", version_base="1.3"):
        try:
            config = compose("config", overrides=list(choices))
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(" ".join(str(error).split())) from None
    return dict(flat(config))


def flat(config: DictConfig, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(key, value) of every setting, as in ("train.minutes", 25.0)."""
    for key, value in config.items_ex(resolve=True):
        if isinstance(value, DictConfig):
            yield from flat(value, f"{prefix}{key!s}.")
        else:
            yield f"{prefix}{key!s}", value


def _check_key(key: str, known: dict[str, Any]) -> None:
    if key in known:
        return
    sections = {name.rsplit(".", 1)[0] for name in known if "." in name}
    if key in sections:
        raise ConfigError(f"{key} has several settings: change one of them, for example "
                          f"{next(name for name in known if name.startswith(key + '.'))}=…")  # fmt: skip
    for group in GROUPS:  # planner.temperature with planner=cem
        for option in options(group):
            if key in _settings([f"{group}={option}"]):
                raise ConfigError(f"{key} is a setting of {group}={option}: add that")
    raise ConfigError(f"there is no setting {key!r}{did_you_mean(key, [*known, *GROUPS])}")


def listing(width: int = 2) -> str:
    """Every setting with its default and what it is for, as the files in configs/ say it."""
    parts = [_body(FOLDER / "config.yaml", skip=("defaults", "hydra"))]
    for group in GROUPS:
        for option in options(group):
            body = _body(FOLDER / group / f"{option}.yaml")
            if "@package _global_" not in body:
                body = f"{group}:\n" + textwrap.indent(body, "  ")
            parts.append(f"# {group}={option}\n" + re.sub(r"# @package.*\n", "", body))
    return textwrap.indent("\n".join(parts), " " * width)


def _body(path: Path, skip: Sequence[str] = ()) -> str:
    """The file's text without the top-level blocks named in `skip`."""
    blocks = re.split(r"^(?=\w+:)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return "".join(block for block in blocks if not block.startswith(tuple(f"{name}:" for name in skip)))
