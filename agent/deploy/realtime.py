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

import math
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from .bounds import Bounds, between, own_setting
from .clocks import JUMP, Era, Ticker, Watch, seconds
from .timeline import REMEMBERED, Ahead, Given, TimedPlan, committed, executed

__all__ = ["Command", "PlannerThread", "Ticker"]

KEPT = 10_000  # figures of each kind that the counts are made of
LATELY = 5  # plans, the slowest of which says how long the next may take
Goal = tuple[np.ndarray, int | None]  # picture, steps


class Command(NamedTuple):
    """What to do now. action: float32 (A,).   safe: why it is the safe action, None: it is the plan's.
    plan_age, frame_age: seconds since the frame behind the plan, and the newest one, was taken."""

    action: np.ndarray
    safe: str | None
    plan_age: float | None
    frame_age: float | None


class _Frame(NamedTuple):
    pixels: Any
    stamp: float  # when it was taken
    era: Era


class PlannerThread:
    """Runs `planner.replan` in a thread of its own; start it with `with`, or `start` and `stop`.

    planner: an Agent, an `deploy.client.Client` (the planner is then another process), or anything with
        replan(pixels, *, executed, deadline) that returns something with actions (K, A), and set_goal.
    control_hz: actions a second that plans are made of; the loop may ask more often.
    safe: (A,), what to do while there is no plan to trust.
    hold: the last action instead, once a plan was followed. Until then `Command.action` is `safe`, which a
        robot that is told positions should not be sent; plans neither begin there nor are blended from there.
    max_age: seconds; an older plan, counted from its frame, is not trusted.
    frame_timeout: seconds since the newest frame was taken, after which no plan is followed; None: any time.
    blend: seconds over which a plan takes over from what was done before.
    deadline: seconds for each plan, None: the planner's own; plans that took longer are counted.
    lead: seconds from a frame being taken to its plan taking over: plans begin with what will be done until
        then, instead of finding it undone. None: judged by the last plans.   0: plans know nothing of it.
    threads: of torch in the planner's thread, with an Agent; None: leave that alone.
    low, high, max_change: of every command, see `Bounds`; None: what the planner knows of them.

    Whatever the clock does, a command is a planned action, one between two of them, or the safe one with its
    reason. After a clock was set back, stood still or gave NaN, only frames and plans from then on count.
    """

    def __init__(
        self,
        planner: Any,
        *,
        control_hz: float,
        safe: Any,
        max_age: float,
        hold: bool = False,
        frame_timeout: float | None = None,
        blend: float = 0.0,
        deadline: float | None = None,
        threads: int | None = 1,
        lead: float | None = None,
        low: Any = None,
        high: Any = None,
        max_change: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.planner, self.control_hz, self.max_age, self.hold = planner, float(control_hz), max_age, hold
        self.frame_timeout = math.inf if frame_timeout is None else frame_timeout
        self.blend, self.threads, self.clock = blend, threads, clock
        if made_of := own_setting(planner, "action_space"):
            raise ValueError(
                f"Actions of this model are {made_of}: nothing lies between two choices, so step through "
                "plans yourself with `Agent.act` or `replan`."
            )
        self.deadline = own_setting(planner, "deadline", deadline)
        self.lead = lead
        own = {"low": low, "high": high, "max_change": max_change}
        self.bounds = Bounds.of(planner, safe, strict=not hold, **own)
        self.safe = self.bounds.safe
        if not self.control_hz > 0 or not max_age > 0 or not blend >= 0:
            raise ValueError("control_hz and max_age must be above 0, and blend at least 0 s.")
        if lead is not None and not 0 <= lead < math.inf:
            raise ValueError(f"lead must be a number of seconds of at least 0, not {lead!r}.")
        self._news = threading.Condition()  # never taken by `action`
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._frame: _Frame | None = None  # the newest
        self._used = True  # whether the planner took it
        self._new_goal: Goal | None = None
        self._goals = 0
        self._handed: TimedPlan | None = None  # the last plan
        # One assignment each, so that `action` sees the old or the new:
        self._era = Era()
        self._plan: TimedPlan | None = None
        self._trouble: str | None = None
        self._newest: tuple[float, Era] | None = None
        self._seeing = Watch(self._era, slack=1 / self.control_hz)  # for `observe`
        # Of the control loop alone:
        self._acting = Watch(self._era, slack=1 / self.control_hz, patience=max_age)
        self._in_force: TimedPlan | None = None
        self._before: TimedPlan | None = None
        self._seam = -math.inf
        self._from: np.ndarray | None = None
        self._last: np.ndarray | None = None  # what was given last, None: nothing was
        self._given: deque[Given] = deque(maxlen=REMEMBERED)
        self._tally: Counter[str] = Counter()
        kinds = ("solve", "frame_age", "plan_age")
        self._figures: dict[str, deque[float]] = {kind: deque(maxlen=KEPT) for kind in kinds}

    def _fault(self, watch: Watch, now: float) -> str | None:
        """What is wrong with this reading, or with one of another thread; then everything begins anew."""
        era, news = self._era, None
        if watch.era is not era:
            watch.follow(era)
            news = era.why
        fault = watch.fault(now)
        if fault is not None:
            self._era = watch.era = Era(fault)
        return fault or news

    # -- for the camera and for whoever has goals ------------------------------------------------------------

    def observe(self, pixels: Any, stamp: float | Mapping[str, float] | None = None) -> None:
        """A new frame, uint8 (H, W, 3), taken at stamp (default: now). One that no plan was begun from is
        dropped for it; one that is older than the newest is dropped itself, and so is any while the clock is
        wrong. The frame is copied. ValueError for a stamp in the future, of another clock, or no number.

        Of several cameras: a dict as `Agent.act` takes it; the stamp may then be a dict of one for each, at
        most one action apart, or ValueError names the camera that is behind. The oldest counts."""
        frame = _copied(pixels)
        stamp = _in_step(stamp, 1 / self.control_hz) if isinstance(stamp, Mapping) else stamp
        with self._news:
            now = float(self.clock())
            self._fault(self._seeing, now)
            era = self._era
            taken = now if stamp is None else float(stamp)
            if math.isfinite(now) and not (math.isfinite(taken) and taken <= now + JUMP):
                raise ValueError(
                    f"This frame is of {taken - now:.1f} s from now: stamps need the loop's clock."
                )
            self._tally["frames"] += 1
            newest = self._frame if self._frame is not None and self._frame.era is era else None
            if not math.isfinite(now) or (newest is not None and taken <= newest.stamp):
                self._tally["frames_dropped"] += 1
                return
            self._tally["frames_dropped"] += not self._used
            self._frame, self._used, self._newest = _Frame(frame, taken, era), False, (taken, era)
            self._news.notify()

    def set_goal(self, pixels: Any, steps: int | None = None) -> None:
        """`planner.set_goal`, done in the planner's thread before its next plan. What was planned for the old
        goal is not executed any more. The picture is copied."""
        goal = _copied(pixels)
        with self._news:
            self._new_goal, self._goals = (goal, steps), self._goals + 1
            self._used = self._frame is None
            self._news.notify()

    # -- for the control loop --------------------------------------------------------------------------------

    def action(self, now: float | None = None) -> Command:
        """What to do now. Returns at once, whatever the planner and the clock do."""
        now = float(self.clock() if now is None else now)
        fault = self._fault(self._acting, now)
        plan, newest, era = self._plan, self._newest, self._era
        reason, planned = fault or self._distrust(plan, now), None
        if reason is None:
            assert plan is not None
            planned = plan.at(now, self.control_hz)
            reason = "the plan is used up" if planned is None else None
        if planned is None:
            wanted = self._standing()
            self._in_force = self._before = None
            self._tally["safe"] += 1
        else:
            if plan is not self._in_force:
                self._before, self._in_force, self._seam, self._from = self._in_force, plan, now, self._last
            wanted = self._blended(planned, now)
        action = self.bounds.command(self.safe if wanted is None else wanted, self._last)
        if wanted is not None:
            self._last = action
            if math.isfinite(now):
                self._given.append(Given(now, action, planned is not None, era))
        self._tally["asked"] += 1
        ages = (
            None if fault or plan is None or plan.era is not era else now - plan.stamp,
            None if fault or newest is None or newest[1] is not era else now - newest[0],
        )
        for name, age in zip(("plan_age", "frame_age"), ages):
            if age is not None:
                self._figures[name].append(age)
        return Command(action.copy(), reason, *ages)

    def _distrust(self, plan: TimedPlan | None, now: float) -> str | None:
        """Why not to execute this plan."""
        thread, era = self._thread, self._era
        if self._stopping or thread is None:
            return "the planner is not running"
        if not thread.is_alive():
            return "the planner died"
        if self._trouble is not None:
            return f"the planner failed: {self._trouble}"
        if plan is None or plan.era is not era:
            return era.why or "there is no plan yet"
        if plan.goal != self._goals:
            return "there is no plan for the new goal yet"
        if now - plan.stamp > self.max_age:
            return f"the plan is {seconds(now - plan.stamp)} old"
        if plan.begins - now > JUMP:
            return f"the plan begins in {seconds(plan.begins - now)}: `action` needs the loop's clock"
        newest = self._newest
        if newest is not None and now - newest[0] > self.frame_timeout:
            return f"the newest frame is {seconds(now - newest[0])} old"
        return None

    def _standing(self) -> np.ndarray | None:
        """(A,), what is done without a plan; None: nothing is, as long as no plan was followed."""
        return self._last if self.hold else self.safe

    def _blended(self, planned: np.ndarray, now: float) -> np.ndarray:
        share = (now - self._seam) / self.blend if self.blend else 1.0
        if share >= 1 or self._from is None:
            return planned
        before = None if self._before is None else self._before.at(now, self.control_hz)
        return between(self._from if before is None else before, planned, share)

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

    def _next(self) -> tuple[_Frame, int, Goal | None] | None:
        """The newest frame, once it is new, and what goal to set; None at the end."""
        with self._news:
            self._news.wait_for(lambda: self._stopping or not self._used)
            if self._stopping:
                return None
            assert self._frame is not None
            goal, self._new_goal, self._used = self._new_goal, None, True
            return self._frame, self._goals, goal

    def _solve(self, frame: _Frame, number: int, goal: Goal | None) -> None:
        if goal is not None:
            try:
                self.planner.set_goal(goal[0], steps=goal[1])
                if self.deadline is not None and hasattr(self.planner, "prepare"):  # not in time for a plan
                    self.planner.prepare()
            except BaseException:
                with self._news:  # or it would go on with the old one
                    self._new_goal = self._new_goal or goal
                raise
        begun, real = float(self.clock()), time.monotonic()
        late = begun - frame.stamp
        committed, stands = self._committed(frame, begun, self._lead(late if math.isfinite(late) else 0.0))
        executed = self._executed(frame)
        options = {"committed": committed} if len(committed) else {}
        plan = self.planner.replan(frame.pixels, executed=executed, deadline=self.deadline, **options)
        ended = float(self.clock())
        took = ended - begun
        if frame.era is not self._era or not 0 <= took < math.inf:  # then time is real time
            took = time.monotonic() - real
        actions = np.asarray(plan.actions, np.float32)
        if actions.ndim != 2 or actions.shape[1:] != self.safe.shape or not len(actions):
            raise ValueError(f"plans must be (K, {len(self.safe)}) as safe is, not {actions.shape}.")
        if not np.isfinite(actions).all():
            raise ValueError("the plan holds actions that are not finite numbers.")
        # Where nothing is under way and nobody knew when the plan would be there, it begins now.
        begins = ended if stands and not len(committed) and math.isfinite(ended) else frame.stamp
        made = TimedPlan(self.bounds.clip(actions), frame.stamp, number, begins, frame.era)
        self._plan, self._handed, self._trouble = made, made, None
        self._figures["solve"].append(took)
        self._tally["plans"] += 1
        self._tally["missed_deadlines"] += self.deadline is not None and took > self.deadline

    def _lead(self, late: float) -> float:
        """Seconds from a frame, which is `late` seconds old when its plan is begun, to that plan."""
        lead = self.lead
        if lead is None:  # a plan that took longer than max_age was no use, and the clock may have jumped
            lately = [took for took in list(self._figures["solve"].copy())[-LATELY:] if took <= self.max_age]
            lead = max(0.0, late) + max(lately) if lately else 0.0
        return min(lead, self.max_age, REMEMBERED / self.control_hz)

    def _committed(self, frame: _Frame, now: float, lead: float) -> tuple[np.ndarray, bool]:
        """(n, A), what the loop did since this frame and will do in `lead` seconds, before the next plan; and
        whether it follows no plan all the while. If it does not, and would be through with the next one
        before that is there, the plan begins when it is there: n is 0."""
        plan = self._plan
        if plan is not None and (plan.era is not frame.era or plan.goal != self._goals):
            plan = None
        ahead = Ahead(plan, self.max_age, self._standing(), self.hold, self.control_hz)
        steps = math.ceil(lead * self.control_hz - 1e-6)
        done, stands = committed(self._lately(frame.era), ahead, stamp=frame.stamp, now=now, steps=steps)
        if stands and self._handed is not None and len(done) >= len(self._handed.actions):
            done = []
        return self._stacked(done), stands

    def _executed(self, frame: _Frame) -> np.ndarray | None:
        """(n, A): what the loop did since the frame of the last plan; None where that is not known."""
        before = self._handed
        if before is None or before.era is not frame.era:
            return None
        times = {"begins": before.begins, "stamp": frame.stamp}
        done = executed(self._lately(frame.era), **times, rate=self.control_hz)
        return None if done is None else self._stacked(done)

    def _lately(self, era: Era) -> list[Given]:
        return [one for one in self._given.copy() if one.era is era]  # a copy is one step for other threads

    def _stacked(self, actions: list[np.ndarray]) -> np.ndarray:
        return np.stack(actions) if actions else np.zeros((0, len(self.safe)), np.float32)


def _copied(pixels: Any) -> Any:
    """The frame, or the dict of what several cameras show, with memory of its own."""
    if isinstance(pixels, Mapping):
        return {
            name: {**view} if isinstance(view, Mapping) else np.array(view) for name, view in pixels.items()
        }
    return np.array(pixels)


def _in_step(stamps: Mapping[str, float], most: float) -> float:
    """The oldest of these stamps; ValueError where it is more than `most` seconds before the newest."""
    if not stamps:
        raise ValueError("A dict of stamps needs one for each camera.")
    times = {name: float(stamp) for name, stamp in stamps.items()}
    behind, ahead = min(times, key=times.__getitem__), max(times, key=times.__getitem__)
    if not times[ahead] - times[behind] <= most * (1 + 1e-6):
        raise ValueError(
            f"{behind} is {times[ahead] - times[behind]:.2g} s behind {ahead}, and what is shown together "
            f"must be of the same moment, within {most:.2g} s."
        )
    return times[behind]
