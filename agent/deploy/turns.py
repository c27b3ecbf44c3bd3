"""Who is served next, and how often the log says what: no client, however greedy, makes the others wait."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache

LATELY = 3.0  # seconds for which an address that had a place is expected to ask again


class Turns:
    """Hands out `number` places by turns between addresses, and to the requests of an address in the order in
    which they came. An address leaves a place to each other one that was here lately, where there are enough,
    so that those who ask seldom need not wait. For one event loop.
    """

    def __init__(self, number: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._number, self._clock = number, clock
        self._held: Counter[str] = Counter()  # places of each address
        self._lately: dict[str, float] = {}  # when an address last asked or had a place; the latest is last
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # in the order of their turns

    @asynccontextmanager
    async def turn(self, address: str) -> AsyncIterator[None]:
        """One place, once it is this address's turn."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(address, deque()).append(place)
        self._seen(address)
        self._hand_out()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self._give_back(address)
            raise
        try:
            yield
        finally:
            self._give_back(address)

    def _seen(self, address: str) -> None:
        self._lately.pop(address, None)
        self._lately[address] = self._clock()

    def _give_back(self, address: str) -> None:
        self._held[address] -= 1
        self._seen(address)
        self._hand_out()

    def _hand_out(self) -> None:
        """Give the places that are free to those whose turn it is."""
        while self._lately and self._clock() - next(iter(self._lately.values())) > LATELY:
            del self._lately[next(iter(self._lately))]
        self._held += Counter()  # without those that hold none
        most = max(1, self._number - len(self._lately.keys() | self._held.keys()) + 1)
        for address in list(self._waiting):
            places = self._waiting[address]
            while places and self._held.total() < self._number and self._held[address] < most:
                place = places.popleft()
                if not place.done():
                    place.set_result(None)
                    self._held[address] += 1
                    self._waiting[address] = self._waiting.pop(address)  # behind the others
                    break
            if not places:
                del self._waiting[address]


class Allowance:
    """So many `at_once`, and after them `each_second`. For one thread."""

    def __init__(
        self, at_once: float, each_second: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._most, self._rate, self._clock = at_once, each_second, clock
        self._left, self._then = at_once, clock()

    def take(self) -> float:
        """Use one. Seconds until it was due: 0 where it is within the allowance."""
        now = self._clock()
        self._left = min(self._most, self._left + (now - self._then) * self._rate) - 1
        self._then = now
        return max(0.0, -self._left / self._rate)


class SparingLog:
    """A log that says each kind of thing at most `often` times a minute, and counts the rest."""

    def __init__(self, log: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._clock = log, clock
        self._lock = threading.Lock()
        self._kinds: dict[str, tuple[float, int, int]] = {}  # when its minute began, lines and silence in it

    def say(
        self,
        kind: str,
        text: str,
        *arguments: object,
        often: int = 1,
        level: int = logging.INFO,
        exc_info: bool | BaseException = False,
    ) -> None:
        """A line of this kind; arguments and exc_info as for `Logger.log`."""
        now = self._clock()
        with self._lock:
            began, lines, silent = self._kinds.get(kind, (now, 0, 0))
            if now - began >= 60:
                if silent:
                    text += f" ({silent} more like it were not logged)"
                began, lines, silent = now, 0, 0
            said = lines < often
            self._kinds[kind] = (began, lines + 1, silent) if said else (began, lines, silent + 1)
        if said:
            self._log.log(level, text, *arguments, exc_info=exc_info)


@lru_cache(256)
def neighbourhood(host: str) -> str:
    """The address, or, of IPv6, the network that one user has to himself: 64 bits of it."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if address.version == 4 or address.ipv4_mapped:
        return str(getattr(address, "ipv4_mapped", None) or address)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
