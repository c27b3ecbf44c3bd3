"""LeWM's recordings as they are published: read, trained on, and evaluated on as published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from published import Columns, episodes, recording

from latent_planner import envs, planners
from latent_planner.agent import Agent
from latent_planner.cli import plan, train
from latent_planner.envs.goals import recorded as recorded_pairs
from latent_planner.envs.recordings.blosc import BloscChunks
from latent_planner.envs.recordings.columns import Library
from latent_planner.envs.recordings.episodes import EpisodeReader, RecordingError
from latent_planner.evaluation import benchmark
from latent_planner.model.threads import Threads
from latent_planner.planners import PlanConfig
from latent_planner.settings import AgentSettings


@pytest.fixture(scope="module")
def expert(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Columns]:
    """Eight PushT episodes at 64 px in a file as LeWM publishes them, and what is in it."""
    path = tmp_path_factory.mktemp("expert") / "pusht_expert_train.h5"
    return path, recording(path, episodes("pusht", 8, 35, 64))


def noisy(count: int = 230, size: int = 40) -> list[Columns]:
    """Frames of which every second cannot be packed."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (count, size, size, 3), dtype=np.uint8)
    pixels[::2] = 250
    return [{"pixels": pixels, "action": rng.uniform(-1, 1, (count, 2)).astype(np.float32)}]


# reading


def test_frames_are_found_block_by_block(expert: tuple[Path, Columns]) -> None:
    path, columns = expert
    with EpisodeReader(path) as reader:
        assert isinstance(reader._columns["pixels"], BloscChunks)
        assert reader.lengths.tolist() == [35] * 8 and reader.env is None
        assert {"pixels", "action", "state", "ep_idx", "step_idx"} == set(reader.columns)  # text is left out
        for name in ("pixels", "action", "state"):
            assert np.array_equal(reader.read(name, 0, 280), columns[name], equal_nan=name != "pixels")
        rows = np.random.default_rng(0).integers(0, 280, 200)
        assert np.array_equal(reader.read_rows("pixels", rows), columns["pixels"][rows])
        reader.check_actions()


@pytest.mark.parametrize(
    ("packing", "kind"),
    [
        ({"cname": "lz4", "clevel": 9}, BloscChunks),
        ({"cname": "lz4hc", "clevel": 5}, BloscChunks),
        ({"cname": "zlib", "clevel": 5}, BloscChunks),
        ({"cname": "lz4", "clevel": 0}, BloscChunks),  # in Blosc's wrapping, and not packed
        ({"cname": "zstd", "clevel": 5}, Library),
        ({"cname": "blosclz", "clevel": 5}, Library),
        ({"cname": "lz4", "clevel": 5, "shuffle": 2}, Library),  # of bits
    ],
)
def test_however_blosc_packed(tmp_path: Path, packing: dict[str, Any], kind: type, monkeypatch: Any) -> None:
    monkeypatch.setattr(Library, "small", 100)
    columns = recording(tmp_path / "a.h5", noisy(), blosc=packing)
    reader = EpisodeReader(tmp_path / "a.h5")
    assert isinstance(reader._columns["pixels"], kind)
    rows = np.random.default_rng(1).integers(0, 230, 80)
    assert np.array_equal(reader.read_rows("pixels", rows), columns["pixels"][rows])
    assert np.array_equal(reader.read("pixels", 0, 230), columns["pixels"])


def test_chunks_that_blosc_left_alone(tmp_path: Path) -> None:
    """Where nothing is gained, HDF5 stores the chunk itself and says so."""
    frames = np.random.default_rng(0).integers(0, 255, (200, 40, 40, 3), dtype=np.uint8)
    frames[:100] = 7
    columns = recording(tmp_path / "a.h5", [{"pixels": frames, "action": np.zeros((200, 2), np.float32)}])
    reader = EpisodeReader(tmp_path / "a.h5")
    column = reader._columns["pixels"]
    assert isinstance(column, BloscChunks)
    assert np.array_equal(reader.read("pixels", 0, 200), columns["pixels"])


def test_without_the_package_for_lz4_the_library_reads(
    expert: tuple[Path, Columns], monkeypatch: Any
) -> None:
    import sys

    path, columns = expert
    monkeypatch.setitem(sys.modules, "cramjam", None)
    reader = EpisodeReader(path)
    assert isinstance(reader._columns["pixels"], Library)
    assert np.array_equal(reader.read("pixels", 90, 110), columns["pixels"][90:110])


def test_what_is_announced_is_read_alike(expert: tuple[Path, Columns], pusht_recording: Path) -> None:
    """As it is done for files larger than half of memory."""
    rows = np.random.default_rng(2).integers(0, 280, 100)
    for path in (expert[0], pusht_recording):
        quiet, loud = EpisodeReader(path), EpisodeReader(path)
        loud._columns["pixels"].announces = True
        assert np.array_equal(loud.read_rows("pixels", rows), quiet.read_rows("pixels", rows))


def test_a_damaged_header_is_told(expert: tuple[Path, Columns], tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(expert[0].read_bytes())
    column = EpisodeReader(expert[0])._columns["pixels"]
    with open(tmp_path / "a.h5", "r+b") as file:
        file.seek(int(column.offsets[1]) + 4)  # sizes of the data and of a block
        file.write(b"\xff" * 4 + bytes(4))
    reader = EpisodeReader(tmp_path / "a.h5")
    for reader._columns["pixels"].announces in (False, True):
        with pytest.raises(RecordingError, match="row 101 of .* is damaged"):
            reader.read_rows("pixels", [5, 101])


def test_a_damaged_block_is_told(expert: tuple[Path, Columns], tmp_path: Path) -> None:
    path, columns = expert
    (tmp_path / "a.h5").write_bytes(path.read_bytes())
    column = EpisodeReader(path)._columns["pixels"]
    with open(tmp_path / "a.h5", "r+b") as file:
        file.seek(int(column.offsets[1]) + 16)  # where the second chunk's first block begins
        file.write(b"\xff\xff\xff\x7f")
    reader = EpisodeReader(tmp_path / "a.h5")
    assert np.array_equal(reader.read("pixels", 0, 100), columns["pixels"][:100])
    with pytest.raises(RecordingError, match="row 100 of .* is damaged"):
        reader.read("pixels", 99, 102)


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    part = episodes("two_room", 1, 30, 32)[0]
    columns = {"pixels": part["pixels"], "action": part["action"], "wrist": 255 - part["pixels"]}
    recording(tmp_path / "a.h5", [columns | {"pos_agent": part["state"], "state": np.zeros((30, 10))}])
    with EpisodeReader(tmp_path / "a.h5", camera="wrist", state="pos_agent") as reader:
        assert np.array_equal(reader.read("pixels", 3, 5), columns["wrist"][3:5])
        assert np.array_equal(reader.read("state", 0, 30), part["state"])
    with pytest.raises(RecordingError, match="no column 'head'; its columns are: .*wrist"):
        EpisodeReader(tmp_path / "a.h5", camera="head")


# how frames look


def test_a_published_world_shows_its_mark_and_lets_actions_through() -> None:
    with np.load(Path(__file__).parent / "data" / "pusht_reference.npz") as reference:
        states, frames = reference["states"][:6], reference["frames"][:6]
    env = envs.make("pusht", image_size=224, reference_look=True)
    for state, frame in zip(states, frames):
        still = np.array([*state[:5], 0, 0])
        obs, info = env.reset(options={"state": still, "goal_state": states[0]})
        assert np.array_equal(env.render_state(state), frame)
        assert np.array_equal(obs["pixels"], frame)
    moved = {}
    for published in (False, True):
        env = envs.make("pusht", image_size=32, reference_look=published)
        env.reset(options={"state": np.array([250.0, 100, 250, 400, 0, 0, 0])})
        moved[published] = env.step(np.array([3.0, 0], np.float32))[0]["state"][0] - 250
    assert moved[True] == pytest.approx(3 * moved[False], rel=0.1)
    with pytest.raises(envs.WorldError, match="leave out goal_marker or reference_look"):
        envs.make("pusht", goal_marker=True, reference_look=True)


def test_the_look_of_a_recording_is_found_out(
    expert: tuple[Path, Columns], tmp_path: Path, pusht_recording: Path
) -> None:
    assert recorded_pairs.shows_reference_look(EpisodeReader(expert[0]), "pusht") is True
    assert recorded_pairs.shows_reference_look(EpisodeReader(pusht_recording), "pusht") is False
    recording(tmp_path / "ours.h5", episodes("pusht", 1, 30, 64, published=False))
    assert recorded_pairs.shows_reference_look(EpisodeReader(tmp_path / "ours.h5"), "pusht") is False
    recording(tmp_path / "rooms.h5", episodes("two_room", 1, 30, 64))
    assert recorded_pairs.shows_reference_look(EpisodeReader(tmp_path / "rooms.h5"), "two_room") is None
    assert recorded_pairs.shows_reference_look(EpisodeReader(expert[0]), "recorded") is None


# training

SMALL_LEWM = [
    "model=lewm", "model.image_size=56", "model.encoder_width=12", "model.encoder_depth=1",
    "model.latent_dim=12", "model.projector_dim=16", "model.predictor_width=12", "model.predictor_depth=1",
    "model.predictor_heads=2", "model.predictor_head_dim=6", "model.predictor_mlp_dim=16",
    "train.batch_size=8", "train.log_every=1", "benchmark.pairs=1", "benchmark.validation_pairs=0",
    "planner.num_samples=4", "planner.num_elites=2", "planner.iterations=1",
    "device=cpu", "wandb.mode=disabled",
]  # fmt: skip


def test_it_trains_without_conversion(
    expert: tuple[Path, Columns], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["env=pusht", f"data.path={expert[0]}", "train.steps=2", "out=run", "data.memory_gb=0"]
    assert train.main([*words, *SMALL_LEWM]) == 0, capsys.readouterr().err
    config = json.loads(Path("run/config.json").read_text())["model"]
    assert config["env"] == "pusht" and config["reference_look"] is True
    assert config["pixel_mean"] == [0.485, 0.456, 0.406] and config["image_size"] == 56
    taken = expert[1]["action"][np.isfinite(expert[1]["action"]).all(1)]
    assert config["action_low"] == pytest.approx(taken.min(0).tolist())
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2]


# the published evaluation


def test_starts_are_those_that_the_published_program_draws(expert: tuple[Path, Columns]) -> None:
    path, columns = expert
    with EpisodeReader(path) as reader:
        pairs = recorded_pairs.choose(reader, "pusht")
        step = reader.read("step_idx", 0, 280)
        valid = np.nonzero(step <= 35 - 25 - 1)[0]
        rows = np.sort(valid[np.random.default_rng(42).choice(len(valid), size=50, replace=False)])
        assert np.array_equal(pairs.rows, rows)
        assert (pairs.offset, pairs.budget, len(pairs.first(7).start_frames)) == (25, 50, 7)
        assert np.array_equal(pairs.goal, columns["state"][rows + 25])
        assert np.array_equal(pairs.goal_frames, columns["pixels"][rows + 25])
        assert np.array_equal(pairs.start_frames, columns["pixels"][rows])
        with pytest.raises(RecordingError, match="80 frames with another one 25 steps later, and 81 are"):
            recorded_pairs.choose(reader, "pusht", count=81)
        with pytest.raises(
            RecordingError, match="7 numbers, and the world two_room needs 2 .agent_x, agent_y"
        ):
            recorded_pairs.choose(reader, "two_room")


class Watcher:
    """Stands in for an Agent: remembers what it is shown and does nothing."""

    settings = AgentSettings(objective="last")
    device, threads = torch.device("cpu"), Threads()

    def __init__(self) -> None:
        self.seen: list[np.ndarray] = []
        self.goals = np.empty(0)

    def clone(self) -> Watcher:
        return self

    def reset(self, seeds: Any) -> None:
        pass

    def set_goal(self, pixels: np.ndarray, steps: int) -> None:
        self.goals = np.array(pixels)

    def keep(self, mask: np.ndarray) -> None:
        pass

    def act(self, pixels: np.ndarray) -> np.ndarray:
        self.seen.append(pixels.copy())
        return np.zeros((len(pixels), 2), np.float32)


def test_the_agent_sees_the_recorded_frames_first(expert: tuple[Path, Columns]) -> None:
    with EpisodeReader(expert[0]) as reader:
        pairs = recorded_pairs.choose(reader, "pusht", budget=3).first(4)
    watcher = Watcher()
    result = benchmark.run(
        watcher,
        lambda: envs.make("pusht", image_size=64, reference_look=True),
        pairs,
        progress=False,
        quick=True,
    )
    assert np.array_equal(watcher.goals, pairs.goal_frames)
    assert np.array_equal(watcher.seen[0], pairs.start_frames)
    assert all(outcome["steps"] >= 1 for outcome in result["episodes"])  # the first frame alone is no success


def test_the_protocol_through_its_command(
    expert: tuple[Path, Columns],
    tiny_checkpoint: Path,
    tmp_path: Path,
    monkeypatch: Any,
    capsys: Any,
    caplog: Any,
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["--benchmark", "--checkpoint", str(tiny_checkpoint), "--pairs", "2", "--out", "out"]
    words += ["benchmark.protocol=lewm", f"data.path={expert[0]}"]
    quick = ["planner.num_samples=8", "planner.num_elites=2", "planner.iterations=2"]
    assert plan.main([*words, *quick]) == 0, capsys.readouterr().err
    assert "its frames will seem strange" in caplog.text  # this model has seen no green T
    out = capsys.readouterr().out
    assert "in-distribution" in out and "changed by planner.num_samples=8" in out
    result = json.loads(Path("out/benchmark-lewm.json").read_text())
    assert result["protocol"] == {"name": "lewm", "in_distribution": True, "changed": quick}
    assert result["pairs"] == {
        "env": "pusht", "version": "recorded-seed42", "count": 2, "offset": 25, "budget": 50
    }  # fmt: skip
    planner = result["planner"]
    assert (planner["name"], planner["objective"], planner["replan_every"]) == ("cem_lewm", "last", 5)
    published = {"horizon": 5, "num_samples": 300, "num_elites": 30, "iterations": 30, "init_std": 1.0}
    settings = plan.planner_settings(["planner=cem_lewm"], {})
    assert published.items() <= settings.to_dict().items()


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["benchmark.protocol=lewm"], "say data.path=FILE"),
        (["benchmark.protocol=lwm", "data.path=a"], "did you mean 'lewm'"),
        (["data.path=a.h5"], "the held-out pairs need no recording"),
        (["benchmark.protocl=lewm"], "did you mean 'benchmark.protocol'"),
        (["benchmark.protocol=lewm", "data.path=none.h5"], "there is no recording none.h5"),
    ],
)
def test_mistakes_in_the_protocol(
    words: list[str], sentence: str, tiny_checkpoint: Path, capsys: Any
) -> None:
    assert plan.main(["--benchmark", "--checkpoint", str(tiny_checkpoint), *words]) == 2
    assert sentence in capsys.readouterr().err


# the published search


def test_the_published_search_step_by_step() -> None:
    """Elites' mean and sample deviation, no bounds, first candidate the mean, the last mean is the plan."""
    asked: list[tuple[torch.Tensor, torch.Tensor]] = []

    def cost(candidates: torch.Tensor) -> torch.Tensor:
        value = (candidates - 3.0).square().sum((-1, -2))
        asked.append((candidates.clone(), value))
        return value

    config = PlanConfig(horizon=2, num_samples=50, num_elites=5, iterations=4)
    found = planners.make("cem_lewm", config, [-1.0], [1.0]).plan(cost, batch_size=2, seeds=[3, 4])
    assert len(asked) == 5 and asked[-1][0].shape == (2, 1, 2, 1)
    mean = torch.zeros(2, 2, 1)
    for candidates, value in asked[:-1]:
        assert torch.equal(candidates[:, 0], mean)
        which = value.topk(5, largest=False).indices
        elites = torch.stack([candidates[b, which[b]] for b in range(2)])
        mean, deviation = elites.mean(1), elites.std(1)
    assert torch.equal(found.actions, mean) and (found.actions > 1.5).all()  # far outside the bounds
    torch.testing.assert_close(found.cost, (mean - 3).square().sum((-1, -2)))
    assert asked[3][0].std(1).max() < asked[0][0].std(1).min() and deviation.max() < 1
    alone = planners.make("cem_lewm", config, [-1.0], [1.0]).plan(cost, seeds=[4])
    torch.testing.assert_close(alone.actions[0], found.actions[1])
    with pytest.raises(planners.PlanError, match="No candidate of problem 0 has a finite cost"):
        planners.make("cem_lewm", config, [-1.0], [1.0]).plan(lambda c: c.sum((-1, -2)) * torch.nan)
    with pytest.raises(planners.PlanError, match="at least 2"):
        planners.make("cem_lewm", PlanConfig(num_elites=1), [-1.0], [1.0])


def test_an_agent_with_it_sees_one_frame_and_leaves_the_bounds(tiny_checkpoint: Path) -> None:
    from latent_planner.checkpoints import checkpoint

    world_model, _ = checkpoint.load(tiny_checkpoint)
    config = PlanConfig(horizon=2, replan_every=2, num_samples=16, num_elites=2, iterations=1, init_std=30.0)
    agent = Agent(world_model, planner="cem_lewm", plan_config=config, context_len=1, device="cpu")
    frames = np.random.default_rng(0).integers(0, 255, (12, 64, 64, 3), dtype=np.uint8)
    agent.set_goal(frames[-1], steps=50)
    actions = np.array([agent.act(frame) for frame in frames[:11]])
    assert np.abs(actions).max() > 1
    assert len(agent._problems[0].latents) == 1
    assert agent.clone().context_len == 1


def test_hdf5_text_and_odd_columns_do_not_disturb(tmp_path: Path, expert: tuple[Path, Columns]) -> None:
    with h5py.File(expert[0]) as file:
        assert file["policy"].dtype.kind == "O" and file["pixels"].chunks == (100, 64, 64, 3)
        assert file["pixels"].maxshape[0] is None
