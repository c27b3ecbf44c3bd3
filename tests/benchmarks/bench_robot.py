"""From frame to action: what a robot program waits for, in process, beside a thread, through the server.

    python tests/benchmarks/bench_robot.py               # the bundled PushT model, a few minutes
    python tests/benchmarks/bench_robot.py --repeats 5

Wall clock: the least and the median of some repeats; the least is what the machine can do when it is left
alone. For what happens in this process also the time that its processor spent, which others cannot lengthen.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent


def timed(what: str, call: Callable[[], Any], repeats: int) -> float:
    """Print what one call takes (ms); returns the least."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        call()
        walls.append(1000 * (time.perf_counter() - wall))
        cpus.append(1000 * (time.process_time() - cpu))
    row = f"{min(walls):>10.3f}{np.median(walls):>10.3f}{np.median(cpus):>12.3f}"
    print(f"{what:58}{row}", flush=True)
    return min(walls)


def in_process(agent: Any, frame: np.ndarray, goal: np.ndarray, repeats: int) -> float:
    session = agent.clone()
    session.set_goal(goal)
    session.act(frame)
    least = timed("Agent.plan, 64 px", lambda: session.plan(frame), repeats)
    for size in (224, 480):
        large = frame.repeat(8, 0).repeat(8, 1)[:size, :size]
        timed(f"Agent.plan, {size} px, resized inside", lambda large=large: session.plan(large), repeats)
    small = agent.clone()
    small.set_goal(goal)
    small.act(frame)
    timed("Agent.act, an action of the block under way", lambda: small.act(frame), 4)
    return least


def beside_a_thread(agent: Any, frame: np.ndarray, goal: np.ndarray, repeats: int) -> None:
    from latent_planner.deploy.realtime import PlannerThread

    with PlannerThread(agent.clone(), control_hz=10, safe=np.zeros(2), max_age=60) as loop:
        loop.set_goal(goal)

        def new_plan() -> None:
            before = loop.counts()["plans"]
            loop.observe(frame)
            while loop.counts()["plans"] == before:
                time.sleep(5e-4)

        new_plan()
        timed("PlannerThread, from observe to a plan in force", new_plan, repeats)
        timed("PlannerThread.action, planner idle", lambda: loop.action(), 200)


def through_the_server(frame: np.ndarray, goal: np.ndarray, repeats: int) -> None:
    from latent_planner.deploy.client import Client

    words = [sys.executable, "-m", "latent_planner.cli", "serve", "pusht", "--port", "0"]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    try:
        story = process.stdout.readline().strip()
        url = next(line.split()[0] for line in process.stdout if line.startswith("ws://"))
        print(f"started: {story}")
        with Client(url, timeout=120) as client:
            client.set_goal(goal)
            client.replan(frame)
            for size in (64, 224, 480):
                large = frame.repeat(8, 0).repeat(8, 1)[:size, :size] if size > 64 else frame
                beyond: list[float] = []

                def ask(large: np.ndarray = large, beyond: list[float] = beyond) -> None:
                    begun = time.perf_counter()
                    timing = client.replan(large).answer["policy_timing"]
                    inside = timing["infer_ms"] + timing["encode_ms"]
                    beyond.append(1000 * (time.perf_counter() - begun) - inside)

                timed(f"Client.replan, {size} px, on one machine", ask, repeats)
                what = "    of which not encoding or searching"
                print(f"{what:58}{min(beyond):>10.3f}{np.median(beyond):>10.3f}")
    finally:
        process.terminate()
        process.wait(timeout=30)


def exported(frame: np.ndarray, goal: np.ndarray, repeats: int, torch_least: float) -> None:
    import tempfile

    from onnx_planner import OnnxPlanner

    from latent_planner.checkpoints import checkpoint
    from latent_planner.deploy import export

    noise = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        export.export(*checkpoint.load("pusht"), Path(folder) / "out")
        planner = OnnxPlanner(Path(folder) / "out")
        there = planner.encode(goal)

        def plan() -> None:
            white = lambda shape: noise.standard_normal(shape, np.float32)  # noqa: E731
            planner.plan(planner.encode(frame)[None], there, white=white)

        plan()
        least = timed("examples/onnx_planner.py, the same plan", plan, repeats)
    print(f"onnxruntime takes {least / torch_least:.1f} times what torch takes")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1, help="of torch in this process")
    args = parser.parse_args()
    started = time.perf_counter(), time.process_time()
    import torch

    from latent_planner import Agent, envs

    torch.set_num_threads(args.threads)
    imported = time.perf_counter(), time.process_time()
    agent = Agent.from_pretrained("pusht", device="cpu")
    observation, info = envs.make("pusht", image_size=64).reset(seed=1)
    frame, goal = observation["pixels"], info["goal"]
    first = agent.clone()
    first.set_goal(goal)
    first.act(frame)
    ready = time.perf_counter(), time.process_time()
    for what, begin, end in (("import", started, imported), ("load and first plan", imported, ready)):
        print(f"{what}: {end[0] - begin[0]:.2f} s, of the processor {end[1] - begin[1]:.2f} s")
    print(f"{'ms':58}{'least':>10}{'median':>10}{'processor':>12}")
    least = in_process(agent, frame, goal, args.repeats)
    beside_a_thread(agent, frame, goal, args.repeats)
    through_the_server(frame, goal, args.repeats)
    exported(frame, goal, args.repeats, least)


if __name__ == "__main__":
    main()
