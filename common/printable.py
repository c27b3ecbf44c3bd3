"""Text from files, made safe to show: on a terminal, in a log, in a chart."""

from __future__ import annotations

LONGEST = 200  # characters


def printable(text: object, longest: int = LONGEST) -> str:
    """The text on one line without control characters: each becomes its escape, as in a Python literal.

    Terminal escapes, line breaks, lone surrogates and marks that turn the writing direction are such
    characters. A longer text than `longest` characters is cut off.
    """
    try:
        words = str(text)
    except RecursionError:
        words = f"something nested deeply, {type(text).__name__}"
    if len(words) > longest:
        words = words[: longest - 1] + "…"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in words)
