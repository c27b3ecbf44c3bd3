"""Launchers of several machines, here on one: the runs that they make are those of one process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_run import losses, tiny_dataset, tiny_trainer
from waiting import PATIENCE, until

from latent_planner.checkpoints import checkpoint

SCRIPT = Path(__file__).parent / "tiny_run.py"
CONFIG: dict[str, Any] = {
    "steps": 8,
    "batch_size": 16,
    "freeze_encoder": 0.7,
    "precision": "float32",  # in bfloat16 the order of sums shows
    "model": {"dropout": 0.0, "proposals": 2},
}

def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def torchrun(nodes: int, each: int, node: int, port: int) -> list[str]:
    words = ["torch.distributed.run", "--nnodes", str(nodes), "--nproc_per_node", str(each)]
    return [*words, "--node_rank", str(node), "--master_addr", "127.0.0.1", "--master_port", str(port)]


def accelerate(nodes: int, each: int, node: int, port: int) -> list[str]:
    """--multi_gpu: of --cpu, Accelerate's launcher starts one process alone, unless MPI starts more."""
    return _accelerate("--multi_gpu", nodes, each, node, port)


def fsdp(nodes: int, each: int, node: int, port: int) -> list[str]:
    """Weights, gradients and moments divided over the processes."""
    words = _accelerate("--use_fsdp", nodes, each, node, port)
    loading = ["--fsdp_cpu_ram_efficient_loading", "false", "--fsdp_sync_module_states", "false"]
    return [*words, "--fsdp_version", "2", *loading]  # Accelerate loads in another way on GPUs only


def _accelerate(kind: str, nodes: int, each: int, node: int, port: int) -> list[str]:
    words = ["accelerate.commands.accelerate_cli", "launch", kind, "--num_machines", str(nodes)]
    words += ["--num_processes", str(nodes * each), "--machine_rank", str(node)]
    words += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    return [*words, "--main_process_ip", "127.0.0.1", "--main_process_port", str(port)]


Launcher = Callable[[int, int, int, int], list[str]]


def machines(
    folder: Path, config: dict[str, Any], nodes: int = 2, each: int = 2, launcher: Launcher = torchrun
) -> list[subprocess.Popen]:
    """Start the launcher once for each machine; all train in one folder."""
    port, environment = free_port(), {**os.environ, "OMP_NUM_THREADS": "1"}
    started = []
    for node in range(nodes):
        command = [sys.executable, "-m", *launcher(nodes, each, node, port)]
        command += [str(SCRIPT), str(folder), json.dumps(config)]
        started.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
    return started


def same_weights(one: Path, other: Path) -> None:
    """The models of two runs predict the same, and their weights are equal up to rounding."""
    models = [checkpoint.load(folder)[0].eval() for folder in (one, other)]
    batch = tiny_dataset().batch(0, 16)
    with torch.no_grad():
        outputs = [model(batch.pixels, batch.actions) for model in models]
    for ours, theirs in zip(*outputs):
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4)
    # a bias before a BatchNorm has no effect: its gradient is rounding, which Adam enlarges
    without = ("encoder.projector.hidden.bias", "encoder.projector.norm.running_mean")
    weights = [model.state_dict() for model in models]
    for name, value in weights[0].items():
        if name not in without:
            torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-5, msg=name)


def same_moments(one: Path, other: Path) -> None:
    """What two runs have saved to go on from is the same of every parameter, up to rounding."""
    states = [load_file(folder / "state.safetensors") for folder in (one, other)]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        if name.startswith("optimizer."):
            torch.testing.assert_close(states[1][name], value, rtol=1e-2, atol=1e-5, msg=name)


def offspring(pid: int) -> list[int]:
    """A process and all that it started, and so on."""
    found = [pid]
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found += offspring(int(stat.parent.name))
    return found


def gives_the_run_of_one(one: Path, folder: Path, launcher: Launcher, nodes: int = 2, each: int = 2) -> None:
    """The losses and weights of one process, and what it has saved to go on from."""
    for process in machines(folder, CONFIG, nodes, each, launcher):
        told = process.communicate(timeout=PATIENCE)[1]
        assert process.returncode == 0, told[-2000:]
        assert (f"divided over {nodes * each} processes" in told) == (launcher is fsdp)
    ours, theirs = np.array(losses(one)), np.array(losses(folder))
    assert ours.shape == theirs.shape == (8, 6)
    np.testing.assert_allclose(theirs, ours, rtol=1e-5, atol=1e-6)
    same_weights(one, folder)
    same_moments(one, folder)


def one_goes_on_without_a_machine(one: Path, folder: Path, each: int = 2) -> None:
    """The other machine disappears in one sentence, and one process goes on for all."""
    first, second = machines(folder, {**CONFIG, "save_every_minutes": 0.0, "hold_at": 5}, each=each)
    until(lambda: (folder / "metrics.jsonl").exists() and len(losses(folder)) >= 5, first)
    for pid in offspring(second.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    second.communicate()
    Path(f"{folder}.go").touch()
    told = first.communicate(timeout=PATIENCE)[1]
    assert first.returncode != 0
    assert "TrainingError: another process of this training is gone, or its machine (connection" in told
    assert f"by resume={folder}" in told
    kept = (folder / "state.safetensors").stat().st_size
    assert kept > 0
    tiny_trainer(folder, **CONFIG).fit()
    np.testing.assert_allclose(np.array(losses(folder)), np.array(losses(one)), rtol=1e-5, atol=1e-6)
    same_weights(one, folder)


def more_go_on_with_the_same_batches(one: Path, folder: Path, launcher: Launcher, each: int = 2) -> None:
    """What one process has begun, several of one machine end as that one would have."""

    def stop(row: dict[str, Any]) -> None:
        if row["step"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny_trainer(folder, **CONFIG, log=stop).fit()
    (machine,) = machines(folder, CONFIG, 1, each, launcher)
    told = machine.communicate(timeout=PATIENCE)[1]
    assert machine.returncode == 0, told[-2000:]
    assert (f"divided over {each} processes" in told) == (launcher is fsdp)
    np.testing.assert_allclose(np.array(losses(folder)), np.array(losses(one)), rtol=1e-5, atol=1e-6)
    same_weights(one, folder)
    same_moments(one, folder)
