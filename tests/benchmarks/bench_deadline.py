"""Success against the seconds that a plan may take: a plot and a table, on goals not of the benchmark.

    python tests/benchmarks/bench_deadline.py pusht --pairs 40 --out deadline.png
    python tests/benchmarks/bench_deadline.py two_room --deadlines 0.02 0.05 --planners cem

One goal at a time, as on a robot. Every planner searches as configs/planner/ says, with more iterations than
any deadline allows, and executes the first block of each plan.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from functools import partial
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]
from matplotlib.figure import Figure  # noqa: E402

import envs  # noqa: E402
from agent import benchmark, checkpoint  # noqa: E402
from agent.agent import Agent  # noqa: E402
from agent.plots import CAPTION, COLOURS, dress, save  # noqa: E402
from configs.planner_settings import planner_settings  # noqa: E402
from envs import pairs  # noqa: E402

VALIDATION_SEED = 777


class Timed(Agent):
    """An Agent that notes how long its plans took and how far they came."""

    noted: list[tuple[float, int]] = []

    def _replan(self, *arguments: Any) -> None:
        super()._replan(*arguments)
        assert self.last_plan is not None
        self.noted.append((self.last_plan.solve_seconds, self.last_plan.iterations))

    def session(self, seed: int | None = None) -> Timed:
        made = super().session(seed)
        made.__class__ = Timed
        return made  # type: ignore[return-value]


def measure(agent: Timed, goals: Any) -> dict[str, Any]:
    Timed.noted = []
    make_env = partial(envs.make, agent.config.env, image_size=agent.config.image_size)
    result = benchmark.run(agent, make_env, goals, progress=False, quick=True, pairs_at_once=1)
    seconds, iterations = zip(*Timed.noted)
    late = sorted(seconds)[int(0.95 * len(seconds))]
    return {**result, "p95": late, "iterations": statistics.median(iterations)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("env", choices=envs.names())
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--deadlines", type=float, nargs="+", default=[0.01, 0.02, 0.05, 0.1, 0.2])
    parser.add_argument("--planners", nargs="+", default=["cem"])
    parser.add_argument("--words", nargs="*", default=[], help="more settings, as planner.num_samples=128")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    world_model, info = checkpoint.load(arguments.env)
    goals = pairs.make(arguments.env, arguments.pairs, VALIDATION_SEED)
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axis = figure.subplots()
    for colour, name in zip(COLOURS, arguments.planners):
        found = []
        for deadline in [*arguments.deadlines, None]:
            words = [f"planner={name}", *arguments.words]
            settings = checkpoint.planner_settings(planner_settings(words, info["planner"]))
            if deadline is not None:
                more = settings["plan_config"].to_dict() | {"iterations": 1000}
                settings |= {"deadline": deadline, "plan_config": type(settings["plan_config"])(**more)}
            found.append(measure(Timed(world_model, device="auto", **settings), goals))
            one = found[-1]
            print(
                f"{name}, deadline {deadline}: success {one['success']:.0%} "
                f"({one['interval'][0]:.0%} to {one['interval'][1]:.0%}), "
                f"{one['iterations']:.0f} iterations, p95 {one['p95'] * 1000:.0f} ms",
                flush=True,
            )
        at = [*arguments.deadlines, statistics.median([found[-1]["p95"]])]
        axis.fill_between(at[:-1], *zip(*[one["interval"] for one in found[:-1]]), color=colour, alpha=0.12)
        axis.plot(at[:-1], [one["success"] for one in found[:-1]], color=colour, marker="o", label=name)
        axis.plot(at[-1], found[-1]["success"], color=colour, marker="s", linestyle="none")
    axis.set_xscale("log")
    dress(
        axis,
        f"{arguments.env}: success against the deadline (square: none, its p95)",
        "seconds a plan may take",
    )
    axis.set_xlim(left=min(arguments.deadlines) / 1.3)
    axis.set_xticks(arguments.deadlines, [f"{deadline:g}" for deadline in arguments.deadlines])
    axis.set_ylim(0, 1.03)
    axis.legend(fontsize=CAPTION, frameon=False)
    if arguments.out:
        print(save(figure, arguments.out))


if __name__ == "__main__":
    main()
