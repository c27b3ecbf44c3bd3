"""How many threads a plan gets is measured, and changes neither plans nor the program around them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from latent_planner import Agent
from latent_planner.model.threads import PATIENCE, ROUNDS, Threads

FRAME = np.full((64, 64, 3), 200, np.uint8)


@pytest.fixture(autouse=True)
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


class Machine:
    """A clock on which work takes `seconds[n]` with n threads."""

    def __init__(self, one: float, four: float) -> None:
        self.seconds, self.now, self.calls = {1: one, 4: four}, 0.0, 0

    def timer(self) -> float:
        return self.now

    def work(self) -> None:
        self.calls += 1
        self.now += self.seconds[torch.get_num_threads()]


def measures(threads: Threads, machine: Machine) -> bool:
    """Whether choosing takes a measurement now."""
    calls = machine.calls
    threads.choose(machine.work)
    return machine.calls > calls


def used(threads: Threads) -> int:
    with threads.using():
        return torch.get_num_threads()


@pytest.mark.parametrize(("one", "four", "best"), [(1, 0.4, 4), (1, 14, 1), (1, 0.97, 1), (1, 2, 1)])
def test_the_quicker_number_is_used(one: float, four: float, best: int) -> None:
    machine = Machine(one, four)
    threads = Threads(machine.timer)
    assert used(threads) == 1  # nothing is known yet
    assert measures(threads, machine)
    assert used(threads) == threads.used == best and torch.get_num_threads() == 4
    assert threads.about() == {"used": best, "of": 4, "trial_seconds": {"1": one, "4": four}}
    assert not measures(threads, machine)  # once is enough


def test_a_hopeless_number_is_tried_once_only() -> None:
    slow, near = Machine(1.0, 14.0), Machine(1.0, 1.5)
    for machine in (slow, near):
        Threads(machine.timer).choose(machine.work)
    assert (slow.calls, near.calls) == (2, 2 * ROUNDS)


def test_plans_that_suddenly_take_long_are_a_reason_to_measure_again() -> None:
    machine = Machine(1.0, 0.4)
    threads = Threads(machine.timer)
    threads.choose(machine.work)
    for seconds, size in ((2.0, "a"), (5.0, "a"), (40.0, "b"), (41.0, "b")):
        threads.planned(seconds, size)
        assert not measures(threads, machine)
    machine.seconds = {1: 1.0, 4: 14.0}  # another program started
    threads.planned(28.0, "a")
    assert measures(threads, machine) and used(threads) == 1
    machine.seconds = {1: 1.0, 4: 0.4}  # and ended
    for _ in range(PATIENCE):
        assert used(threads) == 1 and not measures(threads, machine)
        threads.planned(5.0, "a")
    assert measures(threads, machine) and used(threads) == 4


def test_a_program_with_one_thread_is_left_alone() -> None:
    torch.set_num_threads(1)
    machine = Machine(1.0, 0.1)
    threads = Threads(machine.timer)
    threads.choose(machine.work)
    assert machine.calls == 0 and used(threads) == 1
    torch.set_num_threads(4)  # the program has changed its mind
    assert measures(threads, machine) and used(threads) == 4


def test_threads_are_given_back_when_a_plan_fails() -> None:
    with pytest.raises(RuntimeError), Threads().using():
        raise RuntimeError
    with pytest.raises(ZeroDivisionError):
        Threads().choose(lambda: 1 / 0)
    assert torch.get_num_threads() == 4


def test_plans_do_not_depend_on_the_choice(tiny_checkpoint: Path) -> None:
    torch.set_num_threads(2)
    plans = []
    for chosen in (1, 2):
        agent = Agent.from_pretrained(tiny_checkpoint, device="cpu", seed=3)
        agent.threads._due, agent.threads.most, agent.threads.used = False, 2, chosen
        agent.set_goal(FRAME // 2)
        plans.append(agent.plan(FRAME))
    assert torch.get_num_threads() == 2
    np.testing.assert_allclose(plans[0].actions, plans[1].actions, atol=1e-4)
    np.testing.assert_allclose(plans[0].cost, plans[1].cost, rtol=1e-4)


def test_an_agent_measures_at_its_first_plan_and_says_so(
    tiny_checkpoint: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="latent_planner")
    agent = Agent.from_pretrained(tiny_checkpoint, device="cpu")
    agent.set_goal(FRAME)
    assert agent.threads.used is None
    for _ in range(2):
        agent.plan(FRAME)
    twin = agent.clone()
    twin.set_goal(FRAME)
    twin.act(FRAME)  # knows it already
    told = [record.getMessage() for record in caplog.records if "thread" in record.getMessage()]
    assert len(told) == 1 and told[0] == f"plans are computed with {agent.threads}"
    assert agent.threads.used in (1, 4) and torch.get_num_threads() == 4
