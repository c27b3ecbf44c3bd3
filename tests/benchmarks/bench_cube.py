"""How fast Cube steps and draws, beside OGBench's own environment, in one process on one core.

    python tests/benchmarks/bench_cube.py

Both play the same 90 actions, those of an episode in which the cube is picked up. Each figure is the best of
three rounds of process time.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("LP_NUM_THREADS", "0")  # of Mesa, which would draw on other cores too
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np

from latent_planner import envs
from latent_planner.envs import policies

STEPS, SIZE = 90, 64


def best(round_: Callable[[], int]) -> float:
    """Milliseconds of process time for each of the things that `round_` does, and says how many it did."""
    times = []
    for _ in range(3):
        began = time.process_time()
        count = round_()
        times.append((time.process_time() - began) / count * 1e3)
    return min(times)


def main() -> None:
    warnings.simplefilter("ignore")
    ours, hand = envs.make("cube", image_size=SIZE), policies.make_policy("cube")
    obs, _ = ours.reset(seed=1)
    start = obs["state"]
    hand.reset(np.random.default_rng(1))
    actions = []
    for _ in range(STEPS):
        actions.append(hand.act(obs))
        obs, *_ = ours.step(actions[-1])

    import mujoco
    from ogbench.manipspace.envs.cube_env import CubeEnv

    theirs = CubeEnv("single", ob_type="pixels", width=SIZE, height=SIZE, terminate_at_goal=False)
    theirs.reset(seed=0)

    def our_physics() -> int:
        ours._place(start)
        for action in actions:
            ours._move(action)
        return STEPS

    def our_frames() -> int:
        for _ in range(STEPS):
            ours.render()
        return STEPS

    def our_steps() -> int:
        ours.set_state(start)
        for action in actions:
            ours.step(action)
        return STEPS

    def their_physics() -> int:
        mujoco.mj_resetData(theirs.model, theirs.data)
        theirs.data.qpos[:] = np.append(start[11:25], start[4:11])
        mujoco.mj_forward(theirs.model, theirs.data)
        for action in actions:
            theirs.set_control(action)
            mujoco.mj_step(theirs.model, theirs.data, nstep=25)
        return STEPS

    def their_frames() -> int:
        for _ in range(3):
            theirs.render()
        return 3

    rows = {
        "physics and controller": (best(our_physics), best(their_physics)),
        "a frame": (best(our_frames), best(their_frames)),
    }
    whole = best(our_steps)
    rows["both"] = (whole, sum(theirs for _, theirs in rows.values()))
    print(f"{SIZE} px, ms{'here':>26}{'OGBench':>10}{'ratio':>8}")
    for name, (here, there) in rows.items():
        print(f"{name:<26}{here:>8.2f}{there:>10.2f}{there / here:>8.1f}")
    print(f"steps with frames a second: {1000 / whole:.0f} here, {1000 / rows['both'][1]:.1f} OGBench")
    theirs._renderer.close()


if __name__ == "__main__":
    main()
