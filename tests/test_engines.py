"""Where work runs: the same answers from every engine, and lost work begun again, alone."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
import slurm_stand_in
from waiting import PATIENCE, until

from latent_planner.common.engines import slurm_jobs
from latent_planner.common.engines.engine import Engine
from latent_planner.common.engines.outcomes import EngineError, outcomes

ROOT = Path(__file__).resolve().parent


class Mistake(ValueError):
    """A user's mistake."""


def square(folder: Path, item: int) -> int:
    """Leaves a trace of being called."""
    (folder / f"{item}-{time.monotonic_ns()}").touch()
    return item * item


def dies_once(folder: Path, item: int) -> int:
    """Of item 2, the first process that is asked is killed."""
    first = not list(folder.glob(f"{item}-*"))
    result = square(folder, item)
    if item == 2 and first:
        os.kill(os.getpid(), signal.SIGKILL)
    return result


def always_dies(item: int) -> int:
    if item == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def refuses(item: int) -> int:
    if item == 1:
        raise Mistake("item 1 is wrong: take another")
    return item


def fails(item: int) -> int:
    return 1 // item


ENGINES = ["local", "ray", "slurm", "slurm without accounting", "dask"]


@pytest.fixture(params=ENGINES)
def pool(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Executor]:
    """An open executor of each kind, with two workers."""
    monkeypatch = request.getfixturevalue("monkeypatch")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # where this module lies
    if request.param == "dask":
        distributed = pytest.importorskip("distributed")
        cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        with cluster, distributed.Client(cluster) as client, client.get_executor() as executor:
            yield executor
        return
    words = [f"engine={request.param.split()[0]}", "workers=2"]
    if request.param == "ray":
        pytest.importorskip("ray")
        words.append("ray.address=local")
    if request.param == "slurm":
        pytest.importorskip("submitit")
        job = importlib.import_module("submitit.core.core").Job
        monkeypatch.setattr(job, "_results_timeout_s", 1)  # how long it looks for what a dead job left
        words += ["slurm.cluster=local", f"slurm.folder={tmp_path / 'jobs'}"]
    if request.param == "slurm without accounting":
        pytest.importorskip("submitit")
        slurm_stand_in.install(tmp_path, monkeypatch)
        monkeypatch.setattr(slurm_jobs, "EVERY", 0.2)
        monkeypatch.setattr(slurm_jobs, "LATE", 0.2)
        words += [f"slurm.folder={tmp_path / 'jobs'}"]
    with Engine.from_words(words).open() as made:
        yield made


def test_every_engine_does_what_is_asked(pool: Executor, tmp_path: Path) -> None:
    (tmp_path / "seen").mkdir()
    done = dict(outcomes(pool, partial(dies_once, tmp_path / "seen"), range(4)))
    assert done == {0: 0, 1: 1, 2: 4, 3: 9}
    assert len(list((tmp_path / "seen").glob("2-*"))) >= 2
    with pytest.raises(Mistake, match="item 1 is wrong: take another"):
        list(outcomes(pool, refuses, range(3), refusals=(Mistake,)))


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
class TestLocal:
    def test_a_process_that_dies_takes_no_other_work_with_it(self, tmp_path: Path) -> None:
        with Engine(workers=2).open() as pool:
            assert dict(outcomes(pool, partial(dies_once, tmp_path), range(8)))[2] == 4
        called = sorted(path.name.partition("-")[0] for path in tmp_path.iterdir())
        assert called == sorted("012234567")

    def test_what_is_lost_again_and_again_is_named_when_the_rest_is_done(self) -> None:
        done = []
        with Engine(workers=2).open() as pool:
            with pytest.raises(EngineError, match="shard 1 was lost 2 times .BrokenProcessPool.*goes on"):
                for item, _ in outcomes(
                    pool, always_dies, range(4), attempts=2, label=lambda item: f"shard {item}"
                ):
                    done.append(item)
        assert sorted(done) == [0, 2, 3]

    def test_other_exceptions_are_told_as_they_are(self) -> None:
        with Engine(workers=1).open() as pool:
            with pytest.raises(EngineError, match="0 was lost 1 times .ZeroDivisionError"):
                list(outcomes(pool, fails, [0, 1], attempts=1))

    @pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
    @pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGINT])
    def test_processes_end_with_the_one_that_started_them(self, tmp_path: Path, ending: int) -> None:
        script = tmp_path / "script.py"
        script.write_text(
            "import os, sys, time\n"
            "from latent_planner.common.engines.engine import Engine\n"
            "from latent_planner.common.engines.outcomes import outcomes\n"
            "def wait(item):\n"
            "    open(str(os.getpid()), 'w').close()\n"
            "    time.sleep(3600)\n"
            "if __name__ == '__main__':\n"
            "    with Engine(workers=2).open() as pool:\n"
            "        list(outcomes(pool, wait, [0, 1]))\n"
        )
        process = subprocess.Popen(
            [sys.executable, str(script)], cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True
        )

        def workers() -> list[str]:
            return [path.name for path in tmp_path.iterdir() if path.name.isdigit()]

        try:
            until(lambda: len(workers()) == 2, process)
            os.killpg(process.pid, ending) if ending == signal.SIGINT else process.kill()
            process.wait(PATIENCE)
            until(lambda: not any(map(running, workers())))
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


def running(pid: str) -> bool:
    stat = Path("/proc", pid, "stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_executors_of_others_stay_open() -> None:
    with ThreadPoolExecutor(2) as mine:
        with Engine().open(mine) as pool:
            assert pool is mine and dict(outcomes(pool, refuses, [0, 2])) == {0: 0, 2: 2}
        assert mine.submit(abs, -1).result() == 1


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
def test_a_broken_executor_of_others_is_one_sentence() -> None:
    with ProcessPoolExecutor(1) as mine:
        with pytest.raises(EngineError, match="no more work can be given to ProcessPoolExecutor"):
            list(outcomes(mine, always_dies, [1]))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["engine=spark"], "there is no engine=spark; choose from local, ray, slurm"),
        (["engine"], "'engine' is not a setting of where work runs"),
        (["workers=0"], "workers must be a whole number from 1"),
        (["workers=many"], "workers must be a whole number from 1 to 100000, not 'many'"),
        (["slurm.partition=cpu"], "slurm.partition has no meaning with engine=local"),
        (["engine=ray", "ray.adress=auto"], "no option 'adress'; did you mean 'address'"),
    ],
)
def test_words_that_make_no_sense(words: list[str], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        Engine.from_words(words)


def test_engines_that_are_not_there_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, package in (("ray", "ray"), ("slurm", "submitit")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(EngineError, match=rf"pip install 'latent-planner\[{name}\]'"):
            with Engine(name).open():
                pass


def test_a_ray_cluster_that_is_not_there_is_one_sentence() -> None:
    pytest.importorskip("ray")
    with pytest.raises(EngineError, match="nobody answers at ray.address=127.0.0.1:1 .*: check it"):
        with Engine("ray", options={"address": "127.0.0.1:1"}).open():
            pass


def test_slurm_needs_a_machine_that_submits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EngineError, match="finds no sbatch here.*slurm.cluster=local"):
        with Engine("slurm").open():
            pass
    with pytest.raises(EngineError, match="not one of submitit's"):
        with Engine("slurm", options={"cluster": "local", "partitoin": "cpu"}).open():
            pass
