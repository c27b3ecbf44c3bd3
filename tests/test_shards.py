"""Recordings in shards: the same whatever made them, read as one, merged only when all is there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from waiting import until

from latent_planner.common.engines.engine import Engine
from latent_planner.common.files import lock
from latent_planner.envs.recordings import collect as collect_module
from latent_planner.envs.recordings.collect import collect
from latent_planner.envs.recordings.collect_worker import Job
from latent_planner.envs.recordings.episodes import EpisodeReader, RecordingError, partial_path
from latent_planner.envs.recordings.sharded import layout, merging
from latent_planner.envs.recordings.sharded.collecting import Work, collect_shards, record_shard
from latent_planner.envs.recordings.sharded.layout import Shard, hash_path, shards_of
from latent_planner.envs.recordings.sharded.merging import merge

SAME: dict[str, Any] = {"length": 12, "image_size": 32, "seed": 5, "progress": False}
EPISODES = 11


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recording in one file."""
    return collect("pusht", tmp_path_factory.mktemp("one") / "one.h5", episodes=EPISODES, workers=1, **SAME)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same in four shards."""
    folder = tmp_path_factory.mktemp("shards") / "pusht"
    with ThreadPoolExecutor(1) as pool:
        return collect_shards("pusht", folder, episodes=EPISODES, shards=4, executor=pool, **SAME)


@pytest.fixture
def shards(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "shards"))


def shard(folder: Path, index: int, count: int = 4) -> Path:
    return folder / f"shard-{index:05d}-of-{count:05d}.h5"


def merged(folder: Path) -> Path:
    return merge(folder, folder.parent / "merged.h5", progress=False)


class TestCollecting:
    @pytest.mark.parametrize("count", [1, 3, 11])
    def test_merged_it_is_the_file_that_collect_writes(
        self, tmp_path: Path, reference: Path, count: int
    ) -> None:
        folder = collect_shards(
            "pusht", tmp_path / "a", episodes=EPISODES, shards=count, engine=Engine(workers=2), **SAME
        )
        assert len(list(folder.iterdir())) == 2 * count
        assert merged(folder).read_bytes() == reference.read_bytes()

    def test_any_executor_will_do(self, tmp_path: Path, reference: Path) -> None:
        distributed = pytest.importorskip("distributed")
        cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        with cluster, distributed.Client(cluster) as client:
            folder = collect_shards(
                "pusht", tmp_path / "a", episodes=EPISODES, shards=3, executor=client.get_executor(), **SAME
            )
        assert merged(folder).read_bytes() == reference.read_bytes()

    def test_the_numbers_of_the_episodes_are_shared_out(self) -> None:
        parts = [shard.episodes for shard in shards_of(11, 4)]
        assert [number for part in parts for number in part] == list(range(11))
        assert {len(part) for part in parts} == {2, 3}

    def test_finished_shards_stay_and_others_go_on(self, shards: Path, reference: Path) -> None:
        before = {path.name: path.stat().st_mtime_ns for path in shards.iterdir()}
        shard(shards, 2).unlink()
        collect_shards("pusht", shards, episodes=EPISODES, shards=4, engine=Engine(workers=1), **SAME)
        after = {path.name: path.stat().st_mtime_ns for path in shards.iterdir()}
        assert {name for name in before if before[name] != after[name]} == {shard(shards, 2).name}
        assert merged(shards).read_bytes() == reference.read_bytes()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"shards": 5}, "holds shard-00000-of-00004.h5 already, one of 4 shards and not of 5"),
            ({"seed": 6}, "recorded with seed=5 and not 6"),
            ({"episodes": 12}, "recorded with total_episodes=11 and not 12"),
            ({"shards": 12}, "from 1 to 11, with an episode each"),
            ({"shards": 0}, "shards must be a whole number"),
        ],
    )
    def test_other_settings_than_those_of_the_folder(
        self, shards: Path, change: dict[str, int], message: str
    ) -> None:
        options = {"episodes": EPISODES, "shards": 4, **SAME} | change
        with pytest.raises(RecordingError, match=message):
            collect_shards("pusht", shards, **options)

    @pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL and flock")
    def test_killed_and_started_again_it_makes_the_same_recording(self, tmp_path: Path, root: Path) -> None:
        words = ["pusht", str(tmp_path / "a"), "--episodes", "60", "--shards", "3", "--length", "30"]
        words += ["--image-size", "32", "--seed", "1", "workers=2"]
        command = [sys.executable, "-m", "latent_planner.cli", "collect", *words]
        last = tmp_path / "a" / "shard-00002-of-00003.h5"
        last.parent.mkdir()

        def grown() -> bool:
            sizes = [path.stat().st_size for path in last.parent.iterdir() if path.suffix != ".json"]
            return any(size > 15_000 for size in sizes)

        with open(partial_path(last), "wb") as file:
            assert lock(file.fileno())  # one shard is waited for, so that the command does not end
            process = subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, start_new_session=True)
            until(grown, process)
            process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL and not last.exists()
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "3 shards, 1800 frames" in done.stdout
        whole = collect(
            "pusht", tmp_path / "b.h5", episodes=60, length=30, image_size=32, seed=1, progress=False
        )
        assert merged(tmp_path / "a").read_bytes() == whole.read_bytes()

    def test_a_shard_that_another_process_writes_is_waited_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        work = Work(Job("two_room", 5, 32, 0), str(tmp_path), Shard(0, 1, 2))
        path = partial_path(tmp_path / work.shard.name)
        monkeypatch.setattr(collect_module, "PATIENCE", 0.0)
        with open(path, "wb") as file:
            assert lock(file.fileno())
            with pytest.raises(RecordingError, match="another process is writing"):
                record_shard(work)
        record_shard(work)
        assert (tmp_path / work.shard.name).exists() and not path.exists()

    @pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="limits the size of files")
    def test_a_full_disk_is_one_sentence_and_nothing_is_lost(self, tmp_path: Path, root: Path) -> None:
        words = ["pusht", str(tmp_path / "a"), "--episodes", "6", "--shards", "2", "--length", "12"]
        words += ["--image-size", "32", "--seed", "5", "workers=1"]
        program = (
            "import resource, signal, sys\n"
            "from latent_planner.cli.__main__ import main\n"
            "if __name__ == '__main__':\n"
            "    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, resource.RLIM_INFINITY))\n"
            "    sys.exit(main(sys.argv[1:]))\n"
        )
        script = tmp_path / "limited.py"
        script.write_text(program)
        done = subprocess.run(
            [sys.executable, str(script), "collect", *words], cwd=root, capture_output=True, text=True
        )
        assert done.returncode == 2 and "cannot grow" in done.stderr and "Traceback" not in done.stderr
        assert done.stderr.strip().splitlines()[-1].startswith("error: ")
        folder = collect_shards("pusht", tmp_path / "a", episodes=6, shards=2, **SAME)
        whole = collect("pusht", tmp_path / "b.h5", episodes=6, **SAME)
        assert merged(folder).read_bytes() == whole.read_bytes()


class TestReading:
    def test_a_folder_is_read_as_one_recording(self, shards: Path, reference: Path) -> None:
        with EpisodeReader(shards) as ours, EpisodeReader(reference) as theirs:
            assert ours.complete and ours.attrs == theirs.attrs and ours.columns == theirs.columns
            assert np.array_equal(ours.lengths, theirs.lengths)
            assert np.array_equal(ours.offsets, theirs.offsets)
            rng = np.random.default_rng(0)
            some = rng.integers(ours.num_frames, size=300)
            for rows in (np.arange(ours.num_frames), some, np.sort(some), some[:1], some[:0]):
                for name in ours.columns:
                    left, right = (reader.read_rows(name, rows) for reader in (ours, theirs))
                    assert np.array_equal(left, right, equal_nan=left.dtype.kind == "f")

    def test_frames_that_several_threads_unpack(self, tmp_path: Path) -> None:
        same: dict[str, Any] = {"episodes": 6, "length": 8, "image_size": 256, "progress": False}
        folder = collect_shards("two_room", tmp_path / "a", shards=3, engine=Engine(workers=2), **same)
        whole = collect("two_room", tmp_path / "b.h5", **same)
        rows = np.random.default_rng(0).permutation(48)
        with EpisodeReader(folder) as ours, EpisodeReader(whole) as theirs:
            assert np.array_equal(ours.read_rows("pixels", rows), theirs.read_rows("pixels", rows))

    def test_finished_shards_are_read_while_others_are_written(
        self, shards: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        shard(shards, 1).rename(partial_path(shard(shards, 1)))
        with EpisodeReader(shards) as reader:
            assert not reader.complete and len(reader.lengths) == EPISODES - 3
        assert "is not complete: reading its 8 whole episodes" in caplog.text
        with EpisodeReader(shard(shards, 0)) as reader:
            assert reader.complete and len(reader.lengths) == 2
        for path in shards.glob("*.h5"):
            path.unlink()
        with pytest.raises(RecordingError, match="holds no finished shard yet"):
            EpisodeReader(shards)

    def test_more_files_than_a_process_may_open_is_one_sentence(self, shards: Path) -> None:
        resource = pytest.importorskip("resource")
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (60, limit[1]))
            with pytest.raises(RecordingError, match="has 4 shards, and this process may open 60 files"):
                EpisodeReader(shards)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)

    def test_it_trains_inspects_and_converts_as_it_is(self, shards: Path, root: Path, tmp_path: Path) -> None:
        def run(*words: str) -> subprocess.CompletedProcess[str]:
            environment = {**os.environ, "WANDB_MODE": "disabled"}
            command = [sys.executable, "-m", "latent_planner.cli", *words]
            return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)

        seen = run("inspect", str(shards), "--out", str(tmp_path / "a.png"))
        assert seen.returncode == 0 and "episodes  11" in seen.stdout, seen.stderr
        words = [f"data.path={shards}", f"out={tmp_path / 'run'}", "train.steps=2", "train.batch_size=4"]
        words += ["benchmark.pairs=2", "benchmark.validation_pairs=0", "model.image_size=32"]
        words += ["planner.num_samples=8", "planner.num_elites=4", "planner.iterations=1"]
        words += ["model.frameskip=2", "data.memory_gb=0", "device=cpu", "wandb.mode=disabled"]
        trained = run("train", "env=pusht", *words)
        assert trained.returncode == 0, trained.stderr
        assert (tmp_path / "run" / "model.safetensors").exists()
        assert len(json.loads((tmp_path / "run" / "benchmark.json").read_text())["episodes"]) == 2


class TestMerging:
    def test_a_gap_is_named(self, shards: Path) -> None:
        for path in (shard(shards, 2), hash_path(shard(shards, 2))):
            path.unlink()
        with pytest.raises(RecordingError, match=r"shards lacks shard 2 of 4 \(episodes 5 to 7\): run the"):
            merged(shards)
        partial_path(shard(shards, 2)).touch()
        with pytest.raises(RecordingError, match=r"shard 2 of 4 \(episodes 5 to 7\) of .* has not finished"):
            merged(shards)
        assert not (shards.parent / "merged.h5").exists()

    def test_a_duplicate_is_named(self, shards: Path) -> None:
        shutil.copy(shard(shards, 1), shards / "shard-00001-of-00004 (copy).h5")
        with pytest.raises(RecordingError, match=r"\(copy\).h5 and .* are both shard 1 of 4 \(episodes 2"):
            merged(shards)

    def test_other_bytes_are_named(self, shards: Path) -> None:
        with h5py.File(shard(shards, 3), "r+") as file:
            file["state"][4, 0] += 1
        with pytest.raises(RecordingError, match="00003-of-00004.h5 is not what .*sha256 says was written"):
            merged(shards)
        hash_path(shard(shards, 3)).unlink()
        with pytest.raises(RecordingError, match="00003-of-00004.h5 has no .*sha256: copy that file too"):
            merged(shards)

    def test_a_shard_of_another_recording_is_named(self, shards: Path, tmp_path: Path) -> None:
        options = {"episodes": EPISODES, "shards": 4, "engine": Engine(workers=2), **SAME, "seed": 6}
        other = collect_shards("pusht", tmp_path / "b", **options)
        for path in (shard(other, 2), hash_path(shard(other, 2))):
            shutil.copy(path, shards)
        with pytest.raises(RecordingError, match="with seed=5 and .*00002-of-00004.h5 with 6: they are not"):
            merged(shards)

    def test_a_count_that_is_wrong_is_named(self, shards: Path) -> None:
        with h5py.File(shard(shards, 1), "r+") as file:
            for name in ("ep_len", "ep_offset"):
                kept = file[name][:-1]
                del file[name]
                file[name] = kept
        with pytest.raises(RecordingError, match="00001-of-00004.h5 holds 2 episodes and not the 3 of"):
            merged(shards)

    def test_what_is_no_shard_is_named(self, shards: Path, reference: Path) -> None:
        shutil.copy(reference, shards / "other.h5")
        with pytest.raises(RecordingError, match="other.h5 does not say which shard it is: move it out"):
            merged(shards)
        with pytest.raises(RecordingError, match="is not a folder of shards"):
            merge(reference, shards / "a.h5")
        with pytest.raises(RecordingError, match="exists already"):
            merge(shards, reference)

    def test_hashes_are_those_of_sha256sum(self, made: Path) -> None:
        if shutil.which("sha256sum") is None:
            pytest.skip("no sha256sum here")
        names = [path.name for path in made.glob("*.sha256")]
        done = subprocess.run(["sha256sum", "--check", *names], cwd=made, capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout.count(": OK") == 4

    def test_the_command_line(self, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert merging.main([str(shards)]) == 0
        assert "4 shards, 11 episodes, all as they were written" in capsys.readouterr().out
        assert merging.main([str(shards), str(tmp_path / "a.h5")]) == 0
        shard(shards, 0).unlink()
        assert merging.main([str(shards)]) == 2
        assert capsys.readouterr().err.count("\n") == 1
        assert layout.is_sharded(shards)
