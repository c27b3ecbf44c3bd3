"""The house itself: who imports whom, what is packaged, what the Makefile and the README promise."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from waiting import PATIENCE

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("agent", "cli", "common", "configs", "envs", "planners")  # agent/ is installed as latent_planner
STDLIB = set(sys.stdlib_module_names)

# The arrows: which rooms a room may import, beside itself. An arrow that is not here is a mistake.
ARROWS = {
    "agent": {"planners", "common"},
    "cli": {"agent", "envs", "planners", "configs", "common"},
    "common": set(),
    "configs": set(),
    "envs": {"common"},
    "planners": {"common"},
}

# What each room may import of others' packages.
PACKAGES = {
    "planners": {"torch"},
    "common": {"numpy", "h5py", "tqdm", "ray", "submitit"},  # what is alike in every room
    "configs": set(),
    "cli": {"hydra", "omegaconf", "yaml", "numpy", "tqdm", "torch", "accelerate", "PIL", "websockets"},
    "envs": {
        "numpy", "gymnasium", "h5py", "pymunk", "mujoco", "PIL", "tqdm", "av",
        "hdf5plugin", "cramjam", "pyarrow", "lance", "ogbench",
    },
    "agent": {
        "torch", "numpy", "einops", "accelerate", "safetensors",
        "PIL", "av", "matplotlib", "tqdm", "wandb", "h5py", "hdf5plugin", "huggingface_hub",
        "websockets", "msgpack", "onnxruntime",
    },
}  # fmt: skip


def module_name(path: Path) -> str:
    """What a file of the repository is called when it is installed."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    parts = parts[1:] if parts[0] == "agent" else parts
    return ".".join(["latent_planner", *parts]).removesuffix(".__init__")


def imported(source: str, module: str = "", package: bool = False) -> set[str]:
    """Dotted names that a file imports anywhere, inside functions too; relative ones in full."""
    names = set()
    here = module.split(".") if package else module.split(".")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*here[: len(here) - node.level + 1]] if node.level else []
            base += node.module.split(".") if node.module else []
            names |= {".".join([*base, alias.name]) for alias in node.names}
    return names


def imported_roots(source: str) -> set[str]:
    return {name.split(".")[0] for name in imported(source)}


def room_of(name: str) -> str:
    """The room that a dotted name of ours lies in."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in ROOMS else "agent"


def room_files(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_room_imports_only_what_the_arrows_allow(room: str) -> None:
    assert room_files(room), f"{room}/ holds no Python file"
    for path in room_files(room):
        names = imported(path.read_text(), module_name(path), path.name == "__init__.py")
        ours = {name for name in names if name.split(".")[0] == "latent_planner"}
        rooms = {room_of(name) for name in ours} - {room}
        assert rooms <= ARROWS[room], f"{path.relative_to(ROOT)} imports {sorted(rooms - ARROWS[room])}"
        others = {name.split(".")[0] for name in names - ours} - STDLIB - {"latent_planner"}
        extra = others - PACKAGES[room]
        assert not extra, f"{path.relative_to(ROOT)} imports {sorted(extra)}, which {room}/ must not know"


def test_relative_imports_stay_in_their_room() -> None:
    for path in (path for room in ROOMS for path in room_files(room)):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                depth = len(path.relative_to(ROOT).parts) - 1
                assert node.level <= depth, f"{path.relative_to(ROOT)}:{node.lineno} leaves its room"


def top_level_imports() -> dict[str, set[str]]:
    """Which of our modules each of them imports when it is loaded."""
    modules = {module_name(path): path for room in ROOMS for path in room_files(room)}
    graph = {}
    for module, path in modules.items():
        body = [n for n in ast.parse(path.read_text()).body if isinstance(n, ast.Import | ast.ImportFrom)]
        source = "\n".join(map(ast.unparse, body))
        graph[module] = set()
        for name in imported(source, module, path.name == "__init__.py"):
            while name and name not in modules:
                name = name.rpartition(".")[0]
            graph[module] |= {name} - {"", module}
    return graph


def test_no_modules_import_each_other_in_a_circle() -> None:
    graph, done = top_level_imports(), set[str]()

    def visit(module: str, above: tuple[str, ...]) -> None:
        assert module not in above, " -> ".join([*above, module])
        if module not in done:
            for target in sorted(graph[module]):
                visit(target, (*above, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_folders_can_be_read_at_a_glance() -> None:
    for folder in {path.parent for room in ROOMS for path in room_files(room)}:
        files = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(files) <= 16, f"{folder.relative_to(ROOT)} has {len(files)} files"


def test_the_arrow_check_sees_imports_inside_functions() -> None:
    lines = ["from latent_planner.envs import make", "from ..model import x", "import torch.nn as nn"]
    source = "def f():\n" + "".join(f"    {line}\n" for line in lines)
    found = imported(source, "latent_planner.training.trainer")
    assert found == {"latent_planner.envs.make", "latent_planner.model.x", "torch.nn"}


def test_option_files_are_short_and_commented() -> None:
    for path in (ROOT / "configs").rglob("*/*.yaml"):
        lines = path.read_text().splitlines()
        assert len(lines) <= 25, f"{path.relative_to(ROOT)} has {len(lines)} lines"
        assert any(line.startswith("# ") for line in lines), f"{path.name} says nothing of itself"


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def import_names(requirements: list[str]) -> set[str]:
    spelled = {"pillow": "PIL", "hydra-core": "hydra", "pylance": "lance"}
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


def third_party(path: Path) -> set[str]:
    if path.parent == ROOT:
        return imported_roots(path.read_text())
    names = imported(path.read_text(), module_name(path), path.name == "__init__.py")
    return {name.split(".")[0] for name in names}


def test_every_third_party_import_is_a_declared_dependency() -> None:
    declared = import_names(project()["project"]["dependencies"]) | extras()
    declared |= {"omegaconf", "yaml"}  # come with Hydra
    own = {"latent_planner"}
    files = [*(ROOT.glob("*.py")), *(p for room in ROOMS for p in room_files(room))]
    for path in files:
        extra = third_party(path) - STDLIB - own - declared
        assert not extra, f"{path.relative_to(ROOT)} imports {sorted(extra)}, not in pyproject.toml"


def test_dependencies_are_bounded_where_design_needs_it() -> None:
    dependencies = project()["project"]["dependencies"]
    assert "torch>=2.10,<3" in dependencies  # 2.9 loads crafted weights into wrong memory
    assert "mujoco>=3.3" in dependencies  # a bound above would pull a user's own MuJoCo down
    assert any(d.startswith("pymunk>=7") for d in dependencies)
    assert project()["project"]["requires-python"] == ">=3.11"


def test_the_tested_versions_are_allowed_and_complete() -> None:
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)  # no folders, no addresses
    tested = {canonicalize_name(name): version for name, version in (line.split("==") for line in lines)}
    groups = project()["project"]["optional-dependencies"]
    asked = [*project()["project"]["dependencies"], *groups["test"]]
    asked += [text for extra in Requirement(groups["test"][0]).extras for text in groups[extra]]
    for requirement in map(Requirement, asked):
        if requirement.name != "latent-planner":
            assert requirement.specifier.contains(tested[canonicalize_name(requirement.name)]), requirement


def test_packaged_files_are_there() -> None:
    setuptools = project()["tool"]["setuptools"]
    inside = {module_name(path) for room in ROOMS for path in (ROOT / room).rglob("__init__.py")}
    assert inside == set(setuptools["packages"])
    assert "py-modules" not in setuptools  # train.py and plan.py stay in the repository
    for package, patterns in setuptools["package-data"].items():
        parts = package.split(".")[1:]
        folder = ROOT.joinpath(*(parts if parts and parts[0] in ROOMS else ["agent", *parts]))
        for pattern in patterns:
            assert any(path.is_file() for path in folder.glob(pattern)), f"{package}/{pattern}"


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)


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

    def test_the_demo_does_not_install_what_only_tests_need(self, tmp_path: Path) -> None:
        demo, test = (make("--dry-run", target, f"VENV={tmp_path}").stdout for target in ("demo", "test"))
        assert '-c constraints.txt -e "."' in demo and "[test]" not in demo
        assert '-c constraints.txt -e ".[test]"' in test

    def test_a_failed_installation_is_not_taken_for_finished(self, tmp_path: Path) -> None:
        python = tmp_path / "bin" / "python"
        python.parent.mkdir()
        python.write_text('#!/bin/sh\ncase "$*" in *"pip install"*) echo "ERROR: no room"; exit 1;; esac\n')
        python.chmod(0o755)
        result = make("demo", f"VENV={tmp_path}", f"PYTHON={sys.executable}")
        assert result.returncode != 0 and "ERROR: no room" in result.stdout
        assert "error: the installation failed" in result.stdout + result.stderr
        assert not list(tmp_path.glob(".ready*"))

    def test_a_finished_environment_is_not_installed_again(self, tmp_path: Path) -> None:
        (tmp_path / ".ready").touch()
        assert "install" not in make("--dry-run", "test", f"VENV={tmp_path}").stdout
