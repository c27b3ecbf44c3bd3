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
ENTRIES = {"agent/report/__main__.py"}  # command lines inside a room; like plan.py they may import all rooms
STDLIB = set(sys.stdlib_module_names)

# What each room may import beside the standard library and itself. An arrow that is not here is a mistake.
ALLOWED = {
    "planners": {"torch"},
    "envs": {
        "numpy", "gymnasium", "h5py", "pymunk", "mujoco", "PIL", "tqdm", "av",
        "hdf5plugin", "cramjam", "pyarrow", "ogbench",
    },
    "agent": {
        "torch", "planners", "numpy", "einops", "accelerate", "safetensors",
        "PIL", "av", "matplotlib", "tqdm", "wandb", "h5py", "hdf5plugin", "huggingface_hub",
        "websockets", "msgpack", "onnxruntime",
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
    entries = {ROOT / entry for entry in ENTRIES}
    return sorted(path for path in (ROOT / room).rglob("*.py") if path not in entries)


@pytest.mark.parametrize("room", ROOMS)
def test_room_imports_only_what_the_arrows_allow(room: str) -> None:
    assert room_files(room), f"{room}/ holds no Python file"
    for path in room_files(room):
        extra = imported_roots(path.read_text()) - STDLIB - ALLOWED[room] - {room}
        assert not extra, f"{path.relative_to(ROOT)} imports {sorted(extra)}, which {room}/ must not know"


def test_the_arrow_check_sees_imports_inside_functions() -> None:
    source = "def f():\n    from envs.pusht import PushT\n    import torch.nn as nn\n"
    assert imported_roots(source) == {"envs", "torch"}


def test_configs_know_hydra_only() -> None:
    for path in (ROOT / "configs").rglob("*.py"):
        assert imported_roots(path.read_text()) - STDLIB <= {"hydra", "omegaconf", "yaml", "configs"}, (
            path.name
        )


def test_option_files_are_short_and_commented() -> None:
    for path in (ROOT / "configs").rglob("*/*.yaml"):
        lines = path.read_text().splitlines()
        assert len(lines) <= 25, f"{path.relative_to(ROOT)} has {len(lines)} lines"
        assert any(line.startswith("# ") for line in lines), f"{path.name} says nothing of itself"


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def import_names(requirements: list[str]) -> set[str]:
    spelled = {"pillow": "PIL", "hydra-core": "hydra"}
    named = {re.split(r"[<>=!~\[]", requirement)[0].strip() for requirement in requirements}
    return {spelled.get(name, name.replace("-", "_")) for name in named}


def extras() -> set[str]:
    """What is imported where it is used only."""
    groups = project()["project"]["optional-dependencies"]
    named = import_names([name for group, names in groups.items() if group != "test" for name in names])
    return named - import_names(project()["project"]["dependencies"])  # an extra may pin what all have


def test_extras_are_imported_inside_functions_only() -> None:
    for path in [*(ROOT.glob("*.py")), *(p for room in ROOMS for p in room_files(room))]:
        top = "\n".join(
            ast.unparse(node)
            for node in ast.parse(path.read_text()).body
            if isinstance(node, ast.Import | ast.ImportFrom)
        )
        assert not imported_roots(top) & extras(), path


def test_every_third_party_import_is_a_declared_dependency() -> None:
    declared = import_names(project()["project"]["dependencies"]) | extras()
    declared |= {"omegaconf", "yaml"}  # come with Hydra
    own = {*ROOMS, "configs", "train", "plan"}
    files = [*(ROOT.glob("*.py")), *(p for room in (*ROOMS, "configs") for p in room_files(room))]
    for path in files:
        extra = imported_roots(path.read_text()) - STDLIB - own - declared
        assert not extra, f"{path.relative_to(ROOT)} imports {sorted(extra)}, not in pyproject.toml"


def test_dependencies_are_bounded_where_design_needs_it() -> None:
    dependencies = project()["project"]["dependencies"]
    assert "torch>=2.9,<2.14" in dependencies
    assert any(d.startswith("pymunk>=7") for d in dependencies)
    assert project()["project"]["requires-python"] == ">=3.11"


def test_packaged_files_are_there() -> None:
    setuptools = project()["tool"]["setuptools"]
    rooms = {*ROOMS, "configs"}
    inside = {path.parent.relative_to(ROOT) for room in rooms for path in (ROOT / room).rglob("__init__.py")}
    assert {".".join(folder.parts) for folder in inside} == set(setuptools["packages"]) >= rooms
    for package, patterns in setuptools["package-data"].items():
        for pattern in patterns:
            if "pretrained" not in pattern:  # weights are trained, not written
                assert any(p.is_file() for p in (ROOT / package).glob(pattern)), f"{package}/{pattern}"
    for module in setuptools["py-modules"]:
        assert (ROOT / f"{module}.py").is_file()


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no make")
class TestMakefile:
    def test_without_a_target_it_says_what_there_is(self) -> None:
        out = make().stdout
        assert all(f"make {target}" in out for target in ("demo", "test", "lint"))

    def test_an_interpreter_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        result = make("test", f"VENV={tmp_path}/venv", "PYTHON=python9")
        assert result.returncode != 0 and "no 'python9' here" in result.stdout + result.stderr

    def test_an_old_interpreter_is_refused(self, tmp_path: Path) -> None:
        old = tmp_path / "python-old"
        old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1\nexit 1\n')
        old.chmod(0o755)
        result = make("test", f"VENV={tmp_path}/venv", f"PYTHON={old}")
        assert result.returncode != 0
        assert "Python 3.9.1; Python 3.11 or newer is needed" in result.stdout + result.stderr

    def test_a_finished_environment_is_not_installed_again(self, tmp_path: Path) -> None:
        (tmp_path / ".ready").touch()
        assert "install" not in make("--dry-run", "test", f"VENV={tmp_path}").stdout
