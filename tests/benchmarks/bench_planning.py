"""How fast plans are made, beside the published algorithm written out plainly, in one process.

    python tests/benchmarks/bench_planning.py                  # all, about four minutes on two cores
    python tests/benchmarks/bench_planning.py equal batch      # some of it

equal   seconds a plan at equal candidates, and both as a share of what the machine's matmul rate allows
cost    seconds until the plan is as cheap as the plain one's last
batch   plans a minute, 100 problems together and one by one
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from latent_planner import planners
from latent_planner.checkpoints import checkpoint, lewm
from latent_planner.model.cuda_graphs import Graphed
from latent_planner.model.device import pick_device
from latent_planner.model.precision import Precision
from latent_planner.model.world_model import WorldModel, WorldModelConfig
from latent_planner.objective import Imagined, parse
from latent_planner.planners import Plan, PlanConfig

SAMPLES, ELITES, ITERATIONS, HORIZON = 300, 30, 30, 5  # as published


class Plain:
    """CEM as published: white noise, no bounds, float32, every window computed anew with all its outputs."""

    def __init__(
        self, world_model: Any, objective: str, samples: int = SAMPLES, elites: int = ELITES
    ) -> None:
        self.world_model, self.objective = world_model, parse(objective)
        self.samples, self.elites = samples, elites

    @torch.no_grad()
    def rollout(self, latent: Tensor, candidates: Tensor) -> Tensor:
        """(D,), (N, H, F·A) -> (N, H+1, D)."""
        model, window = self.world_model, self.world_model.config.context_len
        path = latent.expand(len(candidates), 1, -1).clone()
        for h in range(candidates.shape[1]):
            first = max(0, h + 1 - window) if model.predictor.slides else 0
            path = torch.cat([path, model.predict(path[:, first:], candidates[:, first : h + 1])[:, -1:]], 1)
        return path

    def cost(self, latent: Tensor, goal: Tensor, candidates: Tensor) -> Tensor:
        return self.objective(Imagined(self.rollout(latent, candidates)[None], goal[None]))[0]

    @torch.no_grad()
    def plan(self, latent: Tensor, goal: Tensor, iterations: int, seed: int) -> float:
        """The cheapest cost seen."""
        stream = torch.Generator(latent.device).manual_seed(seed)
        size = HORIZON, self.world_model.config.block_dim
        mean, std, best = latent.new_zeros(size), latent.new_ones(size), float("inf")
        for _ in range(iterations):
            noise = torch.randn(self.samples, *size, generator=stream, device=latent.device)
            candidates = mean + std * noise
            candidates[0] = mean
            cost = self.cost(latent, goal, candidates)
            least, which = cost.topk(self.elites, largest=False)
            mean, std = candidates[which].mean(0), candidates[which].std(0)
            best = min(best, least[0].item())
        return best


class Ours:
    """The planners and rollouts of this project, as the Agent puts them together."""

    def __init__(
        self,
        world_model: Any,
        objective: str,
        planner: str = "cem",
        precision: str = "float32",
        **config: Any,
    ) -> None:
        self.world_model, self.objective, self.device = world_model, parse(objective), device_of(world_model)
        self.precision = Precision(precision, world_model, self.device)
        low, high = world_model.config.block_low, world_model.config.block_high
        self.planner = planners.make(
            planner, PlanConfig(**config), low, high, action_dim=world_model.config.action_dim
        )
        self.price = Graphed(self._price) if self.device.type == "cuda" else self._price

    def _price(self, candidates: Tensor, latents: Tensor, goals: Tensor) -> Tensor:
        return self.objective(Imagined(self.precision.rollout(latents[:, None], candidates, None), goals))

    def plan(self, latents: Tensor, goals: Tensor, seed: int = 0, deadline: float | None = None) -> Plan:
        """(B, D), (B, D)."""
        seeds = range(seed, seed + len(goals))
        return self.planner.plan(
            lambda candidates: self.price(candidates, latents, goals),
            batch_size=len(goals), deadline=deadline, seeds=seeds, device=self.device,
        )  # fmt: skip


def device_of(world_model: Any) -> torch.device:
    return next(world_model.parameters()).device


def models(device: torch.device) -> dict[str, Any]:
    """The published architecture with random weights (none trained can be shipped), and the bundled one."""
    generator = torch.Generator().manual_seed(0)
    world = {
        "env": "pusht", "action_mean": (0.0, 0.0), "action_std": (0.4, 0.4),
        "action_low": (-1.0, -1.0), "action_high": (1.0, 1.0),
    }  # fmt: skip
    published = WorldModel(WorldModelConfig(**{**world, **lewm.SETTINGS})).eval()
    for block in published.predictor._blocks():  # zero weights would steer nothing, small ones hardly
        weight = block.modulation.weight
        weight.data = 10 * torch.randn(weight.shape, generator=generator) / weight.shape[1] ** 0.5
    found = {"published (18 M, random weights)": published}
    if "pusht" in checkpoint.bundled():
        found["small (bundled PushT)"] = checkpoint.load("pusht")[0]
    return {name: model.to(device) for name, model in found.items()}


@torch.no_grad()
def problems(world_model: Any, count: int) -> tuple[Tensor, Tensor]:
    """Latents and goals (count, D): each goal is where a smooth plan leads in imagination."""
    generator = torch.Generator().manual_seed(1)
    config = world_model.config
    device = device_of(world_model)
    latents = torch.randn(count, config.latent_dim, generator=generator).to(device)
    steady = torch.randn(count, 1, 1, 1, config.action_dim, generator=generator)
    plans = 0.7 * steady.expand(-1, 1, HORIZON, config.frameskip, -1).flatten(3).to(device)
    return latents, world_model.rollout(latents[:, None], plans)[:, 0, -1]


def median_seconds(call: Callable[[], Any], count: int, device: torch.device) -> float:
    call()
    seconds = []
    for _ in range(count):
        begun = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds)


def matmul_rate(device: torch.device) -> float:
    """FLOP a second of large float32 products."""
    x = torch.randn(2048, 2048, device=device)
    return 2 * 2048**3 / median_seconds(lambda: x @ x, 4, device)


def flops(call: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def equal(name: str, world_model: Any, rate: float) -> None:
    """Seconds a plan of the published size. Iterations are alike, so few are run, in turn."""
    device = device_of(world_model)
    latents, goals = problems(world_model, 1)
    plain = Plain(world_model, "last")
    candidates = torch.randn(SAMPLES, HORIZON, world_model.config.block_dim, device=device)
    with torch.no_grad():
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the counter does not see into threads
        work = (
            flops(lambda: plain.rollout(latents[0], candidates)),
            flops(lambda: world_model.rollout(latents[:, None], candidates[None])),
        )
        torch.set_num_threads(threads)
    few = 2
    white = {"init_std": 1.0, "noise_correlation": 0.0}
    ours = Ours(world_model, "last", num_samples=SAMPLES, num_elites=ELITES, iterations=few, **white)
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(3):  # in turn, so that a busy machine troubles both
        seconds[0].append(median_seconds(lambda: plain.plan(latents[0], goals[0], few, 0), 1, device) / few)
        seconds[1].append(median_seconds(lambda: ours.plan(latents, goals), 1, device) / few)
    both = [ITERATIONS * statistics.median(own) for own in seconds]
    print(f"{name}: {SAMPLES} x {ITERATIONS} x {HORIZON}, seconds a plan")
    for label, spent, own in zip(("plain", "ours"), both, work):
        share = own * ITERATIONS / rate / spent
        print(
            f"  {label:>5}: {spent:7.2f} s, {own / 1e9:6.1f} GFLOP an iteration, {share:.0%} of matmul rate"
        )
    print(f"  ratio {both[0] / both[1]:.2f}; by arithmetic alone {work[0] / work[1]:.2f}")


def cost(name: str, world_model: Any, count: int = 3) -> None:
    """Until the plan is as cheap as the plain one's last; both for the objective `last`."""
    latents, goals = problems(world_model, count)
    plain = Plain(world_model, "last")
    more: dict[str, Any] = {"init_std": 1.0, "noise_correlation": 0.97, "min_std": 0.0}
    steps = {"gradient_starts": 4, "gradient_steps": 40, "learning_rate": 0.03}
    ours = {
        "cem 192 x 40": Ours(world_model, "last", num_samples=192, num_elites=16, iterations=40, **more),
        "cem_gradient 128 x 8 + 40": Ours(
            world_model, "last", "cem_gradient", num_samples=128, num_elites=12, iterations=8, **steps, **more
        ),
    }
    ratios: dict[str, list[float]] = {label: [] for label in ours}
    for i in range(count):
        begun = time.perf_counter()
        target = plain.plan(latents[i], goals[i], ITERATIONS, i)
        spent = time.perf_counter() - begun
        for label, own in ours.items():
            plan = own.plan(latents[i : i + 1], goals[i : i + 1], seed=i)
            reached = (plan.history[0] <= target).nonzero()
            share = (int(reached[0]) + 1) / plan.iterations if len(reached) else float("nan")
            ratios[label].append(spent / (share * plan.solve_seconds))
    print(
        f"{name}: how many times sooner the plain plan's last cost is reached ({count} problems; nan: never)"
    )
    for label, found in ratios.items():
        print(f"  {label}: {', '.join(f'{ratio:.1f}' for ratio in found)}")


def batch(name: str, world_model: Any, count: int = 100) -> None:
    """The default search, for many problems together and for some of them one by one."""
    latents, goals = problems(world_model, count)
    ours = Ours(world_model, "closest")
    device = device_of(world_model)
    some = min(5, count)
    together = median_seconds(lambda: ours.plan(latents, goals), 1, device)
    alone = median_seconds(
        lambda: [ours.plan(latents[i : i + 1], goals[i : i + 1], i) for i in range(some)], 1, device
    )
    print(
        f"{name}: 256 x 6 x 5, {60 * count / together:.0f} plans a minute {count} together, "
        f"{60 * some / alone:.0f} one by one"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", default=["equal", "cost", "batch"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--model", default="", help="only models with this in their name")
    arguments = parser.parse_args()
    device = pick_device(arguments.device)
    rate = matmul_rate(device)
    print(f"{device}, {torch.get_num_threads()} threads, float32 matmul {rate / 1e9:.0f} GFLOP/s")
    for name, world_model in models(device).items():
        if arguments.model not in name:
            continue
        if "equal" in arguments.what:
            equal(name, world_model, rate)
        if "cost" in arguments.what:
            cost(name, world_model)
        if "batch" in arguments.what:
            batch(name, world_model, 100 if "small" in name or device.type == "cuda" else 4)


if __name__ == "__main__":
    main()
