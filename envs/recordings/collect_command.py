"""The command `latent-planner collect`: one file recorded here, or shards recorded anywhere.

    latent-planner collect pusht pusht.h5 --episodes 2000 --length 100 --image-size 64 --seed 0
    latent-planner collect pusht shards/ --episodes 20000 --shards 40
    latent-planner collect pusht shards/ --episodes 20000 --shards 40 engine=ray
    latent-planner collect pusht shards/ --episodes 20000 --shards 40 engine=slurm slurm.partition=cpu

The episodes are the same in each case. If it is stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from latent_planner import envs
from latent_planner.common.commands import in_words
from latent_planner.common.engines.engine import Engine
from latent_planner.common.engines.outcomes import EngineError
from latent_planner.common.progress import log_above_bars

from ..gym import policies as gym_policies
from .collect import collect
from .journal import RecordingError
from .sharded.collecting import collect_shards
from .sharded.layout import files


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="latent-planner collect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="latent-planner collect ENV PATH [options] [engine=local|ray|slurm workers=N ...]",
    )
    made.add_argument("env", help=f"world: {', '.join(envs.names())}, or gym:ID")
    made.add_argument("path", type=Path, help="HDF5 file to write; with --shards, a folder")
    made.add_argument("words", nargs="*", help="where shards are recorded, see docs/scale.md")
    made.add_argument("--episodes", type=int, default=2000)
    made.add_argument("--length", type=int, default=100, help="frames an episode (default 100)")
    made.add_argument("--image-size", type=int, default=64, help="height and width of a frame (default 64)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--workers", type=int, default=None, help="processes (default: one a core)")
    made.add_argument("--shards", type=int, help="write so many independent files, read as one recording")
    made.add_argument("--cameras", help="names with commas between them, as front,wrist (default: one alone)")
    made.add_argument("--proprio", action="store_true", help="record the robot's own vector, too")
    made.add_argument("--vary", help="draw frames in another look, too: trained, or groups, as color,light")
    made.add_argument("--policy", help=f"of gym:ID: {gym_policies.KINDS} (default: smooth)")
    made.add_argument("--module", help="of gym:ID: the module of yours that registers it")
    return made


def main(words: Sequence[str] | None = None) -> int:
    """The command line. Returns 0, 2 on a user error, 130 after Ctrl-C."""
    args = parser().parse_intermixed_args(words)
    began = time.monotonic()
    log_above_bars("%(message)s")
    same: dict[str, Any] = {"episodes": args.episodes, "length": args.length, "image_size": args.image_size}
    same |= {"seed": args.seed, "policy": args.policy, "module": args.module, "proprio": args.proprio}
    same |= {"cameras": args.cameras.split(",") if args.cameras else None, "vary": args.vary}
    with in_words(RecordingError, envs.WorldError, EngineError) as outcome:
        if args.shards is None:
            if args.words:
                raise RecordingError(f"{args.words[0]} is for shards: say --shards, or leave it out")
            collect(args.env, args.path, workers=args.workers, **same)
        else:
            more = [] if args.workers is None else [f"workers={args.workers}"]
            engine = Engine.from_words([*more, *args.words])
            collect_shards(args.env, args.path, shards=args.shards, engine=engine, **same)
    if outcome.code:
        return outcome.code
    paths = [args.path] if args.shards is None else files(args.path)
    frames, size = args.episodes * args.length, sum(path.stat().st_size for path in paths) / 1e6
    what = "" if args.shards is None else f"{args.shards} shards, "
    print(f"{args.path}: {what}{frames} frames, {size:.1f} MB, {time.monotonic() - began:.1f} s")
    return 0
