"""Plans in fewer bits: near those in float32, and `auto` takes what is quickest on this processor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from latent_planner import Agent
from latent_planner.checkpoints import checkpoint
from latent_planner.model import device, precision
from latent_planner.model.device import has_int8, planning_precisions
from latent_planner.model.precision import Precision
from latent_planner.planners import PlanError

CPU = torch.device("cpu")
FRAME = np.full((64, 64, 3), 200, np.uint8)
int8 = pytest.mark.skipif(not has_int8(), reason="this torch has no 8-bit products for this CPU")


def off(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


@int8
@pytest.mark.parametrize("frames", [1, 3])
@torch.no_grad()
def test_8_bit_rollouts_are_near_the_exact_ones(frames: int) -> None:
    world_model = checkpoint.load("pusht")[0]
    draw = torch.Generator().manual_seed(0)
    latents = torch.randn(2, frames, world_model.config.latent_dim, generator=draw)
    candidates, past = (
        torch.randn(*shape, world_model.config.block_dim, generator=draw)
        for shape in ((2, 20, 5), (2, frames - 1))
    )
    before = {name: value.clone() for name, value in world_model.state_dict().items()}
    exact = world_model.rollout(latents, candidates, past)
    found = Precision("int8", world_model, CPU).rollout(latents, candidates, past)
    assert found.dtype == torch.float32 and torch.equal(found[:, :, 0], exact[:, :, 0])
    assert 0 < off(found, exact) < 0.03
    assert all(torch.equal(value, before[name]) for name, value in world_model.state_dict().items())
    assert torch.equal(world_model.rollout(latents, candidates, past), exact)  # the model itself stays exact


@int8
@pytest.mark.parametrize("frames", [1, 3])
@torch.no_grad()
def test_8_bit_rollouts_of_the_published_architecture(frames: int) -> None:
    from published import weights

    from latent_planner.checkpoints import lewm

    actions = {"action_mean": (0.0, 0.0), "action_std": (1.0, 1.0)}
    actions |= {"action_low": (-1.0, -1.0), "action_high": (1.0, 1.0)}
    world_model = lewm.from_lewm(weights(), env="pusht", **actions).eval()
    draw = torch.Generator().manual_seed(0)
    latents = torch.randn(1, frames, 192, generator=draw)
    candidates, past = (torch.randn(*shape, 10, generator=draw) for shape in ((1, 6, 4), (1, frames - 1)))
    exact = world_model.rollout(latents, candidates, past)
    assert off(Precision("int8", world_model, CPU).rollout(latents, candidates, past), exact) < 0.03


@int8
def test_with_a_gradient_8_bits_are_float32(tiny_checkpoint: Path) -> None:
    world_model = checkpoint.load(tiny_checkpoint)[0]
    candidates = torch.zeros(1, 2, 3, world_model.config.block_dim, requires_grad=True)
    latents = torch.zeros(1, 1, world_model.config.latent_dim)
    found = Precision("int8", world_model, CPU).rollout(latents, candidates, None)
    assert torch.equal(found, world_model.rollout(latents, candidates)) and found.requires_grad


@pytest.mark.parametrize("name", ["bfloat16", pytest.param("int8", marks=int8)])
def test_an_agent_plans_in_it(tiny_checkpoint: Path, name: str) -> None:
    plans = []
    for wanted in ("float32", name):
        agent = Agent.from_pretrained(tiny_checkpoint, device="cpu", seed=3, precision=wanted)
        assert agent.settings.to_dict()["precision"] == wanted
        agent.set_goal(FRAME // 2)
        plans.append(agent.plan(FRAME))
    assert np.isfinite(plans[1].latents).all()
    np.testing.assert_allclose(plans[1].cost, plans[0].cost, rtol=0.1)


def test_auto_offers_only_what_the_processor_has(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, choices in (
        ((), ("float32",)),
        (("vnni",), ("float32", "int8")),
        (("avx512_bf16", "vnni"), ("float32", "bfloat16", "int8")),
    ):
        monkeypatch.setattr(device, "_has", lambda *asked, found=found: bool(set(asked) & set(found)))
        monkeypatch.setattr(device, "has_int8", lambda: True)
        assert planning_precisions("auto", CPU) == choices
        assert planning_precisions("float32", CPU) == ("float32",)
    with pytest.raises(PlanError, match="choose auto or float32"):
        planning_precisions("int8", torch.device("cuda"))


@pytest.mark.parametrize(
    ("bfloat16", "eight", "used"), [(0.5, 0.4, "int8"), (0.5, 0.6, "bfloat16"), (0.95, 2, "float32")]
)
def test_auto_takes_the_quickest(
    monkeypatch: pytest.MonkeyPatch, tiny_checkpoint: Path, bfloat16: float, eight: float, used: str
) -> None:
    names = ("float32", "bfloat16", "int8")
    monkeypatch.setattr(precision, "planning_precisions", lambda wanted, on: names)
    now, calls = [0.0], []
    chosen = Precision("auto", checkpoint.load(tiny_checkpoint)[0], CPU, timer=lambda: now[0])

    def work() -> None:
        calls.append(chosen.used)
        now[0] += {"float32": 1.0, "bfloat16": bfloat16, "int8": eight}[chosen.used]

    chosen.choose(work)
    assert chosen.used == used and calls == [*names] * precision.ROUNDS
    chosen.choose(work)
    assert len(calls) == 3 * precision.ROUNDS  # once is enough
    assert str(chosen).startswith(f"{used} (trials: float32 1000.0 ms")
