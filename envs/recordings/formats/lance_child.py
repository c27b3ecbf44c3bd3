"""The process that reads one Lance table, started by lance_table.py.

pylance ends the whole process at some damaged tables, where no exception can be caught. So it works in a
process of its own, which may take as much memory as the machine has and no more.

    python -P -m latent_planner.envs.recordings.formats.lance_child FOLDER

Each request on standard input is a line of JSON, [what, …]. Each reply on standard output is a byte, b"+" or
b"-", the number of bytes that follow (8, little-endian), and an Arrow stream or one line that says what is
wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, BinaryIO

from ..columns import memory
from .border import reason

SLACK = 8 << 30  # bytes of addresses for threads and mapped files, on top of the machine's memory


class Reader:
    """Replies to requests about the table in `folder`."""

    def __init__(self, folder: str) -> None:
        import lance

        self.table = lance.dataset(folder)

    def schema(self) -> Any:
        """No rows, with all columns; the metadata hold the number of rows and whether files lie elsewhere."""
        parts = [file for fragment in self.table.get_fragments() for file in fragment.metadata.files]
        elsewhere = any(getattr(part, "base_id", None) is not None for part in parts)
        said = {"rows": str(self.table.count_rows()), "elsewhere": "1" if elsewhere else ""}
        return self.table.schema.with_metadata(said).empty_table()

    def columns(self, names: Sequence[str]) -> Any:
        """All rows of these columns."""
        return self.table.to_table(columns=list(names))

    def rows(self, wanted: Sequence[int], names: Sequence[str]) -> Any:
        """These rows of these columns."""
        return self.table.take(list(wanted), columns=list(names))

    def blob(self, name: str, row: int) -> Any:
        """The whole blob in one row."""
        import pyarrow as pa

        (blob,) = self.table.take_blobs(name, indices=[row])
        with blob:
            return pa.table({"blob": pa.array([blob.readall()], pa.large_binary())})


def main() -> int:
    """Reply until standard input ends."""
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no reply
    _limit_memory()
    reader: Reader | None = None
    for line in requests:
        what, *given = json.loads(line)
        try:
            reader = reader or Reader(sys.argv[1])
            _send(replies, b"+", _packed(getattr(reader, what)(*given)))
        except MemoryError:
            _send(replies, b"-", b"it asks for more memory than this machine has")
        except BaseException as error:  # a panic in Rust is no Exception
            if isinstance(error, KeyboardInterrupt):
                return 130
            _send(replies, b"-", reason(error).encode())
    return 0


def _packed(table: Any) -> memoryview:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return memoryview(sink.getvalue())


def _send(replies: BinaryIO, kind: bytes, data: bytes | memoryview) -> None:
    replies.write(kind + len(data).to_bytes(8, "little"))
    replies.write(data)
    replies.flush()


def _limit_memory() -> None:
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        most = memory() + SLACK
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (most if hard < 0 else min(most, hard), hard))


if __name__ == "__main__":
    sys.exit(main())
