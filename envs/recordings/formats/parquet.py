"""Tables of numbers and pictures in parquet files, read with pyarrow (an extra)."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latent_planner.common.progress import Bar

from ..columns import memory, usable_cpus
from ..journal import RecordingError
from .border import readable, reason

BATCH = 4096  # rows that are unpacked at a time
HELD_GROUPS = 3  # groups of rows with pictures that each thread keeps


@dataclass
class Numbers:
    """Columns of numbers of a table, a row a frame: (N,), or (N, D) for lists that are equally long."""

    columns: dict[str, np.ndarray]
    unusable: dict[str, str]  # other columns of numbers, and why they cannot be read

    def need(self, name: str, where: Path) -> np.ndarray:
        """A column; RecordingError says why there is none."""
        if name in self.columns:
            return self.columns[name]
        if name in self.unusable:
            raise RecordingError(f"{where} has a column {name!r} {self.unusable[name]}: record it again")
        raise RecordingError(f"{where} has no column {name!r}: copy the dataset again")

    def flat(self, name: str, where: Path) -> np.ndarray:
        """A column of one number a row, (N,)."""
        values = self.need(name, where)
        if values.size != len(values):
            raise RecordingError(f"{where} has lists in {name!r}: one number a row is needed")
        return values.reshape(-1)

    def chosen(self, rows: np.ndarray) -> Numbers:
        """These rows of every column."""
        return Numbers({name: values[rows] for name, values in self.columns.items()}, self.unusable)


def read_numbers(path: Path) -> Numbers:
    """All columns of numbers in one file."""
    arrow = _pyarrow()
    with readable(path, "a table"):
        with arrow.parquet.ParquetFile(path) as file:
            wanted = [field.name for field in file.schema_arrow if number_type(field.type) is not None]
            parts, size = [], 0
            for batch in file.iter_batches(BATCH, columns=wanted):  # a small file may unpack to terabytes
                parts.append(batch)
                size += batch.nbytes
                if size > memory() // 4:
                    raise RecordingError(f"{path} holds more numbers than memory has room for: split it")
            if not parts:
                return Numbers({}, {})
            return numbers(arrow.Table.from_batches(parts))


def read_all(paths: Sequence[Path]) -> list[Numbers]:
    """The same of several files."""
    _pyarrow()
    with ThreadPoolExecutor(usable_cpus()) as pool:
        bar = {"desc": "reading tables", "unit": " files", "total": len(paths), "delay": 2}
        return list(Bar(pool.map(read_numbers, paths), **bar))


def joined(tables: Sequence[Numbers]) -> Numbers:
    """Tables one under the other: the columns that all of them have."""
    unusable = {name: why for table in tables for name, why in table.unusable.items()}
    columns = {}
    for name in tables[0].columns:
        parts = [table.columns[name] for table in tables if name in table.columns]
        if len(parts) < len(tables):
            continue
        if len({part.shape[1:] for part in parts}) > 1:
            unusable[name] = "whose rows have other lengths in other files"
            continue
        columns[name] = np.concatenate(parts)
    return Numbers(columns, unusable)


def numbers(table: Any) -> Numbers:
    """The columns of numbers of an arrow table."""
    found = Numbers({}, {})
    for name in table.column_names:
        column = table.column(name)
        inner = number_type(column.type)
        if inner is None:
            continue
        column = column.combine_chunks()
        if inner == column.type:
            found.columns[name] = _plain(column)
            continue
        lengths = _plain(column.value_lengths()) if hasattr(column, "value_lengths") else None
        width = column.type.list_size if lengths is None else (int(lengths[0]) if len(lengths) else 0)
        if column.null_count or (lengths is not None and (lengths != width).any()):
            found.unusable[name] = "with lists that are empty or of unequal lengths"
        elif width:
            found.columns[name] = _plain(column.flatten()).reshape(len(column), width)
    return found


def _plain(array: Any) -> np.ndarray:
    return array.to_numpy(zero_copy_only=False)


def number_type(kind: Any) -> Any:
    """The type of the numbers in a column, plain or in lists; None for other columns."""
    from pyarrow import types

    is_list = types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
    inner = kind.value_type if is_list else kind
    return inner if types.is_integer(inner) or types.is_floating(inner) or types.is_boolean(inner) else None


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise RecordingError(
            "LeRobot datasets are read with pyarrow: pip install 'latent-planner[lerobot]'"
        ) from error
    return pyarrow


class PictureTables:
    """Encoded pictures in parquet files, as `pictures.Pictures` asks for them.

    paths: the tables.   which, rows: (N,) the table that each picture is in, and its row there.
    column: of bytes, or of a struct of `bytes` and `path`, where the path is of a file in `folder`.
    """

    def __init__(
        self, folder: Path, paths: Sequence[Path], which: np.ndarray, rows: np.ndarray, column: str
    ) -> None:
        self.folder, self.paths, self.which, self.rows, self.column = folder, paths, which, rows, column
        self._threads = threading.local()

    def read(self, wanted: np.ndarray) -> list[bytes]:
        """The bytes of these pictures (n,)."""
        return [self._one(int(self.which[i]), int(self.rows[i])) for i in wanted.tolist()]

    def where(self, row: int) -> str:
        return f"{self.paths[int(self.which[row])]} row {int(self.rows[row])}"

    def _one(self, number: int, row: int) -> bytes:
        first, values = self._group(number, row)
        with readable(self.paths[number], "a table of pictures"):
            value = values[row - first].as_py()
        inside = value.get("bytes") if isinstance(value, dict) else value
        if inside is None and isinstance(value, dict) and isinstance(value.get("path"), str):
            return picture_file(self.folder, value["path"])
        if not isinstance(inside, bytes):
            raise RecordingError(f"{self.paths[number]} has no picture in row {row}: copy the dataset again")
        return inside

    def _group(self, number: int, row: int) -> tuple[int, Any]:
        """The group of rows that holds this one: its first row, and its pictures as they are in the file."""
        if getattr(self._threads, "process", None) != os.getpid():
            self._threads.process, self._threads.held = os.getpid(), {}
        held: dict[tuple[int, int], tuple[int, int, Any]] = self._threads.held
        for (file, _), (first, stop, values) in held.items():
            if file == number and first <= row < stop:
                return first, values
        path, first = self.paths[number], 0
        with readable(path, "a table of pictures"):
            with _pyarrow().parquet.ParquetFile(path) as file:
                if self.column not in file.schema_arrow.names:
                    raise RecordingError(f"{path} has no column {self.column!r} of pictures: copy it again")
                for group in range(file.num_row_groups):
                    stop = first + file.metadata.row_group(group).num_rows
                    if first <= row < stop:
                        values = file.read_row_group(group, columns=[self.column]).column(0)
                        while len(held) >= HELD_GROUPS:
                            held.pop(next(iter(held)))
                        held[number, group] = (first, stop, values)
                        return first, values
                    first = stop
        raise RecordingError(f"{path} has no row {row}: copy the dataset again")


def picture_file(folder: Path, name: str) -> bytes:
    """The bytes of a picture in the folder, which a table names."""
    try:
        path = (folder / name).resolve()
        if path.is_relative_to(folder.resolve()) and path.is_file():
            return path.read_bytes()
    except (OSError, ValueError) as error:
        raise RecordingError(f"{folder} has no picture {name!r} ({reason(error)})") from error
    raise RecordingError(f"{folder} has no picture {name!r}: copy the dataset again")
