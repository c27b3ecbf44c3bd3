"""The policy server under load and abuse, on the loopback: many clients, nonsense, clients that vanish."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import select
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from waiting import PATIENCE, until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from latent_planner import Agent
from latent_planner.deploy import guard
from latent_planner.deploy import server as server_module
from latent_planner.deploy.client import Client, ServerError, pack
from latent_planner.deploy.server import Limits, PolicyServer, running
from latent_planner.deploy.turns import Allowance, SparingLog, Turns, neighbourhood

FRAMES = np.random.default_rng(0).integers(0, 256, (17, 48, 48, 3), np.uint8)
FRAMES[:, ::2] = np.linspace(0, 255, 17, dtype=np.uint8)[
    :, None, None, None
]  # so that they differ to a model
IMAGE = "observation/image"
MEGABYTE = 2**20


@pytest.fixture(scope="module")
def agent(tiny_checkpoint: Path) -> Agent:
    return Agent.from_pretrained(tiny_checkpoint, device="cpu")


@pytest.fixture
def server(agent: Agent) -> Iterator[PolicyServer]:
    with running(agent, limits=Limits(message_bytes=MEGABYTE, refusals=1e9)) as running_server:
        yield running_server


def url(server: PolicyServer) -> str:
    return f"ws://127.0.0.1:{server.port}"


def memory() -> int:
    """Bytes of main memory this process (server and clients) takes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def follow(planner: Any, goal: int) -> np.ndarray:
    """The plans of three requests on the way to one of the frames, and what they cost."""
    planner.set_goal(FRAMES[goal], steps=60)
    plans = [planner.replan(FRAMES[16], executed=5) for _ in range(3)]
    return np.stack([np.append(plan.actions, plan.cost) for plan in plans])


def test_sixteen_clients_at_once_get_their_own_answers(server: PolicyServer, agent: Agent) -> None:
    wanted = [follow(agent.clone(), goal) for goal in range(16)]
    assert len({plans[0, -1] for plans in wanted}) == 16, "different goals, different costs"
    together = threading.Barrier(16)

    def ask(goal: int) -> np.ndarray:
        with Client(url(server), timeout=PATIENCE) as client:
            together.wait(30)
            return follow(client, goal)

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(ask, range(16)))
    assert np.allclose(found, wanted, rtol=1e-4, atol=1e-4)
    until(lambda: server.sessions == 0)


def nonsense(rng: np.random.Generator) -> Iterator[bytes | str]:
    """Messages of every bad kind, without end."""
    good = bytearray(pack({IMAGE: FRAMES[0][:8, :8], "goal/image": FRAMES[1][:8, :8], "timestamp": 1.0}))
    picture = {b"__ndarray__": True, b"data": b"\0" * 192, b"dtype": "|u1", b"shape": [8, 8, 3]}
    shapes = [(3, 8, 8), (0, 8, 3), (2, 8, 8, 3), ()]
    wrong: list[Any] = [np.full((8, 8, 3), value) for value in (np.nan, np.inf, 0.5)]
    wrong += [*(np.zeros(shape, np.uint8) for shape in shapes), np.int64(3), None, "x", []]
    while True:
        yield rng.bytes(int(rng.integers(0, 200)))
        yield "text " * int(rng.integers(0, 9))
        damaged = bytearray(good)
        damaged[: int(rng.integers(1, 20))] = rng.bytes(3)
        yield bytes(damaged)
        yield bytes(good[: int(rng.integers(len(good)))])
        for value in wrong:
            yield pack({IMAGE: value})
            yield pack({"goal/image": value, "goal/steps": 1.5, "reset": "yes"})
        for shape in ([2**31, 2**31], [10**12], [-1, 3], [8] * 40, "8x8", [8, 8, 3.0]):
            yield msgpack.packb({IMAGE: {**picture, b"shape": shape}})
        for dtype in ("|O", "<M8[s]", "|V192", "|S192", "<U48", "|u1,|u1", "<c16", "", "u" * 500):
            yield msgpack.packb({IMAGE: {**picture, b"dtype": dtype}})
        for head in (b"\xdd", b"\xdf", b"\xc6", b"\xdb", b"\xc9"):  # sizes of 4 G that are not there
            yield head + b"\xff\xff\xff\xff" + rng.bytes(8)
        yield b"\x91" * 5000
        yield b"\x90" * 5000
        yield b"\xdc\xff\xff" + b"\x90" * 65535
        yield msgpack.packb([[None] * 1000] * 20)


async def shout(address: str, seed: int, count: int) -> int:
    """Send so many messages of nonsense and read the answers; how many were refused in one line."""
    refused = 0
    async with connect(address, compression=None, proxy=None) as connection:
        await connection.recv()
        for _, message in zip(range(count), nonsense(np.random.default_rng(seed))):
            await connection.send(message)
            answer = await connection.recv()
            refused += isinstance(answer, str) and "\n" not in answer and "Traceback" not in answer
    return refused


def shout_together(address: str, seed: int, count: int, connections: int = 4) -> int:
    async def together() -> int:
        each = count // connections
        return sum(await asyncio.gather(*(shout(address, seed + i, each) for i in range(connections))))

    return asyncio.run(together())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads its memory from /proc")
def test_ten_thousand_messages_of_nonsense_hurt_nobody(server: PolicyServer, agent: Agent) -> None:
    alone = agent.clone()
    with Client(url(server), timeout=PATIENCE) as other:
        for one in (other, alone):
            one.set_goal(FRAMES[3])
        refused = shout_together(url(server), seed=0, count=2000)
        before = memory()
        for round_ in range(4):
            refused += shout_together(url(server), seed=10 + round_, count=2000)
            plans = [one.replan(FRAMES[round_], executed=5).actions for one in (alone, other)]
            assert np.allclose(*plans, atol=1e-4), "the session of somebody else"
        assert memory() - before < 16 * MEGABYTE
        assert refused > 9000, "the rest were resets that came through by chance"
        assert server.refused == refused and server.sessions == 1 and other.connections == 1


def test_a_message_that_is_too_big_ends_that_connection_alone(server: PolicyServer) -> None:
    async def send() -> int | None:
        async with connect(url(server), compression=None, proxy=None) as connection:
            await connection.recv()
            try:
                await connection.send(bytes(2 * MEGABYTE))
                await connection.recv()
            except ConnectionClosed as closed:
                return closed.rcvd.code if closed.rcvd else None
        return None

    with Client(url(server)) as other:
        assert asyncio.run(send()) == 1009
        other.set_goal(FRAMES[0])
        assert other.replan(FRAMES[1]).actions.shape == (25, 2) and other.connections == 1


def raw(server: PolicyServer, *parts: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    for part in parts:
        connection.sendall(part)
    return connection


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def test_connections_that_never_become_one_hurt_nobody(server: PolicyServer) -> None:
    rng = np.random.default_rng(0)
    left_open = [raw(server) for _ in range(40)]
    left_open += [raw(server, HANDSHAKE[: int(rng.integers(1, len(HANDSHAKE) - 4))]) for _ in range(40)]
    left_open += [raw(server, rng.bytes(500)) for _ in range(40)]
    left_open += [raw(server, b"GET /nothing HTTP/1.1\r\n\r\n"), raw(server, b"A" * 100_000)]
    # a frame that says 8 EB, one that is not masked, one cut short, and an opcode that does not exist
    for frame in (b"\x82\xff" + b"\x7f" * 8, b"\x82\x05hello", b"\x82\xfe\x10\x00half", b"\x8b\x80abcd"):
        left_open.append(raw(server, HANDSHAKE, frame))
    with Client(url(server)) as client:
        client.set_goal(FRAMES[0])
        assert client.replan(FRAMES[1]).actions.shape == (25, 2)
    for connection in left_open:
        connection.close()
    until(lambda: server.sessions == 0)


def test_a_client_that_vanishes_frees_its_session(server: PolicyServer) -> None:
    request = pack({IMAGE: FRAMES[0], "goal/image": FRAMES[1]})
    mask = b"\0\0\0\0"
    frame = b"\x82\xfe" + struct.pack(">H", len(request)) + mask + request
    for abrupt in (False, True):
        connections = [raw(server, HANDSHAKE, frame) for _ in range(8)]
        until(lambda: server.sessions == 8)
        for connection in connections:
            if abrupt:  # a reset instead of a farewell
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        until(lambda: server.sessions == 0)


# -- what no client may take from the others -----------------------------------------------------------------


def test_turns_go_round_the_addresses_and_then_in_order_of_arrival() -> None:
    served: list[str] = []

    async def ask(turns: Turns, address: str, number: int) -> None:
        async with turns.turn(address):
            served.append(f"{address}{number}")
            await asyncio.sleep(0)

    async def together() -> None:
        turns = Turns(1)
        async with turns.turn("first"):
            asking = [asyncio.create_task(ask(turns, "a", i)) for i in range(4)]
            asking += [asyncio.create_task(ask(turns, "b", i)) for i in range(2)]
            asking += [asyncio.create_task(ask(turns, "c", 0)), asyncio.create_task(ask(turns, "d", 0))]
            await asyncio.sleep(0)
            asking[-1].cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        async with turns.turn("last"):  # nothing is lost: the place is free again
            served.append("last")

    asyncio.run(together())
    assert served == ["a0", "b0", "c0", "a1", "b1", "a2", "a3", "last"]


def test_an_address_leaves_a_place_to_those_that_were_here_lately() -> None:
    now = [0.0]

    async def together() -> None:
        turns, most, running = Turns(3, clock=lambda: now[0]), 0, 0

        async def ask(address: str) -> None:
            nonlocal most, running
            async with turns.turn(address):
                running += address == "greedy"
                most = max(most, running)
                await asyncio.sleep(0)
                running -= address == "greedy"

        for other, wait, allowed in [([], 0, 3), (["a"], 0, 2), (["b"], 0, 1), (["c"], 0, 1), ([], 10, 3)]:
            now[0] += wait
            most = 0
            for address in other:
                await ask(address)
            await asyncio.gather(*(ask("greedy") for _ in range(9)))
            assert most == allowed

    asyncio.run(together())


def test_allowances_come_back_with_time_and_logs_count_what_they_leave_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [0.0]
    allowance = Allowance(3, 2.0, clock=lambda: now[0])
    assert [allowance.take() for _ in range(5)] == [0, 0, 0, 0.5, 1.0]
    now[0] = 10.0
    assert [allowance.take() for _ in range(4)] == [0, 0, 0, 0.5]
    sparing = SparingLog(logging.getLogger("sparing"), clock=lambda: now[0])
    with caplog.at_level("INFO"):
        for _ in range(1000):
            sparing.say("a", "first of %s", "a")
            sparing.say("b", "first of b", often=2)
        now[0] = 71.0
        sparing.say("a", "second of a")
    assert [record.getMessage() for record in caplog.records] == [
        "first of a", "first of b", "first of b", "second of a (999 more like it were not logged)",
    ]  # fmt: skip


def test_ipv6_addresses_of_one_network_count_as_one() -> None:
    assert neighbourhood("2001:db8:1:2:3::4") == neighbourhood("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert neighbourhood("::ffff:10.0.0.1") == neighbourhood("10.0.0.1") == "10.0.0.1"
    assert neighbourhood("fe80::1%eth0") == "fe80::/64" and neighbourhood("?") == "?"


def test_the_oldest_sockets_without_a_request_go_first(
    agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"), running(agent, api_key="k", limits=Limits(unfinished=8)) as server:
        silent = [raw(server) for _ in range(60)]
        with Client(url(server), api_key="k") as client:
            client.set_goal(FRAMES[0])
            assert client.replan(FRAMES[1]).actions.shape == (25, 2)
        until(lambda: len(server._door) <= 8)
        assert silent[0].recv(1) == b"", "closed"
        for connection in silent:
            connection.close()
        until(lambda: len(server._door) == 0)
    assert caplog.text.count("sockets without a request") == 1, "one line a minute"


def test_a_client_gets_in_while_closed_sockets_come_back_at_once(agent: Agent) -> None:
    with running(agent, api_key="k", limits=Limits(unfinished=64)) as server:
        over = threading.Event()

        def hold() -> None:
            held: list[socket.socket] = []
            while not over.is_set():
                held += [raw(server) for _ in range(150 - len(held))]
                for connection in select.select(held, [], [], 0.01)[0]:
                    connection.close()
                    held.remove(connection)
            for connection in held:
                connection.close()

        hostile = threading.Thread(target=hold)
        hostile.start()
        until(lambda: len(server._door) >= 64)
        try:
            for _ in range(3):
                Client(url(server), api_key="k").close()
        finally:
            over.set()
            hostile.join(10)


def test_a_handshake_that_is_not_finished_in_time_is_cut(
    agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "HANDSHAKE", 0.1)
    with running(agent) as server:
        assert raw(server).recv(1) == b"" and raw(server, HANDSHAKE[:30]).recv(1) == b""


def test_running_out_of_descriptors_is_one_line(agent: Agent, caplog: pytest.LogCaptureFixture) -> None:
    with running(agent) as server:
        assert server._loop is not None
        scarce = {
            "message": "socket.accept() out of system resource",
            "exception": OSError(errno.EMFILE, "x"),
        }
        for _ in range(100):
            server._loop.call_soon_threadsafe(server._loop.call_exception_handler, scarce)
        with Client(url(server)):
            pass
    assert caplog.text.count("cannot accept connections") == 1 and "Traceback" not in caplog.text


@pytest.mark.parametrize(
    "frame", [b"\x89\x80abcd", b"\x8a\x80abcd", b"\x00\x80abcd"], ids=["ping", "pong", "bits"]
)
def test_small_frames_without_end_are_cut(
    server: PolicyServer, frame: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"), Client(url(server)) as other:
        hostile = raw(server, HANDSHAKE, b"\x02\x80abcd" if frame[:1] == b"\0" else b"")
        with contextlib.suppress(OSError):
            for _ in range(50):
                hostile.sendall(frame * 1000)
        received = b""
        with contextlib.suppress(OSError):
            while part := hostile.recv(65536):
                received += part
        assert received.count(b"\x8a\x00") <= guard.SMALL_FRAMES[0] + 10, "pongs"
        until(lambda: server.sessions == 1)
        other.set_goal(FRAMES[0])
        assert other.replan(FRAMES[1]).actions.shape == (25, 2)
    assert caplog.text.count("too many pings or small fragments") == 1


def test_a_large_message_in_many_fragments_is_no_abuse(server: PolicyServer) -> None:
    async def send() -> Any:
        request = pack({IMAGE: np.zeros((400, 400, 3), np.uint8), "goal/image": FRAMES[0]})
        async with connect(url(server), compression=None, proxy=None) as connection:
            await connection.recv()
            await connection.send(request[i : i + 2048] for i in range(0, len(request), 2048))
            return await connection.recv()

    assert isinstance(asyncio.run(send()), bytes)


def test_what_is_refused_again_and_again_is_read_later(agent: Agent) -> None:
    with running(agent, limits=Limits(refusals=1e-3)) as server, Client(url(server)) as client:
        for _ in range(20):
            with pytest.raises(ServerError, match="There is no"):
                client.infer({"prompt": "go"})
        assert client.infer({"reset": True}) and client.infer({"reset": True}), "what can be answered is"
        with pytest.raises(ServerError):
            client.infer({"prompt": "go"})
        client.timeout = 0.2
        with pytest.raises(TimeoutError):
            client.infer({"prompt": "go"})


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a second loopback address")
def test_an_address_that_has_all_connections_makes_room_for_another(agent: Agent) -> None:
    async def from_elsewhere() -> None:
        async with connect(
            url(server), compression=None, proxy=None, local_addr=("127.0.0.2", 0)
        ) as connection:
            assert await connection.recv()

    with running(agent, limits=Limits(connections=4)) as server:
        greedy = [Client(url(server)) for _ in range(4)]
        asyncio.run(from_elsewhere())
        with pytest.raises(ServerError, match="503"):
            [Client(url(server), timeout=1.5) for _ in range(2)]
        for client in greedy:
            client.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads its memory from /proc")
def test_memory_comes_back_after_large_pictures(agent: Agent) -> None:
    large = pack({IMAGE: np.zeros((1150, 1200, 3), np.uint8), "goal/image": FRAMES[0]})

    async def send() -> None:
        async with connect(url(server), compression=None, proxy=None) as connection:
            await connection.recv()
            for _ in range(3):
                await connection.send(large)
                assert isinstance(await connection.recv(), bytes)

    async def together() -> None:
        await asyncio.gather(*(send() for _ in range(6)))

    with running(agent) as server:
        asyncio.run(send())
        before = memory()
        asyncio.run(together())
        until(lambda: server.sessions == 0 and memory() - before < 32 * MEGABYTE)
