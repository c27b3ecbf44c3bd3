"""Which sections there are, in the order of the page. A section's function has the section's name."""

from __future__ import annotations

import importlib

from latent_planner.common.words import did_you_mean

from .section import Section

NAMES = (
    "planning",
    "shift",
    "imagination",
    "probes",
    "disentanglement",
    "surprise",
    "soundness",
    "health",
    "calibration",
)


class ReportError(ValueError):
    """A report cannot be made as asked; the message says why and what to do."""


def check(name: str) -> None:
    """ReportError, with the nearest name, unless there is a section of that name."""
    if name not in NAMES:
        hint = did_you_mean(name, NAMES, " Did")
        raise ReportError(f"There is no section {name!r}; there are {', '.join(NAMES)}.{hint}")


def find(name: str) -> Section:
    """The section of that name; ReportError when there is none."""
    check(name)
    found: Section = importlib.import_module(f"latent_planner.report.sections.{name}").SECTION
    return found
