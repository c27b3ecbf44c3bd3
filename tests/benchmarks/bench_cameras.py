"""What several cameras, joint angles and velocities are worth: each part trains, tests and prints a table.

    python tests/benchmarks/bench_cameras.py cube            # seven models, 40 minutes each
    python tests/benchmarks/bench_cameras.py velocity        # a pendulum, and a car in a valley
    python tests/benchmarks/bench_cameras.py rest            # Reacher and PushT, with the vector or without
    python tests/benchmarks/bench_cameras.py gym             # CartPole kept up, MiniGrid from its picture
    python tests/benchmarks/bench_cameras.py cube --small    # in a minute; its figures mean nothing

cube      `low` and `side` each hide how far away the cube is; `front` shows all; `wrist` moves with the hand.
          Each alone, pairs, pairs with joint angles; then those of several with one of them missing.
velocity  A goal is a place and a speed. A picture does not show the speed: the goal needs the vector,
          and the agent the vector or two frames before its first plan.
rest      Goals at rest, as the benchmark has them: what it costs that a picture hides velocities.
gym       Choices: CartPole's steps of 500, and MiniGrid's goals (pip install minigrid).

All models of a part learn from one recording. What is done stays in --out, and the same command goes on.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(Path(__file__).resolve().parent), str(ROOT / "tests"), str(ROOT / "examples")]

import resumable  # noqa: E402

from latent_planner.envs.recordings.collect import collect  # noqa: E402

SMALL = [*resumable.SMALL, "model.proprio_dims=4", "benchmark.validation_pairs=0"]


class Test(NamedTuple):
    """One line of a table: what the agent sees, what a goal shows, and whether two frames come first."""

    run: str
    sees: str = ""
    goal: str = ""
    history: bool = False
    module: str = ""


class Bench:
    """Trains and tests into one folder."""

    def __init__(self, folder: Path, minutes: float, pairs: int, small: bool) -> None:
        self.folder, self.minutes, self.small = folder, minutes, small
        self.pairs = 2 if small else pairs

    def recorded(self, world: str, episodes: int, **options: Any) -> str:
        """The word that names the recording, which is made unless it is there."""
        size, length = (32, 30) if self.small else (64, 100)
        count = 6 if self.small else episodes
        path = self.folder / f"{re.sub(r'[^a-zA-Z0-9_-]+', '-', world)}-{count}x{length}.h5"
        collect(world, path, episodes=count, length=length, image_size=size, **options)
        return f"data.path={path}"

    def trained(self, name: str, words: Sequence[str]) -> Path:
        """The run folder of this name, trained to its end."""
        more = SMALL if self.small else ()
        return resumable.trained(self.folder / name, [*words, f"train.minutes={self.minutes}", *more])

    def tested(self, test: Test) -> dict[str, Any]:
        """The result of this test."""
        run = self.folder / test.run
        words = ["--pairs", str(self.pairs), *(["--module", test.module] if test.module else [])]
        words += [f"benchmark.senses={test.sees}"] * bool(test.sees)
        words += [f"benchmark.goal={test.goal}"] * bool(test.goal)
        words += [f"benchmark.history={'true' if test.history else 'false'}"]
        name = "-".join(["test", test.sees, test.goal, "two" * test.history])
        return resumable.tested(run, run / name, words)

    def table(self, tests: Sequence[Test]) -> None:
        """Run these tests and print a line for each."""
        lines = []
        for test in tests:
            found = self.tested(test)
            low, high = found["interval"]
            sees = "+".join(found.get("senses", ["pixels"])) + " from two frames" * test.history
            shows = "+".join(found.get("goal_shows", ["pixels"]))
            random = found["floors"]["random"]["success"]
            lines.append(
                f"{test.run:26s} {sees:30s} {shows:20s} {found['success']:5.0%} ({low:.0%} to {high:.0%})"
                f"   random {random:.0%}"
            )
        print(f"\n{'model':26s} {'the agent sees':30s} {'a goal shows':20s} success of {self.pairs}")
        print("\n".join(lines), flush=True)


def cube(bench: Bench) -> None:
    """Cameras of Cube: alone, in pairs, with joint angles, and with one missing."""
    where = bench.recorded("cube", 1500, cameras=["front", "wrist", "low", "side"], proprio=True)
    tests = []
    for names, vector in (
        (["low"], False), (["side"], False), (["low", "side"], False), (["low", "side"], True),
        (["front"], False), (["front", "wrist"], False), (["front", "wrist"], True),
    ):  # fmt: skip
        run = "-".join(["cube", *names, *(["angles"] * vector)])
        words = ["env=cube", where, f"data.cameras=[{','.join(names)}]", "model.latent_dim=128"]
        bench.trained(run, [*words, *(["data.proprio=proprio"] * vector)])
        tests.append(Test(run))
        if len(names) > 1:
            tests += [Test(run, sees=name) for name in names]
        if vector:
            tests += [Test(run, sees=",".join(names)), Test(run, goal=",".join([*names, "proprio"]))]
    bench.table(tests)


def velocity(bench: Bench) -> None:
    """A pendulum and a car in a valley that are to pass a place at a speed."""
    tests = []
    for run, world, counts in (
        ("pendulum", "Pendulum-v1", "0,1,2"), ("car", "MountainCarContinuous-v0", "0,1"),
    ):  # fmt: skip
        where = bench.recorded(f"gym:{world}?past_end=true", 600, proprio=True)
        words = ["env=gym", f"env.id={world}", f"env.goal=[{counts}]", "env.past_end=true", where]
        bench.trained(run, [*words, "data.proprio=proprio", "benchmark.goal=[pixels,proprio]"])
        tests += [
            Test(run, "pixels", "pixels", history=True),
            Test(run, "pixels", "pixels,proprio"),
            Test(run, "pixels", "pixels,proprio", history=True),
            Test(run, "pixels", "proprio", history=True),
            Test(run, "pixels,proprio", "pixels"),
            Test(run, "pixels,proprio", "proprio"),
            Test(run, "pixels,proprio", "pixels,proprio"),
        ]
    bench.table(tests)


def rest(bench: Bench) -> None:
    """Reacher and PushT with the vector and without; the same tests, the same recording."""
    tests = []
    for world in ("reacher", "pusht"):
        where = bench.recorded(world, 2000, proprio=True)
        for name, more in ((world, []), (f"{world}-vector", ["data.proprio=proprio"])):
            bench.trained(name, [f"env={world}", where, *more])
            tests.append(Test(name))
        tests.append(Test(f"{world}-vector", sees="pixels"))
    bench.table(tests)


def gym(bench: Bench) -> None:
    """Choices: how long CartPole's pole stays up, and how often MiniGrid's goal picture is reached."""
    import cart_pole

    common = ["env=gym", "env.past_end=true", "env.policy=random", "model.frameskip=1"]
    common += ["planner.horizon=12", "planner.objective=discounted(0.95)", "benchmark.validation_pairs=0"]
    episodes = "env.episodes=6" if bench.small else "env.episodes=1200"
    run = bench.trained("cart-pole", [*common, "env.id=CartPole-v1", "env.length=50", episodes])
    few = ["--episodes", "2", "--steps", "5"] if bench.small else ["--episodes", "20"]
    sys.argv = ["cart_pole.py", str(run), *few]
    cart_pole.main()
    try:
        import minigrid  # noqa: F401  registers its worlds
    except ImportError:
        print("MiniGrid is left out: pip install minigrid")
        return
    import mini_grid

    words = ["env=gym", "module=mini_grid", f"env.id={mini_grid.ID}", "env.goal=[0,1]", "env.length=60"]
    words += ["env.policy=random", "env.past_end=true", "model.frameskip=1", "planner.horizon=12"]
    more = ["benchmark.validation_pairs=0", "env.episodes=6" if bench.small else "env.episodes=1500"]
    bench.trained("mini-grid", [*words, *more])
    bench.table([Test("mini-grid", module="mini_grid")])


PARTS: dict[str, Callable[[Bench], None]] = {"cube": cube, "velocity": velocity, "rest": rest, "gym": gym}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--out", type=Path, help="folder (default: runs/cameras, small: runs/cameras-small)")
    parser.add_argument("--minutes", type=float, default=40.0, help="to train each model (default 40)")
    parser.add_argument("--pairs", type=int, default=100, help="goals of each test (default 100)")
    parser.add_argument("--small", action="store_true", help="a model of nothing, to see that all of it runs")
    args = parser.parse_args()
    folder = args.out or Path("runs") / ("cameras-small" if args.small else "cameras")
    folder.mkdir(parents=True, exist_ok=True)
    np.set_printoptions(precision=3)
    PARTS[args.part](Bench(folder.absolute(), args.minutes, args.pairs, args.small))


if __name__ == "__main__":
    main()
