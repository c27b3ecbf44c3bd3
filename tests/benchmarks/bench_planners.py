"""Planner by objective: success on goals that are not the benchmark's, with intervals, as a table.

    python tests/benchmarks/bench_planners.py pusht --pairs 60
    python tests/benchmarks/bench_planners.py two_room --planners cem mppi --objectives last closest
    python tests/benchmarks/bench_planners.py pusht --planners cem --words planner.precision=bfloat16

The checkpoint's own planner searches as it says, the others as configs/planner/ says; `seconds` are those of
one plan alone on this machine.
"""

from __future__ import annotations

import argparse
from functools import partial

from latent_planner import (
    envs,
    planners,
)
from latent_planner.agent import Agent
from latent_planner.checkpoints import checkpoint
from latent_planner.cli.planner_words import planner_settings
from latent_planner.envs.goals import pairs
from latent_planner.evaluation import benchmark

VALIDATION_SEED = 777


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("env", choices=envs.names())
    parser.add_argument("--checkpoint")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--planners", nargs="+", default=planners.names())
    parser.add_argument("--objectives", nargs="+", default=["closest", "last", "discounted"])
    parser.add_argument("--words", nargs="*", default=[], help="more settings, as planner.num_samples=128")
    arguments = parser.parse_args()
    world_model, info = checkpoint.load(arguments.checkpoint or arguments.env)
    goals = pairs.draw(arguments.env, arguments.pairs, VALIDATION_SEED)
    make_env = partial(envs.make, arguments.env, image_size=world_model.config.image_size)
    print("| planner | objective | success | interval | seconds |\n|---|---|---|---|---|")
    for name in arguments.planners:
        for objective in arguments.objectives:
            words = [f"planner={name}", f"planner.objective={objective}", *arguments.words]
            settings = planner_settings(words, info["planner"])
            agent = Agent(world_model, settings, device="auto")
            result = benchmark.run(agent, make_env, goals, progress=False, quick=True)
            seconds = benchmark.seconds_per_plan(agent.clone(), make_env(), goals)["median"]
            low, high = result["interval"]
            told = f"{result['success']:.0%} | {low:.0%}–{high:.0%} | {seconds:.3f}"
            print(f"| {name} | {objective} | {told} |", flush=True)


if __name__ == "__main__":
    main()
