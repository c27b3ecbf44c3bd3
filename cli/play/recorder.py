"""What tabs were shown, kept to be saved: as a file that a page replays, and as a film.

A replay is JSON and nothing else: {"format", "version", "messages": [[seconds, message], …]}, with the
messages that `session` describes; pictures are PNG files in base64. It is read with every part checked.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from latent_planner.common.bounded import parse_json
from latent_planner.common.files import read_bytes

FORMAT, VERSION = "latent-planner-session", 1
LARGEST = 24 << 20  # bytes of a replay
KEPT_BYTES = 16 << 20  # of messages; older ones go
LONGEST = 3600.0  # seconds between two messages, and of all: pauses are cut to PAUSE
PAUSE = 2.0
KINDS = ("settings", "frame", "goal", "plan", "note")
PNG = "data:image/png;base64,"
PICTURES = ("png", "ghosts")
MOST_SIDE, MOST_MESSAGES = 1024, 100_000

Message = dict[str, Any]


class ReplayError(ValueError):
    """A replay cannot be used; the message is one sentence for the user."""


class Recorder:
    """Keeps messages, the newest `most` bytes of them. For any thread."""

    def __init__(self, most: int = KEPT_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._lock = threading.Lock()
        self._kept: deque[tuple[float, tuple[str, int], str]] = deque()
        self._before: dict[tuple[str, int], str] = {}  # the newest of each kind among those that went
        self._bytes = 0

    def add(self, message: Mapping[str, Any]) -> None:
        if message["kind"] not in KINDS:
            return
        text = json.dumps(message, allow_nan=False)
        with self._lock:
            self._kept.append((self._clock(), (message["kind"], message.get("lane", 0)), text))
            self._bytes += len(text)
            while self._bytes > self._most and len(self._kept) > 1:
                _, kind, old = self._kept.popleft()
                self._bytes -= len(old)
                self._before[kind] = old

    def timed(self) -> list[tuple[float, Message]]:
        """(seconds since the first, message), with long pauses cut short."""
        with self._lock:
            kept, before = list(self._kept), dict(self._before)
        now, last, found = 0.0, None, []
        for text in before.values():
            found.append((0.0, json.loads(text)))
        for at, _, text in kept:
            now += 0.0 if last is None else min(at - last, PAUSE)
            last = at
            found.append((now, json.loads(text)))
        return found

    def replay(self) -> bytes:
        """The file that a page replays."""
        messages = [[round(seconds, 3), message] for seconds, message in self.timed()]
        text = json.dumps({"format": FORMAT, "version": VERSION, "messages": messages}, separators=(",", ":"))
        return text.encode()


class Replayed:
    """A recording as what a page shows, see server.Shows: the page plays it, and nothing else happens."""

    page = "index.html"

    def __init__(self, messages: list[tuple[float, Message]]) -> None:
        self._messages, self.viewers = messages, 0
        self.publish: Callable[[Message], None] = lambda message: None

    def start(self) -> None:
        self.publish({"kind": "replay", "messages": self._messages})

    def close(self) -> None:
        pass

    def order(self, order: Any) -> bool:
        return True

    def downloads(self) -> dict[str, Callable[[], tuple[bytes, str]]]:
        return {}


def looks_like_replay(path: Path) -> bool:
    """Whether a file may be a replay: it is JSON by its name, and not a checkpoint's."""
    return path.suffix == ".json" and path.name != "config.json" and path.is_file()


def read_replay(path: Path) -> list[tuple[float, Message]]:
    """The messages of a replay file, with their seconds; ReplayError where anything about it is odd."""
    try:
        return parse_replay(read_bytes(path, LARGEST))
    except OSError as error:
        raise ReplayError(f"{path} {error.strerror or error}") from None
    except ReplayError as error:
        raise ReplayError(f"{path} cannot be replayed: {error}") from None


def parse_replay(data: bytes) -> list[tuple[float, Message]]:
    """The same for the bytes of a file."""
    try:
        found = parse_json(data)
    except ValueError:
        raise ReplayError("it is not JSON") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT or found.get("version") != VERSION:
        raise ReplayError("it was not saved by this page")
    messages = found.get("messages")
    if not isinstance(messages, list) or not 0 < len(messages) <= MOST_MESSAGES:
        raise ReplayError("it holds no messages")
    before, checked = 0.0, []
    for entry in messages:
        if not isinstance(entry, list) or len(entry) != 2 or not _is_number(entry[0]):
            raise ReplayError("a message has no time")
        seconds, message = entry
        if not before <= seconds <= before + LONGEST:
            raise ReplayError("its messages are not in the order of time")
        before = seconds
        checked.append((float(seconds), _checked(message)))
    return checked


def _checked(message: Any) -> Message:
    if not isinstance(message, dict) or message.get("kind") not in KINDS:
        raise ReplayError("it holds a message of another kind")
    for name in PICTURES:
        if message.get(name) is not None:
            picture_of(message[name])
    if message["kind"] in ("frame", "goal") and not isinstance(message.get("png"), str):
        raise ReplayError("a frame has no picture")
    return message


def picture_of(address: Any) -> Image.Image:
    """The picture in an address of ours, not decoded yet; ReplayError."""
    if not isinstance(address, str) or not address.startswith(PNG):
        raise ReplayError("a picture is no PNG")
    try:
        data = base64.b64decode(address[len(PNG) :], validate=True)
        image = Image.open(io.BytesIO(data), formats=["PNG"])
    except (binascii.Error, ValueError, OSError):
        raise ReplayError("a picture is damaged") from None
    if max(image.size) > MOST_SIDE:
        raise ReplayError(f"a picture is larger than {MOST_SIDE} px")
    return image


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e9
