"""A process that reads one damaged input after the other, and says what each led to."""

from __future__ import annotations

import hashlib
import logging
import os
import resource
import shutil
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mutations import pick
from samples import KINDS, Fault, Kind

from latent_planner.cli.user_errors import USER_ERRORS

MEMORY = 4 << 30  # bytes that reading one input may take on top
FINE, SENTENCE, TRACEBACK, LOST, LATE = "fine", "sentence", "traceback", "lost", "killed"


def digest(folder: Path) -> str:
    """Of names and contents of all files in the folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            found.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return found.hexdigest()


def outcome(kind: Kind, folder: Path) -> tuple[str, str]:
    """What reading the case in `folder` led to, and the words of it."""
    before = digest(folder)
    try:
        kind.read(folder)
        found = FINE, ""
    except Fault as error:
        found = TRACEBACK, str(error)
    except (*USER_ERRORS, OSError) as error:
        found = SENTENCE, str(error)
        if not str(error).isprintable():
            found = TRACEBACK, f"not one line: {error!s:.300}"
    except ValueError as error:
        found = (
            (SENTENCE, str(error))
            if str(error).startswith("error: ")
            else (TRACEBACK, traceback.format_exc())
        )
    except BaseException:
        found = TRACEBACK, traceback.format_exc()
    if kind.keeps and digest(folder) != before:
        return LOST, f"reading changed the input; {found}"
    return found


def limit_memory() -> None:
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (taken + MEMORY, taken + MEMORY))


def serve(cases: Connection, name: str, home: str) -> None:
    """Read the case in home/case whenever asked to, and reply with the outcome."""
    quiet(Path(home))
    limit_memory()
    while cases.recv():
        cases.send(outcome(KINDS[name], Path(home) / "case"))


def quiet(home: Path) -> None:
    """Work in `home`, without words, network or many threads."""
    os.environ |= {"WANDB_MODE": "disabled", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"}
    os.chdir(home)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)


def prepare(home: Path, name: str, rng: np.random.Generator, damage: Callable[[Path, Any], None]) -> Path:
    """A fresh copy of the sound sample in home/case, one file of it damaged; which."""
    for entry in home.iterdir():
        if entry.name not in ("sound", "two_room.h5"):
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    shutil.copytree(home / "sound", home / "case")
    files: Sequence[Path] = sorted(path for path in (home / "case").glob(KINDS[name].files) if path.is_file())
    chosen = pick(rng, files)
    damage(chosen, rng)
    return chosen
