"""Workers, machines and whoever started them are killed, and disks fill up, while shards are collected.

    python tests/campaigns/scale.py --rounds 5                      # local processes, submitit, Ray
    python tests/campaigns/scale.py --engines ray --faults machine

Each round begins a sharded recording, makes one fault at a random moment, waits, and runs the same command
again if it ended badly. The merged file must then have the bytes of an undisturbed recording. Ray runs as a
cluster of three nodes on this machine; Slurm is submitit's local executor. Prints a Markdown table:
tried, gone on alone (without the command being run again), sentence (a run that ended with one), lost or
doubled (merged bytes differ), traceback.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from latent_planner.envs.recordings.collect import collect
from latent_planner.envs.recordings.sharded.merging import merge

ENGINES = ("local", "slurm", "ray")
FAULTS = ("worker", "machine", "driver", "disk")
EPISODES, SHARDS, LENGTH = 90, 6, 40
SETTINGS = ["--episodes", str(EPISODES), "--shards", str(SHARDS), "--length", str(LENGTH)]
SETTINGS += ["--image-size", "32", "--seed", "1"]
LIMIT = 300.0  # seconds for one command
COUNTS = ("tried", "gone on alone", "sentence", "lost or doubled", "traceback")


def started_by(pid: int) -> list[int]:
    """All processes below this one."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(stat.parent.name))
    found, new = list[int](), [pid]
    while new:
        new = [child for one in new for child in parents.get(one, [])]
        found += new
    return found


def words_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


WORKERS = {"local": "multiprocessing.spawn", "slurm": "submitit.core._submit", "ray": "ray::_call"}


class Cluster:
    """Three Ray nodes here; of other engines, nothing."""

    def __init__(self, engine: str) -> None:
        self.words = [f"engine={engine}", "workers=2"]
        self.cluster: Any = None
        if engine == "slurm":
            self.words += ["slurm.cluster=local", "slurm.timeout_min=5"]
        if engine == "ray":
            from ray.cluster_utils import Cluster as Made

            self.cluster = Made(initialize_head=True, head_node_args={"num_cpus": 0})
            self.nodes = [self.cluster.add_node(num_cpus=1) for _ in range(2)]
            self.words = ["engine=ray", f"ray.address={self.cluster.address}"]

    def kill_machine(self, random: np.random.Generator) -> None:
        """One of the two nodes that work; another comes in its place."""
        node = self.nodes.pop(int(random.integers(len(self.nodes))))
        self.cluster.remove_node(node, allow_graceful=False)
        self.nodes.append(self.cluster.add_node(num_cpus=1))

    def close(self) -> None:
        if self.cluster is not None:
            self.cluster.shutdown()


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    """A disk that is soon full is mounted there; needs root."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=220k", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def command(folder: Path, cluster: Cluster) -> list[str]:
    start = [sys.executable, "-m", "latent_planner.cli", "collect", "pusht", str(folder / "shards")]
    return [*start, *SETTINGS, *cluster.words]


def disturb(
    process: subprocess.Popen[str], engine: str, fault: str, cluster: Cluster, random: np.random.Generator
) -> None:
    """Make one fault while the process runs."""
    time.sleep(float(random.uniform(0.0, 1.0)))
    root = os.getpid() if engine == "ray" else process.pid
    if fault == "driver":
        process.kill()
    elif fault == "machine" and engine == "ray":
        cluster.kill_machine(random)
    elif fault in ("worker", "machine"):
        workers = [pid for pid in started_by(root) if WORKERS[engine] in words_of(pid)]
        if fault == "worker" and workers:
            workers = [workers[int(random.integers(len(workers)))]]
        for pid in workers:  # all workers of a machine die together
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def one_round(
    engine: str, fault: str, cluster: Cluster, whole: bytes, folder: Path, random: np.random.Generator
) -> Counter[str]:
    found: Counter[str] = Counter(tried=1)
    with contextlib.ExitStack() as stack:
        if fault == "disk":
            stack.enter_context(small_disk(folder / "shards"))
        words, said = command(folder, cluster), ""
        for attempt in range(4):
            out, err = subprocess.DEVNULL, subprocess.PIPE
            process = subprocess.Popen(words, cwd=folder, stdout=out, stderr=err, text=True)
            if attempt == 0 and fault != "disk":
                deadline = time.monotonic() + 60
                while not list((folder / "shards").glob("*.partial")) and time.monotonic() < deadline:
                    time.sleep(0.01)
                disturb(process, engine, fault, cluster, random)
            try:
                said = process.communicate(timeout=LIMIT)[1]
            except subprocess.TimeoutExpired:
                process.kill()
                said = process.communicate()[1] + "Traceback: it hung"
            found["traceback"] += int("Traceback" in said)
            if process.returncode == 0:
                found["gone on alone"] += int(attempt == 0)
                break
            found["sentence"] += int("error: " in said)
            if fault == "disk":
                resized = ["mount", "-o", "remount,size=64m", str(folder / "shards")]
                subprocess.run(resized, check=True)
        try:
            same = merge(folder / "shards", folder / "merged.h5", progress=False).read_bytes() == whole
        except ValueError as error:
            print(f"{engine}, {fault}: {error}\n{said}", file=sys.stderr)
            same = False
        found["lost or doubled"] += int(not same)
    return found


def main() -> int:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--engines", nargs="*", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--faults", nargs="*", choices=FAULTS, default=list(FAULTS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random, bad = np.random.default_rng(args.seed), 0
    print("| engine | fault | " + " | ".join(COUNTS) + " |\n" + "|---" * (len(COUNTS) + 2) + "|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        made = collect(
            "pusht", Path(name) / "whole.h5", episodes=EPISODES, length=LENGTH, image_size=32, seed=1,
            progress=False,
        )  # fmt: skip
        whole = made.read_bytes()
        for engine in args.engines:
            cluster = Cluster(engine)
            try:
                for fault in args.faults:
                    total: Counter[str] = Counter()
                    for number in range(args.rounds):
                        folder = Path(name) / f"{engine}-{fault}-{number}"
                        folder.mkdir()
                        total += one_round(engine, fault, cluster, whole, folder, random)
                        shutil.rmtree(folder, ignore_errors=True)
                    counts = " | ".join(str(total[key]) for key in COUNTS)
                    print(f"| {engine} | {fault} | {counts} |", flush=True)
                    bad += total["lost or doubled"] + total["traceback"]
            finally:
                cluster.close()
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
