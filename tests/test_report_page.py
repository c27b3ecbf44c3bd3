"""The page: one file that asks for nothing, and looks right in a real browser, wide, narrow and dark."""

from __future__ import annotations

import io
import json
import re
from dataclasses import dataclass
from pathlib import Path

import browser
import numpy as np
import pytest
from PIL import Image

from latent_planner.report import Film, ReportError, Result, Section, Shown, Skipped, Table, charts, page
from latent_planner.report.build import Report, _entry
from latent_planner.report.registry import check

ABOUT = {
    "checkpoint": "runs/<mine> & yours", "env": "known", "recording": "some episodes", "sha256": "0123456789",
    "date": "2026-01-01T00:00:00Z", "command": "latent-planner report RUN", "versions": {"python": "3"},
    "machine": {"cpu": "some", "cores": 2, "gpu": None, "system": "Linux"},
}  # fmt: skip
PIXELS = np.arange(24 * 24 * 3, dtype=np.uint8).reshape(24, 24, 3)


@dataclass(frozen=True)
class Found(Result):
    values: np.ndarray


def draw(found: Found) -> list[Shown]:
    figure, axis = charts.chart("across", "up")
    axis.plot([0, 1, 2], found.values, "o-", color=charts.BLUE, label="one")
    charts.legend(axis)
    several, axis = charts.chart("share", "")
    charts.bars(axis, ["this", "that"], {"linear": [0.5, 1], "MLP": [0.7, 1]})
    strip = charts.strip([[PIXELS] * 9, [PIXELS] * 9], ["seen", "imagined"], [str(i) for i in range(9)])
    frames = [np.roll(PIXELS, shift, 0) for shift in range(5)]
    rows = [["one", "0.999", "0.5", "0.25", "a rather long text", "0.125"]]
    return [
        Shown("A chart", "A caption.", figure),
        Shown("Bars", "A caption.", several),
        Shown("A strip", "A caption.", strip, wide=True),
        Shown("A picture", "A caption.", PIXELS),
        Shown("A film", "A caption.", Film(frames)),
        Shown("A table", "A caption.", Table(["name", *"abcde"], rows)),
    ]


def skips(_: object) -> Found:
    raise Skipped("the recording holds no state")


def breaks(_: object) -> Found:
    raise RuntimeError("a mistake <of ours>")


def section(name: str, run) -> Section:
    return Section(name, name.title(), "What it measures, and what is good.", run, draw)


def found(good: bool):
    return lambda _: Found(good, "Some finding, with 3 figures.", np.array([1.0, np.nan, 2.0]))


@pytest.fixture(scope="module")
def report() -> Report:
    sections = [section("planning", found(True)), section("imagination", found(False))]
    sections += [section("probes", skips), section("health", breaks)]
    return Report(ABOUT, [_entry(each, None) for each in sections])  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def written(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return report.write(tmp_path_factory.mktemp("report") / "new")[0]


def test_verdicts_and_reasons(report: Report) -> None:
    assert [entry.verdict for entry in report.entries] == ["good", "poor", "skipped", "broken"]
    assert report.entries[2].sentence == "Not measured: the recording holds no state."
    assert "RuntimeError" in report.entries[3].sentence


def test_every_number_is_in_the_json(written: Path) -> None:
    told = json.loads((written.parent / "report.json").read_text())
    assert told["sections"]["planning"]["values"] == [1, None, 2]
    assert told["sections"]["planning"]["verdict"] == "good" and told["checkpoint"] == ABOUT["checkpoint"]
    assert sorted(path.name for path in written.parent.iterdir()) == ["report.html", "report.json"]


def test_the_page_is_one_file(written: Path) -> None:
    text = written.read_text(encoding="utf-8")
    addresses = re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')>\s]+)", text)
    assert all(address.startswith(("data:", "#")) for address in addresses), addresses
    assert "<script" not in text and "runs/&lt;mine&gt; &amp; yours" in text and "&lt;of ours&gt;" in text
    for shown in ("A chart", "A strip", "A picture", "A film", "A table"):
        assert text.count(f"<b>{shown}</b>") == 2  # in both sections that found something
    assert "var(--ink)" in text and charts.INK not in text.split("</style>")[1]


def test_a_film_plays_and_a_chart_is_a_picture_too(report: Report) -> None:
    shown = {each.title: each for each in report.entries[0].shown}
    data, kind = page.film(shown["A film"].content)
    assert kind == "video/mp4" and data[4:8] == b"ftyp"
    assert Image.open(io.BytesIO(page.png(shown["A chart"].content))).width > 300


def test_unknown_sections_are_named() -> None:
    with pytest.raises(ReportError, match="Did you mean 'probes'"):
        check("probe")


@pytest.mark.skipif(browser.find() is None, reason="no browser here; on Debian: apt-get install chromium")
@pytest.mark.parametrize("width, dark", [(1280, False), (390, True)])
def test_a_browser_shows_it(written: Path, tmp_path: Path, width: int, dark: bool) -> None:
    ask = (
        "getComputedStyle(document.body).backgroundColor",
        "[...document.images].every(image => image.naturalWidth > 0)",
        "document.querySelector('section svg').getBoundingClientRect().width",
        "new Promise(done => { const film = document.querySelector('video'); film.load();"
        " film.onloadeddata = () => done(film.videoWidth); film.onerror = () => done('cannot be played') })",
    )
    seen = browser.look(written, tmp_path, width=width, dark=dark, ask=ask)
    assert seen.errors == [] and seen.requests == []
    assert seen.wide <= 0, "the page must be pushed sideways"
    ground, pictures, chart, film = seen.values
    assert (sum(map(int, re.findall(r"\d+", ground)[:3])) < 150) == dark
    assert pictures and chart > 250 and film == 24
    assert Image.open(io.BytesIO(seen.picture)).width == width
