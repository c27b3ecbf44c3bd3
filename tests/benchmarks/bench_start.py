"""From nothing to the first action: what a program waits for that imports Agent, and where it goes.

    python tests/benchmarks/bench_start.py pusht --repeat 5

Every repetition is a process of its own. Of each step the least wall clock and, in brackets, processor time:
what else the machine does only adds to them. The total is that of the quickest run.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import json, sys, time
clocks = [(time.perf_counter(), time.process_time())]
def done(): clocks.append((time.perf_counter(), time.process_time()))
import numpy as np; done()
import torch; done()
from latent_planner import Agent; done()
agent = Agent.from_pretrained(sys.argv[1], device="cpu"); done()
frame = np.zeros((64, 64, 3), np.uint8)
agent.set_goal(frame); done()
agent.act(frame); done()
agent.plan(frame); done()
print(json.dumps([[b - a for a, b in zip(*pair)] for pair in zip(clocks, clocks[1:])]))
"""
STEPS = ("import numpy", "import torch", "import Agent", "load", "first goal", "first plan", "second plan")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", nargs="?", default="pusht")
    parser.add_argument("--repeat", type=int, default=5)
    arguments = parser.parse_args()
    command = [sys.executable, "-c", PROGRAM, arguments.checkpoint]
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
