"""Training in rounds, through the command line: practice on recorded goals, learned from, resumed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_train_cli import ROOT, TINY, failing, rows
from waiting import PATIENCE, started, until

from latent_planner.cli import train
from latent_planner.envs.recordings.appended import AppendedReader
from latent_planner.envs.recordings.episodes import EpisodeReader, EpisodeWriter
from latent_planner.practice.goals import FEWEST, Attempts, choose, described
from latent_planner.practice.mixture import fit
from latent_planner.practice.play import covered
from latent_planner.training.split import split_parts

WORDS = [
    *TINY, "env.episodes=12", "env.length=40", "train.steps=9", "rounds=3", "practice.episodes=4",
    "data.workers=1", "wandb.mode=disabled", "train.evaluate_every_steps=null", "out=run",
    "benchmark.pairs=0", "benchmark.validation_pairs=1", "model.image_size=32",
]  # fmt: skip
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def command(*words: str) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *words]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """Three rounds of TwoRoom, in a folder of their own."""
    folder = tmp_path_factory.mktemp("rounds")
    words = command("env=two_room", *WORDS)
    options: dict[str, Any] = {"env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": PATIENCE}
    done = subprocess.run(words, cwd=folder, **options)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_each_round_is_noted_and_said_in_one_line(run) -> None:
    folder, done = run
    noted = [row for row in rows(folder / "run") if "round" in row]
    assert [row["round"] for row in noted] == [1, 2, 3] and [row["step"] for row in noted] == [3, 6, 9]
    tested = {row["step"]: row["success"] for row in rows(folder / "run") if "success" in row}
    assert [row["round/success"] for row in noted] == [tested[row["step"]] for row in noted]
    assert all(0 <= row["round/covered"] <= 1 and row["round/attempts"] == 4 for row in noted[:2])
    said = [line for line in done.stderr.splitlines() if line.startswith("round ")]
    assert len(said) == 3 and all(line.startswith(f"round {n} of 3, ") for n, line in enumerate(said, 1))
    assert "4 attempts at goals of its own (alp)" in said[0] and "attempts" not in said[2]


def test_practice_is_a_recording_and_its_goals_are_recorded_frames(run) -> None:
    folder, _ = run
    paths = [folder / "run" / "practice" / f"round-{number}.h5" for number in (1, 2)]
    assert sorted((folder / "run" / "practice").iterdir()) == paths
    (base,) = (folder / "data").glob("*.h5")
    starts: list[tuple[float, ...]] = []
    for number, path in enumerate(paths):
        with EpisodeReader(path) as reader, EpisodeReader(base) as first:
            assert reader.env == "two_room" and reader.lengths.tolist() == [40] * 4
            assert reader.attrs["policy"].startswith("practice") and reader.complete
            whole = AppendedReader(first, [EpisodeReader(other) for other in paths[:number]])
            goals = reader.read("goal", 0, 160).reshape(4, 40)
            assert (goals == goals[:, :1]).all() and (goals[:, 0] < whole.num_frames).all()
            assert np.isnan(reader.read("action", 39, 40)).all()
            assert (np.abs(reader.read("action", 0, 39)) <= 1).all()
            starts += map(tuple, reader.read_rows("state", reader.offsets).tolist())
            before = set(map(tuple, first.read("state", 0, 480).tolist()))
    assert len(set(starts)) == 8 and not set(starts) & before, "starts are fresh"


def states_of(folder: Path) -> bytes:
    return (folder / "state.safetensors").read_bytes()


HELD = """\
import sys, time
from latent_planner.cli import train
from latent_planner.envs.recordings.episodes import EpisodeWriter
from latent_planner.training.run_state import MetricsFile

def held(real, moment):
    def call(self, given):
        if moment(self, given):
            open("held", "w").close()
            time.sleep(3600)
        return real(self, given)
    return call

if sys.argv[1] == "practice":
    EpisodeWriter.append = held(EpisodeWriter.append, lambda writer, _: writer.count == 2)
else:
    MetricsFile.append = held(MetricsFile.append, lambda _, row: row["step"] == 8)
train.main(sys.argv[2:])
"""  # train.py, which waits for good in its first practice, or in the last round


def test_a_run_that_is_killed_goes_on_to_the_same_end(run, tmp_path: Path, monkeypatch, one_thread) -> None:
    """Killed in the first practice and in the last round."""
    folder, _ = run
    words = ["env=two_room", *WORDS, f"data.path={next((folder / 'data').glob('*.h5'))}"]
    for moment, reached in (("practice", "round-1.h5.partial"), ("last", "round-2.h5")):
        program: list[str] = [sys.executable, "-c", HELD, moment, *words]
        with started(program, cwd=tmp_path, env=ENVIRONMENT, stderr=subprocess.DEVNULL) as process:
            until((tmp_path / "held").exists, process)
            assert (tmp_path / "run" / "practice" / reached).exists()
        (tmp_path / "held").unlink()
        words = ["resume=run"]
    monkeypatch.chdir(tmp_path)
    assert train.main(words) == 0
    assert [row["round"] for row in rows(tmp_path / "run") if "round" in row] == [1, 2, 3]
    names = ("step", "loss", "prediction", "success", "round", "round/covered")
    ours, theirs = (
        [[row.get(name) for name in names] for row in rows(some / "run")] for some in (tmp_path, folder)
    )
    assert ours == theirs
    for number in (1, 2):
        path = f"run/practice/round-{number}.h5"
        with EpisodeReader(tmp_path / path) as a, EpisodeReader(folder / path) as b:
            for column in ("pixels", "action", "goal", "distance"):
                np.testing.assert_array_equal(a.read(column, 0, 160), b.read(column, 0, 160))


def test_practice_may_start_near_its_goals(tmp_path: Path, monkeypatch) -> None:
    """From recorded states of the goal's own episode, at most two plans before it."""
    monkeypatch.chdir(tmp_path)
    words = ["env=two_room", *WORDS, "rounds=2", "train.steps=4", "practice.starts=near"]
    assert train.main([*words, "benchmark.validation_pairs=0", "planner.horizon=2"]) == 0
    (base,) = Path("data").glob("*.h5")
    with EpisodeReader("run/practice/round-1.h5") as reader, EpisodeReader(base) as first:
        states = first.read("state", 0, first.num_frames)
        goals = reader.read_rows("goal", reader.offsets)[:, 0].astype(int)
        starts = reader.read_rows("state", reader.offsets)
        for start, goal in zip(starts, goals):
            before = np.arange(max(goal - goal % 40, goal - 2 * 2 * 5), goal + 1)  # 40 frames an episode
            assert np.abs(states[before] - start).max(1).min() < 1e-4


def test_a_gymnasium_world_practises_after_its_smooth_noise(tmp_path: Path, monkeypatch, caplog) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT / "tests"))
    words = ["env=gym", "env.id=DotBox-v0", "module=gym_dots", *WORDS, "rounds=2", "practice.goals=uniform"]
    words += ["env.episodes=4", "env.length=24"]
    words += ["benchmark.validation_pairs=0"]
    assert train.main(words) == 0
    with EpisodeReader("run/practice/round-1.h5") as reader:
        assert len(reader.lengths) == 4 and "uniform" in reader.attrs["policy"]
    assert [row["round"] for row in rows(Path("run")) if "round" in row] == [1, 2]


def test_without_rounds_nothing_is_practised(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["env=two_room", *WORDS, "train.steps=2", "benchmark.validation_pairs=0"]
    assert train.main([*words, "rounds=0"]) == 0
    assert not Path("run/practice").exists() and not any("round" in row for row in rows(Path("run")))


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["env=recorded", "rounds=2"], "no world to practise in"),
        (["env=two_room", "rounds=2", "data.vary=color"], "leave out rounds, or data.vary"),
        (["rounds=-1"], "rounds takes a whole number"),
        (["practice.goals=apl"], "choose from alp, uniform"),
        (["rounds=5", "train.steps=3"], "at least as many steps"),
        (["practice.episodes=1"], "practice.episodes takes"),
    ],
)
def test_mistakes_get_one_sentence(words, sentence, capsys, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in failing(capsys, *words)
    assert not list(tmp_path.iterdir())


def test_goals_are_chosen_where_success_changes_from_round_to_round() -> None:
    rng = np.random.default_rng(0)
    pool, attempts = rng.uniform(-1, 1, (500, 2)), Attempts.none(2)
    assert len(np.unique(choose("alp", pool, attempts, 200, rng))) > 100  # nothing is known: evenly
    for number in (1, 2):
        goals = rng.uniform(-1, 1, (100, 2))
        better = (goals[:, 0] > 0.5) * (number == 2)  # only there anything was learned
        attempts.add(goals, 0.2 + 0.6 * better, number)
    progress = attempts.progress()
    assert np.isnan(progress[:100]).all() and progress[100:].max() == pytest.approx(0.6)
    chosen = {kind: pool[choose(kind, pool, attempts, 1000, rng)] for kind in ("alp", "uniform")}
    share = {kind: (goals[:, 0] > 0.5).mean() for kind, goals in chosen.items()}
    assert share["uniform"] == pytest.approx(0.25, abs=0.06) and share["alp"] > 0.65
    few = Attempts.none(2)
    few.add(pool[:FEWEST], np.zeros(FEWEST), 1)
    few.add(pool[: FEWEST - 1], np.ones(FEWEST - 1), 2)
    assert abs((pool[choose("alp", pool, few, 1000, rng), 0] > 0.5).mean() - 0.25) < 0.06


def test_a_mixture_finds_the_parts_that_there_are() -> None:
    rng = np.random.default_rng(1)
    centres = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    sizes = zip(centres, (60, 90, 150))
    points = np.concatenate([rng.normal(centre, [0.3, 0.6], (count, 2)) for centre, count in sizes])
    mixture = fit(points, range(1, 6), rng)
    found = mixture.means[np.argsort(mixture.weights)]
    if len(found) == 3:
        np.testing.assert_allclose(found, centres, atol=0.3)
        np.testing.assert_allclose(np.sort(mixture.weights), [0.2, 0.3, 0.5], atol=0.05)
    assert len(found) >= 3 and mixture.weights.sum() == pytest.approx(1)
    drawn = np.stack([mixture.sample(0, rng) for _ in range(500)])
    np.testing.assert_allclose(drawn.mean(0), mixture.means[0], atol=0.2)
    assert np.isfinite(fit(np.ones((30, 3)), range(2, 4), rng).log_densities(np.ones((2, 3)))).all()


def test_how_much_of_the_way_is_covered() -> None:
    for distances, share in (([4, 1, 3], 0.75), ([4, 5], 0), ([0, 2], 1)):
        assert covered(np.array(distances, float)[:, None]) == share


def test_goals_are_described_by_their_largest_components() -> None:
    latents = np.random.default_rng(0).normal(size=(300, 12)) * np.linspace(3, 0.1, 12)
    pool, others = described(latents, latents[:5])
    assert pool.shape == (300, 6) and pool.std(0).max() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(pool[:5], others)


def recording(path: Path, episodes: list[int], **extra: Any) -> EpisodeReader:
    attrs = {"env": "two_room", "image_size": 16, "state_names": ["x", "y"], "action_low": [-1, -1]}
    with EpisodeWriter(path, attrs=attrs | {"action_high": [1, 1]}) as writer:
        for length in episodes:
            rng = np.random.default_rng(length)
            writer.append({
                "pixels": rng.integers(0, 255, (length, 16, 16, 3), np.uint8),
                "action": rng.uniform(-1, 1, (length, 2)).astype(np.float32),
                "state": rng.normal(size=(length, 2)).astype(np.float32),
                **{name: np.zeros((length, 1)) for name in extra},
            })  # fmt: skip
    return EpisodeReader(path)


def test_appended_recordings_are_one(tmp_path: Path) -> None:
    first, second = recording(tmp_path / "a.h5", [5, 7]), recording(tmp_path / "b.h5", [4, 6, 3], goal=True)
    whole = AppendedReader(first, [second])
    assert whole.lengths.tolist() == [5, 7, 4, 6, 3] and whole.offsets.tolist() == [0, 5, 12, 16, 22]
    assert whole.num_frames == 25 and whole.parts == (2, 3)
    assert set(whole.columns) == {"pixels", "action", "state"}
    both = np.concatenate([first.read("pixels", 0, 12), second.read("pixels", 0, 13)])
    np.testing.assert_array_equal(whole.read("pixels", 0, 25), both)
    np.testing.assert_array_equal(whole.read("pixels", 10, 14), both[10:14])
    rows = np.array([20, 3, 3, 12, 11])
    np.testing.assert_array_equal(whole.read_rows("pixels", rows), both[rows])
    assert whole.read("state", 4, 4).shape == (0, 2)
    whole.close()


def test_what_was_held_out_stays_so_when_episodes_are_appended() -> None:
    same: dict[str, Any] = {"num_frames": 4, "frameskip": 2, "held_out": 0.25, "seed": 3, "name": "some.h5"}
    alone = split_parts(np.full(12, 30), (12,), **same)
    grown = split_parts(np.full(20, 30), (12, 8), **same)
    for split in ("train", "held_out"):
        assert grown[split][grown[split] < 12].tolist() == alone[split].tolist()
    assert (grown["held_out"] >= 12).sum() == 2
    short = split_parts(np.array([30] * 12 + [3] * 5), (12, 5), **same)
    assert max(short["train"]) < 12
