"""plan.py --explain: a picture of how plans came about."""

from __future__ import annotations

import types

import numpy as np
import pytest
from PIL import Image

from latent_planner.cli import plan
from latent_planner.envs.recordings.samples import sample_frames
from latent_planner.evaluation import explain
from latent_planner.evaluation.attempt import Attempt
from latent_planner.planners import Plan


def test_frames_come_from_a_recording_or_are_recorded_on_the_spot(two_room_recording):
    some = sample_frames("two_room", 30, 64, two_room_recording)
    assert some.shape == (30, 64, 64, 3) and some.dtype == np.uint8
    assert np.array_equal(some, sample_frames("two_room", 30, 64, two_room_recording))
    assert sample_frames("two_room", 120, 32, progress=False).shape == (120, 32, 32, 3)


def test_the_nearest_frame_is_shown_for_a_latent():
    frames = np.arange(3, dtype=np.uint8)[:, None, None, None].repeat(3, -1)
    library = explain.Library(frames, np.array([[0.0, 0.0], [3.0, 4.0], [9.0, 9.0]]))
    frame, off = library.nearest(np.array([3.0, 3.0]))
    assert frame.max() == 1 and off == 1.0


@pytest.mark.parametrize("count", [1, 2, 9])
def test_the_picture_has_a_strip_for_up_to_three_plans(count, tmp_path, monkeypatch):
    class Model:
        training = False

        def encode(self, pixels):
            return pixels.float().mean((2, 3, 4))[:, :, None].expand(-1, -1, 2)

    class Agent:
        world_model, device = Model(), "cpu"

        class config:
            frameskip = 5

    played = Attempt(budget=50, judged=True)
    played.states, played.distances = [np.zeros(2)] * (5 * count + 1), [1.0] * (5 * count + 1)
    one = Plan(
        np.zeros((10, 2)), 1.0, 4, 0.1, np.array([9.0, 4.0, 2.0, 1.0]), np.array([9.0, 5.0, 3.0, 2.0]),
        {"encode": 0.001, "cost": 0.01}, np.zeros((3, 2)),
    )  # fmt: skip
    played.plans = [(5 * i, one) for i in range(count)]
    frame = np.full((16, 16, 3), 200, np.uint8)
    library = explain.Library.of(Agent(), np.stack([frame] * 4))
    path = explain.write_explanation(
        tmp_path / "explain.png", Agent(), played, library, frame, render=lambda state: frame
    )
    with Image.open(path) as picture:
        height = picture.size[1]
    assert height == round(120 * (3.2 + 3.3 * min(count, 3)))


def test_the_last_strip_ends_where_the_attempt_ended(tmp_path, monkeypatch):
    """In the middle of an action block, as when the goal is reached there."""
    drawn: list[str] = []
    monkeypatch.setattr(explain, "_frame", lambda axis, pixels, above, below: drawn.append(above))
    labels: list[str] = []
    monkeypatch.setattr(
        explain, "save", lambda figure, path: labels.extend(a.get_ylabel() for a in figure.axes)
    )
    played = Attempt(budget=50, judged=True)
    played.states, played.distances = [np.zeros(2)] * 8, [float(9 - i) for i in range(8)]
    plan_of = Plan(np.zeros((10, 2)), 1.0, 1, 0.1, np.ones(1), np.ones(1), {}, np.zeros((3, 2)))
    played.plans = [(0, plan_of), (5, plan_of)]
    agent = types.SimpleNamespace(config=types.SimpleNamespace(frameskip=5), world_model=None, device="cpu")
    monkeypatch.setattr(explain, "_latents", lambda agent, frames: np.zeros((len(frames), 2)))
    frame = np.zeros((4, 4, 3), np.uint8)
    library = explain.Library(frame[None], np.zeros((1, 2)))
    explain.write_explanation(tmp_path / "x.png", agent, played, library, frame, render=lambda state: frame)
    happened = [text for text in drawn if text != "goal" and not text.endswith(": 0.0 to go")]
    assert happened == ["now: 9.0 to go", "+5: 4.0 to go", "+7: 2.0 to go", "now: 4.0 to go", "+2: 2.0 to go"]
    assert labels[0] == "latent distance"


def test_plan_py_explains_itself(tiny_checkpoint, pusht_recording, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert plan.main(["--make-goal", "goal.png", "--seed", "4"]) == 0
    words = ["--goal", "goal.png", "--checkpoint", str(tiny_checkpoint), "--budget", "7", "--out", "out"]
    assert plan.main([*words, "--explain", "--recording", str(pusht_recording)]) == 0
    assert "explain.png: how the plans came about" in capsys.readouterr().out
    with Image.open("out/explain.png") as picture:
        assert min(picture.size) > 500
    assert plan.main([*words, "--recording", "x.h5"]) == 2 and "--explain" in capsys.readouterr().err
    assert plan.main([*words, "--explain", "--recording", "none.h5"]) == 2
    assert "none.h5" in capsys.readouterr().err.splitlines()[-1]
    assert plan.main(["--benchmark", "--explain"]) == 2
