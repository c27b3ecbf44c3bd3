"""Teach a trained checkpoint to see the same in other colours, on other grounds and in other light.

    latent-planner robust runs/mine --out runs/mine-robust           # the recording that the run learned from
    latent-planner robust runs/mine --recording my.h5 --out runs/mine-robust
    latent-planner robust reacher --minutes 20 --out runs/reacher-robust  # fresh episodes of its world

A second encoder learns what the checkpoint's own says of a frame, from other looks of that frame. Where the
recording has them (data.vary), those are rendered; otherwise image operations make them. A run with data.vary
learns this at the end of its training. Predictor, proposer and landmarks stay as they are. If it is stopped,
the same command goes on.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from latent_planner.checkpoints import checkpoint
from latent_planner.common.commands import in_words
from latent_planner.model.world_model import WorldModel
from latent_planner.training.dataset import WindowDataset
from latent_planner.training.robust.learn import SHARE, RobustTraining, check_teachable, trained_part
from latent_planner.training.train_config import TrainConfig

from ..user_errors import USER_ERRORS
from . import looks
from .recordings import new_checkpoint_parser, new_folder, training_dataset

MINUTES = 15.0
STATE = "robust.safetensors"  # in a run folder, or a new one: what is needed to go on


def main(words: Sequence[str] | None = None) -> int:
    """The program; returns 0, 2 on a user error, 130 after Ctrl-C."""
    args = _arguments(words)
    logging.basicConfig(format="%(message)s")
    with in_words(*USER_ERRORS) as outcome:
        new_folder(args.out, but_for=STATE)
        teacher, info = checkpoint.load(args.checkpoint)
        teacher = trained_part(teacher)  # what has learned other looks learns them anew
        check_teachable(teacher.config)
        args.out.mkdir(parents=True, exist_ok=True)
        state = args.out / STATE
        source = training_dataset(args.checkpoint, teacher.config, args.recording, looks=True)
        with source as (dataset, reader):
            lesson = RobustTraining(teacher, dataset, minutes=args.minutes, seed=args.seed, state_path=state)
            student = lesson.learn()
            training = {**info["training"], **lesson.found}
            checkpoint.save(student, args.out, planner=info["planner"], training=training)
            looks.write(args.out, reader)
            state.unlink()
        print(f"{args.out}: {in_figures(lesson.found)}")
    return outcome.code


def in_figures(found: Mapping[str, Any]) -> str:
    """What RobustTraining found, in words."""
    return (
        f"of what the trained encoder says of held-out frames, the new one explains "
        f"{found['robust/as_recorded']:.1%} as recorded and {found['robust/other_looks']:.1%} in other looks"
    )


def learn_at_the_end(
    folder: Path,
    dataset: WindowDataset,
    settings: TrainConfig,
    log: Callable[[Mapping[str, Any]], None],
    evaluate: Callable[[WorldModel], Mapping[str, Any]] | None,
) -> None:
    """Replace the encoder of the run's checkpoint by one that knows other looks, unless it does already.

    It takes half as long as the training took, and can be interrupted and resumed like that.
    """
    teacher, info = checkpoint.load(folder, dataset.device)
    if teacher.config.encoder == "robust":
        return
    lesson = RobustTraining(
        teacher,
        dataset,
        steps=None if settings.steps is None else max(1, round(SHARE * settings.steps)),
        minutes=None if settings.minutes is None else SHARE * settings.minutes,
        precision=settings.precision,
        seed=settings.seed,
        state_path=folder / STATE,
        log=log,
    )
    student = lesson.learn()
    found = dict(lesson.found)
    if evaluate is not None:
        found["robust/success"] = evaluate(student)["success"]
        log({"robust/success": found["robust/success"]})
    checkpoint.save(student, folder, planner=info["planner"], training={**info["training"], **found})
    (folder / STATE).unlink(missing_ok=True)
    logging.getLogger(__name__).info("other looks: %s", in_figures(found))


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = new_checkpoint_parser("robust", __doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help=f"how long (default {MINUTES:g})")
    parser.add_argument("--seed", type=int, default=0, help="of weights and batches (default 0)")
    args = parser.parse_args(words)
    if not 0 < args.minutes < 1e6:
        parser.error("--minutes must be above 0")
    if not 0 <= args.seed < 2**63:
        parser.error("--seed must be a whole number from 0 on")
    return args
