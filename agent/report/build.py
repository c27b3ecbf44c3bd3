"""Making a report: each section in turn, then report.html and report.json beside each other."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from latent_planner.common.files import write_text
from latent_planner.common.progress import Bar

from ..evaluation.provenance import nameless, provenance, without_folders, write_json
from .evidence import Evidence, Skipped
from .registry import NAMES, find
from .section import Result, Section, Shown

log = logging.getLogger(__name__)

PAGE, NUMBERS = "report.html", "report.json"
FORMAT = "latent-planner report 1"


@dataclass(frozen=True)
class Entry:
    """One section of a report: its result, or why there is none.

    verdict: "good", "poor", "skipped" (it cannot be told of this model), "broken" (an error of ours).
    sentence: the finding, or the reason.
    """

    section: Section
    verdict: str
    sentence: str
    result: Result | None
    seconds: float
    shown: list[Shown] = field(default_factory=list, repr=False)

    def to_json(self) -> dict[str, Any]:
        values = {} if self.result is None else self.result.to_json()
        told = {"measures": self.section.measures, "verdict": self.verdict, "finding": self.sentence}
        return {**told, "seconds": round(self.seconds, 2), **values}


@dataclass(frozen=True)
class Report:
    """about: plain values: checkpoint, env, recording, sha256, and what evaluation.provenance says."""

    about: dict[str, Any]
    entries: list[Entry]
    stopped: bool = False  # by Ctrl-C: the sections that were to come are not there

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            **self.about,
            "sections": {entry.section.name: entry.to_json() for entry in self.entries},
        }

    def write(self, folder: Path) -> tuple[Path, Path]:
        """report.html and report.json in folder, each whole or not at all; OSError when that fails."""
        from .page import page

        folder.mkdir(parents=True, exist_ok=True)
        numbers = write_json(folder / NUMBERS, self.to_json())
        write_text(folder / PAGE, page(self))
        return folder / PAGE, numbers


def build(
    evidence: Evidence,
    *,
    checkpoint: str,
    recording: str = "",
    sha256: str = "",
    only: Sequence[str] = NAMES,
) -> Report:
    """Run these sections, in the order of the page.

    checkpoint, recording: what they are called on the page.   sha256: of the weights.
    A section that raises an error is told of as broken, with the error in the log, and the others go on.
    Ctrl-C ends it early, with the sections that are done. ReportError for a name that is no section.
    """
    chosen = [find(name) for name in sorted(set(only), key=_place)]
    entries = []
    with Bar(chosen, desc="report", unit="section", disable=not evidence.progress) as bar:
        for each in bar:
            bar.set_postfix_str(each.name)
            try:
                entries.append(_entry(each, evidence))
            except KeyboardInterrupt:
                if not entries:
                    raise
                break
    about: dict[str, Any] = {
        "checkpoint": nameless(checkpoint),
        "env": evidence.config.env,
        "recording": recording,
    }
    about |= {"sha256": sha256, "seed": evidence.seed, **provenance()}
    return Report(about, entries, stopped=len(entries) < len(chosen))


def _place(name: str) -> int:
    return NAMES.index(name) if name in NAMES else len(NAMES)


def _entry(each: Section, evidence: Evidence) -> Entry:
    started = time.perf_counter()
    try:
        result = each.run(evidence)
        shown = each.draw(result)
    except Skipped as reason:
        return Entry(each, "skipped", f"Not measured: {reason}.", None, time.perf_counter() - started)
    except Exception as error:
        log.exception("the section %s broke; the others go on", each.name)
        sentence = f"This section broke: {type(error).__name__}: {without_folders(str(error))}"
        return Entry(each, "broken", sentence, None, time.perf_counter() - started)
    verdict = "good" if result.good else "poor"
    return Entry(each, verdict, result.finding, result, time.perf_counter() - started, shown)
