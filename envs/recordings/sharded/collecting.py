"""Collect a recording as independent shards, on any engine; whatever is lost is begun again alone."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from latent_planner.common.engines.engine import Engine
from latent_planner.common.engines.outcomes import outcomes
from latent_planner.common.progress import Bar

from ...errors import WorldError
from ..collect import after_others, attributes, check_finished, job_of, record, whole
from ..collect_worker import Job, Player
from ..journal import RecordingError
from .layout import NAME, Shard, hash_path, shards_of, write_hash


@dataclass(frozen=True)
class Work:
    """A shard to record into a folder."""

    job: Job
    folder: str
    shard: Shard


def collect_shards(
    name: str,
    folder: str | Path,
    *,
    episodes: int,
    shards: int,
    engine: Engine | None = None,
    executor: Executor | None = None,
    length: int = 100,
    image_size: int = 64,
    seed: int = 0,
    progress: bool = True,
    policy: str | None = None,
    module: str | None = None,
    cameras: Sequence[str] | None = None,
    proprio: bool = False,
    vary: str | None = None,
) -> Path:
    """Record `episodes` episodes of the world `name` as `shards` files in `folder`, which is returned.

    engine     where they are recorded; default: processes on this machine
    executor   in its place, an open `concurrent.futures.Executor`
    For the others see `collect`. All machines must reach `folder` under this path.

    The episodes are those of `collect`, whatever the engine, the number of workers and shards, and what was
    lost on the way. Finished shards are left as they are, unfinished ones go on.

    Raises RecordingError, WorldError or EngineError with a sentence for the user; what is complete is kept.
    """
    folder = Path(folder).absolute()
    job = job_of(name, length, image_size, seed, policy, module, cameras, proprio, vary)
    wanted = shards_of(whole("episodes", episodes, 1), whole("shards", shards, 1))
    player = Player(job)
    if folder.exists() and not folder.is_dir():
        raise RecordingError(f"{folder} is a file: shards are written into a folder, choose another name")
    folder.mkdir(parents=True, exist_ok=True)
    _check_others(folder, shards)
    done = [shard for shard in wanted if hash_path(folder / shard.name).exists()]
    done = [shard for shard in done if (folder / shard.name).exists()]
    if done:
        check_finished(folder / done[0].name, attributes(player) | done[0].attrs, len(done[0].episodes))
    left = [Work(job, str(folder), shard) for shard in wanted if shard not in done]
    bar = Bar(
        total=episodes * length,
        initial=sum(len(shard.episodes) for shard in done) * length,
        desc=f"collecting {name}",
        unit=" frames",
        unit_scale=True,
        disable=not progress or not left,
    )
    if not left:
        return folder
    with bar, (engine or Engine()).open(executor) as pool:
        mistakes = (RecordingError, WorldError)
        ended = outcomes(pool, record_shard, left, refusals=mistakes, label=lambda work: str(work.shard))
        for work, _ in ended:
            bar.update(len(work.shard.episodes) * length)
    return folder


def record_shard(work: Work) -> None:
    """Record one shard to its end, or go on with it, and note its hash."""
    path = Path(work.folder) / work.shard.name
    player = Player(work.job)
    attrs = attributes(player) | work.shard.attrs
    after_others(
        lambda: record(player, path, attrs, work.shard.episodes, workers=1, progress=False), path
    )  # a job may have outlived whoever submitted it
    if not hash_path(path).exists():
        write_hash(path)


def _check_others(folder: Path, count: int) -> None:
    """Raise RecordingError where the folder holds shards of another division."""
    for path in sorted(folder.iterdir()):
        found = NAME.match(path.name)
        if found and int(found[2]) != count:
            raise RecordingError(
                f"{folder} holds {path.name} already, one of {int(found[2])} shards and not of {count}: ask "
                f"for {int(found[2])}, or choose another folder"
            )
