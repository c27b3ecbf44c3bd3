"""The pictures of a run, whatever its metrics hold."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from latent_planner.evaluation import plots
from latent_planner.report import charts, page
from latent_planner.training.run_state import MetricsFile

LOSS = {"prediction": 0.3, "held_out": 0.4, "sigreg": 2.0, "effective_rank": 9.0}
PROBE = {
    f"probe/{name}/{kind}": value
    for name, value in (("block_x", 0.9), ("block_angle_sin", -3.0))
    for kind in ("linear_r2", "linear_r", "mlp_r2", "mlp_r")
}
TESTED = {"step": 50, "success": 0.5, "success_low": 0.3, "success_high": 0.7, **PROBE}
BENCHMARK = {"success": 0.6, "interval": [0.5, 0.7], "floors": {"random": {"success": 0.1}}}


def inked(path: Path) -> float:
    """Share of the picture that is not white."""
    pixels = np.asarray(Image.open(path).convert("L"))
    return float((pixels < 250).mean())


@pytest.mark.parametrize(
    "rows",
    [[], [{"step": 25, **LOSS}], [{"step": 25, **LOSS}, {"step": 50, **LOSS}, TESTED], [TESTED]],
    ids=["nothing", "one row", "all", "tests only"],
)
@pytest.mark.parametrize("benchmark", [None, BENCHMARK])
def test_pictures_of_any_run(rows, benchmark, tmp_path) -> None:
    planned = benchmark is not None or TESTED in rows  # else the chart would be empty, and is not written
    loss = plots.plot_loss(rows, tmp_path / "loss.png")
    success = plots.plot_success(rows, tmp_path / "success.png", benchmark)
    assert (success is not None) is planned
    for path in [loss] + [success] * planned:
        assert 0.005 < inked(path) < 0.5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loss.png", "success.png"][: 1 + planned]


def test_a_row_cut_off_in_writing_is_left_out(tmp_path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text(json.dumps({"step": 25, **LOSS}) + "\n" + '{"step": 50, "pre')
    assert [row["step"] for row in plots.read_rows(path)] == [25]
    assert plots.read_rows(tmp_path / "absent.jsonl") == []


@pytest.mark.parametrize("value", ['"x"', "null", "[0.5]", "{}", "NaN", "Infinity", "1" + "0" * 400])
def test_what_is_no_number_is_not_drawn(value: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    names = ("prediction", "held_out", "sigreg", "effective_rank", "success", "probe/x/linear_r2")
    damaged = ", ".join(f'"{name}": {value}' for name in names)
    path.write_text(f'{json.dumps(TESTED)}\n{{"step": 99, {damaged}}}\n{{"step": {value}}}\n')
    rows = plots.read_rows(path)
    assert rows[1:] == [{"step": 99}]
    plots.plot_loss(rows, tmp_path / "loss.png")
    plots.plot_success(rows, tmp_path / "success.png")


def test_intervals_are_drawn_where_both_ends_are_there(tmp_path: Path) -> None:
    rows = [TESTED, {"step": 98, "success": 0.5, "success_low": 0.4}, {"step": 99, "success": 0.5}]
    assert plots.plot_success(rows, tmp_path / "success.png").is_file()


def test_probes_are_those_of_the_last_row_that_has_any() -> None:
    later = {"step": 75, "probe/block_x/linear_r": 0.99}
    assert plots.probes([TESTED, later, {"step": 80, **LOSS}]) == {"block_x": {"linear_r": 0.99}}
    assert set(plots.probes([TESTED])) == {"block_x", "block_angle_sin"}
    assert plots.probes([]) == {}


@pytest.mark.parametrize("name", ["a/b", "$^$", "cost in $ and $", "$\\badcmd$", "x_y", "{", "\\", "é"])
def test_names_are_drawn_as_they_stand(name: str, tmp_path: Path) -> None:
    scores = {f"probe/{name}/{kind}": 0.5 for kind in ("linear_r2", "linear_r", "mlp_r2", "mlp_r")}
    rows = [{"step": 5, **LOSS}, {"step": 9, **scores}]
    assert plots.probes(rows) == {name: {kind.rpartition("/")[2]: 0.5 for kind in scores}}
    assert inked(plots.plot_loss(rows, tmp_path / "loss.png")) > 0.005
    figure, axis = charts.chart(name, name)
    charts.bars(axis, [name, "y"], {name: [1.0, 2.0], "other": [2.0, 1.0]})
    axis.set_title(name)
    assert page.png(figure) and page.svg(figure).count(html.escape(name, quote=False)) >= 4


def test_ticks_of_logarithmic_axes_stay_numbers() -> None:
    figure, axis = charts.chart("steps", "$ lost")
    axis.plot([1, 2, 3], [1e-3, 1, 1e4])
    axis.set_yscale("log")
    drawn = re.sub("<!--.*?-->", "", page.svg(figure))
    assert "mathdefault" not in drawn and "$ lost" in drawn


def test_lines_of_metrics_that_are_none_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'[1, 2]\n{"step": "x"}\n{"loss": 1}\n{"step": 3}\n\xff\xfe\n5\n' + b"[" * 9999 + b"\n")
    assert plots.read_rows(path) == [{"step": 3}]
    metrics = MetricsFile(path)
    metrics.keep_until(3)
    metrics.append({"step": 4})
    assert plots.read_rows(path) == [{"step": 3}, {"step": 4}]
