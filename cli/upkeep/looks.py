"""Measure what the frames that a model learned from look like, so that goals unlike them are noticed.

    latent-planner looks runs/mine                        # looks.json next to the checkpoint
    latent-planner looks runs/mine --recording my.h5      # by the frames of this recording
    latent-planner looks pusht --out pusht-looks          # a bundled checkpoint: into another folder

train.py does this by itself when a training ends. Without --recording, the frames are those of the recording
that the run learned from, else of fresh episodes of its world.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from latent_planner import looks
from latent_planner.checkpoints import checkpoint
from latent_planner.common.commands import in_words
from latent_planner.common.files import blame
from latent_planner.envs.recordings.appended import AppendedReader
from latent_planner.envs.recordings.episodes import EpisodeReader
from latent_planner.model.world_model import WorldModel
from latent_planner.training.robust.augment import augmented

from ..reporting import checkpoint_folder, episodes
from ..user_errors import USER_ERRORS

MOST_BYTES, MOST_FRAMES = 256_000_000, 20_000  # of frames looked at


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 when looks.json is written, 2 on a user error, 130 after Ctrl-C."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    with in_words(*USER_ERRORS, system_error=another_folder) as outcome:
        args = parse(sys.argv[1:] if argv is None else argv)
        world_model, info = checkpoint.load(args.run)
        folder = checkpoint_folder(args.run, args.out)
        with episodes(args.run, world_model.config, args.recording, progress=True) as (reader, _, name):
            found = of_recording(world_model, reader)
        print(f"{looks.save(folder, found, info['sha256'])}: the looks of {name}")
    return outcome.code


def another_folder(error: OSError) -> str:
    """What is wrong with a file or folder, and what to do."""
    return f"{blame(error)}; choose another --out"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """The arguments; argparse ends the program where they are wrong."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("latent-planner looks", description=__doc__, formatter_class=form)
    parser.add_argument("run", help="run folder, bundled name or hf://owner/name")
    parser.add_argument("--recording", metavar="FILE", help="frames to measure")
    parser.add_argument("--out", metavar="FOLDER", help="where looks.json goes (default: the run folder)")
    return parser.parse_args(list(argv))


def of_recording(world_model: WorldModel, reader: EpisodeReader | AppendedReader) -> looks.Looks:
    """The looks of frames spread evenly over an open recording, for a robust encoder also of those frames in
    other looks."""
    frame = reader.read_rows("pixels", [0])
    count = min(MOST_FRAMES, max(1, MOST_BYTES // frame.nbytes), reader.num_frames)
    rows = np.unique(np.linspace(0, reader.num_frames - 1, count).astype(int))
    frames = reader.read_rows("pixels", rows)
    if world_model.config.encoder != "robust":
        return looks.measure(world_model, frames)
    column = getattr(reader, "look_column", None)
    others = reader.read_rows(column, rows) if column else augmented(frames)
    return looks.measure_shell(world_model, frames, others)


def write(folder: Path, reader: EpisodeReader | AppendedReader) -> None:
    """Leave looks.json next to the checkpoint in a run folder, by the recording that it learned from."""
    world_model, info = checkpoint.load(folder, frames_alone=True)
    looks.save(folder, of_recording(world_model, reader), info["sha256"])
