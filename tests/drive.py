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

PATIENCE = 60.0  # seconds, on a busy machine
DROP = """(async () => {
  const bytes = Uint8Array.from(atob('%s'), each => each.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], 'goal.png'));
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
        x, y = self.ask(
            f"(() => {{ const box = document.querySelector({selector!r}).getBoundingClientRect();"
            " return [box.x + box.width / 2, box.y + box.height / 2] })()"
        )
        steps = [("mousePressed", 0.0), ("mouseMoved", 0.3), ("mouseMoved", 0.7), ("mouseMoved", 1.0)]
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

    def drop(self, selector: str, data: bytes) -> None:
        """Drop a file with these bytes onto what the selector names."""
        self.ask(DROP % (base64.b64encode(data).decode(), selector))

    def size(self, width: int, height: int, dark: bool) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._driver.call("Emulation.setDeviceMetricsOverride", self._session, **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._driver.call("Emulation.setEmulatedMedia", self._session, features=[scheme])

    def reload(self) -> None:
        self._driver.call("Page.reload", self._session)

    def picture(self) -> bytes:
        """The page as PNG."""
        shot = self._driver.call("Page.captureScreenshot", self._session, captureBeyondViewport=True)
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
