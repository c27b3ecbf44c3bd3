"""Files are written whole, by one process, and never through a link that somebody has planted."""

from __future__ import annotations

import ast
import json
import logging
import os
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny_run import losses, tiny_trainer
from waiting import until

from latent_planner.checkpoints import checkpoint, lewm
from latent_planner.cli import plan, report, train
from latent_planner.common import files
from latent_planner.deploy import serve
from latent_planner.envs.recordings.action_table import read_table
from latent_planner.envs.recordings.episodes import EpisodeWriter
from latent_planner.envs.recordings.journal import RecordingError
from latent_planner.evaluation import provenance, reachability
from latent_planner.training.run_state import TrainingError, alone_in
from latent_planner.training.tracker import Tracker

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = Path(__file__).with_name("tiny_run.py")
posix = pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")


@pytest.fixture
def precious(tmp_path: Path) -> Path:
    """A file of the user's that links point to."""
    path = tmp_path / "home" / "precious.txt"
    path.parent.mkdir()
    path.write_text("mine")
    return path


class TestTheWriter:
    def test_a_file_appears_whole_with_the_rights_of_any_other(self, tmp_path: Path) -> None:
        before = os.umask(0o027)
        try:
            files.write_text(tmp_path / "a.txt", "ä")
        finally:
            os.umask(before)
        assert (tmp_path / "a.txt").read_bytes() == "ä".encode()
        if os.name == "posix":
            assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
        with pytest.raises(RuntimeError), files.beside(tmp_path / "a.txt") as temporary:
            temporary.write_text("half")
            raise RuntimeError
        assert (tmp_path / "a.txt").read_bytes() == "ä".encode() and os.listdir(tmp_path) == ["a.txt"]

    @posix
    def test_file_and_folder_reach_the_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        seen, fsync = [], os.fsync

        def remember(file: int) -> None:
            seen.append(stat.S_ISDIR(os.fstat(file).st_mode))
            fsync(file)

        monkeypatch.setattr(os, "fsync", remember)
        files.write_bytes(tmp_path / "a", b"1")
        assert seen == [False, True]

    @posix
    def test_links_are_replaced_or_refused(self, tmp_path: Path, precious: Path) -> None:
        link, dangling = tmp_path / "link", tmp_path / "dangling"
        link.symlink_to(precious)
        dangling.symlink_to(precious.with_name("new.txt"))
        for name in (link, dangling):
            with pytest.raises(OSError, match="is a link, through which nothing is written"):
                files.append_line(name, "bad")
            files.write_text(name, "good")
            assert not name.is_symlink() and name.read_text() == "good"
        assert precious.read_text() == "mine" and os.listdir(precious.parent) == ["precious.txt"]

    def test_systems_without_nofollow_look_first(
        self, tmp_path: Path, precious: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(files, "_NO_LINK", 0)
        monkeypatch.setattr(files, "_NO_WAIT", 0)
        files.append_line(tmp_path / "rows", "1")
        assert (tmp_path / "rows").read_text() == "1\n"
        if os.name == "posix":
            (tmp_path / "link").symlink_to(precious)
            with pytest.raises(OSError, match="is a link"):
                files.append_line(tmp_path / "link", "bad")

    @posix
    def test_names_cannot_be_guessed_and_what_lies_there_is_not_opened(
        self, tmp_path: Path, precious: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in (os.getpid(), "known"):
            (tmp_path / f"a.tmp-{number}").symlink_to(precious)
        files.write_text(tmp_path / "a", "1")
        monkeypatch.setattr(files.secrets, "token_hex", lambda count: "known")
        with pytest.raises(FileExistsError):
            files.write_text(tmp_path / "a", "2")
        assert (tmp_path / "a").read_text() == "1" and precious.read_text() == "mine"

    @posix
    def test_pipes_do_not_hang(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for call in (files.read_bytes, lambda path: files.append_line(path, "1")):
            with pytest.raises(OSError, match="is not a regular file"):
                call(tmp_path / "pipe")
        (tmp_path / "large").write_bytes(b"12345")
        with pytest.raises(OSError, match="larger than"):
            files.read_bytes(tmp_path / "large", 4)

    def test_nothing_else_in_the_program_writes_files(self) -> None:
        """Calls that write stand inside `with beside`."""
        found = []
        for room in ("agent", "envs", "planners", "cli", "configs", "common"):
            for path in (ROOT / room).rglob("*.py"):
                tree = ast.parse(path.read_text(encoding="utf-8"))
                inside = {
                    id(node)
                    for block in ast.walk(tree)
                    if isinstance(block, ast.With) and any("beside(" in ast.unparse(i) for i in block.items)
                    for node in ast.walk(block)
                }
                place = path.relative_to(ROOT).as_posix()
                found += [
                    f"{place}: {ast.unparse(node)[:60]}"
                    for node in ast.walk(tree)
                    if isinstance(node, ast.Call) and id(node) not in inside and writes(node)
                ]
        allowed = (
            "common/files.py",  # the writer itself
            "agent/training/tracker.py: path.write_bytes(data)",  # in a temporary folder
            "agent/evaluation/video.py: av.open(str(path), mode='w'",  # called inside `with beside`
        )
        assert [line for line in found if not line.startswith(allowed)] == []


def writes(call: ast.Call) -> bool:
    """Whether this is open(…, "w"), path.write_text(…) or the like."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if isinstance(call.func, ast.Attribute) and name in ("write_text", "write_bytes"):
        return True
    if name != "open":
        return False
    words = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
    return any(
        isinstance(word, ast.Constant) and isinstance(word.value, str) and word.value[:1] in ("w", "a", "x")
        and set(word.value) <= set("wabxt+")
        for word in words
    )  # fmt: skip


@posix
class TestHandedFolders:
    """Links of every kind in a run that somebody else has packed."""

    @pytest.mark.parametrize("name", ["metrics.jsonl", "state.safetensors", "config.json", "wandb", ".lock"])
    @pytest.mark.parametrize("there", [True, False])
    def test_a_run_with_links_is_refused(
        self, tmp_path: Path, precious: Path, name: str, there: bool
    ) -> None:
        target = precious if there else precious.with_name("new.txt")
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / name).symlink_to(target)
        with pytest.raises(TrainingError, match=f"{name}: is a link, through which nothing is written"):
            tiny_trainer(tmp_path / "run", steps=1).fit()
        assert precious.read_text() == "mine" and os.listdir(precious.parent) == ["precious.txt"]

    def test_planted_temporary_names_do_no_harm(
        self, tiny_checkpoint: Path, tmp_path: Path, precious: Path
    ) -> None:
        folder = shutil.copytree(tiny_checkpoint, tmp_path / "run")
        for name in ("model.safetensors", "config.json", "config.next.json"):
            (folder / f"{name}.tmp-{os.getpid()}").symlink_to(precious)
        (folder / "config.next.json").symlink_to(precious)
        checkpoint.save(checkpoint.load(folder)[0], folder)
        assert precious.read_text() == "mine" and not (folder / "config.json").is_symlink()

    def test_wandb_is_off_where_its_folder_holds_links(
        self, tmp_path: Path, precious: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        run = tmp_path / "wandb" / "run-20260101_000000-x"
        run.mkdir(parents=True)
        (run.parent / "latest-run").symlink_to(run)
        (run / "files").symlink_to(precious.parent)
        with (
            caplog.at_level(logging.WARNING),
            Tracker(tmp_path, mode="offline", project="p", settings={}) as it,
        ):
            assert it.run is None
        assert "wandb is off" in caplog.text and "is a link" in caplog.text
        assert os.listdir(precious.parent) == ["precious.txt"]

    def test_an_unfinished_recording_is_no_link(self, tmp_path: Path, precious: Path) -> None:
        (tmp_path / "a.h5.partial").symlink_to(precious)
        with pytest.raises(RecordingError, match="is a link"):
            EpisodeWriter(tmp_path / "a.h5", attrs={"env": "x"})
        assert precious.read_text() == "mine"

    def test_a_finished_recording_replaces_a_link(self, tmp_path: Path, precious: Path) -> None:
        (tmp_path / "a.h5").symlink_to(precious.with_name("new.h5"))
        with EpisodeWriter(tmp_path / "a.h5", attrs={"env": "x"}) as writer:
            writer.append(
                {"pixels": np.zeros((2, 8, 8, 3), np.uint8), "action": np.zeros((2, 1), np.float32)}
            )
        assert not (tmp_path / "a.h5").is_symlink() and os.listdir(precious.parent) == ["precious.txt"]


def test_a_report_names_no_folders_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["/home/me/program/plan.py", "--out=/tmp/x y/z", "data.path=/a/b.h5", "~/runs/a", "C:\\me\\c.h5"]
    monkeypatch.setattr(sys, "argv", [*words, "../../me/d.h5", "runs/e", "hf://owner/name", "gym:A/B-v0"])
    told = shlex.split(provenance.command())
    assert told[1:] == ["plan.py", "--out=z", "data.path=b.h5", "a", "c.h5", "d.h5", *sys.argv[-3:]]
    text = "KeyError: /home/me/x.h5: no file, and 3 / 4 of runs/a"
    assert provenance.without_folders(text) == "KeyError: x.h5: no file, and 3 / 4 of runs/a"


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[1]", '{"threshold": 1' + "0" * 400 + ', "sha256": "x"}', "\xff"]
)
def test_a_damaged_threshold_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / reachability.FILE).write_text(text, encoding="latin-1")
    assert reachability.load(tmp_path, "x") is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_no_command_waits_for_a_pipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for command, words in (
        (plan, ["--goal", pipe]),
        (plan, ["--goal", pipe, "--checkpoint", pipe]),
        (plan, ["--make-goal", pipe]),
        (report, [pipe]),
        (report, ["pusht", "--recording", pipe, "--out", tmp_path / "report"]),
        (train, ["env=recorded", f"data.path={pipe}"]),
        (lewm, [pipe, "--env", "pusht", "--actions", pipe, "--out", tmp_path / "out"]),
        (serve, ["pusht", "--api-key-file", pipe]),
    ):
        assert command.main([str(word) for word in words]) == 2
        assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")
    with pytest.raises(RecordingError, match="is not a regular file"):
        read_table(pipe)


class TestOneRunAFolder:
    def test_a_second_process_is_refused_until_the_first_is_gone(self, tmp_path: Path) -> None:
        run, options = tmp_path / "run", {"steps": 100000, "save_every_minutes": 1e-6}
        process = subprocess.Popen([sys.executable, str(SCRIPT), str(run), json.dumps(options)])
        try:
            until((run / "state.safetensors").exists, process)
            with pytest.raises(TrainingError, match="another process is training in .*choose another folder"):
                tiny_trainer(run, steps=4).fit()
            process.send_signal(signal.SIGKILL if os.name == "posix" else signal.SIGTERM)
            process.wait()
        finally:
            process.kill()
            process.wait()
        for name in ("model.safetensors", "state.safetensors", "metrics.jsonl", "config.json"):
            (run / f"{name}.tmp-123").write_text("cut off")
        tiny_trainer(run, steps=1).fit()
        assert not [name for name in os.listdir(run) if ".tmp-" in name]
        steps = [row[0] for row in losses(run)]
        assert steps == list(range(1, len(steps) + 1))

    def test_the_process_that_holds_it_may_enter_again(self, tmp_path: Path) -> None:
        with alone_in(tmp_path):
            with alone_in(tmp_path):
                pass
            tiny_trainer(tmp_path, steps=1).fit()
            code = "from pathlib import Path\nfrom latent_planner.training.run_state import alone_in\n"
            code += f"with alone_in(Path({str(tmp_path)!r})): pass"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
            assert "another process is training" in done.stderr
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0
