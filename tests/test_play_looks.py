"""What the page looks like with two models side by side, and whether colours alone say anything."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import browser
import drive
import pytest
from test_play import Line
from test_play_page import READY

from latent_planner.checkpoints import checkpoint
from latent_planner.cli.play import command
from latent_planner.cli.play.server import PageServer, running

pytest.importorskip("websockets")
NEEDS_BROWSER = pytest.mark.skipif(
    browser.find() is None, reason="no browser here; on Debian: apt-get install chromium"
)
pytestmark = pytest.mark.usefixtures("one_thread")
QUICK = ["planner.num_samples=32", "planner.num_elites=4", "planner.iterations=2"]
SHAPES = """Object.fromEntries([...document.querySelectorAll('#chart [class]:not(.grid)')].map(each => {
  const { strokeDasharray } = getComputedStyle(each);
  return [each.getAttribute('class'), each.tagName + (each.tagName === 'polyline' ? strokeDasharray : '')];
}))"""
KEYS = """[...document.querySelectorAll('.key span:not([hidden])')].map(each => {
  const { borderTopStyle, borderRadius } = getComputedStyle(each, '::before');
  return borderTopStyle + ' ' + borderRadius;
})"""
COLOURS = """['actual', 'expected', 'second', 'tried', 'bad', 'soft'].map(name =>
  getComputedStyle(document.documentElement).getPropertyValue('--' + name))"""
CARD = "getComputedStyle(document.documentElement).getPropertyValue('--card')"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A run folder with another model of TwoRoom, which plans in its own way."""
    world_model, info = checkpoint.load("two_room")
    planner = {**info["planner"], "name": "mppi", "num_samples": 24, "num_elites": 3, "iterations": 2}
    return checkpoint.save(world_model, tmp_path / "runs" / "mine", planner=planner)


@pytest.fixture
def side_by_side(mine: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PageServer]:
    """The page of `latent-planner play two_room runs/mine`."""
    shown: list[Any] = []
    monkeypatch.setattr(command, "serve", lambda session, **options: shown.append(session))
    words = ["two_room", str(mine), *QUICK, "--no-browser", "--device", "cpu", "--seed", "0"]
    assert command.main(words) == 0
    with running(shown[0]) as server:
        yield server


def test_two_checkpoints_begin_alike_and_plan_as_each_of_them_says(
    side_by_side: PageServer, mine: Path
) -> None:
    with Line(side_by_side) as line:
        lanes = line.until("settings", lambda now: len(now["lanes"]) == 2)["lanes"]
        assert [lane["checkpoint"] for lane in lanes] == ["two_room", str(mine)]
        assert [lane["planner"] for lane in lanes] == ["cem", "mppi"]
        assert f"--checkpoint {mine}" in lanes[1]["command"] and repr(str(mine)) in lanes[1]["python"]
        starts: dict[int, dict[str, Any]] = {}
        line.send("again")
        while len(starts) < 2:
            frame = line.until("frame", lambda frame: frame["step"] == 0)
            starts[frame["lane"]] = frame
        assert starts[0]["places"] == starts[1]["places"]


def test_a_checkpoint_of_another_world_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["two_room", "pusht", "--no-browser"]) == 2
    assert "pusht is a model of pusht, not of two_room" in capsys.readouterr().err


@NEEDS_BROWSER
def test_two_models_fit_and_no_line_is_known_by_its_colour_alone(
    side_by_side: PageServer, mine: Path, tmp_path: Path
) -> None:
    with drive.tab(side_by_side.address, tmp_path / "profile", width=390, dark=True) as page:
        page.until(f"{READY} && !document.querySelector('#other').hidden")
        for select, name in (("#checkpoint", "two_room"), ("#checkpoint-2", str(mine))):
            page.until(f"document.querySelector('{select}').selectedOptions[0]?.text === {json.dumps(name)}")
        page.ask("document.querySelector('#run').click()")
        page.until(f"Object.keys({SHAPES}).length === 6")
        shapes = page.ask(SHAPES)
        assert len(set(shapes.values())) == len(shapes), shapes
        keys = page.ask(KEYS)
        assert len(set(keys)) == len(keys) == 4, keys
        for width, dark in ((390, True), (390, False), (1440, False), (1440, True)):
            page.size(width, 900, dark)
            assert page.ask("document.documentElement.scrollWidth - window.innerWidth") <= 0
            card = brightness(page.ask(CARD))
            for colour in page.ask(COLOURS):
                light, low = sorted((brightness(colour), card), reverse=True)
                assert (light + 0.05) / (low + 0.05) >= 3, (colour, dark)  # seen by its brightness, too
        assert page.errors() == []


def brightness(colour: str) -> float:
    """Relative luminance of #rgb or #rrggbb, 0 to 1."""
    digits = colour.strip().removeprefix("#")
    assert re.fullmatch("[0-9a-f]{3}|[0-9a-f]{6}", digits), colour
    digits = "".join(2 * each for each in digits) if len(digits) == 3 else digits
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
