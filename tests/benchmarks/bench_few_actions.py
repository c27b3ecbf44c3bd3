"""Success against the share of the episodes that have actions; each world trains, tests and prints a table.

    python tests/benchmarks/bench_few_actions.py two_room            # 12 trainings of 2 to 4 minutes
    python tests/benchmarks/bench_few_actions.py pusht --minutes 15
    python tests/benchmarks/bench_few_actions.py two_room --small    # in a minute; its figures mean nothing

few      frames alone, then an inverse model on that encoder labels the rest (data.actions=none, then start=)
scratch  trained on the episodes with actions alone
labels   the encoder of `scratch`; an inverse model on it labels the rest
full     all actions, trained as always: the row that the others are compared with

All learn from one recording with the same budget; `few` has half of it again. What is done stays in --out,
and the same command goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

import resumable  # noqa: E402

from latent_planner.envs.recordings.collect import collect  # noqa: E402

SHARES = (0.01, 0.025, 0.1, 1.0)
EPISODES = {"two_room": 1000, "pusht": 2000}
PAIRS_SEED = 777  # goals that are not the benchmark's


class Curve:
    """Trains and tests into one folder."""

    def __init__(self, folder: Path, world: str, args: argparse.Namespace) -> None:
        self.folder, self.world, self.args = folder, world, args
        size, length, count = (32, 40, 12) if args.small else (64, 100, EPISODES[world])
        path = folder / f"{world}-{count}x{length}.h5"
        collect(world, path, episodes=count, length=length, image_size=size)
        self.words = [f"env={world}", f"data.path={path}", "benchmark.validation_pairs=0"]
        self.words += resumable.SMALL if args.small else args.words

    def trained(self, name: str, *words: str, minutes: float) -> Path:
        """The run folder of this name, trained to its end."""
        budget = [] if self.args.small else [f"train.minutes={minutes}"]
        return resumable.trained(self.folder / name, [*self.words, *budget, *words])

    def tested(self, run: Path) -> dict[str, Any]:
        """What the benchmark says of this run."""
        pairs = 2 if self.args.small else self.args.pairs
        return resumable.tested(run, run / "test", ["--pairs", str(pairs), "--pairs-seed", str(PAIRS_SEED)])

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
