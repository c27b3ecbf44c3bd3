"""A tab of a real browser that is used as a person does: mouse, keys, pictures dropped.

with tab(address, profile, width=390) as page:
    page.until("document.body.dataset.ready")
    page.drag("#goal .handle", 40, 0)
"""

from __future__ import annotations

import base64
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import browser
from waiting import PATIENCE

DROP = """(async () => {
  const bytes = Uint8Array.from(atob('%s'), each => each.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], '%s'));
  document.querySelector('%s').dispatchEvent(new DragEvent('drop', {dataTransfer: carried, bubbles: true}));
})()"""


class Tab:
    def __init__(self, driver: browser._Browser, session: str) -> None:
        self._driver, self._session = driver, session

    def ask(self, expression: str) -> Any:
        """What a JavaScript expression gives in the page."""
        answer = self._driver.call(
            "Runtime.evaluate", self._session, expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression: str) -> Any:
        """Wait until this is true in the page; gives it."""
        deadline = time.monotonic() + PATIENCE
        while not (value := self.ask(f"document.body && ({expression})")):
            assert time.monotonic() < deadline, (
                f"{expression} never came true: {self.ask('document.body.innerText')}"
            )
            time.sleep(0.05)
        return value

    def text(self, selector: str) -> str:
        return self.ask(f"document.querySelector({selector!r}).textContent")

    def press(self, selector: str, key: str, times: int = 1) -> None:
        """Focus what the selector names and press a key."""
        self.ask(f"document.querySelector({selector!r}).focus()")
        for _ in range(times):
            for kind in ("keyDown", "keyUp"):
                self._driver.call("Input.dispatchKeyEvent", self._session, type=kind, key=key, code=key)

    def drag(self, selector: str, right: float, down: float) -> None:
        """Drag what the selector names so many px, in three moves."""
        for _ in self.leading(selector, right, down, moves=3):
            pass

    def leading(self, selector: str, right: float, down: float, moves: int) -> Iterator[tuple[float, float]]:
        """Drag what the selector names, and give each place (px in the window) that the mouse has come to."""
        x, y = self._middle(selector)
        steps = [("mousePressed", 0.0), *(("mouseMoved", (i + 1) / moves) for i in range(moves))]
        for kind, share in [*steps, ("mouseReleased", 1.0)]:
            place = {"x": x + share * right, "y": y + share * down}
            self._driver.call(
                "Input.dispatchMouseEvent",
                self._session,
                type=kind,
                button="left",
                buttons=1,
                clickCount=1,
                **place,
            )
            yield place["x"], place["y"]

    def drop(self, selector: str, data: bytes, name: str = "goal.png") -> None:
        """Drop a file with these bytes and this name onto what the selector names."""
        self.ask(DROP % (base64.b64encode(data).decode(), name, selector))

    def touch(self) -> None:
        """From the next load on, this is a screen for fingers."""
        self._driver.call("Emulation.setTouchEmulationEnabled", self._session, enabled=True)

    def swipe(self, selector: str, right: float, down: float) -> None:
        """Lead what the selector names so many px with a finger, in three moves."""
        x, y = self._middle(selector)
        for kind, share in (("touchStart", 0.0), ("touchMove", 0.3), ("touchMove", 0.7), ("touchMove", 1.0)):
            self._touch(kind, [{"x": x + share * right, "y": y + share * down}])
        self._touch("touchEnd", [])

    def _touch(self, kind: str, points: list[dict[str, float]]) -> None:
        self._driver.call("Input.dispatchTouchEvent", self._session, type=kind, touchPoints=points)

    def _middle(self, selector: str) -> list[float]:
        """Where the middle of what the selector names is, in the window; it is scrolled into sight."""
        return self.ask(
            f"(() => {{ const it = document.querySelector({selector!r});"
            " it.scrollIntoView({block: 'nearest', behavior: 'instant'});"
            " const box = it.getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2] })()"
        )

    def size(self, width: int, height: int, dark: bool) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._driver.call("Emulation.setDeviceMetricsOverride", self._session, **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._driver.call("Emulation.setEmulatedMedia", self._session, features=[scheme])

    def reload(self) -> None:
        self._driver.call("Page.reload", self._session)

    def picture(self, whole: bool = True) -> bytes:
        """The page as PNG, or what the window shows of it."""
        shot = self._driver.call("Page.captureScreenshot", self._session, captureBeyondViewport=whole)
        return base64.b64decode(shot["data"])

    def errors(self) -> list[str]:
        """What the console said."""
        said = []
        for event in self._driver.events:
            detail = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                said.append(str(detail["exceptionDetails"]))
            elif event["method"] == "Log.entryAdded" and detail["entry"]["level"] == "error":
                said.append(str(detail["entry"]))
        return said

    def events_of(self, method: str) -> list[dict[str, Any]]:
        """The parameters of these events since the last such call, which takes all events away."""
        found = [event["params"] for event in self._driver.events if event["method"] == method]
        self._driver.events.clear()
        return found

    def requests(self) -> list[str]:
        """Addresses that were asked for."""
        sent = [event for event in self._driver.events if event["method"] == "Network.requestWillBeSent"]
        return [event["params"]["request"]["url"] for event in sent]


@contextmanager
def tab(
    address: str, profile: Path, *, width: int = 1440, height: int = 1000, dark: bool = False
) -> Iterator[Tab]:
    """A tab with this address in a browser of its own.   profile: an empty folder."""
    driver = browser._Browser(str(browser.find()), profile)
    try:
        target = driver.call("Target.createTarget", url="about:blank")["targetId"]
        session = driver.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            driver.call(f"{domain}.enable", session)
        opened = Tab(driver, session)
        opened.size(width, height, dark)
        driver.call("Page.navigate", session, url=address)
        yield opened
    finally:
        driver.close()
