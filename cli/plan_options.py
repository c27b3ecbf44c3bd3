"""The command line of plan.py: which options there are, and which go together."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from .benchmark_words import benchmark_settings
from .overrides import ConfigError, did_you_mean

BUDGET = 50  # env steps

# Which options go with which of the three things this program does.
USES = {
    "goal": {"checkpoint", "env", "seed", "state", "budget", "out", "device", "overrides"}
    | {"explain", "recording", "module", "anyway"},
    "make_goal": {"env", "seed", "module"},
    "play": {"checkpoint", "env", "seed", "device", "overrides", "module"},
    "benchmark": {"module", "checkpoint", "env", "seed", "out", "device", "pairs", "pairs_seed", "overrides"},
}


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are ConfigErrors, like every other mistake on the command line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see --help")


def parser(about: str, worlds: Sequence[str]) -> Parser:
    """Every option, for these worlds; key=value words are picked up by `parse_options`."""
    what = "--goal FILE | --make-goal FILE | --benchmark | --play"
    usage = f"python plan.py ({what}) [options] [planner.KEY=VALUE ...]"
    form = argparse.RawDescriptionHelpFormatter
    made = Parser("plan.py", usage, description=about, formatter_class=form, allow_abbrev=False)
    do = made.add_argument_group("what to do (one of these)").add_argument
    do("--goal", metavar="FILE", help="reach what this picture shows")
    do("--make-goal", metavar="FILE", help="write a reachable goal picture (PNG) that carries its state")
    do("--benchmark", action="store_true", help="success on the world's fixed start/goal pairs")
    do("--play", action="store_true", help="a page on which goals are set with the mouse")
    how = made.add_argument_group("options").add_argument
    how("--checkpoint", metavar="NAME", help="bundled name or run folder (default: the world's bundled one)")
    known = f"world: {', '.join(worlds)}, gym:ID (default: the picture's or checkpoint's, else pusht)"
    how("--env", metavar="NAME", help=known)
    how("--module", metavar="NAME", help="module of yours that registers the Gymnasium environment gym:ID")
    how("--seed", type=int, help="of start and planner (default: the picture's own start, else 0)")
    how("--state", metavar="X,Y,...", help="start from this state, in the world's units")
    how("--budget", type=int, metavar="STEPS", help=f"env steps allowed (default: {BUDGET})")
    how("--out", metavar="FOLDER", help="where results go (default: a new folder in plans/)")
    how("--device", help="auto, cpu, cuda or mps (default: auto)")
    how("--explain", action="store_true", help="with --goal: also draw the search and the imagined paths")
    how("--recording", metavar="FILE", help="frames for --explain (default: some are recorded on the spot)")
    how("--anyway", action="store_true", help="act even if the goal looks like nothing the model has seen")
    how("--pairs", type=int, metavar="N", help="only the first N pairs of the benchmark")
    how(
        "--pairs-seed", type=int, metavar="SEED",
        help="fresh pairs, made from this seed, in the place of the fixed ones: to choose settings by",
    )  # fmt: skip
    return made


def parse_options(argv: Sequence[str], *, about: str, worlds: Sequence[str]) -> argparse.Namespace:
    """Checked arguments; `overrides` holds the key=value words. Raises ConfigError.

    about: what --help begins with.   worlds: the names that --env knows.
    """
    known = parser(about, worlds)
    args, rest = known.parse_known_args(list(argv))
    flags = [flag for action in known._actions for flag in action.option_strings]
    for word in rest:
        name = word.partition("=")[0]
        if name.startswith("-"):
            raise ConfigError(f"there is no option {name}{did_you_mean(name, flags)}")
        if f"--{name}" in flags:
            raise ConfigError(f"{word!r}: write it as --{name} {word.partition('=')[2] or 'VALUE'}")
        if "=" not in word:
            raise ConfigError(f"{word!r} is neither an option nor key=value; see --help")
    args.overrides = rest
    args.settings = {}
    modes = [mode for mode in USES if getattr(args, mode) not in (None, False)]
    if len(modes) != 1:
        raise ConfigError("say one of --goal FILE, --make-goal FILE, --benchmark and --play; see --help")
    for name, value in vars(args).items():
        if name not in USES and value not in (None, [], {}, False) and name not in USES[modes[0]]:
            label = value[0] if name == "overrides" else f"--{name.replace('_', '-')}"
            raise ConfigError(f"{label} has no meaning with --{modes[0].replace('_', '-')}; leave it out")
    for name, least in (("budget", 1), ("pairs", 1), ("seed", 0), ("pairs_seed", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise ConfigError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")
    if args.benchmark:
        args.overrides, args.settings = benchmark_settings(args.overrides)
    if args.env is not None and args.env not in worlds and not args.env.startswith("gym:"):
        raise ConfigError(
            f"there is no world {args.env!r}{did_you_mean(args.env, [*worlds, 'gym:ID'], few=50)}"
        )
    if args.recording is not None and not args.explain:
        raise ConfigError("--recording is for --explain; say both or neither")
    folder = Path(args.out or ".").absolute()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if modes != ["make_goal"] and not (there.is_dir() and os.access(there, os.W_OK)):
        raise ConfigError(f"nothing can be written to {args.out or 'this folder'}; give a folder with --out")
    return args
