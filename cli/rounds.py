"""Training in rounds: between two of them the agent plans to goals of its own and learns from what happened.

    python train.py env=pusht rounds=3
    python train.py env=pusht rounds=3 practice.goals=uniform      # the control: any goals

Each round has the same share of the budget and learns from all that there is. Its practice is a recording in
the run folder, practice/round-N.h5. That file appears when the practice is complete, which is how a run that
goes on knows its round. Practice is a function of the weights, the seed and the round: when it was cut off,
it is begun again.
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from omegaconf import DictConfig

from latent_planner import Agent, envs
from latent_planner.common.progress import Bar
from latent_planner.envs.gym.names import as_recorded
from latent_planner.envs.recordings.appended import AppendedReader
from latent_planner.envs.recordings.episodes import EpisodeReader, EpisodeWriter, partial_path
from latent_planner.evaluation import plots
from latent_planner.model.threads import at_most
from latent_planner.model.world_model import WorldModel
from latent_planner.practice.goals import Attempts, choose, described
from latent_planner.practice.play import AT_ONCE, DISTANCE, GOAL, NEAR, attempt_all, cheap, covered
from latent_planner.settings import AgentSettings
from latent_planner.training.dataset import WindowDataset
from latent_planner.training.landmarks import encode_rows
from latent_planner.training.run_state import MetricsFile
from latent_planner.training.trainer import Trainer

from .overrides import ConfigError
from .recording import RECORDED

log = logging.getLogger(__name__)

BRANCH = 0x9AC7  # of the seeds: practice; recordings and benchmark pairs have others
POOL = 2048  # recorded frames, drawn anew in each round, among which goals are chosen
REACH = 2  # plans, one after the other, from the farthest of those states
SHARE = 5  # practice has so many times fewer episodes than the recording, unless it is said how many


def practised(folder: Path, number: int) -> Path:
    """Where the practice after round `number`, from 1, is recorded."""
    return folder / "practice" / f"round-{number}.h5"


def over(config: DictConfig) -> int:
    """How many rounds of the run that goes on have ended with their practice."""
    number = 0
    while config.resume and practised(Path(config.resume), number + 1).exists():
        number += 1
    return max(0, min(number, config.rounds - 1))


def check(config: DictConfig) -> None:
    """Raise ConfigError where there cannot be rounds."""
    if config.rounds <= 1:
        return
    if config.env.name == RECORDED:
        raise ConfigError("env=recorded has no world to practise in: leave out rounds")
    for name in ("cameras", "proprio", "vary"):
        if config.data[name]:
            raise ConfigError(f"practice records one camera as it is: leave out rounds, or data.{name}")
    if config.train.steps is not None and config.train.steps < config.rounds:
        raise ConfigError(f"rounds={config.rounds} needs at least as many steps, not {config.train.steps}")


@dataclass
class Rounds:
    """What all rounds of a run have in common.

    dataset_of: (open recording, memory_gb=…, like=…) -> what to train on.
    trainer_of: (that, share=…) -> the trainer of one round; all train `world_model`.
    make_world: (image size) -> what makes a world to practise in, as the recording shows it.
    note: gets the row of each round, which metrics.jsonl has, too.
    reader: the recording; in the end with all practice after it.
    """

    config: DictConfig
    folder: Path
    reader: Any
    world_model: WorldModel
    planner: AgentSettings
    dataset_of: Callable[..., WindowDataset]
    trainer_of: Callable[..., Trainer]
    make_world: Callable[[int], Callable[[], envs.World]]
    note: Callable[[dict[str, Any]], None]

    def fit(self, dataset: list[WindowDataset]) -> tuple[Trainer, dict[str, Any]]:
        """Train in rounds; returns the last one's trainer, and what its `fit` does.

        dataset: of the first round; it is taken out of the list, so that its memory is free afterwards.
        """
        processes, count, done = PartialState(), max(1, self.config.rounds), over(self.config)
        if done:
            dataset.clear()
            if processes.is_main_process:
                self._write_row(done)
        base = self.reader
        for number in range(done + 1, count + 1):
            if not dataset:
                dataset.append(self._grown(base, number))
            trainer = self.trainer_of(dataset.pop(), share=((number - 1) / count, number / count))
            trained = trainer.fit()
            if number < count and processes.is_main_process:
                practise(self, trainer.dataset, number)
            processes.wait_for_everyone()
            if count > 1 and processes.is_main_process:
                self._write_row(number)
            if number < count:
                del trainer  # and the frames that it holds
        return trainer, trained

    def _grown(self, base: EpisodeReader, number: int) -> WindowDataset:
        """What round `number` learns from."""
        paths = [practised(self.folder, earlier) for earlier in range(1, number)]
        self.reader = AppendedReader(base, [EpisodeReader(path) for path in paths])
        like = self.world_model.config
        return self.dataset_of(self.reader, memory_gb=self.config.data.memory_gb, like=like)

    def _write_row(self, number: int) -> None:
        """Note how a round went, once."""
        metrics = MetricsFile(self.folder / "metrics.jsonl")
        metrics.keep_until(sys.maxsize)  # a last line may have been cut off
        rows = plots.read_rows(metrics.path)
        if any(row.get("round") == number for row in rows):
            return
        last = rows[-1] if rows else {}
        row: dict[str, Any] = {name: last.get(name, 0) for name in ("step", "minutes")} | {"round": number}
        said = [f"round {number} of {self.config.rounds}"]
        tested = [some["success"] for some in rows if "success" in some]
        if tested:
            row["round/success"] = tested[-1]
            said.append(f"{tested[-1]:.0%} of the validation goals reached")
        if practised(self.folder, number).exists():
            _, success = outcomes(self.folder, number)
            row |= {"round/attempts": len(success), "round/covered": float(success.mean())}
            said.append(
                f"then {len(success)} attempts at goals of its own ({self.config.practice.goals}), which "
                f"covered {success.mean():.0%} of the way"
            )
        metrics.append(row)
        self.note(row)
        log.info("%s", ", ".join(said))


def practise(rounds: Rounds, dataset: WindowDataset, number: int) -> None:
    """Attempt goals of the agent's own after round `number`, and record what happens.

    dataset: what the round has learned from; the goals are frames of its training episodes.
    """
    config, path = rounds.config, practised(rounds.folder, number)
    count = config.practice.episodes or max(2, config.env.episodes // SHARE)
    partial_path(path).unlink(missing_ok=True)
    make = rounds.make_world(dataset.frame_size[0])
    worlds = [make() for _ in range(min(AT_ONCE, count))]
    writer = EpisodeWriter(path, attrs=_attributes(rounds, number))
    bar = Bar(total=count, desc=f"practice {number}", unit=" episodes", leave=False)
    try:
        with at_most(1), torch.no_grad(), writer, bar:  # one thread: the same plans, whatever else runs here
            for episodes in _batches(rounds, dataset, worlds, number, count):
                for episode in episodes:
                    writer.append(episode)
                bar.update(len(episodes))
    except KeyboardInterrupt:
        folder = shlex.quote(str(rounds.folder))
        raise KeyboardInterrupt(
            f"stopped in the practice after round {number}; to go on: python train.py resume={folder}"
        ) from None
    finally:
        for world in worlds:
            world.close()


def _batches(
    rounds: Rounds, dataset: WindowDataset, worlds: Sequence[Any], number: int, count: int
) -> Iterator[list[dict[str, np.ndarray]]]:
    """Lists of episodes, `count` in all; each batch chooses its goals by how the ones before went."""
    config, world_model = rounds.config, rounds.world_model.eval()
    rng = np.random.default_rng([config.seed, BRANCH, number])
    rows = dataset.rows["train"]
    rows = rows[np.sort(rng.choice(len(rows), size=min(POOL, len(rows)), replace=False))]
    earlier = [outcomes(rounds.folder, before) for before in range(1, number)]
    wanted = [rows, *(goals for goals, _ in earlier)]
    latents = [encode_rows(world_model, dataset, some).cpu().numpy() for some in wanted]
    pool, known = described(latents[0], np.concatenate(latents))
    attempts, at = Attempts.none(pool.shape[1]), len(rows)
    for before, (own, success) in enumerate(earlier, 1):
        attempts.add(known[at : at + len(own)], success, before)
        at += len(own)
    agent = Agent(world_model, cheap(rounds.planner, world_model), device=dataset.device)
    for first in range(0, count, len(worlds)):
        chosen = choose(config.practice.goals, pool, attempts, min(len(worlds), count - first), rng)
        seeds = [
            np.random.SeedSequence([config.seed, BRANCH, number, first + i]).generate_state(2).tolist()
            for i in range(len(chosen))
        ]
        goals = dataset.look(rows[chosen]).permute(0, 2, 3, 1).cpu().numpy()
        begin = _Begin([seed for seed, _ in seeds], *_states(rounds, dataset, rows[chosen], rng))
        episodes = attempt_all(
            agent, worlds, begin, goals, [seed for _, seed in seeds], length=max(2, config.env.length)
        )
        success = np.array([covered(episode[DISTANCE]) for episode in episodes])
        attempts.add(pool[chosen], success, number)
        yield [
            {**episode, GOAL: np.full((len(episode["action"]), 1), row, np.int64)}
            for episode, row in zip(episodes, rows[chosen])
        ]


def _states(
    rounds: Rounds, dataset: WindowDataset, goals: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray | None, str]:
    """States (B, S) for the attempts at the frames in rows `goals` (B,), and which option of reset they are:
    with practice.starts=near, those up to REACH plans before the goal; else those of the goals."""
    rows, option = goals, "goal_state"
    if rounds.config.practice.starts == NEAR:
        offsets = np.asarray(rounds.reader.offsets)
        first = offsets[np.searchsorted(offsets, goals, side="right") - 1]
        longest = REACH * rounds.planner.plan_config.horizon * dataset.frameskip
        rows, option = np.maximum(first, goals - rng.integers(1, longest + 1, size=len(goals))), "state"
    return None if dataset.state is None else dataset.state[torch.from_numpy(rows)].numpy(), option


@dataclass
class _Begin:
    """Starts from these seeds. With `option` "goal_state": fresh, in worlds of several layouts in that of the
    states (B, S); with "state": the states themselves, where the world takes them."""

    seeds: Sequence[int]
    states: np.ndarray | None
    option: str

    def __call__(self, world: Any, index: int) -> dict[str, np.ndarray]:
        seed = self.seeds[index]
        if not world.settable_states:
            return world.reset(seed=seed, options={"goal": None})[0]
        if self.states is not None and self.states.shape[1] == len(world.state_names):
            with suppress(envs.WorldError):  # a recorded state may be a rounding away from a possible one
                return world.reset(seed=seed, options={self.option: self.states[index]})[0]
        return world.reset(seed=seed)[0]


def outcomes(folder: Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Of each attempt after round `number`: the row of its goal, and how much of the way it covered, (n,)."""
    with EpisodeReader(practised(folder, number)) as reader:
        goals, distances = (reader.read(name, 0, reader.num_frames)[:, 0] for name in (GOAL, DISTANCE))
        ends = reader.offsets + reader.lengths
        return goals[reader.offsets].astype(np.int64), np.array(
            [covered(distances[first:end]) for first, end in zip(reader.offsets, ends)]
        )


def _attributes(rounds: Rounds, number: int) -> dict[str, Any]:
    """What the practice says about itself: as the recording, and which round it was."""
    config, reader = rounds.config, rounds.reader
    rate, space = reader.attrs.get("control_hz"), str(reader.action_space)
    return {
        "env": as_recorded(config.env.name),
        "length": config.env.length,
        "image_size": reader.image_size,
        "seed": config.seed,
        "policy": f"practice {number}, {config.practice.goals} goals",
        "state_names": list(reader.state_names),
        "angle_names": list(reader.angle_names),
        "action_low": np.asarray(reader.action_low).tolist(),
        "action_high": np.asarray(reader.action_high).tolist(),
        **({"control_hz": rate} if rate is not None else {}),
        **({"action_space": space} if space else {}),
    }
