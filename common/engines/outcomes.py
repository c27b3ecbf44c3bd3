"""Pieces of work that must all be done, whatever happens to those who do them."""

from __future__ import annotations

import logging
import queue
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, Future
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from ..printable import printable

logger = logging.getLogger(__name__)
Item = TypeVar("Item")
ATTEMPTS = 3


class EngineError(RuntimeError):
    """Work could not run where it was to run; the message says why and what to do."""


@dataclass(frozen=True)
class _Refused:
    """Doing it again would meet this again."""

    error: Exception


def outcomes(
    pool: Executor,
    function: Callable[[Item], Any],
    items: Sequence[Item],
    *,
    refusals: tuple[type[Exception], ...] = (),
    attempts: int = ATTEMPTS,
    label: Callable[[Item], str] = str,
) -> Iterator[tuple[Item, Any]]:
    """(item, function(item)) in the order in which they are done.

    function, items   go to other processes and machines: a function of a module, plain values
    refusals   exceptions with a sentence for the user: the first one ends everything and is raised here
    attempts   how often a piece of work is begun when it is lost, with its process or machine or by any
               other exception
    label   what to call an item in messages

    Raises EngineError once all others are done, for work that was lost so often.
    """
    call, ended = partial(_called, function, refusals), queue.SimpleQueue[tuple[int, Future[Any]]]()
    tries: Counter[int] = Counter()
    failed: list[tuple[Item, BaseException]] = []
    futures: set[Future[Any]] = set()

    def begin(index: int) -> None:
        tries[index] += 1
        try:
            future = pool.submit(call, items[index])
        except RuntimeError as error:  # the executor is broken or closed
            raise EngineError(
                f"no more work can be given to {type(pool).__name__} ({_reason(error)}): the same command "
                "goes on from here"
            ) from error
        futures.add(future)
        future.add_done_callback(lambda done: ended.put((index, done)))

    try:
        for index in range(len(items)):
            begin(index)
        while futures:
            try:
                index, future = ended.get(timeout=0.5)  # a wait without end ignores Ctrl-C on Windows
            except queue.Empty:
                continue
            futures.discard(future)
            item = items[index]
            error = CancelledError("cancelled") if future.cancelled() else future.exception()
            if error is None:
                value = future.result()
                if isinstance(value, _Refused):
                    raise value.error
                yield item, value
            elif tries[index] < attempts:
                logger.warning("%s was lost (%s) and is started again", label(item), _reason(error))
                begin(index)
            else:
                failed.append((item, error))
    finally:
        for future in futures:
            future.cancel()
    if failed:
        item, error = failed[0]
        others = f", as {len(failed) - 1} others were" if len(failed) > 1 else ""
        raise EngineError(
            f"{label(item)} was lost {attempts} times ({_reason(error)}){others}; the rest is done, and the "
            "same command goes on from there"
        ) from error


def _called(function: Callable[[Any], Any], refusals: tuple[type[Exception], ...], item: Any) -> Any:
    """In the other process."""
    try:
        return function(item)
    except refusals as error:
        return _Refused(type(error)(str(error)))  # without what it came from, which may not travel


def _reason(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    sentence = lines[-1] if lines and "Traceback" in str(error) else lines[0] if lines else ""
    return printable(f"{type(error).__name__}: {sentence}".rstrip(": "), 160)
