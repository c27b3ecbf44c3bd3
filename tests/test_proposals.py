"""Proposed plans: how the search uses them, and how they are learned from what a recording holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_run import SquareRecording, losses, rows, tiny_dataset, tiny_model, tiny_trainer

from latent_planner import Agent, planners
from latent_planner.checkpoints import checkpoint
from latent_planner.model.proposer import Proposer
from latent_planner.planners import PlanConfig, PlanError
from latent_planner.training.dataset import DatasetError
from latent_planner.training.run_state import TrainingError

pytestmark = pytest.mark.random

LOW, HIGH = [-2.0, -2.0], [2.0, 2.0]
QUICK = PlanConfig(horizon=3, num_samples=64, num_elites=8, iterations=8, init_std=0.3)
HOLE = torch.tensor([[1.5, -1.5], [1.5, 1.5], [-1.5, 1.5]])  # (H, FA)


def needle(candidates: torch.Tensor) -> torch.Tensor:
    """A wide bowl around zero, and a deeper hole that nothing leads to."""
    miss = (candidates - HOLE).square().sum(dim=(-1, -2))
    return torch.minimum(candidates.square().sum(dim=(-1, -2)), 4 * miss - 5)


@pytest.mark.parametrize("name", ["cem", "icem", "mppi", "predictive"])
def test_the_search_finds_and_mends_what_was_proposed(name: str) -> None:
    planner = planners.make(name, QUICK, LOW, HIGH)
    proposed = torch.stack([torch.zeros(3, 2), HOLE + 0.3, -HOLE])[None]
    assert planner.plan(needle).cost.item() > -0.1
    found = planner.plan(needle, proposals=proposed).cost.item()
    assert -5 <= found < 4 * 0.3**2 * 6 - 5 - 0.5


def test_proposals_take_their_share_of_the_candidates_inside_the_bounds() -> None:
    seen = []

    def cost(candidates: torch.Tensor) -> torch.Tensor:
        seen.append(candidates.clone())
        return candidates.square().sum(dim=(-1, -2))

    planner = planners.make("cem", PlanConfig(horizon=3, num_samples=100, init_std=0.1), LOW, HIGH)
    planner.plan(cost, proposals=torch.full((1, 4, 3, 2), 9.0), seeds=[0])
    assert all(float(candidates.abs().max()) <= 2 for candidates in seen)
    assert int((seen[0] > 1).all(-1).all(-1).sum()) == 30
    assert float(seen[0][0, 0].abs().max()) == 0, "the first candidate is still the mean"


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_proposals_are_cut_or_filled_to_the_horizon(steps: int) -> None:
    plan = planners.make("cem", QUICK, LOW, HIGH).plan(needle, proposals=torch.ones(1, 5, steps, 2))
    assert plan.actions.shape == (1, 3, 2)


def test_without_a_share_or_without_proposals_nothing_changes() -> None:
    proposed = torch.ones(1, 5, 3, 2)
    alone = planners.make("cem", QUICK, LOW, HIGH).plan(needle).actions
    none = planners.make("cem", PlanConfig(**{**QUICK.to_dict(), "proposal_share": 0.0}), LOW, HIGH)
    assert torch.equal(none.plan(needle, proposals=proposed).actions, alone)
    planner = planners.make("cem", QUICK, LOW, HIGH)
    assert torch.equal(planner.plan(needle, proposals=proposed[:, :0]).actions, alone)


def test_a_problem_gets_the_same_plan_in_a_batch_as_alone() -> None:
    planner = planners.make("cem", QUICK, LOW, HIGH)
    proposed = torch.stack([torch.stack([HOLE + 0.2]), torch.stack([-HOLE])])
    both = planner.plan(needle, batch_size=2, proposals=proposed, seeds=[3, 4]).actions
    for i in range(2):
        alone = planner.plan(needle, proposals=proposed[i : i + 1], seeds=[3 + i]).actions
        assert torch.allclose(both[i], alone[0], atol=1e-5)


@pytest.mark.parametrize(
    ("proposed", "message"),
    [
        (torch.zeros(1, 3, 2), r"any, steps, block\) = \(1, any, any, 2\), not \(1, 3, 2\)"),
        (torch.zeros(2, 4, 3, 2), r"not \(2, 4, 3, 2\)"),
        ([[1.0]], "not list"),
        (torch.full((1, 4, 3, 2), torch.nan), "not finite"),
    ],
)
def test_wrong_proposals_are_clear_errors(proposed: object, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        planners.make("cem", QUICK, LOW, HIGH).plan(needle, proposals=proposed)


def test_journeys_hold_the_actions_between_two_frames_of_one_episode() -> None:
    reader = SquareRecording(episodes=8, length=12)
    dataset = tiny_dataset(reader)  # frameskip 2
    with pytest.raises(DatasetError, match="encode_frames first"):
        dataset.journeys(0, 4, longest=3)
    dataset.encode_frames(lambda pixels: torch.zeros(len(pixels), 1, 1))
    dataset.latents = torch.arange(len(dataset.actions), dtype=torch.float32)[:, None]  # the row itself
    trained = set(dataset.rows["train"].tolist())
    seen = set()
    for k in range(20):
        start, goal, steps, actions = dataset.journeys(k, 32, longest=3)
        assert actions.shape == (32, 3, 4) and steps.dtype == torch.int64
        for z, g, n, blocks in zip(start[:, 0].long(), goal[:, 0].long(), steps, actions):
            assert int(g) - int(z) == 2 * int(n) and int(z) // 12 == int(g) // 12 and int(z) in trained
            done = blocks.reshape(6, 2)
            assert torch.equal(done[: 2 * n], dataset.actions[z : z + 2 * n])
            assert not done[2 * n :].any()
            seen.add(int(n))
    assert seen == {1, 2, 3}
    again = dataset.journeys(3, 32, longest=3)
    halves = [dataset.journeys(3, 32, longest=3, rank=rank, world_size=2) for rank in range(2)]
    for whole, parts in zip(again, zip(*halves)):
        assert torch.equal(whole, torch.cat(parts))


def test_guesses_keep_two_ways_apart_where_their_mean_would_be_neither() -> None:
    model = tiny_model(tiny_dataset(), proposals=4, proposal_steps=2, proposer_width=32)
    torch.manual_seed(0)
    proposer = Proposer(model.config)
    optimizer = torch.optim.Adam(proposer.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(400):
        z = torch.randn(64, 12, generator=generator)
        way = torch.randint(0, 2, (64, 1, 1), generator=generator) * 2.0 - 1
        steps = torch.randint(1, 3, (64,), generator=generator)
        actions = way * torch.ones(64, 2, 4) * (torch.arange(2) < steps[:, None])[..., None]
        optimizer.zero_grad()
        proposer.loss(z, z, steps, actions).backward()
        optimizer.step()
    z = torch.randn(9, 12, generator=generator)
    proposer.requires_grad_(False)
    guesses = proposer.propose(z, z, horizon=3)
    assert guesses.shape == (9, 4 * 2, 3, 4) and not guesses[:, :, 2].any()
    late = guesses[:, 4:, :2]  # of those that arrive after two steps
    for way in (-1.0, 1.0):
        assert float((late - way).square().mean((2, 3)).amin(1).max()) < 0.05
    assert proposer.propose(z, z, horizon=1).shape == (9, 4, 1, 4)


def test_training_learns_them_once_the_encoder_is_done_and_a_checkpoint_keeps_them(tmp_path: Path) -> None:
    model = {"proposals": 3, "proposal_steps": 2, "proposer_width": 32}
    options = {"steps": 120, "log_every": 10, "batch_size": 32, "learning_rate": 3e-3}
    tiny_trainer(tmp_path, freeze_encoder=0.5, model=model, **options).fit()
    logged = [row for row in rows(tmp_path) if "loss" in row]
    assert all("proposal" not in row for row in logged[:6])
    assert logged[-1]["proposal"] < 0.9 * logged[6]["proposal"]
    loaded, _ = checkpoint.load(tmp_path)
    frames = SquareRecording().data["pixels"][:2]
    agent = Agent(loaded, plan_config=PlanConfig(horizon=3, num_samples=16, num_elites=4, iterations=2))
    agent.set_goal(frames[1])
    latents = loaded.encode(torch.from_numpy(frames).permute(0, 3, 1, 2)[:, None].contiguous())[:, 0]
    proposals = loaded.propose(latents, latents.flip(0), 3)
    assert proposals is not None and proposals.shape == (2, 6, 3, loaded.config.block_dim)
    assert agent.act(frames[0]).shape == (2,) and np.isfinite(agent.last_plan.cost).all()
    assert tiny_model(tiny_dataset()).propose(latents, latents, 3) is None


def test_a_run_with_proposals_resumes_exactly(tmp_path: Path) -> None:
    model = {"proposals": 2, "proposer_width": 16}
    options = {"steps": 12, "freeze_encoder": 0.4, "model": model}

    def stop(row: dict) -> None:
        if row["step"] == 8 and "loss" in row:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny_trainer(tmp_path / "a", log=stop, **options).fit()
    tiny_trainer(tmp_path / "a", **options).fit()
    tiny_trainer(tmp_path / "b", **options).fit()
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    last = [[row["proposal"] for row in rows(tmp_path / name) if "proposal" in row] for name in "ab"]
    assert last[0] == last[1] and len(last[0]) == 7


def test_proposals_that_could_never_be_learned_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="set freeze_encoder below 1, or the model's proposals to 0"):
        tiny_trainer(tmp_path, steps=3, model={"proposals": 2})
