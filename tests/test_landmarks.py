"""Far goals: legs over landmarks, in a world where the right way is known."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from latent_planner.checkpoints import checkpoint
from latent_planner.evaluation import reachability
from latent_planner.legs import Legs
from latent_planner.model.landmarks import Landmarks
from latent_planner.model.world_model import WorldModel, WorldModelConfig

REACH = 5.0  # how far one plan gets in the plane below


def config(**changes: Any) -> WorldModelConfig:
    values: dict[str, Any] = dict(
        env="plane", image_size=32, latent_dim=2, action_mean=(0.0, 0.0), action_std=(1.0, 1.0),
        action_low=(-1.0, -1.0), action_high=(1.0, 1.0), pixel_mean=(0.5,) * 3, pixel_std=(0.2,) * 3,
        frameskip=1, landmarks=0,
    )  # fmt: skip
    return WorldModelConfig(**{**values, **changes})


class Straight:
    """Proposes to walk straight, one unit a step at most."""

    guesses, longest, leg_steps = 1, 5, (3, 5)

    def propose(self, latents: Tensor, goals: Tensor, horizon: int, steps: Sequence[int]) -> Tensor:
        plans = []
        for count in steps:
            step = (goals - latents) / count
            step = step / step.norm(dim=-1, keepdim=True).clamp(min=1.0)
            walk = step[:, None].repeat(1, self.longest, 1)
            walk[:, count:] = 0
            plans.append(walk)
        return torch.stack(plans, 1)


class Plane:
    """Latents are places; an action moves by itself, but nothing crosses the wall x = 0 above y = -3."""

    def __init__(self, landmarks: Landmarks | None) -> None:
        self.config, self.landmarks, self.proposer = config(), landmarks, Straight()

    def clip_blocks(self, blocks: Tensor) -> Tensor:
        return blocks.clamp(-1, 1)

    def rollout(self, latents: Tensor, candidates: Tensor) -> Tensor:
        place = latents[:, -1:].expand(-1, candidates.shape[1], -1)
        path = [place]
        for k in range(candidates.shape[2]):
            new = place + candidates[:, :, k]
            crosses = ((place[..., 0] > 0) != (new[..., 0] > 0)) & (place[..., 1] > -3)
            place = torch.where(crosses[..., None], place, new)
            path.append(place)
        return torch.stack(path, 2)


class KnownLeg(Landmarks):
    """What a leg leaves, without a network: the squared distance beyond REACH, all of it behind the wall."""

    def between(self, latents: Tensor, goals: Tensor) -> Tensor:
        a, b = latents[:, :, None], goals[:, None]
        left = ((b - a).norm(dim=-1) - REACH).clamp(min=0)
        behind = ((a[..., 0] > 0) != (b[..., 0] > 0)) & ((a[..., 1] > -3) | (b[..., 1] > -3))
        return torch.log1p(torch.where(behind, 5.0 + left, left).square())

    def forward(self, latents: Tensor, goals: Tensor) -> Tensor:
        return torch.diagonal(self.between(latents[None], goals[None])[0])


def plane(seed: int = 0, count: int = 300) -> Plane:
    landmarks = KnownLeg(config(landmarks=count))
    landmarks.latents.copy_(torch.rand(count, 2, generator=torch.Generator().manual_seed(seed)) * 16 - 8)
    landmarks.trust.fill_(0.5)
    return Plane(landmarks)


def walk(
    world: Plane, legs: int, start: list[float], goal: list[float], steps: int
) -> tuple[Tensor, list[bool]]:
    """Where one ends who takes the first step of the first leg, again and again."""
    place, target, far = torch.tensor([start]), torch.tensor([goal]), []
    for k in range(steps):
        aim = Legs(world, legs).aim(place, target, [steps - k])  # type: ignore[arg-type]
        far.append(bool(aim is not None and aim.far[0]))
        if aim is None:
            plans = world.proposer.propose(place, target, 5, range(1, 6))
            ends = world.rollout(place[:, None], plans)
            plan = plans[0, (ends[:, :, 1:] - target).square().sum(-1).amin(-1)[0].argmin()]
        else:
            plan = aim.plans[0, 0]
        place = world.rollout(place[:, None], plan[None, None])[:, 0, 1]
        if (place - target).norm() < 0.7:
            break
    return place[0], far


def test_the_way_round_a_wall_is_found_over_landmarks() -> None:
    world, start, goal = plane(), [-5.0, 5.0], [5.0, 5.0]
    straight, _ = walk(world, 1, start, goal, 60)
    assert straight[0] <= 0  # it stands at the wall
    around, far = walk(world, 6, start, goal, 60)
    assert (around - torch.tensor(goal)).norm() < 0.7
    assert far[0] and not far[-1]  # the last leg aims at the goal itself


def test_near_goals_are_planned_to_straight() -> None:
    aim = Legs(plane(), 6).aim(torch.tensor([[2.0, 2.0]]), torch.tensor([[5.0, 3.0]]), [None])  # type: ignore[arg-type]
    assert aim is not None and not aim.far.any() and torch.equal(aim.goals, torch.tensor([[5.0, 3.0]]))


@pytest.mark.parametrize(("legs", "left"), [(1, None), (6, 4), (6, 5)])
def test_one_leg_or_no_time_for_two_means_straight(legs: int, left: int | None) -> None:
    world = plane()
    assert Legs(world, legs).aim(torch.zeros(1, 2), torch.full((1, 2), 7.0), [left]) is None  # type: ignore[arg-type]


def test_without_landmarks_or_before_they_are_learned_it_is_straight() -> None:
    place = torch.zeros(1, 2), torch.full((1, 2), 7.0)
    untaught = plane()
    assert untaught.landmarks is not None
    untaught.landmarks.trust.zero_()
    for world in (Plane(None), untaught):
        assert Legs(world, 6).aim(*place, [None]) is None  # type: ignore[arg-type]


def test_a_batch_is_aimed_as_each_alone() -> None:
    world, generator = plane(), torch.Generator().manual_seed(4)
    here, goals = (torch.rand(6, 2, generator=generator) * 14 - 7 for _ in range(2))
    left = [None, 3, 40, 12, None, 25]
    together = Legs(world, 5).aim(here, goals, left)  # type: ignore[arg-type]
    assert together is not None
    for i in range(6):
        alone = Legs(world, 5).aim(here[i : i + 1], goals[i : i + 1], left[i : i + 1])  # type: ignore[arg-type]
        expected = goals[i] if alone is None else alone.goals[0]
        assert torch.allclose(together.goals[i], expected, atol=1e-5)


def test_values_are_shortest_paths() -> None:
    landmarks = KnownLeg(config(landmarks=7))
    landmarks.latents.copy_(torch.rand(7, 2, generator=torch.Generator().manual_seed(2)) * 16 - 8)
    landmarks.trust.fill_(0.5)
    goal = torch.tensor([[6.0, 6.0]])
    table, last = landmarks.table(), landmarks.values(goal, 1)[0][0]
    for legs, values in enumerate(landmarks.values(goal, 3), start=1):
        for start in range(7):
            ways = [
                sum(float(table[a, b]) for a, b in itertools.pairwise((start, *stops)))
                + float(last[(start, *stops)[-1]])
                for count in range(legs)
                for stops in itertools.product(range(7), repeat=count)
            ]
            assert float(values[0, start]) == pytest.approx(min(ways), rel=1e-5)


def test_the_network_gives_the_same_for_one_pair_and_for_all() -> None:
    torch.manual_seed(0)
    landmarks = Landmarks(config(landmarks=4, latent_dim=6))
    a, b = torch.randn(5, 6), torch.randn(3, 6)
    together = landmarks.between(a[None], b[None])[0]
    alone = torch.stack([landmarks(a, goal.expand_as(a)) for goal in b], 1)
    assert torch.allclose(together, alone, atol=1e-5)


def test_landmarks_are_learned_saved_and_planned_over(pusht_recording: Path, tmp_path: Path) -> None:
    from latent_planner import Agent
    from latent_planner.envs.recordings.episodes import EpisodeReader
    from latent_planner.training.dataset import WindowDataset
    from latent_planner.training.landmarks import learn_landmarks

    dataset = WindowDataset(EpisodeReader(pusht_recording), num_frames=4, frameskip=5, progress=False)
    small = dict(
        latent_dim=16, predictor_width=32, predictor_depth=1, predictor_heads=2, predictor_head_dim=16,
        predictor_mlp_dim=32, proposals=2, proposer_width=32, landmarks=24,
    )  # fmt: skip
    torch.manual_seed(0)
    model = WorldModel(WorldModelConfig.from_dict({**dataset.statistics(), **small})).eval()
    assert model.landmarks is not None and not model.landmarks.known
    found = [learn_landmarks(model, dataset, pairs=400, seed=3, progress=False) for _ in range(2)]
    assert found[0] == found[1] and found[0]["trust"] > 0 and model.landmarks.known
    checkpoint.save(model, tmp_path / "run", planner={"num_samples": 16, "num_elites": 4, "iterations": 1})
    agent = Agent.from_pretrained(tmp_path / "run")
    frames = np.asarray(EpisodeReader(pusht_recording).read("pixels", 0, 40))
    agent.set_goal(frames[39])
    assert np.abs(agent.act(frames[0])).max() <= 1
    straight = Agent(agent.world_model, settings=replace(agent.settings, legs=1))
    straight.set_goal(frames[39])
    assert straight.act(frames[0]).shape == (2,)


def test_the_table_waits_for_a_far_goal_unless_plans_have_a_deadline() -> None:
    from latent_planner import Agent, envs

    agent = Agent.from_pretrained("pusht", device="cpu", num_samples=8, num_elites=2, iterations=1)
    landmarks, frame = agent.world_model.landmarks, envs.make("pusht").reset(seed=0)[0]["pixels"]
    assert landmarks is not None
    agent.set_goal(frame)
    agent.act(frame)  # it is there
    assert landmarks._table is None
    hurried = Agent(agent.world_model, agent.settings.changed(deadline=0.5), device="cpu")
    hurried.set_goal(frame)
    assert landmarks._table is not None and hurried._solver.legs.seconds > 0


def test_the_command_gives_an_older_checkpoint_landmarks(
    pusht_recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from latent_planner.cli.__main__ import main

    torch.manual_seed(0)
    small = dict(
        latent_dim=16, predictor_width=32, predictor_depth=1, predictor_heads=2, predictor_head_dim=16
    )
    values = {**config().to_dict(), **small, "env": "pusht", "image_size": 64, "frameskip": 5}
    values |= {"predictor_mlp_dim": 32, "proposals": 2, "proposer_width": 32}
    checkpoint.save(WorldModel(WorldModelConfig.from_dict(values)).eval(), tmp_path / "old")
    reachability.save(tmp_path / "old", 3.5, checkpoint.load(tmp_path / "old")[1]["sha256"])
    words = ["landmarks", str(tmp_path / "old"), "--recording", str(pusht_recording)]
    words += ["--out", str(tmp_path / "new"), "--count", "8", "--pairs", "64"]
    assert main(words) == 0 and "8 landmarks" in capsys.readouterr().out
    old, new = (checkpoint.load(tmp_path / name)[0] for name in ("old", "new"))
    assert new.landmarks is not None and new.landmarks.known
    assert all(torch.equal(new.state_dict()[key], value) for key, value in old.state_dict().items())
    new_sha256 = checkpoint.load(tmp_path / "new")[1]["sha256"]
    assert reachability.load(tmp_path / "new", new_sha256) == 3.5  # the same encoder and predictor
    assert main(words) == 2 and "is there already" in capsys.readouterr().err
