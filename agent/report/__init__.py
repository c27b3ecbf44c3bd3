"""What the model knows: a report that a person can read, and the measurements behind it as library calls.

    latent-planner report runs/mine                     # report.html and report.json in runs/mine
    latent-planner report pusht --only probes,surprise --out somewhere

    from latent_planner import report
    found = report.probes(evidence)                      # a dataclass; see latent_planner.report.evidence

The functions are those named in latent_planner.report.registry, one a section.
"""

from __future__ import annotations

from typing import Any

from .evidence import Evidence, Skipped, Track
from .recordings import Shift, Shifts
from .registry import NAMES, ReportError
from .registry import find as _find
from .section import Film, Result, Section, Shown, Table

__all__ = [
    "Evidence",
    "Film",
    "ReportError",
    "Result",
    "Section",
    "Shift",
    "Shifts",
    "Shown",
    "Skipped",
    "Table",
    "Track",
    *NAMES,
]


def __getattr__(name: str) -> Any:
    if name in NAMES:
        return _find(name).run
    raise AttributeError(f"module 'latent_planner.report' has no attribute {name!r}")
