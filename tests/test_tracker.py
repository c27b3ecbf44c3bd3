"""wandb may fail as it likes; the run does not notice."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from waiting import PATIENCE

from latent_planner.training.tracker import Tracker


@pytest.fixture(autouse=True)
def no_address(monkeypatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "")  # so that it is as before at the end, whoever sets it
    monkeypatch.delenv("WANDB_BASE_URL")


class Wandb(types.ModuleType):
    """Stands for wandb: says who is logged in, and remembers or refuses what it is given."""

    def __init__(self, *, logged_in: bool = False, broken: str = "") -> None:
        super().__init__("wandb")
        self.logged_in, self.broken = logged_in, broken
        self.started: dict = {}
        self.rows: list = []
        self.finished: int | None = None

    def setup(self, settings):
        self.set_up_in = Path.cwd()
        return types.SimpleNamespace(settings=settings)

    def teardown(self) -> None:
        self.torn_down = True

    def login(self, prompt: bool, verify: bool) -> bool:
        self._fail("login")
        return self.logged_in

    def Settings(self, **values):
        return types.SimpleNamespace(base_url="https://wandb.example", **values)

    def init(self, **values):
        self._fail("init")
        self._fail(f"init {values['mode']}")
        self.started = values
        return self

    def log(self, row, step=None):
        self._fail("log")
        self.rows.append((step, row))

    def Image(self, path):
        return Path(path).read_bytes()

    def Video(self, path, format):
        return format, Path(path).read_bytes()

    def finish(self, exit_code):
        self._fail("finish")
        self.finished = exit_code

    def _fail(self, where: str) -> None:
        if self.broken == where:
            raise RuntimeError(f"no network\nat {where}")


def track(wandb: Wandb, monkeypatch, tmp_path, mode: str = "auto") -> Wandb:
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with Tracker(tmp_path / "pusht-1", mode=mode, project="p", settings={"seed": 1}) as tracker:
        tracker.log({"step": 25, "loss": 1.0})
        tracker.log({"step": 50, "loss": 0.5})
    return wandb


@pytest.mark.parametrize(("logged_in", "mode"), [(True, "online"), (False, "offline")])
def test_auto_is_online_only_for_who_is_logged_in(logged_in, mode, monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    wandb = track(Wandb(logged_in=logged_in), monkeypatch, tmp_path)
    assert wandb.started["mode"] == mode
    assert wandb.started["id"] == wandb.started["name"] == "pusht-1"
    assert wandb.rows == [(25, {"step": 25, "loss": 1.0}), (50, {"step": 50, "loss": 0.5})]
    assert wandb.finished == 0


@pytest.mark.parametrize(("variable", "mode", "started"), [
    ("offline", "auto", "offline"), ("disabled", "auto", None), ("disabled", "offline", "offline"),
    ("online", "disabled", None),
])  # fmt: skip
def test_the_setting_comes_before_the_variable(variable, mode, started, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("WANDB_MODE", variable)
    wandb = track(Wandb(logged_in=True), monkeypatch, tmp_path, mode)
    assert wandb.started.get("mode") == started


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_a_failing_wandb_is_told_of_once(broken, monkeypatch, tmp_path, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        track(Wandb(broken=broken), monkeypatch, tmp_path, "offline")
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(f"wandb is off (no network at {broken})")


@pytest.mark.parametrize(
    ("broken", "mode"), [("login", "auto"), ("init online", "auto"), ("init online", "online")]
)
def test_without_a_network_the_run_is_written_offline(broken, mode, monkeypatch, tmp_path, caplog) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with caplog.at_level(logging.WARNING):
        wandb = track(Wandb(logged_in=True, broken=broken), monkeypatch, tmp_path, mode)
    assert wandb.torn_down and wandb.started["mode"] == "offline" and len(wandb.rows) == 2
    (said,) = caplog.messages
    assert said.startswith("wandb cannot be reached (no network") and "wandb sync" in said


@pytest.mark.parametrize("place", ["wandb", "home/.config/wandb"])
def test_wandbs_address_comes_from_the_environment_alone(place, monkeypatch, tmp_path) -> None:
    """Settings may come with somebody else's files, and could send the key to another address."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / place).mkdir(parents=True)
    (tmp_path / place / "settings").write_text("[default]\nbase_url = http://127.0.0.1:9\n")
    assert str(track(Wandb(), monkeypatch, tmp_path, "offline").set_up_in) != str(tmp_path)
    assert Path.cwd() == tmp_path
    code = (
        "from latent_planner.training.tracker import _own_settings as own; "
        "print(own().setup().settings.base_url, __import__('os').environ['WANDB_BASE_URL'])"
    )
    environment = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    environment["HOME"] = str(tmp_path / "home")
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=PATIENCE
    ).stdout
    assert "127.0.0.1" not in said and said.count("http") == 2


def test_an_interrupted_run_is_marked_as_failed(monkeypatch, tmp_path) -> None:
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with pytest.raises(KeyboardInterrupt):
        with Tracker(tmp_path / "a", mode="offline", project="p", settings={}):
            raise KeyboardInterrupt
    assert wandb.finished == 1


def test_pictures_and_films_are_sent(monkeypatch, tmp_path) -> None:
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with Tracker(tmp_path / "a", mode="offline", project="p", settings={}) as tracker:
        tracker.show({"report/a": (b"chart", "image/png"), "report/b": (b"film", "video/mp4")})
        tracker.show({})
    assert wandb.rows == [(None, {"report/a": b"chart", "report/b": ("mp4", b"film")})]
