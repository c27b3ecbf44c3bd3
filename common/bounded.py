"""What a file unpacks to, checked before memory is asked for it."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path
from typing import IO, Any

from .files import read_bytes

LARGEST_JSON = 64 << 20  # bytes


def read_json(path: str | os.PathLike, most: int = LARGEST_JSON) -> Any:
    """The JSON in a regular file of at most `most` bytes; ValueError for whatever is none, OSError."""
    return parse_json(read_bytes(path, most))


def parse_json(data: bytes | str) -> Any:
    """What the JSON says; ValueError also where it is nested too deeply."""
    try:
        return json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def check_archive(file: str | Path | IO[bytes], most: int) -> None:
    """ValueError when the members of a zip archive say that they hold more than `most` bytes together."""
    with zipfile.ZipFile(file) as archive:
        total = sum(member.file_size for member in archive.infolist())
    if total > most:
        raise ValueError(f"it unpacks to {total:,} bytes, and {most:,} are the most that it may hold")
