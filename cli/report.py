"""Write a report on what a trained model knows and where it fails: one page, report.html.

    latent-planner report runs/mine                       # report.html and report.json in runs/mine
    latent-planner report pusht --out reports/pusht       # a bundled checkpoint, or hf://owner/name
    latent-planner report runs/mine --only probes,planning
    latent-planner report runs/mine --recording my.h5     # episodes to judge it on

Without --recording, a run is judged on the episodes that its training held out, and any other checkpoint on
fresh episodes of its world. report.html is one file that can be sent as it is.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from latent_planner import envs
from latent_planner.checkpoints import checkpoint, hub
from latent_planner.common.files import blame
from latent_planner.envs.recordings.journal import RecordingError
from latent_planner.envs.world import WorldError
from latent_planner.evaluation import reachability as reach
from latent_planner.planners import PlanError
from latent_planner.report.build import Report, build
from latent_planner.report.evidence import Evidence
from latent_planner.report.registry import NAMES, ReportError, check
from latent_planner.report.sections.calibration import Calibration
from latent_planner.training.dataset import DatasetError

log = logging.getLogger(__name__)

EPISODES, LENGTH = (60, 30), 121  # fresh ones, to fit on and held out; 24 model steps of 5
FRESH_SEED = 20_260_707  # of fresh episodes: no training has it
PAIRS = 100
FOREIGN = 20  # frames of each other world
MISTAKES = (
    ReportError, DatasetError, RecordingError, WorldError, PlanError, checkpoint.CheckpointError
)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """The program: 0 when the report is written, 1 when a section failed, 2 on a user error."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    try:
        args = parse(sys.argv[1:] if argv is None else argv)
        report, folder = report_on(
            args.run, only=args.only, out=args.out, recording=args.recording, seed=args.seed,
            device=args.device, pairs=args.pairs,
        )  # fmt: skip
    except MISTAKES as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {blame(error)}; choose another --out", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped before anything was measured; nothing was written", file=sys.stderr)
        return 130
    print(told(report, folder))
    if report.stopped:
        print("stopped: the page holds what was measured until then", file=sys.stderr)
        return 130
    return int(any(entry.verdict == "broken" for entry in report.entries))


def told(report: Report, folder: Path) -> str:
    """What came out, one line a section, and where the page is."""
    lines = [f"{entry.section.name:15s} {entry.verdict:8s} {entry.sentence}" for entry in report.entries]
    return "\n".join([*lines, f"{folder / 'report.html'}: all of it; report.json: every number"])


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are one sentence like every other mistake's."""

    def error(self, message: str) -> NoReturn:
        raise ReportError(f"{message}; see --help")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Checked arguments; ReportError."""
    form = argparse.RawDescriptionHelpFormatter
    known = Parser("latent-planner report", description=__doc__, formatter_class=form, allow_abbrev=False)
    known.add_argument("run", metavar="RUN", help="run folder, bundled name, or hf://owner/name")
    known.add_argument("--only", metavar="A,B", help=f"these sections only: {', '.join(NAMES)}")
    known.add_argument("--out", metavar="FOLDER", help="output folder (default: the run folder)")
    known.add_argument("--recording", metavar="FILE", help="episodes to judge it on; see above")
    known.add_argument(
        "--pairs", type=int, default=PAIRS, metavar="N", help=f"goals to try (default: {PAIRS})"
    )
    known.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    known.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    args = known.parse_args(list(argv))
    args.only = list(NAMES) if args.only is None else [name.strip() for name in args.only.split(",") if name]
    for name in args.only:
        check(name)
    if not args.only:
        raise ReportError("--only names no section; see --help")
    for name, least in (("seed", 0), ("pairs", 1)):
        if getattr(args, name) < least:
            raise ReportError(f"--{name} must be at least {least}, not {getattr(args, name)}")
    return args


def report_on(
    run: str | Path,
    *,
    only: Sequence[str] = NAMES,
    out: str | Path | None = None,
    recording: str | Path | None = None,
    seed: int = 0,
    pairs: int = PAIRS,
    device: Any = "auto",
    progress: bool = True,
) -> tuple[Report, Path]:
    """Make and write the report on a run folder, bundled name or hf://owner/name; returns it and its folder.

    out: default the run folder; for one that cannot be written to, a new folder in reports/.   pairs: how
    many goals to plan to, at most.
    """
    from latent_planner.agent import Agent

    world_model, info = checkpoint.load(run)
    agent = Agent(world_model, checkpoint.agent_settings(info["planner"]), device=device, seed=seed)
    folder = _folder(run, out)
    make_env = world_maker(world_model.config)
    with episodes(run, world_model.config, recording, progress=progress) as (reader, split, name):
        evidence = Evidence.from_reader(
            world_model, reader, agent=agent, make_env=make_env,
            pairs=start_goal_pairs(world_model.config, pairs),
            foreign=partial(foreign_frames, world_model.config), seed=seed, device=agent.device,
            progress=progress, most=EPISODES, **split,
        )  # fmt: skip
    report = build(evidence, checkpoint=str(run), recording=name, sha256=info["sha256"], only=only)
    report.write(folder)
    for entry in report.entries:
        if isinstance(entry.result, Calibration) and entry.result.telling.threshold is not None:
            reach.save(folder, entry.result.telling.threshold, info["sha256"])
    return report, folder


def _folder(run: str | Path, out: str | Path | None) -> Path:
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        return Path(out)
    home = checkpoint.find(run)
    shared = str(run) in checkpoint.bundled() or hub.is_remote(run)
    if not shared and os.access(home, os.W_OK):
        return home
    from .run_folder import new_folder

    return new_folder(Path("reports") / f"{Path(str(run)).name}-{time.strftime('%Y%m%d-%H%M%S')}")


def world_maker(config: Any) -> Callable[[], Any] | None:
    """Makes the model's world as the model learned to see it; None where it is not a world here."""
    if config.env not in envs.names():
        return None
    made = partial(envs.make, config.env, image_size=config.image_size, reference_look=config.reference_look)
    try:
        made().close()
    except WorldError as error:
        log.warning("sections that play are skipped: %s", error)
        return None
    return made


def start_goal_pairs(config: Any, count: int = PAIRS) -> Any:
    """The benchmark's first `count` pairs of the model's world; fresh ones where it has no list; None without
    a world."""
    from latent_planner.envs.goals import pairs

    if config.env not in envs.names():
        return None
    try:
        return pairs.load(config.env).first(count)
    except WorldError:
        return pairs.draw(config.env, count, FRESH_SEED)


def foreign_frames(config: Any) -> np.ndarray | None:
    """Some frames of two other worlds, (n, h, w, 3), or None."""
    found: list[np.ndarray] = []
    for name in envs.names():
        if name == config.env or len(found) == 2 * FOREIGN:
            continue
        try:
            env = envs.make(name, image_size=config.image_size)
            found += [env.reset(seed=seed)[0]["pixels"].copy() for seed in range(FOREIGN)]
            env.close()
        except WorldError:  # an extra that is not installed, no means to draw it
            continue
    return np.stack(found) if found else None


@contextmanager
def episodes(
    run: str | Path, config: Any, recording: str | Path | None, *, progress: bool
) -> Iterator[tuple[Any, dict[str, Any], str]]:
    """An open recording, how to split it, and what to call it on the page."""
    from latent_planner.envs.recordings.episodes import EpisodeReader

    trained = training_data(checkpoint.find(run))
    path = recording or trained.get("path")
    if path is not None and (recording is not None or Path(path).exists()):
        keys = {key: trained.get(key) for key in ("camera", "action", "state")}
        split = {"held_out": trained.get("held_out", 0.1), "split_seed": trained.get("seed", 0)}
        with EpisodeReader(path, **keys) as reader:
            if reader.env not in (None, config.env):
                raise ReportError(f"{path} was recorded in {reader.env}, and the model is of {config.env}")
            yield reader, split, f"held-out episodes of {Path(path).name}"
        return
    if path is not None:
        log.warning("%s, which the run learned from, is gone: fresh episodes are recorded instead", path)
    if config.env not in envs.names() or config.reference_look:
        raise ReportError(f"there are no episodes of {config.env} to judge {run} on: say --recording FILE")
    from latent_planner.envs.recordings.collect import collect

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fresh.h5"
        collect(
            config.env, path, episodes=sum(EPISODES), length=LENGTH, image_size=config.image_size,
            seed=FRESH_SEED, progress=progress,
        )  # fmt: skip
        split = {"held_out": EPISODES[1] / sum(EPISODES), "split_seed": 0}
        with EpisodeReader(path) as reader:
            yield reader, split, f"{sum(EPISODES)} fresh episodes, {EPISODES[1]} of them held out"


def training_data(folder: Path) -> dict[str, Any]:
    """What train.yaml in a run folder says of its recording, and its seed; empty where there is none."""
    from .run_folder import stored_settings

    settings = stored_settings(folder)
    return {} if settings is None else {**settings["data"], "seed": settings["seed"]}
