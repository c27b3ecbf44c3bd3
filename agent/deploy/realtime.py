"""A planner beside a control loop: the planner works on the newest frame, the loop never waits for it.

    loop = PlannerThread(agent, control_hz=10, safe=np.zeros(2), max_age=0.5)
    loop.set_goal(goal_pixels)
    with loop:
        for now in Ticker(100):                 # 100 times a second
            if camera.has_frame():
                loop.observe(camera.frame(), camera.stamp())
            command = loop.action(now)
            robot.send(command.action)          # float32 (A,)
            if command.safe:                    # the safe action, and why
                print(command.safe)

Each plan belongs to the moment its frame was taken: the action for now is the one the plan has for now. When
a plan from a newer frame arrives it takes over, blended at the seam; it begins with what the loop was to do
until then, because the planner is told. All times are seconds of one clock.

A planner that computes in Python shares the interpreter with the loop: its thread, put aside by the system at
the wrong moment, keeps the loop waiting. On busy cores give the planner a process of its own, as
`PlannerThread(Client(...))` with `latent-planner serve`, and the loop a real-time priority.
"""

from __future__ import annotations

import bisect
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

KEPT = 10_000  # figures of each kind that the counts are made of
FUTURE = 1.0  # seconds that a stamp may be ahead: clocks differ a little
LATELY = 5  # plans, the slowest of which says how long the next may take
REMEMBERED = 4096  # actions given, to tell the planner what was done
Goal = tuple[np.ndarray, int | None]  # picture, steps


class Command(NamedTuple):
    """What to do now. action: float32 (A,).   safe: why it is the safe action, None: it is the plan's.
    plan_age, frame_age: seconds since the frame behind the plan, and the newest one, was taken."""

    action: np.ndarray
    safe: str | None
    plan_age: float | None
    frame_age: float | None


@dataclass(frozen=True)
class _Plan:
    actions: np.ndarray  # (K, A)
    stamp: float  # when its frame was taken
    goal: int  # which of the goals set so far it is for
    begins: float  # when its first action is, or would have been, due

    def at(self, now: float, rate: float) -> np.ndarray | None:
        index = max(0, int((now - self.begins) * rate + 1e-6))
        return self.actions[index] if index < len(self.actions) else None


class PlannerThread:
    """Runs `planner.replan` in a thread of its own; start it with `with`, or `start` and `stop`.

    planner: an Agent, an `deploy.client.Client` (the planner is then another process), or anything with
        replan(pixels, *, executed, deadline) that returns something with actions (K, A), and set_goal.
    control_hz: actions a second that plans are made of; the loop may ask more often.
    safe: (A,), what to do while there is no plan to trust.   hold: the last action instead, if there is one.
    max_age: seconds; an older plan, counted from its frame, is not trusted.
    blend: seconds over which a plan takes over from what was done before.
    deadline: seconds for each plan; those that took longer are counted.
    lead: seconds from a frame being taken to its plan taking over: plans begin with what will be done until
        then, instead of finding it undone. None: judged by the last plans.   0: plans know nothing of it.
    threads: of torch in the planner's thread, with an Agent; None: leave that alone.
    """

    def __init__(
        self,
        planner: Any,
        *,
        control_hz: float,
        safe: Any,
        max_age: float,
        hold: bool = False,
        blend: float = 0.0,
        deadline: float | None = None,
        threads: int | None = 1,
        lead: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.planner, self.control_hz, self.max_age, self.hold = planner, float(control_hz), max_age, hold
        self.lead = lead
        self.blend, self.deadline, self.threads, self.clock = blend, deadline, threads, clock
        self.safe = np.array(safe, np.float32)
        if self.safe.ndim != 1 or not np.isfinite(self.safe).all():
            raise ValueError(f"safe is one action, (A,) finite numbers, not {safe!r}.")
        if not self.control_hz > 0 or not max_age > 0 or not blend >= 0:
            raise ValueError("control_hz and max_age must be above 0, and blend at least 0 s.")
        self._news = threading.Condition()  # never taken by `action`
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._frame: tuple[np.ndarray, float] | None = None  # the newest
        self._used = True  # whether the planner took it
        self._new_goal: Goal | None = None
        self._goals = 0
        self._planned: float | None = None  # when the last plan begins
        # One assignment each, so that `action` sees the old or the new:
        self._plan: _Plan | None = None
        self._trouble: str | None = None
        self._newest: float | None = None
        # Of the control loop alone:
        self._in_force: _Plan | None = None
        self._before: _Plan | None = None
        self._seam = -np.inf
        self._from = self._last = self.safe
        self._given: deque[tuple[float, np.ndarray]] = deque(maxlen=REMEMBERED)
        self._tally: Counter[str] = Counter()
        kinds = ("solve", "frame_age", "plan_age")
        self._figures: dict[str, deque[float]] = {kind: deque(maxlen=KEPT) for kind in kinds}

    # -- for the camera and for whoever has goals ------------------------------------------------------------

    def observe(self, pixels: np.ndarray, stamp: float | None = None) -> None:
        """A new frame, uint8 (H, W, 3), taken at stamp (default: now). One that no plan was begun from is
        dropped for it; one that is older than the newest is dropped itself. The frame is copied.
        ValueError for a stamp in the future: it is of another clock."""
        now = self.clock()
        stamp = now if stamp is None else float(stamp)
        if not stamp <= now + FUTURE:
            raise ValueError(f"This frame is of {stamp - now:.1f} s from now: stamps need the loop's clock.")
        frame = np.array(pixels)
        with self._news:
            self._tally["frames"] += 1
            if self._frame is not None and stamp <= self._frame[1]:
                self._tally["frames_dropped"] += 1
                return
            self._tally["frames_dropped"] += not self._used
            self._frame, self._used, self._newest = (frame, stamp), False, stamp
            self._news.notify()

    def set_goal(self, pixels: np.ndarray, steps: int | None = None) -> None:
        """`planner.set_goal`, done in the planner's thread before its next plan. What was planned for the old
        goal is not executed any more. The picture is copied."""
        goal = np.array(pixels)
        with self._news:
            self._new_goal, self._goals = (goal, steps), self._goals + 1
            self._used = self._frame is None
            self._news.notify()

    # -- for the control loop --------------------------------------------------------------------------------

    def action(self, now: float | None = None) -> Command:
        """What to do now. Returns at once, whatever the planner does."""
        now = self.clock() if now is None else now
        plan, newest = self._plan, self._newest
        reason, planned = self._distrust(plan, now), None
        if reason is None:
            assert plan is not None
            planned = plan.at(now, self.control_hz)
            reason = "the plan is used up" if planned is None else None
        if planned is None:
            action = self._last if self.hold else self.safe
            self._in_force = self._before = None
            self._tally["safe"] += 1
        else:
            if plan is not self._in_force:
                self._before, self._in_force, self._seam, self._from = self._in_force, plan, now, self._last
            action = self._blended(planned, now)
        self._last = action
        self._given.append((now, action))
        self._tally["asked"] += 1
        ages = (None if plan is None else now - plan.stamp, None if newest is None else now - newest)
        for name, age in zip(("plan_age", "frame_age"), ages):
            if age is not None:
                self._figures[name].append(age)
        return Command(action.copy(), reason, *ages)

    def _distrust(self, plan: _Plan | None, now: float) -> str | None:
        """Why not to execute this plan."""
        thread = self._thread
        if self._stopping or thread is None:
            return "the planner is not running"
        if not thread.is_alive():
            return "the planner died"
        if self._trouble is not None:
            return f"the planner failed: {self._trouble}"
        if plan is None:
            return "there is no plan yet"
        if plan.goal != self._goals:
            return "there is no plan for the new goal yet"
        if now - plan.stamp > self.max_age:
            return f"the plan is {now - plan.stamp:.2f} s old"
        return None

    def _blended(self, planned: np.ndarray, now: float) -> np.ndarray:
        share = (now - self._seam) / self.blend if self.blend else 1.0
        if share >= 1 or not self._given:
            return planned
        before = None if self._before is None else self._before.at(now, self.control_hz)
        before = self._from if before is None else before
        return ((1 - share) * before + share * planned).astype(np.float32)

    def counts(self) -> dict[str, Any]:
        """Since the start: frames, frames_dropped, plans, failures, missed_deadlines, asked (actions), safe
        (of these); and of the last 10,000 of solve, frame_age and plan_age (s): median, p95 and most."""
        names = ("frames", "frames_dropped", "plans", "failures", "missed_deadlines", "asked", "safe")
        told: dict[str, Any] = {name: self._tally[name] for name in names}
        for name, figures in self._figures.items():
            values = np.array(figures.copy())
            median, late = np.quantile(values, (0.5, 0.95)) if len(values) else (None, None)
            most = values.max() if len(values) else None
            told[name] = {
                key: None if value is None else float(value)
                for key, value in (("median", median), ("p95", late), ("most", most))
            }
        return told

    # -- the planner's thread --------------------------------------------------------------------------------

    def start(self) -> PlannerThread:
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="planner", daemon=True)
        self._thread.start()
        return self

    def stop(self, timeout: float | None = None) -> None:
        """Let a plan that is being made come to its end, at most timeout seconds."""
        with self._news:
            self._stopping = True
            self._news.notify()
        if self._thread is not None:
            self._thread.join(timeout)

    def __enter__(self) -> PlannerThread:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop(timeout=10)

    def _run(self) -> None:
        torch = sys.modules.get("torch")
        if torch is not None and self.threads is not None:
            torch.set_num_threads(self.threads)
        while (work := self._next()) is not None:
            try:
                self._solve(*work)
            except Exception as error:  # whatever it is, the loop must hear of it
                self._tally["failures"] += 1
                self._trouble = " ".join(f"{type(error).__name__}: {error}".split())

    def _next(self) -> tuple[np.ndarray, float, int, Goal | None] | None:
        """The newest frame, once it is new, and what goal to set; None at the end."""
        with self._news:
            self._news.wait_for(lambda: self._stopping or not self._used)
            if self._stopping:
                return None
            assert self._frame is not None
            goal, self._new_goal, self._used = self._new_goal, None, True
            return *self._frame, self._goals, goal

    def _solve(self, pixels: np.ndarray, stamp: float, number: int, goal: Goal | None) -> None:
        if goal is not None:
            try:
                self.planner.set_goal(goal[0], steps=goal[1])
            except BaseException:
                with self._news:  # or it would go on with the old one
                    self._new_goal = self._new_goal or goal
                raise
        begun = self.clock()
        committed, executed = self._committed(stamp, self._lead(begun - stamp)), self._executed(stamp)
        options = {"committed": committed} if len(committed) else {}
        plan = self.planner.replan(pixels, executed=executed, deadline=self.deadline, **options)
        took = self.clock() - begun
        actions = np.asarray(plan.actions, np.float32)
        if actions.ndim != 2 or actions.shape[1:] != self.safe.shape or not len(actions):
            raise ValueError(f"plans must be (K, {len(self.safe)}) as safe is, not {actions.shape}.")
        if not np.isfinite(actions).all():
            raise ValueError("the plan holds actions that are not finite numbers.")
        # Nothing was under way before the first plan: if nobody knew when it would be there, it begins now.
        first = self._plan is None and not len(committed)
        self._planned = begins = self.clock() if first else stamp
        self._plan, self._trouble = _Plan(actions, stamp, number, begins), None
        self._figures["solve"].append(took)
        self._tally["plans"] += 1
        self._tally["missed_deadlines"] += self.deadline is not None and took > self.deadline

    def _lead(self, late: float) -> float:
        """Seconds from a frame, which is `late` seconds old when its plan is begun, to that plan."""
        if self.lead is not None:
            return self.lead
        lately = list(self._figures["solve"].copy())[-LATELY:]
        return max(0.0, late) + max(lately) if lately else 0.0

    def _committed(self, stamp: float, lead: float) -> np.ndarray:
        """(n, A): what the loop did since this frame and will do by the plan in force, for `lead` seconds."""
        given, plan, now = list(self._given.copy()), self._plan, self.clock()
        times = [at for at, _ in given]
        number = int(np.ceil(lead * self.control_hz - 1e-6))
        done = []
        for middle in stamp + (np.arange(number) + 0.5) / self.control_hz:
            action = None
            if given and times[0] <= middle < now:
                action = given[bisect.bisect_right(times, middle) - 1][1]
            elif plan is not None and plan.goal == self._goals:
                action = plan.at(middle, self.control_hz)
            done.append(self.safe if action is None else action)
        return np.stack(done) if done else np.zeros((0, len(self.safe)), np.float32)

    def _executed(self, stamp: float) -> np.ndarray | None:
        """(n, A): what the loop did since the frame of the last plan; None where that is not known."""
        given = list(self._given.copy())  # a copy is one step for other threads
        if self._planned is None or not given or given[0][0] > self._planned:
            return None
        number = round((stamp - self._planned) * self.control_hz)
        middles = self._planned + (np.arange(number) + 0.5) / self.control_hz
        times = [at for at, _ in given]
        done = [given[max(0, bisect.bisect_right(times, middle) - 1)][1] for middle in middles]
        return np.stack(done) if done else np.zeros((0, len(self.safe)), np.float32)


class Ticker:
    """`for now in Ticker(100)`: 100 times a second, for seconds (None: for ever).

    A tick that is over before the loop comes to it is left out, and counted in `missed`.
    """

    def __init__(
        self,
        hz: float,
        seconds: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.period, self.clock, self.sleep = 1 / hz, clock, sleep
        self.count = None if seconds is None else round(seconds * hz)
        self.missed = 0
        self.latest = 0.0  # most seconds by which a tick began late

    def __iter__(self) -> Iterator[float]:
        first, tick = self.clock(), 0
        while self.count is None or tick < self.count:
            due = first + tick * self.period
            if (early := due - self.clock()) > 0:
                self.sleep(early)
            now = self.clock()
            over = int((now - due) / self.period)
            self.missed += over
            self.latest = max(self.latest, now - due)
            yield now
            tick += over + 1
