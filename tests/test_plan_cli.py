"""plan.py through its command line: a goal picture reached for and shown; mistakes in one sentence."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from waiting import PATIENCE, until

from latent_planner import envs
from latent_planner import goal_image as images
from latent_planner.cli import plan
from latent_planner.pixels import resize_picture

QUICK = ["planner.iterations=1", "planner.num_samples=8"]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test has its own working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def goal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A goal picture of PushT, made by the program."""
    path = tmp_path_factory.mktemp("goal") / "goal.png"
    assert plan.main(["--make-goal", str(path), "--seed", "4"]) == 0
    return path


@pytest.fixture
def reach(tiny_checkpoint: Path, goal: Path):
    """Run `plan.py --goal` with the untrained checkpoint; returns its result.json."""

    def run(*words: str, picture: Path | str = goal) -> dict:
        arguments = [
            "--goal",
            str(picture),
            "--checkpoint",
            str(tiny_checkpoint),
            "--budget",
            "7",
            "--out",
            "out",
        ]
        assert plan.main([*arguments, *QUICK, *words]) == 0
        return json.loads(Path("out/result.json").read_text())

    return run


def refused(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """The one sentence on stderr with which the program refuses these arguments."""
    capsys.readouterr()
    assert plan.main([str(word) for word in words]) == 2
    lines = [
        line for line in capsys.readouterr().err.splitlines() if line and not line.startswith("planning")
    ]
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


def test_a_made_goal_carries_a_state_that_its_start_does_not_solve(goal):
    text = images.read_goal_text(goal)
    assert text is not None and (text.env, text.seed, text.steps) == ("pusht", 4, 25)
    env = envs.make("pusht", image_size=64)
    assert not env.unwrapped.is_success(np.array(text.start_state), np.array(text.state))
    drawn = env.unwrapped.render_state(np.array(text.state)).astype(int)
    assert np.abs(resize_picture(images.read_goal(goal), 64) - drawn).mean() < 0.2


def test_every_world_has_goals():
    for name in envs.names():
        assert plan.main(["--make-goal", f"{name}.png", "--env", name]) == 0
        text = images.read_goal_text(f"{name}.png")
        assert plan.fits(text, envs.make(name, image_size=64), images.read_goal(f"{name}.png"))


def test_make_goal_is_seeded_and_overwrites_only_its_own(goal, capsys):
    plan.main(["--make-goal", "a.png", "--seed", "4"])
    assert Path("a.png").read_bytes() == goal.read_bytes()
    plan.main(["--make-goal", "a.png", "--seed", "5"])
    assert Path("a.png").read_bytes() != goal.read_bytes()
    Image.new("RGB", (64, 64)).save("mine.png")
    before = Path("mine.png").read_bytes()
    assert "mine.png" in refused(capsys, "--make-goal", "mine.png")
    assert Path("mine.png").read_bytes() == before
    assert ".png" in refused(capsys, "--make-goal", "goal.jpg")
    assert "choose another place" in refused(capsys, "--make-goal", "missing/goal.png")


def test_result_tells_what_happened_and_replays(reach, goal):
    result = reach()
    text = images.read_goal_text(goal)
    assert result["reached"] in (True, False) and result["steps"] <= 7
    assert result["goal_state"] == list(text.state) and result["start_state"] == pytest.approx(
        text.start_state
    )
    assert len(result["actions"]) == result["steps"] == len(result["latent_distance"]) - 1
    assert result["seconds_per_plan"]["plans"] == 2 and result["planner"]["num_samples"] == 8
    env = envs.make("pusht", image_size=16)
    env.reset(seed=0, options={"state": np.array(text.start_state)})
    for action, state in zip(result["actions"], result["states"][1:]):
        observation, *_ = env.step(np.array(action, np.float32))
        assert observation["state"].tolist() == state
    assert reach()["actions"] == result["actions"]


def test_pictures_and_video_are_written(reach):
    result = reach()
    assert sorted(os.listdir("out")) == ["plan.mp4", "plan.png", "result.json"]
    with av.open("out/plan.mp4") as container:
        assert (
            len(list(container.decode(video=0))) == result["steps"] + 1 + 15
        )  # held for 1.5 s at 10 a second
    with Image.open("out/plan.png") as picture:
        assert picture.width > 2 * picture.height


def test_any_picture_will_do_and_is_not_judged(reach, capsys):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 130), dtype=np.uint8)).save("photo.jpg")
    result = reach(picture="photo.jpg")
    assert result["reached"] is None and result["goal_state"] is None and result["steps"] == 7
    assert "judge by the video" in capsys.readouterr().out


def test_a_goal_that_seems_out_of_reach_is_warned_of(reach, tiny_checkpoint, caplog):
    """Where the checkpoint's report has left a threshold."""
    from latent_planner.checkpoints import checkpoint
    from latent_planner.evaluation import reachability as threshold

    for most, warned in ((1e-6, True), (1e6, False)):
        path = threshold.save(tiny_checkpoint, most, checkpoint.load(tiny_checkpoint)[1]["sha256"])
        caplog.clear()
        try:
            reach("--budget", "1")
        finally:
            path.unlink()
        assert ("the goal seems out of reach" in caplog.text) == warned


def test_a_painted_over_goal_loses_its_state(reach, goal, caplog):
    text = images.read_goal_text(goal)
    pixels = images.read_goal(goal)
    pixels[:150, :150] = 0
    images.write_goal("painted.png", pixels, text.state, "pusht", start_state=text.start_state)
    assert reach(picture="painted.png")["reached"] is None
    assert "ignored" in caplog.text
    images.write_goal("elsewhere.png", pixels, [1.0], "moon")
    assert reach(picture="elsewhere.png")["reached"] is None
    assert "moon" in caplog.text


def test_start_can_be_chosen(reach, goal, capsys):
    seeded = reach("--seed", "3")["start_state"]
    env = envs.make("pusht", image_size=16)
    assert seeded == env.reset(seed=3)[0]["state"].tolist()
    numbers = [100.0, 120.0, 300.0, 310.0, 1.5, 0.0, 0.0]
    assert reach("--state", ",".join(map(str, numbers)))["start_state"] == pytest.approx(numbers, abs=1.0)
    capsys.readouterr()
    there = ",".join(map(repr, images.read_goal_text(goal).state))
    result = reach(f"--state={there}")
    assert result["reached"] is True and result["reached_at"] == 0 and result["actions"] == []
    assert "already" in capsys.readouterr().out


def test_planner_words_change_the_planner(reach):
    planner = reach("planner=mppi", "planner.temperature=1e-2", "planner.objective=last")["planner"]
    assert (planner["name"], planner["temperature"], planner["objective"]) == ("mppi", 0.01, "last")
    assert planner["num_samples"] == 8
    words = ["planner.objective=closest + 0.5*smoothness", "planner.max_change=0.5", "planner.deadline=5"]
    planner = reach(*words)["planner"]
    assert planner["objective"] == "closest + 0.5*smoothness"
    assert (planner["max_change"], planner["deadline"], planner["precision"]) == (0.5, 5, "float32")


def test_results_go_to_a_new_folder_or_the_one_asked_for(reach, tiny_checkpoint, goal):
    Path("out").mkdir()
    Path("out/notes.txt").write_text("mine")
    reach()
    reach()
    assert Path("out/notes.txt").read_text() == "mine" and len(os.listdir("out")) == 4
    for _ in range(2):
        words = ["--goal", str(goal), "--checkpoint", str(tiny_checkpoint), "--budget", "1", *QUICK]
        assert plan.main([*words]) == 0
    assert len(os.listdir("plans")) == 2


@pytest.mark.parametrize(
    "words, sentence",
    [
        ([], "say one of"),
        (["--goal", "g", "--benchmark"], "say one of"),
        (["--goal"], "expected one argument"),
        (["--gaol", "g"], "--goal"),
        (["--goal", "g", "--seed", "x"], "--seed"),
        (["--goal", "g", "--seed", "-1"], "at least 0"),
        (["--goal", "g", "--budget", "0"], "at least 1"),
        (["--goal", "g", "--pairs", "3"], "no meaning"),
        (["--benchmark", "--budget", "3"], "no meaning"),
        (["--make-goal", "g.png", "planner=cem"], "no meaning"),
        (["--goal", "g", "--env", "tworoom"], "two_room"),
        (["--goal", "g", "env=pusht"], "--env pusht"),
        (["--goal", "g", "stray"], "stray"),
        (["--goal", "missing.png"], "no file"),
        (["--goal", "."], "folder"),
        (["--goal", "g", "--out", __file__], "folder"),
    ],
)
def test_mistakes_on_the_command_line(words, sentence, capsys, here):
    assert sentence in refused(capsys, *words)
    assert os.listdir(here) == []


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["planer=cem"], "'planner'"),
        (["planner=cme"], "cem"),
        (["planner.num_sample=3"], "planner.num_samples"),
        (["planner.num_samples=many"], "whole number"),
        (["planner.num_samples=[1"], "planner.num_samples takes a whole number of at least 1"),
        (["planner.temperature=1"], "no setting"),
        (["planner.objective=lest"], "last"),
        (["planner.objective=last + "], "not understood"),
        (["planner.deadline=soon"], "deadline"),
        (["planner.max_change=0"], "max_change"),
        (["planner.precision=float8"], "precision"),
        (["planner.max_change=[1,2,3]"], "max_change"),
        (["planner.objective=${oc.env:HOME}"], "planner.objective takes text"),
        (["--env", "two_room"], "pusht"),
        (["--device", "tpu"], "Device"),
        (["--state", "1,2"], "7 numbers"),
        (["--state", "1,b"], "list of numbers"),
        (["--state", "1,2,3,4,5,6,nan"], "nan"),
    ],
)
def test_mistakes_that_the_checkpoint_or_the_world_shows(
    words, sentence, tiny_checkpoint, goal, capsys, here
):
    text = refused(capsys, "--goal", goal, "--checkpoint", tiny_checkpoint, *words)
    assert sentence in text
    assert os.listdir(here) == []


def test_bad_goals_and_checkpoints(tiny_checkpoint, goal, capsys, here):
    Path("empty.png").touch()
    Path("text.png").write_text("not a picture")
    for name in ("empty.png", "text.png"):
        assert name in refused(capsys, "--goal", name, "--checkpoint", tiny_checkpoint)
    assert "nowhere" in refused(capsys, "--goal", goal, "--checkpoint", "nowhere")
    Path("broken").mkdir()
    for path in tiny_checkpoint.iterdir():
        (Path("broken") / path.name).write_bytes(path.read_bytes()[:-100])
    refused(capsys, "--goal", goal, "--checkpoint", "broken")
    assert sorted(os.listdir(here)) == ["broken", "empty.png", "text.png"]


def test_actions_of_another_size_are_refused(tiny_checkpoint, goal, capsys):
    import torch

    from latent_planner.checkpoints import checkpoint
    from latent_planner.model.world_model import WorldModel

    config = checkpoint.load(tiny_checkpoint)[0].config
    three = {name: (0.0 if name == "action_mean" else 1.0,) * 3 for name in ("action_mean", "action_std")}
    three |= {"action_low": (-1.0,) * 3, "action_high": (1.0,) * 3}
    with torch.random.fork_rng():
        checkpoint.save(WorldModel(dataclasses.replace(config, **three)), "three")
    assert "3 numbers" in refused(capsys, "--goal", goal, "--checkpoint", "three")


def test_full_disk_keeps_the_old_results(reach, goal, tiny_checkpoint, capsys):
    resource = pytest.importorskip("resource")
    reach()
    before = {path.name: path.read_bytes() for path in Path("out").iterdir()}
    words = ["--goal", goal, "--checkpoint", tiny_checkpoint, "--budget", "7", "--seed", "1", "--out", "out"]
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # stands in for a full disk
    try:
        assert "make room" in refused(capsys, *words, *QUICK)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in Path("out").iterdir()} == before


def test_benchmark_writes_its_outcomes_and_keeps_older_ones(tiny_checkpoint, tmp_path, capsys):
    words = [
        "--benchmark",
        "--checkpoint",
        str(tiny_checkpoint),
        "--pairs",
        "2",
        *QUICK,
    ]
    assert plan.main([*words, "--out", "first"]) == 0
    first = json.loads(Path("first/benchmark.json").read_text())
    assert len(first["episodes"]) == 2 and set(first["floors"]) == {"random", "still"}
    assert first["checkpoint"]["sha256"] and first["pairs"]["env"] == "pusht"
    assert "95 % interval" in capsys.readouterr().out
    assert plan.main([*words, "--out", "second"]) == 0
    assert json.loads(Path("second/benchmark.json").read_text())["episodes"] == first["episodes"]
    assert "only" in refused(capsys, "--benchmark", "--checkpoint", tiny_checkpoint, "--pairs", "100000")
    assert plan.main([*words, "--out", "fresh", "--pairs-seed", "9"]) == 0
    fresh = json.loads(Path("fresh/benchmark.json").read_text())
    assert fresh["pairs"]["version"] != first["pairs"]["version"] and len(fresh["episodes"]) == 2
    assert "--pairs-seed must be at least 0" in refused(capsys, "--benchmark", "--pairs-seed", "-1")


def program(root: Path, *words: object) -> list[str]:
    return [sys.executable, str(root / "plan.py"), *map(str, words)]


def test_the_program_itself(root, here):
    """Started as users start it: help, and a mistake, each without a traceback and without loading torch."""
    options = {"capture_output": True, "text": True, "timeout": PATIENCE}
    shown = subprocess.run(program(root, "--help"), **options)
    assert shown.returncode == 0 and "--make-goal" in shown.stdout and "planner=mppi" in shown.stdout
    wrong = subprocess.run(program(root, "--goal", "no.png"), **options)
    assert wrong.returncode == 2 and wrong.stdout == ""
    assert wrong.stderr == "error: there is no file no.png; give the path of a goal image\n"


def test_ctrl_c_stops_without_a_traceback_or_a_trace(root, goal, tiny_checkpoint, here):
    picture = goal.with_name("plain.png")  # without a state, so that the world cannot say that it is reached
    Image.fromarray(np.asarray(Image.open(goal))).save(picture)
    words = program(root, "--goal", picture, "--checkpoint", tiny_checkpoint, "--budget", "1000000")
    process = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    try:
        os.set_blocking(process.stderr.fileno(), False)
        said = bytearray()

        def acts() -> bool:
            said.extend(process.stderr.read() or b"")
            return b"distance=" in said

        until(acts, process)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=PATIENCE) == 130
        os.set_blocking(process.stderr.fileno(), True)
        said += process.stderr.read()
    finally:
        process.kill()
    assert b"Traceback" not in said and said.endswith(b"stopped\n")
    assert os.listdir(here) == []
