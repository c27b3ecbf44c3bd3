"""Give a trained checkpoint landmarks, so that it plans to far goals in several legs.

    latent-planner landmarks runs/mine --out runs/mine-far          # on the recording the run learned from
    latent-planner landmarks runs/mine --recording my.h5 --out runs/mine-far
    latent-planner landmarks pusht --out runs/pusht-far             # on fresh episodes of its world

A run with model.landmarks=512 learns them at the end of training. This is for checkpoints without; their
encoder, predictor and proposer stay as they are.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from latent_planner import looks
from latent_planner.checkpoints import checkpoint
from latent_planner.common.commands import in_words
from latent_planner.evaluation import reachability
from latent_planner.model.world_model import WorldModel
from latent_planner.training.landmarks import PAIRS, learn_landmarks

from ..overrides import ConfigError
from ..user_errors import USER_ERRORS
from .recordings import new_checkpoint_parser, new_folder, training_dataset

COUNT = 512


def main(words: Sequence[str] | None = None) -> int:
    """The program; returns 0, 2 on a user error, 130 after Ctrl-C."""
    args = _arguments(words)
    with in_words(*USER_ERRORS) as outcome:
        new_folder(args.out)
        found = add_landmarks(args.checkpoint, args.out, args.recording, count=args.count, pairs=args.pairs)
        print(f"{args.out}: {args.count} landmarks, a leg is trusted to within {found['trust']:.2f}")
    return outcome.code


def add_landmarks(
    name: str, out: Path, recording: Path | None = None, *, count: int = COUNT, pairs: int = PAIRS
) -> dict[str, float]:
    """Write the checkpoint `name` with landmarks into `out`; returns what `learn_landmarks` found.

    recording: default the one that the run learned from, or fresh episodes of its world.
    """
    old, info = checkpoint.load(name)
    if old.proposer is None:
        raise ConfigError(f"{name} proposes no plans (model.proposals=0), so it cannot judge legs")
    model = WorldModel(replace(old.config, landmarks=count))
    kept = {key: value for key, value in old.state_dict().items() if not key.startswith("landmarks.")}
    model.load_state_dict(kept, strict=False)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device).eval()
    with training_dataset(name, old.config, recording) as (dataset, _):
        found = learn_landmarks(model, dataset, pairs=pairs)
    checkpoint.save(model, out, planner=info["planner"], training={**info["training"], "landmarks": found})
    _carry_over(checkpoint.find(name), info["sha256"], out)
    return found


def _carry_over(old: Path, sha256: str, new: Path) -> None:
    """What was measured of the encoder and the predictor holds for the new checkpoint, which has the same."""
    now = checkpoint.load(new)[1]["sha256"]
    seen, within = looks.load(old, sha256), reachability.load(old, sha256)
    if seen is not None:
        looks.save(new, seen, now)
    if within is not None:
        reachability.save(new, within, now)


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = new_checkpoint_parser("landmarks", __doc__)
    parser.add_argument("--count", type=int, default=COUNT, help=f"landmarks (default {COUNT})")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"imagined legs (default {PAIRS})")
    args = parser.parse_args(words)
    for option in ("count", "pairs"):
        if getattr(args, option) < 2:
            parser.error(f"--{option} must be at least 2")
    return args
