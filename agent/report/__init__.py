"""What the model knows: a report that a person can read, and the measurements behind it as library calls.

    python -m agent.report runs/mine                     # report.html and report.json in runs/mine
    python -m agent.report pusht --only probes,surprise --out somewhere

    from agent import report
    found = report.probes(evidence)                      # a dataclass; see agent.report.evidence

The functions are those named in agent.report.registry, one a section.
"""

from __future__ import annotations

from typing import Any

from agent.report.evidence import Evidence, Skipped, Track
from agent.report.registry import NAMES, ReportError
from agent.report.registry import find as _find
from agent.report.section import Film, Result, Section, Shown, Table

__all__ = [
    "Evidence",
    "Film",
    "ReportError",
    "Result",
    "Section",
    "Shown",
    "Skipped",
    "Table",
    "Track",
    *NAMES,
]


def __getattr__(name: str) -> Any:
    if name in NAMES:
        return _find(name).run
    raise AttributeError(f"module 'agent.report' has no attribute {name!r}")
