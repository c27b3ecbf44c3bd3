"""Success against the share of the episodes that have actions; each world trains, tests and prints a table.

    python tests/benchmarks/bench_few_actions.py two_room                  # some 20 trainings, 4 minutes each
    python tests/benchmarks/bench_few_actions.py pusht --minutes 15
    python tests/benchmarks/bench_few_actions.py two_room --small   # in a minute; its figures mean nothing

few      frames alone, then an inverse model on that encoder labels the rest (data.actions=none, then start=)
scratch  trained on the episodes with actions alone
labels   the encoder of `scratch`; an inverse model on it labels the rest
full     all actions, trained as always: the row that the others are compared with

All learn from one recording with the same budget; `few` has half of it again. What is done stays in --out,
and the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("WANDB_MODE", "disabled")

from latent_planner.cli import plan, train
from latent_planner.envs.recordings.collect import collect

SHARES = (0.01, 0.025, 0.1, 1.0)
EPISODES = {"two_room": 1000, "pusht": 2000}
PAIRS_SEED = 777  # goals that are not the benchmark's
SMALL = [
    "model.latent_dim=24", "model.projector_dim=32", "model.encoder_width=8", "model.predictor_width=32",
    "model.predictor_depth=1", "model.predictor_heads=2", "model.predictor_head_dim=16",
    "model.predictor_mlp_dim=32", "train.batch_size=8", "train.steps=4", "model.image_size=32",
    "planner.num_samples=8", "planner.num_elites=2", "planner.iterations=1",
]  # fmt: skip


class Curve:
    """Trains and tests into one folder."""

    def __init__(self, folder: Path, world: str, args: argparse.Namespace) -> None:
        self.folder, self.world, self.args = folder, world, args
        size, length, count = (32, 40, 12) if args.small else (64, 100, EPISODES[world])
        path = folder / f"{world}-{count}x{length}.h5"
        collect(world, path, episodes=count, length=length, image_size=size)
        self.words = [f"env={world}", f"data.path={path}", "wandb.mode=disabled", "benchmark.pairs=0"]
        self.words += ["benchmark.validation_pairs=0", *(SMALL if args.small else args.words)]

    def trained(self, name: str, *words: str, minutes: float) -> Path:
        """The run folder of this name, trained to its end."""
        run = self.folder / name
        if not (run / "trained").exists():
            budget = [] if self.args.small else [f"train.minutes={minutes}"]
            fresh = [*self.words, *budget, f"out={run}", *words]
            if code := train.main([f"resume={run}"] if (run / "train.yaml").exists() else fresh):
                raise SystemExit(code)
            (run / "trained").touch()
        return run

    def tested(self, run: Path) -> dict[str, Any]:
        """What the benchmark says of this run."""
        out = run / "test"
        if not (out / "benchmark.json").exists():
            pairs = 2 if self.args.small else self.args.pairs
            words = ["--benchmark", "--checkpoint", str(run), "--out", str(out), "--pairs", str(pairs)]
            if code := plan.main([*words, "--pairs-seed", str(PAIRS_SEED)]):
                raise SystemExit(code)
        return json.loads((out / "benchmark.json").read_text())

    def run(self, shares: Sequence[float]) -> None:
        """Train and test everything and print the table."""
        minutes = self.args.minutes
        video = self.trained("video", "data.actions=none", minutes=minutes)
        self.show("full", 1.0, self.trained("full", minutes=minutes))
        for share in shares:
            own = [] if share == 1 else [f"data.actions={share:g}"]
            few = self.trained(f"few-{share:g}", *own, f"start={video}", minutes=minutes / 2)
            self.show("few", share, few)
            if share < 1:
                scratch = self.trained(f"scratch-{share:g}", *own, minutes=minutes)
                self.show("scratch", share, scratch)
                labels = self.trained(f"labels-{share:g}", *own, f"start={scratch}", minutes=minutes / 2)
                self.show("labels", share, labels)

    def show(self, method: str, share: float, run: Path) -> None:
        found = self.tested(run)
        low, high = found["interval"]
        print(f"{self.world:9s} {method:8s} {share:6.1%}  {found['success']:5.0%} ({low:.0%} to {high:.0%})")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("world", choices=EPISODES)
    parser.add_argument("--out", type=Path, help="folder (default: runs/few-actions-WORLD)")
    parser.add_argument("--minutes", type=float, default=4.0, help="to train each model (default 4)")
    parser.add_argument("--pairs", type=int, default=100, help="goals of each test (default 100)")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES, help="of the episodes")
    parser.add_argument("--words", nargs="*", default=[], help="more settings of train.py")
    parser.add_argument("--small", action="store_true", help="a model of nothing, to see that all of it runs")
    args = parser.parse_args()
    folder = args.out or Path("runs") / f"few-actions-{args.world}{'-small' if args.small else ''}"
    folder.mkdir(parents=True, exist_ok=True)
    shares = (0.25,) if args.small else args.shares
    Curve(folder.absolute(), args.world, args).run(shares)


if __name__ == "__main__":
    sys.exit(main())
