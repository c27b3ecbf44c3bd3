"""hf://owner/name: fetched from a small stand-in for the hub, then from the cache without it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from published import weights
from waiting import PATIENCE

from latent_planner import Agent
from latent_planner.checkpoints import checkpoint, hub
from latent_planner.checkpoints.checkpoint import CheckpointError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cached(cache: Path, repo: str, files: dict[str, Path]) -> None:
    """A repository in the hub's cache, as huggingface_hub lays it out."""
    home = cache / f"models--{repo.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    (home / "blobs").mkdir()
    (home / "snapshots" / COMMIT).mkdir(parents=True)
    for name, source in files.items():
        blob = home / "blobs" / hashlib.sha256(source.read_bytes()).hexdigest()
        shutil.copy(source, blob)
        (home / "snapshots" / COMMIT / name).symlink_to(os.path.relpath(blob, home / "snapshots" / COMMIT))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no way to the hub."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_our_own_format_from_the_cache(cache: Path, tiny_checkpoint: Path) -> None:
    cached(cache, "owner/tiny", {path.name: path for path in tiny_checkpoint.iterdir()})
    agent = Agent.from_pretrained("hf://owner/tiny", device="cpu")
    assert agent.config == checkpoint.load(tiny_checkpoint)[0].config
    assert agent.settings.plan_config.num_samples == 16


def test_published_weights_from_the_cache(cache: Path, tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "weights.pt")
    (tmp_path / "config.json").write_text(json.dumps({"encoder": {"size": "tiny"}, "predictor": {}}))
    cached(cache, "owner/lewm-pusht", {name: tmp_path / name for name in ("weights.pt", "config.json")})
    with pytest.raises(CheckpointError, match="give env= and actions="):
        Agent.from_pretrained("hf://owner/lewm-pusht")
    (tmp_path / "stats.json").write_text('{"mean": [0, 0], "std": [0.2, 0.2]}')
    agent = Agent.from_pretrained(
        "hf://owner/lewm-pusht@main", env="pusht", actions=tmp_path / "stats.json", device="cpu"
    )
    assert agent.config.env == "pusht" and agent.settings.plan_config.replan_every == 5
    assert agent.settings.objective == "last"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("hf://owner", "names nothing on the hub: write hf://owner/name"),
        ("hf://a/b/c", "names nothing on the hub"),
        ("hf://owner/../x", "names nothing on the hub"),
        ("hf://owner/absent", "not in the cache.*go online once"),
    ],
)
def test_what_cannot_be_fetched(cache: Path, name: str, sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence) as caught:
        hub.fetch(name)
    assert "\n" not in str(caught.value)


def test_a_repository_without_weights(cache: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    cached(cache, "owner/empty", {"config.json": tmp_path / "config.json"})
    with pytest.raises(CheckpointError, match="holds no weights"):
        hub.fetch("hf://owner/empty")


def test_without_the_extra_its_name_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(CheckpointError, match=r"pip install 'latent-planner\[hub\]'"):
        hub.fetch("hf://owner/name")


def test_a_page_to_play_with_takes_a_model_of_the_hub(
    cache: Path, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("websockets")
    from test_play import Line

    from latent_planner.cli.play import command
    from latent_planner.cli.play.server import running

    shown: list[Any] = []
    monkeypatch.setattr(command, "serve", lambda session, **options: shown.append(session))
    cached(cache, "owner/tiny", {path.name: path for path in tiny_checkpoint.iterdir()})
    assert command.main(["hf://owner/tiny", "--no-browser", "--device", "cpu", "--seed", "0"]) == 0
    with running(shown[0]) as server, Line(server) as line:
        (lane,) = line.until("settings")["lanes"]
        assert lane["checkpoint"] == "hf://owner/tiny" and "--checkpoint hf://owner/tiny" in lane["command"]
        line.send("step")
        assert line.until("frame", lambda frame: frame["step"] == 1)
    assert command.main(["hf://owner/absent", "--no-browser"]) == 2
    told = capsys.readouterr().err
    assert "not in the cache" in told and told.count("\n") == 1


class Hub(BaseHTTPRequestHandler):
    """The few questions that huggingface_hub asks about one public repository, owner/tiny."""

    files: dict[str, bytes] = {}
    asked: list[str] = []

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        type(self).asked.append(f"{self.command} {path}")
        if path in ("/api/models/owner/tiny", "/api/models/owner/tiny/revision/main"):
            names = [{"rfilename": name} for name in [*self.files, "README.md", "evil.bin"]]
            self._send(json.dumps({"id": "owner/tiny", "sha": COMMIT, "siblings": names}).encode(), body)
            return
        if path == f"/api/models/owner/tiny/tree/{COMMIT}":
            extra = {"README.md": b"x", "evil.bin": b"y"}
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in {**self.files, **extra}.items()
            ]
            self._send(json.dumps(tree).encode(), body)
            return
        name = path.removeprefix(f"/owner/tiny/resolve/{COMMIT}/")
        if name in self.files:
            self._send(self.files[name], body)
            return
        self.send_response(404)
        self.send_header("X-Error-Code", "RepoNotFound" if "owner/tiny" not in path else "EntryNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send(self, data: bytes, body: bool) -> None:
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if body:
            self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tiny_checkpoint: Path) -> Iterator[str]:
    Hub.files = {path.name: path.read_bytes() for path in tiny_checkpoint.iterdir()}
    Hub.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


FETCH = """
import sys
from latent_planner.checkpoints import hub
from latent_planner.checkpoints.checkpoint import CheckpointError
for name in sys.argv[1:]:
    try:
        print(hub.fetch(name))
    except CheckpointError as error:
        print(error)
"""


def test_from_the_hub_once_and_offline_ever_after(
    server: str, tmp_path: Path, root: Path, tiny_checkpoint: Path
) -> None:
    def fetch(*names: str, offline: bool) -> list[str]:
        switches = {
            "HF_HUB_OFFLINE": str(int(offline)),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_XET": "1",
        }
        places = {"HF_ENDPOINT": server, "HF_HOME": str(tmp_path), "HF_HUB_CACHE": str(tmp_path / "hub")}
        done = subprocess.run(
            [sys.executable, "-c", FETCH, *names],
            env={**os.environ, **switches, **places},
            cwd=root,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    folder, missing = fetch("hf://owner/tiny", "hf://owner/nobody", offline=False)
    assert sorted(os.listdir(folder)) == [
        "config.json",
        "model.safetensors",
    ]  # and nothing else of the repository
    assert "There is no hf://owner/nobody on the hub" in missing
    assert checkpoint.load(folder)[0].config == checkpoint.load(tiny_checkpoint)[0].config
    questions = len(Hub.asked)
    assert fetch("hf://owner/tiny", offline=True) == [folder]
    assert len(Hub.asked) == questions
