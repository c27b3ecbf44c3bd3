"""Talks to `latent-planner serve`, from a program that has numpy, websockets and msgpack and nothing else.

    client = Client("ws://127.0.0.1:8000")
    client.set_goal(goal_pixels, steps=50)          # uint8 (H, W, 3), any size
    while True:
        plan = client.replan(pixels, executed=5)    # plan.actions float32 (K, A), environment units
        for action in plan.actions[:5]: ...         # execute these, then look again

This file needs no other of the project: copy it to a robot if you like. `pack` and `unpack` are the format of
openpi's policy server (github.com/Physical-Intelligence/openpi): msgpack, with an array as the map
{b"__ndarray__": True, b"data": bytes, b"dtype": str, b"shape": [...]}. Nothing in it can run code.
"""

from __future__ import annotations

import importlib
import math
import re
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PARTS = 256  # most maps and lists in a message
ENTRIES = 1024  # most entries of one of them
TEXT = 16_384  # most bytes of one text
DIMENSIONS = 8
PLAIN = re.compile(r"[<>|=]?[?biuf](?:[1248])?")  # the data types that travel: numbers and truth values


class WireError(ValueError):
    """A message is not in the format, or too big; the text says what is wrong with it."""


class ServerError(RuntimeError):
    """The server refused a request, or cannot be reached; the text is its own one line, or says why."""


def pack(value: Any) -> bytes:
    """msgpack of plain values, arrays and numpy numbers. WireError for anything else, object arrays too."""
    try:
        return needed("msgpack").packb(value, default=_pack_array)
    except (TypeError, ValueError, OverflowError) as error:
        raise WireError(f"This cannot be sent: {error}.") from None


def unpack(data: bytes) -> Any:
    """What `pack` packed; arrays are read-only views of data. WireError for whatever is not in the format.

    What a message claims is checked against the bytes that are there before anything is allocated.
    """
    msgpack = needed("msgpack")
    parts = 0

    def count() -> None:
        nonlocal parts
        parts += 1
        if parts > PARTS:
            raise WireError(f"It holds more than {PARTS} maps and lists.")

    def read_list(values: list) -> list:
        count()
        return values

    def read_map(values: dict) -> Any:
        count()
        return _unpack_array(values)

    limits = {"max_str_len": TEXT, "max_array_len": ENTRIES, "max_map_len": ENTRIES, "max_ext_len": 0}
    try:
        return msgpack.unpackb(data, object_hook=read_map, list_hook=read_list, **limits)
    except WireError as error:
        raise WireError(f"This message cannot be read: {error}") from None
    except (ValueError, TypeError, msgpack.UnpackException, RecursionError) as error:
        # UnicodeDecodeError, ExtraData and FormatError are ValueErrors; a map as a key is a TypeError
        told = str(error).splitlines()[0][:80] if str(error) else type(error).__name__
        raise WireError(f"This message is not msgpack as it is used here: {told}") from None


def needed(name: str) -> Any:
    """The module of that name. ImportError says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError:
        package = name.partition(".")[0]
        raise ImportError(
            f"This needs {package}: pip install {package}, or all of 'latent-planner[serve]'."
        ) from None


def _pack_array(value: Any) -> Any:
    if not isinstance(value, (np.ndarray, np.generic)):
        raise TypeError(f"a {type(value).__name__} has no form here")
    if not PLAIN.fullmatch(value.dtype.str):
        raise TypeError(f"arrays of {value.dtype} have no form here, only numbers and truth values")
    if isinstance(value, np.generic):
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    return {
        b"__ndarray__": True,
        b"data": value.tobytes(),
        b"dtype": value.dtype.str,
        b"shape": list(value.shape),
    }


def _unpack_array(values: dict) -> Any:
    if b"__ndarray__" in values:
        dtype, data, shape = _dtype(values), values.get(b"data"), values.get(b"shape")
        whole = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
        if not whole or len(shape) > DIMENSIONS:  # type: ignore[arg-type]
            raise WireError("the shape of an array must be a short list of whole numbers.")
        size = math.prod(shape) * dtype.itemsize  # type: ignore[arg-type]
        if not isinstance(data, bytes) or len(data) != size:
            given = f"{len(data)} bytes" if isinstance(data, bytes) else "no bytes"
            raise WireError(f"an array of {str(dtype)} {tuple(shape)} comes with {given}.")  # type: ignore[arg-type]
        return np.frombuffer(data, dtype).reshape(shape)  # type: ignore[arg-type]
    if b"__npgeneric__" in values:
        dtype, number = _dtype(values), values.get(b"data")
        if not isinstance(number, (bool, int, float)):
            raise WireError(f"a number of type {dtype} must be a number.")
        with np.errstate(over="ignore"):
            try:
                return dtype.type(number)
            except (OverflowError, ValueError):
                raise WireError(f"a number does not fit into {dtype}.") from None
    return values


def _dtype(values: dict) -> np.dtype:
    name = values.get(b"dtype")
    if not isinstance(name, str) or not PLAIN.fullmatch(name):
        raise WireError("arrays hold numbers or truth values, as <f4 or |u1.")
    try:
        return np.dtype(name)
    except TypeError:
        raise WireError(f"there is no data type {name}.") from None


@dataclass(frozen=True)
class Reply:
    """A plan: actions float32 (K, A), environment units, from the frame on; its cost; the whole answer."""

    actions: np.ndarray
    cost: float
    answer: dict[str, Any] = field(repr=False)


class Client:
    """One session with a server; not for several threads at once.

    url: ws://host:port.   api_key: where the server asks for one.
    timeout: seconds for connecting, and for each answer, with everything tried again within.

    A connection that broke is made again, and the goal told again, at the next request or within the same.
    ServerError where the server refuses, TimeoutError where it does not answer in time.
    """

    def __init__(
        self, url: str = "ws://127.0.0.1:8000", *, api_key: str | None = None, timeout: float = 10.0
    ) -> None:
        self.url = url if url.startswith(("ws://", "wss://")) else f"ws://{url}"
        self.api_key, self.timeout = api_key, timeout
        self.metadata: dict[str, Any] = {}
        self.connections = 0  # made so far
        self._given = 0  # actions of the last plan
        self._socket: Any = None
        self._open = ExitStack()  # closes it
        self._goal: dict[str, Any] = {}  # as the session must know it
        self._untold: dict[str, Any] = {}  # goes with the next request
        self._connect(time.monotonic() + timeout)

    def reset(self) -> None:
        """Forget goal, plan and context, from the next request on."""
        self._goal, self._untold = {}, {"reset": True}

    def set_goal(self, pixels: np.ndarray | dict[str, Any], steps: int | None = None) -> None:
        """Pursue this goal image, uint8 (H, W, 3), any size, from the next request on; steps: left for it.

        Of a model of several cameras: a dict of what the goal shows of them and of the vector.
        """
        views = pixels if isinstance(pixels, dict) else {"image": pixels}
        goal = {f"goal/{name}": self._array(view) for name, view in views.items()}
        self._goal = {**goal, "goal/steps": steps}
        self._untold = {**self._untold, **self._goal}

    def replan(
        self,
        pixels: np.ndarray | dict[str, Any],
        *,
        executed: int | np.ndarray | None = None,
        committed: np.ndarray | None = None,
        deadline: float | None = None,
        timestamp: float | None = None,
    ) -> Reply:
        """A plan from what is seen now, uint8 (H, W, 3), or a dict for a model of several cameras; arguments
        as of `Agent.replan`.

        timestamp: seconds, when the frame was taken, by any clock: where `executed` is not given, the server
        counts with it how many actions were done between two frames.
        """
        asked = {"executed": executed, "committed": committed, "deadline": deadline, "timestamp": timestamp}
        views = pixels if isinstance(pixels, dict) else {}
        seen = {f"observation/{name}": self._array(view) for name, view in views.items()}
        if not isinstance(pixels, dict):
            seen = {self.metadata["image_keys"][0]: pixels}
        goal_is_new = bool(self._untold)
        answer = self.infer({**seen, **{name: v for name, v in asked.items() if v is not None}})
        steps = self._goal.get("goal/steps")
        if steps is not None and executed is not None and not goal_is_new:
            done = min(len(np.asarray(executed)) if np.ndim(executed) else int(executed), self._given)
            self._goal["goal/steps"] = max(1, steps - done)  # for a session that replaces this one
        reply = Reply(np.asarray(answer["actions"]), float(answer["cost"]), answer)
        self._given = len(reply.actions)
        return reply

    def _array(self, view: Any) -> np.ndarray:
        """A picture or a vector, which may be a dict by the names of its components."""
        if not isinstance(view, dict):
            return np.array(view)
        names = self.metadata.get("proprio") or []
        if set(view) != set(names):
            raise ValueError(f"The vector must have the names {', '.join(names)}, not {', '.join(view)}.")
        return np.array([view[name] for name in names], np.float32)

    def infer(self, observation: dict[str, Any]) -> dict[str, Any]:
        """One request as it is, with the goal where it is still to be told; the answer as it is."""
        until = time.monotonic() + self.timeout
        while True:
            self._connect(until)
            try:
                self._socket.send(pack({**observation, **self._untold}))
                answer = self._socket.recv(timeout=max(0.0, until - time.monotonic()))
                break
            except TimeoutError:
                self.close()  # or the answer would be taken for that to the next request
                raise TimeoutError(f"{self.url} did not answer within {self.timeout:g} s.") from None
            except (needed("websockets.exceptions").ConnectionClosed, OSError) as error:
                self.close()
                closed = getattr(error, "rcvd", None)
                if closed is not None and closed.code == 1009:  # it would refuse that again
                    raise ServerError(
                        f"{self.url}: the message is too big for it ({closed.reason}): send smaller pictures."
                    ) from None
                if time.monotonic() > until:
                    raise ServerError(f"{self.url} breaks every connection: {error}.") from None
        if isinstance(answer, str):
            raise ServerError(answer)
        self._untold = {}
        return unpack(answer)

    def close(self) -> None:
        """End the session; the next request starts a new one."""
        if self._socket is not None:
            self._socket.close_timeout = 0.2  # there is nothing left to wait for
            self._socket = None
            self._open.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _connect(self, until: float) -> None:
        """Make the connection if there is none, trying again until that time."""
        exceptions, wait = needed("websockets.exceptions"), 0.05
        while self._socket is None:
            try:
                self._socket = self._opened(max(0.1, until - time.monotonic()))
                self.connections += 1
                self._untold = {**self._untold, **self._goal}
            except exceptions.InvalidStatus as error:
                told = (error.response.body or b"").decode("utf-8", "replace").strip()
                reason = f"{error.response.status_code}: {told}"
                if error.response.status_code != 503:
                    raise ServerError(f"{self.url} answers {reason}") from None
            except (OSError, EOFError, exceptions.WebSocketException, WireError) as error:
                reason = str(error) or type(error).__name__
            if self._socket is None:
                if time.monotonic() + wait > until:
                    raise ServerError(f"{self.url} cannot be reached: {reason}") from None
                time.sleep(wait)
                wait = min(1.0, 2 * wait)

    def _opened(self, timeout: float) -> Any:
        """A connection on which the server has said what it is."""
        headers = {"Authorization": f"Api-Key {self.api_key}"} if self.api_key else None
        connecting = needed("websockets.sync.client").connect(
            self.url,
            open_timeout=timeout,
            compression=None,
            max_size=None,
            proxy=None,
            additional_headers=headers,
        )
        with ExitStack() as stack:
            socket = stack.enter_context(connecting)
            self.metadata = unpack(socket.recv(timeout=timeout))
            self._open = stack.pop_all()
        return socket
