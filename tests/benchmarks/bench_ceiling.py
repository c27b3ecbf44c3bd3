"""How many goals the search reaches when nothing else can be at fault: PushT itself in place of the model.

    python tests/benchmarks/bench_ceiling.py --pairs 24

Every candidate is carried out in a copy of the simulator, and its cost is how far the true state is from the
goal's, in units of what success allows. Whatever fails here fails for want of a better search, so a model
that plans about as well as this is not what holds planning back. Takes minutes: a plan is 256 candidates × 6
iterations × 25 steps.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from latent_planner import planners
from latent_planner.envs.goals import pairs
from latent_planner.envs.pusht.world import PushT, Simulation

FRAMESKIP, BUDGET = 5, 50
CONFIG = planners.PlanConfig(
    num_samples=256, num_elites=16, iterations=6, init_std=0.26, min_std=0.02, noise_correlation=0.9
)  # deviations in the world's units: .7 and .05 of the recorded actions'


def simulate(state: np.ndarray, candidates: np.ndarray) -> np.ndarray:
    """States (N, H, 7) after each block of the candidates (N, H, F·A)."""
    out = np.empty((*candidates.shape[:2], 7))
    for n, plan in enumerate(candidates.reshape(*candidates.shape[:2], FRAMESKIP, 2)):
        simulation = Simulation()
        simulation.place(state)
        for h, block in enumerate(plan):
            for action in block:
                simulation.move(action)
            out[n, h] = simulation.state()
    return out


def misses(states: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Squared distance (…) of states (…, 7) to the goal (7,): 1 for 20 px of agent and block, and for π/9."""
    place = np.square(states[..., :4] - goal[:4]).sum(-1) / 20.0**2
    turn = (states[..., 4] - goal[4] + np.pi) % (2 * np.pi) - np.pi
    return place + np.square(turn / (np.pi / 9))


def reach(env: PushT, start: np.ndarray, goal: np.ndarray, seed: int) -> bool:
    """Whether replanning at every block reaches the goal within the budget."""
    bounds = [-1.0] * 2 * FRAMESKIP, [1.0] * 2 * FRAMESKIP
    planner = planners.make("cem", CONFIG, *bounds, action_dim=2)
    obs, _ = env.reset(seed=0, options={"state": start, "goal_state": goal})
    plan = None
    for left in range(BUDGET // FRAMESKIP, 0, -1):
        state = obs["state"]

        def cost(candidates: torch.Tensor, state: np.ndarray = state) -> torch.Tensor:
            nearest = misses(simulate(state, candidates[0].numpy()), goal).min(-1)
            return torch.from_numpy(nearest.astype(np.float32))[None]

        warm_start = None if plan is None else planner.shift(plan.actions, 1)
        plan = planner.plan(cost, horizon=min(5, left), warm_start=warm_start, seeds=[seed * 100 + left])
        for action in plan.actions[0, 0].numpy().reshape(FRAMESKIP, 2):
            obs, _, _, _, info = env.step(action)
            if info["success"]:
                return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--pairs", type=int, default=24)
    args = parser.parse_args()
    torch.set_num_threads(1)
    goals = pairs.draw("pusht", args.pairs, seed=777)  # not the benchmark's
    env = PushT()
    reached = 0
    with tqdm(range(args.pairs), unit="goal") as bar:
        for i in bar:
            reached += reach(env, goals.start[i], goals.goal[i], i)
            bar.set_postfix_str(f"{reached} of {i + 1} reached")
    print(f"{reached} of {args.pairs} goals reached with the simulator as the model")


if __name__ == "__main__":
    main()
