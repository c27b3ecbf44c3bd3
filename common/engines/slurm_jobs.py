"""Slurm jobs as a `concurrent.futures.Executor`, through submitit: each call is a job, many are an array."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

from ..cores import usable_cpus
from .outcomes import EngineError

GENERAL = ("timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb", "nodes", "tasks_per_node", "name")
DEFAULTS = {"name": "latent-planner", "timeout_min": 240, "cpus_per_task": 1}
OWN = ("cluster", "folder")
EVERY, LATE = 10.0, 15.0  # seconds between looks at the queue, and until a result must have appeared
OVER = {"BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT"}
ARRAY = 1000  # jobs in one array; Slurm's own limit is 1001 unless its administrator has raised it


class SlurmJobs(Executor):
    """Jobs of submitit, at most `workers` of them at a time.

    options: `cluster` (slurm, or local: processes of this machine), `folder` for scripts and logs, default
    slurm-jobs; GENERAL; all else as sbatch names it, such as partition, account or qos.

    Jobs outlive the process that submitted them, unless it ends with an exception or Ctrl-C.
    """

    def __init__(self, workers: int | None, options: Mapping[str, str]) -> None:
        try:
            import submitit
        except ImportError as error:
            raise EngineError("engine=slurm needs submitit: pip install 'latent-planner[slurm]'") from error
        cluster = options.get("cluster", "slurm")
        if cluster not in ("slurm", "local"):
            raise EngineError(f"slurm.cluster is slurm or local, not {cluster!r}")
        if cluster == "slurm" and shutil.which("sbatch") is None:
            raise EngineError(
                "engine=slurm finds no sbatch here: run this on a machine that submits Slurm jobs, or say "
                "slurm.cluster=local to run the jobs as processes of this one"
            )
        self._limit = (workers or usable_cpus()) if cluster == "local" else None
        self._jobs = submitit.AutoExecutor(folder=options.get("folder", "slurm-jobs"), cluster=cluster)
        self._queue = _Queue() if cluster == "slurm" else None
        values = {name: _value(text) for name, text in options.items() if name not in OWN}
        values = {name if name in GENERAL else f"slurm_{name}": value for name, value in values.items()}
        try:
            self._jobs.update_parameters(**{**DEFAULTS, **values})
            if workers is not None and cluster == "slurm":
                self._jobs.update_parameters(slurm_array_parallelism=workers)
        except (NameError, TypeError, AssertionError, ValueError) as error:
            raise EngineError(f"a setting slurm.… is not one of submitit's: {error}") from error
        self._waiting: list[tuple[Future[Any], Any]] = []
        self._going: dict[Any, Future[Any]] = {}
        self._change, self._closed = threading.Condition(), False
        self._results = ThreadPoolExecutor(16, thread_name_prefix="results")  # that of a lost job takes LATE
        self._watch = threading.Thread(target=self._run, name="slurm jobs", daemon=True)
        self._watch.start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Call fn(*args, **kwargs) in a job; calls that come quickly after each other make one array."""
        future: Future[Any] = Future()
        with self._change:
            if self._closed:
                raise RuntimeError("closed")
            self._waiting.append((future, (fn, args, kwargs)))
            self._change.notify()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; wait for those that were submitted, or cancel those that have not begun."""
        with self._change:
            self._closed = True
            if cancel_futures:
                for future, _ in self._waiting:
                    future.cancel()
            self._change.notify()
        if wait:
            self._watch.join()
            self._results.shutdown()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            with self._change:
                for job in self._going:
                    job.cancel()
        self.shutdown(wait=kind is None, cancel_futures=kind is not None)

    def _run(self) -> None:
        """Submit what is waiting and look after what is going on, until all is done."""
        while True:
            with self._change:
                while not (self._waiting or self._going or self._closed):
                    self._change.wait()
                if self._closed and not self._waiting and not self._going:
                    return
                begin = self._taken()
            self._begin(begin)
            for job in self._ended():
                with self._change:
                    future = self._going.pop(job)
                self._results.submit(_end, job, future, self._queue is not None)
            time.sleep(min(30.0, 0.1 + len(self._going) / 1000))  # asking costs the file system

    def _ended(self) -> list[Any]:
        """The jobs that have left a result, and those that will leave none."""
        jobs = list(self._going)
        if self._queue is None:
            return [job for job in jobs if job.done()]
        here = self._queue.look()
        gone = set() if here is None else {job.job_id for job in jobs} - here
        return [job for job in jobs if job.paths.result_pickle.exists() or job.job_id in gone]

    def _taken(self) -> list[tuple[Future[Any], Any]]:
        self._waiting = [entry for entry in self._waiting if not entry[0].cancelled()]
        room = ARRAY if self._limit is None else max(0, self._limit - len(self._going))
        begin, self._waiting = self._waiting[:room], self._waiting[room:]
        return [entry for entry in begin if entry[0].set_running_or_notify_cancel()]

    def _begin(self, entries: list[tuple[Future[Any], Any]]) -> None:
        try:
            jobs = []
            if entries:
                with self._jobs.batch():
                    jobs = [self._jobs.submit(fn, *args, **kwargs) for _, (fn, args, kwargs) in entries]
        except Exception as error:  # sbatch may refuse the whole array
            for future, _ in entries:
                future.set_exception(error)
            return
        with self._change:
            self._going |= {job: future for job, (future, _) in zip(jobs, entries)}


class _Queue:
    """The jobs that Slurm has, as squeue lists them.

    submitit asks sacct, which knows nothing on a cluster without an accounting database: there a job that was
    cancelled would be waited for without end.
    """

    def __init__(self) -> None:
        self._next = 0.0

    def look(self) -> set[str] | None:
        """The ids of this user's jobs that have not ended, at most every `EVERY` seconds; else, and where
        Slurm does not answer, None."""
        if time.monotonic() < self._next:
            return None
        command = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i %T"]
        try:
            said = subprocess.run(command, capture_output=True, text=True, timeout=60)
        except (OSError, subprocess.TimeoutExpired):
            said = None
        self._next = time.monotonic() + EVERY
        if said is None or said.returncode:
            return None
        rows = [line.split() for line in said.stdout.splitlines()]
        return {row[0] for row in rows if len(row) == 2 and row[1] not in OVER}


def _end(job: Any, future: Future[Any], in_queue: bool) -> None:
    """Pass on what a job that has ended has left.   in_queue: whether it was one of Slurm's."""
    try:
        if in_queue and not _appears(job):
            raise EngineError(f"job {job.job_id} ended without a result")
        future.set_result(job.result())
    except Exception as error:
        future.set_exception(error)


def _appears(job: Any) -> bool:
    """Whether there is a result; some file systems show new files late."""
    end = time.monotonic() + LATE
    while not job.paths.result_pickle.exists():
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def _value(text: str) -> Any:
    return int(text) if text.isascii() and text.isdecimal() else text
