"""A GPU's first minutes: everything worth measuring on one, in order of worth, by one command.

    python tests/benchmarks/gpu_day.py --minutes 12 --out DIR           # all that fits
    python tests/benchmarks/gpu_day.py --minutes 4 --out DIR            # the tests and the latencies
    python tests/benchmarks/gpu_day.py --minutes 9 --out DIR            # later: what DIR lacks
    python tests/benchmarks/gpu_day.py --minutes 9 --out DIR --only pusht-5
    python tests/benchmarks/gpu_day.py --dry --out DIR                  # all of it, tiny, on a CPU

Each part is a process of its own with a limit of its own, which ends it whatever it does. DIR/results.json is
written after each part, and holds what a part had found when it was ended. A part that is done is not run
again, unless --only names it. DIR/table.md is printed at the end; no file in DIR is above 16 MB.

It needs torch, numpy, einops, safetensors, h5py, accelerate, gymnasium, pymunk, pillow, tqdm and PyYAML, and
pytest and hypothesis for the tests; then `pip install --no-deps --no-build-isolation -e .` suffices.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LARGEST_FILE = 16 * 10**6
RESERVE = 5.0  # seconds that are kept for the end
DRY_SECONDS = 240.0  # that a dry run may take on a busy machine


@dataclass(frozen=True)
class Part:
    """The least minutes that it needs, and the most that it gets."""

    least: float
    most: float


PARTS = {  # in order of worth; what each does is in gpu_parts.py
    "chip": Part(0.2, 0.5),
    "tests": Part(0.3, 1.5),
    "training-small": Part(0.5, 1.0),
    "training-lewm": Part(0.5, 1.2),
    "planning-lewm": Part(0.4, 2.0),
    "planning-small": Part(0.3, 1.0),
    "pusht-2": Part(3.0, 4.0),
    "pusht-5": Part(6.0, 7.0),
    "pusht-10": Part(11.0, 12.0),
    "lewm": Part(2.5, 12.0),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=12.0, help="for everything together")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--dry", action="store_true", help="tiny, and on the CPU")
    arguments = parser.parse_args()
    out, dry = arguments.out.resolve(), arguments.dry
    out.mkdir(parents=True, exist_ok=True)
    until = time.monotonic() + (DRY_SECONDS if dry else 60 * arguments.minutes - RESERVE)
    results = read_results(out)
    known = {name for name, result in results.items() if result["status"] == "done"}
    names = arguments.only or [name for name in PARTS if name not in known]
    with tempfile.TemporaryDirectory(prefix="gpu-day-") as scratch:
        # a dry run is one process, which loads torch once
        for group in [names] if dry and names else [[name] for name in names]:
            results |= run(group, out, Path(scratch), until - time.monotonic(), dry)
            write_whole(out / "results.json", json.dumps(results, indent=1))
            for name in group:
                print(f"{name}: {results[name]['status']}, {results[name]['seconds']:.0f} s", flush=True)
    text = table(results)
    write_whole(out / "table.md", text)
    print(f"\n{text}", flush=True)
    large = [path for path in out.rglob("*") if path.is_file() and path.stat().st_size > LARGEST_FILE]
    for path in large:
        print(f"{path} is larger than {LARGEST_FILE / 1e6:.0f} MB", file=sys.stderr)
    bad = [name for name in names if results[name]["status"] in ("failed", "ended at its limit")]
    return 1 if bad or large else 0


def run(names: list[str], out: Path, scratch: Path, left: float, dry: bool) -> dict[str, dict[str, Any]]:
    """Run parts in one process, which is ended when their time is over. Returns what each found."""
    least, most = (60 * sum(getattr(PARTS[name], bound) for name in names) for bound in ("least", "most"))
    if left < least and not dry:
        reason = f"not run: it needs {least / 60:g} minutes, and {max(0.0, left) / 60:.1f} were left"
        return {name: {"status": reason, "seconds": 0.0, "rows": []} for name in names}
    limit = left if dry else min(most, left)
    context = {"out": str(out), "scratch": str(scratch), "limit": limit, "dry": dry}
    command = [sys.executable, str(HERE / "gpu_parts.py"), json.dumps(context), *names]
    process = subprocess.Popen(command, start_new_session=True)
    late = False
    try:
        process.wait(limit)
    except subprocess.TimeoutExpired:
        late = True
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)  # and whatever it started
        except ProcessLookupError:
            pass
        process.wait()
    found = {}
    for name in names:
        notes = scratch / f"{name}.json"
        result = json.loads(notes.read_text()) if notes.exists() else {"status": "begun", "seconds": 0.0}
        if result["status"] == "begun":
            result["status"] = "ended at its limit" if late else "failed"
        found[name] = {"rows": [], **result}
    return found


def table(results: dict[str, Any]) -> str:
    """Markdown: part, what, figure, goal. Parts that were not run, or ended early, say so."""
    lines = ["| part | what | figure | goal |", "|---|---|---|---|"]
    for name in PARTS:
        result = results.get(name, {"status": "not run", "rows": []})
        for row in result["rows"]:
            lines.append(f"| {name} | {row['what']} | {row['figure']} | {row['goal']} |")
        if result["status"] != "done":
            lines.append(f"| {name} | | {result['status']} | |")
    return "\n".join(lines) + "\n"


def read_results(out: Path) -> dict[str, Any]:
    path = out / "results.json"
    return json.loads(path.read_text()) if path.exists() else {}


def write_whole(path: Path, text: str) -> None:
    """Whole or not at all, whenever the machine is taken away."""
    temporary = path.with_suffix(".part")
    temporary.write_text(text)
    os.replace(temporary, path)


if __name__ == "__main__":
    sys.exit(main())
