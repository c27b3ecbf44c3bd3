"""One place fits a picture to the model: a goal is the same encoder input wherever it comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from latent_planner import Agent
from latent_planner.checkpoints import checkpoint
from latent_planner.cli import plan
from latent_planner.model.encoder import Encoder
from latent_planner.model.world_model import WorldModel
from latent_planner.pixels import checked_frames, resize, resize_picture
from latent_planner.planners import PlanError


@contextmanager
def encoder_inputs() -> Iterator[list[Tensor]]:
    """What encoders are given while this is open."""
    seen: list[Tensor] = []

    def note(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        if isinstance(module, Encoder):
            seen.append(args[0].clone())

    hook = nn.modules.module.register_module_forward_pre_hook(note)
    try:
        yield seen
    finally:
        hook.remove()


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("encoder, size", [("keypoint", 64), ("keypoint", 224), ("vit", 224)])
@pytest.mark.parametrize("shape", [(448, 448), (300, 500), (50, 40)])
def test_a_goal_is_the_same_to_plan_and_to_an_agent(
    tiny_checkpoint: Path, tmp_path: Path, encoder: str, size: int, shape: tuple[int, int]
) -> None:
    model, info = checkpoint.load(tiny_checkpoint)
    changes = {"image_size": size, "encoder": encoder, "encoder_depth": 1, "encoder_width": 12}
    torch.manual_seed(0)
    other = WorldModel(dataclasses.replace(model.config, **changes))
    checkpoint.save(other, tmp_path / "run", planner=info["planner"])
    goal = picture(*shape)
    Image.fromarray(goal).save(tmp_path / "goal.png")
    words = ["--checkpoint", str(tmp_path / "run"), "--goal", str(tmp_path / "goal.png"), "--budget", "1"]
    with encoder_inputs() as by_plan:
        assert plan.main([*words, "--out", str(tmp_path / "out"), "--seed", "0"]) == 0
    with encoder_inputs() as by_agent:
        Agent.from_pretrained(tmp_path / "run", device="cpu").set_goal(goal)
    assert by_agent[0].shape == (1, 3, size, size)
    assert torch.equal(by_plan[0], by_agent[0])


def test_resizing_averages_areas_and_squeezes_what_is_oblong() -> None:
    frames = torch.arange(24.0).reshape(1, 1, 4, 6)
    small = resize(frames, 2, antialias=False)
    assert torch.allclose(small, frames.reshape(1, 1, 2, 2, 2, 3).mean((3, 5)))
    assert resize(frames, 8, antialias=False).shape == (1, 1, 8, 8)
    assert resize(small, 2, antialias=True) is small
    pixels = picture(40, 60)
    expected = pixels.reshape(20, 2, 20, 3, 3).mean((1, 3))
    assert np.abs(resize_picture(pixels, 20) - expected).max() <= 0.51


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((3, 20, 30), np.uint8), r"transpose it, np.transpose\(frame, \(1, 2, 0\)\)"),
        (np.zeros((2, 3, 20, 30), np.uint8), r"np.transpose\(frame, \(0, 2, 3, 1\)\)"),
        (np.zeros((20, 30, 3)), r"not float64: multiply by 255 and convert to uint8"),
        (np.zeros((3, 20, 30), np.float32), "transpose it.* then multiply by 255"),
        (np.zeros((20, 30, 4), np.uint8), "drop the last channel"),
        (np.zeros((20, 30), np.uint8), r"not \(20, 30\)"),
        (np.zeros((0, 30, 3), np.uint8), r"not \(0, 30, 3\)\.$"),
    ],
)
def test_a_frame_that_is_nearly_right_is_refused_with_what_to_do(frames: np.ndarray, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        checked_frames(frames)
