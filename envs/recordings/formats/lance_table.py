"""A Lance table, read by a process of its own: see lance_child.py."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from ..journal import RecordingError
from .border import readable, reason


class LanceTable:
    """What is asked of a table. Threads may ask; after a fork, or pickled, it starts a process of its own.

    Raises RecordingError, by every call, for a table that is damaged or draws in files of another folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def __reduce__(self) -> tuple[type[LanceTable], tuple[Path]]:
        return LanceTable, (self.folder,)

    def schema(self) -> tuple[Any, int]:
        """Arrow's schema, and the number of rows."""
        schema = self._ask("schema").schema
        if schema.metadata[b"elsewhere"]:
            raise RecordingError(f"{self.folder} takes its data from outside its folder: do not trust it")
        return schema, int(schema.metadata[b"rows"])

    def columns(self, names: Sequence[str]) -> Any:
        """An arrow table with all rows of these columns."""
        return self._ask("columns", list(names))

    def pictures(self, rows: Sequence[int], name: str) -> list[bytes]:
        """The bytes in these rows of a column; b"" where there are none."""
        found = self._ask("rows", list(rows), [name]).column(0).to_pylist()
        return [blob if isinstance(blob, bytes) else b"" for blob in found]

    def blob(self, name: str, row: int) -> bytes:
        """The blob in one row of a column."""
        return self._ask("blob", name, row).column(0)[0].as_py()

    def _ask(self, what: str, *given: Any) -> Any:
        """The arrow table that the process replies with."""
        with self._lock:
            if self._process is None or self._owner != os.getpid():
                self._start()
            assert self._process is not None and self._process.stdin and self._process.stdout
            try:
                self._process.stdin.write(json.dumps([what, *given]).encode() + b"\n")
                self._process.stdin.flush()
                kind, data = _reply(self._process.stdout)
            except (EOFError, OSError):  # it has ended
                code = self._process.wait()
                self._process = None
                raise RecordingError(
                    f"{self.folder} is damaged: pylance ended at it ({_ended(code)}); copy it again"
                ) from None
            except BaseException:  # Ctrl-C: the reply that is under way belongs to nobody
                self._process.kill()
                self._process = None
                raise
        if kind != b"+":
            why = reason(ValueError(data.decode(errors="replace")))
            raise RecordingError(f"{self.folder} cannot be read as a Lance table ({why}): copy it again")
        with readable(self.folder, "a Lance table"):
            import pyarrow as pa

            return pa.ipc.open_stream(data).read_all()

    def _start(self) -> None:
        if importlib.util.find_spec("lance") is None:
            raise RecordingError(
                f"{self.folder} is a Lance table, read with pylance: pip install 'latent-planner[lance]'"
            )
        for file in [self.folder, *self.folder.rglob("*")]:
            if file.is_symlink():
                raise RecordingError(f"{file} is a link: put the file itself there")
        command = [sys.executable, "-P", "-m", __name__.replace("lance_table", "lance_child")]
        command.append(str(self.folder.resolve()))
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._owner = os.getpid()
        weakref.finalize(self, _end, self._process, self._owner)


def _reply(replies: IO[bytes]) -> tuple[bytes, bytes]:
    head = replies.read(9)
    if len(head) < 9:
        raise EOFError
    size = int.from_bytes(head[1:], "little")
    data = replies.read(size)
    if len(data) < size:
        raise EOFError
    return head[:1], data


def _ended(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    if owner == os.getpid() and process.poll() is None:
        process.kill()
        process.wait()
