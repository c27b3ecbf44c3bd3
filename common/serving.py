"""What servers share: ending on a signal, and running in a thread for tests and demos."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar


class Server(Protocol):
    """`run` calls its argument once clients may connect, and returns after `stop`, from any thread."""

    def run(self, ready: Callable[[], None], /) -> Awaitable[None]: ...
    def stop(self) -> None: ...


Any_Server = TypeVar("Any_Server", bound=Server)


def stop_on_signals(stop: Callable[[], None]) -> None:
    """Call `stop` on SIGTERM and Ctrl-C. To be called in a running event loop."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        try:
            loop.add_signal_handler(number, stop)
        except NotImplementedError:  # Windows
            signal.signal(number, lambda *_: stop())


@contextmanager
def in_a_thread(server: Any_Server, name: str) -> Iterator[Any_Server]:
    """The server in a thread of this process until the block ends; raises what it could not start for."""
    ready, failed = threading.Event(), []

    async def serve() -> None:
        await server.run(ready.set)

    def main() -> None:
        try:
            asyncio.run(serve())
        except Exception as error:
            failed.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=main, name=name, daemon=True)
    thread.start()
    ready.wait()
    if failed:
        raise failed[0]
    try:
        yield server
    finally:
        server.stop()
        thread.join()
