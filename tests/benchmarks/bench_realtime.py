"""A 100 Hz control loop beside a planner, on cores that are busy: how many ticks it misses.

    python tests/benchmarks/bench_realtime.py                 # the planner in a thread of the loop's process
    python tests/benchmarks/bench_realtime.py --process       # ... in a process of its own, with the server
    python tests/benchmarks/bench_realtime.py --process --priority 10      # the loop before others (root)

A process that only computes keeps each core busy. A tick is missed when it is over before the loop is there.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

from latent_planner.deploy.realtime import PlannerThread, Ticker


def spin() -> None:
    while True:
        sum(range(10_000))


@contextmanager
def busy(cores: int):
    processes = [multiprocessing.Process(target=spin, daemon=True) for _ in range(cores)]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.kill()


@contextmanager
def served(checkpoint: str):
    """The address of a server in a process of its own."""
    command = [sys.executable, "-m", "latent_planner.cli", "serve", checkpoint, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            found = (re.search(r"ws://[\d.]+:\d+", line) for line in process.stdout)
            yield next(match.group() for match in found if match)
        finally:
            process.terminate()


def raise_priority(priority: int | None) -> None:
    """Of this thread and those it starts."""
    if priority:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", nargs="?", default="pusht")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--hz", type=float, default=100.0)
    parser.add_argument("--process", action="store_true")
    parser.add_argument("--busy", type=int, default=os.cpu_count(), help="processes that only compute")
    parser.add_argument("--priority", type=int, help="of the loop, SCHED_FIFO 1 to 99; needs root")
    parser.add_argument("--switch-interval", type=float, help="of the interpreter, seconds")
    arguments = parser.parse_args()
    if arguments.switch_interval:
        sys.setswitchinterval(arguments.switch_interval)
    frames = np.random.default_rng(0).integers(0, 256, (30, 96, 96, 3), np.uint8)
    with ExitStack() as stack:
        if arguments.process:
            from latent_planner.deploy.client import Client

            url = stack.enter_context(served(arguments.checkpoint))
            stack.enter_context(busy(arguments.busy))
            raise_priority(arguments.priority)  # also of the threads to come, which do little
            planner: Any = stack.enter_context(Client(url, timeout=60))
            rate = planner.metadata["control_hz"]
        else:
            from latent_planner.agent import Agent

            planner = Agent.from_pretrained(arguments.checkpoint, device="cpu")
            rate = planner.config.control_hz
            stack.enter_context(busy(arguments.busy))
        loop = PlannerThread(planner, control_hz=rate, safe=np.zeros(2), max_age=2.0, blend=0.1)
        loop.set_goal(frames[0])
        stack.enter_context(loop)
        raise_priority(arguments.priority)  # not of the planner's thread, which is there already
        ticker = Ticker(arguments.hz, arguments.seconds)
        for tick, now in enumerate(ticker):
            if tick % 3 == 0:
                loop.observe(frames[tick % len(frames)], now)
            loop.action(now)
        counts = loop.counts()
    where = "a process" if arguments.process else "a thread"
    print(
        f"planner in {where}, {arguments.busy} busy processes: {ticker.missed} of {ticker.count} ticks "
        f"missed, the latest began {1000 * ticker.latest:.1f} ms late"
    )
    print(counts)


if __name__ == "__main__":
    main()
