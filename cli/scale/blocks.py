"""Blocks of the benchmark that other processes and machines play: the same outcomes as in one process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from latent_planner import Agent
from latent_planner.checkpoints import checkpoint
from latent_planner.common.files import read_bytes
from latent_planner.envs.goals import pairs as lists
from latent_planner.envs.goals import stored
from latent_planner.envs.goals.base import Pairs
from latent_planner.envs.gym.making import bring
from latent_planner.evaluation import benchmark
from latent_planner.evaluation.provenance import write_json

from ..plan import world_of
from ..planner_words import planner_settings


@dataclass(frozen=True)
class Case:
    """A checkpoint to be tested on goals `offset` steps away.

    checkpoint: bundled name, hf://owner/name, or the absolute path of a run folder.
    label: its name in files.
    """

    checkpoint: str
    sha256: str
    label: str
    world: str
    offset: int

    @property
    def name(self) -> str:
        return f"{self.label}-offset{self.offset}"


@dataclass(frozen=True)
class Evaluation:
    """What is asked of every case.   folder: absolute, where everybody reads pairs and writes outcomes."""

    folder: str
    pairs: int
    pairs_seed: int | None = None
    shift: str | None = None
    seed: int = 0
    device: str = "auto"
    planner: tuple[str, ...] = ()
    module: str | None = None
    strict: bool = False

    def pairs_path(self, case: Case) -> Path:
        return Path(self.folder) / "pairs" / f"{lists_name(case)}.npz"


@dataclass(frozen=True)
class Block:
    """Pairs `first` to `last` (not included) of a case."""

    evaluation: Evaluation
    case: Case
    first: int
    last: int

    @property
    def path(self) -> Path:
        return Path(self.evaluation.folder) / "blocks" / f"{self.case.name}-{self.first:06d}.json"

    def __str__(self) -> str:
        return f"{self.case.name}, pairs {self.first} to {self.last - 1}"


def lists_name(case: Case) -> str:
    """What the pairs of a case are called: cases of one world and offset share them."""
    letters = (letter if letter.isalnum() or letter in "._" else "-" for letter in case.world)
    return f"{''.join(letters)}-offset{case.offset}"


def blocks_of(evaluation: Evaluation, cases: Sequence[Case]) -> list[Block]:
    """All blocks, as large as `benchmark.run` plays at once: so sums are rounded as there."""
    count, size = evaluation.pairs, benchmark.PAIRS_AT_ONCE
    firsts = range(0, count, size)
    return [Block(evaluation, case, first, min(first + size, count)) for case in cases for first in firsts]


def write_pairs(work: tuple[Evaluation, Case]) -> None:
    """Find the pairs of a case and keep them in the folder. The fixed list, or that continued."""
    evaluation, case = work
    bring(evaluation.module)
    stored.save(_pairs(evaluation, case), evaluation.pairs_path(case))


def _pairs(evaluation: Evaluation, case: Case) -> Pairs:
    count, seed = evaluation.pairs, evaluation.pairs_seed
    if seed is None and count <= lists.COUNT:
        try:
            return lists.load(case.world, offset=case.offset).first(count)
        except lists.WorldError:  # there is no list of this offset
            pass
    return lists.draw(case.world, count, lists.SEED if seed is None else seed, case.offset)


def play_block(block: Block) -> None:
    """Play a block and write its outcomes, unless they are there."""
    if block.path.exists():
        return
    evaluation, case = block.evaluation, block.case
    bring(evaluation.module)
    torch.set_num_threads(1)  # there is a process for each core; and more would round sums otherwise
    pairs = stored.load(evaluation.pairs_path(case))
    if evaluation.shift is not None:
        pairs = lists.shifted(pairs, evaluation.shift)
    agent = load_agent(case.checkpoint, case.sha256, evaluation.planner, evaluation.device)
    indices = range(block.first, block.last)
    asked: dict[str, Any] = {"seed": evaluation.seed, "strict": evaluation.strict}
    result = benchmark.part(agent, lambda: world_of(agent), pairs, indices, **asked)
    write_json(block.path, result)


@lru_cache(maxsize=2)
def load_agent(name: str, sha256: str, words: tuple[str, ...], device: str) -> Agent:
    """The agent of a checkpoint, with these planner.… words; kept for the next block.

    CheckpointError where it is not the one of this hash any more.
    """
    model, info = checkpoint.load(name)
    if info["sha256"] != sha256:
        raise checkpoint.CheckpointError(
            f"{name} has changed since this evaluation began: choose another --out"
        )
    return Agent(model, planner_settings(list(words), info["planner"]), device=device)


def outcomes_of(block: Block) -> dict[str, Any]:
    """What `play_block` wrote."""
    return json.loads(read_bytes(block.path))
