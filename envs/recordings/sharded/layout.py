"""Which episodes a shard holds, what it is called, and whether its bytes are still those that were written.

    FOLDER/shard-00003-of-00040.h5           a recording of its own: episodes 1500 to 1999 of 20,000
    FOLDER/shard-00003-of-00040.h5.sha256    its hash, as sha256sum writes it
    FOLDER/shard-00004-of-00040.h5.partial   one that is still being written

An episode is a function of the seed and its number in the whole, so that neither the number of shards nor
who writes them changes it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from latent_planner.common.files import write_text

from ..formats.border import visible
from ..journal import RecordingError

PLACE, TOTAL = "shard", "total_episodes"  # attributes of a shard: [number, how many], and of all together
HASH = ".sha256"
MOST = 99_999
NAME = re.compile(r"shard-(\d{5})-of-(\d{5})\.h5")


@dataclass(frozen=True)
class Shard:
    """Shard `index` of `count`, numbered from 0, of a recording of `total` episodes."""

    index: int
    count: int
    total: int

    @property
    def episodes(self) -> range:
        """The numbers of its episodes in the whole."""
        first, last = (number * self.total // self.count for number in (self.index, self.index + 1))
        return range(first, last)

    @property
    def name(self) -> str:
        return f"shard-{self.index:05d}-of-{self.count:05d}.h5"

    @property
    def attrs(self) -> dict[str, Any]:
        """What its file says of it."""
        return {PLACE: [self.index, self.count], TOTAL: self.total}

    def __str__(self) -> str:
        return f"shard {self.index} of {self.count} (episodes {self.episodes[0]} to {self.episodes[-1]})"

    @classmethod
    def of(cls, path: Path, attrs: Mapping[str, Any]) -> Shard:
        """The place of the file at `path`, which has these attributes; RecordingError where it has none."""
        place, total = attrs.get(PLACE), attrs.get(TOTAL)
        numbers = [*place, total] if isinstance(place, list) and len(place) == 2 else []
        if all(type(number) is int for number in numbers) and numbers:
            shard = cls(*numbers)
            if 0 <= shard.index < shard.count <= min(MOST, shard.total):
                return shard
        raise RecordingError(f"{path} does not say which shard it is: move it out of this folder")


def shards_of(total: int, count: int) -> list[Shard]:
    """All shards of a recording; RecordingError for more shards than episodes."""
    if not 1 <= count <= min(MOST, total):
        raise RecordingError(
            f"shards must be a whole number from 1 to {min(MOST, total)}, with an episode each, not {count}"
        )
    return [Shard(index, count, total) for index in range(count)]


def is_sharded(folder: Path) -> bool:
    """Whether a folder holds shards, finished or not."""
    return any(NAME.match(path.name) for path in folder.glob("shard-*-of-*.h5*"))


def files(folder: Path) -> list[Path]:
    """The finished recordings in a folder, by name."""
    return visible(folder, "*.h5")


def hash_path(path: Path) -> Path:
    return path.with_name(path.name + HASH)


def write_hash(path: Path) -> None:
    """Note the hash of a finished shard next to it."""
    write_text(hash_path(path), f"{_sha256(path)}  {path.name}\n")


def check_hash(path: Path) -> None:
    """RecordingError unless the file is, byte for byte, what was written."""
    try:
        said = hash_path(path).read_text(encoding="utf-8", errors="replace").split()
    except FileNotFoundError:
        raise RecordingError(
            f"{path} has no {hash_path(path).name}: copy that file too, or run the collect command again, "
            "which writes it"
        ) from None
    if not said or said[0] != _sha256(path):
        raise RecordingError(
            f"{path} is not what {hash_path(path).name} says was written: copy it again, or delete both and "
            "run the collect command again"
        )


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
