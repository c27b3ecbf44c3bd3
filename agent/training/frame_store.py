"""Where the frames of a recording live while a model learns: GPU memory, main memory, or still on disk.

Everywhere they are uint8 (N, h, w, 3), as in the file: loading is a straight copy, a frame is one run of
bytes, and seen as (N, 3, h, w) they are channels-last, which convolutions read faster.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from shutil import disk_usage
from typing import TypeVar

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor

from latent_planner.common.progress import Bar

from ..protocols import Recording

logger = logging.getLogger(__name__)
GIB = 1024**3
Made = TypeVar("Made")


class InMemory:
    """Frames kept once, as one uint8 tensor (N, h, w, 3) on `device`."""

    workers = 1

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels
        self.place = str(pixels.device)

    def gather(self, rows: np.ndarray) -> Tensor:
        """Rows (n,) in any order -> uint8 (n, h, w, 3) on the device of the frames."""
        # index_select copies whole frames; pixels[rows] is ten times slower on a CPU
        return self.pixels.index_select(0, torch.from_numpy(rows).to(self.pixels.device))


class OnDisk:
    """Frames read from the recording when they are asked for."""

    workers = min(8, os.cpu_count() or 1)
    place = "disk"

    def __init__(self, reader: Recording, column: str = "pixels") -> None:
        self.reader, self.column = reader, column

    def gather(self, rows: np.ndarray) -> Tensor:
        """Rows (n,) in any order -> uint8 (n, h, w, 3) in main memory."""
        return torch.from_numpy(np.ascontiguousarray(self.reader.read_rows(self.column, rows)))


def place_frames(
    reader: Recording,
    *,
    device: torch.device,
    memory_gb: float | None = None,
    progress: bool = True,
    column: str = "pixels",
) -> InMemory | OnDisk:
    """Keep the reader's frames, or those of another camera's column, as near to the model as they fit.

    A place is used when the frames take at most `memory_gb` of it, by default half of what is free there:
    first the memory of `device`, then main memory; otherwise they stay on disk. Processes of one machine
    share a single copy in main memory.
    """
    shape = (reader.num_frames, *frame_shape(reader, column))
    size = int(np.prod(shape))

    def fits(free: int) -> bool:
        return size <= (free / 2 if memory_gb is None else memory_gb * GIB)

    if device.type == "cuda" and fits(torch.cuda.mem_get_info(device)[0]):
        place = 0
    else:
        place = 1 if fits(free_memory()) else 2
    several = PartialState(cpu=device.type == "cpu").num_processes > 1
    if several:  # all do the same, or they would wait for each other
        place = max(gather_object([place]))
    if place == 2:
        logger.info("the frames take %.1f GiB and are read from disk", size / GIB)
        return OnDisk(reader, column)
    if place == 1 and several and (shared := _load_shared(reader, column, shape, progress)) is not None:
        return InMemory(shared)
    frames = torch.empty(shape, dtype=torch.uint8, device=device if place == 0 else "cpu")
    return InMemory(_load(reader, column, frames, progress))


def frame_shape(reader: Recording, column: str = "pixels") -> tuple[int, ...]:
    """The shape of one recorded frame, normally (h, w, 3)."""
    return tuple(reader.read(column, 0, 1).shape[1:])


def free_memory() -> int:
    """Bytes of main memory that a new process could use, limits of a container included."""
    free = 4 * GIB  # where the system does not say
    with suppress(OSError, ValueError, AttributeError):
        free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    with suppress(OSError, ValueError, IndexError):
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free = int(lines["MemAvailable"].split()[0]) * 1024
    with suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        room = int((group / "memory.max").read_text()) - int((group / "memory.current").read_text())
        free = min(free, room)
    return max(0, free)


def _load(reader: Recording, column: str, out: Tensor, progress: bool) -> Tensor:
    """Fill `out` (N, h, w, 3) from the reader, a few megabytes at a time."""
    total = len(out)
    slab = max(1, 32 * 1024**2 // max(1, out[0].numel()))
    with Bar(total=total, desc="frames", unit="", leave=False, delay=2, disable=not progress) as bar:
        for start in range(0, total, slab):
            stop = min(start + slab, total)
            out[start:stop] = torch.from_numpy(np.ascontiguousarray(reader.read(column, start, stop)))
            bar.update(stop - start)
    return out


def _load_shared(reader: Recording, column: str, shape: tuple[int, ...], progress: bool) -> Tensor | None:
    """One copy for all processes of this machine, a temporary file that each maps; None where it has no room.

    The first process of a machine writes the file; once all have mapped it, it is unlinked, and the system
    frees it with the last process, however that one ends.
    """
    state, size = PartialState(), int(np.prod(shape))
    path = None

    def mapped(path: str) -> Tensor:
        return torch.from_file(path, shared=True, size=size, dtype=torch.uint8).reshape(shape)

    if state.is_local_main_process and disk_usage(tempfile.gettempdir()).free > 1.2 * size:
        handle, path = tempfile.mkstemp(prefix="frames-")
        os.close(handle)
        _load(reader, column, mapped(path), progress)
    # the first process of every machine tells the others of that machine, which follow it
    told = gather_object([(state.local_process_index, path)])
    mine = [name for local, name in told[: state.process_index + 1] if local == 0][-1]
    shared = mapped(mine) if mine else None
    state.wait_for_everyone()
    if path is not None:
        with suppress(OSError):  # Windows keeps a mapped file until it is closed
            os.unlink(path)
    return shared


@contextmanager
def prefetch(
    make: Callable[[int], Made], first: int, *, workers: int = 1, depth: int = 4
) -> Iterator[Iterator[Made]]:
    """make(first), make(first + 1), … in order, with `depth` of them made ahead by `workers` threads.

    An error inside `make` is raised where its result would have been taken.
    """
    pool = ThreadPoolExecutor(workers, thread_name_prefix="loader")

    def results() -> Iterator[Made]:
        ahead = deque(pool.submit(make, k) for k in range(first, first + depth))
        for k in count(first + depth):
            yield ahead.popleft().result()
            ahead.append(pool.submit(make, k))

    try:
        yield results()
    finally:
        pool.shutdown(cancel_futures=True)
