"""Probes find what is in the latents, and nothing else."""

from __future__ import annotations

import math

import pytest
import torch
from tiny_run import SquareRecording, tiny_dataset, tiny_model
from torch import Tensor, nn

from latent_planner.training.dataset import DatasetError
from latent_planner.training.probe import probe


class Frames:
    """Frames of one pixel whose three channels are the state: two positions and an angle."""

    name, state_names, angle_names = "frames", ("x", "y", "angle", "still"), ("angle",)

    def sample(self, count: int, *, split: str, seed: int = 0) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed + len(split))
        pixels = torch.randint(0, 256, (count, 3, 1, 1), generator=generator, dtype=torch.uint8)
        x, y, angle = pixels[:, :, 0, 0].float().unbind(1)
        return pixels, torch.stack([x, y, 2 * math.pi * angle / 255, torch.ones(count)], 1)


class Eyes(nn.Module):
    """Latents that hold x linearly, the angle only squared and wrapped, and y not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.randn(3, 6, generator=torch.Generator().manual_seed(0)))

    def encode(self, pixels: Tensor) -> Tensor:
        x, _, angle = (pixels[..., 0, 0].float() / 255).unbind(-1)
        return torch.stack([x, angle, (angle - 0.5).square()], -1) @ self.mix


def test_linear_and_mlp_probes_find_what_is_there() -> None:
    model = Eyes().train()
    before = torch.get_rng_state()
    scores = probe(model, Frames(), frames=3000, seed=0)  # type: ignore[arg-type]
    assert set(scores) == {"x", "y", "angle_sin", "angle_cos"}  # what never varies is left out
    assert scores["x"]["linear_r2"] > 0.99 and scores["x"]["linear_r"] > 0.99
    assert abs(scores["y"]["linear_r"]) < 0.1 and scores["y"]["mlp_r2"] < 0.1
    assert scores["angle_sin"]["linear_r2"] < 0.9 < 0.98 < scores["angle_sin"]["mlp_r"]
    assert model.training and torch.equal(before, torch.get_rng_state())


def test_the_linear_probe_is_a_regression() -> None:
    scores = probe(Eyes(), Frames(), frames=400, mlp=False)  # type: ignore[arg-type]
    pixels, state = Frames().sample(400, split="train")
    inputs = torch.cat([Eyes().encode(pixels[:, None])[:, 0].detach(), torch.ones(400, 1)], 1).double()
    weights = torch.linalg.lstsq(inputs, state[:, 2:3].double().sin()).solution
    pixels, state = Frames().sample(100, split="held_out")
    inputs = torch.cat([Eyes().encode(pixels[:, None])[:, 0].detach(), torch.ones(100, 1)], 1).double()
    target = state[:, 2].double().sin()
    r2 = 1 - (inputs @ weights - target[:, None]).square().mean() / target.var(correction=0)
    assert scores["angle_sin"]["linear_r2"] == pytest.approx(float(r2), abs=0.01)


def test_a_real_model_and_a_recording_without_state() -> None:
    dataset = tiny_dataset()
    scores = probe(tiny_model(dataset), dataset, frames=200)
    assert set(scores) == {"x", "y", "direction_sin", "direction_cos"}
    reader = SquareRecording()
    reader.columns = ("pixels", "action")
    dataset = tiny_dataset(reader)
    with pytest.raises(DatasetError, match="holds no state to probe"):
        probe(tiny_model(dataset), dataset)
