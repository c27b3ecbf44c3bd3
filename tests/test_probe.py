"""Probes find what is in the latents, and nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from tiny_run import SquareRecording, tiny_dataset, tiny_model
from torch import Tensor, nn

from latent_planner.training.dataset import DatasetError
from latent_planner.training.probe import probe

pytestmark = pytest.mark.random


class Frames:
    """Frames of one pixel whose three channels are the state: two positions and an angle."""

    name, state_names, angle_names = "frames", ("x", "y", "angle", "still"), ("angle",)

    def sample(self, count: int, *, split: str, seed: int = 0) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng(seed + len(split))  # the same on every processor, unlike torch's
        pixels = torch.from_numpy(rng.integers(0, 256, (count, 3, 1, 1), np.uint8))
        x, y, angle = pixels[:, :, 0, 0].float().unbind(1)
        return pixels, torch.stack([x, y, 2 * math.pi * angle / 255, torch.ones(count)], 1)


class Eyes(nn.Module):
    """Latents that hold x linearly, the angle only squared and wrapped, and y not at all."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.from_numpy(np.random.default_rng(0).normal(size=(3, 6))).float())

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


def latents(split: str, count: int) -> tuple[Tensor, Tensor]:
    """(n, 6) what the eyes see, and (n,) the sine of the angle, in double precision."""
    pixels, state = Frames().sample(count, split=split)
    return Eyes().encode(pixels[:, None])[:, 0].detach().double(), state[:, 2].double().sin()


def with_ones(x: Tensor) -> Tensor:
    return torch.cat([x, torch.ones_like(x[:, :1])], 1)


def r2(predicted: Tensor, target: Tensor) -> float:
    return 1 - float((predicted - target).square().mean() / target.var(correction=0))


def test_the_linear_probe_is_a_regression() -> None:
    score = probe(Eyes(), Frames(), frames=400, mlp=False)["angle_sin"]["linear_r2"]  # type: ignore[arg-type]
    x, target = latents("train", 400)
    x_test, target_test = latents("held_out", 100)
    # Three of the six directions hold nothing but rounding, which must not be fitted.
    weights = torch.linalg.lstsq(with_ones(x), target[:, None], rcond=1e-4, driver="gelsd").solution
    assert score == pytest.approx(r2((with_ones(x_test) @ weights)[:, 0], target_test), abs=0.01)


def test_the_linear_probe_is_the_ridge_regression_it_says() -> None:
    score = probe(Eyes(), Frames(), frames=400, mlp=False)["angle_sin"]["linear_r2"]  # type: ignore[arg-type]
    x, target = latents("train", 400)
    x_test, target_test = latents("held_out", 100)
    x_test, x = (x_test - x.mean(0)) / x.std(0), (x - x.mean(0)) / x.std(0)
    penalty = math.sqrt(1e-3 * len(x)) * torch.eye(6).double()  # as further rows whose targets are zero
    rows, values = torch.cat([x, penalty]), torch.cat([target - target.mean(), torch.zeros(6).double()])
    weights = torch.linalg.lstsq(rows, values[:, None]).solution
    predicted = (x_test @ weights)[:, 0] + target.mean()
    assert score == pytest.approx(r2(predicted, target_test), abs=1e-4)


def test_a_real_model_and_a_recording_without_state() -> None:
    dataset = tiny_dataset()
    scores = probe(tiny_model(dataset), dataset, frames=200)
    assert set(scores) == {"x", "y", "direction_sin", "direction_cos"}
    reader = SquareRecording()
    reader.columns = ("pixels", "action")
    dataset = tiny_dataset(reader)
    with pytest.raises(DatasetError, match="holds no state to probe"):
        probe(tiny_model(dataset), dataset)


def test_a_reading_that_is_missing_in_some_frames_is_probed_on_the_others() -> None:
    class Gaps(Frames):
        def sample(self, count: int, *, split: str, seed: int = 0) -> tuple[Tensor, Tensor]:
            pixels, state = super().sample(count, split=split, seed=seed)
            state[::7, 0] = math.nan
            state[:, 1] = math.inf
            state[3, 2] = -math.inf
            return pixels, state

    scores = probe(Eyes(), Gaps(), frames=2000, seed=0)  # type: ignore[arg-type]
    assert set(scores) == {"x", "angle_sin", "angle_cos"}
    assert scores["x"]["linear_r2"] > 0.99 and scores["angle_sin"]["mlp_r"] > 0.98
    whole = probe(Eyes(), Frames(), frames=2000, seed=0)  # type: ignore[arg-type]
    assert scores["x"]["linear_r"] == pytest.approx(whole["x"]["linear_r"], abs=0.01)
