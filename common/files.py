"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def beside(path: str | os.PathLike) -> Iterator[Path]:
    """A path beside `path` to write to; when the block ends well it becomes `path`, otherwise it is gone."""
    path = Path(path)
    temporary = path.with_name(f"{path.name}.tmp-{os.getpid()}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def blame(error: OSError) -> str:
    """Which file it was, where that is known, and what is wrong with it."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def write_bytes(path: Path, data: bytes) -> None:
    """Write beside and rename, on the disk before it counts: for what must outlive a power cut."""
    with beside(path) as temporary, open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
