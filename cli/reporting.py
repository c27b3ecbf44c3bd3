"""The report on a trained model: what it needs is found or recorded, then measured and written."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from latent_planner import Agent, envs
from latent_planner import looks as known_looks
from latent_planner.checkpoints import checkpoint, hub
from latent_planner.common.files import refuse_links
from latent_planner.envs.factors import LOOKS
from latent_planner.envs.goals import pairs as lists
from latent_planner.envs.looks.families import PHOTOGRAPH, TRAINED, UNSEEN, families
from latent_planner.envs.recordings.collect import collect
from latent_planner.envs.recordings.episodes import EpisodeReader
from latent_planner.envs.world import WorldError
from latent_planner.evaluation import reachability
from latent_planner.model.world_model import WorldModelConfig
from latent_planner.report.build import NUMBERS, PAGE, Report, build
from latent_planner.report.evidence import Evidence
from latent_planner.report.recordings import Shift, Shifts
from latent_planner.report.registry import NAMES, ReportError
from latent_planner.report.sections.calibration import Calibration

from .recording import reader_options
from .run_folder import new_folder, stored_settings

log = logging.getLogger(__name__)

EPISODES, LENGTH = (60, 30), 121  # fresh ones, to fit on and held out; 24 model steps of 5
FRESH_SEED = 20_260_707  # of fresh episodes: no training has it
PAIRS = 100
SHIFTED = 20  # goals to try in each look
FOREIGN = 20  # frames of each other world


def report_on(
    run: str | Path,
    *,
    only: Sequence[str] = NAMES,
    out: str | Path | None = None,
    recording: str | Path | None = None,
    seed: int = 0,
    pairs: int = PAIRS,
    shift_pairs: int = SHIFTED,
    device: Any = "auto",
    progress: bool = True,
) -> tuple[Report, Path]:
    """Make and write the report on a run folder, bundled name or hf://owner/name; returns it and its folder.

    out: default the run folder; for one that cannot be written to, a new folder in reports/.   pairs: how
    many goals to plan to, at most.   shift_pairs: how many in each look.
    """
    world_model, info = checkpoint.load(run)
    agent = Agent(world_model, checkpoint.agent_settings(info["planner"]), device=device, seed=seed)
    folder = _folder(run, out)
    make_env, goals = world_maker(world_model.config), start_goal_pairs(world_model.config, pairs)
    looks = known_looks.load(checkpoint.find(run), info["sha256"])
    with episodes(run, world_model.config, recording, progress=progress) as (reader, split, name):
        evidence = Evidence.from_reader(
            world_model, reader, agent=agent, make_env=make_env,
            pairs=goals, shifts=shifts(make_env, goals, shift_pairs, looks),
            foreign=partial(foreign_frames, world_model.config), seed=seed, device=agent.device,
            progress=progress, most=EPISODES, **split,
        )  # fmt: skip
    report = build(evidence, checkpoint=str(run), recording=name, sha256=info["sha256"], only=only)
    report.write(folder)
    for entry in report.entries:
        if isinstance(entry.result, Calibration) and entry.result.telling.threshold is not None:
            reachability.save(folder, entry.result.telling.threshold, info["sha256"])
    return report, folder


def _folder(run: str | Path, out: str | Path | None) -> Path:
    """Where the report goes; OSError when files of its names there are links."""
    folder = checkpoint_folder(run, out)
    refuse_links(folder, (PAGE, NUMBERS, reachability.FILE))
    return folder


def checkpoint_folder(run: str | Path, out: str | Path | None) -> Path:
    """The folder asked for, else the run's own, else a new one in reports/."""
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        return Path(out)
    home = checkpoint.find(run)
    shared = str(run) in checkpoint.bundled() or hub.is_remote(run)
    if not shared and os.access(home, os.W_OK):
        return home
    return new_folder(Path("reports") / f"{Path(str(run)).name}-{time.strftime('%Y%m%d-%H%M%S')}")


def world_maker(config: WorldModelConfig) -> Callable[[], envs.World] | None:
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


def start_goal_pairs(config: WorldModelConfig, count: int = PAIRS) -> lists.Pairs | None:
    """The benchmark's first `count` pairs of the model's world; fresh ones where it has no list; None without
    a world."""
    if config.env not in envs.names():
        return None
    try:
        return lists.load(config.env).first(count)
    except WorldError:
        return lists.draw(config.env, count, FRESH_SEED)


def shifts(
    make_env: Callable[[], envs.World] | None, pairs: lists.Pairs | None, played: int, looks: Any
) -> Shifts | None:
    """The looks that the world can have; None without a world, or with one look.

    played: pairs of each.   looks: what the model knows of its frames, or None.
    """
    if make_env is None or pairs is None:
        return None
    with closing(make_env()) as env:
        known, published = env.factors, env.reference_look and getattr(env, "has_reference_look", False)
    groups = ("light", "camera") if published else LOOKS  # of published frames only these can vary
    found = []
    for kind in (UNSEEN, TRAINED):
        for group in groups:
            if families(known, trained=kind == TRAINED, group=group):
                word = f"{kind}.{group}"
                found.append(Shift(word, kind, lists.shifted(pairs, word)))
    if not found:
        return None
    for word, shown in ((UNSEEN, "goal"), (UNSEEN, "scene"), (PHOTOGRAPH, "goal")):
        if word == PHOTOGRAPH or not published:
            found.append(Shift(f"{word}, {shown} alone", shown, lists.shifted(pairs, word, shown)))
    named = {family.name: family.trained for family in families(known) if family.group in groups}
    return Shifts(found, named, played, looks)


def foreign_frames(config: WorldModelConfig) -> np.ndarray | None:
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
    run: str | Path, config: WorldModelConfig, recording: str | Path | None, *, progress: bool
) -> Iterator[tuple[EpisodeReader, dict[str, Any], str]]:
    """An open recording, how to split it, and what to call it on the page."""
    if config.several:
        raise ReportError(f"This model knows {', '.join(config.parts)}: reports and looks are of one camera")
    trained = training_data(checkpoint.find(run))
    path = recording or trained.get("path")
    if path is not None and (recording is not None or Path(path).exists()):
        keys = reader_options(trained)
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
    settings = stored_settings(folder)
    return {} if settings is None else {**settings["data"], "seed": settings["seed"]}
