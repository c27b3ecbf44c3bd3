"""Success against the seconds that a plan may take: a plot and a table, on goals not of the benchmark.

    python tests/benchmarks/bench_deadline.py pusht --pairs 40 --out deadline.png
    python tests/benchmarks/bench_deadline.py two_room --deadlines 0.02 0.05 --planners cem

One goal at a time, as on a robot. Every planner searches as configs/planner/ says, with more iterations than
any deadline allows, and executes the first block of each plan.
"""

from __future__ import annotations

import argparse
import statistics
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from latent_planner import agent as agent_module
from latent_planner import envs, imagination
from latent_planner.agent import Agent
from latent_planner.checkpoints import checkpoint
from latent_planner.cli.planner_words import planner_settings
from latent_planner.envs.goals import pairs
from latent_planner.evaluation import benchmark
from latent_planner.evaluation.plots import CAPTION, COLOURS, dress, save
from latent_planner.planners import Plan, planner

VALIDATION_SEED = 777


class Timed(Agent):
    """An Agent that notes how long its plans took and how far they came."""

    noted: list[tuple[float, int]] = []

    def _replan(self, *arguments: Any) -> Plan:
        plan = super()._replan(*arguments)
        self.noted.append((plan.solve_seconds, plan.iterations))
        return plan

    def clone(self, seed: int | None = None) -> Timed:
        made = super().clone(seed)
        made.__class__ = Timed
        return made  # type: ignore[return-value]


def count_processor_time() -> None:
    """Let planners believe that only the time that this process computes goes by."""
    torch.set_num_threads(1)
    for module in (planner, agent_module, imagination):
        module.time = SimpleNamespace(perf_counter=time.process_time)  # type: ignore[attr-defined]


def measure(timed: Timed, goals: Any) -> dict[str, Any]:
    Timed.noted = []
    make_env = partial(envs.make, timed.config.env, image_size=timed.config.image_size)
    result = benchmark.run(timed, make_env, goals, progress=False, quick=True, pairs_at_once=1)
    seconds, iterations = zip(*Timed.noted)
    late = sorted(seconds)[int(0.95 * len(seconds))]
    return {**result, "p95": late, "iterations": statistics.median(iterations)}


def draw(path: Path, env: str, deadlines: list[float], found: dict[str, list[dict[str, Any]]]) -> Path:
    """Success with its interval for each deadline, and last without any, of each planner."""
    figure = Figure(figsize=(5.5, 3.6), layout="constrained")
    axis = figure.subplots()
    for colour, (name, results) in zip(COLOURS, found.items()):
        *timed, free = results
        axis.fill_between(deadlines, *zip(*[one["interval"] for one in timed]), color=colour, alpha=0.12)
        axis.plot(deadlines, [one["success"] for one in timed], color=colour, marker="o", label=name)
        axis.plot(free["p95"], free["success"], color=colour, marker="s", linestyle="none")
    dress(axis, f"{env}: success against the deadline (square: none, its p95)", "seconds a plan may take")
    axis.set_xscale("log")
    axis.set_xlim(left=min(deadlines) / 1.3)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(deadlines, [f"{deadline:g}" for deadline in deadlines])
    axis.set_ylim(0, 1.03)
    axis.legend(fontsize=CAPTION, frameon=False)
    return save(figure, path)


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
    parser.add_argument("--processor-time", action="store_true", help="for a busy machine; uses one thread")
    arguments = parser.parse_args()
    if arguments.processor_time:
        count_processor_time()
    world_model, info = checkpoint.load(arguments.env)
    goals = pairs.draw(arguments.env, arguments.pairs, VALIDATION_SEED)
    found: dict[str, list[dict[str, Any]]] = {}
    for name in arguments.planners:
        found[name] = []
        for deadline in [*arguments.deadlines, None]:
            words = [f"planner={name}", *arguments.words]
            settings = planner_settings(words, info["planner"])
            if deadline is not None:
                settings = settings.changed(deadline=deadline, iterations=1000)
            found[name].append(measure(Timed(world_model, settings, device="auto"), goals))
            one = found[name][-1]
            print(
                f"{name}, deadline {deadline}: success {one['success']:.0%} "
                f"({one['interval'][0]:.0%} to {one['interval'][1]:.0%}), "
                f"{one['iterations']:.0f} iterations, p95 {one['p95'] * 1000:.0f} ms",
                flush=True,
            )
    if arguments.out:
        print(draw(arguments.out, arguments.env, arguments.deadlines, found))


if __name__ == "__main__":
    main()
