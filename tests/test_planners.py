"""Planners on costs whose answer is known, through the public interface only."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from latent_planner import planners
from latent_planner.planners import PlanConfig, PlanError

pytestmark = pytest.mark.random

NAMES = [name for name in planners.names() if planners.PLANNERS[name].bounded]  # cem_lewm promises less
LOW, HIGH = [-2.0, -1.5], [2.0, 1.5]
TARGET = torch.tensor([[0.9, -1.2], [-0.4, 0.3], [1.7, 0.8]])
WHITE = {"init_std": 1.0, "noise_correlation": 0.0}
QUICK = PlanConfig(horizon=3, num_samples=64, num_elites=8, iterations=4, **WHITE)


def quadratic(candidates: torch.Tensor) -> torch.Tensor:
    """Squared distance of the candidates (B, N, 3, 2) to TARGET."""
    return (candidates - TARGET.to(candidates)).square().sum(dim=(-1, -2))


class Recorder:
    """A cost function that keeps every batch of candidates it was given."""

    def __init__(self, cost_fn=quadratic) -> None:
        self.cost_fn, self.seen = cost_fn, []

    def __call__(self, candidates):
        self.seen.append(candidates.clone())
        return self.cost_fn(candidates)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finds_the_optimum_of_a_quadratic(name, dtype):
    spread = 0.1 if name == "predictive" else 1.0  # its spread stays what it is
    config = PlanConfig(horizon=3, iterations=30, init_std=spread, min_std=0.01, gradient_steps=10)
    planner = planners.make(name, config, LOW, HIGH)
    plan = planner.plan(quadratic, dtype=dtype)
    assert plan.actions.shape == (1, 3, 2) and plan.actions.dtype == dtype
    assert torch.allclose(plan.actions[0], TARGET.to(dtype), atol=0.05)
    assert plan.cost.shape == (1,) and plan.cost.item() == pytest.approx(
        quadratic(plan.actions[None]).item(), abs=1e-5
    )
    assert plan.iterations == planner.rounds == (30 if name != "cem_gradient" else 30 + 10 + 1)
    assert plan.history.shape == plan.elites.shape == (1, planner.rounds) and plan.solve_seconds > 0
    assert (plan.elites >= plan.history).all()


@pytest.mark.parametrize("name", NAMES)
def test_finds_the_corner_when_the_optimum_lies_outside(name):
    config = replace(QUICK, iterations=40, sample_decay=1.0)
    plan = planners.make(name, config, LOW, HIGH).plan(lambda c: c.sum(dim=(-1, -2)))
    assert torch.allclose(plan.actions, torch.tensor(LOW).expand(1, 3, 2), atol=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_drives_a_point_mass_to_its_goal(name):
    goal = torch.tensor([3.0, -2.0])

    def miss(candidates):  # acceleration for one second per step, from rest; judged at the end
        speed = candidates.cumsum(dim=2)
        return ((speed - candidates / 2).sum(dim=2) - goal).norm(dim=-1)

    plan = planners.make(name, PlanConfig(horizon=4, iterations=20), [-1, -1], [1, 1]).plan(miss)
    assert plan.cost.item() < 0.15


@pytest.mark.parametrize("name", NAMES)
def test_same_seed_same_plan_and_other_seed_other_plan(name):
    def solve(seed):
        return planners.make(name, replace(QUICK, seed=seed), LOW, HIGH).plan(quadratic).actions

    before = torch.get_rng_state()
    assert torch.equal(solve(1), solve(1))
    assert not torch.equal(solve(1), solve(2))
    assert torch.equal(torch.get_rng_state(), before), "planning must leave the global stream alone"


@pytest.mark.parametrize("name", NAMES)
def test_a_problem_gets_the_same_plan_in_a_batch_as_alone(name):
    targets = torch.randn(5, 1, 3, 2, generator=torch.Generator().manual_seed(0))

    def cost_of(target):
        return lambda candidates: (candidates - target).abs().sum(dim=(-1, -2))

    planner = planners.make(name, QUICK, LOW, HIGH)
    seeds = [7, 1, 7, 2**70, -3]
    together = planner.plan(cost_of(targets), batch_size=5, seeds=seeds)
    for i, seed in enumerate(seeds):
        alone = planner.plan(cost_of(targets[i : i + 1]), seeds=[seed])
        assert torch.allclose(together.actions[i], alone.actions[0], atol=1e-5)
        assert together.cost[i].item() == pytest.approx(alone.cost.item(), abs=1e-4)


def test_default_seeds_are_consecutive():
    planner = planners.make("cem", replace(QUICK, seed=5), LOW, HIGH)
    assert torch.equal(
        planner.plan(quadratic, batch_size=3).actions,
        planner.plan(quadratic, batch_size=3, seeds=[5, 6, 7]).actions,
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), name=st.sampled_from(NAMES), seed=st.integers(0, 1000))
def test_every_candidate_keeps_the_bounds_and_the_limit_on_change(data, name, seed):
    """Blocks of 1 to 3 actions of 1 or 2 numbers; starts far outside; the limit holds across blocks too."""
    number = st.floats(-3, 3, width=32)
    action_dim, per_block = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3))
    pairs = data.draw(
        st.lists(st.tuples(number, number).map(sorted), min_size=action_dim, max_size=action_dim)
    )
    low, high = torch.tensor(pairs * per_block).T
    change = data.draw(st.none() | st.floats(0.125, 3, width=32))
    momentum, std = data.draw(st.sampled_from([0.0, 0.1, 0.7])), data.draw(st.sampled_from([0.01, 1.0, 30.0]))
    config = PlanConfig(
        2, num_samples=20, num_elites=4, iterations=3, init_std=std, momentum=momentum, seed=seed,
        noise_correlation=data.draw(st.sampled_from([0.0, 0.9])), gradient_steps=2, learning_rate=std,
    )  # fmt: skip
    stream = torch.Generator().manual_seed(seed)
    weights, start = (
        torch.randn(2, len(low), generator=stream),
        5 * torch.randn(3, 2, len(low), generator=stream),
    )
    last = None if data.draw(st.booleans()) else low[:action_dim].expand(3, -1)
    recorder = Recorder(lambda c: (c * weights).sum(dim=(-1, -2)))
    planner = planners.make(name, config, low, high, action_dim=action_dim, max_change=change)
    plan = planner.plan(recorder, batch_size=3, warm_start=start, last_action=last)
    for candidates in [*recorder.seen, plan.actions[:, None]]:
        assert (candidates >= low).all() and (candidates <= high).all()
        actions = candidates.reshape(*candidates.shape[:2], -1, action_dim)
        if last is not None:
            actions = torch.cat([last[:, None, None].expand(-1, actions.shape[1], -1, -1), actions], 2)
        if change is not None:
            assert (actions.diff(dim=2).abs() <= change + 1e-5).all()


def test_a_limit_on_change_is_kept_by_the_nearest_actions():
    recorder = Recorder(lambda c: -c.sum(dim=(-1, -2)))
    planner = planners.make("cem", QUICK, [-1.0, -1.0], [1.0, 1.0], action_dim=1, max_change=0.5)
    start = torch.tensor([[[0.2, 9.0], [-9.0, 0.1]]])
    plan = planner.plan(recorder, horizon=2, warm_start=start, last_action=torch.tensor([[-0.9]]))
    assert torch.allclose(recorder.seen[0][0, 0].flatten(), torch.tensor([-0.4, 0.1, -0.4, 0.1]))
    assert torch.allclose(plan.actions.flatten(), torch.tensor([-0.4, 0.1, 0.6, 1.0]), atol=0.1)


@pytest.mark.parametrize("name", NAMES)
def test_the_first_candidate_is_the_mean_and_the_best_is_kept(name):
    recorder = Recorder()
    plan = planners.make(name, replace(QUICK, momentum=0.2), LOW, HIGH).plan(recorder, batch_size=2)
    assert torch.equal(recorder.seen[0][:, 0], torch.zeros(2, 3, 2))
    assert not torch.equal(recorder.seen[1][:, 0], recorder.seen[0][:, 0])
    best = torch.stack([quadratic(c).amin(dim=1) for c in recorder.seen], dim=1)
    assert torch.equal(plan.history, best.cummin(dim=1).values)
    assert torch.equal(plan.cost, best.amin(dim=1))
    assert torch.allclose(quadratic(plan.actions[:, None])[:, 0], plan.cost)


def test_the_mean_starts_from_the_allowed_action_nearest_to_zero():
    recorder = Recorder(lambda c: c.sum(dim=(-1, -2)))
    planners.make("cem", QUICK, [-1, 0.5, -2], [1, 2, -0.25]).plan(recorder)
    assert torch.equal(recorder.seen[0][0, 0], torch.tensor([0.0, 0.5, -0.25]).expand(3, 3))


@pytest.mark.parametrize("name", NAMES)
def test_the_second_solve_starts_from_the_shifted_first(name):
    planner = planners.make(name, QUICK, LOW, HIGH)
    first = planner.plan(quadratic)
    shifted = planner.shift(first.actions, 1)
    assert torch.equal(shifted[:, :2], first.actions[:, 1:]) and torch.equal(shifted[:, 2], torch.zeros(1, 2))
    recorder = Recorder()
    second = planner.plan(recorder, warm_start=shifted)
    assert torch.equal(recorder.seen[0][:, 0], shifted)
    assert second.cost.item() <= quadratic(shifted[None]).item()
    again = planner.plan(quadratic, warm_start=second)
    assert again.cost.item() <= second.cost.item()


@pytest.mark.parametrize(("given", "horizon"), [(1, 4), (4, 4), (6, 4), (5, 1)])
def test_a_warm_start_is_cut_or_filled_to_the_horizon(given, horizon):
    planner = planners.make("cem", QUICK, [0.5, -1], [1, 1])
    start = torch.full((2, given, 2), 0.75)
    recorder = Recorder(lambda c: c.sum(dim=(-1, -2)))
    plan = planner.plan(recorder, batch_size=2, horizon=horizon, warm_start=start)
    expected = torch.tensor([0.5, 0.0]).repeat(2, horizon, 1)
    expected[:, : min(given, horizon)] = 0.75
    assert torch.equal(recorder.seen[0][:, 0], expected)
    assert plan.actions.shape == (2, horizon, 2)


def test_correlated_noise_keeps_its_spread_and_goes_far():
    """Three actions of two numbers in a block, four blocks: neighbours in time agree, also across blocks."""
    reach = {}
    for correlation in (0.0, 0.9):
        recorder = Recorder(lambda c: c.square().sum(dim=(-1, -2)))
        config = PlanConfig(
            horizon=4, num_samples=18000, iterations=1, init_std=1.0, noise_correlation=correlation
        )
        planners.make("cem", config, [-9.0] * 6, [9.0] * 6, action_dim=2).plan(recorder)
        actions = recorder.seen[0][0, 1:].reshape(-1, 12, 2)  # in the order of time
        last = actions[-1900:]  # the candidates whose noise is correlated most
        assert torch.allclose(actions.std(0), torch.ones(12, 2), atol=0.06)
        for gap in (1, 4):
            together = (last[:, gap:] * last[:, :-gap]).mean()
            assert together.item() == pytest.approx(correlation**gap, abs=0.05)
        assert abs((last[..., 0] * last[..., 1]).mean()) < 0.05  # components stay independent
        assert abs((actions[:1900, 1:] * actions[:1900, :-1]).mean()) < 0.05  # the first stay white
        reach[correlation] = last.sum(1).std()
    assert reach[0.9] > 2 * reach[0.0]


def test_shifting_by_more_than_there_is_leaves_rest():
    planner = planners.make("mppi", QUICK, LOW, HIGH)
    assert torch.equal(planner.shift(torch.ones(2, 3, 2), 9), torch.zeros(2, 3, 2))
    assert torch.equal(planner.shift(torch.ones(2, 3, 2), 0), torch.ones(2, 3, 2))


@pytest.mark.parametrize("name", NAMES)
def test_a_deadline_is_kept_after_at_least_one_iteration(name, monkeypatch):
    now = [0.0]  # a clock that only the cost moves: real ones depend on what else runs
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def slow(candidates):
        now[0] += 0.02
        return quadratic(candidates)

    planner = planners.make(name, replace(QUICK, iterations=100), LOW, HIGH)
    plan = planner.plan(slow, deadline=0.11)
    assert plan.iterations == 5 and plan.solve_seconds == pytest.approx(0.1)
    assert plan.history.shape == (1, plan.iterations)
    for late in (0.0, -1.0):
        assert planner.plan(slow, deadline=late).iterations == 1
    assert planner.plan(quadratic, deadline=60).iterations == planner.rounds >= 100


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "change", [{"num_elites": 64}, {"num_elites": 1}, {"num_samples": 1, "num_elites": 1}]
)
def test_extreme_sizes_work(name, change):
    plan = planners.make(name, replace(QUICK, **change), LOW, HIGH).plan(
        lambda c: c.sum(dim=(-1, -2)), horizon=1
    )
    assert plan.actions.shape == (1, 1, 2) and plan.actions.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
def test_equal_costs_and_unbounded_actions_work(name):
    planner = planners.make(name, QUICK, [-math.inf, -1], [math.inf, 1])
    assert planner.plan(lambda c: 0 * c.sum(dim=(-1, -2))).actions.isfinite().all()
    assert planner.plan(lambda c: c.square().sum(dim=(-1, -2)).to(torch.bfloat16)).cost.item() == 0


@pytest.mark.parametrize("name", NAMES)
def test_non_finite_costs_count_as_worst_and_are_told_once(name, caplog):
    def holey(candidates):
        cost = quadratic(candidates)
        cost[:, 5:] = torch.tensor([math.nan, math.inf, -math.inf]).repeat(cost.shape[1])[: cost.shape[1] - 5]
        return cost

    planner = planners.make(name, QUICK, LOW, HIGH)
    with caplog.at_level(logging.WARNING, logger="planners"):
        for _ in range(2):
            plan = planner.plan(holey)
            assert plan.actions.isfinite().all() and plan.cost.isfinite().all()
    assert len(caplog.records) == 1 and "not finite" in caplog.text


@pytest.mark.parametrize("name", NAMES)
def test_costs_that_are_all_non_finite_name_the_problem_and_the_likely_cause(name):
    def broken(candidates):
        cost = candidates.sum(dim=(-1, -2))
        cost[1] = math.nan
        return cost

    with pytest.raises(PlanError, match="problem 1 .*NaN"):
        planners.make(name, QUICK, LOW, HIGH).plan(broken, batch_size=2)


@pytest.mark.parametrize(
    ("cost_fn", "message"),
    [
        (lambda c: c.sum(dim=(-1, -2))[0], r"shape \(64,\).*\(1, 64\)"),
        (lambda c: c.sum(dim=-1), "one cost per candidate"),
        (lambda c: c.sum(dim=(-1, -2)).numpy(), "must return a tensor"),
        (lambda c: c.sum(dim=(-1, -2)).to("meta"), "answered on meta"),
    ],
)
def test_wrong_costs_are_clear_errors(cost_fn, message):
    with pytest.raises(PlanError, match=message):
        planners.make("cem", QUICK, LOW, HIGH).plan(cost_fn)


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        ([0.0, 1.0], [1.0, 0.0], "component 1"),
        ([0.0, math.nan], [1.0, 1.0], "component 1"),
        ([0.0], [1.0, 1.0], "one size"),
        ([], [], "one size"),
        ([[0.0]], [[1.0]], "one size"),
    ],
)
def test_wrong_bounds_are_clear_errors(low, high, message):
    with pytest.raises(PlanError, match=message):
        planners.make("cem", QUICK, low, high)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"horizon": 0}, "horizon"),
        ({"horizon": 2.5}, "horizon"),
        ({"num_elites": 301}, "more than num_samples"),
        ({"iterations": 0}, "iterations"),
        ({"init_std": 0}, "init_std"),
        ({"min_std": -1}, "min_std"),
        ({"momentum": 1.0}, "momentum"),
        ({"noise_correlation": 1.0}, "noise_correlation"),
        ({"temperature": math.nan}, "temperature"),
        ({"warm_start": "no"}, "warm_start"),
        ({"seed": "x"}, "seed"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"gradient_steps": 0}, "gradient_steps"),
        ({"keep_elites": 1.5}, "keep_elites"),
        ({"sample_decay": 0.5}, "sample_decay"),
        ({"noise_beta": -1}, "noise_beta"),
        ({"num_sample": 5}, "did you mean 'num_samples'"),
    ],
)
def test_wrong_configs_are_clear_errors(change, message):
    with pytest.raises(PlanError, match=message):
        PlanConfig.from_dict(change)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"horizon": 0}, "horizon"),
        ({"batch_size": 0}, "batch_size"),
        ({"seeds": [1, 2]}, "seeds"),
        ({"warm_start": torch.zeros(2, 3, 2)}, "warm_start"),
        ({"warm_start": torch.zeros(1, 3, 4)}, "warm_start"),
        ({"warm_start": torch.full((1, 3, 2), math.nan)}, "not finite"),
        ({"last_action": torch.zeros(1, 3)}, "last_action"),
        ({"dtype": torch.bfloat16}, "dtype"),
        ({"last_action": [0.0, 0.0]}, "last_action"),
        ({"last_action": torch.full((1, 2), math.inf)}, "not finite"),
    ],
)
def test_wrong_arguments_are_clear_errors(arguments, message):
    with pytest.raises(PlanError, match=message):
        planners.make("cem", QUICK, LOW, HIGH).plan(quadratic, **arguments)


@pytest.mark.parametrize("change", [0, -1, [0.1, 0.2, 0.3], math.nan])
def test_wrong_limits_on_change_are_clear_errors(change):
    with pytest.raises(PlanError, match="max_change must be above 0"):
        planners.make("cem", QUICK, LOW, HIGH, max_change=change)
    with pytest.raises(PlanError, match="same for every action"):
        planners.make("cem", QUICK, LOW, HIGH, action_dim=1, max_change=1.0)


@pytest.mark.parametrize("name", ["gradient", "cem_gradient"])
def test_a_cost_without_gradient_is_a_clear_error(name):
    for flat in (lambda c: torch.zeros(c.shape[:2]), lambda c: quadratic(c.detach())):
        with pytest.raises(PlanError, match="gives no gradient"):
            planners.make(name, QUICK, LOW, HIGH).plan(flat)


def test_gradient_steps_end_nearer_than_sampling_alone():
    config = replace(QUICK, iterations=5, gradient_steps=20, learning_rate=0.05)
    sampled = planners.make("cem", config, LOW, HIGH).plan(quadratic)
    moved = planners.make("cem_gradient", config, LOW, HIGH).plan(quadratic)
    assert torch.equal(moved.history[:, :5], sampled.history)
    assert moved.cost.item() < 0.1 * sampled.cost.item()


def test_gradients_are_taken_in_parts(monkeypatch):
    planner = planners.make("gradient", QUICK, LOW, HIGH)
    whole = planner.plan(quadratic, batch_size=3)
    monkeypatch.setattr("latent_planner.planners.costs.GRADIENTS_AT_ONCE", 20)
    recorder = Recorder()
    parts = planner.plan(recorder, batch_size=3)
    assert recorder.seen[0].shape[1] == 6 and torch.allclose(parts.actions, whole.actions, atol=1e-6)


def test_icem_keeps_elites_draws_fewer_and_colours_its_noise():
    config = replace(QUICK, num_samples=100, keep_elites=0.5, sample_decay=1.5, iterations=4)
    recorder = Recorder()
    planners.make("icem", config, LOW, HIGH).plan(recorder)
    assert [c.shape[1] for c in recorder.seen] == [100, 67 + 4, 45 + 4, 30 + 4]
    best = recorder.seen[0][0, quadratic(recorder.seen[0])[0].topk(4, largest=False).indices]
    assert torch.equal(recorder.seen[1][0, -4:], best)
    long = PlanConfig(horizon=16, num_samples=4000, iterations=1, init_std=1.0, noise_beta=2.0)
    seen = Recorder(lambda c: c.sum(dim=(-1, -2)))
    planners.make("icem", long, [-9.0], [9.0]).plan(seen)
    drawn = seen.seen[0][0, 1:, :, 0]
    power = torch.fft.rfft(drawn).abs().square().mean(0)
    assert torch.allclose(drawn.std(0), torch.ones(16), atol=0.1)
    assert torch.allclose(power[1:7] / power[1], torch.arange(1, 7) ** -2.0, rtol=0.15)


def test_predictive_sampling_goes_on_from_the_best():
    recorder = Recorder()
    planners.make("predictive", QUICK, LOW, HIGH).plan(recorder)
    for before, after in zip(recorder.seen, recorder.seen[1:]):
        assert torch.equal(after[0, 0], before[0, quadratic(before)[0].argmin()])


def test_names_and_config_round_trip():
    assert NAMES == ["cem", "icem", "mppi", "predictive", "gradient", "cem_gradient"]
    assert PlanConfig.from_dict(QUICK.to_dict()) == QUICK
    with pytest.raises(PlanError, match="did you mean 'cem'"):
        planners.make("cemm", QUICK, LOW, HIGH)


def test_planning_leaves_no_gradient_graph():
    weight = torch.ones(2, requires_grad=True)
    plan = planners.make("cem", QUICK, LOW, HIGH).plan(lambda c: (c * weight).sum(dim=(-1, -2)))
    assert not plan.actions.requires_grad and not plan.cost.requires_grad


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("name", NAMES)
def test_on_cuda_a_batch_equals_its_problems_alone(name):
    planner = planners.make(name, QUICK, LOW, HIGH)
    together = planner.plan(quadratic, batch_size=3, seeds=[4, 5, 6], device="cuda")
    alone = planner.plan(quadratic, seeds=[5], device="cuda")
    assert together.actions.is_cuda and torch.allclose(together.actions[1], alone.actions[0], atol=1e-5)
    with pytest.raises(PlanError, match="answered on cpu"):
        planner.plan(lambda c: quadratic(c).cpu(), device="cuda")
