"""Trainings of two machines with two processes each, by every launcher, are those of one process.

    python -m pytest tests/campaigns/machines.py     # two minutes of two cores; Linux only

Each launcher starts once for each machine, all on this one; weights are whole in every process, or divided
over them (FSDP). tests/test_machines.py is the short form.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from launching import (
    CONFIG,
    Launcher,
    accelerate,
    fsdp,
    gives_the_run_of_one,
    more_go_on_with_the_same_batches,
    one_goes_on_without_a_machine,
    torchrun,
)
from tiny_run import tiny_trainer


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("one")
    tiny_trainer(folder, **CONFIG).fit()
    return folder


@pytest.mark.parametrize("launcher", [torchrun, accelerate, fsdp])
def test_two_machines_of_two_processes_give_the_losses_and_weights_of_one(
    one: Path, tmp_path: Path, launcher: Launcher
) -> None:
    gives_the_run_of_one(one, tmp_path, launcher)


def test_a_machine_that_disappears_is_one_sentence_and_one_process_goes_on(one: Path, tmp_path: Path) -> None:
    one_goes_on_without_a_machine(one, tmp_path / "run")


@pytest.mark.parametrize("launcher", [torchrun, fsdp])
@pytest.mark.parametrize("each", [2, 4])
def test_more_processes_go_on_with_the_same_batches(
    one: Path, tmp_path: Path, launcher: Launcher, each: int
) -> None:
    more_go_on_with_the_same_batches(one, tmp_path, launcher, each)
