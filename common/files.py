"""The one way in which this program writes files: whole or not at all, and never through a link.

A folder may come from a stranger, with links planted where files are expected. So a new file gets a name that
nobody can guess and is made by this process, and what is opened to be changed must not be a link. Windows has
neither O_NOFOLLOW nor a way to flush a folder: there a link is looked for just before the file is opened.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

_BINARY = getattr(os, "O_BINARY", 0)
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)
_NO_WAIT = getattr(os, "O_NONBLOCK", 0)  # for a pipe that nobody reads or writes


@contextmanager
def beside(path: str | os.PathLike) -> Iterator[Path]:
    """A new, empty file next to `path` to write to; when the block ends well it becomes `path`, else it goes.

    It is on the disk before it counts, for what must outlive a power cut. A link at `path` is replaced by the
    file, and what it pointed to stays as it was. OSError names `path`.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.tmp-{secrets.token_hex(6)}")
    try:
        os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK | _BINARY, 0o666))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    try:
        yield temporary
        flush(temporary)
        os.replace(temporary, path)
        flush(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike, data: bytes) -> None:
    """Write a file, whole or not at all."""
    with beside(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Write a file in UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def open_to_change(path: str | os.PathLike, flags: int) -> int:
    """A descriptor of the file at `path`, made if needed, to be appended to or changed in place.

    flags: O_RDWR or O_WRONLY, and O_APPEND if wanted. OSError for a link, and for what is no file.
    """
    if not _NO_LINK and is_link(path):
        raise _a_link(path)
    try:
        file = os.open(path, flags | os.O_CREAT | _NO_LINK | _NO_WAIT | _BINARY, 0o666)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK) and is_link(path):
            raise _a_link(path) from error
        if error.errno == errno.ENXIO:  # a pipe or socket
            raise _no_file(path) from error
        raise
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise _no_file(path)
    return file


def append_line(path: str | os.PathLike, line: str) -> None:
    """Add a line to the text file at `path`, made if needed. OSError for a link."""
    with open(open_to_change(path, os.O_WRONLY | os.O_APPEND), "a", encoding="utf-8") as file:
        file.write(line + "\n")


def read_bytes(path: str | os.PathLike, most: int | None = None) -> bytes:
    """All of a file. OSError for a pipe or device, which might never end, and beyond `most` bytes."""
    with open(os.open(path, os.O_RDONLY | _NO_WAIT | _BINARY), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) and os.fspath(path) != os.devnull:  # that one is empty
            raise _no_file(path)
        if most is not None and found.st_size > most:
            raise OSError(errno.EFBIG, f"is larger than the {most:,} bytes that it can be", str(path))
        return file.read() if most is None else file.read(most)


def is_link(path: str | os.PathLike) -> bool:
    """Whether this is a link, or on Windows a junction, wherever it leads."""
    junction = getattr(os.path, "isjunction", None)  # from Python 3.12 on
    return os.path.islink(path) or bool(junction and junction(path))


def refuse_links(folder: str | os.PathLike, names: Iterable[str] | None = None) -> None:
    """OSError when something directly in `folder`, of these names if they are given, is a link."""
    with suppress(FileNotFoundError, NotADirectoryError):
        for name in sorted(os.listdir(folder) if names is None else names):
            if is_link(Path(folder) / name):
                raise _a_link(Path(folder) / name)


def remove_leftovers(path: Path) -> None:
    """Remove what a process that was killed while it wrote `path` has left; nobody may be writing it now."""
    for leftover in path.parent.glob(f"{escape(path.name)}.tmp-*"):
        with suppress(OSError):
            leftover.unlink()


def lock(file: int) -> bool:
    """Take the open file for this process alone; False when another process has it.

    The system lets go of it when the file is closed or the process dies. On file systems without locks it is
    always taken.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file, 1 << 40, os.SEEK_SET)  # a byte that nobody reads: locks are mandatory there
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass
    return True


def flush(path: str | os.PathLike) -> None:
    """Bring a file, or which files a folder holds, to the disk; a folder where the system can do that."""
    if os.path.isdir(path):
        if os.name != "posix":
            return
        with suppress(PermissionError):  # a folder that may be written to and not be read
            file = os.open(path, os.O_RDONLY)
            try:
                os.fsync(file)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # not every file system can
                    raise
            finally:
                os.close(file)
        return
    file = os.open(path, os.O_RDWR | _BINARY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def blame(error: OSError) -> str:
    """Which file it was, where that is known, and what is wrong with it."""
    where = f"{error.filename}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _a_link(path: str | os.PathLike) -> OSError:
    told = "is a link, through which nothing is written: remove it, or put the file itself there"
    return OSError(errno.ELOOP, told, str(path))


def _no_file(path: str | os.PathLike) -> OSError:
    return OSError(errno.EINVAL, "is not a regular file", str(path))
