"""What docs/robot.md and the pages of the examples show: names that exist, commands that parse, links."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
from pathlib import Path

import pytest

from latent_planner.deploy import export, serve

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "docs" / "robot.md", *sorted((ROOT / "examples").glob("*/README.md"))]


def blocks(page: Path, language: str) -> str:
    found = re.findall(
        rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return "\n".join(found)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_is_imported_is_there_and_what_is_linked(page: Path) -> None:
    for node in ast.walk(ast.parse(blocks(page, "python"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "latent_planner":
            module = importlib.import_module(str(node.module))
            assert all(hasattr(module, alias.name) for alias in node.names), node.module
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_parse(page: Path) -> None:
    for line in blocks(page, "sh").splitlines():
        words = shlex.split(line, comments=True)
        if words[:2] == ["latent-planner", "serve"]:
            serve.parse(words[2:])
        elif words[:2] == ["latent-planner", "export"]:
            export._arguments(words[2:])
        elif words[:1] == ["python"]:
            assert (ROOT / words[1]).is_file(), line


def test_the_pages_name_every_way() -> None:
    text = PAGES[0].read_text(encoding="utf-8")
    names = ("Agent", "PlannerThread", "Client", "latent-planner serve", "latent-planner export")
    for name in (*names, "ros2", "lerobot"):
        assert name in text
