"""The page to play with: orders in, messages out, and who may connect at all."""

from __future__ import annotations

import http.client
import io
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from waiting import PATIENCE, until

from latent_planner import goal_image, looks
from latent_planner.checkpoints import checkpoint
from latent_planner.cli import plan
from latent_planner.cli.overrides import ConfigError
from latent_planner.cli.planner_words import planner_settings
from latent_planner.cli.play import command, keys, orders, pictures, words
from latent_planner.cli.play.imagined import Ghosts, Known
from latent_planner.cli.play.orders import Order, OrderError
from latent_planner.cli.play.players import Player
from latent_planner.cli.play.players import latents as latents_of
from latent_planner.cli.play.server import MESSAGE_BYTES, PageServer, running
from latent_planner.cli.play.session import Session
from latent_planner.settings import AgentSettings

websockets = pytest.importorskip("websockets.sync.client")
pytestmark = pytest.mark.usefixtures("one_thread")


def new_session(name: str = "two_room", *, looks: bool = False, **changes: Any) -> Session:
    player = Player.load(name, device="cpu", seed=0)
    player.agent.looks = player.agent.looks if looks else None
    quick = {"num_samples": 32, "num_elites": 4, "iterations": 2}
    return Session(player.changed(player.agent.settings.changed(**{**quick, **changes})))


@pytest.fixture(scope="module")
def server() -> Iterator[PageServer]:
    with running(new_session()) as made:
        yield made


class Line:
    """A tab without a browser."""

    def __init__(self, server: PageServer) -> None:
        address, origin = server.address.replace("http", "ws") + "socket", f"http://127.0.0.1:{server.port}"
        self._open = websockets.connect(address, origin=origin, max_size=None)
        self.latest: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Line:
        self.socket = self._open.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._open.__exit__(*error)

    def send(self, do: str, **fields: Any) -> None:
        self.socket.send(json.dumps({"do": do, **fields}))

    def until(
        self, kind: str, true: Callable[[dict[str, Any]], bool] = lambda message: True
    ) -> dict[str, Any]:
        """The next message of this kind of which this is true."""
        deadline = time.monotonic() + PATIENCE
        while True:
            message = json.loads(self.socket.recv(timeout=deadline - time.monotonic()))
            self.latest[message["kind"]] = message
            if message["kind"] == kind and true(message):
                return message


@pytest.fixture
def line(server: PageServer) -> Iterator[Line]:
    with Line(server) as made:
        for kind in ("settings", "goal", "frame"):
            if kind not in made.latest:
                made.until(kind)
        yield made
        made.send("pause")


def as_png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_goal_that_is_dragged_is_reached(line: Line) -> None:
    line.send("restart")
    x, y = line.until("frame", lambda frame: frame["step"] == 0)["places"]["dot"]
    aim = x, y - 0.2 if y > 0.5 else y + 0.2
    line.send("move", where="goal", handle="dot", x=aim[0], y=aim[1])
    goal = line.until("goal", lambda goal: np.allclose(goal["places"]["dot"], aim, atol=0.08))
    line.send("run")
    reached = line.until("frame", lambda frame: frame["reached"] is not None)
    assert np.hypot(*np.subtract(reached["places"]["dot"], goal["places"]["dot"])) < 16 / 224
    made = line.latest["plan"]
    assert len(made["expected"]) >= 2 and made["ms"] > 0 and made["ghosts"].startswith("data:image/png")
    assert len(made["path"]) == len(made["expected"])  # from here on, a place for each imagined step
    assert reached["surprise"] is None or 0 <= reached["surprise"] < 1


def test_things_in_the_running_world_can_be_dragged(line: Line) -> None:
    line.send("move", where="world", handle="dot", x=0.25, y=0.75)
    line.until("frame", lambda frame: np.allclose(frame["places"]["dot"], (0.25, 0.75), atol=0.01))
    line.send("nudge", where="world", handle="dot", x=0.02, y=0.0)
    line.send("nudge", where="world", handle="dot", x=-0.02, y=0.0)
    line.send("freeze")
    goal = line.until("goal", lambda goal: np.allclose(goal["places"]["dot"], (0.25, 0.75), atol=0.01))
    assert goal["known"]


def test_a_step_at_a_time(line: Line) -> None:
    line.send("restart")
    line.until("frame", lambda frame: frame["step"] == 0)
    line.send("step")
    line.send("step")
    assert line.until("frame", lambda frame: frame["step"] == 2)
    assert not line.latest["settings"]["running"]


def test_pictures_become_goals_and_broken_ones_a_sentence(line: Line, server: PageServer) -> None:
    line.socket.send(b"\x89PNG\r\n\x1a\n of no use")
    note = line.until("note")
    assert note["bad"] and note["text"].startswith("The picture is not an image that can be read")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    session = server.session
    until(lambda: session.players.known() is not None and len(session.players.known()) >= 1500)
    line.socket.send(as_png(noise))
    goal = line.until("goal", lambda goal: not goal["known"] and goal["judged"])
    assert goal["places"] == {} and "looks like nothing that the model knows" in goal["warning"]
    saved = pictures.goal_file(
        session.stage.scene.render_state(session.state), session.state, session.state, "two_room"
    )
    line.socket.send(saved)
    goal = line.until("goal", lambda goal: goal["known"] and goal["judged"])  # it says which state it shows
    assert np.allclose(goal["places"]["dot"], session.state / 224) and goal["warning"] is None


def test_planner_deadline_and_pace_are_chosen_and_said(line: Line, server: PageServer) -> None:
    line.send("planner", value="mppi")
    line.send("deadline", value=0.1)
    line.send("speed", value=0.5)
    now = line.until("settings", lambda now: now["speed"] == 0.5)["lanes"][0]
    assert (now["planner"], now["deadline"]) == ("mppi", 0.1)
    assert "planner=mppi planner.deadline=0.1" in now["command"]
    made: dict[str, Any] = {}
    exec("\n".join(now["python"].splitlines()[:3]), made)
    assert made["agent"].settings == server.session.agent.settings
    line.send("planner", value="fastest")
    assert "there is no planner=fastest" in line.until("note", lambda note: note["bad"])["text"].lower()
    line.send("planner", value="cem")
    line.send("deadline", value=None)
    line.send("speed", value=1.0)


@pytest.mark.parametrize(
    "changes", [{}, {"planner": "icem"}, {"deadline": 0.2, "horizon": 3, "warm_start": False}]
)
def test_words_make_the_settings_again(changes: dict[str, Any]) -> None:
    stored = checkpoint.load("two_room")[1]["planner"]
    settings = AgentSettings.from_dict(stored).changed(**changes)
    assert planner_settings(words.planner_words(settings, stored), stored) == settings


def test_two_tabs_and_a_late_one_see_the_same(line: Line, server: PageServer) -> None:
    line.send("move", where="goal", handle="dot", x=0.3, y=0.3)
    here = (0.3, 0.3)
    line.until("goal", lambda goal: goal["judged"] and np.allclose(goal["places"]["dot"], here, atol=0.01))
    line.until("frame")
    with Line(server) as late:
        assert np.allclose(late.until("goal")["places"]["dot"], (0.3, 0.3), atol=0.01)
        assert late.until("history")["steps"]
        late.send("move", where="goal", handle="dot", x=0.2, y=0.6)
        line.until("goal", lambda goal: np.allclose(goal["places"]["dot"], (0.2, 0.6), atol=0.01))


@pytest.mark.parametrize(
    "message",
    ["", "[]", "{}", '{"do": "rm"}', '{"do": "run", "x": 1}', '{"do": "speed", "value": 1e9}',
     '{"do": ["run"]}', '{"do": "speed", "value": [1]}', '{"do": "planner", "value": null}', "[" * 9999,
     '{"do": "deadline", "value": true}', '{"do": "picture", "value": ""}',
     '{"do": "move", "where": "goal", "handle": "dot", "x": NaN, "y": 0}',
     '{"do": "move", "where": "there", "handle": "dot", "x": 0, "y": 0}',
     '{"do": "turn", "where": "goal", "handle": {}, "by": 0}', '{"do": "compare", "value": 1}',
     '{"do": "planner", "value": "cem", "lane": 2}', '{"do": "planner", "value": "cem", "lane": true}',
     '{"do": "run", "lane": 0}', '{"do": "checkpoint", "value": ["pusht"]}'],
)  # fmt: skip
def test_odd_messages_are_refused(message: str) -> None:
    with pytest.raises(OrderError):
        orders.read(message)


def test_an_odd_message_does_not_end_the_line(line: Line) -> None:
    line.socket.send('{"do": "rm"}')
    assert line.until("note")["text"].startswith("An order is one of")
    line.send("move", where="goal", handle="teapot", x=0.5, y=0.5)
    assert "teapot" in line.until("note")["text"]
    line.send("turn", where="goal", handle="dot", by=1)
    assert "no direction" in line.until("note")["text"]


def test_drags_that_follow_at_once_are_one() -> None:
    drag = Order("move", where="goal", handle="dot", x=0.1)
    assert Order("move", where="goal", handle="dot", x=0.2).replaces(drag)
    assert not Order("move", where="world", handle="dot").replaces(drag) and not Order("run").replaces(drag)
    turn = Order("turn", where="goal", handle="dot", by=0.1)
    assert not turn.replaces(turn)  # turns add up


def get(server: PageServer, path: str, host: str | None = None) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("GET", path, headers={"Host": host or f"127.0.0.1:{server.port}"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode("utf-8", "replace"), dict(answer.getheaders())


def test_nothing_is_given_without_the_key_or_to_another_name(server: PageServer) -> None:
    status, text, headers = get(server, f"/{server.key}/")
    assert status == 200 and "<title>" in text and "default-src 'none'" in headers["Content-Security-Policy"]
    assert get(server, f"/{server.key}/play.js")[0] == 200
    for path in (
        "/",
        "/index.html",
        "/socket",
        "/wrong/play.js",
        f"/{server.key[:-1]}/",
        f"/{server.key}/../session.py",
    ):
        assert get(server, path)[0] == 404, path
    for host in ("evil.example", f"evil.example:{server.port}", "127.0.0.1.evil.example", "[", ""):
        assert get(server, f"/{server.key}/", host or " ")[0] in (400, 403), host
    assert get(server, f"/{server.key}/", "localhost:9")[0] == 200  # as through a tunnel


def test_listening_elsewhere_takes_plain_addresses_and_no_names() -> None:
    with running(new_session(), host="0.0.0.0") as server:
        assert server.address.startswith("http://127.0.0.1:")
        assert get(server, f"/{server.key}/", "192.0.2.7:8017")[0] == 200
        assert get(server, f"/{server.key}/", "evil.example")[0] == 403
        assert get(server, "/", "192.0.2.7:8017")[0] == 404


def test_the_key_stays_and_only_its_user_may_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(keys.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    key, path = keys.own_key(), tmp_path / "latent-planner" / "play-key"
    assert keys.own_key() == key and path.read_text().strip() == key
    assert os.name != "posix" or path.stat().st_mode & 0o077 == 0
    if os.name == "posix":
        path.chmod(0o644)  # others may have read it
        assert keys.own_key() != key and path.stat().st_mode & 0o077 == 0
    path.write_text("short")
    assert len(keys.own_key()) >= 16
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    assert keys.own_key() and not (tmp_path / "elsewhere").exists()
    monkeypatch.setenv(keys.VARIABLE, "guess")
    with pytest.raises(ConfigError, match="that nobody can guess"):
        keys.own_key()


@pytest.mark.parametrize("origin", [None, "null", "http://evil.example", "http://localhost:1"])
def test_another_origin_cannot_connect(server: PageServer, origin: str | None) -> None:
    from websockets.exceptions import InvalidStatus

    address = server.address.replace("http", "ws") + "socket"
    with pytest.raises(InvalidStatus, match="403"), websockets.connect(address, origin=origin):
        pass


def test_too_large_a_message_ends_that_line_alone(line: Line, server: PageServer) -> None:
    from websockets.exceptions import ConnectionClosed

    with Line(server) as other, pytest.raises(ConnectionClosed):
        other.socket.send(b"0" * (MESSAGE_BYTES + 1))
        while True:
            other.socket.recv(timeout=PATIENCE)
    line.send("freeze")
    assert line.until("goal")


def test_the_saved_goal_carries_its_state(line: Line, server: PageServer, tmp_path: Path) -> None:
    line.send("freeze")
    line.until("goal", lambda goal: goal["known"])
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE)
    connection.request("GET", f"/{server.key}/goal.png")
    path = tmp_path / "goal.png"
    path.write_bytes(connection.getresponse().read())
    text = goal_image.read_goal_text(path)
    assert text is not None and text.env == "two_room" and np.allclose(text.state, server.session.state)


def test_mistakes_on_the_command_line_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, said in (
        (["nothing"], "There is no checkpoint"),
        (["two_room", "planner=fastest"], "there is no planner=fastest"),
        (["two_room", "mppi"], "There is no checkpoint 'mppi'"),
        (["two_room", "--port", "99999"], "--port must lie"),
        (["--prot", "1"], "see --help"),
    ):
        assert command.main([*arguments, "--no-browser"] if "--prot" not in arguments else arguments) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1, error


def test_plan_play_is_the_same_page(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(command, "play", lambda *given, **options: asked.append((given, options)))
    assert plan.main(["--play", "--checkpoint", "two_room", "planner=mppi"]) == 0
    assert asked[0][0] == (["two_room"], ["planner=mppi"])
    assert plan.main(["--play", "--budget", "3"]) == 2


def test_imagined_latents_are_shown_where_the_dot_would_be() -> None:
    session = new_session()
    world, scene, agent = session.stage.world, session.stage.scene, session.agent
    known = Known(world, lambda frames: latents_of(agent, frames), np.array([60.0, 60.0]))
    try:
        before = known.things_of(np.zeros((2, agent.config.latent_dim)))
        assert len(before) in (0, 2)  # the nearest, once there are some
        known.wait()
        states = [np.array([50.0, 150.0]), np.array([170.0, 100.0])]
        latents = latents_of(agent, np.stack([scene.render_state(state) for state in states]))
        assert np.abs(np.array(known.things_of(latents)) - states).max() < 8  # px of 224
        overlay = Ghosts(known, scene.render_state).over(states)
        there = np.argwhere(overlay[..., 3] > 0) / len(overlay) * 224
        near = [np.linalg.norm(there - state[::-1], axis=1) < 25 for state in states]
        assert (near[0] | near[1]).all() and near[0].any() and near[1].any()  # nothing but the two dots
    finally:
        known.close()


def test_what_the_checkpoint_says_of_looks_comes_first() -> None:
    session = new_session(looks=True)
    flat = np.full((64, 64, 3), (200, 40, 120), np.uint8)
    with running(session) as server, Line(server) as line:
        line.until("frame")
        line.socket.send(as_png(flat))
        goal = line.until("goal", lambda goal: not goal["known"] and goal["judged"])
        complaint = looks.complaint(session.agent.goal_looks)
        assert complaint and goal["warning"].lower() == complaint.lower()
