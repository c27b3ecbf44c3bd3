"""What a result needs beside it to be run again and judged: machine, versions, command, date."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import sys
import time
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latent_planner.common.files import write_text

if TYPE_CHECKING:
    from ..agent import Agent

# how a path begins that says where things are on this machine
_FIRST = r"(?:~\w*[\\/]|/(?=[^\s/])|[A-Za-z]:[\\/]|\\\\|\.\.[\\/])"
PACKAGES = ("torch", "numpy", "gymnasium", "pymunk")


def provenance() -> dict[str, Any]:
    """Plain values: date (UTC), command line, machine and the versions of what decides a result."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "command": command(),
        "machine": machine(),
        "versions": versions(),
    }


def command() -> str:
    """The command line of this process, as one would type it, without folders of this machine."""
    script = Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "python"
    words = [script, *(nameless(word) for word in sys.argv[1:])]
    if script == "__main__.py":  # of a package, as python -m starts it
        package = getattr(sys.modules["__main__"].__spec__, "parent", None)
        words = ["-m", package, *words[1:]] if package else words
        return shlex.join(["python", *words])
    return shlex.join(["python", *words] if script.endswith(".py") else words)


def nameless(word: str) -> str:
    """A word of a command line, or a path: one that begins at a root, a drive, a home or above this folder
    keeps its last name only."""
    found = re.fullmatch(rf"((?:--?)?[\w.+-]+=)?({_FIRST}.*)", word, re.DOTALL)
    return without_folders(word) if found is None else (found[1] or "") + _last_name(found[2])


def without_folders(text: str) -> str:
    """Running text in which every such path is cut to its last name."""
    path = rf"(?<![\w.:/\\~-]){_FIRST}[^\s'\"<>|]*"
    return re.sub(path, lambda found: _last_name(found[0]), text)


def _last_name(path: str) -> str:
    return re.split(r"[\\/]", path.rstrip("\\/"))[-1]


def machine() -> dict[str, Any]:
    """Processor, cores this process may use, graphics processor if any, operating system."""
    return {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "gpu": _gpu_name(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Python and PACKAGES, those that are installed."""
    found = {"python": platform.python_version()}
    for name in ("latent-planner", *PACKAGES):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def about_agent(agent: Agent) -> dict[str, Any]:
    """How an agent plans, as checkpoints store it, and on what."""
    threads = {"threads": agent.threads.about()} if agent.device.type == "cpu" else {}
    return {"planner": agent.settings.to_dict(), "device": str(agent.device), **threads}


def durations(seconds: Sequence[float]) -> dict[str, Any]:
    """Median and 95th percentile (s), None without any, and how many there were."""
    if not seconds:
        return {"median": None, "p95": None, "plans": 0}
    median, p95 = np.percentile(np.asarray(seconds), [50, 95])
    return {"median": round(float(median), 4), "p95": round(float(p95), 4), "plans": len(seconds)}


def write_json(path: str | os.PathLike, values: dict[str, Any]) -> Path:
    """Write plain values as readable JSON, whole or not at all; returns the path.

    Raises ValueError for NaN and infinity, TypeError for what JSON cannot hold, OSError when it cannot be put
    there.
    """
    path = Path(path)
    text = _compact(json.dumps(values, indent=2, allow_nan=False)) + "\n"
    write_text(path, text)
    return path


def _compact(text: str) -> str:
    """Lists of numbers on one line each: no quote, bracket or brace between their brackets."""
    return re.sub(r"\[\n\s+([^\[\]{}\"]*?)\n\s+\]", lambda found: f"[{' '.join(found[1].split())}]", text)


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.lower().startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _gpu_name() -> str | None:
    torch = sys.modules.get("torch")  # never load it only to ask
    if torch is None or not torch.cuda.is_available():
        return None
    return torch.cuda.get_device_name()
