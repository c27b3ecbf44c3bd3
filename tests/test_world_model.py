"""The world model: published numbers, causality, rollouts equal to stepwise prediction, clear errors."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import weights
from torch import Tensor

from latent_planner.checkpoints import lewm
from latent_planner.model.pooling import pool
from latent_planner.model.world_model import WorldModel, WorldModelConfig
from latent_planner.objective import Imagined, last

pytestmark = pytest.mark.random

DATA = Path(__file__).parent / "data"
WORLD: dict[str, Any] = {
    "env": "pusht",
    "action_mean": (0.1, -0.2),
    "action_std": (0.5, 0.4),
    "action_low": (-1.0, -1.0),
    "action_high": (1.0, 1.0),
}
TINY: dict[str, Any] = WORLD | {
    "image_size": 32,
    "pixel_mean": (0.9, 0.8, 0.7),
    "pixel_std": (0.2, 0.3, 0.4),
    "frameskip": 2,
    "latent_dim": 16,
    "projector_dim": 24,
    "encoder_width": 8,
    "predictor_width": 16,
    "predictor_depth": 2,
    "predictor_heads": 2,
    "predictor_head_dim": 8,
    "predictor_mlp_dim": 32,
}
KINDS = {
    "banded": {},
    "conv": {"encoder": "conv"},
    "lewm": {"predictor": "lewm", "encoder": "vit", "patch_size": 16, "encoder_depth": 2, "encoder_heads": 2},
}


def model(kind: str, **changes: Any) -> WorldModel:
    """A tiny model whose weights are all away from their zeros, in eval mode."""
    torch.manual_seed(0)
    world_model = WorldModel(WorldModelConfig(**(TINY | KINDS[kind] | changes)))
    with torch.no_grad():
        for parameter in world_model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return world_model.eval()


def step_by_step(world_model: WorldModel, latents: Tensor, candidates: Tensor, past: Tensor | None) -> Tensor:
    """What rollout means: predict, append, predict again; nothing shared or kept."""
    batch, count, horizon, _ = candidates.shape
    start = latents.shape[1] - 1
    actions = (
        candidates if past is None else torch.cat([past[:, None].expand(-1, count, -1, -1), candidates], 2)
    )
    tokens, actions = latents[:, None].expand(-1, count, -1, -1).flatten(0, 1), actions.flatten(0, 1)
    for length in range(start + 1, start + 1 + horizon):
        first = (
            max(0, length - world_model.config.context_len) if world_model.config.predictor == "lewm" else 0
        )
        predicted = world_model.predict(tokens[:, first:], actions[:, first:length])
        tokens = torch.cat([tokens, predicted[:, -1:]], 1)
    return tokens[:, start:].unflatten(0, (batch, count))


# the published model


@functools.cache
def published() -> tuple[WorldModel, dict[str, Tensor]]:
    """The model of the reference weights, made as any published checkpoint is, and the reference outputs."""
    world_model = lewm.from_lewm(weights(), env="pusht", action_mean=(0.1, -0.2), action_std=(0.5, 0.4))
    arrays = np.load(DATA / "lewm_reference.npz")
    return world_model, {name: torch.from_numpy(arrays[name]) for name in arrays}


def assert_near(value: Tensor, reference: Tensor) -> None:
    assert value.shape == reference.shape
    assert (value - reference).abs().max() <= 1e-4 * reference.abs().max()
    assert (value - reference).norm() <= 1e-5 * reference.norm()


@torch.no_grad()
def test_equals_the_published_model() -> None:
    world_model, reference = published()
    assert sum(p.numel() for p in world_model.parameters()) == pytest.approx(18.03e6, rel=1e-3)
    latents, past = reference["emb"], reference["actions"][:, :2]
    assert_near(world_model.encode(reference["pixels"]), latents)
    assert_near(world_model.predictor.embed_actions(reference["actions"]), reference["act_emb"])
    assert_near(world_model.predict(latents, reference["actions"]), reference["pred"])
    one = world_model.rollout(latents[:, -1:], reference["candidates"])
    assert_near(one, reference["rollout_h1"])
    assert_near(last()(Imagined(one, reference["goal_emb"])), reference["cost_h1"])
    three = world_model.rollout(latents, reference["candidates"], past)
    assert_near(three, reference["rollout_h3"][:, :, 2:])


# shapes, causality, rollouts


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_shapes(kind: str) -> None:
    world_model = model(kind)
    pixels = torch.randint(0, 256, (2, 3, 3, 32, 32), dtype=torch.uint8)
    latents = world_model.encode(pixels)
    assert latents.shape == (2, 3, 16)
    assert world_model.predict(latents, torch.randn(2, 3, 4)).shape == (2, 3, 16)
    both = world_model(pixels, torch.randn(2, 2, 4))
    assert [x.shape for x in both] == [(2, 3, 16), (2, 2, 16)]
    rolled = world_model.rollout(latents, torch.randn(2, 7, 5, 4), torch.randn(2, 2, 4))
    assert rolled.shape == (2, 7, 6, 16)
    assert torch.equal(rolled[:, :, 0], latents[:, -1:].expand(-1, 7, -1))


def test_the_small_model_is_small() -> None:
    world_model = WorldModel(
        WorldModelConfig(**WORLD, image_size=64, pixel_mean=(0.5,) * 3, pixel_std=(0.2,) * 3)
    )
    assert sum(p.numel() for p in world_model.parameters()) <= 3e6


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_prediction_depends_on_nothing_later(kind: str) -> None:
    world_model = model(kind)
    latents, actions = torch.randn(1, 3, 16), torch.randn(1, 3, 4)
    before = world_model.predict(latents, actions)
    for t in range(3):
        for changed in (latents, actions):
            kept = changed[:, t].clone()
            changed[:, t] = torch.randn_like(kept)
            after = world_model.predict(latents, actions)
            torch.testing.assert_close(after[:, :t], before[:, :t])
            assert (after - before).abs().amax(-1)[0, t:].min() > 1e-4  # later ones do depend on it
            changed[:, t] = kept


@torch.no_grad()
def test_the_band_ends_after_context_len_tokens() -> None:
    world_model = model("banded", predictor_depth=1)
    latents, actions = torch.randn(1, 6, 16), torch.randn(1, 6, 4)
    before = world_model.predict(latents, actions)
    latents[:, 1] += 1
    changed = (world_model.predict(latents, actions) - before).abs().amax(-1)[0] > 1e-6
    assert changed.tolist() == [False, True, True, True, False, False]


@pytest.mark.parametrize("context_len", [1, 2, 3])
@pytest.mark.parametrize("length", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", KINDS)
def test_rollout_equals_prediction_step_by_step(kind: str, length: int, context_len: int) -> None:
    """Cached keys, shared contexts and moving windows change no number, nor the gradient."""
    world_model = model(kind, context_len=context_len)
    latents, past = torch.randn(2, length, 16), torch.randn(2, length - 1, 4)
    results, gradients = [], []
    for roll in (world_model.rollout, functools.partial(step_by_step, world_model)):
        inputs = torch.randn(2, 4, 5, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
        context = latents.clone().requires_grad_()
        rolled = roll(context, inputs, past if length > 1 else None)
        results.append(rolled)
        gradients.append(torch.autograd.grad(rolled.square().sum(), [inputs, context]))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_many_candidates_are_rolled_out_in_parts(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    world_model, latents, candidates = model(kind), torch.randn(3, 1, 16), torch.randn(3, 10, 4, 4)
    whole = world_model.rollout(latents, candidates)
    for at_once in (1, 4, 10, 25):
        monkeypatch.setattr("latent_planner.model.world_model.CANDIDATES_AT_ONCE", at_once)
        torch.testing.assert_close(world_model.rollout(latents, candidates), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_learns(kind: str) -> None:
    world_model = model(kind).train()
    latents, predictions = world_model(
        torch.randint(0, 256, (4, 4, 3, 32, 32), dtype=torch.uint8), torch.randn(4, 3, 4)
    )
    rolled = world_model.rollout(latents[:, :2], torch.randn(4, 1, 2, 4), torch.randn(4, 1, 4))
    (predictions.square().mean() + latents.square().mean() + rolled.square().mean()).backward()
    silent = [name for name, p in world_model.named_parameters() if p.grad is None or not p.grad.any()]
    # a bias in front of BatchNorm moves nothing, and neither does one added to every key
    assert not [name for name in silent if not name.endswith(("hidden.bias", "key.bias"))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_autocast_stays_near(kind: str, dtype: torch.dtype) -> None:
    world_model = model(kind)
    pixels = torch.randint(0, 256, (2, 3, 3, 32, 32), dtype=torch.uint8)
    actions, candidates = torch.randn(2, 3, 4), torch.randn(2, 4, 5, 4)
    latents = world_model.encode(pixels)
    exact = [
        latents,
        world_model.predict(latents, actions),
        world_model.rollout(latents, candidates, actions[:, 1:]),
    ]
    with torch.autocast("cpu", dtype):
        near = [
            world_model.encode(pixels),
            world_model.predict(latents, actions),
            world_model.rollout(latents, candidates, actions[:, 1:]),
        ]
    assert near[1].dtype == near[2].dtype == torch.float32
    for rough, fine in zip(near, exact):
        assert (rough.float() - fine).norm() < 0.05 * fine.norm()


@pytest.mark.parametrize("frames", [1, 16, 37])
def test_pooling_some_frames_at_a_time_changes_no_number(frames: int) -> None:
    torch.manual_seed(3)
    found, bias, places = torch.randn(frames, 11, 36), torch.randn(4), torch.randn(5, 36)
    upstream, results = torch.randn(frames, 7, 9), []
    for place in (found.clone(), found.double()):
        maps, own = place.requires_grad_(), bias.to(place.dtype).requires_grad_()
        if place.dtype == torch.float32:
            means = pool(maps, own, places, training=True)
        else:  # as it is meant
            seen = torch.nn.functional.silu(maps[:, 7:] + own[:, None])
            cells = torch.cat([places.double().expand(frames, -1, -1), seen], 1)
            means = torch.einsum("nwc,nvc->nwv", maps[:, :7].softmax(-1), cells)
        gradients = torch.autograd.grad((means * upstream).sum(), [maps, own])
        results.append([value.double() for value in (means, *gradients)])
    with torch.no_grad():
        results.append([pool(found, bias, places, training=False).double(), *results[1][1:]])
    for result in (results[0], results[2]):
        for value, exact in zip(result, results[1]):
            torch.testing.assert_close(value, exact, rtol=1e-4, atol=1e-5)


# frames and actions


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_frames_of_any_size_and_layout(kind: str) -> None:
    world_model = model(kind)
    small = torch.randint(0, 256, (1, 2, 32, 32, 3), dtype=torch.uint8).permute(0, 1, 4, 2, 3)  # as recorded
    expected = world_model.encode(small)
    torch.testing.assert_close(world_model.encode(small.contiguous()), expected)
    large = small.repeat_interleave(4, -1).repeat_interleave(4, -2)
    resized = world_model.encode(large)
    assert resized.shape == expected.shape
    flat = torch.full((1, 1, 3, 50, 70), 90, dtype=torch.uint8)  # one colour: its size cannot matter
    torch.testing.assert_close(
        world_model.encode(flat), world_model.encode(flat[..., :32, :32]), rtol=1e-3, atol=1e-4
    )


@torch.no_grad()
def test_a_large_frame_is_seen_as_the_small_one_it_averages_to() -> None:
    """Not for the ViT, which resizes as published; 96 px are no multiple of 32 rows, 80 no multiple of 32."""
    world_model = model("banded")
    small = torch.randint(0, 256, (1, 2, 3, 32, 32), dtype=torch.uint8)
    expected = world_model.encode(small)
    large = small.repeat_interleave(3, -1).repeat_interleave(7, -2)
    torch.testing.assert_close(world_model.encode(large), expected, rtol=1e-4, atol=1e-4)
    columns = torch.rand(1, 1, 3, 1, 80).mul(255).to(torch.uint8).expand(-1, -1, -1, 48, -1)
    means = columns.float().repeat_interleave(2, -1).unflatten(-1, (32, 5)).mean(-1)[..., :1, :]
    exact = means.round().to(torch.uint8).expand(-1, -1, -1, 32, -1)
    torch.testing.assert_close(world_model.encode(columns), world_model.encode(exact), rtol=0.05, atol=0.05)


@torch.no_grad()
def test_shrinking_is_antialiased() -> None:
    """A fine checkerboard becomes its mean, not one of its colours."""
    world_model = model("banded")
    seen: list[Tensor] = []
    world_model.encoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    board = (torch.arange(128)[:, None] + torch.arange(128)) % 2 * 255
    world_model.encode(board.expand(1, 1, 3, 128, 128).to(torch.uint8))
    middle = (0.5 - world_model.pixel_mean) / world_model.pixel_std
    torch.testing.assert_close(
        seen[0][0, :, 8:-8, 8:-8], middle[:, None, None].expand(3, 16, 16), atol=0.02, rtol=0
    )


def test_actions_are_normalised_and_bounded_per_block() -> None:
    world_model = model("banded")
    config, actions = world_model.config, torch.randn(4, 2, 2)
    normal = world_model.normalise_actions(actions)
    torch.testing.assert_close(normal[..., 1], (actions[..., 1] + 0.2) / 0.4)
    torch.testing.assert_close(world_model.denormalise_actions(normal), actions)
    assert (config.action_dim, config.block_dim) == (2, 4)
    assert config.block_low == pytest.approx((-2.2, -2.0, -2.2, -2.0))
    assert config.block_high == pytest.approx((1.8, 3.0, 1.8, 3.0))


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_hold_no_normalisation(kind: str) -> None:
    assert not [name for name in model(kind).state_dict() if "mean" in name and "running" not in name]


# errors


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_size": 40, "encoder": "conv"}, "multiple of 16"),
        ({"image_size": 42}, "multiple of 4"),
        ({"encoder": "vit", "patch_size": 14}, "multiple of 14"),
        ({"encoder": "vit", "patch_size": 16, "encoder_heads": 3}, "multiple of 3"),
        ({"encoder_width": 6, "encoder": "conv"}, "multiple of 4"),
        ({"action_std": (0.5,)}, "one number per action component"),
        ({"action_mean": (), "action_std": (), "action_low": (), "action_high": ()}, "one number per action"),
        ({"action_std": (0.5, 0.0)}, "above zero"),
        ({"action_mean": (0.0, float("nan"))}, "finite"),
        ({"action_low": (1.5, -1.0)}, "below action_high"),
        ({"pixel_mean": (0.5,)}, "three numbers"),
        ({"pixel_std": 0.5}, "must hold numbers"),
        ({"frameskip": 0}, "whole number"),
        ({"latent_dim": 12.5}, "whole number"),
        ({"context_len": True}, "whole number"),
        ({"dropout": 1.0}, "dropout"),
        ({"env": 3}, "must be text"),
        ({"control_hz": 0}, "control_hz must be a number above 0, or null"),
        ({"control_hz": "fast"}, "control_hz must be a number above 0, or null"),
        ({"encoder": "resnet"}, "choose from keypoint, robust, conv, vit"),
        ({"predictor": "gru"}, "choose from banded, lewm"),
        ({"predictor": "lewm", "latent_dim": 32}, "equal to latent_dim"),
        ({"latent_dimm": 32}, "did you mean 'latent_dim'"),
    ],
)
def test_wrong_settings_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WorldModelConfig.from_dict(TINY | changes)


def test_settings_survive_json() -> None:
    config = WorldModelConfig(**TINY)
    assert WorldModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    with pytest.raises(ValueError, match="lack action_std"):
        WorldModelConfig.from_dict({k: v for k, v in TINY.items() if k != "action_std"})


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 1, 32, 32, 3), (1, 1, 1, 32, 32)])
def test_frames_of_a_wrong_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"uint8 frames \(B, T, 3, h, w\), but got uint8"):
        model("banded").encode(torch.zeros(shape, dtype=torch.uint8))


def test_tensors_that_do_not_fit_are_refused() -> None:
    world_model = model("lewm")
    with pytest.raises(ValueError, match="but got float32"):
        world_model.encode(torch.zeros(1, 1, 3, 32, 32))
    with pytest.raises(ValueError, match=r"predict needs a tensor of shape \(1, 2, 4\)"):
        world_model.predict(torch.zeros(1, 2, 16), torch.zeros(1, 2, 5))
    with pytest.raises(ValueError, match="context_len = 3"):
        world_model.predict(torch.zeros(1, 4, 16), torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="past_actions"):
        world_model.rollout(torch.zeros(1, 2, 16), torch.zeros(1, 8, 5, 4))
    with pytest.raises(ValueError, match="rollout needs"):
        world_model.rollout(torch.zeros(1, 1, 16), torch.zeros(2, 8, 5, 4))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_on_cuda_rollouts_equal_those_on_the_cpu(kind: str) -> None:
    world_model, latents, candidates = model(kind), torch.randn(3, 2, 16), torch.randn(3, 50, 4, 4)
    past = torch.randn(3, 1, 4)
    here = world_model.rollout(latents, candidates, past)
    there = world_model.cuda().rollout(latents.cuda(), candidates.cuda(), past.cuda())
    torch.testing.assert_close(there.cpu(), here, rtol=1e-3, atol=1e-3)
