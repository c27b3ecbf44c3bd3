"""Pictures unlike anything a model has seen are told apart from ordinary goals, and in plain words."""

from __future__ import annotations

import io
import json
import logging
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from latent_planner import Agent, envs, looks
from latent_planner.checkpoints import checkpoint
from latent_planner.cli import plan
from latent_planner.cli.upkeep import looks as looks_command
from latent_planner.envs.goals import pairs
from latent_planner.envs.mujoco import gl
from latent_planner.envs.pusht import target
from latent_planner.envs.pusht.world import PushT
from latent_planner.evaluation.attempt import attempt, story, write_results

NAMES = checkpoint.bundled()
PLAIN = [name for name in NAMES if checkpoint.load(name)[0].config.encoder != "robust"]
undrawn = {"reacher", "point_maze"} if gl.choose() is None else set()  # what MuJoCo cannot draw here

QUICK = ["planner.iterations=1", "planner.num_samples=8", "planner.num_elites=2"]


def known(name: str) -> tuple[Agent, list[np.ndarray]]:
    """The bundled agent, and a few goals of its world as large pictures."""
    if name in undrawn:
        pytest.skip("no OpenGL here for MuJoCo to draw with")
    world = envs.make(name, image_size=448)
    return Agent.from_pretrained(name, device="cpu"), [
        world.render_state(state) for state in pairs.load(name).goal[:6]
    ]


@pytest.fixture(scope="module")
def one_look(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundled PushT model with looks that know the usual one alone, as those of a plain encoder do."""
    folder = tmp_path_factory.mktemp("one-look") / "pusht"
    shutil.copytree(checkpoint.find("pusht"), folder)
    world = envs.make("pusht", image_size=64)
    listed = pairs.load("pusht")
    frames = np.stack([world.render_state(state) for state in (*listed.start, *listed.goal)])
    world_model, info = checkpoint.load(folder)
    looks.save(folder, looks.measure(world_model, frames), info["sha256"])
    return folder


def resized(picture: np.ndarray, size: int) -> np.ndarray:
    return np.array(Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC))


def compressed(picture: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file).convert("RGB"))


def dimmed(picture: np.ndarray) -> np.ndarray:
    return (picture * 0.9).astype(np.uint8)


def by_phone(picture: np.ndarray) -> np.ndarray:
    """A colour cast, and 3 % of perspective."""
    cast = Image.fromarray((picture * [0.97, 0.92, 0.8]).astype(np.uint8))
    size, d = len(picture), 0.03 * len(picture)
    corners = (d, d, 0, size - d, size, size - d / 2, size - d / 3, 0)
    return compressed(np.array(cast.transform((size, size), Image.Transform.QUAD, corners)), 85)


def screenshot(picture: np.ndarray) -> np.ndarray:
    bar = np.full((len(picture) // 14, len(picture), 3), (222, 222, 226), np.uint8)
    return np.concatenate([bar, picture])


@pytest.mark.parametrize("name", NAMES)
def test_ordinary_goals_are_familiar(name: str) -> None:
    agent, goals = known(name)
    for size in (96, 224, 700):
        for quality in (95, 40, 10):
            pictures = np.stack([compressed(resized(goal, size), quality) for goal in goals])
            assert agent.unfamiliarity(pictures, goal=True).max() <= 1.0, (size, quality)


@pytest.mark.parametrize("name", [*PLAIN, "one look"])
def test_altered_goals_are_not_and_the_reason_is_named(name: str, one_look: Path) -> None:
    agent, goals = known("pusht" if name == "one look" else name)
    if name == "one look":
        agent = Agent.from_pretrained(one_look, device="cpu")
    kinds: list[tuple[Callable[[np.ndarray], np.ndarray], str]] = [
        (dimmed, "darker"),
        (by_phone, "colours"),
        (screenshot, "border"),
    ]
    for change, reason in kinds:
        for look in agent.looks.of(agent.world_model, np.stack([change(goal) for goal in goals]), "goal"):
            assert look.unfamiliarity > 1.0 and not look.familiar
            assert reason in look.reason, change.__name__


@pytest.mark.parametrize("name", NAMES)
def test_frames_of_the_scene_are_familiar(name: str) -> None:
    agent, _ = known(name)
    world = envs.make(name, image_size=agent.config.image_size)
    frames = np.stack([world.render_state(state) for state in pairs.load(name).start[:50]])
    assert agent.unfamiliarity(frames).max() <= 1.0


@pytest.mark.parametrize("name", [name for name in NAMES if name not in PLAIN])
def test_who_knows_many_looks_refuses_what_cannot_be_read(name: str) -> None:
    agent, goals = known(name)
    assert agent.unfamiliarity(np.stack([dimmed(goal) for goal in goals]), goal=True).max() <= 1.0
    noise = np.random.default_rng(0).integers(0, 256, (8, *goals[0].shape), np.uint8)
    known_ones = agent.unfamiliarity(np.stack(goals), goal=True)
    assert np.median(agent.unfamiliarity(noise, goal=True)) > known_ones.max()
    for level in (0, 128, 255):
        (look,) = agent.looks.of(agent.world_model, np.full((1, 64, 64, 3), level, np.uint8), "goal")
        assert look.unfamiliarity > 1.0 and "in no colours or light" in look.reason


def test_a_new_goal_that_is_unlike_anything_is_warned_of(
    caplog: pytest.LogCaptureFixture, one_look: Path
) -> None:
    _, goals = known("pusht")
    agent = Agent.from_pretrained(one_look, device="cpu")
    agent.set_goal(goals[0])
    assert not caplog.records
    agent.set_goal(dimmed(goals[0]))
    assert "this picture does not look like what the model has seen: it is darker" in caplog.text
    caplog.clear()
    agent.reset()
    agent.set_goal(np.stack([goals[0], dimmed(goals[0]), dimmed(goals[1])]))
    assert "2 of 3 pictures do not look like" in caplog.text
    heard: list[str] = []
    twin = agent.clone()
    twin.warn = heard.append
    twin.set_goal(screenshot(goals[0]))
    assert len(heard) == 1 and "border" in heard[0]


def test_without_measured_looks_nobody_knows(tiny_checkpoint: Path) -> None:
    agent = Agent.from_pretrained(tiny_checkpoint, device="cpu")
    frame = np.zeros((64, 64, 3), np.uint8)
    assert math.isnan(agent.unfamiliarity(frame))
    assert np.isnan(agent.unfamiliarity(np.stack([frame, frame]))).tolist() == [True, True]
    agent.set_goal(frame)
    assert agent.goal_looks == []


def test_the_command_writes_looks_that_belong_to_their_weights(
    tiny_checkpoint: Path, pusht_recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [str(tiny_checkpoint), "--recording", str(pusht_recording), "--out", str(tmp_path)]
    assert looks_command.main(words) == 0
    assert "looks.json" in capsys.readouterr().out
    world_model, info = checkpoint.load(tiny_checkpoint)
    found = looks.load(tmp_path, info["sha256"])
    frame = envs.make("pusht", image_size=64).reset(seed=1)[0]["pixels"]
    assert found.of(world_model, frame[None])[0].familiar
    assert looks.load(tmp_path, "0" * 64) is None
    for text in ("{", "[]", json.dumps({**json.loads((tmp_path / looks.FILE).read_text()), "goal": {}})):
        (tmp_path / looks.FILE).write_text(text)
        assert looks.load(tmp_path, info["sha256"]) is None


def test_plan_refuses_such_a_goal_before_it_acts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], one_look: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    _, goals = known("pusht")
    Image.fromarray(dimmed(goals[0])).save("dark.png")
    dark = ["--goal", "dark.png", "--checkpoint", str(one_look)]
    assert plan.main([*dark, "--out", "out"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "does not look like what the model has seen: it is darker" in line and "--anyway" in line
    assert "teach the model other colours and light (`latent-planner robust`), or add" in line
    assert not Path("out").exists()
    quick = [*QUICK, "--budget", "3", "--out", "out"]
    assert plan.main([*dark, "--anyway", *quick]) == 0
    assert json.loads(Path("out/result.json").read_text())["steps"] == 3


def test_an_attempt_ends_where_the_scene_leaves_what_the_model_knows(tmp_path: Path, one_look: Path) -> None:
    """An agent that drives straight at the wall, which does not hold the disc."""
    _, goals = known("pusht")
    agent = Agent.from_pretrained(one_look, device="cpu")
    world = envs.make("pusht", image_size=64)
    state = np.array([120.0, 256.0, 350.0, 300.0, 1.0, 0.0, 0.0])
    observation, _ = world.reset(seed=0, options={"state": state})
    driven = SimpleNamespace(
        act=lambda pixels: np.array([-1.0, 0.0], np.float32),
        latent_distance=lambda pixels: 9.0,
        last_plan=None,
        config=agent.config,
    )
    kept = attempt(driven, world, observation, budget=20, within=world.within_limits)
    assert len(kept.actions) == 20 and min(state[0] for state in kept.states) > 15.0
    observation, _ = world.reset(seed=0, options={"state": state})
    played = attempt(
        driven, world, observation, budget=50,
        judge=lambda frame: agent.looks.of(agent.world_model, frame[None])[0],
    )  # fmt: skip
    assert played.left and 0 < len(played.actions) < 20
    assert min(state[0] for state in played.states[:-1]) > 0.0  # the last frame is the first that is odd
    assert "the scene has left what the model knows" in story(played)[0]
    drawn: list[np.ndarray] = []

    def render(state: np.ndarray) -> np.ndarray:
        drawn.append(state)
        return world.render_state(state)

    write_results(tmp_path, played, goals[0], {}, render=render, fps=10)
    assert [state.tolist() for state in drawn] == [state.tolist() for state in played.states[:-1]]
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["left"] == played.left and len(result["states"]) == len(result["actions"]) + 1


def test_a_goal_without_state_is_judged_on_a_scale() -> None:
    played = SimpleNamespace(
        distances=[9.0, 4.0], actions=[0], reached_at=None, judged=False, left="", budget=1, plan_seconds=[]
    )
    assert "judge by the video" in story(played)[0]
    assert "about as near as goals that were reached (within 5)" in story(played, 5.0)[0]
    assert "farther away than goals that were reached (within 3)" in story(played, 3.0)[0]


@pytest.mark.parametrize("size", [64, 224, 448])
def test_the_published_target_is_found_and_painted_away(size: int) -> None:
    plain = envs.make("pusht", image_size=size)
    published = envs.make("pusht", image_size=size, reference_look=True)
    over_it = np.array([300.0, 280.0, 260.0, 240.0, 2.0, 0.0, 0.0])
    for state in [over_it, *pairs.load("pusht").goal[:8]]:
        wanted, frame = plain.render_state(state), published.render_state(state)
        assert target.shows(frame, PushT.reference_marker) and not target.shows(
            wanted, PushT.reference_marker
        )
        painted = PushT.without_reference_marker(frame)
        away = np.abs(painted.astype(int) - wanted)
        assert away.max() < 16 and away.mean() < 0.1
        assert PushT.without_reference_marker(wanted) is wanted
    assert target.shows(compressed(frame, 10), PushT.reference_marker)


def test_plan_recognises_the_published_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    world = envs.make("pusht", image_size=224, reference_look=True)
    Image.fromarray(world.render_state(pairs.load("pusht").goal[0])).save("green.png")
    caplog.set_level(logging.WARNING)
    quick = [*QUICK, "--budget", "2", "--out", "out"]
    assert plan.main(["--goal", "green.png", *quick]) == 0
    assert "published look" in caplog.text and "not look like" not in caplog.text
