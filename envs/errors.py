"""The error that every world shares."""

from __future__ import annotations


class WorldError(ValueError):
    """Something a user handed to a world cannot be used; the message says what and what to do."""
