"""How much later a well-behaved client of the policy server is served while others do their worst.

    python tests/campaigns/server_abuse.py                         # about four minutes, loopback only
    python tests/campaigns/server_abuse.py --only pings --same-address

Starts `latent-planner serve`, asks it for plans by one client, alone and under each attack in turn, and
prints a table: how late plans came, how late a new client was let in, the server's memory before and after,
and lines of its log. The attackers are one process of low priority (they would be other machines) and come
from 127.0.0.2; with --same-address from the client's own address, and then turns by address do not help.
Linux only.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from latent_planner.deploy.client import Client, ServerError, pack

KEY, IMAGE = "campaign", "observation/image"
PAUSE = 0.1  # seconds between two requests of the well-behaved client
SOCKETS = 20  # that each hostile client of the attacks without a key holds
UPGRADE = (
    "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
)


# -- the attacks: each coroutine is one hostile client and goes on until it is cancelled ---------------------


class Target:
    """Where the server is, and from which address of ours to come."""

    def __init__(self, port: int, source: str) -> None:
        self.port, self.source = port, source

    async def open(self, text: str = "") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        address = (self.source, 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=address)
        writer.write(text.encode())
        return reader, writer

    async def enter(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """With the key, up to the server's first message."""
        reader, writer = await self.open(f"{UPGRADE}Authorization: Api-Key {KEY}\r\n\r\n")
        status = await reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in status:
            writer.close()
            raise ConnectionError("not let in")
        await next_frame(reader)
        return reader, writer


async def next_frame(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readexactly(2)
    length = head[1] & 127
    if length > 125:
        size = 2 if length == 126 else 8
        length = int.from_bytes(await reader.readexactly(size))
    return await reader.readexactly(length)


def frame(payload: bytes, opcode: int = 2) -> bytes:
    """A final frame of a client, its mask zero."""
    length = len(payload)
    if length < 126:
        head = struct.pack(">BB", 128 | opcode, 128 | length)
    elif length < 2**16:
        head = struct.pack(">BBH", 128 | opcode, 254, length)
    else:
        head = struct.pack(">BBQ", 128 | opcode, 255, length)
    return head + b"\0\0\0\0" + payload


async def hold(target: Target, text: str) -> None:
    """Keep sockets open which never finish what they began."""

    async def one() -> None:
        while True:
            with contextlib.suppress(OSError):
                reader, writer = await target.open(text)
                with contextlib.suppress(OSError):
                    await reader.read(1)
                writer.close()
            await asyncio.sleep(0.05)

    await asyncio.gather(*(one() for _ in range(SOCKETS)))


async def knock(target: Target, _: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            reader, writer = await target.open(f"{UPGRADE}Authorization: Api-Key wrong\r\n\r\n")
            await reader.read()
            writer.close()


async def pour(target: Target, data: bytes) -> None:
    """Send the same again and again, without waiting; come back when cut."""
    while True:
        with contextlib.suppress(OSError, EOFError):
            reader, writer = await target.enter()
            swallow = asyncio.create_task(reader.read())
            try:
                while not swallow.done():
                    writer.write(data)
                    await writer.drain()
            finally:
                swallow.cancel()
                writer.close()
        await asyncio.sleep(0)


async def ask(target: Target, messages: Iterator[bytes]) -> None:
    """Send the next message as soon as the last is answered."""
    while True:
        with contextlib.suppress(OSError, EOFError):
            reader, writer = await target.enter()
            try:
                for message in messages:
                    writer.write(message)
                    await next_frame(reader)
            finally:
                writer.close()
        await asyncio.sleep(0)


def always(value: dict) -> Iterator[bytes]:
    message = frame(pack(value))
    while True:
        yield message


def garbage(seed: int) -> Iterator[bytes]:
    rng = np.random.default_rng(seed)
    while True:
        yield frame(rng.bytes(int(rng.integers(1, 20_000))))


def picture(rows: int, columns: int) -> np.ndarray:
    return np.full((rows, columns, 3), 128, np.uint8)


ATTACKS: dict[str, Callable[[Target, int], Awaitable[None]]] = {
    "silent sockets": lambda target, _: hold(target, ""),
    "half a request": lambda target, _: hold(target, UPGRADE),
    "wrong key": knock,
    "pings": lambda target, _: pour(target, frame(b"", 9) * 10_000),
    "tiny fragments": lambda target, _: pour(target, b"\x02\x80abcd" + b"\x00\x80abcd" * 10_000),
    "garbage": lambda target, seed: ask(target, garbage(seed)),
    "4 MB refused": lambda target, _: ask(target, always({IMAGE: picture(2, 690_000)})),
    "4 MB pictures": lambda target, _: ask(
        target, always({IMAGE: picture(1150, 1200), "goal/image": picture(64, 64)})
    ),
    "plans": lambda target, _: ask(target, always({IMAGE: picture(64, 64), "goal/image": picture(64, 64)})),
}
ATTACKS["all of them"] = lambda target, number: list(ATTACKS.values())[number % 9](target, number)


async def attack(name: str, port: int, source: str, hostile: int, seconds: float) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)  # being cut is expected
    target = Target(port, source)
    tasks = asyncio.gather(*(ATTACKS[name](target, number) for number in range(hostile)))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(tasks, seconds)


# -- what is measured ----------------------------------------------------------------------------------------


@dataclass
class Measured:
    """Seconds of the requests that were answered and of coming in anew, and what went wrong."""

    requests: list[float] = field(default_factory=list)
    entries: list[float] = field(default_factory=list)
    failed: int = 0

    def cells(self, alone: Measured | None) -> str:
        if not self.requests:
            return f"{'none':>8}{'':>21}{self.failed:>8}"
        median, late = statistics.median(self.requests), float(np.quantile(self.requests, 0.95))
        times = median / statistics.median((alone or self).requests)
        entry = 1000 * statistics.median(self.entries) if self.entries else float("nan")
        return f"{1000 * median:>8.0f}{1000 * late:>7.0f}{times:>7.1f}{entry:>7.0f}{self.failed:>8}"


def behave(port: int, client: Client, seconds: float, measured: Measured) -> None:
    """Ask for plans with pauses, and every second or so come in as a new client, too."""
    until, entry = time.monotonic() + seconds, time.monotonic() + 1
    while time.monotonic() < until:
        try:
            started = time.perf_counter()
            client.replan(picture(64, 64), executed=0)
            measured.requests.append(time.perf_counter() - started)
            if time.monotonic() > entry:
                started = time.perf_counter()
                Client(f"ws://127.0.0.1:{port}", api_key=KEY).close()
                measured.entries.append(time.perf_counter() - started)
                entry = time.monotonic() + 1
        except (ServerError, TimeoutError):
            measured.failed += 1
        time.sleep(PAUSE)


def resident(process: subprocess.Popen) -> float:
    """MB of main memory that the server takes."""
    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextlib.contextmanager
def serving(checkpoint: str, log: Path) -> Iterator[tuple[subprocess.Popen, int]]:
    key = log.with_name("key.txt")
    key.write_text(KEY)
    words = ["serve", checkpoint, "--port", "0", "--api-key-file", str(key), "--device", "cpu"]
    command = [sys.executable, "-m", "latent_planner.cli", *words]
    with open(log, "w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        found = re.match(r"ws://127.0.0.1:(\d+)", process.stdout.readline())
        if found is None:
            raise SystemExit(f"the server did not start: {log.read_text()}")
        yield process, int(found[1])
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def settled(process: subprocess.Popen, bound: float) -> float:
    """The memory once it is below the bound, or after ten seconds."""
    end = time.monotonic() + 10
    while resident(process) > bound and time.monotonic() < end:
        time.sleep(0.2)
    return resident(process)


def campaign(args: argparse.Namespace, folder: Path) -> None:
    log, source = folder / "log.txt", "127.0.0.1" if args.same_address else "127.0.0.2"
    print(f"{args.hostile} hostile clients from {source}, load of this machine {os.getloadavg()[0]:.1f}")
    print(f"{'':<16}  median   95 %  times  entry  failed     MB  after    log")
    print(f"{'':<16}      ms     ms  alone     ms                       lines", flush=True)
    with serving(args.checkpoint, log) as (process, port):
        client = Client(f"ws://127.0.0.1:{port}", api_key=KEY, timeout=30)
        client.set_goal(picture(64, 64))
        behave(port, client, 2, Measured())
        for name in args.only or ATTACKS:
            alone = Measured()  # anew each time, as others may use this machine, too
            behave(port, client, args.seconds / 2, alone)
            print(f"{'alone':<16}{alone.cells(None)}", flush=True)
            before, lines = resident(process), log.read_text().count("\n")
            words = ["--attack", name, str(port), source, str(args.hostile), str(args.seconds + 2)]
            hostile = subprocess.Popen(["nice", "-n", "19", sys.executable, __file__, *words])
            time.sleep(2)  # until it has begun
            measured = Measured()
            behave(port, client, args.seconds, measured)
            hostile.wait(60)
            after = settled(process, before + 30)
            lines = log.read_text().count("\n") - lines
            print(f"{name:<16}{measured.cells(alone)}{before:>7.0f}{after:>7.0f}{lines:>7}", flush=True)
        client.close()
    print(f"\ntracebacks in the log: {log.read_text().count('Traceback')}")
    if args.show_log:
        print(log.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", default="pusht")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each attack (default: %(default)s)")
    parser.add_argument("--hostile", type=int, default=30, help="clients (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=ATTACKS, metavar="ATTACK")
    parser.add_argument("--same-address", action="store_true", help="come from the client's own address")
    parser.add_argument("--show-log", action="store_true")
    parser.add_argument("--attack", nargs=5, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.attack:
        name, port, source, hostile, seconds = args.attack
        asyncio.run(attack(name, int(port), source, int(hostile), min(600.0, float(seconds))))
        return
    with tempfile.TemporaryDirectory() as folder:
        campaign(args, Path(folder))


if __name__ == "__main__":
    main()
