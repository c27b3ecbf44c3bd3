"""Installed, everything is `latent_planner`, whatever names the folders of a workspace have."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from waiting import PATIENCE

ROOT = Path(__file__).resolve().parent.parent
GENERIC = ("agent", "cli", "common", "configs", "envs", "plan", "planners", "train")
CLASHING = {
    "planners/nav.yaml": "speed: 1\n",
    "agent/urdf.xml": "<robot/>\n",
    "envs/__init__.py": "mine = True\n",
    "configs/__init__.py": "mine = True\n",
    "common/__init__.py": "mine = True\n",
    "cli/__init__.py": "mine = True\n",
    "train.py": "raise SystemExit('the wrong train.py')\n",
    "json.py": "raise SystemExit('the wrong json')\n",
    "mujoco.py": "raise SystemExit('the wrong mujoco')\n",
}


def python(interpreter: Path | str, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    return subprocess.run(
        [str(interpreter), *words], cwd=cwd, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )


@pytest.fixture(scope="module", params=["wheel", "editable"])
def interpreter(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python in which the project is installed; its dependencies are the test run's own."""
    folder = tmp_path_factory.mktemp(request.param)
    venv.create(folder, with_pip=False, symlinks=sys.platform != "win32")
    mine = folder / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    paths = {"base": str(folder), "platbase": str(folder)}
    site = Path(sysconfig.get_path("purelib", vars=paths))
    dependencies = sysconfig.get_path("purelib")
    (site / "dependencies.pth").write_text(f"{dependencies}\n")
    source = ROOT
    if request.param == "wheel":  # setuptools writes build/ beside the source, so it builds from a copy
        source = tmp_path_factory.mktemp("source") / "clone"
        listing = subprocess.run(
            ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
        )
        if listing.returncode:
            pytest.skip("a copy of the source needs git")
        for name in filter(lambda name: (ROOT / name).is_file(), listing.stdout.splitlines()):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
    words = ["-m", "pip", "--python", str(mine), "install", "--quiet", "--disable-pip-version-check"]
    words += ["--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed"]
    words += ["--editable", str(source)] if request.param == "editable" else [str(source)]
    done = python(sys.executable, *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    return mine


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    for name, text in CLASHING.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_everything_has_one_import_name(interpreter: Path, workspace: Path) -> None:
    program = (
        "from latent_planner import Agent, envs, planners, configs\n"
        "from pathlib import Path\n"
        "assert envs.make('pusht').reset(seed=0)[0]['pixels'].shape == (64, 64, 3)\n"
        "import gymnasium; gymnasium.make('latent_planner/PushT-v0', image_size=32)\n"
        "assert planners.names() and (configs.FOLDER / 'config.yaml').is_file()\n"
        "from latent_planner.checkpoints import checkpoint; print(*checkpoint.bundled())\n"
    )
    (workspace / "json.py").unlink()  # a program's own folder is searched first: that is Python's rule
    (workspace / "mujoco.py").unlink()
    done = python(interpreter, "-c", program, cwd=workspace)
    assert done.returncode == 0, done.stderr
    assert "pusht" in done.stdout.split()


def test_generic_names_are_not_installed(interpreter: Path, tmp_path: Path) -> None:
    program = "import importlib.util, sys; print(*(n for n in sys.argv[1:] if importlib.util.find_spec(n)))"
    done = python(interpreter, "-c", program, *GENERIC, cwd=tmp_path)
    assert done.stdout.split() == [] and done.returncode == 0, done.stderr


def test_the_console_command_works_from_any_folder(interpreter: Path, workspace: Path) -> None:
    command = interpreter.with_name("latent-planner")
    shown = subprocess.run([command], cwd=workspace, capture_output=True, text=True, timeout=PATIENCE)
    assert shown.returncode == 0 and "from-videos" in shown.stdout
    words = ["collect", "two_room", "room.h5", "--episodes", "3", "--length", "5", "--workers", "2"]
    done = subprocess.run([command, *words], cwd=workspace, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr  # the workers found our code, and not the workspace's
    assert (workspace / "room.h5").is_file()


@pytest.mark.parametrize("words", [["train", "--help"], ["plan", "--help"], ["report", "--help"]])
def test_commands_explain_themselves(interpreter: Path, workspace: Path, words: list[str]) -> None:
    command = interpreter.with_name("latent-planner")
    done = subprocess.run([command, *words], cwd=workspace, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0 and words[0] in done.stdout, done.stderr


def test_the_two_commands_work_in_the_clone(interpreter: Path) -> None:
    for script in ("train.py", "plan.py"):
        done = python(interpreter, script, "--help", cwd=ROOT)
        assert done.returncode == 0 and "pusht" in done.stdout, done.stderr


def test_without_an_installation_the_scripts_say_what_to_do(tmp_path: Path) -> None:
    done = python(sys.executable, "-S", str(ROOT / "train.py"), cwd=tmp_path)
    assert done.returncode == 1 and "pip install -e ." in done.stderr
