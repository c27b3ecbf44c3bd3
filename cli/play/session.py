"""What a page shows: one world and its agent, or two side by side, and one goal. Tabs give orders.

Messages are plain dicts with a "kind", and those of one of the worlds with its "lane"; the newest of each is
all that a tab needs, so whoever comes late or reads slowly is given the newest only:

    settings   what is chosen, and what there is to choose from; also as a command line and as Python
    frame      a world now: picture, places of the handles, distance to the goal
    goal       the goal: picture, places of the handles where its state is known
    plan       the newest plan: expected distances, milliseconds, ghosts, the path of each handle, the fan of
               candidates; empty after the goal has changed
    history    what a chart needs, for a tab that was opened later
    note       one sentence for the user
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from latent_planner import Agent

from ..user_errors import USER_ERRORS
from . import film, words
from .lane import Lane, Shown
from .orders import Order, taken
from .players import Player, Players
from .recorder import Recorder
from .stage import Goal, Stage

log = logging.getLogger(__name__)

WAITING = 200  # orders
HELD = 0.4  # seconds after a drag in a world for which the worlds wait

Publish = Callable[[dict[str, Any]], None]


class Session:
    """player: the first world's.   second: of a second world next to it, from the beginning.
    others: names of checkpoints that may be chosen, too.
    publish: called with each message, in this session's thread.   viewers: tabs that are open.
    """

    page = "index.html"

    def __init__(
        self,
        player: Player,
        *,
        second: Player | None = None,
        others: Sequence[str] = (),
        publish: Publish = lambda message: None,
    ) -> None:
        self.publish, self.viewers, self.recorder = publish, 0, Recorder()
        self.players, self._second = Players(player, others), second
        self.stage = Stage(player.agent, player.agent.seed)
        self.speed, self.running = 1.0, False
        self._period = 1 / self.stage.world.control_hz
        self._inbox: queue.Queue[Order | tuple[Lane, str, Any, int]] = queue.Queue()
        self._ended = threading.Event()
        self._shown_at: deque[float] = deque(maxlen=20)
        self._held_until = 0.0
        self.lanes: list[Lane] = []
        self._start, self.goal = self.stage.begin()
        self._thread = threading.Thread(target=self._run, name="play", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        for lane in self.lanes:
            lane.close()
        self.players.forget()

    def order(self, order: Order) -> bool:
        """Leave an order; False when too many are waiting. For any thread."""
        if self._inbox.qsize() > WAITING:
            return False
        self._inbox.put(order)
        return True

    def downloads(self) -> dict[str, Callable[[], tuple[bytes, str]]]:
        """What can be saved, by file name: bytes and media type. For any thread."""
        return {
            "goal.png": lambda: (self.stage.file(self.goal, self.state), "image/png"),
            "session.json": lambda: (self.recorder.replay(), "application/json"),
            "session.mp4": lambda: (film.mp4(self.recorder.timed()), "video/mp4"),
            "session.gif": lambda: (film.gif(self.recorder.timed()), "image/gif"),
        }

    @property
    def agent(self) -> Agent:
        """That of the first world."""
        return (self.lanes[0].player if self.lanes else self.players.first).agent

    @property
    def state(self) -> np.ndarray:
        """(S,), of the first world as it is shown."""
        return self._start.state if not self.lanes else self.lanes[0].state

    # -- in the session's thread -----------------------------------------------------------------------------

    def _run(self) -> None:
        self._guarded(self._begin)
        while not self._ended.is_set():
            for item in taken(self._inbox, self._wait()):
                self._guarded(self._obey if isinstance(item, Order) else self._hear, item)
            for lane in self.lanes:
                self._guarded(self._tick, lane)

    def _begin(self) -> None:
        self.lanes.append(self._lane(0, self.players.first))
        self._say(self.stage.message(self.goal, None, judged=False))
        if self._second is not None:
            self.lanes.append(self._lane(1, self._second))
        self._again()
        self._publish_settings()

    def _guarded(self, do: Callable[..., None], *given: Any) -> None:
        try:
            do(*given)
        except USER_ERRORS as error:
            self._note(str(error), bad=True)
        except Exception:
            log.exception("the page's session failed at something")
            self._pause("Something failed; the program's log says what. It is paused.")

    def _pause(self, text: str) -> None:
        self._go_on(False)
        self._note(text, bad=True)
        self._publish_settings()

    def _go_on(self, running: bool) -> None:
        self.running = running
        for lane in self.lanes:
            lane.steps = 0
        self._shown_at.clear()

    def _wait(self) -> float:
        """Seconds until something is to be done without being asked."""
        due = [lane.due for lane in self.lanes if self._moves(lane) and lane.waiting]
        return min(0.5, max(0.0, min(due) - time.monotonic())) if due else 0.5

    def _moves(self, lane: Lane) -> bool:
        """Whether the world moves: it rests at its goal, while nobody looks, and while it is dragged."""
        resting = lane.shown is None or (lane.rests and not lane.steps)
        return (self.running or lane.steps > 0) and self.viewers > 0 and not resting

    def _tick(self, lane: Lane) -> None:
        """Show the lane's next frame when it is due, and have more made."""
        now = time.monotonic()
        if not self._moves(lane) or now < self._held_until:
            return
        if lane.waiting and now >= lane.due:
            late = now - lane.due
            lane.due = (lane.due if late < self._period else now) + self._period / self.speed
            self._show(lane, lane.waiting.popleft())
            lane.steps = max(0, lane.steps - 1)
        if not lane.waiting and not lane.advancing and self._moves(lane):
            lane.advancing = True
            lane.ask("advance")

    def _hear(self, item: tuple[Lane, str, Any, int]) -> None:
        """What a lane delivers."""
        lane, what, value, epoch = item
        if what == "failed":
            lane.advancing = False
            self._pause(f"{value} It is paused.")
        elif lane not in self.lanes or epoch != lane.epoch:
            return
        elif what == "goal":
            number, lane.goal_latent, warning = value
            if lane is self.lanes[0] and number == self.goal.number:
                self._say(self.stage.message(self.goal, warning and _sentence(warning), judged=True))
            if lane.shown is not None:
                self._show(lane, lane.shown)
        elif what == "next":
            lane.advancing = not value.last
            lane.waiting.append(value)
        else:
            self._show(lane, value)

    def _obey(self, order: Order) -> None:
        lane = self.lanes[min(order.lane, len(self.lanes) - 1)]
        if order.do in ("run", "pause"):
            self._go_on(order.do == "run")
        elif order.do == "step":
            self.running = False
            for each in self.lanes:
                each.steps += 1
        elif order.do == "restart":
            self._restart()
        elif order.do == "again":
            self._again()
        elif order.do == "another":
            self._set_goal(self.stage.another(self.state))
        elif order.do == "freeze":
            self._freeze(lane)
        elif order.do == "picture":
            self._set_goal(self.stage.of_picture(order.value, self.state))
            self._note("The goal is the picture that you gave.", bad=False)
        elif order.do in ("move", "nudge", "turn"):
            self._drag(order, lane)
            return
        elif order.do == "speed":
            self.speed = float(order.value)
        elif order.do == "compare":
            self._compare_two(order.value)
        elif order.do in ("planner", "deadline"):
            self._change_settings(order, lane)
        elif order.do == "checkpoint":
            self._change_checkpoint(order.value, lane)
        elif order.do == "hello":
            for each in self.lanes:
                self._say({"kind": "history", "lane": each.number, "steps": list(each.history)})
        self._publish_settings()

    # -- starts and goals ------------------------------------------------------------------------------------

    def _restart(self) -> None:
        """Another start and goal."""
        self._start, self.goal = self.stage.begin()
        if self.stage.own_starts:
            self.players.forget()
        self._say(self.stage.message(self.goal, None, judged=False))
        self._again()

    def _again(self) -> None:
        """The same start and goal once more, in all worlds."""
        for lane in self.lanes:
            lane.state, lane.rests = self._start.state, False
            lane.history.clear()
            lane.ask("start", self._start.options)
            self._pursue(lane)

    def _pursue(self, lane: Lane) -> None:
        lane.history.clear()
        lane.rests = bool(lane.shown and lane.shown.message["over"])
        lane.ask("goal", self.goal)
        self._say({"kind": "plan", "lane": lane.number})

    def _set_goal(self, goal: Goal) -> None:
        if goal.state is not None:
            self.stage.world.check_goal(self.state, goal.state)
        self.goal = goal
        self._say(self.stage.message(goal, None, judged=False))
        for lane in self.lanes:
            self._pursue(lane)

    def _freeze(self, lane: Lane) -> None:
        """The present becomes the goal."""
        if lane.shown is not None:
            self._set_goal(self.stage.at(lane.shown.state, lane.shown.pixels))

    def _drag(self, order: Order, lane: Lane) -> None:
        """Move or turn a thing in the goal or in a running world."""
        in_goal = order.where == "goal"
        moved = self.stage.dragged(order, self.goal.state if in_goal else lane.state)
        if moved is None:  # it stays where it can be
            return
        if in_goal:
            self._set_goal(self.stage.moved(moved))
            return
        self._held_until = time.monotonic() + HELD
        lane.state, lane.rests = moved, False
        lane.ask("place", moved)
        self._say({"kind": "plan", "lane": lane.number})

    # -- players ---------------------------------------------------------------------------------------------

    def _lane(self, number: int, player: Player) -> Lane:
        deliver = lambda *delivered: self._inbox.put(delivered)  # noqa: E731
        return Lane(number, player, self.players.known_for, deliver, self._start.state)

    def _compare_two(self, wanted: bool) -> None:
        """A second world next to the first, from the same start; or no longer."""
        if wanted and len(self.lanes) == 1:
            first = self.lanes[0].player
            self.lanes.append(self._lane(1, first.changed(first.agent.settings)))
            self._again()
        while not wanted and len(self.lanes) > 1:
            self.lanes.pop().close()

    def _change_settings(self, order: Order, lane: Lane) -> None:
        """Another planner or deadline; the goal stays."""
        settings = lane.player.agent.settings
        if order.do == "deadline":
            lane.player = lane.player.changed(settings.changed(deadline=order.value))
        else:
            deadline = "null" if settings.deadline is None else settings.deadline
            lane.player = lane.player.with_words([f"planner={order.value}", f"planner.deadline={deadline}"])
        lane.ask("player", lane.player)

    def _change_checkpoint(self, name: str, lane: Lane) -> None:
        """Another model; everything begins at the same start again."""
        player = self.players.load(name)
        lane.close()
        self.lanes[lane.number] = self._lane(lane.number, player)
        self._again()

    # -- what tabs are shown ---------------------------------------------------------------------------------

    def _say(self, message: dict[str, Any]) -> None:
        self.recorder.add(message)
        self.publish(message)

    def _show(self, lane: Lane, shown: Shown) -> None:
        """Show a moment, as the goal of now makes of it."""
        lane.shown, lane.state = shown, shown.state
        if lane.goal_latent is None:
            return
        message, of_now = dict(shown.message), shown.goal == self.goal.number
        if not of_now:
            message.update(reached=None, expected=None)
        elif shown.plan is not None:
            self._say(shown.plan)
        if message["over"] and not lane.rests:
            self._note("The world has ended the episode: choose a new start.", bad=False)
        lane.rests = message["over"] or message["reached"] is not None
        message["distance"] = float(np.linalg.norm(shown.latent - lane.goal_latent))
        entry = [message[name] for name in ("step", "distance", "expected", "surprise")]
        if lane.history and lane.history[-1][0] == entry[0]:
            lane.history.pop()
        lane.history.append(entry)
        if lane is self.lanes[0]:
            self._shown_at.append(time.monotonic())
        message["rate"] = self._rate()
        self._say(message)

    def _rate(self) -> float | None:
        """Frames of the first world a second, lately."""
        took = self._shown_at[-1] - self._shown_at[0] if len(self._shown_at) > 1 else 0.0
        return (len(self._shown_at) - 1) / took if took > 0 else None

    def _publish_settings(self) -> None:
        chosen = [words.chosen(lane.player, self._start.words) for lane in self.lanes]
        now = {"running": self.running, "speed": self.speed, "lanes": chosen}
        self._say({"kind": "settings", **now, **self.stage.about(), **words.choices(self.players.names)})

    def _note(self, text: str, *, bad: bool) -> None:
        self._say({"kind": "note", "text": _sentence(text), "bad": bad})


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
