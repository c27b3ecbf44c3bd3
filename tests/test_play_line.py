"""The line between page and program is cut, or goes silent: the page says so, and goes on by itself."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import browser
import drive
import pytest
from test_play import Line, new_session
from test_play_page import READY, session

from latent_planner.cli.play.server import running

pytest.importorskip("websockets")
NEEDS_BROWSER = pytest.mark.skipif(
    browser.find() is None, reason="no browser here; on Debian: apt-get install chromium"
)
pytestmark = pytest.mark.usefixtures("one_thread")
LOST = "!document.querySelector('#lost').hidden"
BACK = "document.querySelector('#lost').hidden"


class Between:
    """What stands between a browser and a program, as a tunnel does: it may cut lines, or pass nothing on."""

    def __init__(self, port: int) -> None:
        self._port, self._open, self._flows = port, True, threading.Event()
        self._flows.set()
        self._sockets: list[socket.socket] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Cut all lines, and take no new ones."""
        self._open = False
        for each in self._sockets:
            _end(each)

    def go_silent(self) -> None:
        """Keep all lines, and take new ones, and pass nothing on."""
        self._flows.clear()

    def repair(self) -> None:
        self._open = True
        self._flows.set()

    def close(self) -> None:
        self.cut()
        self._flows.set()
        _end(self._listening)

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near = self._listening.accept()[0]
                if not self._open:
                    _end(near)
                    continue
                far = socket.create_connection(("127.0.0.1", self._port))
                self._sockets += [near, far]
                for source, target in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                self._flows.wait()
                target.sendall(data)
        _end(source)
        _end(target)


def _end(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
    line.close()


@pytest.fixture
def page(tmp_path: Path) -> Iterator[tuple[drive.Tab, Between]]:
    """A page that is ready, and what stands between it and its program."""
    with running(session(), beat=0.25) as server:
        between = Between(server.port)
        address = server.address.replace(str(server.port), str(between.port), 1)
        try:
            with drive.tab(address, tmp_path) as made:
                made.until(READY)
                yield made, between
        finally:
            between.close()


@NEEDS_BROWSER
@pytest.mark.parametrize("fault", ["cut", "go_silent"])
def test_a_line_that_fails_is_said_and_comes_back(page: tuple[drive.Tab, Between], fault: str) -> None:
    tab, between = page
    tab.ask("document.querySelector('#step').click()")
    tab.until("document.querySelector('#state').textContent.startsWith('step 1')")
    getattr(between, fault)()
    tab.until(LOST)
    assert "does not answer; this page tries again by itself" in tab.text("#lost")
    assert tab.ask("document.querySelector('#run').disabled")
    between.repair()
    tab.until(f"{BACK} && document.querySelector('#note').textContent.includes('answers again')")
    assert not tab.ask("document.querySelector('#run').disabled")
    assert tab.text("#state").startswith("step 1")  # the world is where it was
    tab.ask("document.querySelector('#step').click()")
    tab.until("document.querySelector('#state').textContent.startsWith('step 2')")


@NEEDS_BROWSER
def test_a_line_on_which_nothing_happens_is_not_lost(page: tuple[drive.Tab, Between]) -> None:
    tab, _ = page
    beats = 0
    while beats < 8:  # twice as many as a line may miss
        tab.ask("0")
        beats += sum('"beat"' in event["response"]["payloadData"]
                     for event in tab.events_of("Network.webSocketFrameReceived"))  # fmt: skip
    assert tab.ask(f"{BACK} && document.querySelector('#note').textContent === ''")


def test_a_tab_hears_something_even_when_nothing_happens() -> None:
    with running(new_session(), beat=0.05) as server, Line(server) as line:
        first = line.until("beat")
        assert first["every"] == 0.05
        line.until("frame")
        for _ in range(3):
            line.until("beat")
