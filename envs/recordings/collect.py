"""Record a world under its behaviour policy, on all cores.

    latent-planner collect pusht pusht.h5 --episodes 2000 --length 100 --image-size 64 --seed 0

The same settings give the same episodes in the same order, whatever the number of workers. If it is
stopped, the same command continues after the last complete episode.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from latent_planner.common.progress import Bar

from ..gym import first_frames
from ..looks.families import VERSION
from .collect_worker import FAILED, REFUSED, REPLY, Job, Player, request
from .columns import usable_cpus
from .episodes import EpisodeReader, EpisodeWriter, RecordingError, partial_path
from .journal import BeingWritten, check_same

PATIENCE = 60.0  # seconds in which a recording that another process writes must have grown
_IN_HAND = 2  # episodes that a worker has been asked for: one to play, one to begin at once after it


def collect(
    name: str,
    path: str | Path,
    *,
    episodes: int,
    length: int = 100,
    image_size: int = 64,
    seed: int = 0,
    workers: int | None = None,
    progress: bool = True,
    policy: str | None = None,
    module: str | None = None,
    cameras: Sequence[str] | None = None,
    proprio: bool = False,
    vary: str | None = None,
) -> Path:
    """Record `episodes` episodes of `length` frames of the world `name` into the HDF5 file `path`.

    workers    processes that play; None for one a core, 1 to play in this process
    progress   show a bar with the rate and the time left
    policy     of a Gymnasium environment: what acts, see envs.gym.policies; None for smooth noise
    module     likewise: the module that registers it; imported here and by the workers
    cameras    names of the world's cameras: the first is the column `pixels`, others are `pixels_<name>`
    proprio    record the robot's own vector, too, as the column `proprio`
    vary       looks in which every frame is drawn once more, as the column `pixels_look`: "trained", or
               groups of them, see docs/shifts.md; None for none

    A finished recording of the same settings is left as it is; an unfinished one goes on. Returns `path`.

    Raises:
        WorldError: for a world or an image size that cannot be made.
        RecordingError: for settings that make no sense or differ from those of the file that is there, a full
            disk, or a worker that fails. The complete episodes are kept.
        KeyboardInterrupt: on Ctrl-C, with a message that says what is kept; likewise.
    """
    job = job_of(name, length, image_size, seed, policy, module, cameras, proprio, vary)
    player = Player(job)
    episodes = whole("episodes", episodes, 1)
    workers = usable_cpus() if workers is None else whole("workers", workers, 1)
    return record(player, Path(path), attributes(player), range(episodes), workers=workers, progress=progress)


def job_of(
    name: str,
    length: int,
    image_size: int,
    seed: int,
    policy: str | None,
    module: str | None,
    cameras: Sequence[str] | None = None,
    proprio: bool = False,
    vary: str | None = None,
) -> Job:
    """What to record; RecordingError for settings that make no sense."""
    length, seed = whole("length", length, 2), whole("seed", seed, 0)
    chosen = None if cameras is None else tuple(cameras)
    return Job(name, length, image_size, seed, policy, module, chosen, proprio, vary)


def record(
    player: Player, path: Path, attrs: dict[str, Any], episodes: range, *, workers: int, progress: bool
) -> Path:
    """Record the episodes of these numbers into `path`; the rest as for `collect`."""
    count = len(episodes)
    if path.exists():
        check_finished(path, attrs, count)
        return path
    seconds = (
        first_frames.seconds_per_frame(player.job.env, player.play, player.job.length)
        if player.family
        else None
    )  # before there is a file, or a worker
    writer = EpisodeWriter(path, attrs=attrs)
    try:
        if writer.count > count:
            raise RecordingError(
                f"{writer.partial} holds {writer.count} episodes already, more than the {count} asked "
                "for: ask for more, or delete it"
            )
        if seconds is not None and progress:
            _say_cost(player, seconds, count - writer.count, workers)
        _record(writer, player, episodes, workers, progress)
        writer.close(progress=progress)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; {writer.partial} keeps {writer.count} of {count} episodes, and the same command "
            "goes on from there"
        ) from None
    finally:
        writer.abandon()
    return path


def after_others(action: Callable[[], Any], path: Path) -> None:
    """Call `action`, which records into `path`, once no other process writes there.

    BeingWritten where what the other one writes does not grow for PATIENCE seconds.
    """
    size, since = -1, time.monotonic()
    while True:
        try:
            action()
            return
        except BeingWritten:
            now = -1
            with suppress(FileNotFoundError):
                now = partial_path(path).stat().st_size
            if now != size:
                size, since = now, time.monotonic()
            if time.monotonic() - since > PATIENCE:
                raise
            time.sleep(0.2)


def attributes(player: Player) -> dict[str, Any]:
    """What a recording says about itself, and what two must have in common to be one."""
    world = player.world
    made_of = {"action_space": str(world.actions)} if world.actions.parts else {}
    job = asdict(player.job)
    for key in ("module", "cameras", "proprio", "vary"):
        del job[key]
    if player.job.cameras is not None:
        job |= {"camera": next(iter(world.columns)), "cameras": list(world.columns)}
    if player.job.proprio:
        job["proprio_names"] = list(world.proprio_names)
    if player.job.vary is not None:
        families = {"vary_families": player.families, "vary_version": VERSION}
        job |= {"vary": player.job.vary, **families}
    return {
        **job,
        "policy": player.job.policy or player.job.env,
        "control_hz": float(world.control_hz),
        "state_names": list(world.state_names),
        "angle_names": list(world.angle_names),
        "action_low": world.action_low.tolist(),
        "action_high": world.action_high.tolist(),
        **made_of,
    }


def _say_cost(player: Player, seconds: float, episodes: int, workers: int) -> None:
    processes = max(1, min(workers, episodes, usable_cpus()))
    said = first_frames.cost(player.world, seconds, episodes * player.job.length, processes)
    if said is not None:
        print(said, file=sys.stderr, flush=True)


def _record(writer: EpisodeWriter, player: Player, episodes: range, workers: int, progress: bool) -> None:
    job, left = player.job, episodes[writer.count :]
    workers = min(workers, len(left))
    bar = Bar(
        total=len(episodes) * job.length,
        initial=writer.count * job.length,
        desc=f"collecting {job.env}",
        unit=" frames",
        unit_scale=True,
        disable=not progress or workers < 1,
    )
    with bar:
        if workers > 1 and sys.executable:
            with _Workers(job, workers) as crew:
                for encoded in crew.records(left.start, left.stop):
                    writer.append_encoded(encoded)
                    bar.update(job.length)
        else:
            for index in left:
                writer.append_encoded(player.record(index))
                bar.update(job.length)


class _Workers:
    """Processes that play episodes, each with a thread here that takes what they send."""

    def __init__(self, job: Job, count: int) -> None:
        self.arrived: queue.SimpleQueue[tuple[int, int, bytes]] = queue.SimpleQueue()
        self.processes: list[subprocess.Popen[bytes]] = []
        self.threads: list[threading.Thread] = []
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        # in a group of their own, so that Ctrl-C reaches this process alone, which then stops them
        apart: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            apart = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        try:
            for worker in range(count):
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "latent_planner.envs.recordings.collect_worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    env=environment,
                    **apart,
                )
                self.processes.append(process)
                self._send(worker, request(job))
                thread = threading.Thread(target=self._receive, args=(worker, process.stdout), daemon=True)
                thread.start()
                self.threads.append(thread)
        except BaseException as error:
            self.stop()
            if isinstance(error, OSError):
                raise RecordingError(
                    f"no worker process could be started ({error}): use workers=1"
                ) from error
            raise

    def records(self, first: int, last: int) -> Iterator[bytes]:
        """Episodes `first` to `last` (not included), in order."""
        sent, loads, waiting = first, [0] * len(self.processes), dict[int, bytes]()
        for index in range(first, last):
            while index not in waiting:
                limit = min(last, index + 2 * _IN_HAND * len(loads))  # what comes early has to wait in memory
                while sent < limit and min(loads) < _IN_HAND:
                    worker = loads.index(min(loads))
                    self._send(worker, b"%d\n" % sent)
                    loads[worker] += 1
                    sent += 1
                worker, number, data = self._next()
                loads[worker] -= 1
                waiting[number] = data
            yield waiting.pop(index)

    def _send(self, worker: int, line: bytes) -> None:
        pipe = self.processes[worker].stdin
        assert pipe is not None
        with suppress(OSError):  # it has failed, and its reply says why
            pipe.write(line)
            pipe.flush()

    def _receive(self, worker: int, pipe: Any) -> None:
        """Pass on a worker's replies; a last one tells that it has ended."""
        while len(start := pipe.read(REPLY.size)) == REPLY.size:
            number, size = REPLY.unpack(start)
            data = pipe.read(size)
            if len(data) < size:
                break
            self.arrived.put((worker, number, data))
        self.arrived.put((worker, FAILED, b""))

    def _next(self) -> tuple[int, int, bytes]:
        while True:
            try:
                worker, number, data = self.arrived.get(
                    timeout=0.5
                )  # a wait without end ignores Ctrl-C on Windows
            except queue.Empty:
                continue
            if number == REFUSED:
                raise RecordingError(data.decode(errors="replace"))
            if number == FAILED and data:
                raise RecordingError(f"a collecting process failed ({data.decode(errors='replace')})")
            if number == FAILED:
                raise RecordingError(
                    f"a collecting process failed (it ended with code {self.processes[worker].wait()}): the "
                    "same command goes on from here, and workers=1 shows what ends it"
                )
            return worker, number, data

    def stop(self) -> None:
        """End the processes; what they were playing is lost."""
        for process in self.processes:
            process.kill()
        for thread in self.threads:
            thread.join()
        for process in self.processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(OSError):
                    if pipe:
                        pipe.close()

    def __enter__(self) -> _Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def check_finished(path: Path, attrs: dict[str, Any], episodes: int) -> None:
    """RecordingError unless the file at `path` is this recording, of so many episodes."""
    with EpisodeReader(path) as reader:
        found = {key: value for key, value in reader.attrs.items() if key != "format_version"}
        check_same(path, found, attrs)
        if len(reader.lengths) != episodes:
            raise RecordingError(
                f"{path} holds {len(reader.lengths)} episodes and not {episodes}: delete it, or choose "
                "another file"
            )
    with suppress(OSError):
        partial_path(path).unlink()  # of a writer that died between its last two steps


def whole(name: str, value: Any, least: int) -> int:
    """The value; RecordingError unless it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value < 2**63:
        raise RecordingError(f"{name} must be a whole number of at least {least}, not {value!r}")
    return value
