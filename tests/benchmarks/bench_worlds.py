"""How fast the worlds step and draw, on one core.

    python tests/benchmarks/bench_worlds.py [--steps 4000] [--worlds reacher point_maze]

Each figure is control steps a second with a frame each, under the actions of the world's behaviour policy,
replayed so that the policy's own time is not counted: the best of five rounds of process time. Physics alone
and the policy alone stand beside it, how fast PushT is drawn at worst, with a block that always moves, and
what dm_control gives for Reacher as it comes.
"""

from __future__ import annotations

import argparse
import functools
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gymnasium
import numpy as np

from latent_planner import envs
from latent_planner.envs import policies

LENGTH = 100


def machine() -> str:
    """Processor, Python and libraries, in one line."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        names = [
            line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0].split(":", 1)[1].strip() if names else model
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{model}, {os.cpu_count()} cores{load}; Python {platform.python_version()}, numpy {np.__version__}, "
        f"gymnasium {gymnasium.__version__}"
    )


def per_second(work: Callable[[], int], rounds: int = 5) -> float:
    """The best rate of `work`, which returns how much it did, over some rounds."""
    best = 0.0
    for _ in range(rounds):
        began = time.process_time()
        done = work()
        best = max(best, done / (time.process_time() - began))
    return best


def episodes_of(name: str, steps: int) -> tuple[list[np.ndarray], float]:
    """Actions of policy episodes, and the policy's own actions a second."""
    env, policy = envs.make(name, image_size=16), policies.make_policy(name)
    episodes, spent = [], 0.0
    for seed in range(max(steps // LENGTH, 1)):
        obs, _ = env.reset(seed=seed)
        policy.reset(np.random.default_rng(seed))
        actions = []
        for _ in range(LENGTH):
            began = time.process_time()
            actions.append(policy.act(obs))
            spent += time.process_time() - began
            obs, *_ = env.step(actions[-1])
        episodes.append(np.array(actions))
    return episodes, len(episodes) * LENGTH / spent


def bench(name: str, size: int, episodes: list[np.ndarray]) -> str:
    env = envs.make(name, image_size=size)

    def replay(step: Callable[[np.ndarray], object]) -> float:
        best = 0.0
        for _ in range(5):
            spent = 0.0
            for seed, actions in enumerate(episodes):
                env.reset(seed=seed)
                began = time.process_time()
                for action in actions:
                    step(action)
                spent += time.process_time() - began
            best = max(best, len(episodes) * LENGTH / spent)
        return best

    def resets() -> int:
        for seed in range(50):
            env.reset(seed=seed)
        return 50

    parts = [
        f"{replay(env.step):8.0f} steps+frames/s",
        f"physics {replay(env._move):.0f}/s",
        f"reset with goal {per_second(resets):.0f}/s",
    ]
    if name == "reacher":
        parts.append(f"as dm_control comes {per_second(lambda: as_it_comes(size), 2):.0f} steps+frames/s")
    if name == "pusht":
        parts.append(f"frames with the block moving {per_second(lambda: turning(env)):.0f}/s")
    return f"{name:17} {size:4} px {', '.join(parts)}"


def turning(env: envs.World, count: int = 400) -> int:
    """Draw `count` frames with the block at a new angle in each."""
    block = env._simulation.block  # type: ignore[attr-defined]
    for _ in range(count):
        block.angle += 0.05
        env._draw(None)
    return count


@functools.cache
def _dm_control() -> Any:
    from dm_control import suite

    env = suite.load("reacher", "hard")
    env.reset()
    env.physics.render(16, 16, camera_id=0)
    return env


def as_it_comes(size: int, count: int = 40) -> int:
    """Steps of dm_control's own Reacher, two of 0.02 s each for one of ours, with its own frames."""
    env = _dm_control()
    for action in np.random.default_rng(0).uniform(-1, 1, (count, 2)):
        env.step(action)
        env.step(action)
        env.physics.render(size, size, camera_id=0)
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--worlds", nargs="+", choices=envs.names(), default=envs.names())
    args = parser.parse_args()
    print(machine())
    for name in args.worlds:
        episodes, rate = episodes_of(name, args.steps)
        print(f"{name:17} policy alone {rate:.0f} actions/s")
        for size in (64, 224):
            print(bench(name, size, episodes))


if __name__ == "__main__":
    main()
