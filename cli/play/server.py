"""The page's server: files of page/ and one WebSocket for each tab, on this machine alone unless asked.

Everything lies below a key that cannot be guessed, http://127.0.0.1:PORT/KEY/. The name that the browser
asked for must be this machine's, or a plain address, so that no stranger's name can be made to lead here, and
a WebSocket must come from the page itself.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http import HTTPStatus
from importlib import resources
from typing import Any, Protocol
from urllib.parse import urlsplit

from latent_planner.common.serving import in_a_thread
from latent_planner.goal_image import GoalImageError

from . import orders
from .orders import Order, OrderError
from .recorder import ReplayError

log = logging.getLogger(__name__)

HERE = "127.0.0.1"
ANYWHERE = ("0.0.0.0", "::", "")
NAMES = (HERE, "localhost", "::1")
KINDS = {
    "html": "text/html; charset=utf-8",
    "css": "text/css",
    "js": "text/javascript",
    "svg": "image/svg+xml",
}
Slot = tuple[str, int]  # kind of message, and which of the worlds side by side it is of
MESSAGE_BYTES = 16 * 2**20  # of a picture, mostly
TABS = 8
HANDSHAKE = 5.0  # seconds
BEAT = 2.5  # seconds after which a tab is sent something, so that it knows that the line still holds
STOPPED = 1001
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Shows(Protocol):
    """What a page shows: a Session, a run under way, a replay.

    page: the file of page/ to begin with.   publish: called with each message; the server sets it.
    viewers: tabs that are open.   order: False when too many are waiting.
    downloads: what can be saved, by file name: bytes and media type.
    """

    page: str
    publish: Callable[[dict[str, Any]], None]
    viewers: int

    def start(self) -> None: ...
    def close(self) -> None: ...
    def order(self, order: Order, /) -> bool: ...
    def downloads(self) -> Mapping[str, Callable[[], tuple[bytes, str]]]: ...


class PageServer:
    """Serves `session` until `stop`.

    host: where to listen; default: for this machine alone.   port: 0 takes any free one; `address` then says
    which.   key: part of the address; default a new one.   beat: seconds after which a tab hears something,
    even when nothing happens.
    """

    def __init__(
        self, session: Shows, *, host: str = HERE, port: int = 0, key: str | None = None, beat: float = BEAT
    ) -> None:
        self.session, self.host, self.port, self.beat = session, host, port, beat
        self.key = key or secrets.token_urlsafe(18)
        session.publish = self.publish
        self._latest: dict[Slot, str] = {}
        self._tabs: set[_Tab] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        page = resources.files("latent_planner.cli.play") / "page"
        self._files = {entry.name: entry.read_bytes() for entry in page.iterdir() if entry.is_file()}

    @property
    def address(self) -> str:
        """What to open."""
        host = HERE if self.host in ANYWHERE else f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}/{self.key}/"

    async def run(self, ready: Callable[[], None] = lambda: None) -> None:
        """Serve until `stop`; ready is called once tabs can connect. OSError for a taken port."""
        from websockets.asyncio.server import serve

        self._loop, self._stopping = asyncio.get_running_loop(), asyncio.Event()
        quiet = logging.getLogger(f"{__name__}.websockets")
        quiet.setLevel(logging.CRITICAL)  # it logs each handshake that fails with a traceback
        server = await serve(
            self._handle,
            self.host,
            self.port,
            max_size=MESSAGE_BYTES,
            max_queue=4,
            process_request=self._answer,
            open_timeout=HANDSHAKE,
            close_timeout=2,
            logger=quiet,
        )
        self.port = server.sockets[0].getsockname()[1]
        self.session.start()
        self.session.order(Order("hello"))
        try:
            ready()
            await self._stopping.wait()
        finally:
            server.close()
            await server.wait_closed()
            await asyncio.to_thread(self.session.close)

    def stop(self) -> None:
        """End `run`. For any thread, and for signal handlers."""
        if self._stopping is not None:
            self._soon(self._stopping.set)

    def publish(self, message: dict[str, Any]) -> None:
        """Show a message to every tab. For any thread."""
        slot = message["kind"], message.get("lane", 0)
        self._soon(self._spread, slot, json.dumps(message, allow_nan=False))

    def _soon(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call it in the server's thread; not at all once that has ended."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(function, *arguments)

    def _spread(self, slot: Slot, text: str) -> None:
        if slot[0] != "note":
            self._latest[slot] = text
        for tab in self._tabs:
            tab.put(slot, text)

    async def _answer(self, connection: Any, request: Any) -> Any:
        """The HTTP answer, or None to go on with a WebSocket."""
        from websockets.datastructures import Headers
        from websockets.http11 import Response

        def answer(status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> Any:
            headers = {
                **HEADERS,
                "Content-Type": kind,
                "Content-Length": str(len(body)),
                "Connection": "close",
            }
            return Response(status.value, status.phrase, Headers(headers), body)

        hosts = request.headers.get_all("Host")
        if len(hosts) != 1 or not self._is_here(_name_of(hosts[0])):
            return answer(
                HTTPStatus.FORBIDDEN, b"This page is for this machine alone: open it as 127.0.0.1.\n"
            )
        _, _, rest = request.path.partition("?")[0].partition("/")
        key, _, name = rest.partition("/")
        if not hmac.compare_digest(key.encode("utf-8", "replace"), self.key.encode()):
            return answer(
                HTTPStatus.NOT_FOUND, b"Open the address that the program has printed: it holds a key.\n"
            )
        if name == "socket":
            if request.headers.get_all("Origin") != [f"http://{hosts[0]}"]:
                return answer(HTTPStatus.FORBIDDEN, b"Only the page itself may connect.\n")
            if len(self._tabs) >= TABS:
                return answer(HTTPStatus.SERVICE_UNAVAILABLE, b"Too many tabs are open: close one.\n")
            return None
        if name in (downloads := self.session.downloads()):
            try:
                return answer(HTTPStatus.OK, *await asyncio.to_thread(downloads[name]))
            except ReplayError as error:
                return answer(HTTPStatus.NOT_FOUND, f"{error}\n".encode())
        name = name or self.session.page
        if name not in self._files:
            return answer(HTTPStatus.NOT_FOUND, b"There is no such file.\n")
        return answer(HTTPStatus.OK, self._files[name], KINDS.get(name.rpartition(".")[2], "text/plain"))

    def _is_here(self, name: str | None) -> bool:
        """Whether a name in a Host header may lead here."""
        return name in NAMES or name == self.host or (self.host != HERE and _is_address(name))

    async def _handle(self, socket: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        tab = _Tab(self._latest, self.beat)
        self._tabs.add(tab)
        self.session.viewers = len(self._tabs)
        self.session.order(Order("hello"))
        sending = asyncio.create_task(tab.send_to(socket))
        try:
            async for message in socket:
                try:
                    if not self.session.order(orders.read(message)):
                        raise OrderError("Too much is waiting: try again in a moment.")
                except (OrderError, GoalImageError) as error:
                    tab.put(("note", 0), json.dumps({"kind": "note", "text": str(error), "bad": True}))
        except ConnectionClosed:
            pass
        finally:
            sending.cancel()
            self._tabs.discard(tab)
            self.session.viewers = len(self._tabs)


class _Tab:
    """What one tab is still to be sent: the newest message of each kind, so a slow one is never behind."""

    def __init__(self, latest: dict[Slot, str], beat: float) -> None:
        self._beat = ("beat", 0), json.dumps({"kind": "beat", "every": beat})
        self._every, self._waiting, self._some = beat, dict(latest), asyncio.Event()
        self.put(*self._beat)

    def put(self, slot: Slot, text: str) -> None:
        self._waiting[slot] = text
        self._some.set()

    async def send_to(self, socket: Any) -> None:
        from websockets.exceptions import ConnectionClosed

        try:
            while True:
                try:
                    await asyncio.wait_for(self._some.wait(), self._every)
                except TimeoutError:
                    self.put(*self._beat)
                self._some.clear()
                waiting, self._waiting = self._waiting, {}
                for text in waiting.values():
                    await socket.send(text)
        except ConnectionClosed:
            pass


def _name_of(host: str) -> str | None:
    """The name in a Host header, without the port."""
    try:
        return urlsplit(f"//{host}").hostname
    except ValueError:
        return None


def _is_address(name: str | None) -> bool:
    """Whether this is a number, which nobody can make lead elsewhere, and no name."""
    try:
        ipaddress.ip_address(name or "")
    except ValueError:
        return False
    return True


@contextmanager
def running(session: Shows, **options: Any) -> Iterator[PageServer]:
    """A PageServer in a thread of this process, for tests."""
    with in_a_thread(PageServer(session, **options), "page server") as server:
        yield server
