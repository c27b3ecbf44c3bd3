"""Write a report on what a trained model knows and where it fails: one page, report.html.

    latent-planner report runs/mine                       # report.html and report.json in runs/mine
    latent-planner report pusht --out reports/pusht       # a bundled checkpoint, or hf://owner/name
    latent-planner report runs/mine --only probes,planning
    latent-planner report runs/mine --recording my.h5     # episodes to judge it on

Without --recording, a run is judged on the episodes that its training held out, and any other checkpoint on
fresh episodes of its world. report.html is one file that can be sent as it is.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from latent_planner.common.commands import in_words
from latent_planner.common.files import blame
from latent_planner.common.progress import log_above_bars
from latent_planner.report.build import Report
from latent_planner.report.registry import NAMES, ReportError, check

from .reporting import PAIRS, SHIFTED, report_on
from .user_errors import USER_ERRORS


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 when the report is written, 1 when a section failed, 2 on a user error, 130 after Ctrl-C."""
    log_above_bars("%(levelname)s: %(message)s")
    with in_words(*USER_ERRORS, system_error=another_folder) as outcome:
        args = parse(sys.argv[1:] if argv is None else argv)
        report, folder = report_on(
            args.run, only=args.only, out=args.out, recording=args.recording, seed=args.seed,
            device=args.device, pairs=args.pairs, shift_pairs=args.shift_pairs,
        )  # fmt: skip
    if outcome.code:
        return outcome.code
    print(told(report, folder))
    if report.stopped:
        print("stopped: the page holds what was measured until then", file=sys.stderr)
        return 130
    return int(any(entry.verdict == "broken" for entry in report.entries))


def another_folder(error: OSError) -> str:
    """What is wrong with a file or folder, and what to do."""
    return f"{blame(error)}; choose another --out"


def told(report: Report, folder: Path) -> str:
    """What came out, one line a section, and where the page is."""
    lines = [f"{entry.section.name:15s} {entry.verdict:8s} {entry.sentence}" for entry in report.entries]
    return "\n".join([*lines, f"{folder / 'report.html'}: all of it; report.json: every number"])


class Parser(argparse.ArgumentParser):
    """argparse whose complaints are one sentence like every other mistake's."""

    def error(self, message: str) -> NoReturn:
        raise ReportError(f"{message}; see --help")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Checked arguments; ReportError."""
    form = argparse.RawDescriptionHelpFormatter
    known = Parser("latent-planner report", description=__doc__, formatter_class=form, allow_abbrev=False)
    known.add_argument("run", metavar="RUN", help="run folder, bundled name, or hf://owner/name")
    known.add_argument("--only", metavar="A,B", help=f"these sections only: {', '.join(NAMES)}")
    known.add_argument("--out", metavar="FOLDER", help="output folder (default: the run folder)")
    known.add_argument("--recording", metavar="FILE", help="episodes to judge it on; see above")
    known.add_argument(
        "--pairs", type=int, default=PAIRS, metavar="N", help=f"goals to try (default: {PAIRS})"
    )
    known.add_argument(
        "--shift-pairs", type=int, default=SHIFTED, metavar="N",
        help=f"goals to try in each of the other looks, 0: none (default: {SHIFTED})",
    )  # fmt: skip
    known.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    known.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    args = known.parse_args(list(argv))
    args.only = list(NAMES) if args.only is None else [name.strip() for name in args.only.split(",") if name]
    for name in args.only:
        check(name)
    if not args.only:
        raise ReportError("--only names no section; see --help")
    for name, least in (("seed", 0), ("pairs", 1), ("shift_pairs", 0)):
        if getattr(args, name) < least:
            option = name.replace("_", "-")
            raise ReportError(f"--{option} must be at least {least}, not {getattr(args, name)}")
    return args
