"""The border of a reader: whatever a library raises about a file becomes one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..journal import RecordingError


@contextmanager
def readable(path: Path, what: str, advice: str = "copy it again") -> Iterator[None]:
    """Raise RecordingError for any exception inside the block: `path` cannot be read as `what`."""
    try:
        yield
    except RecordingError:
        raise
    except MemoryError:
        raise RecordingError(f"{path} asks for more memory than this machine has: {advice}") from None
    except BaseException as error:  # a panic of a library in Rust is no Exception
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise RecordingError(f"{path} cannot be read as {what} ({reason(error)}): {advice}") from error


def reason(error: BaseException) -> str:
    """The first line of an exception's text, printable and short."""
    text = str(error).strip() or type(error).__name__
    line = "".join(c if c.isprintable() else "?" for c in text.splitlines()[0])
    return line if len(line) <= 160 else line[:157] + "..."


def visible(folder: Path, pattern: str) -> list[Path]:
    """The files that match, sorted; none that is hidden, or inside a hidden folder, below `folder`.

    Such are `._name`, which macOS leaves behind, and `.ipynb_checkpoints`.
    """
    found = (path for path in folder.glob(pattern) if path.is_file())
    return sorted(p for p in found if not any(part.startswith(".") for part in p.relative_to(folder).parts))
