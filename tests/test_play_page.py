"""The page to play with, in a real browser: a goal is dragged and reached, a broken picture refused."""

from __future__ import annotations

import io
import re
from pathlib import Path

import browser
import drive
import pytest
from PIL import Image

from latent_planner.cli.play.players import Player
from latent_planner.cli.play.server import running
from latent_planner.cli.play.session import Session

pytest.importorskip("websockets")
pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(
        browser.find() is None, reason="no browser here; on Debian: apt-get install chromium"
    ),
]
KEY = "a-key-that-stays-the-same"
READY = "document.body.dataset.ready"


def session(name: str = "two_room") -> Session:
    player = Player.load(name, device="cpu", seed=0)
    quick = player.agent.settings.changed(num_samples=32, num_elites=4, iterations=2)
    return Session(player.changed(quick))


def place(page: drive.Tab, figure: str) -> list[float]:
    """Where the first handle of a figure is, in per cent."""
    style = f"document.querySelector('#{figure} .handle').style"
    return [float(number.rstrip("%")) for number in page.ask(f"[{style}.left, {style}.top]")]


def test_drag_a_goal_and_see_it_reached(tmp_path: Path) -> None:
    with running(session()) as server, drive.tab(server.address, tmp_path) as page:
        page.until(READY)
        start, before = place(page, "world"), place(page, "goal")
        wide = page.ask("document.querySelector('#goal .scene').clientWidth")
        aim = [start[0], start[1] - 20 if start[1] > 50 else start[1] + 20]
        page.drag("#goal .handle", *(wide * (to - at) / 100 for to, at in zip(aim, before)))
        page.until(f"Math.abs(parseFloat(document.querySelector('#goal .handle').style.top) - {aim[1]}) < 2")
        page.press("#goal .handle", "ArrowDown")
        page.until(f"parseFloat(document.querySelector('#goal .handle').style.top) > {aim[1] + 1}")
        page.ask("document.querySelector('#run').click()")
        page.until("document.body.dataset.reached")
        assert "goal reached at step" in page.text("#state") and page.text("#ms").endswith("ms")
        assert page.ask("document.querySelectorAll('#chart polyline')[0].getAttribute('points').length") > 20

        page.drop("#goal .scene", b"\x89PNG\r\n\x1a\n broken")
        page.until("document.querySelector('#note').textContent.includes('is not an image that can be read')")
        assert page.ask("document.querySelector('#note').className") == "banner bad"
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), (0, 90, 200)).save(buffer, "PNG")
        page.drop("#goal .scene", buffer.getvalue())
        page.until("document.querySelectorAll('#goal .handle').length === 0")
        page.until("!document.querySelector('#warning').hidden")

        steps = page.ask("parseInt(document.querySelector('#state').textContent.slice(5))")
        page.reload()
        page.until(READY)
        assert page.ask("parseInt(document.querySelector('#state').textContent.slice(5))") >= steps
        assert page.errors() == []
        assert all(
            address.startswith(server.address) for address in page.requests() if "data:" not in address
        )


def test_it_fits_and_survives_a_dead_server(tmp_path: Path) -> None:
    with running(session("pusht"), key=KEY) as server:
        port, address = server.port, server.address
        opened = drive.tab(address, tmp_path, width=390, height=844, dark=True)
        page = opened.__enter__()
        try:
            page.until(READY)
            assert page.ask("document.documentElement.scrollWidth - window.innerWidth") <= 0
            ground = page.ask("getComputedStyle(document.body).backgroundColor")
            assert sum(map(int, re.findall(r"\d+", ground)[:3])) < 150
            assert page.ask("document.querySelectorAll('#goal .handle').length") == 2
            page.press("#goal .handle[data-name=block]", "]", times=2)
            page.size(1440, 1000, False)
            shown = "[...document.querySelectorAll('figure:not([hidden])')]"
            tops = page.ask(f"{shown}.map(each => each.getBoundingClientRect().top)")
            assert len(set(tops)) == 1  # next to each other
            assert page.ask("document.documentElement.scrollWidth - window.innerWidth") <= 0
            server.stop()
            page.until("!document.querySelector('#lost').hidden")
            assert page.ask("document.querySelector('#run').disabled")
            with running(session("pusht"), key=KEY, port=port):
                page.until("document.querySelector('#lost').hidden")
                page.until("document.querySelector('#note').textContent.includes('answers again')")
                assert not page.ask("document.querySelector('#run').disabled")
        finally:
            opened.__exit__(None, None, None)
