"""PushT as a robot: behind a camera that is late, noisy and drops frames, with a planner that takes its time.

    python examples/robot_demo.py                        # a table beside the ideal loop, and robot-demo/
    python examples/robot_demo.py --goals 5 --latency 0.2 --plan-seconds 0.3
    python examples/robot_demo.py --real-time            # by the clock on the wall

The loop never waits: every tick it asks for the action for now and takes a step of the world, whatever the
planner does. Four ways to the same goals: the ideal loop (the world stands still while `Agent.act` plans,
the camera is perfect), the planner in a thread behind a perfect camera, behind this camera, and behind this
camera in a server (`latent-planner serve`, started here).

By default time is simulated: a plan takes --plan-seconds of the robot's time, however busy this machine is,
so that the same command gives the same numbers everywhere.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from latent_planner import Agent, envs
from latent_planner.checkpoints import checkpoint
from latent_planner.checkpoints.checkpoint import CheckpointError
from latent_planner.deploy.client import Client, ServerError
from latent_planner.deploy.realtime import PlannerThread
from latent_planner.envs.goals import pairs
from latent_planner.evaluation.benchmark import wilson
from latent_planner.evaluation.provenance import provenance, write_json

MAX_PLAN_AGE = 1.5  # s, counted from the frame
PATIENCE = 600.0  # s that a plan may take here before something must be wrong
WAYS = ("ideal loop", "thread, perfect camera", "thread", "server")


@dataclass
class Camera:
    """What a camera makes of a world: frames arrive late, noisy (grey levels), and some never."""

    latency: float = 0.0
    noise: float = 0.0
    drop: float = 0.0
    seed: int = 0
    under_way: list[tuple[float, float, np.ndarray]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)

    def take(self, pixels: np.ndarray, now: float) -> None:
        """A frame, uint8 (H, W, 3), is taken now."""
        dropped, noise = self.random.random() < self.drop, self.random.normal(0, 1, pixels.shape)
        if not dropped:
            seen = (pixels + self.noise * noise).round().clip(0, 255).astype(np.uint8)
            self.under_way.append((now + self.latency, now, seen))

    def arrived(self, now: float) -> list[tuple[np.ndarray, float]]:
        """Frames that came since the last call, and when each was taken."""
        here = [(seen, taken) for due, taken, seen in self.under_way if due <= now + 1e-9]
        self.under_way = self.under_way[len(here) :]
        return here


class SimulatedTime:
    """A clock that stands still until the loop moves it. Planning then takes `plan_seconds` of it."""

    def __init__(self, plan_seconds: float) -> None:
        self.plan_seconds, self._now, self._wake = plan_seconds, 0.0, -1.0
        self._shown = 0.0  # what time the planner was told that it is
        self._moved = threading.Condition()

    def __call__(self) -> float:
        return self._now

    def planned(self) -> None:
        """Called by the planner when a plan is made: comes back when its time is over."""
        with self._moved:
            self._wake = self._now + self.plan_seconds
            self._moved.wait_for(lambda: self._shown >= self._wake - 1e-9)

    def settle(self, loop: PlannerThread) -> None:
        """Tell the planner what time it is, and wait until it has nothing to do before time moves on."""
        until = time.monotonic() + PATIENCE
        self._show()
        while self._wake <= self._now + 1e-9:
            counts = loop.counts()
            if counts["frames"] - counts["frames_dropped"] == counts["plans"] + counts["failures"]:
                return
            if time.monotonic() > until:
                raise ServerError(f"no plan in {PATIENCE:g} s")
            time.sleep(2e-4)

    def move(self, seconds: float) -> None:
        """The planner is told by `settle`, when the frames of that moment are there: the same every time."""
        self._now += seconds

    def release(self) -> None:
        """Let a plan that is being waited for end."""
        self.move(self.plan_seconds)
        self._show()

    def _show(self) -> None:
        with self._moved:
            self._shown = self._now
            self._moved.notify_all()


class WallTime:
    """The real clock, behind the same calls."""

    def __init__(self) -> None:
        self._due = time.monotonic()

    def __call__(self) -> float:
        return time.monotonic()

    def planned(self) -> None:
        pass

    def settle(self, loop: PlannerThread) -> None:
        pass

    def move(self, seconds: float) -> None:
        self._due = max(self._due + seconds, time.monotonic() - seconds)
        time.sleep(max(0.0, self._due - time.monotonic()))

    def release(self) -> None:
        pass


@dataclass
class Planning:
    """An Agent or a Client that takes its time, and what it took here."""

    planner: Any
    clock: Any
    spent: list[float] = field(default_factory=list)

    def set_goal(self, *arguments: Any, **options: Any) -> None:
        self.planner.set_goal(*arguments, **options)

    def replan(self, pixels: np.ndarray, **options: Any) -> Any:
        begun = time.perf_counter()
        plan = self.planner.replan(pixels, **options)
        self.spent.append(time.perf_counter() - begun)
        self.clock.planned()
        return plan


@dataclass
class Outcome:
    """One goal: ages in seconds, of every action from a plan, since the frame behind that plan was taken."""

    success: bool = False
    steps: int = 0
    safe: int = 0  # actions that were no plan's
    ages: list[float] = field(default_factory=list)
    plans: int = 0
    spent: list[float] = field(default_factory=list)


def ideal(agent: Agent, env: Any, start: dict[str, Any], budget: int, hz: float) -> Outcome:
    """`Agent.act` in a world that waits for it. A block of actions is as old as its place says."""
    outcome, (observation, info) = Outcome(), env.reset(options=start)
    agent.reset()
    agent.set_goal(info["goal"], steps=budget)
    since = 0
    while outcome.steps < budget and not outcome.success:
        before, begun = agent.last_plan, time.perf_counter()
        action = agent.act(observation["pixels"])
        if agent.last_plan is not before:
            outcome.spent.append(time.perf_counter() - begun)
            outcome.plans, since = outcome.plans + 1, 0
        outcome.ages.append(since / hz)
        since += 1
        observation, _, _, _, info = env.step(action)
        outcome.steps, outcome.success = outcome.steps + 1, bool(info["success"])
    return outcome


def drive(
    planner: Any,
    env: Any,
    start: dict[str, Any],
    camera: Camera,
    clock: Any,
    *,
    budget: int,
    hz: float,
    lead: float | None = None,
) -> Outcome:
    """A control loop at hz that steps the world whether or not there is a plan. The budget counts from the
    first action that is a plan's: before it the robot stands, and only time passes."""
    outcome, (observation, info) = Outcome(), env.reset(options=start)
    planning, still = Planning(planner, clock), np.zeros(env.action_space.shape, np.float32)
    options: dict[str, Any] = {"max_age": MAX_PLAN_AGE, "clock": clock, "lead": lead}
    loop = PlannerThread(planning, control_hz=hz, safe=still, **options)
    loop.set_goal(info["goal"], steps=budget)
    loop.start()
    try:
        for _ in range(budget + round(60 * hz)):
            camera.take(observation["pixels"], clock())
            for pixels, taken in camera.arrived(clock())[-1:]:
                loop.observe(pixels, taken)
            clock.settle(loop)
            command = loop.action(clock())
            if command.safe is None:
                outcome.ages.append(command.plan_age or 0.0)
            elif "failed" in command.safe or "died" in command.safe:
                raise ServerError(command.safe)
            if command.safe is None or outcome.steps:
                outcome.safe += command.safe is not None
                observation, _, _, _, info = env.step(command.action)
                outcome.steps, outcome.success = outcome.steps + 1, bool(info["success"])
            if outcome.success or outcome.steps == budget:
                break
            clock.move(1 / hz)
    finally:
        stopping = threading.Thread(target=loop.stop)
        stopping.start()
        while stopping.is_alive():
            clock.release()
            stopping.join(0.01)
    counts = loop.counts()
    outcome.plans, outcome.spent = counts["plans"], planning.spent
    return outcome


@contextmanager
def server(name_or_path: str, seed: int) -> Iterator[str]:
    """The address of a policy server that runs until the block ends. ServerError where it does not start."""
    words = [
        sys.executable,
        "-m",
        "latent_planner.cli",
        "serve",
        name_or_path,
        "--port",
        "0",
        "--seed",
        str(seed),
    ]
    here = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(words, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("ws://"):
                yield line.split()[0]
                return
        raise ServerError(f"the server did not start: try latent-planner serve {name_or_path}")
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        process.kill()


@contextmanager
def searching(args: argparse.Namespace) -> Iterator[str]:
    """The checkpoint asked for, or for a while a copy of it that searches as the command line says."""
    asked = {"num_samples": args.samples, "iterations": args.iterations}
    changes = {name: value for name, value in asked.items() if value is not None}
    if not changes:
        yield args.checkpoint
        return
    world_model, info = checkpoint.load(args.checkpoint)
    elites = min(info["planner"].get("num_elites", 30), args.samples or 30)
    with tempfile.TemporaryDirectory() as folder:
        planner = {**info["planner"], **changes, "num_elites": elites}
        yield str(checkpoint.save(world_model, Path(folder) / "checkpoint", planner=planner))


def play(args: argparse.Namespace, name_or_path: str) -> dict[str, list[Outcome]]:
    """Every way to every goal."""
    agent = Agent.from_pretrained(name_or_path, device="cpu", seed=args.seed)
    name, hz = agent.config.env, agent.config.control_hz or 10.0
    env: Any = envs.make(name, image_size=agent.config.image_size)
    wanted = pairs.load(name).first(args.goals)
    starts = [{"state": s, "goal_state": g} for s, g in zip(wanted.start, wanted.goal)]
    budget = args.budget or wanted.budget

    def clock() -> Any:
        return WallTime() if args.real_time else SimulatedTime(args.plan_seconds)

    def driven(planner: Callable[[], Any], *, perfect: bool = False) -> list[Outcome]:
        outcomes = []
        for i, start in enumerate(starts):
            camera = Camera() if perfect else Camera(args.latency, args.noise, args.drop, args.seed + i)
            with planner() as own:
                options = {"budget": budget, "hz": hz, "lead": args.lead}
                outcomes.append(drive(own, env, start, camera, clock(), **options))
            bar.update()
        return outcomes

    @contextmanager
    def session() -> Iterator[Agent]:
        yield agent.clone()

    with tqdm(total=len(WAYS) * args.goals, unit="goal", disable=args.quiet) as bar:
        found: dict[str, list[Outcome]] = {WAYS[0]: []}
        for start in starts:
            found[WAYS[0]].append(ideal(agent.clone(), env, start, budget, hz))
            bar.update()
        found[WAYS[1]] = driven(session, perfect=True)
        found[WAYS[2]] = driven(session)
        with server(name_or_path, args.seed) as url:
            found[WAYS[3]] = driven(lambda: Client(url, timeout=PATIENCE))
    return found


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Plain values of one way."""
    reached, count = sum(outcome.success for outcome in outcomes), len(outcomes)
    ages = [age for outcome in outcomes for age in outcome.ages] or [0.0]
    spent = [seconds for outcome in outcomes for seconds in outcome.spent] or [0.0]
    return {
        "success": reached / count,
        "interval": list(wilson(reached, count)),
        "age_of_actions": {"median": float(np.median(ages)), "p95": float(np.quantile(ages, 0.95))},
        "steps": sum(outcome.steps for outcome in outcomes),
        "steps_without_a_plan": sum(outcome.safe for outcome in outcomes),
        "plans": sum(outcome.plans for outcome in outcomes),
        "seconds_per_plan_here": float(np.median(spent)),
        "reached": [outcome.success for outcome in outcomes],
    }


def draw(path: Path, found: dict[str, list[Outcome]]) -> None:
    """Goals reached, with intervals, beside how old the actions were."""
    from matplotlib.figure import Figure

    from latent_planner.evaluation import plots

    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    for place, (name, outcomes) in enumerate(found.items()):
        told, colour = summary(outcomes), plots.COLOURS[place]
        low, high = told["interval"]
        left.plot([100 * low, 100 * high], [place, place], color=colour, linewidth=4, alpha=0.35)
        left.plot([100 * told["success"]], [place], "o", color=colour)
        ages = np.sort([age for outcome in outcomes for age in outcome.ages] or [0.0])
        style, width = (":", 2.4) if name == WAYS[-1] else ("-", 1.4)  # the last two are much alike
        shares = np.arange(1, len(ages) + 1) / len(ages)
        right.step(ages, shares, color=colour, linestyle=style, linewidth=width)
    left.set_yticks(range(len(found)), list(found))
    left.invert_yaxis()
    plots.dress(left, "goals reached, 95 % intervals", "per cent")
    for label, colour in zip(left.get_yticklabels(), plots.COLOURS):  # dress made them all alike
        label.set_color(colour)
    left.set_xlim(0, 100)
    plots.dress(right, "share of actions at most this old", "seconds since the frame behind them")
    plots.save(figure, path)


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--checkpoint", default="pusht", help="of a world here (default pusht)")
    add("--goals", type=int, default=20)
    add("--budget", type=int, help="steps for each goal (default: the benchmark's)")
    add("--latency", type=float, default=0.1, help="seconds from the world to the program (default 0.1)")
    add("--noise", type=float, default=2.0, help="of the camera, in grey levels (default 2)")
    add("--drop", type=float, default=0.1, help="share of frames that never arrive (default 0.1)")
    add("--plan-seconds", type=float, default=0.25, help="of simulated time for a plan (default 0.25)")
    add("--lead", type=float, help="of PlannerThread: 0 for plans that do not know what is under way")
    add("--samples", type=int, help="candidates of the search (default: as the checkpoint says)")
    add("--iterations", type=int, help="of the search (default: as the checkpoint says)")
    add("--real-time", action="store_true", help="by the clock on the wall instead")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path("robot-demo"), help="folder for result.json and robot-demo.png")
    add("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args(words)
    for name in ("latency", "noise", "plan_seconds"):
        if not 0 <= getattr(args, name) < 1000:
            parser.error(f"--{name.replace('_', '-')} must be at least 0, not {getattr(args, name)}")
    if not 0 <= args.drop < 1 or args.goals < 1 or (args.budget is not None and args.budget < 1):
        parser.error("--drop must be in [0, 1), and --goals and --budget at least 1")
    return args


def main(words: Sequence[str] | None = None) -> int:
    """0, or 2 after a mistake that one sentence explains."""
    args = parse(words)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        with searching(args) as name_or_path:
            found = play(args, name_or_path)
        told = {name: summary(outcomes) for name, outcomes in found.items()}
        settings = {name: value for name, value in vars(args).items() if name not in ("out", "quiet")}
        write_json(args.out / "result.json", {"settings": settings, "ways": told, **provenance()})
        draw(args.out / "robot-demo.png", found)
    except (CheckpointError, ServerError, envs.WorldError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    head = ("", "reached", "interval", "age median", "age p95", "no plan", "plans", "a plan here")
    print(("{:24}" + "{:>12}" * 7).format(*head))
    for name, row in told.items():
        low, high = row["interval"]
        age = row["age_of_actions"]
        print(
            f"{name:24}{row['success']:>12.0%}{f'{low:.0%}-{high:.0%}':>12}{age['median']:>10.2f} s"
            f"{age['p95']:>10.2f} s{row['steps_without_a_plan'] / row['steps']:>12.0%}{row['plans']:>12}"
            f"{row['seconds_per_plan_here']:>10.2f} s"
        )
    print(f"{args.out / 'result.json'}, {args.out / 'robot-demo.png'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
