"""The policy server: WebSockets outside, one agent session per connection inside. `deploy.serve` starts it.

The event loop only moves bytes: reading a request and planning happen in worker threads. Those are given out
by `turns`; what strangers and idlers may have is in `guard`.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from latent_planner.common.serving import in_a_thread

from . import guard
from .client import WireError, needed, pack, unpack
from .turns import Allowance, SparingLog, Turns

if TYPE_CHECKING:
    from ..agent import Agent
    from .connection import Session

log = logging.getLogger(__name__)
CLOSING, OVERLOADED, ROOM = 1001, 503, 1013
REFUSED_AT_ONCE = 20  # requests of one connection that are refused without delay
HANDSHAKE = 3.0  # seconds that a client may take to say what it wants
LARGE = 2**19  # bytes of a message that leaves a hole in the memory
COME_AND_GO = 10  # connections whose coming and going the log shows in a minute
TIDY = 2.0  # seconds between two looks at whether memory can be handed back
GRACE = 5.0  # seconds that are left, at the end, to clients that do not answer


@dataclass(frozen=True)
class Limits:
    """connections at once; message_bytes of one message; idle_seconds between two requests; deadline: most
    seconds for one plan (None: as long as it takes); patience: seconds that a request waits for its turn;
    unfinished: sockets that may wait without having sent a request; refusals: requests of one connection that
    are refused each second, after the first twenty; what comes above that is read later."""

    connections: int = 32
    message_bytes: int = 8 * 2**20  # a raw 1080p picture is 6.2 MB
    idle_seconds: float = 600.0
    deadline: float | None = None
    patience: float = 10.0
    unfinished: int = 128
    refusals: float = 10.0


class PolicyServer:
    """Answers on host:port (0: any free one; `port` then says which) until `stop` is called.

    agent: every connection gets `agent.clone()`.   image_key: where requests hold the frame.
    api_key: asked of every client, as "Authorization: Api-Key ..."; None: of nobody.
    workers: plans made at the same time; default: one per core, or one on a GPU.
    threads: of torch for each of them, at most, see `model.threads`; default: the cores, shared among the
        workers, or one with a GPU.
    """

    def __init__(
        self,
        agent: Agent,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        api_key: str | None = None,
        image_key: str = "observation/image",
        limits: Limits | None = None,
        workers: int | None = None,
        threads: int | None = None,
    ) -> None:
        from .connection import metadata

        self.agent, self.host, self.port, self.image_key = agent, host, port, image_key
        self.limits = limits or Limits()
        self.sessions = 0  # open now
        self.refused = 0  # requests, since the start
        known = metadata(agent, image_key, self.limits.deadline)
        self._metadata = pack({**known, "message_bytes": self.limits.message_bytes})
        self._secret = None if api_key is None else f"Api-Key {api_key}".encode()
        on_cpu = agent.device.type == "cpu"
        self.workers = workers or (_cores() if on_cpu else 1)
        self.threads = threads or (max(1, _cores() // self.workers) if on_cpu else 1)
        self._log = SparingLog(log)
        self._turns = Turns(self.workers)
        self._door = guard.Door(self.limits.unfinished, self._log)
        self._open: Counter[str] = Counter()  # sessions of each address
        self._large = False  # whether a client that sent large messages left since memory was handed back
        self._waiting: dict[Any, str] = {}  # connections without a request under way; the longest is first
        self._stopping: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until `stop`; ready is called once connections are accepted. OSError for a taken port."""
        serve = needed("websockets.asyncio.server").serve
        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        guard.watch_accepting(self._loop, self._door, self._log)
        fitting = guard.descriptors(self.limits.connections)
        self._door.most = min(self.limits.unfinished, fitting or self.limits.unfinished)
        quiet = logging.getLogger(f"{__name__}.websockets")
        quiet.setLevel(logging.CRITICAL)  # it logs each handshake that fails with a traceback
        self._pool = ThreadPoolExecutor(
            self.workers, "plan", initializer=use_threads, initargs=(self.threads,)
        )
        server = await serve(
            self._handle,
            self.host,
            self.port,
            compression=None,
            max_size=self.limits.message_bytes,
            max_queue=0,  # what a client sends ahead stays with the client, but for one message
            origins=[None],  # no web page may use a server on its visitor's machine
            process_request=self._admit,
            open_timeout=HANDSHAKE,
            close_timeout=2,
            logger=quiet,
            backlog=guard.BURST,
            create_connection=guard.guarded(self._door, guard.Breath(), self._log),
        )
        guard.lengthen_queue(server.sockets)
        self.port = server.sockets[0].getsockname()[1]
        tidying = self._loop.create_task(self._tidy())
        try:
            ready()
            await self._stopping.wait()
            server.close(close_connections=False)
            await asyncio.gather(*(socket.close(CLOSING, "the server stops") for socket in [*self._waiting]))
            try:
                await asyncio.wait_for(asyncio.shield(server.wait_closed()), self.limits.patience + GRACE)
            except TimeoutError:
                log.warning("some clients did not take their answer; their connections are cut")
        finally:
            server.close()
            tidying.cancel()
            self._pool.shutdown(wait=True, cancel_futures=True)

    def stop(self) -> None:
        """Answer what is under way, and end `run`. For any thread, and for signal handlers."""
        if self._loop is not None and self._stopping is not None:
            with suppress(RuntimeError):  # it has ended, with its loop
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def _tidy(self) -> None:
        """Hand memory back, now and then, after clients that sent large messages."""
        while True:
            await asyncio.sleep(TIDY)
            if self._large:
                self._large = False
                await asyncio.to_thread(guard.hand_back_memory)

    def _admit(self, connection: Any, request: Any) -> Any:
        """None to go on with the handshake, or the HTTP answer instead."""
        self._door.leave(connection)
        if request.path == "/healthz":
            return connection.respond(HTTPStatus.OK, "OK\n")
        given = request.headers.get_all("Authorization")
        if self._secret is not None:
            same = len(given) == 1 and hmac.compare_digest(given[0].encode("utf-8", "replace"), self._secret)
            if not same:
                self._log.say("key", "%s: came without the API key", connection.address)
                return connection.respond(HTTPStatus.UNAUTHORIZED, "This server asks for its API key.\n")
        if self.sessions >= self.limits.connections and not self._make_room(connection.address):
            self._log.say("full", "%s: sent away, all connections are in use", connection.address)
            return connection.respond(
                HTTPStatus(OVERLOADED), "All connections are in use: try again later.\n"
            )
        return None

    def _make_room(self, address: str) -> bool:
        """Close the connection that idles longest of the address that has most of them, where that leaves it
        as many as the newcomer's then has."""
        assert self._loop is not None
        if not self._open:
            return False
        greediest, most = self._open.most_common(1)[0]
        idle = next((one for one, owner in self._waiting.items() if owner == greediest), None)
        if idle is None or self._open[address] + 1 >= most or self.sessions > self.limits.connections:
            return False
        del self._waiting[idle]
        self._log.say("room", "%s: one of its %d connections makes room for %s", greediest, most, address)
        self._closing = self._loop.create_task(idle.close(ROOM, "makes room for others"))
        return True

    async def _handle(self, socket: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        name = ":".join(map(str, (socket.remote_address or ("?",))[:2]))
        self.sessions += 1
        self._open[socket.address] += 1
        asked = refused = 0
        took, large = None, False
        refusals = Allowance(REFUSED_AT_ONCE, self.limits.refusals)
        pause = 0.0
        try:
            session = cache(self._new_session)  # made by the first request, in its turn
            await socket.send(self._metadata)
            self._log.say("come", "%s: connected, %d open", name, self.sessions, often=COME_AND_GO)
            while (message := await self._next(socket, pause)) is not None:
                arrived = time.perf_counter()
                large = large or len(message) >= LARGE
                reply = await self._in_turn(socket, self._answer, session, message, arrived, took)
                del message  # or it would be kept while the next is read
                asked += 1
                pause = 0.0
                if isinstance(reply, str):
                    refused, self.refused = refused + 1, self.refused + 1
                    self._log.say("refused", "%s: refused: %s", name, reply)
                    pause = refusals.take()
                await socket.send(reply)
                took = time.perf_counter() - arrived
        except ConnectionClosed:
            pass
        except Exception:
            self._log.say("fault", "%s: the connection failed", name, level=logging.ERROR, exc_info=True)
            raise  # closes it, with code 1011
        finally:
            self.sessions -= 1
            self._large = self._large or large
            self._open[socket.address] -= 1
            self._open += Counter()  # drops those that have none
            text = "%s: gone after %d requests, %d of them refused"
            self._log.say("gone", text, name, asked, refused, often=COME_AND_GO)

    async def _next(self, socket: Any, pause: float) -> bytes | str | None:
        """The next message, read after a pause; None where the connection is to end, and is ended."""
        assert self._stopping is not None
        if not self._stopping.is_set():
            self._waiting[socket] = socket.address
            try:
                if pause:
                    with suppress(TimeoutError):
                        await asyncio.wait_for(socket.wait_closed(), pause)
                return await asyncio.wait_for(socket.recv(), self.limits.idle_seconds)
            except TimeoutError:
                await socket.close(CLOSING, f"idle for {self.limits.idle_seconds:g} s")
                return None
            finally:
                self._waiting.pop(socket, None)
        await socket.close(CLOSING, "the server stops")
        return None

    async def _in_turn(self, socket: Any, function: Callable[..., Any], *arguments: Any) -> Any:
        """What function gives, in a worker's thread, once it is this client's turn."""
        assert self._loop is not None
        async with self._turns.turn(socket.address):
            if socket.close_code is not None:  # gone meanwhile
                raise socket.close_exc
            return await self._loop.run_in_executor(self._pool, function, *arguments)

    # -- in a worker's thread --------------------------------------------------------------------------------

    def _new_session(self) -> Session:
        from .connection import Session

        agent = self.agent.clone()
        agent.warn = partial(self._log.say, "goal", "a goal: %s")
        return Session(agent, self.image_key, self.limits.deadline)

    def _answer(
        self, session: Callable[[], Session], message: bytes | str, arrived: float, took: float | None
    ) -> bytes | str:
        """The reply, packed; or one line that says why there is none."""
        from latent_planner.planners import PlanError

        from .connection import RequestError

        begun = time.perf_counter()
        waited = begun - arrived
        try:
            if isinstance(message, str):
                return "Send binary messages (msgpack), not text."
            if waited > self.limits.patience:
                return f"The server is too busy: this request waited {waited:.1f} s."
            reply = session().answer(unpack(message), waited)
            if "ignored" in reply:
                self._log.say("ignored", "keys that are ignored: %s", ", ".join(reply["ignored"]))
            timing = {"infer_ms": 1000 * (time.perf_counter() - begun), "queue_ms": 1000 * waited}
            if took is not None:
                timing["prev_total_ms"] = 1000 * took
            return pack({**reply, "server_timing": timing})
        except (WireError, RequestError, PlanError) as error:
            return " ".join(str(error).split())
        except Exception:
            self._log.say("failed", "a request failed", level=logging.ERROR, exc_info=True)
            return "The server failed at this request; its log says why."


def use_threads(number: int) -> None:
    """So many threads of torch for what this thread computes."""
    import torch

    torch.set_num_threads(number)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def running(agent: Agent, **options: Any) -> Iterator[PolicyServer]:
    """A PolicyServer in a thread of this process, on a free port of this machine: for tests and demos.

    with running(agent) as server, Client(f"ws://127.0.0.1:{server.port}") as client: ...
    """
    with in_a_thread(PolicyServer(agent, port=0, **options), "serve") as server:
        yield server
