"""A sweep: `python train.py -m seed=0,1,2 model.latent_dim=64,128` trains every combination, then one table.

Hydra's launchers run the jobs: one after the other here, or hydra/launcher=joblib, submitit_local,
submitit_slurm (their packages are extras). Or an engine does: engine=ray, local or slurm, as elsewhere. Each
combination has a folder of its own in the sweep's, named for its settings, so the same command with
hydra.sweep.dir=FOLDER goes on: finished runs stay, others are resumed.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import math
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig

from latent_planner.common.engines.engine import Engine
from latent_planner.common.engines.outcomes import EngineError, outcomes
from latent_planner.common.files import read_bytes
from latent_planner.common.progress import Bar
from latent_planner.evaluation.benchmark import wilson
from latent_planner.evaluation.plots import read_rows
from latent_planner.evaluation.provenance import write_json

from ..overrides import ConfigError
from ..run_folder import SETTINGS, file_name, resumed

logger = logging.getLogger(__name__)

MULTIRUN = ("-m", "--multirun")
FOLDER = "hydra.sweep.dir"
ROW = "sweep.json"  # in a run folder: what the table says of a run that has ended well
LONGEST = 120  # letters of a folder's name
# Student's t at 97.5 % for 1 to 30 degrees of freedom
T975 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
        2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048,
        2.045, 2.042)  # fmt: skip


def is_sweep(words: Sequence[str]) -> bool:
    """Whether the command line asks for several runs."""
    return bool(set(MULTIRUN) & set(words))


def jobs(words: Sequence[str]) -> list[list[str]]:
    """The settings of each run that these checked words ask for; ConfigError where a sweeper draws them."""
    pairs = [word for word in words if "=" in word and not word.startswith(("-", "hydra"))]
    try:
        overrides = OverridesParser.create().parse_overrides(pairs)
        (found,) = BasicSweeper.split_arguments(overrides, None)
    except HydraException as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"the runs of this sweep cannot be listed: {reason}") from None
    return [list(job) for job in found] if is_sweep(words) else [pairs]


def command(settings: Sequence[str], *more: str) -> str:
    """The command line of a run with these settings."""
    return shlex.join(["python", "train.py", *more, *settings])


def with_folder(words: Sequence[str]) -> tuple[list[str], Path]:
    """The words with a folder for the sweep among them, and that."""
    for word in words:
        key, _, value = word.partition("=")
        if key.lstrip("+") == FOLDER:
            return list(words), Path(value)
    folder = Path("runs") / time.strftime("sweep-%Y%m%d-%H%M%S")
    return [*words, f"{FOLDER}={folder}"], folder


def folder_of(settings: Sequence[str]) -> str:
    """The name of a run's folder: its settings, whatever their order."""
    text = ",".join(sorted(settings))
    name = file_name(text.replace("=", "-"))
    if len(name) > LONGEST or not name:
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        name = f"{name[:LONGEST]}-{digest}"
    return name


def in_sweep() -> bool:
    """Whether Hydra runs this job as one of several."""
    return HydraConfig.get().mode == RunMode.MULTIRUN


def run_one(config: DictConfig, train: Callable[[DictConfig], Any]) -> None:
    """One job of a sweep: begun, resumed, or left as it is because it has ended."""
    hydra = HydraConfig.get()
    settings = list(hydra.overrides.task)
    folder = Path(hydra.sweep.dir) / folder_of(settings)
    if (folder / ROW).exists():
        return
    if config.resume is not None or config.out is not None:
        raise ConfigError("a sweep names the folders of its runs: leave out out= and resume=")
    if (folder / SETTINGS).exists():
        config.resume = str(folder)
        config = resumed(config, [])
    else:
        config.out = str(folder)
    began = time.monotonic()
    train(config)
    folder.mkdir(parents=True, exist_ok=True)
    result = _read(folder / "benchmark.json") or {}
    metrics = folder / "metrics.jsonl"
    rows = [row for row in read_rows(metrics) if "held_out" in row] if metrics.exists() else []
    write_json(
        folder / ROW,
        {
            "settings": settings,
            "success": result.get("success"),
            "goals": len(result.get("episodes", [])),
            "floors": {kind: floor["success"] for kind, floor in result.get("floors", {}).items()},
            "held_out": rows[-1]["held_out"] if rows else None,
            "minutes": round((time.monotonic() - began) / 60, 2),
        },
    )


def run_on(engine: Engine, words: Sequence[str], folder: Path, main: Callable[[list[str]], int]) -> None:
    """Run the jobs of a sweep on an engine, each as a sweep of its own in the same folder.

    main: the command line of train.py, a function of a module. EngineError where the engine cannot start.
    """
    if any(word.startswith("hydra/launcher") for word in words):
        raise ConfigError("engine= and hydra/launcher= both say where the runs of a sweep go: leave one out")
    own = [word for word in words if word.startswith("hydra") and not word.startswith(FOLDER)]
    wanted = jobs(words)
    left = [settings for settings in wanted if not (folder / folder_of(settings) / ROW).exists()]
    same = ["-m", f"{FOLDER}={folder.absolute()}", *own]
    todo = [(os.getcwd(), [*same, *settings]) for settings in left]
    label = lambda work: folder_of(work[1][len(same) :])  # noqa: E731
    with engine.open() as pool, Bar(total=len(wanted), initial=len(wanted) - len(left), desc="sweep") as bar:
        try:
            for work, said in outcomes(pool, partial(_one_job, main), todo, label=label):
                bar.update()
                if said:
                    logger.warning("%s: %s", label(work), said)
        except EngineError as error:  # the table says what is not finished
            logger.warning("%s", error)


def _one_job(main: Callable[[list[str]], int], work: tuple[str, list[str]]) -> str:
    """In another process: one run. Returns the last line that it wrote if it has not ended well."""
    where, words = work
    os.chdir(where)
    said = _Last()
    with redirect_stdout(said), redirect_stderr(said):
        code = main(words)
    errors = [line for line in said.text.splitlines() if line.startswith("error: ")]
    return "" if not code else errors[-1] if errors else f"exit code {code}"


class _Last(io.TextIOBase):
    """Keeps the end of what is written to it."""

    text = ""

    def write(self, text: str) -> int:
        self.text = (self.text + text)[-10_000:]
        return len(text)


def report(words: Sequence[str], folder: Path, where: Sequence[str] = ()) -> int:
    """Print the table of a sweep; returns how many of its runs have not ended well.

    where: the words that say on which engine they ran.
    """
    wanted = jobs(words)
    found = [_read(folder / folder_of(settings) / ROW) for settings in wanted]
    rows = [{**row, "settings": settings} for row, settings in zip(found, wanted) if row is not None]
    print(f"\n{table(rows)}" if rows else "\nno run of this sweep has ended well")
    lost = [settings for row, settings in zip(found, wanted) if row is None]
    for settings in lost:
        print(f"not finished: {folder / folder_of(settings)}")
    if lost:
        again = [word for word in words if not word.startswith(FOLDER)]
        line = shlex.join(["python", "train.py", *again, f"{FOLDER}={folder}", *where])
        print(f"{len(lost)} of {len(wanted)} runs are not finished; to go on: {line}", file=sys.stderr)
    return len(lost)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line for all runs that differ in their seed only: success over seeds, baselines, minutes, command."""
    groups: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(tuple(w for w in row["settings"] if not w.startswith("seed=")), []).append(row)
    constant = set.intersection(*(set(key) for key in groups))
    lines = ["success  95 % interval    random  still  held out  minutes  seeds  settings"]
    for key, runs in groups.items():
        seeds = [w.removeprefix("seed=") for row in runs for w in row["settings"] if w.startswith("seed=")]
        changed = " ".join(word for word in key if word not in constant) or "as they are"
        minutes = sum(row["minutes"] for row in runs) / len(runs)
        lines.append(f"{_figures(runs)}  {minutes:7.1f}  {len(runs):5d}  {changed}")
        more = [f"seed={','.join(seeds)}"] if seeds else []
        lines.append(f"         {command([*key, *more], *(['-m'] if len(seeds) > 1 else []))}")
    lines.append("intervals: over seeds (Student's t), never narrower than that of all goals together")
    return "\n".join(lines)


def _figures(runs: Sequence[dict[str, Any]]) -> str:
    held_out = [row["held_out"] for row in runs if row["held_out"] is not None]
    error = f"{sum(held_out) / len(held_out):8.4f}" if held_out else f"{'-':>8}"
    if any(row["success"] is None for row in runs):
        return f"{'-':>7}  {'-':>15}  {'-':>6}  {'-':>5}  {error}"
    success = [float(row["success"]) for row in runs]
    low, high = interval(success, sum(int(row["goals"]) for row in runs))
    random, still = (
        sum(row["floors"].get(kind, math.nan) for row in runs) / len(runs) for kind in ("random", "still")
    )
    mean = sum(success) / len(success)
    return f"{mean:7.1%}  {low:6.1%} to {high:6.1%}  {random:6.1%}  {still:5.1%}  {error}"


def interval(success: Sequence[float], goals: int) -> tuple[float, float]:
    """95 % interval of the mean share over seeds, inside [0, 1]; with one seed, that of its goals."""
    count = len(success)
    mean = sum(success) / count
    low, high = wilson(round(mean * goals), goals) if goals else (0.0, 1.0)
    if count < 2:
        return low, high
    deviation = math.sqrt(sum((share - mean) ** 2 for share in success) / (count - 1))
    t = T975[count - 2] if count - 2 < len(T975) else 1.96 + 2.4 / (count - 1)
    half = t * deviation / math.sqrt(count)
    return max(0.0, min(low, mean - half)), min(1.0, max(high, mean + half))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(read_bytes(path))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
