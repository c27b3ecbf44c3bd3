"""One word chooses where work runs: engine=local, engine=ray or engine=slurm.

    engine = Engine.from_words(["engine=slurm", "workers=40", "slurm.partition=cpu"])
    with engine.open() as pool:                       # a concurrent.futures.Executor
        for item, value in outcomes(pool, function, items):
            ...

local    processes on this machine (the default)
ray      the Ray cluster that RAY_ADDRESS or ray.address names, else one that is started here; extra [ray]
slurm    Slurm jobs through submitit, or slurm.cluster=local for its stand-in on this machine; extra [slurm]

Any other executor of the same interface works as well: Dask's `client.get_executor()`, `MPIPoolExecutor` of
mpi4py. Functions that take `executor=` do not close it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass, field

from ..cores import usable_cpus
from ..words import did_you_mean
from .local import Processes
from .outcomes import EngineError

ENGINES = ("local", "ray", "slurm")
RAY_OPTIONS = ("address", "cpus", "gpus")  # cpus, gpus: that one piece of work takes


@dataclass(frozen=True)
class Engine:
    """A choice of where work runs.

    workers   pieces of work at a time; None: one a core here, as many as the cluster has room for elsewhere
    options   of the engine itself, such as {"partition": "cpu"} for slurm.partition=cpu

    Raises EngineError for an engine or an option that does not exist.
    """

    name: str = "local"
    workers: int | None = None
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in ENGINES:
            raise EngineError(f"there is no engine={self.name}; choose from {', '.join(ENGINES)}")
        if self.workers is not None and not 1 <= self.workers <= 100_000:
            raise EngineError(f"workers must be a whole number from 1 to 100000, not {self.workers}")
        for key in self.options:
            if self.name == "local" or (self.name == "ray" and key not in RAY_OPTIONS):
                raise EngineError(f"engine={self.name} has no option {key!r}{did_you_mean(key, RAY_OPTIONS)}")

    @staticmethod
    def is_word(word: str) -> bool:
        """Whether a word of a command line says where work runs."""
        return word.startswith(("engine=", "workers=", "ray.", "slurm."))

    @classmethod
    def from_words(cls, words: Sequence[str]) -> Engine:
        """Of words such as engine=slurm, workers=8, slurm.partition=cpu; EngineError for any other word."""
        values: dict[str, str] = {}
        for word in words:
            found = re.fullmatch(r"(engine|workers|(?:ray|slurm)\.\w+)=(.+)", word)
            if found is None:
                raise EngineError(
                    f"{word!r} is not a setting of where work runs: write engine=local, ray or slurm, "
                    "workers=8, ray.address=… or slurm.partition=…"
                )
            values[found[1]] = found[2]
        name, workers = values.pop("engine", "local"), values.pop("workers", None)
        if workers is not None and not re.fullmatch(r"[0-9]{1,6}", workers):
            raise EngineError(f"workers must be a whole number from 1 to 100000, not {workers!r}")
        for key in values:
            if not key.startswith(f"{name}."):
                raise EngineError(f"{key} has no meaning with engine={name}: leave it out")
        options = {key.partition(".")[2]: value for key, value in values.items()}
        return cls(name, None if workers is None else int(workers), options)

    @contextmanager
    def open(self, executor: Executor | None = None) -> Iterator[Executor]:
        """The executor of this engine until the block ends; `executor` itself, left open, where one is given.

        Work that is still going when the block ends with an exception is stopped.
        """
        if executor is not None:
            yield executor
            return
        with self._made() as made:
            yield made

    def _made(self) -> Executor:
        if self.name == "ray":
            from .ray_tasks import RayTasks

            return RayTasks(self.workers, self.options)
        if self.name == "slurm":
            from .slurm_jobs import SlurmJobs

            return SlurmJobs(self.workers, self.options)
        return Processes(self.workers or usable_cpus())
