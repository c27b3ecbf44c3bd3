"""Draw the frames of a recording once more in other looks, from the states that it holds.

    latent-planner relook pusht.h5 pusht-looks.h5 --vary trained

Of a recording made here it makes what `collect --vary` would have made, up to what is lost where states are
recorded with 24 bits: a level of grey here and there. If it is stopped, the same command goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from latent_planner import envs
from latent_planner.common.commands import in_words
from latent_planner.common.progress import Bar

from ..errors import WorldError
from ..recordings.collect_worker import BRANCH
from ..recordings.episodes import EpisodeReader, EpisodeWriter, RecordingError
from ..recordings.senses import LOOK
from . import training
from .families import VERSION

_ALIKE = 3.0  # grey levels by which a frame drawn from its state may differ, on average


def relook(reader: EpisodeReader, path: str | Path, vary: str = "trained", *, progress: bool = True) -> Path:
    """Write an open recording with a second look as `path`, which must not exist yet; returns that.

    vary: looks, as for `collect`.

    Raises:
        RecordingError: for a recording that was not made here of a world whose states can be set, that has a
            second look already, or whose frames are not those of its states.
        WorldError: for looks that training may not have.
    """
    world = _world_of(reader)
    attrs = {key: value for key, value in reader.attrs.items() if key != "format_version"}
    attrs |= {"vary": vary, "vary_families": training.families(world, vary), "vary_version": VERSION}
    writer = EpisodeWriter(path, attrs={**attrs, "vary_from": "recorded states"})
    lengths, offsets = reader.lengths.tolist(), reader.offsets.tolist()
    bar = Bar(total=sum(lengths), desc="drawing", unit=" frames", unit_scale=True, disable=not progress)
    bar.update(sum(lengths[: writer.count]))
    with writer, bar:
        for episode in range(writer.count, len(lengths)):
            first, last = offsets[episode], offsets[episode] + lengths[episode]
            columns = {name: reader.read(name, first, last) for name in reader.columns}
            seed = np.random.SeedSequence([reader.attrs["seed"], BRANCH, episode]).spawn(3)[2]
            looks = training.drawn_in(world, vary, seed)
            frames = np.empty_like(columns["pixels"])
            for row, state in enumerate(columns["state"]):
                world.set_state(state)
                world.moment = float(row)
                frames[row] = next(looks)
            writer.append({**columns, LOOK: frames})
            bar.update(last - first)
    return Path(path)


def _world_of(reader: EpisodeReader) -> envs.World:
    """The world that was recorded, as it was; RecordingError where it is not to be had."""
    name, path = reader.env, reader.path
    if reader.look_column is not None:
        raise RecordingError(f"{path} has a second look already: relook the recording that it was made of")
    made_here = name is not None and name in envs.names() and isinstance(reader.attrs.get("seed"), int)
    if name is None or not made_here or "state" not in reader.columns:
        raise RecordingError(f"{path} was not recorded here, so it cannot be drawn again")
    if reader.cameras or len(reader.attrs.get("cameras", ())) > 1:
        raise RecordingError(f"{path} has several cameras, and looks can vary for one: record it with one")
    world = envs.make(name, image_size=reader.image_size)
    world.reset(seed=0)
    for row in np.linspace(0, reader.num_frames - 1, 5).astype(int).tolist():
        frame = world.render_state(reader.read("state", row, row + 1)[0])
        recorded = reader.read("pixels", row, row + 1)[0]
        if np.abs(frame.astype(float) - recorded).mean() > _ALIKE:
            raise RecordingError(f"{path} shows other frames than {name} draws now: record it again")
    return world


def main(words: Sequence[str] | None = None) -> int:
    """The command line. Returns 0, 2 on a user error, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="latent-planner relook", description="Draw a recording's frames once more in other looks."
    )
    parser.add_argument("recording", type=Path, help="HDF5 file that collect has made")
    parser.add_argument("path", type=Path, help="HDF5 file to write")
    parser.add_argument("--vary", default="trained", help="trained (default), or groups, as color,light")
    args = parser.parse_args(words)
    with in_words(RecordingError, WorldError) as outcome, EpisodeReader(args.recording) as reader:
        relook(reader, args.path, args.vary)
        print(f"{args.path}: {reader.num_frames} frames in two looks")
    return outcome.code
