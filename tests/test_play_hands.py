"""The page in a real browser: by finger, by camera, in two tabs, and as a recording; a run is watched."""

from __future__ import annotations

import json
from pathlib import Path

import browser
import drive
import numpy as np
import pytest
from test_play_page import READY, place, session
from waiting import until

from latent_planner.cli.play.server import running
from latent_planner.cli.play.training import Watched
from latent_planner.evaluation.video import Clip

pytest.importorskip("websockets")
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(
        browser.find() is None, reason="no browser here; on Debian: apt-get install chromium"
    ),
]


def test_by_finger_things_are_dragged_and_turned(tmp_path: Path) -> None:
    with running(session("pusht")) as server, drive.tab(server.address, tmp_path, width=390) as page:
        page.touch()
        page.reload()
        page.until(READY)
        before = place(page, "goal")
        turned = server.session.goal.state.copy()
        page.swipe("#goal .handle", 30, 20)
        page.until(
            f"Math.abs(parseFloat(document.querySelector('#goal .handle').style.left) - {before[0]}) > 4"
        )
        page.swipe("#goal .knob", 0, 60)
        until(lambda: abs(server.session.goal.state[4] - turned[4]) >= 0.2)
        assert page.ask("document.documentElement.scrollWidth - window.innerWidth") <= 0
        small = (
            "[...document.querySelectorAll('button, select, .file, .row a')].filter(each => each.offsetWidth)"
            ".filter(each => each.getBoundingClientRect().height < 39).map(each => each.outerHTML)"
        )
        assert page.ask(small) == []
        assert page.errors() == []


def test_the_camera_takes_a_goal(tmp_path: Path) -> None:
    with running(session()) as server, drive.tab(server.address, tmp_path) as page:
        page.until(READY)
        page.ask("document.querySelector('#camera').click()")
        page.until("document.querySelector('#viewfinder').videoWidth > 0")
        page.ask("document.querySelector('#camera').click()")
        page.until("document.querySelector('#how').textContent.startsWith('A picture')")
        assert page.ask("document.querySelector('#viewfinder').hidden")
        assert server.session.goal.state is None and len(np.unique(server.session.goal.picture)) > 2


def test_two_tabs_show_the_same_and_a_recording_plays_in_one(tmp_path: Path) -> None:
    steps = "parseInt(document.querySelector('#state').textContent.slice(5))"
    with (
        running(session()) as server,
        drive.tab(server.address, tmp_path / "one") as first,
        drive.tab(server.address, tmp_path / "two") as second,
    ):
        first.until(READY)
        second.until(READY)
        first.ask("document.querySelector('#compare').click()")
        second.until("!document.querySelector('#other').hidden")
        second.ask("document.querySelector('#run').click()")
        first.until(f"{steps} >= 4")
        first.ask("document.querySelector('#run').click()")
        second.until("document.querySelector('#run').textContent === 'Start'")
        assert "planner" in second.text("#python")

        saved = json.loads(server.session.downloads()["session.json"]()[0])
        first.drop("body", json.dumps(saved).encode(), "session.json")
        first.until("!document.querySelector('#replaying').hidden")
        assert second.ask("document.querySelector('#replaying').hidden")
        first.until("document.querySelector('#replay-run').textContent === 'Play'")  # at its end
        assert first.ask(steps) >= 3
        first.ask(
            "(() => { const at = document.querySelector('#replay-at'); at.value = 0;"
            " at.dispatchEvent(new Event('input')) })()"
        )
        first.until(f"!({steps} > 0)")
        first.ask("document.querySelector('#replay-end').click()")
        first.until(f"{READY} && {steps} >= 4")
        saved["messages"][0][1]["png"] = "https://example.org/a.png"
        first.drop("body", json.dumps(saved).encode(), "session.json")
        first.until("document.querySelector('#note').textContent.includes('is no PNG')")
        assert first.errors() == [] and second.errors() == []


def test_a_run_is_watched_as_it_learns(tmp_path: Path) -> None:
    watched = Watched({"folder": "runs/mine", "world": "dots", "parameters": "2.8", "latent_dim": 8})
    with running(watched) as server, drive.tab(server.address, tmp_path, width=390, dark=True) as page:
        for step in range(25, 200, 25):
            watched.row(
                {"step": step, "minutes": step / 50, "prediction": 1 / step, "held_out": 2 / step,
                 "sigreg": 3.0, "effective_rank": 6.0, "latent_std": 0.9, "steps_per_second": 2.0}
            )  # fmt: skip
        page.until(READY)
        assert page.text("#step") == "175" and "of 8" in page.text("#effective_rank")
        assert page.text("#health").startswith("✓") and page.ask("document.querySelector('#film').hidden")
        frames = [np.full((16, 16, 3), 20 * i, np.uint8) for i in range(3)]
        watched.plans([Clip(frames, frames[0], [2.0, 1.0, 0.5], 2, reached_at=2)], success=0.5)
        page.until("document.querySelector('#film').naturalWidth > 100")
        assert "50 %" in page.text("#planned")
        watched.row({"step": 200, "minutes": 4.0, "effective_rank": 1.2, "latent_std": 0.05, "success": 0.5})
        page.until("document.querySelector('#health').textContent.includes('collapsing')")
        assert page.text("#success") == "50 %"
        assert page.ask("document.documentElement.scrollWidth - window.innerWidth") <= 0
        assert page.errors() == []
        server.stop()
        page.until("!document.querySelector('#lost').hidden")
