"""What a tab may ask for: checked, before anything comes of it."""

from __future__ import annotations

import json
import math
import queue
from dataclasses import dataclass
from typing import Any

DEADLINES = (None, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # seconds for a plan, to choose from
SPEEDS = (1.0, 0.5, 0.25, 0.1)  # of the world's own pace
PLACES = ("goal", "world")
# Each order, and what must come with it.
FIELDS: dict[str, tuple[str, ...]] = {
    "run": (), "pause": (), "step": (), "restart": (), "again": (), "freeze": (), "another": (), "hello": (),
    "speed": ("value",), "compare": ("value",),
    "deadline": ("value",), "planner": ("value",), "checkpoint": ("value",),
    "move": ("where", "handle", "x", "y"), "nudge": ("where", "handle", "x", "y"),
    "turn": ("where", "handle", "by"),
}  # fmt: skip
LANES = 2  # side by side
WITH_LANE = ("deadline", "planner", "checkpoint", "move", "nudge", "turn", "freeze")  # "lane" may come, too


class OrderError(ValueError):
    """An order that cannot be read; the message is for whoever sent it."""


@dataclass(frozen=True)
class Order:
    """One of FIELDS, or "picture" with the bytes of a file.

    lane: which of the worlds side by side.
    x, y: where a "move" leads to, or how far a "nudge" leads, in shares of the picture.   by: radians.
    """

    do: str
    value: Any = None
    where: str = ""
    handle: str = ""
    x: float = 0.0
    y: float = 0.0
    by: float = 0.0
    lane: int = 0

    def replaces(self, earlier: Order) -> bool:
        """Whether `earlier` need not be done when this one follows at once."""
        mine, others = ((each.do, each.where, each.handle, each.lane) for each in (self, earlier))
        return mine == others and self.do in ("move", "hello")


def read(message: bytes | str) -> Order:
    """The order in a message: JSON text, or the bytes of a picture. OrderError."""
    if isinstance(message, bytes):
        return Order("picture", message)
    try:
        fields = json.loads(message)
    except (ValueError, RecursionError):
        raise OrderError("That message is not JSON.") from None
    do = fields.get("do") if isinstance(fields, dict) else None
    if not isinstance(do, str) or do not in FIELDS:
        raise OrderError(f"An order is one of {', '.join(FIELDS)}.")
    if set(fields) - ({"lane"} if do in WITH_LANE else set()) != {"do", *FIELDS[do]}:
        raise OrderError(f"The order {do} comes with {', '.join(FIELDS[do]) or 'nothing else'}.")
    for name in ("x", "y", "by"):
        value = fields.get(name, 0.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e3:
            raise OrderError(f"{name} is a number.")
    if fields.get("where", "goal") not in PLACES or not isinstance(fields.get("handle", ""), str):
        raise OrderError(f"where is one of {', '.join(PLACES)}, and handle a name.")
    lane = fields.get("lane", 0)
    if isinstance(lane, bool) or not isinstance(lane, int) or not 0 <= lane < LANES:
        raise OrderError(f"lane is a whole number below {LANES}.")
    choices = {"speed": SPEEDS, "deadline": DEADLINES}.get(do)
    if choices and (isinstance(fields["value"], bool | list | dict) or fields["value"] not in choices):
        raise OrderError(f"The {do} is one of {', '.join(map(json.dumps, choices))}.")
    if do in ("planner", "checkpoint") and not isinstance(fields["value"], str):
        raise OrderError(f"A {do} is a name.")
    if do == "compare" and not isinstance(fields["value"], bool):
        raise OrderError("compare is true or false.")
    return Order(**fields)


def taken(inbox: queue.Queue[Any], wait: float) -> list[Any]:
    """What waits in the inbox, of drags only the last; waits so many seconds for a first one."""
    found: list[Any] = []
    try:
        found.append(inbox.get(timeout=wait) if wait > 0 else inbox.get_nowait())
        while True:
            item = inbox.get_nowait()
            if isinstance(item, Order) and isinstance(found[-1], Order) and item.replaces(found[-1]):
                found.pop()
            found.append(item)
    except queue.Empty:
        return found


def finite(value: float | None) -> float | None:
    """For JSON, which has no NaN."""
    return None if value is None or not math.isfinite(value) else float(value)
