"""A real browser without a window, asked over a pipe in Chrome's DevTools protocol: what did the page do?

    found = look(path, width=390, height=800, dark=True)

`find` says where the browser is; without one the tests that need it are skipped (`apt-get install chromium`).
"""

from __future__ import annotations

import base64
import json
import os
import select
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waiting import PATIENCE

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


# The browser reads its orders from 3 and answers on 4.
BEGIN = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
os.dup2(ends[0], 3)
os.dup2(ends[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


@dataclass
class Seen:
    """errors: what the console said. requests: addresses asked for, but the page's own and data: ones.

    wide: how many px the page is wider than the window.   values: what `ask` gave.   picture: PNG.
    """

    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    wide: int = 0
    values: list[Any] = field(default_factory=list)
    picture: bytes = b""


def find() -> str | None:
    """The browser's path, or None."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


def look(
    page: Path, profile: Path, *, width: int, height: int = 900, dark: bool = False, ask: tuple[str, ...] = ()
) -> Seen:
    """Open the page from disk in a window of this size.

    profile: an empty folder for the browser.   ask: JavaScript expressions to evaluate in it.
    """
    browser = _Browser(str(find()), profile)
    try:
        return _look(browser, page, width, height, dark, ask)
    finally:
        browser.close()


def _look(browser: _Browser, page: Path, width: int, height: int, dark: bool, ask: tuple[str, ...]) -> Seen:
    target = browser.call("Target.createTarget", url="about:blank")["targetId"]
    session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Runtime", "Log", "Network"):
        browser.call(f"{domain}.enable", session)
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.call("Emulation.setDeviceMetricsOverride", session, **size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    browser.call("Emulation.setEmulatedMedia", session, features=[scheme])
    browser.call("Page.navigate", session, url=page.as_uri())
    browser.wait_for("Page.loadEventFired")
    seen = Seen()
    for text in ("document.documentElement.scrollWidth - window.innerWidth", *ask):
        told = browser.call(
            "Runtime.evaluate", session, expression=text, returnByValue=True, awaitPromise=True
        )
        seen.values.append(told["result"].get("value"))
    seen.wide = seen.values.pop(0)
    shot = browser.call("Page.captureScreenshot", session, captureBeyondViewport=True)
    seen.picture = base64.b64decode(shot["data"])
    for event in browser.events:
        detail = event["params"]
        if event["method"] == "Runtime.exceptionThrown":
            seen.errors.append(str(detail["exceptionDetails"].get("text")))
        elif event["method"] == "Log.entryAdded" and detail["entry"]["level"] in ("error", "warning"):
            seen.errors.append(detail["entry"]["text"])
        elif event["method"] == "Runtime.consoleAPICalled":
            seen.errors.append(str(detail["args"]))
        elif event["method"] == "Network.requestWillBeSent":
            address = detail["request"]["url"]
            if address != page.as_uri() and not address.startswith("data:"):
                seen.requests.append(address)
    return seen


class _Browser:
    def __init__(self, path: str, profile: Path) -> None:
        from_us, self.out = os.pipe()
        self.back, to_us = os.pipe()
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        options += [
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-dev-shm-usage",
        ]
        options += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]  # a camera
        options += [f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"]
        begin = [sys.executable, "-c", BEGIN, str(from_us), str(to_us), path, *options]
        quiet = subprocess.DEVNULL
        self.process = subprocess.Popen(begin, pass_fds=(from_us, to_us), stdout=quiet, stderr=quiet)
        os.close(from_us)
        os.close(to_us)
        self.count, self.held = 0, b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if session is not None:
            message["sessionId"] = session
        os.write(self.out, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + PATIENCE
        while True:
            answer = self._read(deadline)
            if answer.get("id") == self.count:
                assert "error" not in answer, answer
                return answer["result"]

    def wait_for(self, method: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while not any(event["method"] == method for event in self.events):
            self._read(deadline)

    def _read(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self.held:
            ready, _, _ = select.select([self.back], [], [], max(0.0, deadline - time.monotonic()))
            assert ready, "the browser does not answer"
            part = os.read(self.back, 1 << 20)
            assert part, "the browser has ended"
            self.held += part
        text, _, self.held = self.held.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message

    def close(self) -> None:
        os.close(self.out)  # at the end of its pipe the browser leaves
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        os.close(self.back)
