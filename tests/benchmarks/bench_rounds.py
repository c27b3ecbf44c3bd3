"""Does practice between rounds raise success? Plain training against rounds, with as many steps.

    python tests/benchmarks/bench_rounds.py two_room --steps 600 --out DIR
    python tests/benchmarks/bench_rounds.py pusht --steps 900 --out DIR env.episodes=500 --only plain alp-near

One recording; one training for each way, from the same seed, and 100 validation goals for what comes out.
Steps, not minutes, so that another program on the machine does not decide. A way that is there already in DIR
is not trained again. Words are settings of train.py, for all ways.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 3
WAYS: dict[str, list[str]] = {
    "plain": [],
    **{
        f"{goals}-{starts}": [f"rounds={ROUNDS}", f"practice.goals={goals}", f"practice.starts={starts}"]
        for starts in ("near", "fresh")
        for goals in ("alp", "uniform")
    },
}


def main() -> None:
    args, words = _arguments()
    args.out.mkdir(parents=True, exist_ok=True)
    print("| way | success | interval | covered in practice |\n|---|---|---|---|")
    for way in args.only:
        found = measured(args, way, words)
        low, high = found["interval"]
        covered = ", ".join(f"{share:.0%}" for share in found["covered"]) or "–"
        print(f"| {way} | {found['success']:.0%} | {low:.0%} to {high:.0%} | {covered} |", flush=True)


def measured(args: argparse.Namespace, way: str, words: list[str]) -> dict[str, Any]:
    """What came out of one way; trained and tested unless it has been already."""
    run, tested = args.out / way, args.out / f"{way}-goals"
    if not (tested / "benchmark.json").is_file():
        steps = [f"train.steps={args.steps}", "train.evaluate_every_minutes=null", "benchmark.pairs=0"]
        steps += ["benchmark.validation_pairs=0", "wandb.mode=disabled", f"out={way}"]
        started = [f"resume={way}"] if (run / "state.safetensors").exists() else [
            f"env={args.env}", *words, *steps, *WAYS[way]
        ]  # fmt: skip
        _run("train.py", *started, cwd=args.out)
        goals = ["--pairs", str(args.pairs), "--pairs-seed", str(args.pairs_seed), "--out", tested.name]
        _run("plan.py", "--benchmark", "--checkpoint", way, *goals, cwd=args.out)
    result = json.loads((tested / "benchmark.json").read_text())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return result | {"covered": [row["round/covered"] for row in rows if "round/covered" in row]}


def _run(program: str, *words: str, cwd: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / program), *words], cwd=cwd, check=True)


def _arguments() -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("env")
    parser.add_argument("--steps", type=int, required=True, help="of training, for each way")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--pairs", type=int, default=100)
    parser.add_argument("--pairs-seed", type=int, default=777)
    return parser.parse_known_args()


if __name__ == "__main__":
    main()
