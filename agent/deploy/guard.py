"""What a policy server grants to those who have not asked for anything yet, or ask for nothing but its time.

Planning runs in threads of the same interpreter as the event loop, and waits for its lock at every small
operation: a loop that is busy with strangers would make every plan many times as slow.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import gc
import logging
import socket
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from .turns import Allowance, SparingLog, neighbourhood

CHUNK = 16 * 2**10  # bytes read from a socket at once: what they hold is worked through without a pause
SMALL = 1024  # bytes of a frame that does little but cost time
SMALL_FRAMES = 60, 20.0  # pings and small fragments of a connection: at once, and each second after
FAREWELL = 1.0  # seconds that are left to a connection which is cut, to read why
BURST = 2  # sockets accepted in a row: a request is read some rounds of the loop later
REST = 0.002  # seconds of rest after a socket is closed to make room, as the next one comes at once
BACKLOG = 512  # sockets that wait for that in the kernel
SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Door:
    """The sockets whose handshake is not finished, at most so many. Where one more comes, the oldest one of
    the address that has most of them is closed, so that whoever sends its request at once gets in."""

    def __init__(self, most: int, log: SparingLog) -> None:
        self.most, self._log = most, log
        self._unfinished: dict[Any, str] = {}  # connection to address; the oldest comes first

    def __len__(self) -> int:
        return len(self._unfinished)

    def enter(self, connection: Any, address: str) -> None:
        self._unfinished[connection] = address
        if len(self._unfinished) > self.most:
            self.drop("more than %d sockets without a request: the oldest of %s are closed", self.most)

    def leave(self, connection: Any) -> None:
        self._unfinished.pop(connection, None)

    def drop(self, why: str, *arguments: object) -> None:
        """Close one; the log says why, and of which address."""
        if not self._unfinished:
            return
        greediest = Counter(self._unfinished.values()).most_common(1)[0][0]
        oldest = next(one for one, address in self._unfinished.items() if address == greediest)
        del self._unfinished[oldest]
        oldest.transport.abort()
        time.sleep(REST)
        self._log.say("unfinished", why, *arguments, greediest)


class Breath:
    """Keeps the thread of the event loop to a share of the time, by a pause where it had more."""

    def __init__(self, share: float = 0.3, slack: float = 0.002) -> None:
        self.share, self.slack = share, slack
        self.paused = 0.0  # seconds, since the start
        self._owed, self._used, self._then = 0.0, time.thread_time(), time.monotonic()

    def take(self) -> None:
        """To be called after each piece of work that strangers can cause."""
        used, now = time.thread_time(), time.monotonic()
        self._owed = max(0.0, self._owed + used - self._used - self.share * (now - self._then))
        self._used, self._then = used, now
        if self._owed > self.slack:
            pause = min(0.05, self._owed / self.share)
            self.paused += pause
            time.sleep(pause)


def guarded(door: Door, breath: Breath, log: SparingLog) -> type:
    """The class of connections of websockets' server that keep to these limits."""
    from websockets.asyncio.server import ServerConnection
    from websockets.exceptions import ProtocolError

    class Guarded(ServerConnection):
        def __init__(self, protocol: Any, *arguments: Any, **options: Any) -> None:
            super().__init__(protocol, *arguments, **options)
            self._small = Allowance(*SMALL_FRAMES)
            self._receive = protocol.recv_frame
            protocol.recv_frame = self._checked

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            transport.max_size = CHUNK  # type: ignore[attr-defined]
            super().connection_made(transport)
            self.address = neighbourhood((transport.get_extra_info("peername") or ("?",))[0])
            door.enter(self, self.address)
            breath.take()

        def connection_lost(self, exc: Exception | None) -> None:
            door.leave(self)
            super().connection_lost(exc)
            vars(self.protocol).pop("recv_frame", None)  # a circle that would keep what was received

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            breath.take()

        def _checked(self, frame: Any) -> None:
            """Called for each frame before anything is done with it, be there thousands in one chunk."""
            if (frame.opcode >= 8 or not frame.fin) and len(frame.data) < SMALL and self._small.take():
                log.say("frames", "%s: cut for too many pings or small fragments", self.address)
                self.loop.call_later(FAREWELL, self.transport.abort)
                raise ProtocolError("too many pings or small fragments")
            self._receive(frame)

    return Guarded


def descriptors(connections: int) -> int | None:
    """How many sockets without a request fit beside so many connections; None where nothing says. Asks the
    system for all the descriptors that it grants."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    wanted = 2 * connections + BURST + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return None
    others = 48  # files, libraries, the loop's own
    return max(4, soft - others - 2 * BURST - connections)


def lengthen_queue(sockets: Iterable[Any]) -> None:
    """Let more clients wait in the kernel than the loop accepts in a row."""
    for listening in sockets:
        with socket.fromfd(listening.fileno(), listening.family, listening.type) as same:
            same.listen(BACKLOG)


def watch_accepting(loop: asyncio.AbstractEventLoop, door: Door, log: SparingLog) -> None:
    """Have the loop report once a minute that it is out of descriptors, or what else it failed at."""

    def handle(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error, told = context.get("exception"), context.get("message", "")
        if isinstance(error, OSError) and error.errno in SCARCE:
            door.drop("no descriptor is free: the oldest sockets of %s without a request are closed")
            log.say("accept", "cannot accept connections: %s", error.strerror, level=logging.WARNING)
        else:
            log.say("loop", "in the event loop: %s", told, level=logging.ERROR, exc_info=error or False)

    loop.set_exception_handler(handle)


def hand_back_memory() -> None:
    """Free what closed connections hold in circles (a traceback in websockets does), and give what is free to
    the system, which glibc keeps in pieces."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
