"""Fixtures that several test files share: a small recording, an untrained checkpoint, a quiet environment."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# torch's threads wait for each other at every small operation, for long where another program runs, too:
# tests take up to thirty times as long. torch reads this when it is loaded, also in programs they start.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reaches the network, opens a window, or keeps every core busy."""
    monkeypatch.setenv("WANDB_MODE", "disabled")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MPLBACKEND", "Agg")


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> Iterator[None]:
    """Processes that tests start hear SIGINT, also where a shell has begun the tests in its background
    (`pytest &`): there SIGINT is ignored, and a process inherits what is ignored."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """torch computes with one thread: for tests that plan while something else runs."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


def _recording(name: str, folder: Path) -> Path:
    from latent_planner.envs.recordings.collect import collect

    return collect(
        name, folder / f"{name}.h5", episodes=12, length=40, image_size=64, seed=3, workers=1, progress=False
    )


@pytest.fixture(scope="session")
def pusht_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 PushT episodes of 40 frames at 64 px, made by the behaviour policy."""
    return _recording("pusht", tmp_path_factory.mktemp("recording"))


@pytest.fixture(scope="session")
def two_room_recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12 TwoRoom episodes of 40 frames at 64 px, made by the behaviour policy."""
    return _recording("two_room", tmp_path_factory.mktemp("recording"))


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder with an untrained, very small PushT model: it plans, badly but quickly."""
    import torch

    from latent_planner.checkpoints import checkpoint
    from latent_planner.model.world_model import WorldModel, WorldModelConfig

    config = WorldModelConfig(
        env="pusht",
        image_size=64,
        frameskip=5,
        context_len=3,
        latent_dim=16,
        predictor_width=32,
        predictor_depth=1,
        predictor_heads=2,
        predictor_head_dim=16,
        predictor_mlp_dim=32,
        action_mean=(0.0, 0.0),
        action_std=(0.5, 0.5),
        action_low=(-1.0, -1.0),
        action_high=(1.0, 1.0),
        pixel_mean=(0.9, 0.9, 0.9),
        pixel_std=(0.2, 0.2, 0.2),
    )
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        world_model = WorldModel(config).eval()
    planner = {"name": "cem", "objective": "closest", "num_samples": 16, "num_elites": 4, "iterations": 2}
    checkpoint.save(world_model, folder, planner=planner, training=None)
    return folder
