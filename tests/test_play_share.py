"""What a page has shown, saved and shown again: recordings, films, and two worlds next to each other."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image
from test_play import Line, get, new_session

from latent_planner.cli.play import command, film, pictures
from latent_planner.cli.play.recorder import Recorder, ReplayError, parse_replay, read_replay
from latent_planner.cli.play.server import running

pytest.importorskip("websockets")
PICTURE = pictures.png(np.full((16, 16, 3), 200, np.uint8))


def frame(step: int, lane: int = 0, **more: Any) -> dict[str, Any]:
    return {"kind": "frame", "lane": lane, "png": PICTURE, "step": step, "distance": 5.0 - step, **more}


def recorded(*messages: dict[str, Any]) -> Recorder:
    times = iter(range(1000))
    recorder = Recorder(clock=lambda: float(next(times)))
    for message in messages:
        recorder.add(message)
    return recorder


GOAL = {"kind": "goal", "number": 1, "png": PICTURE, "places": {}, "known": True, "warning": None}


def test_two_worlds_begin_alike_and_plan_as_each_was_told() -> None:
    with running(new_session()) as server, Line(server) as line:
        line.until("frame")
        line.send("compare", value=True)
        line.until("settings", lambda now: len(now["lanes"]) == 2)
        line.send("planner", lane=1, value="mppi")
        line.send("deadline", lane=1, value=0.5)
        now = line.until("settings", lambda now: now["lanes"][1]["deadline"] == 0.5)["lanes"]
        assert (now[0]["planner"], now[1]["planner"]) == ("cem", "mppi") and now[0]["deadline"] is None
        assert "planner=mppi" in now[1]["command"] and "planner=mppi" not in now[0]["command"]
        line.send("again")
        first = line.until("frame", lambda frame: frame["step"] == 0)
        other = line.until("frame", lambda frame: (frame["step"], frame["lane"]) == (0, 1 - first["lane"]))
        assert first["places"] == other["places"] and abs(first["distance"] - other["distance"]) < 1e-3
        line.send("step")
        seen = {line.until("frame", lambda frame: frame["step"] == 1)["lane"]}
        seen.add(line.until("frame", lambda frame: frame["step"] == 1 and frame["lane"] not in seen)["lane"])
        assert seen == {0, 1}
        line.send("compare", value=False)
        line.until("settings", lambda now: len(now["lanes"]) == 1)
        line.send("checkpoint", value="pusht")
        assert "cannot be chosen here" in line.until("note", lambda note: note["bad"])["text"]


def test_the_fan_of_candidates_narrows() -> None:
    with running(new_session(num_samples=128, num_elites=8, iterations=5)) as server, Line(server) as line:
        line.until("frame")
        while server.session.players.known() is None:
            line.until("frame")
        server.session.players.known().wait()
        line.send("step")
        fan = line.until("plan", lambda plan: "fan" in plan)["fan"]
        assert len(fan["nearest"]) == 5 and len(fan["nearest"][0]) == 12
        paths = np.array(fan["paths"]["dot"])
        assert paths.shape[:2] == (5, 12) and paths.shape[3] == 2
        spread = paths[:, :, -1].std(axis=1).sum(axis=-1)
        assert spread[-1] < spread[0]


def test_a_recording_is_read_as_it_was_saved(tmp_path: Path) -> None:
    recorder = recorded(GOAL, frame(0), frame(1), {"kind": "history", "lane": 0, "steps": []})
    path = tmp_path / "session.json"
    path.write_bytes(recorder.replay())
    messages = read_replay(path)
    assert [message["kind"] for _, message in messages] == ["goal", "frame", "frame"]
    assert [seconds for seconds, _ in messages] == [0.0, 1.0, 2.0]


def test_a_recording_keeps_the_newest_and_what_they_stand_on() -> None:
    recorder = Recorder(most=4 * len(json.dumps(frame(0))), clock=lambda: 0.0)
    recorder.add(GOAL)
    for step in range(20):
        recorder.add(frame(step))
    kept = [message for _, message in recorder.timed()]
    assert len(kept) < 9 and kept[-1]["step"] == 19 and kept[0]["kind"] == "goal"


def broken(change: Callable[[dict[str, Any]], Any]) -> bytes:
    whole = json.loads(recorded(GOAL, frame(0)).replay())
    return json.dumps(change(whole) or whole).encode()


@pytest.mark.parametrize(
    "data, why",
    [
        (b"\x89PNG", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"{}", "not saved by this page"),
        (broken(lambda whole: whole.update(messages=[])), "no messages"),
        (broken(lambda whole: whole["messages"][1].reverse()), "has no time"),
        (broken(lambda whole: whole["messages"].reverse()), "order of time"),
        (broken(lambda whole: whole["messages"][0][1].update(kind="run")), "another kind"),
        (broken(lambda whole: whole["messages"][0][1].update(png="http://x.example/a.png")), "no PNG"),
        (broken(lambda whole: whole["messages"][0][1].update(png=PICTURE[:60])), "damaged"),
        (broken(lambda whole: whole["messages"][0][1].update(png=None)), "no picture"),
    ],
)
def test_an_odd_recording_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ReplayError, match=why):
        parse_replay(data)


def test_films_show_every_moment_and_end_where_the_goal_changes() -> None:
    other = {**GOAL, "number": 2, "png": pictures.png(np.zeros((16, 16, 3), np.uint8))}
    messages = recorded(GOAL, frame(0), frame(1, reached=1), other, frame(2)).timed()
    with av.open(io.BytesIO(film.mp4(messages))) as video:
        assert len(list(video.decode(video=0))) == 3
    with Image.open(io.BytesIO(film.gif(messages))) as animation:
        assert animation.format == "GIF" and animation.size[0] == film.GIF_WIDTH
    both = recorded(GOAL, frame(0), frame(0, lane=1), frame(1), frame(1, lane=1)).timed()
    assert film.mp4(both)[4:8] == b"ftyp"
    with pytest.raises(ReplayError, match="nothing was recorded"):
        film.mp4([])


def test_the_page_gives_out_what_it_has_recorded() -> None:
    with running(new_session()) as server, Line(server) as line:
        line.until("frame")
        line.send("step")
        line.until("frame", lambda frame: frame["step"] == 1)
        status, text, headers = get(server, f"/{server.key}/session.json")
        assert status == 200 and headers["Content-Type"] == "application/json"
        assert {message["kind"] for _, message in parse_replay(text.encode())} >= {"goal", "frame", "plan"}
        assert get(server, f"/{server.key}/session.gif")[0] == 200
        assert get(server, "/session.json")[0] == 404


def test_a_recording_opens_without_its_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    served: list[Any] = []
    monkeypatch.setattr(command, "serve", lambda shown, **options: served.append((shown, options)))
    path = tmp_path / "session.json"
    path.write_bytes(recorded(GOAL, frame(0)).replay())
    assert command.main([str(path), "--no-browser"]) == 0
    with running(served[0][0]) as server, Line(server) as line:
        assert line.until("replay")["messages"][1][1]["step"] == 0
    path.write_text("{}")
    assert command.main([str(path)]) == 2
    assert "was not saved by this page" in capsys.readouterr().err
