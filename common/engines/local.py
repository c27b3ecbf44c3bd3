"""Processes on this machine as a `concurrent.futures.Executor`. One that dies loses its own call alone."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any


class Processes(Executor):
    """`workers` fresh Python processes, each a ProcessPoolExecutor of one, so that none breaks the others.

    They end with this process, however it ends, and with the block that an exception leaves. As always with
    processes that are spawned, a script that uses them stands behind `if __name__ == "__main__":`.
    """

    def __init__(self, workers: int) -> None:
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="worker")
        self._context = multiprocessing.get_context("spawn")
        self._lease, self._held = self._context.Pipe(duplex=False)
        self._mine = threading.local()
        self._pools: set[ProcessPoolExecutor] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call fn(*args, **kwargs) in one of the processes."""
        return self._threads.submit(self._call, fn, args, kwargs)

    def _call(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        pool = getattr(self._mine, "pool", None)
        if pool is None:
            pool = ProcessPoolExecutor(
                1, mp_context=self._context, initializer=_begin, initargs=(self._lease,)
            )
            self._mine.pool = pool
            self._pools.add(pool)
        try:
            return pool.submit(fn, *args, **kwargs).result()
        except BrokenExecutor:
            self._mine.pool = None
            self._pools.discard(pool)
            pool.shutdown()
            raise

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """End the processes once what was asked of them is done."""
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            for pool in list(self._pools):
                pool.shutdown()
            self._pools.clear()
            self._held.close()
            self._lease.close()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._held.close()  # ends them now
        self.shutdown(cancel_futures=kind is not None)


def _begin(lease: Any) -> None:
    """In a new process: Ctrl-C is for the process that started it, with which it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # there is one process a core already
    threading.Thread(target=_end_with, args=(lease,), daemon=True).start()


def _end_with(lease: Any) -> None:
    """End this process when the other end of the pipe is closed, by hand or because its holder is gone."""
    try:
        lease.recv_bytes()
    except (EOFError, OSError):
        os._exit(1)
