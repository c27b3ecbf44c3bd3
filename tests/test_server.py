"""The policy server and its client, on this machine's loopback."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from waiting import PATIENCE, until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from latent_planner import Agent
from latent_planner.deploy import serve
from latent_planner.deploy.client import Client, ServerError, pack, unpack
from latent_planner.deploy.connection import RequestError, Session
from latent_planner.deploy.server import Limits, PolicyServer, running
from latent_planner.planners import PlanError

FRAMES = np.random.default_rng(0).integers(0, 256, (6, 48, 48, 3), np.uint8)
IMAGE = "observation/image"


class Gated(Agent):
    """Plans only when it may."""

    gate, begun = threading.Event(), threading.Semaphore(0)

    def replan(self, *arguments: Any, **options: Any) -> Any:
        self.begun.release()
        assert self.gate.wait(PATIENCE)
        return super().replan(*arguments, **options)

    def clone(self, seed: int | None = None) -> Agent:
        made = super().clone(seed)
        made.__class__ = Gated
        return made


@pytest.fixture(scope="module")
def agent(tiny_checkpoint: Path) -> Agent:
    return Agent.from_pretrained(tiny_checkpoint, device="cpu")


@pytest.fixture
def gated(tiny_checkpoint: Path) -> Iterator[Gated]:
    Gated.gate, Gated.begun = threading.Event(), threading.Semaphore(0)
    yield Gated.from_pretrained(tiny_checkpoint, device="cpu")
    Gated.gate.set()


@pytest.fixture(scope="module")
def server(agent: Agent) -> Iterator[PolicyServer]:
    with running(agent) as running_server:
        yield running_server


def url(server: PolicyServer) -> str:
    return f"ws://127.0.0.1:{server.port}"


def health(server: PolicyServer) -> str:
    address = f"http://127.0.0.1:{server.port}/healthz"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(address, timeout=PATIENCE) as answer:
        return f"{answer.status} {answer.read().decode().strip()}"


# -- the wire ------------------------------------------------------------------------------------------------


def array_map(array: np.ndarray) -> dict:
    return {b"__ndarray__": True, b"data": array.tobytes(), b"dtype": array.dtype.str, b"shape": array.shape}


def test_a_client_that_only_knows_the_format_is_understood(server: PolicyServer, agent: Agent) -> None:
    """msgpack by hand, as openpi's client writes it, prompt and joint angles included."""
    with connect(url(server), compression=None, max_size=None, proxy=None) as socket:
        said = msgpack.unpackb(socket.recv())
        assert said["action_low"] == [-1, -1] and said["requires_goal"] is True
        assert said["image_keys"] == [IMAGE] and said["image_size"] == 64 and said["control_hz"] is None
        request = {
            IMAGE: array_map(FRAMES[0]),
            "observation/state": array_map(np.zeros(8)),
            "prompt": "go there",
            "goal/image": array_map(FRAMES[1]),
        }
        socket.send(msgpack.packb(request))
        first = msgpack.unpackb(socket.recv(), strict_map_key=False)
        socket.send(msgpack.packb(request))
        second = msgpack.unpackb(socket.recv(), strict_map_key=False)
    actions = first["actions"]
    assert actions[b"dtype"] == "<f4" and actions[b"shape"] == [said["chunk_length"], 2]
    alone = agent.clone()
    alone.set_goal(FRAMES[1])
    plan = alone.replan(FRAMES[0])
    found = np.frombuffer(actions[b"data"], "<f4").reshape(actions[b"shape"])
    assert np.allclose(found, plan.actions, atol=1e-5) and first["cost"] == pytest.approx(
        float(plan.cost), 1e-4
    )
    assert first["policy_timing"]["infer_ms"] > 0
    assert set(first["server_timing"]) == {"infer_ms", "queue_ms"}
    assert set(second["server_timing"]) == {"infer_ms", "queue_ms", "prev_total_ms"}


def test_openpi_s_own_client_works_as_it_is(server: PolicyServer) -> None:
    policy = pytest.importorskip("openpi_client.websocket_client_policy")
    client = policy.WebsocketClientPolicy("127.0.0.1", server.port)
    answer = client.infer({IMAGE: FRAMES[0], "goal/image": FRAMES[1], "prompt": "go there"})
    assert answer["actions"].shape == (client.get_server_metadata()["chunk_length"], 2)
    with pytest.raises(RuntimeError, match="observation/image"):
        client.infer({"prompt": "go there"})
    client._ws.close()


def test_our_client_gets_what_an_agent_here_would_plan(server: PolicyServer, agent: Agent) -> None:
    alone = agent.clone()
    with Client(url(server)) as client:
        for one in (client, alone):
            one.set_goal(FRAMES[1], steps=40)
        done = None
        for i in range(4):
            ours, theirs = alone.replan(FRAMES[i], executed=done), client.replan(FRAMES[i], executed=done)
            assert theirs.actions.dtype == np.float32 and np.allclose(ours.actions, theirs.actions, atol=1e-4)
            assert theirs.cost == pytest.approx(float(ours.cost), 1e-4)
            done = ours.actions[:5] if i % 2 else 5
        client.reset()
        with pytest.raises(ServerError, match="no goal yet: send its picture"):
            client.replan(FRAMES[0])
        assert client.connections == 1, "a refusal does not end the session"


def test_what_is_wrong_reaches_the_client_in_one_line_and_the_session_goes_on(server: PolicyServer) -> None:
    with Client(url(server)) as client:
        client.set_goal(FRAMES[1])
        client.replan(FRAMES[0])
        for wrong, message in [
            (np.full((48, 48, 3), np.nan), "must be uint8"),
            (FRAMES[:2], r"must be uint8 of shape \(H, W, 3\)"),
            (FRAMES[0].transpose(2, 0, 1), r"not uint8 \(3, 48, 48\)"),
            (FRAMES[0][:0], "is empty"),
            ("picture", "not 'picture'"),
            (FRAMES[0].transpose(2, 0, 1), r"transpose it, np.transpose\(frame, \(1, 2, 0\)\)"),
            (FRAMES[0] / 255, "multiply by 255 and convert to uint8"),
            ((FRAMES[0] / 255).transpose(2, 0, 1), "transpose it.*, then multiply by 255"),
            (np.concatenate([FRAMES[0], FRAMES[0][..., :1]], -1), "drop the last channel"),
            (FRAMES[0][..., :1], "repeat the one channel"),
            (np.zeros((2049, 1, 3), np.uint8), "2049 x 1 pixels, and no side may have more than 2048"),
        ]:
            with pytest.raises(ServerError, match=message) as caught:
                client.replan(wrong)  # type: ignore[arg-type]
            assert "\n" not in str(caught.value)
        assert client.replan(FRAMES[0]).actions.shape == (25, 2) and client.connections == 1


# -- one session, without the network ------------------------------------------------------------------------


def session(agent: Agent, **options: Any) -> Session:
    made = Session(agent.clone(), IMAGE, **options)
    made.answer({"goal/image": FRAMES[1], "goal/steps": 40})
    return made


def test_a_goal_that_is_repeated_changes_nothing_and_a_new_one_does(agent: Agent) -> None:
    ours, theirs = session(agent), session(agent)
    request = {IMAGE: FRAMES[0], "executed": 5}
    for one in (ours, theirs):
        one.answer(request)
    a = ours.answer({**request, "goal/image": FRAMES[1].copy()})
    b = theirs.answer(request)
    assert np.array_equal(a["actions"], b["actions"]) and a["actions"].shape == (25, 2)
    assert len(ours.answer({**request, "goal/image": FRAMES[1], "goal/steps": 15})["actions"]) == 15
    assert len(ours.answer({**request, "goal/image": FRAMES[2], "goal/steps": 10})["actions"]) == 10


def test_timestamps_say_what_was_done_where_the_rate_is_known(agent: Agent) -> None:
    import dataclasses

    known = agent.clone()
    known.config = dataclasses.replace(agent.config, control_hz=10.0)
    by_clock, by_count = Session(known, IMAGE), session(agent)
    by_clock.answer({"goal/image": FRAMES[1], "goal/steps": 40})
    for i in range(4):
        a = by_clock.answer({IMAGE: FRAMES[i], "timestamp": 7.0 + 0.5 * i})
        b = by_count.answer({IMAGE: FRAMES[i], "executed": 5 if i else None})
        assert np.array_equal(a["actions"], b["actions"]) and a["timestamp"] == 7.0 + 0.5 * i
    assert by_clock.answer({IMAGE: FRAMES[0], "timestamp": 1.0})["actions"].shape == (20, 2), (
        "a clock set back"
    )


def test_the_least_deadline_counts_from_the_arrival(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    ours = session(agent, deadline=0.5)
    plan = ours.agent.replan
    monkeypatch.setattr(ours.agent, "replan", lambda *a, **k: (seen.append(k["deadline"]), plan(*a, **k))[1])
    ours.answer({IMAGE: FRAMES[0]}, waited=0.2)
    ours.answer({IMAGE: FRAMES[0], "deadline": 0.1})
    ours.answer({IMAGE: FRAMES[0], "deadline": 9}, waited=3.0)
    assert seen == [pytest.approx(0.3), 0.1, 0.0]
    assert ours.answer({IMAGE: FRAMES[0], "deadline": 0.0})["iterations"] == 1


def test_reset_forgets(agent: Agent) -> None:
    ours, fresh = session(agent), session(agent)
    ours.answer({IMAGE: FRAMES[0]})
    assert "actions" not in ours.answer({"reset": True})
    with pytest.raises(RequestError, match="no goal"):
        ours.answer({IMAGE: FRAMES[0]})
    again = ours.answer({IMAGE: FRAMES[3], "goal/image": FRAMES[1], "goal/steps": 40})
    assert np.array_equal(again["actions"], fresh.answer({IMAGE: FRAMES[3]})["actions"])


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ([1], "a map"),
        ({b"raw": 1}, "a map"),
        ({}, "no 'observation/image'"),
        ({IMAGE: None}, "no 'observation/image'"),
        (
            {"observation/wrist": FRAMES[0]},
            "'observation/wrist' holds a picture: .* --image-key observation/wrist",
        ),
        ({"left": FRAMES[0].transpose(2, 0, 1) / 255, "joints": np.zeros(7)}, "'left' holds a picture"),
        ({"left": FRAMES[0], "right": FRAMES[0]}, "send the frame under it"),
        ({"goal/image": np.zeros((4, 4), np.uint8)}, "goal/image must be uint8"),
        ({IMAGE: FRAMES[0], "timestamp": 1.7e18}, "divide nanoseconds by 1e9"),
        ({"goal/image": FRAMES[2], "goal/steps": 1.5}, "whole number"),
        ({"goal/image": FRAMES[2], "goal/steps": -3}, "whole number"),
        ({IMAGE: FRAMES[0], "timestamp": np.nan}, "timestamp is a number"),
        ({IMAGE: FRAMES[0], "timestamp": "now"}, "timestamp is a number"),
        ({IMAGE: FRAMES[0], "deadline": -1}, "deadline is a number"),
        ({IMAGE: FRAMES[0], "reset": 1}, "reset is true or false"),
        ({IMAGE: FRAMES[0], "executed": "all"}, "executed"),
        ({IMAGE: FRAMES[0], "executed": -1}, "executed"),
        ({IMAGE: FRAMES[0], "executed": np.zeros((3, 7))}, "executed"),
    ],
)
def test_requests_that_cannot_be_answered(agent: Agent, request_: Any, message: str) -> None:
    ours = session(agent)
    first = ours.answer({IMAGE: FRAMES[0]})["actions"]
    with pytest.raises((RequestError, PlanError), match=message):
        ours.answer(request_)
    assert ours.answer({IMAGE: FRAMES[0], "executed": 0})["actions"].shape == first.shape


def test_time_stamps_of_any_size_are_answered_or_refused_in_words(agent: Agent) -> None:
    import dataclasses

    ours = session(agent)
    ours.agent.config = dataclasses.replace(agent.config, control_hz=10.0)
    for stamp in (1e308, -1e308, 1e11, -1e11, 1e11, np.float64(1e200)):
        try:
            assert ours.answer({IMAGE: FRAMES[0], "timestamp": stamp})["actions"].shape[1] == 2
        except RequestError as error:
            assert "timestamp is in seconds" in str(error)


def test_keys_that_nothing_reads_are_named_once(agent: Agent) -> None:
    ours = session(agent)
    request = {IMAGE: FRAMES[0], "prompt": "go", "observation/wrist": FRAMES[1]}
    assert ours.answer(request)["ignored"] == ["observation/wrist", "prompt"]
    assert "ignored" not in ours.answer(request)
    named = ours.answer({**request, **{f"key {i}\n\x1b[2J": i for i in range(1000)}})["ignored"]
    assert len(named) == 6 and all(name.isprintable() for name in named)
    assert "ignored" not in ours.answer({**request, "another": 1}), "a session's memory of them is bounded"


# -- who may come in, and how it ends ------------------------------------------------------------------------


def test_planning_keeps_nobody_else_waiting(gated: Gated) -> None:
    with running(gated, workers=2) as server, Client(url(server)) as slow, Client(url(server)) as other:
        slow.set_goal(FRAMES[0])
        thread = threading.Thread(target=slow.replan, args=(FRAMES[1],))
        thread.start()
        assert gated.begun.acquire(timeout=PATIENCE)
        assert health(server) == "200 OK"
        assert other.infer({"goal/image": FRAMES[2]})["policy_timing"] == {}
        gated.gate.set()
        thread.join(PATIENCE)


def test_a_request_that_waits_too_long_for_its_turn_is_told_so(gated: Gated) -> None:
    with running(gated, workers=1, limits=Limits(patience=0.05)) as server:
        with Client(url(server)) as first, Client(url(server)) as second:
            for one in (first, second):
                one.set_goal(FRAMES[0])
            thread = threading.Thread(target=first.replan, args=(FRAMES[1],))
            thread.start()
            assert gated.begun.acquire(timeout=PATIENCE)

            def end_first() -> None:
                until(lambda: server._turns._waiting)
                time.sleep(0.1)  # beyond its patience
                gated.gate.set()

            threading.Thread(target=end_first).start()
            with pytest.raises(ServerError, match="too busy"):
                second.replan(FRAMES[1])
            thread.join(PATIENCE)
            assert second.replan(FRAMES[1]).actions.shape == (25, 2)


def test_what_is_under_way_is_answered_when_the_server_stops(gated: Gated) -> None:
    answers: list[Any] = []
    with running(gated) as server:
        busy, idle = Client(url(server)), Client(url(server))
        busy.set_goal(FRAMES[0])
        thread = threading.Thread(target=lambda: answers.append(busy.replan(FRAMES[1])))
        thread.start()
        assert gated.begun.acquire(timeout=PATIENCE)
        server.stop()
        with pytest.raises(ConnectionClosed, match="the server stops"):
            idle._socket.recv(timeout=PATIENCE)
        with pytest.raises(OSError):
            connect(url(server), proxy=None)
        gated.gate.set()
        thread.join(PATIENCE)
        until(lambda: server._loop.is_closed())
        server.stop()  # nothing is left to stop
    assert answers[0].actions.shape == (25, 2)


def test_the_key_is_asked_of_everyone(agent: Agent) -> None:
    with running(agent, api_key="sésame") as server:
        for wrong in (None, "sesam", "sésam", "sésame2"):
            headers = {"Authorization": f"Api-Key {wrong}"} if wrong else None
            if wrong is None or wrong.isascii():
                with pytest.raises(InvalidStatus, match="401"):
                    connect(url(server), proxy=None, additional_headers=headers)
        assert health(server) == "200 OK"
    with running(agent, api_key="open") as server:
        twice = [("Authorization", "Api-Key open")] * 2
        with pytest.raises(InvalidStatus, match="401"):
            connect(url(server), proxy=None, additional_headers=twice)
        with pytest.raises(ServerError, match="401: This server asks for its API key"):
            Client(url(server), timeout=PATIENCE)
        with Client(url(server), api_key="open") as client:
            assert client.metadata["env"] == "pusht"


def test_no_more_connections_than_allowed_and_none_from_web_pages(agent: Agent) -> None:
    with running(agent, limits=Limits(connections=1)) as server:
        with Client(url(server)):
            with pytest.raises(ServerError, match="503: All connections are in use"):
                Client(url(server), timeout=1.5)
            assert health(server) == "200 OK"
        until(lambda: server.sessions == 0)
        with pytest.raises(InvalidStatus, match="403"):
            connect(url(server), origin="http://example.com", proxy=None)  # type: ignore[arg-type]
        with Client(url(server)):
            assert server.sessions == 1


def test_a_silent_connection_is_ended_and_the_client_comes_back(agent: Agent) -> None:
    with running(agent, limits=Limits(idle_seconds=0.2)) as server, Client(url(server)) as client:
        client.set_goal(FRAMES[1], steps=20)
        assert len(client.replan(FRAMES[0]).actions) == 20
        until(lambda: server.sessions == 0)
        assert len(client.replan(FRAMES[0], executed=5).actions) == 20, "told the goal again"
        until(lambda: server.sessions == 0)
        assert len(client.replan(FRAMES[0]).actions) == 15 and client.connections >= 3


def test_the_client_survives_the_server_and_gives_up_in_time(agent: Agent) -> None:
    with running(agent) as server:
        client = Client(url(server))
        client.set_goal(FRAMES[1])
        client.replan(FRAMES[0])
        port = server.port
    client.timeout = 0.3
    with pytest.raises(ServerError, match="cannot be reached"):
        client.replan(FRAMES[0])
    again = PolicyServer(agent, port=port)
    import asyncio

    thread = threading.Thread(target=lambda: asyncio.run(again.run()))
    thread.start()
    client.timeout = PATIENCE
    assert client.replan(FRAMES[0]).actions.shape == (25, 2)
    client.close()
    again.stop()
    thread.join(PATIENCE)


def test_an_answer_that_comes_too_late_is_not_taken_for_the_next(gated: Gated) -> None:
    with running(gated, workers=2) as server, Client(url(server)) as client:
        client.timeout = 0.3
        client.set_goal(FRAMES[1])
        with pytest.raises(TimeoutError, match="did not answer within 0.3 s"):
            client.replan(FRAMES[0])
        gated.gate.set()
        client.timeout = PATIENCE
        client.set_goal(FRAMES[1], steps=10)
        assert len(client.replan(FRAMES[0]).actions) == 10 and client.connections == 2


def test_a_fault_of_the_server_s_own_is_in_its_log_alone(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with running(agent) as server, Client(url(server)) as client:
        client.set_goal(FRAMES[1])
        with monkeypatch.context() as patch:
            patch.setattr(Session, "answer", lambda *_: 1 / 0)
            with pytest.raises(ServerError, match=r"^The server failed at this request; its log says why\.$"):
                client.replan(FRAMES[0])
        assert "ZeroDivisionError" in caplog.text and "Traceback" in caplog.text
        assert client.replan(FRAMES[0]).actions.shape == (25, 2)


# -- the command line ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no-such-model"], "no checkpoint 'no-such-model'"),
        (["pusht", "--host", "0.0.0.0"], "--api-key-file FILE"),
        (["pusht", "--api-key-file", os.devnull], "the API key is empty"),
        (["pusht", "--api-key-file", "no-such-file"], "no-such-file"),
        (["pusht", "--device", "warp"], "Device 'warp'"),
    ],
)
def test_what_the_user_can_mend(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert serve.main(words) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and message in error and "\n" not in error


def test_a_port_that_is_taken(
    server: PolicyServer, tiny_checkpoint: Path, capsys: pytest.CaptureFixture
) -> None:
    assert serve.main([str(tiny_checkpoint), "--port", str(server.port)]) == 2
    assert f"error: 127.0.0.1:{server.port}: " in capsys.readouterr().err


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", "clé".encode(), b"one\ntwo", b"tab\there"])
def test_a_key_that_no_client_can_send(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key.txt").write_bytes(content)
    assert serve.main(["pusht", "--api-key-file", str(tmp_path / "key.txt")]) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "API key" in error and "\n" not in error


def test_ctrl_c_while_it_starts_is_one_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Agent, "from_pretrained", interrupted)
    with caplog.at_level("INFO"):
        assert serve.main(["pusht"]) == 130
    assert capsys.readouterr().err.strip() == "stopped"
    assert "importing" in caplog.text and "loading pusht" in caplog.text


HELD = """\
import sys, time
from pathlib import Path
from latent_planner import Agent
from latent_planner.cli.__main__ import main
replan = Agent.replan

def held(*words, **options):
    while Path("hold").exists():
        Path("begun").touch()
        time.sleep(0.01)
    return replan(*words, **options)

Agent.replan = held
sys.exit(main(sys.argv[1:]))
"""  # the command, with plans that take as long as there is a file


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM to answer")
def test_the_command_serves_until_it_is_told_to_stop(tiny_checkpoint: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HELD, "serve", str(tiny_checkpoint), "--port", "0"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        story = process.stdout.readline()
        assert re.search(r"s to import, [\d.]+ s to load, [\d.]+ s for a first plan", story)
        found = re.match(r"ws://[\d.]+:\d+", process.stdout.readline())
        assert found
        client = Client(found.group())
        client.set_goal(FRAMES[1])
        assert client.replan(FRAMES[0]).actions.shape == (25, 2)
        (tmp_path / "hold").touch()
        client._socket.send(pack({IMAGE: FRAMES[0], "timestamp": 3.0}))
        until((tmp_path / "begun").exists, process)
        process.send_signal(signal.SIGTERM)
        (tmp_path / "hold").unlink()
        assert unpack(client._socket.recv(timeout=PATIENCE))["timestamp"] == 3.0
        assert process.wait(PATIENCE) == 0 and process.stdout.read().strip() == "stopped"
        assert "Traceback" not in process.stderr.read()
