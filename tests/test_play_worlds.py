"""The page with worlds whose states cannot be set: goals are pictures, ghosts are frames that were seen."""

from __future__ import annotations

from pathlib import Path

import gym_dots  # noqa: F401, registers its environments
import numpy as np
import pytest
import torch
from test_play import Line, as_png

from latent_planner.checkpoints import checkpoint
from latent_planner.cli.play.players import Player
from latent_planner.cli.play.server import running
from latent_planner.cli.play.session import Session
from latent_planner.model.world_model import WorldModel, WorldModelConfig

pytest.importorskip("websockets")


@pytest.fixture(scope="module")
def dots(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A checkpoint with an untrained, very small model of a Gymnasium environment."""
    config = WorldModelConfig(
        env="gym:DotBox-v0", image_size=32, frameskip=2, context_len=2, latent_dim=8, predictor_width=16,
        predictor_depth=1, predictor_heads=2, predictor_head_dim=8, predictor_mlp_dim=16,
        action_mean=(0.5, -1.0), action_std=(1.0, 1.0), action_low=(-1.0, -3.0), action_high=(2.0, 1.0),
        pixel_mean=(0.5, 0.5, 0.5), pixel_std=(0.2, 0.2, 0.2),
    )  # fmt: skip
    folder: Path = tmp_path_factory.mktemp("checkpoint") / "dots"
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = WorldModel(config).eval()
    planner = {"name": "cem", "objective": "closest", "num_samples": 8, "num_elites": 2, "iterations": 2}
    checkpoint.save(model, folder, planner=planner, training=None)
    return str(folder)


def test_goals_are_pictures_where_states_cannot_be_set(dots: str) -> None:
    with running(Session(Player.load(dots, device="cpu", seed=0))) as server, Line(server) as line:
        assert "--seed=" in line.until("settings")["lanes"][0]["command"]
        start = line.until("frame")
        assert start["places"] == {}
        line.send("step")
        moved = line.until("frame", lambda frame: frame["step"] == 1)
        assert moved["png"] != start["png"]
        assert line.latest["plan"]["shown_by"] == "frames"

        line.send("freeze")
        frozen = line.until("goal", lambda goal: goal["judged"] and goal["number"] > 1)
        assert frozen["known"]  # the world itself can say when it is reached
        line.send("another")
        other = line.until("goal", lambda goal: goal["judged"] and goal["number"] > frozen["number"])
        assert other["png"] != frozen["png"]
        noise = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
        line.socket.send(as_png(noise))
        given = line.until("goal", lambda goal: goal["judged"] and goal["number"] > other["number"])
        assert not given["known"]
        line.send("move", where="goal", handle="dot", x=0.5, y=0.5)
        assert "no handle" in line.until("note", lambda note: note["bad"])["text"]

        line.send("again")
        again = line.until("frame", lambda frame: frame["step"] == 0)
        assert again["png"] == start["png"]
        line.send("compare", value=True)
        assert line.until("frame", lambda frame: frame["lane"] == 1)["png"] == start["png"]
