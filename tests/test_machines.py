"""Training on several machines, here launchers of a process or two: the run is that of one process, and
a machine may disappear. tests/campaigns/machines.py tries more processes, and more launchers."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from accelerate.utils import DistributedType
from launching import (
    CONFIG,
    fsdp,
    gives_the_run_of_one,
    more_go_on_with_the_same_batches,
    one_goes_on_without_a_machine,
    torchrun,
)
from tiny_run import tiny_dataset, tiny_trainer

from latent_planner.training.connection import check_kind, lost_connection
from latent_planner.training.run_state import TrainingError

if sys.platform != "linux":
    pytest.skip("starts torchrun's processes and looks into /proc", allow_module_level=True)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run of one process."""
    folder = tmp_path_factory.mktemp("one")
    tiny_trainer(folder, **CONFIG).fit()
    return folder


def test_two_machines_give_the_losses_and_weights_of_one(one: Path, tmp_path: Path) -> None:
    """Takes its time, as the next two do: each process, and each launcher, loads torch."""
    gives_the_run_of_one(one, tmp_path, torchrun, each=1)


def test_a_machine_that_disappears_is_one_sentence_and_one_process_goes_on(one: Path, tmp_path: Path) -> None:
    one_goes_on_without_a_machine(one, tmp_path / "run", each=1)


def test_more_processes_go_on_with_the_same_batches(one: Path, tmp_path: Path) -> None:
    more_go_on_with_the_same_batches(one, tmp_path, fsdp)


@pytest.mark.parametrize("ranks", [2, 4])
def test_processes_share_a_batch_out_and_repeat_no_window(ranks: int) -> None:
    dataset = tiny_dataset()
    whole = dataset.batch(3, 16, seed=1)
    parts = [dataset.batch(3, 16, seed=1, rank=rank, world_size=ranks) for rank in range(ranks)]
    assert torch.equal(torch.cat([part.pixels for part in parts]), whole.pixels)
    assert torch.equal(torch.cat([part.actions for part in parts]), whole.actions)


def test_what_accelerate_can_and_this_training_cannot_is_refused_in_one_sentence() -> None:
    kinds = DistributedType
    for kind in (kinds.NO, kinds.MULTI_CPU, kinds.MULTI_GPU, kinds.FSDP):
        check_kind(kind)
    for kind in (kinds.DEEPSPEED, kinds.MEGATRON_LM):
        with pytest.raises(TrainingError, match=f"configured for {kind.value}: choose plain"):
            check_kind(kind)


def test_which_errors_mean_a_lost_connection() -> None:
    gloo = "[pair.cc:552] Connection closed by peer [127.0.0.1]:40003. This may indicate a remote failure"
    assert lost_connection(RuntimeError(gloo)) == "connection closed by peer"
    assert lost_connection(torch.distributed.DistBackendError("NCCL error")) == "the connection is lost"
    assert lost_connection(RuntimeError("shape '[2, 3]' is invalid for input of size 5")) is None
