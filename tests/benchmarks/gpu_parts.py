"""The parts of gpu_day.py, which runs this file. Each notes what it finds as soon as it knows it."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import bench_planning as planning
import pytest
import torch
from gpu_training import ROOT, TINY_LEWM, Context, lewm, pusht, settings, throughput

from latent_planner import Agent, envs
from latent_planner.checkpoints import checkpoint
from latent_planner.model.cuda_graphs import Graphed
from latent_planner.model.world_model import WorldModel, WorldModelConfig
from latent_planner.settings import AgentSettings


def chip(context: Context) -> None:
    name = platform.processor() if context.dry else torch.cuda.get_device_name()
    context.note("chip", f"{name or platform.machine()}, {os.cpu_count()} cores")
    context.note(
        "torch", f"{torch.__version__}, CUDA {torch.version.cuda}, Python {platform.python_version()}"
    )
    for dtype in (torch.float32, torch.bfloat16):
        kind = str(dtype).removeprefix("torch.")
        context.note(f"matmul, {kind}", f"{context.rate(dtype) / 1e12:.3g} TFLOP/s")


class Outcomes(Counter[str]):
    """Counts what pytest says of each test."""

    def pytest_runtest_logreport(self, report: Any) -> None:
        if report.when == "call" or report.outcome != "passed":
            self[report.outcome] += 1


def tests(context: Context) -> None:
    """The tests marked gpu, from the files that hold some. What pytest prints is in tests.log."""
    files = [path for path in sorted((ROOT / "tests").glob("test_*.py")) if "mark.gpu" in path.read_text()]
    outcomes, words = Outcomes(), ["-m", "gpu", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # plugins of other packages do not matter here
    with (context.out / "tests.log").open("w") as log, redirect_stdout(log):
        code = pytest.main([*words, *map(str, files)], plugins=[outcomes])
    told = ", ".join(f"{count} {outcome}" for outcome, count in outcomes.items()) or "none found"
    context.note("pytest -m gpu", told, "all passed")
    if code:
        raise SystemExit(f"pytest says {code}: see tests.log")


# -- (3) planning -------------------------------------------------------------------------------------------


def latencies(context: Context, name: str, world_model: Any, objective: str, search: dict[str, Any]) -> None:
    """Seconds a search for 1 and for 64 problems, each way, in both precisions."""
    several = 4 if context.dry else 64
    cases = [(precision, batch) for precision in ("bfloat16", "float32") for batch in (1, several)]
    captures = context.device.type == "cuda"
    ways = {"eager": cases, "captured": cases if captures else []}
    # last, as it may take long; a dry run tries it once
    ways["compiled"] = cases[: int(name == "published")] if context.dry else cases
    for way, own in ways.items():
        for precision, batch in own:
            about = (
                f"{name} {search['num_samples']} × {search['iterations']}, {precision}, batch {batch}, {way}"
            )
            try:
                figure = latency(context, world_model, objective, search, way, precision, batch)
            except Exception as error:
                if context.dry:
                    raise
                figure = f"failed: {type(error).__name__}: {str(error)[:200]}"
            context.note(about, figure, GOALS[name] if batch == 1 else "≥ 2,000 plans a minute")


def latency(
    context: Context, world_model: Any, objective: str, search: dict[str, Any], way: str, precision: str,
    batch: int,
) -> str:  # fmt: skip
    ours = planning.Ours(world_model, objective, **search)
    ours.price = ours._price
    if way == "compiled":  # a CPU would need a C++ compiler
        ours.price = torch.compile(ours._price, backend="eager" if context.dry else "inductor", dynamic=False)
    if way != "eager" and context.device.type == "cuda":
        ours.price = Graphed(ours.price)
    plan = partial(ours.plan, *planning.problems(world_model, batch))
    with context.half() if precision == "bfloat16" else nullcontext():
        begun = time.monotonic()
        plan()
        first = time.monotonic() - begun
        seconds = planning.median_seconds(plan, 1 if context.dry else 5, context.device)
    rate = 60 * batch / seconds
    return f"{1000 * seconds:.1f} ms a search, {rate:,.0f} plans a minute (the first took {first:.1f} s)"


GOALS = {"published": "≤ 10 ms, ≥ 5 × plain", "small": "≤ 3 ms"}


def planning_lewm(context: Context) -> None:
    if context.dry:
        base = {"env": "pusht", "action_mean": (0.0, 0.0), "action_std": (0.4, 0.4)}
        base |= {"action_low": (-1.0, -1.0), "action_high": (1.0, 1.0)}
        own = {**planning.lewm.SETTINGS, **TINY_LEWM}
        world_model: Any = WorldModel(WorldModelConfig(**{**base, **own})).eval()
        sizes = {"samples": 8, "elites": 4}
    else:
        world_model = next(iter(planning.models(context.device).values()))
        sizes = {"samples": planning.SAMPLES, "elites": planning.ELITES}
    iterations = 2 if context.dry else planning.ITERATIONS
    latents, goals = planning.problems(world_model, 1)
    for precision in ("float32", "bfloat16"):
        with context.half() if precision == "bfloat16" else nullcontext():
            plain = planning.Plain(world_model, "last", **sizes)
            plan = partial(plain.plan, latents[0], goals[0], iterations, 0)
            seconds = planning.median_seconds(plan, 1 if context.dry else 3, context.device)
        context.note(f"published {sizes['samples']} × {iterations}, {precision}, batch 1, plain algorithm",
                     f"{1000 * seconds:.1f} ms a search")  # fmt: skip
    white = {"init_std": 1.0, "noise_correlation": 0.0, "iterations": iterations}
    search = {"num_samples": sizes["samples"], "num_elites": sizes["elites"], **white}
    latencies(context, "published", world_model, "last", search)


def planning_small(context: Context) -> None:
    own = settings("small")["planner"]
    search = {
        "num_samples": own["num_samples"],
        "num_elites": own["num_elites"],
        "iterations": own["iterations"],
    }
    search |= {"num_samples": 16, "num_elites": 4, "iterations": 2} if context.dry else {}
    world_model = checkpoint.load("pusht", context.device)[0]
    latencies(context, "small", world_model, own["objective"], search)
    agent = Agent(world_model, AgentSettings.from_dict(own).changed(**search), device=context.device)
    world = envs.make("pusht", image_size=64)
    observation, info = world.reset(seed=0)
    agent.set_goal(info["goal"])
    for precision in ("float32", "bfloat16"):
        agent = Agent(world_model, agent.settings.changed(precision=precision), device=context.device)
        agent.set_goal(info["goal"])
        plan = partial(agent.plan, observation["pixels"])
        seconds = planning.median_seconds(plan, 1 if context.dry else 10, context.device)
        context.note(f"small, Agent.plan from pixels, {precision}", f"{1000 * seconds:.1f} ms", "≤ 3 ms")


PARTS: dict[str, Callable[[Context], None]] = {
    "chip": chip,
    "tests": tests,
    "training-small": partial(throughput, name="small"),
    "training-lewm": partial(throughput, name="lewm"),
    "planning-lewm": planning_lewm,
    "planning-small": planning_small,
    "pusht-2": partial(pusht, minutes=2.0),
    "pusht-5": partial(pusht, minutes=5.0),
    "pusht-10": partial(pusht, minutes=10.0),
    "lewm": lewm,
}


def main() -> int:
    given, *names = sys.argv[1:]
    where = json.loads(given)
    if where["dry"]:
        torch.set_num_threads(1)
    code = 0
    for name in names:
        context = Context(name, Path(where["out"]), Path(where["scratch"]), where["limit"], where["dry"])
        context.keep()
        try:
            PARTS[name](context)
            context.status = "done"
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            context.status, code = "failed", 1
            context.note("error", f"{type(error).__name__}: {str(error)[:300]}")
        context.keep()
    sys.stdout.flush()
    os._exit(code)  # threads and graphs of a library do not hold it up


if __name__ == "__main__":
    main()
