"""The house itself: who imports whom, what is packaged, what the Makefile and the README promise."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("agent", "envs", "planners")
STDLIB = set(sys.stdlib_module_names)

# What each room may import beside the standard library and itself. An arrow that is not here is a mistake.
ALLOWED = {
    "planners": {"torch"},
    "envs": {"numpy", "gymnasium", "h5py", "pymunk", "PIL", "tqdm"},
    "agent": {
        "torch", "planners", "numpy", "einops", "accelerate", "safetensors", "PIL", "av", "matplotlib", "tqdm",
    },
}  # fmt: skip


def imported_roots(source: str) -> set[str]:
    """Top-level names a file imports anywhere, inside functions too."""
    roots = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            roots.add(node.module.split(".")[0])
    return roots


def room_files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_room_imports_only_what_the_arrows_allow(room: str) -> None:
    assert room_files(room), f"{room}/ holds no Python file"
    for path in room_files(room):
        extra = imported_roots(path.read_text()) - STDLIB - ALLOWED[room] - {room}
        assert not extra, f"{path.relative_to(ROOT)} imports {sorted(extra)}, which {room}/ must not know"


def test_the_arrow_check_sees_imports_inside_functions() -> None:
    source = "def f():\n    from envs.pusht import PushT\n    import torch.nn as nn\n"
    assert imported_roots(source) == {"envs", "torch"}
