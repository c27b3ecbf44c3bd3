"""Parts of a rollout on all cores of a CPU, each part on one.

torch divides every single operation among the cores and waits for all of them after it. With matrices as
small as a planner's that costs more than the arithmetic, and much more when another program uses a core. So
each core gets candidates of its own, and waits once, at the end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TypeVar

import torch

Part = TypeVar("Part")


def usable(device: torch.device) -> int:
    """Threads worth using: torch's own number on a CPU, one elsewhere."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def run(work: Callable[[Part], None], parts: Iterable[Part], cores: int) -> None:
    """Call work(part) for every part, without gradient, on so many threads; raises what it raises.

    Autocast is carried over to the threads.
    """
    parts = list(parts)
    if cores == 1 or len(parts) == 1:
        for part in parts:
            work(part)
        return
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None

    def here(part: Part) -> None:
        with torch.no_grad(), torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
            work(part)

    for _ in _pool(cores).map(here, parts):
        pass


@lru_cache(maxsize=1)
def _pool(cores: int) -> ThreadPoolExecutor:
    """Threads in which torch does not divide operations any further."""
    begun = threading.Barrier(cores + 1)

    def begin() -> None:
        torch.set_num_threads(1)
        begun.wait()

    pool = ThreadPoolExecutor(cores, "rollout", initializer=begin)
    for _ in range(cores):
        pool.submit(int)
    begun.wait()
    torch.set_num_threads(cores)  # as it was; or threads that others start would inherit the 1
    return pool
