"""Seconds a plan of stable-worldmodel's own LeWM with its own CEM, and of ours, in turns.

    python tests/benchmarks/bench_peers.py                             # where stable-worldmodel is installed
    python tests/benchmarks/bench_peers.py --python OTHER/bin/python   # in another environment
    python tests/benchmarks/bench_peers.py --python P --without lancedb torchvision cv2

Both have the same weights (the published architecture, random), the same latent to start from, the same goal
and as many candidates, and compute with as many threads. Encoding the frame is left out. The costs that both
give 64 common candidates are compared first. On a busy machine, --threads 1 and the processor time say more
than the clock.

--without names modules that stable-worldmodel imports and this does not use: empty ones stand in for those
that are not installed, and the table says so. Where the package is not there, or with --plain, its algorithm
written out plainly stands in for it, and the table says that.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bench_planning as planning
import numpy as np
import torch
from torch import Tensor

from latent_planner.checkpoints.lewm import to_lewm
from latent_planner.model.device import planning_precisions
from latent_planner.model.world_model import WorldModel

WORKER = Path(__file__).resolve().parent / "peer_worker.py"
SIZES = (
    "latent_dim", "projector_dim", "block_dim", "context_len", "predictor_depth", "predictor_heads",
    "predictor_head_dim", "predictor_mlp_dim", "dropout",
)  # fmt: skip
Solve = Callable[[int], tuple[float, float, float]]  # seed -> seconds, processor seconds, cost of the plan


class Clock:
    """Seconds, and processor seconds of this process, since it was made."""

    def __init__(self) -> None:
        self.began = time.perf_counter(), time.process_time()

    def __call__(self) -> tuple[float, float]:
        return time.perf_counter() - self.began[0], time.process_time() - self.began[1]


class TheirProgram:
    """stable-worldmodel, in a process of its own."""

    def __init__(
        self, python: str, world_model: WorldModel, latent: Tensor, goal: Tensor, without: list[str]
    ):
        self.folder = tempfile.TemporaryDirectory()
        problem = Path(self.folder.name) / "problem.npz"
        weights = {
            f"w/{name}": value.numpy()
            for name, value in to_lewm(world_model).items()
            if not name.startswith(("encoder.", "projector."))
        }
        sizes = {name: getattr(world_model.config, name) for name in SIZES}
        np.savez(problem, latent=latent.numpy(), goal=goal.numpy(), sizes=json.dumps(sizes), **weights)
        command = [python, str(WORKER), str(torch.get_num_threads()), str(problem), *without]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.about = self._answer()

    def ask(self, **asked: Any) -> dict[str, Any]:
        assert self.process.stdin is not None
        print(json.dumps(asked), file=self.process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None and self.process.stderr is not None
        line = self.process.stdout.readline()
        if not line:
            told = self.process.stderr.read().strip().splitlines() or ["it ended without a word"]
            raise RuntimeError(told[-1])
        return json.loads(line)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.folder.cleanup()


def solvers(
    arguments: argparse.Namespace, model: WorldModel, latent: Tensor, goal: Tensor
) -> tuple[str, Solve]:
    """The peer, or what stands in for it: its name, and how to make it plan."""
    shape = {"samples": arguments.samples, "elites": arguments.elites, "iterations": arguments.iterations}
    plain = planning.Plain(model, "last", arguments.samples, arguments.elites)
    python = arguments.python
    if python is None and not arguments.plain and importlib.util.find_spec("stable_worldmodel"):
        python = sys.executable
    if python is None:
        print("stable-worldmodel is not here (see --python): its algorithm, written out plainly, stands in")

        def stand_in(seed: int) -> tuple[float, float, float]:
            clock = Clock()
            least = plain.plan(latent, goal, arguments.iterations, seed)
            return *clock(), least

        return "the published algorithm, written out plainly", stand_in
    peer = TheirProgram(python, model, latent, goal, arguments.without)
    stubs = f", empty modules for {', '.join(arguments.without)}" if arguments.without else ""
    common = torch.randn(
        64, planning.HORIZON, model.config.block_dim, generator=torch.Generator().manual_seed(5)
    )
    theirs = torch.tensor(peer.ask(candidates=common.tolist())["cost"])
    with torch.no_grad():
        ours = planning.Ours(model, "last", num_samples=64)._price(common[None], latent[None], goal[None])[0]
    off = float(((theirs - ours).abs() / ours).max())
    print(f"costs of 64 common candidates differ by at most {off:.1e} of their size")
    if off > 1e-3:
        raise SystemExit("this is not the same model: nothing is compared")

    def solve(seed: int) -> tuple[float, float, float]:
        found = peer.ask(**shape, horizon=planning.HORIZON, seed=seed)
        return (
            found["seconds"],
            found["processor"],
            float(plain.cost(latent, goal, torch.tensor(found["actions"])[None])[0]),
        )

    return f"stable-worldmodel {peer.about['version']}, torch {peer.about['torch']}{stubs}", solve


def ours_equal(
    arguments: argparse.Namespace, model: Any, latent: Tensor, goal: Tensor, precision: str
) -> Solve:
    """As many candidates, drawn alike: white noise of standard deviation 1."""
    ours = planning.Ours(
        model, "last", precision=precision, num_samples=arguments.samples, num_elites=arguments.elites,
        iterations=arguments.iterations, init_std=1.0, noise_correlation=0.0,
    )  # fmt: skip

    candidates = torch.zeros(1, 2, planning.HORIZON, model.config.block_dim)
    with torch.no_grad():
        ours._price(candidates, latent[None], goal[None])  # makes what is made once

    def solve(seed: int) -> tuple[float, float, float]:
        clock = Clock()
        plan = ours.plan(latent[None], goal[None], seed)
        return *clock(), float(plan.cost[0])

    return solve


def ours_sooner(arguments: argparse.Namespace, model: Any) -> planning.Ours:
    """Our own search, which is to be as cheap as their plan sooner: few candidates, correlated in time, and
    gradient steps from the best of them."""
    return planning.Ours(
        model, "last", "cem_gradient", num_samples=max(4, 64 * arguments.samples // 300),
        num_elites=max(1, 8 * arguments.elites // 30), iterations=max(1, arguments.iterations // 5),
        gradient_starts=4, gradient_steps=40, learning_rate=0.05, init_std=1.0, noise_correlation=0.97,
        min_std=0.0,
    )  # fmt: skip


def seconds_until(ours: planning.Ours, latent: Tensor, goal: Tensor, target: float, seed: int) -> float:
    """Processor seconds of a search until its best plan is as cheap as this; nan: never."""
    clock, reached = Clock(), []

    def watch(search: Any) -> None:
        if not reached and float(search.best_cost) <= target:
            reached.append(clock()[1])

    def price(candidates: Tensor) -> Tensor:
        return ours.price(candidates, latent[None], goal[None])

    ours.planner.plan(price, seeds=[seed], watch=watch)
    return reached[0] if reached else float("nan")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--python", help="interpreter that has stable-worldmodel; default: this one")
    parser.add_argument("--plain", action="store_true", help="compare with the plain algorithm")
    parser.add_argument("--without", nargs="*", default=[], metavar="MODULE")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--samples", type=int, default=planning.SAMPLES)
    parser.add_argument("--elites", type=int, default=planning.ELITES)
    parser.add_argument("--iterations", type=int, default=planning.ITERATIONS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    model = next(iter(planning.models(torch.device("cpu")).values()))
    latents, goals = planning.problems(model, 1)
    latent, goal = latents[0], goals[0]
    try:
        name, theirs = solvers(arguments, model, latent, goal)
    except (RuntimeError, OSError) as error:
        raise SystemExit(f"stable-worldmodel cannot be run with {arguments.python}: {error}") from None
    runs: dict[str, Solve] = {name: theirs}
    for precision in planning_precisions("auto", torch.device("cpu")):
        runs[f"ours, {precision}"] = ours_equal(arguments, model, latent, goal, precision)
    found: dict[str, list[tuple[float, float, float]]] = {label: [] for label in runs}
    own, sooner = ours_sooner(arguments, model), []
    for seed in range(arguments.repeat):  # in turns, so that a busy machine troubles all alike
        for label, solve in runs.items():
            found[label].append(solve(seed))
        _, spent, cost = found[name][-1]
        sooner.append(spent / seconds_until(own, latent, goal, cost, seed))
    report(arguments, name, found, own, sooner)


def report(
    arguments: argparse.Namespace,
    name: str,
    found: dict[str, list[tuple[float, float, float]]],
    own: planning.Ours,
    sooner: list[float],
) -> None:
    rate = planning.matmul_rate(torch.device("cpu")) / 1e9
    print(
        f"{torch.get_num_threads()} threads, float32 matmul {rate:.0f} GFLOP/s, {arguments.repeat} in turns\n"
    )
    size = f"{arguments.samples} × {arguments.iterations} × {planning.HORIZON}"
    print(f"| {size} | s a plan | processor s | times quicker, by clock | by processor | cost |")
    print("|---|---|---|---|---|---|")
    for label, runs in found.items():
        ratios = [[a / b for a, b in zip(theirs[:2], ours[:2])] for theirs, ours in zip(found[name], runs)]
        figures = [statistics.median(values) for values in (*zip(*runs), *zip(*ratios))]
        seconds, spent, cost, by_clock, by_processor = figures
        print(f"| {label} | {seconds:.2f} | {spent:.2f} | {by_clock:.2f} | {by_processor:.2f} | {cost:.3g} |")
    told = ", ".join(f"{ratio:.1f}" for ratio in sooner)
    search = own.planner.config
    words = f"cem_gradient, {search.num_samples} × {search.iterations}, then {search.gradient_steps} steps"
    print(f"\ntimes sooner until our search ({words}, float32) is as cheap as their plan: {told}")


if __name__ == "__main__":
    main()
