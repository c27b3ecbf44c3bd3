"""Keep CartPole's pole up from pixels alone: the goal is a picture of the pole upright.

    python train.py env=gym env.id=CartPole-v1 env.past_end=true env.policy=random env.length=50 \\
        model.frameskip=1 planner.horizon=12 planner.objective='discounted(0.95)'
    python examples/cart_pole.py runs/RUN                # episodes of at most 500 steps, next to random

It prints how many steps the pole stays up; 500 is CartPole's own limit. Recordings begin upright and fall, so
the episodes are short and go on after the fall: a model has to have seen both.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np

from latent_planner import Agent, envs


def steps_up(world: Any, act: Callable[[np.ndarray], Any], seed: int, most: int) -> int:
    """Steps until the episode of this seed ends, at most so many.   act: frame -> action."""
    seen, _ = world.reset(seed=seed, options={"goal": None})
    for step in range(1, most + 1):
        seen, _, fallen, *_ = world.step(act(seen["pixels"]))
        if fallen:
            return step
    return most


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="a run folder of CartPole-v1")
    parser.add_argument("--episodes", type=int, default=10)
    parser.add_argument("--steps", type=int, default=500, help="most steps of an episode")
    args = parser.parse_args()

    agent = Agent.from_pretrained(args.checkpoint)
    world = envs.make("gym:CartPole-v1", image_size=agent.config.image_size)
    upright, _ = world.reset(seed=10_000, options={"goal": None})  # it begins within 3 degrees of upright
    draws = np.random.default_rng(0)
    kept, pushed = [], []
    for seed in range(args.episodes):
        agent.reset()
        agent.set_goal(upright["pixels"])
        kept.append(steps_up(world, agent.act, seed, args.steps))
        pushed.append(steps_up(world, lambda _: int(draws.integers(2)), seed, args.steps))
        print(f"episode {seed}: {kept[-1]} steps, random pushes {pushed[-1]}", flush=True)
    print(f"mean of {args.episodes}: {np.mean(kept):.0f} steps, random pushes {np.mean(pushed):.0f}")


if __name__ == "__main__":
    main()
