"""From nothing to the first action: what a program waits for that imports Agent, and where it goes.

    python tests/benchmarks/bench_start.py pusht --repeat 5

Every repetition is a process of its own and plans to a goal 25 steps away, in 50. Of each step the least
wall clock and, in brackets, processor time: what else the machine does only adds to them. The total is that
of the quickest run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from latent_planner import envs
from latent_planner.checkpoints import checkpoint
from latent_planner.envs.goals import pairs

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, sys, time
clocks = [(time.perf_counter(), time.process_time())]
def done(): clocks.append((time.perf_counter(), time.process_time()))
import numpy as np; done()
import torch; done()
from latent_planner import Agent; done()
agent = Agent.from_pretrained(sys.argv[1], device="cpu")
frame, goal = np.load(sys.argv[2]); done()
agent.set_goal(goal, steps=50); done()
agent.act(frame); done()
agent.plan(frame); done()
print(json.dumps([[b - a for a, b in zip(*pair)] for pair in zip(clocks, clocks[1:])]))
"""
STEPS = ("import numpy", "import torch", "import Agent", "load", "first goal", "first plan", "second plan")


def frames(name: str) -> np.ndarray:
    """uint8 (2, H, W, 3): where a validation pair of the checkpoint's world begins, and its goal."""
    config = checkpoint.load(name)[0].config
    pair = pairs.draw(config.env, 1, seed=777)
    with envs.make(config.env, image_size=config.image_size) as env:
        observation, info = env.reset(seed=0, options=pair.options(0))
        return np.stack([observation["pixels"], info["goal"]])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", nargs="?", default="pusht")
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seen = Path(folder) / "frames.npy"
        np.save(seen, frames(arguments.checkpoint))
        command = [sys.executable, "-c", PROGRAM, arguments.checkpoint, str(seen)]
        runs = [
            json.loads(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
            for _ in range(arguments.repeat)
        ]
    last = len(STEPS) - 1  # the second plan is not on the way to the first action
    whole = (min(sum(run[i][clock] for i in range(last)) for run in runs) for clock in (0, 1))
    rows = [
        (step, tuple(min(run[i][clock] for run in runs) for clock in (0, 1))) for i, step in enumerate(STEPS)
    ]
    for name, (wall, cpu) in (*rows[:last], ("to the first", tuple(whole)), rows[last]):
        print(f"{name:14} {wall:6.2f} s ({cpu:.2f} s)")


if __name__ == "__main__":
    main()
