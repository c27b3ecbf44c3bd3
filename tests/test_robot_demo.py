"""examples/robot_demo.py: its camera, its time, and a run with tiny settings through thread and server."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from latent_planner import Agent

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
WHITE = np.full((8, 8, 3), 255, np.uint8)


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("robot_demo")


def test_the_camera_is_late_noisy_and_drops_frames(demo: Any) -> None:
    camera = demo.Camera(latency=0.25, noise=5.0, drop=0.4, seed=1)
    got: list[tuple[float, float]] = []
    for tick in range(400):
        now = tick / 10
        camera.take(np.full((8, 8, 3), 100, np.uint8), now)
        for pixels, taken in camera.arrived(now):
            assert pixels.dtype == np.uint8 and 3 < pixels.std() < 7
            got.append((taken, now))
    taken, arrived = np.array(got).T
    assert 200 < len(got) < 280 and (np.diff(taken) > 0).all()
    np.testing.assert_allclose(arrived - taken, 0.3)  # seen at the first tick after 0.25 s

    perfect = demo.Camera()
    perfect.take(WHITE, 1.0)
    (pixels, taken_at), *others = perfect.arrived(1.0)
    assert np.array_equal(pixels, WHITE) and taken_at == 1.0 and not others and not perfect.arrived(2.0)


class Counter:
    """An environment of 100 steps that is solved when actions add up to 1, and a planner that knows how."""

    def __init__(self) -> None:
        self.action_space = self
        self.shape, self.replans = (1,), 0

    def reset(self, options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        self.at = 0.0
        return {"pixels": WHITE}, {"goal": WHITE}

    def step(self, action: np.ndarray) -> tuple[Any, ...]:
        self.at += float(action[0])
        return {"pixels": WHITE}, 0.0, False, False, {"success": self.at > 0.999}

    def set_goal(self, *_: Any, **__: Any) -> None:
        pass

    def replan(self, pixels: np.ndarray, **_: Any) -> Any:
        self.replans += 1

        class Plan:
            actions = np.full((10, 1), 0.1, np.float32)

        return Plan


def test_a_plan_takes_its_time_of_the_simulated_clock(demo: Any) -> None:
    world = Counter()
    clock = demo.SimulatedTime(plan_seconds=0.25)
    outcome = demo.drive(world, world, {}, demo.Camera(latency=0.1), clock, budget=30, hz=10.0)
    assert outcome.success and outcome.steps == 10 and outcome.safe == 0
    # taken at 0, here at 0.1, planned at 0.35: the first action comes at 0.4 from a plan as old
    assert outcome.ages[0] == pytest.approx(0.4)
    assert max(outcome.ages) == pytest.approx(0.6)  # the next: taken at 0.3, planned at 0.7
    assert outcome.plans in (world.replans - 1, world.replans)  # the last may have been under way


def test_without_delays_every_action_is_of_the_newest_frame(demo: Any) -> None:
    world = Counter()
    outcome = demo.drive(world, world, {}, demo.Camera(), demo.SimulatedTime(0.0), budget=30, hz=10.0)
    assert outcome.success and set(outcome.ages) == {0.0} and outcome.plans == 10


def test_on_the_wall_clock_the_loop_keeps_its_rate(demo: Any) -> None:
    world = Counter()
    outcome = demo.drive(world, world, {}, demo.Camera(), demo.WallTime(), budget=3000, hz=100.0)
    assert outcome.success and outcome.steps >= 10


def test_a_planner_that_fails_ends_the_demo_with_its_reason(demo: Any) -> None:
    world = Counter()
    world.replan = lambda pixels, **_: 1 / 0  # type: ignore[method-assign, assignment]
    with pytest.raises(demo.ServerError, match="ZeroDivisionError"):
        demo.drive(world, world, {}, demo.Camera(), demo.SimulatedTime(0.1), budget=30, hz=10.0)


def test_thread_and_server_do_the_same_and_the_table_is_written(
    demo: Any, tiny_checkpoint: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    found: dict[str, Any] = {}
    draw = demo.draw
    monkeypatch.setattr(demo, "draw", lambda path, ways: (found.update(ways), draw(path, ways)))
    words = ["--checkpoint", str(tiny_checkpoint), "--goals", "1", "--budget", "4", "--quiet"]
    assert demo.main([*words, "--out", str(tmp_path / "out")]) == 0
    told = json.loads((tmp_path / "out" / "result.json").read_text())
    assert list(told["ways"]) == list(demo.WAYS) and told["settings"]["latency"] == 0.1
    thread, server = (found[name][0] for name in ("thread", "server"))
    assert thread.ages == server.ages and thread.steps == server.steps == 4
    perfect = found["thread, perfect camera"][0]
    assert np.median(perfect.ages) < np.median(thread.ages)
    assert (tmp_path / "out" / "robot-demo.png").stat().st_size > 5000
    assert "server" in capsys.readouterr().out
    agent = Agent.from_pretrained(tiny_checkpoint)
    assert agent.config.control_hz is None  # so it ran at 10 Hz


@pytest.mark.parametrize(
    "words", [["--drop", "1"], ["--goals", "0"], ["--latency", "-1"], ["--noise", "nan"]]
)
def test_settings_that_make_no_sense_are_refused(demo: Any, words: list[str], capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        demo.main(words)
    assert ended.value.code == 2 and words[0] in capsys.readouterr().err


def test_a_checkpoint_that_is_not_there_is_one_sentence(demo: Any, tmp_path: Path, capsys: Any) -> None:
    assert demo.main(["--checkpoint", "nowhere", "--out", str(tmp_path), "--quiet"]) == 2
    assert capsys.readouterr().err.startswith("error: There is no checkpoint 'nowhere'")
