"""Test many checkpoints on many goals, block by block, on any engine.

    latent-planner evaluate two_room pusht --out tested                        # the bundled ones, fixed goals
    latent-planner evaluate runs/a runs/b --pairs 1000 --offset 25 50 75 100 --out tested
    latent-planner evaluate runs/* --pairs 1000 --out tested engine=slurm workers=100 slurm.partition=cpu
    latent-planner evaluate runs/a --shift color --out tested planner=icem planner.num_samples=100

The outcomes are those of plan.py --benchmark, pair by pair, whatever the engine and the number of workers.
If it is stopped, the same command goes on: each block that is done stays in OUT/blocks. More goals than the
fixed list has are that list continued.

OUT/evaluation.json      success, interval and baselines of every case
OUT/NAME-offsetN.json    every outcome of a case, as benchmark.json has them
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from latent_planner.checkpoints import checkpoint, hub
from latent_planner.common.commands import in_words
from latent_planner.common.engines.engine import Engine
from latent_planner.common.engines.outcomes import outcomes
from latent_planner.common.files import read_bytes
from latent_planner.common.progress import Bar, log_above_bars
from latent_planner.envs.goals import pairs as lists
from latent_planner.envs.goals import stored
from latent_planner.envs.gym.making import bring
from latent_planner.evaluation import benchmark
from latent_planner.evaluation.provenance import provenance, write_json
from latent_planner.evaluation.strict import held_line

from ..overrides import ConfigError
from ..planner_words import planner_settings
from ..run_folder import file_name
from ..user_errors import USER_ERRORS
from .blocks import Block, Case, Evaluation, blocks_of, load_agent, outcomes_of, play_block, write_pairs

ASKED, RESULT = "asked.json", "evaluation.json"
MOST = 100_000  # pairs of a case


def evaluate(
    checkpoints: Sequence[str],
    out: str | Path,
    *,
    pairs: int = lists.COUNT,
    offsets: Sequence[int] = (lists.OFFSET,),
    pairs_seed: int | None = None,
    shift: str | None = None,
    seed: int = 0,
    device: str = "auto",
    planner: Sequence[str] = (),
    module: str | None = None,
    strict: bool = False,
    engine: Engine | None = None,
    executor: Executor | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Play `pairs` pairs of every checkpoint at every offset; returns the rows of evaluation.json.

    out        folder, which all machines reach under this path
    strict     whether strict success is measured, too, see latent_planner.evaluation.strict
    planner    words such as "planner.num_samples=100"
    engine, executor   where blocks are played, see latent_planner.common.engines.engine

    Raises the errors of USER_ERRORS; what was played is kept, and the same call goes on.
    """
    folder = Path(out).absolute()
    asked = Evaluation(str(folder), pairs, pairs_seed, shift, seed, device, tuple(planner), module, strict)
    bring(module)
    cases = _cases(checkpoints, offsets, tuple(planner))
    _note(folder, asked, cases)
    with (engine or Engine()).open(executor) as pool:
        _find_pairs(pool, asked, cases, progress)
        _play(pool, asked, cases, progress)
    rows = [_write_case(asked, case) for case in cases]
    write_json(folder / RESULT, {"cases": rows, **provenance()})
    return rows


def _cases(names: Sequence[str], offsets: Sequence[int], planner: tuple[str, ...]) -> list[Case]:
    """Every checkpoint at every offset; ConfigError for two of one name, and what loading raises."""
    cases: list[Case] = []
    for name in names:
        model, info = checkpoint.load(name)
        planner_settings(planner, info["planner"])  # mistakes are met here
        shared = name in checkpoint.bundled() or hub.is_remote(name)
        where = name if shared else str(Path(info["path"]).absolute())
        label = file_name(name.removeprefix("hf://") if shared else Path(where).name)
        if any(case.label == label for case in cases):
            raise ConfigError(f"two checkpoints are called {label}: give one of the folders another name")
        cases += [Case(where, info["sha256"], label, model.config.env, offset) for offset in offsets]
    return cases


def _note(folder: Path, asked: Evaluation, cases: Sequence[Case]) -> None:
    """Keep in the folder what is asked; ConfigError where it was asked something else before."""
    values = {**asdict(replace(asked, folder="")), "cases": [asdict(case) for case in cases]}
    values = json.loads(json.dumps(values))
    if not asked.strict:
        del values["strict"]  # evaluations of before do not say
    (folder / "blocks").mkdir(parents=True, exist_ok=True)
    (folder / "pairs").mkdir(exist_ok=True)
    path = folder / ASKED
    if not path.exists():
        write_json(path, values)
        return
    try:
        before = json.loads(read_bytes(path))
    except ValueError:
        raise ConfigError(f"{path} is damaged: choose another --out") from None
    for key, value in values.items():
        there = before.get(key) if isinstance(before, dict) else None
        if there != value:
            what = "other checkpoints or offsets" if key == "cases" else f"{key}={there} and not {value}"
            raise ConfigError(f"{folder} holds an evaluation of {what}: choose another --out, or delete it")


def _find_pairs(pool: Executor, asked: Evaluation, cases: Sequence[Case], progress: bool) -> None:
    needed = {asked.pairs_path(case): case for case in cases}
    work = [(asked, case) for path, case in needed.items() if not path.exists()]
    with Bar(total=len(work), desc="finding goals", unit=" lists", disable=not (progress and work)) as bar:
        for _ in outcomes(pool, write_pairs, work, refusals=USER_ERRORS, label=lambda w: w[1].name):
            bar.update()


def _play(pool: Executor, asked: Evaluation, cases: Sequence[Case], progress: bool) -> None:
    blocks = blocks_of(asked, cases)
    left = [block for block in blocks if not block.path.exists()]
    total = sum(block.last - block.first for block in blocks)
    first = total - sum(block.last - block.first for block in left)
    hidden = not (progress and left)
    with Bar(total=total, initial=first, desc="evaluating", unit=" episodes", disable=hidden) as bar:
        for block, _ in outcomes(pool, play_block, left, refusals=USER_ERRORS):
            bar.update(block.last - block.first)


def _write_case(asked: Evaluation, case: Case) -> dict[str, Any]:
    """Join the blocks of a case into a file like benchmark.json; returns its row."""
    parts = [_checked(block) for block in blocks_of(asked, [case])]
    pairs = stored.load(asked.pairs_path(case))
    pairs = pairs if asked.shift is None else lists.shifted(pairs, asked.shift)
    agent = load_agent(case.checkpoint, case.sha256, asked.planner, asked.device)
    result = benchmark.joined(parts, agent, pairs, seed=asked.seed, strict=asked.strict)
    about = {"name": case.label, "sha256": case.sha256}
    rules = {"name": "held_out", "in_distribution": False, "changed": list(asked.planner)}
    write_json(Path(asked.folder) / f"{case.name}.json", {"checkpoint": about, "protocol": rules, **result})
    row = {"checkpoint": case.label, "world": case.world, "offset": case.offset, "pairs": asked.pairs}
    return row | {k: result[k] for k in ("success", "interval", "strict", "floors", "seconds") if k in result}


def _checked(block: Block) -> dict[str, Any]:
    try:
        found = outcomes_of(block)
        numbers = [episode["pair"] for episode in found["episodes"]]
        if numbers == list(range(block.first, block.last)):
            return found
    except (ValueError, KeyError, TypeError):
        pass
    raise ConfigError(f"{block.path} does not hold its outcomes: delete it and run the same command again")


def table(rows: Sequence[dict[str, Any]]) -> str:
    """A line for each case."""
    width = max(len(str(row["checkpoint"])) for row in rows)
    lines = [f"{'checkpoint':{width}}  offset  pairs  success  95 % interval  random  still"]
    for row in rows:
        low, high = row["interval"]
        random, still = (row["floors"][kind]["success"] for kind in benchmark.FLOORS)
        lines.append(
            f"{row['checkpoint']:{width}}  {row['offset']:6d}  {row['pairs']:5d}  {row['success']:7.1%}  "
            f"{low:5.1%} to {high:5.1%}  {random:6.1%}  {still:5.1%}"
        )
        if row.get("strict"):
            lines.append(f"{'':{width}}  {held_line(row)}")
    return "\n".join(lines)


def parse(words: Sequence[str]) -> argparse.Namespace:
    """Checked arguments; argparse ends the program where they are wrong."""
    made = argparse.ArgumentParser(
        prog="latent-planner evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="latent-planner evaluate CHECKPOINT ... --out FOLDER [options] [engine=…] [planner.KEY=VALUE]",
    )
    made.add_argument("words", nargs="+", metavar="CHECKPOINT", help="bundled names, run folders, hf://…")
    made.add_argument("--out", required=True, metavar="FOLDER", help="for outcomes and the result")
    made.add_argument("--pairs", type=int, default=lists.COUNT, help="of each case (default 100)")
    made.add_argument("--offset", type=int, nargs="+", default=[lists.OFFSET], help="env steps to the goal")
    made.add_argument("--pairs-seed", type=int, help="fresh pairs, and not those of the fixed lists")
    made.add_argument("--shift", help="shift that every episode draws, as benchmark.shift")
    made.add_argument("--strict", action="store_true", help="also: the goal held for 5 steps, twice as near")
    made.add_argument("--seed", type=int, default=0, help="of the search")
    made.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    made.add_argument("--module", metavar="NAME", help="module of yours that registers an environment")
    return made.parse_intermixed_args(list(words))


def main(words: Sequence[str] | None = None) -> int:
    """The command line. Returns 0, 2 on a user error, 130 after Ctrl-C."""
    args = parse(words or ())
    log_above_bars("%(message)s")
    with in_words(*USER_ERRORS) as outcome:
        engine = Engine.from_words([word for word in args.words if Engine.is_word(word)])
        others = [word for word in args.words if not Engine.is_word(word)]
        planner = [word for word in others if word.startswith(("planner=", "planner."))]
        names = [word for word in others if word not in planner]
        if not names:
            raise ConfigError("which checkpoint is to be tested? give a bundled name or a run folder")
        for option, values, most in (("--pairs", [args.pairs], MOST), ("--offset", args.offset, 10_000)):
            for value in values:
                if not 1 <= value <= most:
                    raise ConfigError(f"{option} is a whole number from 1 to {most}, not {value}")
        rows = evaluate(
            names, args.out, pairs=args.pairs, offsets=args.offset, pairs_seed=args.pairs_seed,
            shift=args.shift, seed=args.seed, device=args.device, planner=planner, module=args.module,
            strict=args.strict, engine=engine,
        )  # fmt: skip
        print(f"{table(rows)}\n{Path(args.out) / RESULT}: every case, and a file of outcomes for each")
    return outcome.code
