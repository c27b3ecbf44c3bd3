"""Count what damage does: every kind of damaged input, killed processes, hostile messages, full disks.

    python tests/campaigns/damage.py                                  # all of it: hours
    python tests/campaigns/damage.py --count 200 --kills 20 --messages 5000 --disks 4 --out found
    python tests/campaigns/damage.py --only "LeRobot v3" --seed 7

Prints a table: how many were tried; how many were read, ended in one sentence, ended in a traceback (or in a
crash, or with an action outside the bounds), lost something (a changed input, a half-written file, a result
that differs from that of an undisturbed run), or were killed by the time limit. All but the first three
numbers must be 0; otherwise the exit code is 1, and --out holds the inputs. Linux only.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import platform
import shutil
import sys
import tempfile
import zlib
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the samples of the tests

import hostile
import interruptions
import mutations
import numpy as np
import reading
import samples
from reading import FINE, LATE, LOST, SENTENCE, TRACEBACK

HERE = Path(__file__).resolve().parent
SECONDS = 60.0  # for one input
COLUMNS = (FINE, SENTENCE, TRACEBACK, LOST, LATE)
STARTER = multiprocessing.get_context("forkserver")


class Reader:
    """A process that reads cases of one kind, started again where it ended."""

    def __init__(self, name: str, home: Path, seconds: float) -> None:
        self.name, self.home, self.seconds = name, home, seconds
        self._start()

    def _start(self) -> None:
        self.ours, theirs = STARTER.Pipe()
        words = (theirs, self.name, str(self.home))
        self.process = STARTER.Process(target=reading.serve, args=words, daemon=True)
        self.process.start()
        theirs.close()

    def read(self) -> tuple[str, str]:
        """The outcome of the case that lies there, and its words."""
        self.ours.send(True)
        found = LATE, f"not read within {self.seconds:.0f} s"
        if self.ours.poll(self.seconds):
            try:
                return self.ours.recv()
            except EOFError:
                self.process.join()
                found = TRACEBACK, f"the process ended with {self.process.exitcode}"
        self.stop()
        self._start()
        return found

    def stop(self) -> None:
        self.process.kill()
        self.process.join()
        self.ours.close()


def damaged(name: str, args: argparse.Namespace, home: Path) -> Counter[str]:
    """Read args.count damaged inputs of a kind."""
    counted: Counter[str] = Counter()
    (home / "sound").mkdir(parents=True)
    samples.KINDS[name].make(home / "sound")
    reader = Reader(name, home, args.seconds)
    for index in range(-1, args.count):
        rng = np.random.default_rng([args.seed, zlib.crc32(name.encode()), index + 1])
        change = mutations.damage if index >= 0 else lambda *_: None  # the sound one first
        chosen = reading.prepare(home, name, rng, change)
        kept = home / "kept"
        shutil.copytree(home / "case", kept)
        found, words = reader.read()
        if index < 0:
            if found != FINE:
                raise SystemExit(f"{name}: the sound sample is not read: {words}")
        else:
            counted[found] += 1
        if found in (TRACEBACK, LOST, LATE):
            report(args, name, f"{index} {chosen.relative_to(home / 'case')}: {found}", words, kept)
        shutil.rmtree(kept)
    reader.stop()
    return counted


def report(args: argparse.Namespace, name: str, title: str, words: str, kept: Path | None = None) -> None:
    """Say what went wrong, and keep the input."""
    last = words.strip().splitlines() or [""]
    print(f"  {name} {title}: {last[-1][:300]}", file=sys.stderr, flush=True)
    if args.out is None:
        return
    folder = args.out / name.replace(" ", "-").replace("/", "-")
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "words.txt", "a") as file:
        file.write(f"{title}\n{words}\n\n")
    if kept is not None:
        shutil.copytree(kept, folder / title.split()[0], dirs_exist_ok=True)


def row(name: str, counted: Counter[str]) -> str:
    numbers = [sum(counted.values()), *(counted[column] for column in COLUMNS)]
    return f"| {name} | " + " | ".join(f"{number:,}" for number in numbers) + " |"


def campaign(args: argparse.Namespace, home: Path) -> Counter[str]:
    """All that is asked for; the table goes to standard output row by row."""
    said: Any = lambda *words: report(args, *words)  # noqa: E731
    parts: dict[str, Any] = {
        name: lambda name=name, i=i: damaged(name, args, home / str(i))
        for i, name in enumerate(samples.KINDS)
    }
    for i, name in enumerate(interruptions.JOBS):
        parts[f"killed: {name}"] = lambda name=name, i=i: interruptions.kills(
            name, args.kills, args.seed, home / f"kill-{i}", said
        )
    for i, name in enumerate(interruptions.DISK_JOBS):
        parts[f"full disk: {name}"] = lambda name=name, i=i: interruptions.full_disks(
            name, args.disks, home / f"disk-{i}", said
        )
    parts["hostile messages"] = lambda: hostile.messages(args.messages, args.seed, home / "server", said)
    print(f"{date.today()}, {platform.system()}, Python {platform.python_version()}, seed {args.seed}\n")
    print(f"| kind | tried | {' | '.join(COLUMNS)} |\n|---|{'---|' * (1 + len(COLUMNS))}", flush=True)
    total: Counter[str] = Counter()
    for name, part in parts.items():
        if args.only and not any(name.startswith(only) for only in args.only):
            continue
        counted = part()
        if counted is not None and sum(counted.values()):
            total += counted
            print(row(name, counted), flush=True)
    print(row("all", total))
    return total


def main(words: list[str] | None = None) -> int:
    """Returns 1 where something ended in a traceback, was lost or had to be killed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", metavar="KIND", help="kinds that begin so, as the table calls them")
    add("--count", type=int, default=1000, help="damaged inputs of each kind (default: %(default)s)")
    add("--kills", type=int, default=50, help="of each kind of work (default: %(default)s)")
    add("--messages", type=int, default=100_000, help="to the server (default: %(default)s)")
    add("--disks", type=int, default=20, help="sizes of a full disk for each command (default: %(default)s)")
    add("--seconds", type=float, default=SECONDS, help="for one input (default: %(default)s)")
    add("--seed", type=int, default=0)
    add("--out", type=Path, help="folder for the inputs that went wrong")
    args = parser.parse_args(words)
    os.environ["PYTHONPATH"] = f"{HERE}{os.pathsep}{HERE.parent}"  # where the starter finds these:
    STARTER.set_forkserver_preload(["reading", "interruptions"])
    with tempfile.TemporaryDirectory(prefix="campaign-") as folder:
        total = campaign(args, Path(folder))
    return int(any(total[column] for column in (TRACEBACK, LOST, LATE)))


if __name__ == "__main__":
    sys.exit(main())
