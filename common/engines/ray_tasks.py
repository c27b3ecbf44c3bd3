"""A Ray cluster as a `concurrent.futures.Executor`: each call is a task that takes one core."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from typing import Any

from .outcomes import EngineError


class RayTasks(Executor):
    """Tasks on the cluster at `address`, at RAY_ADDRESS or already running here; else on one started here.

    Ray does not repeat a lost task here: whoever submits it decides. All machines must have this package, and
    reach under the same paths the files that the work is about.
    """

    def __init__(self, workers: int | None, options: Mapping[str, str]) -> None:
        try:
            import ray
        except ImportError as error:
            raise EngineError("engine=ray needs Ray: pip install 'latent-planner[ray]'") from error
        self._ray, self._refs = ray, dict[Future[Any], Any]()
        self._resources = {
            "num_cpus": _number("cpus", options.get("cpus", "1")),
            "num_gpus": _number("gpus", options.get("gpus", "0")),
        }
        self._started = not ray.is_initialized()
        if not self._started:
            return
        _check_reached(options.get("address", ""))
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        try:
            try:
                ray.init(address=options.get("address", "auto"), **quiet)
            except ConnectionError:
                if "address" in options:
                    raise
                ray.init(address="local", num_cpus=workers, include_dashboard=False, **quiet)
        except Exception as error:
            raise EngineError(
                f"Ray cannot be reached or started ({str(error).strip().splitlines()[0]}): check ray.address"
            ) from error

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call fn(*args, **kwargs) somewhere in the cluster."""
        task = self._ray.remote(_call).options(max_retries=0, **self._resources)
        reference = task.remote(fn, args, kwargs)
        future = reference.future()
        self._refs[future] = reference
        future.add_done_callback(lambda done: self._refs.pop(done, None))
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for what is going on; a cluster that was started here ends."""
        pending = list(self._refs.values())
        if cancel_futures:
            for reference in pending:
                self._ray.cancel(reference, force=True)
        elif wait and pending:
            self._ray.wait(pending, num_returns=len(pending))
        if self._started:
            self._ray.shutdown()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.shutdown(cancel_futures=kind is not None)


def _call(fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
    return fn(*args, **kwargs)


def _check_reached(address: str) -> None:
    """EngineError where nobody answers at HOST:PORT: Ray itself would try for many minutes."""
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        sentence = f"nobody answers at ray.address={address} ({error}): check it, or start Ray"
        raise EngineError(sentence) from error


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 10_000:
        raise EngineError(f"ray.{name} takes a number of at least 0, not {text!r}")
    return value
