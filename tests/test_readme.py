"""What the README and docs/usage.md show works: Python blocks run, commands parse, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from latent_planner.checkpoints import checkpoint
from latent_planner.cli import plan, train
from latent_planner.cli import report as report
from latent_planner.cli.overrides import checked

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CONTRIBUTING.md"]
TEXT = "\n".join((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/usage.md"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[str]:
    """Every shell line, and every command in running text; of docs/lewm.md, what its table says of "here"."""
    lines = [line.split(" #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    here = re.findall(
        r"\|([^|]*)\|$", (ROOT / "docs" / "lewm.md").read_text(encoding="utf-8"), flags=re.MULTILINE
    )
    inline = re.findall(r"`((?:python|make|accelerate|latent-planner) [^`]+)`", "\n".join([TEXT, *here]))
    return [line for line in dict.fromkeys([*lines, *inline]) if line]


@pytest.mark.parametrize("source", blocks("python"), ids=lambda source: source.strip().splitlines()[0])
def test_python_block_runs(source: str, tiny_checkpoint: Path, monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    for name in re.findall(r'from_pretrained\("(\w+)"\)', source):
        if name not in checkpoint.bundled():  # a source tree without its weights
            source = source.replace(
                f'from_pretrained("{name}")', f"from_pretrained({str(tiny_checkpoint)!r})"
            )
    exec(compile(source, "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("command", commands())
def test_command_means_something(command: str) -> None:
    words = shlex.split(command)
    if words[0] == "make":
        rest = [word for word in words[1:] if "=" not in word]
        assert subprocess.run(["make", "-n", *rest], cwd=ROOT, capture_output=True).returncode == 0
    elif "train.py" in words:
        checked([word for word in words[words.index("train.py") + 1 :] if word != "--help"])
    elif "plan.py" in words:
        plan.parse(words[words.index("plan.py") + 1 :])
    elif words[0] == "latent-planner":
        shown = subprocess.run(
            [sys.executable, "-m", "latent_planner.cli", words[1], "--help"],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert shown.returncode == 0
        assert all(word in shown.stdout for word in words[2:] if word.startswith("--"))
    elif words[1].startswith("examples/"):
        assert (ROOT / words[1]).is_file()
    else:
        assert words[0].endswith("python") and words[1:3] in (["-m", "venv"], ["-m", "pip"])


def test_there_is_a_command_of_each_kind() -> None:
    shown = "\n".join(commands())
    for command in ("make demo", "make test", "python train.py env=pusht", "python plan.py --goal goal.png"):
        assert command in shown


def anchors(page: Path) -> set[str]:
    """The fragments that GitHub makes of a page's headings."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title).lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page: Path) -> None:
    for link in re.findall(r"\]\(([^):]+)\)", page.read_text(encoding="utf-8")):
        target, _, fragment = link.partition("#")
        there = page.parent / target if target else page
        assert there.exists(), link
        assert not fragment or fragment in anchors(there), link


def test_architecture_names_what_is_there() -> None:
    """Files are found, and functions and classes are defined somewhere in the rooms."""
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = ("agent", "cli", "common", "envs", "planners")
    files = [path for room in rooms for path in (ROOT / room).rglob("*.py")]
    defined = "\n".join(path.read_text(encoding="utf-8") for path in files)
    places = [ROOT, ROOT / "agent", ROOT / "envs"]
    words = set(re.findall(r"`([\w./-]+)`", re.sub(r"```.*?```", "", page, flags=re.DOTALL)))
    mine = {word for word in words if "my_" in word or "my-" in word}
    for word in words - mine:
        if "/" in word or word.endswith((".py", ".yaml", ".toml")):
            found = any((place / word).exists() for place in places)
            assert found or next(ROOT.glob(f"agent/**/{word}"), None), word
        elif re.fullmatch(r"_?[A-Za-z]+[\w.]*", word) and (word[0].isupper() or "." in word or "_" in word):
            name = word.split(".")[-1]
            assert re.search(rf"\b{name}\b", defined), word


def test_what_the_page_for_lewm_shows_in_python_runs(tmp_path, monkeypatch) -> None:
    from published import weights

    page = (ROOT / "docs" / "lewm.md").read_text(encoding="utf-8")
    (source,) = re.findall(r"^```python\n(.*?)^```", page, flags=re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(tmp_path)
    torch.save(weights(), "weights.pt")
    found: dict[str, Any] = {}
    exec(compile(source, "lewm.md", "exec"), found)
    assert all(torch.equal(found["state"][name], value) for name, value in weights().items())


def test_cheap_commands_run(monkeypatch, tmp_path, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert train.main(["--help"]) == 0
    assert plan.main(["--make-goal", "goal.png", "--seed", "7"]) == 0
    assert (tmp_path / "goal.png").stat().st_size > 1000
