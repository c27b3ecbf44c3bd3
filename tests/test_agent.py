"""The Agent on a world whose dynamics are known exactly, and on an untrained but real world model."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from typing import Any

import numpy as np
import pytest
import torch
from waiting import Ticks

from latent_planner import Agent, planners
from latent_planner.checkpoints import checkpoint
from latent_planner.common.action_space import ActionSpace
from latent_planner.planners import PlanConfig, PlanError

pytestmark = pytest.mark.random

SIZE, STEP = 41, 1.0  # pixels; pixels moved by an action of 1
MEAN, STD = np.array([0.25, -0.5]), np.array([0.5, 2.0])
LOW, HIGH = np.array([-1.0, -2.0], np.float32), np.array([1.0, 1.5], np.float32)
QUICK = PlanConfig(
    horizon=4,
    num_samples=64,
    num_elites=8,
    iterations=6,
    init_std=1.0,
    noise_correlation=0.0,
    warm_start=True,
)


@dataclasses.dataclass
class DotConfig:
    """What the Agent reads of a WorldModelConfig."""

    frameskip: int = 3
    context_len: int = 3
    action_dim: int = 2
    action_low: tuple = tuple(LOW.tolist())
    action_high: tuple = tuple(HIGH.tolist())
    action_std: tuple = tuple(STD.tolist())
    space = ActionSpace()
    several = False

    @property
    def block_limits(self):
        return {"low": self.block_low, "high": self.block_high, "action_dim": self.action_dim}

    @property
    def block_low(self):
        return tuple(np.tile((LOW - MEAN) / STD, self.frameskip))

    @property
    def block_high(self):
        return tuple(np.tile((HIGH - MEAN) / STD, self.frameskip))


class DotModel(torch.nn.Module):
    """The perfect model of a white dot that every action moves; its latent is the dot's place in pixels."""

    def __init__(self, **config) -> None:
        super().__init__()
        self.config = DotConfig(**config)
        self.calls: list[dict] = []

    def denormalise_actions(self, actions):
        return actions * torch.tensor(STD).to(actions) + torch.tensor(MEAN).to(actions)

    def normalise_actions(self, actions):
        return (actions - torch.tensor(MEAN).to(actions)) / torch.tensor(STD).to(actions)

    def encode(self, pixels):
        assert pixels.dtype == torch.uint8 and pixels.ndim == 5 and not self.training
        which = pixels.float().mean(dim=2).flatten(2).argmax(dim=-1)
        side = pixels.shape[-1]
        return torch.stack([which % side, which // side], dim=-1).float() * (SIZE / side)

    landmarks = None  # goals are near

    def propose(self, latents, goals, horizon):
        return None

    def rollout(self, latents, candidates, past_actions=None):
        batch, number, horizon, _ = candidates.shape
        self.calls.append({"latents": latents, "candidates": candidates, "past": past_actions})
        assert (past_actions is None) == (latents.shape[1] == 1)
        actions = self.denormalise_actions(candidates.view(batch, number, horizon, -1, 2))
        start = latents[:, None, -1:].expand(batch, number, 1, -1)
        return torch.cat([start, start + STEP * actions.sum(dim=3).cumsum(dim=2)], dim=2)

    def solves(self):
        """The calls that evaluated candidates (the others imagine the finished plan, or time the machine)."""
        return [call for call in self.calls if call["candidates"].shape[1] > 1 and call["candidates"].any()]


def draw(place, side=SIZE):
    frame = np.zeros((side, side, 3), np.uint8)
    x, y = np.clip(np.round(np.asarray(place) * side / SIZE), 0, side - 1).astype(int)
    frame[y, x] = 255
    return frame


def make_agent(
    seed=0, objective="closest", planner="cem", model=None, max_change=None, deadline=None, **changes
):
    return Agent(
        model or DotModel(),
        planner=planner,
        plan_config=dataclasses.replace(QUICK, **changes),
        objective=objective,
        max_change=max_change,
        deadline=deadline,
        device="cpu",
        seed=seed,
    )


def drive(agent, place, env_steps, side=SIZE):
    """Act and move the dot; the places it went through, and the actions."""
    place, places, actions = np.asarray(place, float), [], []
    for _ in range(env_steps):
        actions.append(agent.act(draw(place, side)))
        place = place + STEP * actions[-1]
        places.append(place)
    return np.array(places), np.array(actions)


@pytest.mark.parametrize(
    ("planner", "objective"),
    [*itertools.product(planners.names(), ["closest"]), ("cem", "last"), ("cem", "discounted + 0.01*effort")],
)
def test_reaches_the_goal_with_bounded_float32_actions(planner, objective):
    changes = {"learning_rate": 0.4} if "gradient" in planner else {}
    agent = make_agent(planner=planner, objective=objective, **changes)
    agent.set_goal(draw((30, 25)), steps=30)
    places, actions = drive(agent, (12, 10), 30)
    assert np.linalg.norm(places - (30, 25), axis=1).min() < 1.5
    assert actions.dtype == np.float32 and actions.shape == (30, 2)
    assert (actions >= LOW).all() and (actions <= HIGH).all()
    if objective != "discounted + 0.01*effort":
        assert (actions == HIGH).any(), "the way is long: some action should be as large as allowed"


@pytest.mark.parametrize("planner", planners.names())
def test_the_fan_shows_some_candidates_of_each_iteration_and_changes_nothing(planner):
    plain, shown = make_agent(planner=planner), make_agent(planner=planner)
    shown.fan = 6
    for agent in (plain, shown):
        agent.set_goal(draw((30, 25)), steps=30)
    assert np.array_equal(plain.act(draw((12, 10))), shown.act(draw((12, 10))))
    plan = shown.last_plan
    assert plain.last_plan.fan is None
    assert plan.fan.shape == (plan.iterations, 6, *plan.latents.shape)
    assert np.allclose(plan.fan[:, :, 0], plan.latents[0], atol=1e-5)  # all begin now


def test_pixels_of_any_size_work_and_goal_and_view_may_differ():
    agent = make_agent()
    agent.set_goal(draw((30, 25), side=123), steps=30)
    places, _ = drive(agent, (12, 10), 30, side=82)
    assert np.linalg.norm(places - (30, 25), axis=1).min() < 2.0


def test_same_seed_same_actions_and_reset_starts_over():
    def actions(agent):
        agent.reset()
        agent.set_goal(draw((30, 25)), steps=9)
        return drive(agent, (12, 10), 9)[1]

    agent = make_agent(seed=3)
    first = actions(agent)
    assert np.array_equal(first, actions(agent)), "reset starts the random streams again"
    assert np.array_equal(first, actions(make_agent(seed=3)))
    assert np.array_equal(first, actions(agent.clone()))
    assert not np.array_equal(first, actions(agent.clone(seed=4)))


def test_problems_together_act_as_they_would_alone():
    starts, goals = [(5, 5), (20, 30), (33, 8)], [(30, 20), (8, 8), (20, 30)]
    together = make_agent()
    together.reset(seeds=[11, 12, 13])
    together.set_goal(np.stack([draw(goal) for goal in goals]), steps=[12, 7, 30])
    places, all_actions = np.array(starts, float), []
    for _ in range(15):
        all_actions.append(together.act(np.stack([draw(place) for place in places])))
        places = places + STEP * all_actions[-1]
    for i in range(3):
        alone = make_agent()
        alone.reset(seeds=[11 + i])
        alone.set_goal(draw(goals[i]), steps=[12, 7, 30][i])
        _, actions = drive(alone, starts[i], 15)
        assert np.allclose(np.stack(all_actions)[:, i], actions, atol=1e-4)


def test_the_horizon_shrinks_to_the_steps_left():
    agent = make_agent()
    agent.set_goal(draw((30, 25)), steps=13)
    drive(agent, (12, 10), 18)
    horizons = [call["candidates"].shape[2] for call in agent.world_model.solves()][:: QUICK.iterations]
    assert horizons == [4, 4, 3, 2, 1, 1]  # ceil(13, 10, 7, 4, 1, -2 over frameskip 3), at most 4, at least 1


@pytest.mark.parametrize("replan_every", [1, 2, 4, 9])
def test_replans_after_that_many_blocks_or_when_the_plan_runs_out(replan_every):
    agent = make_agent(replan_every=replan_every)
    agent.set_goal(draw((30, 25)))
    drive(agent, (12, 10), 8 * 3)
    solves = len(agent.world_model.solves()) / QUICK.iterations
    assert solves == 8 / min(replan_every, 4)


def test_the_second_solve_starts_from_the_shifted_first():
    agent = make_agent()
    agent.set_goal(draw((30, 25)))
    first = agent.plan(draw((12, 10)))
    _, actions = drive(agent, (12, 10), 4)  # the fourth action begins the second block
    assert np.allclose(first.actions[:3], actions[:3])
    means = [call["candidates"][0, 0] for call in agent.world_model.solves()]
    mean = agent.world_model.denormalise_actions(means[2 * QUICK.iterations].reshape(-1, 2)).numpy()
    assert np.allclose(mean[:9], first.actions[3:], atol=1e-5)
    assert np.allclose(mean[9:], MEAN), "the new end is rest in normalised units"


def test_without_warm_start_each_solve_starts_from_rest():
    agent = make_agent(warm_start=False)
    agent.set_goal(draw((30, 25)))
    drive(agent, (12, 10), 4)
    assert (agent.world_model.solves()[QUICK.iterations]["candidates"][0, 0] == 0).all()


def test_the_context_is_the_last_frames_and_the_blocks_between():
    agent = make_agent()
    agent.set_goal(draw((30, 25)))
    places, actions = drive(agent, (12, 10), 4 * 3)
    calls = agent.world_model.solves()[:: QUICK.iterations]
    assert [call["latents"].shape[1] for call in calls] == [1, 2, 3, 3]
    seen = np.round(places[[2, 5, 8]])  # after 1, 2 and 3 blocks
    assert np.allclose(calls[3]["latents"][0], seen)
    past = agent.world_model.denormalise_actions(calls[3]["past"].reshape(-1, 2))
    assert np.allclose(past, actions[3:9], atol=1e-5)


def test_a_new_goal_drops_the_plan_and_context_cut_short_is_forgotten():
    agent = make_agent(replan_every=4)
    agent.set_goal(draw((30, 25)))
    drive(agent, (12, 10), 4)  # in the middle of the second block
    agent.set_goal(draw((5, 5)))
    before = len(agent.world_model.solves())
    agent.act(draw((15, 12)))
    call = agent.world_model.solves()[before]
    assert call["latents"].shape[1] == 1 and (call["candidates"][0, 0] == 0).all()


def test_reset_of_some_problems_leaves_the_others_on_their_way():
    def agent_with_two():
        agent = make_agent()
        agent.reset(seeds=[1, 2])
        agent.set_goal(np.stack([draw((30, 25)), draw((5, 30))]))
        return agent

    frames = np.stack([draw((12, 10)), draw((20, 20))])
    plain, mixed = agent_with_two(), agent_with_two()
    for _ in range(4):
        assert np.array_equal(plain.act(frames), mixed.act(frames))
    mask = np.array([True, False])
    mixed.reset(mask)
    with pytest.raises(PlanError, match="no goal for problem 0"):
        mixed.act(frames)
    mixed.set_goal(np.stack([draw((30, 25)), draw((0, 0))]), mask=mask)
    fresh = agent_with_two()
    for _ in range(6):
        ours = mixed.act(frames)
        assert np.allclose(ours[0], fresh.act(frames)[0], atol=1e-5)
        assert np.allclose(ours[1], plain.act(frames)[1], atol=1e-5)


def test_keep_goes_on_with_fewer_problems():
    agent, plain = make_agent(), make_agent()
    frames = np.stack([draw((12, 10)), draw((20, 20)), draw((8, 30))])
    for one in (agent, plain):
        one.set_goal(frames[::-1].copy())
        one.act(frames)
    agent.keep(np.array([False, True, True]))
    for _ in range(5):
        assert np.allclose(agent.act(frames[1:]), plain.act(frames)[1:], atol=1e-5)


def test_plan_shows_what_act_would_do_and_changes_nothing():
    agent = make_agent()
    agent.set_goal(draw((30, 25)), steps=9)
    frame = draw((12, 10))
    plan = agent.plan(frame)
    assert plan.actions.shape == (9, 2) and plan.actions.dtype == np.float32
    assert plan.latents.shape == (4, 2) and np.allclose(plan.latents[0], (12, 10))
    assert np.allclose(plan.latents[-1], (12, 10) + STEP * plan.actions.sum(axis=0), atol=1e-3)
    assert plan.history.shape == (QUICK.iterations,) and plan.cost == plan.history[-1]
    assert np.array_equal(agent.plan(frame).actions, plan.actions)
    assert np.array_equal(agent.act(frame), plan.actions[0])
    assert np.array_equal(agent.last_plan.actions, plan.actions)
    batched = make_agent()
    batched.set_goal(draw((30, 25))[None], steps=9)
    plan_of_one = batched.plan(frame[None])
    assert plan_of_one.actions.shape == (1, 9, 2) and np.array_equal(plan_of_one.actions[0], plan.actions)
    assert batched.act(frame[None]).shape == (1, 2)


def test_latent_distance_is_euclidean():
    agent = make_agent()
    agent.set_goal(draw((15, 14)))
    assert agent.latent_distance(draw((12, 10))) == pytest.approx(5.0)
    agent.set_goal(np.stack([draw((15, 14)), draw((12, 10))]))
    assert np.allclose(agent.latent_distance(np.stack([draw((12, 10))] * 2)), [5.0, 0.0])


def test_a_deadline_bounds_planning(monkeypatch):
    monkeypatch.setattr(time, "perf_counter", Ticks())
    agent = make_agent(iterations=10_000)
    agent.set_goal(draw((30, 25)))
    agent.act(draw((12, 10)), deadline=0.05)
    assert 1 <= agent.last_plan.iterations < 10_000 and agent.last_plan.solve_seconds < 0.5


def test_a_model_left_in_training_mode_is_put_back():
    agent = make_agent()
    agent.set_goal(draw((30, 25)))
    agent.world_model.train()
    agent.act(draw((12, 10)))
    assert not agent.world_model.training


class Blind(DotModel):
    def encode(self, pixels):
        return super().encode(pixels) * math.nan


def test_latents_that_are_not_finite_are_a_clear_error_and_leave_the_agent_usable():
    agent = make_agent()
    agent.set_goal(draw((30, 25)))
    agent.act(draw((12, 10)))
    sighted, agent.world_model = agent.world_model, Blind()
    agent.world_model.eval()
    agent.act(draw((12, 10))), agent.act(draw((12, 10)))  # the rest of the block needs no looking
    with pytest.raises(PlanError, match="NaN"):
        agent.act(draw((12, 10)))
    agent.world_model = sighted
    assert agent.act(draw((12, 10))).shape == (2,)


FRAME = np.zeros((SIZE, SIZE, 3), np.uint8)


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (FRAME.astype(np.float32), "uint8"),
        (FRAME[..., 0], r"\(H, W, 3\)"),
        (FRAME.transpose(2, 0, 1), r"\(H, W, 3\)"),
        (np.zeros((SIZE, SIZE, 4), np.uint8), r"\(H, W, 3\)"),
        (FRAME[:0], r"\(H, W, 3\)"),
        (None, "uint8"),
        (np.stack([FRAME, FRAME]), "2 problems but 1 goals"),
    ],
)
def test_wrong_pixels_are_clear_errors(pixels, message):
    agent = make_agent()
    agent.set_goal(FRAME)
    for call in (agent.act, agent.plan, agent.latent_distance):
        with pytest.raises(PlanError, match=message):
            call(pixels)
    if "problems" not in message:
        with pytest.raises(PlanError, match=message):
            agent.set_goal(pixels)
    assert agent.act(FRAME).shape == (2,)


def test_other_misuse_is_a_clear_error():
    agent = make_agent()
    for call in (agent.act, agent.plan, agent.latent_distance):
        with pytest.raises(PlanError, match="call set_goal"):
            call(FRAME)
    for steps in (0, 2.5, [3, 4], "many"):
        with pytest.raises(PlanError, match="steps"):
            agent.set_goal(FRAME, steps=steps)
    agent.reset(seeds=[1, 2])
    with pytest.raises(PlanError, match="one goal image per problem: 2, not 1"):
        agent.set_goal(FRAME)
    for mask in (np.array([True]), np.array([0, 1])):
        with pytest.raises(PlanError, match="mask"):
            agent.reset(mask)
    with pytest.raises(PlanError, match="did you mean 'cem'"):
        make_agent(planner="cme")
    with pytest.raises(PlanError, match="last, closest"):
        make_agent(objective="nearest")
    for change in (0, -1.0, [1, 2, 3], "little"):
        with pytest.raises(PlanError, match="max_change must be above 0"):
            make_agent(max_change=change)
    for late in ("soon", True, math.nan):
        with pytest.raises(PlanError, match="deadline must be a number of seconds"):
            Agent(DotModel(), deadline=late, device="cpu")
    with pytest.raises(PlanError, match="precision must be one of"):
        Agent(DotModel(), precision="float8", device="cpu")
    with pytest.raises(PlanError, match="waypoints must be pictures"):
        make_agent().set_waypoints(FRAME)
    with pytest.raises(PlanError, match="near must be"):
        make_agent().set_waypoints(FRAME[None], near=-1)
    with pytest.raises(PlanError, match="Device 'warp'"):
        Agent(DotModel(), device="warp")


@pytest.mark.parametrize("planner", ["cem", "gradient"])
def test_actions_change_no_more_than_allowed_also_between_plans_and_goals(planner):
    change = np.array([0.3, 0.5])
    agent = make_agent(planner=planner, max_change=change.tolist(), objective="last")
    agent.set_goal(draw((36, 4)))
    _, out = drive(agent, (12, 10), 8)
    agent.set_goal(draw((4, 36)))
    _, back = drive(agent, (12, 10), 8)
    actions = np.concatenate([out, back])
    assert (np.abs(np.diff(actions, axis=0)) <= change + 1e-5).all()
    assert (np.abs(np.diff(actions, axis=0)) > 0.9 * change).any(), "it wants to change more"
    assert (actions >= LOW).all() and (actions <= HIGH).all()


def test_waypoints_are_passed_in_order_and_the_last_is_the_goal():
    agent = make_agent(objective="last")
    marks = [(30, 10), (30, 32), (8, 32)]
    agent.set_waypoints(np.stack([draw(mark) for mark in marks]), near=2.0)
    places, _ = drive(agent, (8, 8), 110)
    first = [int(np.argmax(np.linalg.norm(places - mark, axis=1) < 2.5)) for mark in marks]
    assert 0 < first[0] < first[1] < first[2]
    assert agent.latent_distance(draw(marks[-1])) == 0, "the last one is pursued to the end"
    batch = make_agent(objective="last")
    batch.set_waypoints(np.stack([[draw(mark) for mark in marks]] * 2), steps=[60, 60], near=2.0)
    assert batch.act(np.stack([draw((8, 8))] * 2)).shape == (2, 2)


def test_a_waypoint_that_no_plan_comes_nearer_to_is_passed():
    class Wall(DotModel):
        def encode(self, pixels):
            return super().encode(pixels).clamp_(max=20.0) + torch.tensor([0.0, 0.0])

        def rollout(self, latents, candidates, past_actions=None):
            return super().rollout(latents, candidates, past_actions).clamp_max(20.0)

    agent = make_agent(model=Wall(), objective="last")
    agent.set_waypoints(np.stack([draw((20, 20)), draw((4, 4))]), near=0.0)
    agent._problems[0].goal = torch.tensor([60.0, 60.0])  # nothing ever looks like it
    places, _ = drive(agent, (12, 12), 45)
    assert (places > 19).all(axis=1).any() and np.linalg.norm(places[-1] - (4, 4)) < 2


def test_bfloat16_plans_nearly_as_float32(tiny_checkpoint):
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    latents = []
    for precision in ("float32", "bfloat16", "auto"):
        agent = Agent.from_pretrained(tiny_checkpoint, device="cpu", precision=precision, iterations=1)
        agent.set_goal(frames[0])
        latents.append(agent.plan(frames[1]).latents)
    scale = np.abs(latents[0]).max()
    assert latents[1].dtype == np.float32 and not np.array_equal(latents[0], latents[1])
    assert np.abs(latents[1] - latents[0]).max() < 0.1 * scale
    assert np.abs(latents[2] - latents[0]).max() < 0.1 * scale


def test_a_plan_says_where_its_time_went():
    agent = make_agent(deadline=60.0)
    agent.set_goal(draw((30, 25)))
    agent.act(draw((12, 10)))
    seconds = agent.last_plan.seconds
    assert set(seconds) == {"encode", "propose", "cost", "learn", "imagine"}
    assert all(spent >= 0 for spent in seconds.values()) and seconds["cost"] > 0
    assert agent.last_plan.elites.shape == agent.last_plan.history.shape == (QUICK.iterations,)
    assert (agent.last_plan.elites >= agent.last_plan.history).all()
    hurried = make_agent(deadline=0.0)
    hurried.set_goal(draw((30, 25)))
    hurried.act(draw((12, 10)))
    assert hurried.last_plan.iterations == 1 and hurried.clone().settings.deadline == 0.0


def test_a_checkpoint_alone_plans_and_a_batch_equals_its_problems(tiny_checkpoint):
    agent = Agent.from_pretrained(tiny_checkpoint, device="cpu")
    config = agent.world_model.config
    frames = np.random.default_rng(0).integers(0, 256, (3, 48, 48, 3), np.uint8)
    agent.reset(seeds=[1, 2, 3])
    agent.set_goal(frames, steps=20)
    together = np.stack([agent.act(frames[::-1]) for _ in range(11)])
    assert together.dtype == np.float32 and together.shape == (11, 3, config.action_dim)
    assert (together >= config.action_low).all() and (together <= config.action_high).all()
    for i in range(3):
        alone = agent.clone()
        assert alone.world_model is agent.world_model
        alone.reset(seeds=[i + 1])
        alone.set_goal(frames[i], steps=20)
        actions = np.stack([alone.act(frames[2 - i]) for _ in range(11)])
        assert np.allclose(actions, together[:, i], atol=1e-3)


def test_from_pretrained_takes_the_checkpoints_planner_unless_overridden(tiny_checkpoint):
    agent = Agent.from_pretrained(tiny_checkpoint, device="cpu")
    ours, config = agent.settings, agent.settings.plan_config
    assert (ours.planner, ours.objective, config.num_samples) == ("cem", "closest", 16)
    other = Agent.from_pretrained(
        str(tiny_checkpoint), device="cpu", planner="mppi", objective="last", horizon=3, seed=5
    )
    ours, config = other.settings, other.settings.plan_config
    assert (ours.planner, ours.objective, config.horizon, other.seed) == ("mppi", "last", 3, 5)
    assert config.num_samples == 16
    with pytest.raises(PlanError, match="did you mean 'horizon'"):
        Agent.from_pretrained(tiny_checkpoint, horison=3)
    with pytest.raises(checkpoint.CheckpointError, match="no checkpoint"):
        Agent.from_pretrained("no-such-model")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("objective", ["closest", "last + 0.1*smoothness"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_on_cuda_a_recorded_graph_gives_what_the_model_gives(tiny_checkpoint, objective, precision):
    agent = Agent.from_pretrained(tiny_checkpoint, device="cuda", objective=objective, precision=precision)
    stream = torch.Generator("cuda").manual_seed(0)

    def draw_some(*shape):
        return torch.randn(shape, generator=stream, device="cuda")

    config, solver = agent.config, agent._solver
    for frames in (1, 3, 1):  # a shape seen before uses its recording again, with other numbers
        inputs = (
            draw_some(2, frames, config.latent_dim),
            draw_some(2, config.latent_dim),
            draw_some(2, frames - 1, config.block_dim) if frames > 1 else None,
            draw_some(2, config.action_dim),
            draw_some(2, 8, 4, config.block_dim),
        )
        with torch.no_grad():
            torch.testing.assert_close(solver._cost(*inputs), solver._price(*inputs), rtol=1e-3, atol=1e-3)
    assert len(solver._cost._recordings) == 2 and solver._cost._usable
    frames = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), np.uint8)
    agent.set_goal(frames)
    together = agent.act(frames[::-1].copy())
    assert together.shape == (2, config.action_dim)


class TestReplan:
    def follow(self, agent, place, executes, say=None):
        """Replan and execute so many actions of each plan; the places it went through."""
        place, places, done = np.asarray(place, float), [], None
        for number in executes:
            plan = agent.replan(draw(place), executed=done)
            actions = plan.actions[:number]
            places.append(place + STEP * actions.cumsum(axis=0))
            place = places[-1][-1]
            done = say(actions) if say else number
        return np.concatenate(places)

    @pytest.mark.parametrize("say", [None, lambda actions: actions, lambda actions: None])
    def test_a_program_that_steps_through_plans_reaches_the_goal(self, say):
        agent = make_agent()
        agent.set_goal(draw((30, 25)), steps=30)
        places = self.follow(agent, (12, 10), [3, 4, 3, 6, 3, 3, 8], say)
        assert np.linalg.norm(places - (30, 25), axis=1).min() < 1.5

    def test_one_block_at_a_time_it_plans_as_act_does(self):
        acting, stepping = make_agent(), make_agent()
        place, done = np.array((12.0, 10.0)), None
        for agent in (acting, stepping):
            agent.set_goal(draw((30, 25)), steps=13)
        for _ in range(5):
            plan = stepping.replan(draw(place), executed=done)
            ours = np.stack([acting.act(draw(place + 9)) if i else acting.act(draw(place)) for i in range(3)])
            assert np.allclose(plan.actions[:3], ours, atol=1e-4)
            place, done = place + STEP * ours.sum(axis=0), ours
        assert stepping.last_plan is plan

    @pytest.mark.parametrize(("said", "frames"), [(3, 2), (0, 1), (2, 1), (None, 1), (6, 1), (99, 1)])
    def test_frames_before_count_only_where_they_are_one_model_step_apart(self, said, frames):
        agent = make_agent()
        agent.set_goal(draw((30, 25)))
        agent.replan(draw((12, 10)))
        agent.replan(draw((14, 12)), executed=said)
        call = agent.world_model.solves()[-1]
        assert call["latents"].shape[1] == frames

    def test_the_rest_of_the_plan_is_where_the_next_search_starts(self):
        agent = make_agent()
        agent.set_goal(draw((30, 25)))
        first = agent.replan(draw((12, 10))).actions
        agent.replan(draw((14, 12)), executed=4)
        mean = agent.world_model.solves()[QUICK.iterations]["candidates"][0, 0].reshape(-1, 2)
        assert np.allclose(agent.world_model.denormalise_actions(mean)[:6], first[4:10], atol=1e-5)

    def test_a_new_goal_counts_its_steps_from_now_and_starts_from_rest(self):
        agent = make_agent()
        agent.set_goal(draw((30, 25)), steps=6)
        agent.replan(draw((12, 10)))
        agent.set_goal(draw((5, 5)), steps=9)
        assert agent.replan(draw((14, 12)), executed=3).actions.shape == (9, 2)
        assert agent.replan(draw((14, 12)), executed=3).actions.shape == (6, 2)

    def test_act_may_follow_and_change_limits_hold_over_what_was_executed(self):
        agent = make_agent(max_change=0.3)
        agent.set_goal(draw((30, 25)))
        agent.replan(draw((12, 10)))
        plan = agent.replan(draw((14, 12)), executed=np.array([[0.0, 0.0], [-0.5, 0.5]]))
        assert np.abs(plan.actions[0] - (-0.5, 0.5)).max() <= 0.3 + 1e-5
        assert agent.act(draw((14, 12))).shape == (2,)

    def test_several_problems(self):
        agent = make_agent()
        frames = np.stack([draw((12, 10)), draw((20, 20))])
        agent.set_goal(frames[::-1].copy())
        plan = agent.replan(frames)
        assert plan.actions.shape == (2, 12, 2)
        assert agent.replan(frames, executed=plan.actions[:, :3]).actions.shape == (2, 12, 2)

    @pytest.mark.parametrize("said", [-1, True, 1.5, "all", np.zeros((2, 3)), np.full((3, 2), np.nan)])
    def test_nonsense_about_what_was_executed_is_refused_and_changes_nothing(self, said):
        agent, plain = make_agent(), make_agent()
        for one in (agent, plain):
            one.set_goal(draw((30, 25)))
            one.replan(draw((12, 10)))
        with pytest.raises(PlanError, match="executed"):
            agent.replan(draw((14, 12)), executed=said)
        ours, theirs = (one.replan(draw((14, 12)), executed=3).actions for one in (agent, plain))
        assert np.array_equal(ours, theirs)


def test_several_cameras_are_refused_by_a_model_of_one():
    agent = make_agent()
    agent.set_goal(FRAME)
    with pytest.raises(PlanError, match="one camera and without proprioception.* not a dict of top, wrist"):
        agent.act({"top": FRAME, "wrist": FRAME})


@pytest.mark.parametrize(
    "odd", [[[0.1], [0.1, 0.2]], "now", [[1e300, 0.0]], 3, [[float("nan"), 0.0]], {"a": 1}]
)
def test_odd_actions_of_a_request_are_one_sentence(odd: Any) -> None:
    from latent_planner.problem import committed_per_problem, executed_per_problem

    with pytest.raises(PlanError):
        committed_per_problem(odd, 1, 2)
    if odd != 3:  # a number of actions
        with pytest.raises(PlanError):
            executed_per_problem(odd, 1, 2)
