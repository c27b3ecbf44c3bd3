"""Collecting: the same episodes whatever the workers, and nothing lost when it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import h5py
import numpy as np
import pytest
from waiting import PATIENCE, started, until

from latent_planner import envs
from latent_planner.envs.recordings import collect as module
from latent_planner.envs.recordings.collect import collect
from latent_planner.envs.recordings.collect_worker import Job, Player
from latent_planner.envs.recordings.episodes import EpisodeReader, RecordingError, partial_path

SMALL = {"episodes": 8, "length": 12, "image_size": 32, "seed": 5, "progress": False}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return collect("pusht", tmp_path_factory.mktemp("reference") / "pusht.h5", **SMALL, workers=1)


def same(one: Path, other: Path) -> bool:
    with h5py.File(one) as a, h5py.File(other) as b:
        return set(a) == set(b) and all(
            np.array_equal(a[k][()], b[k][()], equal_nan=a[k].dtype.kind == "f") for k in a
        )


@pytest.mark.parametrize("workers", [2, 3])
def test_the_number_of_workers_changes_nothing(tmp_path: Path, reference: Path, workers: int) -> None:
    path = collect("pusht", tmp_path / "again.h5", **SMALL, workers=workers)
    assert same(path, reference)
    assert [file.name for file in tmp_path.iterdir()] == ["again.h5"]


def test_what_is_recorded(reference: Path) -> None:
    reader, world = EpisodeReader(reference), envs.make("pusht", image_size=32)
    assert reader.lengths.tolist() == [12] * 8 and reader.num_frames == 96 and reader.complete
    assert reader.env == "pusht" and reader.image_size == 32 and reader.attrs["policy"] == "pusht"
    assert reader.attrs["seed"] == 5 and reader.attrs["control_hz"] == world.control_hz
    assert reader.state_names == world.state_names and reader.angle_names == world.angle_names
    assert reader.action_low.tolist() == [-1, -1] and reader.action_high.tolist() == [1, 1]
    actions, states = reader.read("action", 0, 96).reshape(8, 12, 2), reader.read("state", 0, 96)
    assert np.isnan(actions[:, -1]).all() and np.abs(actions[:, :-1]).max() <= 1
    assert len(np.unique(states[::12], axis=0)) == 8  # every episode begins somewhere else
    reader.check_actions()


def test_frames_states_and_actions_belong_together() -> None:
    player = Player(Job("two_room", 20, 32, 1))
    episode = player.play(3)
    world = envs.make("two_room", image_size=32)
    world.reset(options={"state": episode["state"][4]})
    for step in range(4, 19):
        obs, *_ = world.step(episode["action"][step])
        assert np.allclose(obs["state"], episode["state"][step + 1], atol=1e-3)
    for state, pixels in zip(episode["state"], episode["pixels"]):
        assert np.abs(world.render_state(state).astype(int) - pixels).max() <= 1


def test_episodes_depend_on_seed_and_number_only(reference: Path) -> None:
    player = Player(Job("pusht", 12, 32, 5))
    late, early = player.play(6), player.play(2)
    reader = EpisodeReader(reference)
    for index, episode in ((2, early), (6, late)):
        assert np.array_equal(reader.read("pixels", 12 * index, 12 * index + 12), episode["pixels"])
    other = Player(Job("pusht", 12, 32, 6)).play(2)
    assert not np.array_equal(other["state"], early["state"])


def test_a_finished_recording_is_left_as_it_is(tmp_path: Path) -> None:
    path = collect("two_room", tmp_path / "a.h5", **SMALL, workers=1)
    before = path.stat()
    assert collect("two_room", path, **SMALL) == path
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    for change, message in {
        "seed": "seed=5 and not 6",
        "length": "length=12 and not 13",
        "image_size": "image_size=32 and not 33",
        "episodes": "holds 8 episodes and not 9",
    }.items():
        with pytest.raises(RecordingError, match=message):
            collect("two_room", path, **(SMALL | {change: SMALL[change] + 1}))
    with pytest.raises(RecordingError, match="env=two_room and not pusht"):
        collect("pusht", path, **SMALL)


ENDLESS = 1_000_000  # episodes: far more than a process plays before a signal reaches it
COMMAND = [sys.executable, "-m", "latent_planner.cli", "collect", "pusht"]
SETTINGS = ["--length", "30", "--image-size", "32", "--seed", "1"]


def collecting(
    path: Path, root: Path, workers: int, episodes: int
) -> AbstractContextManager[subprocess.Popen[str]]:
    command = [*COMMAND, path, *SETTINGS, "--episodes", str(episodes), "--workers", str(workers)]
    return started(command, cwd=root, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for(path: Path, size: int, process: subprocess.Popen[str]) -> None:
    """Until the unfinished recording has grown to `size` bytes."""
    partial = partial_path(path)
    until(lambda: partial.exists() and partial.stat().st_size >= size, process)


def children(process: subprocess.Popen[str]) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == process.pid:
                found.append(int(stat.parent.name))
    return found


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_and_started_again_it_makes_the_same_recording(
    tmp_path: Path, root: Path, workers: int
) -> None:
    path, kept, size = tmp_path / "killed.h5", 0, 0
    for more in (15_000, 60_000):  # several episodes more than there were
        with collecting(path, root, workers, ENDLESS) as process:
            wait_for(path, size + more, process)
            offspring = children(process)
            process.kill()
            process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert len(offspring) == (workers if workers > 1 else 0)
        reader = EpisodeReader(path)
        assert not path.exists() and kept < len(reader.lengths) < ENDLESS
        kept, size = len(reader.lengths), partial_path(path).stat().st_size
        until(lambda: not any(map(alive, offspring)))  # noqa: B023
    with collecting(path, root, 2, kept + 9) as process:
        process.communicate()
    assert process.returncode == 0
    whole = collect(
        "pusht", tmp_path / "whole.h5", episodes=kept + 9, length=30, image_size=32, seed=1, progress=False
    )
    assert same(path, whole) and not partial_path(path).exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
@pytest.mark.parametrize("workers", [1, 2])
def test_ctrl_c_is_quiet_and_says_how_to_go_on(tmp_path: Path, root: Path, workers: int) -> None:
    path = tmp_path / "a.h5"
    with collecting(path, root, workers, ENDLESS) as process:
        wait_for(path, 15_000, process)
        os.killpg(process.pid, signal.SIGINT)
        told = process.communicate(timeout=PATIENCE)[1].splitlines()
    assert process.returncode == 130, told
    kept = len(EpisodeReader(path).lengths)
    assert told[-1] == (
        f"stopped; {partial_path(path)} keeps {kept} of {ENDLESS} episodes, and the same command goes on "
        "from there"
    )
    assert not any("Traceback" in line for line in told)


def test_other_settings_than_those_of_an_unfinished_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "a.h5", Player.record

    def stopped(self: Player, index: int) -> bytes:
        if index == 4:
            raise KeyboardInterrupt
        return real(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Player, "record", stopped)
        with pytest.raises(KeyboardInterrupt, match="keeps 4 of 8 episodes"):
            collect("two_room", path, **SMALL, workers=1)
    for change in ("seed", "length", "image_size"):
        with pytest.raises(RecordingError, match=f"{change}={SMALL[change]} and not {SMALL[change] + 1}"):
            collect("two_room", path, **(SMALL | {change: SMALL[change] + 1}))
    with pytest.raises(RecordingError, match="env=two_room and not pusht"):
        collect("pusht", path, **SMALL)
    with pytest.raises(RecordingError, match="holds 4 episodes already"):
        collect("two_room", path, **(SMALL | {"episodes": 3}))
    assert len(EpisodeReader(path).lengths) == 4
    collect("two_room", path, **(SMALL | {"episodes": 5}), workers=1)  # how many is not part of what they are
    assert len(EpisodeReader(path).lengths) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"episodes": 0}, "episodes must be a whole number of at least 1"),
        ({"episodes": 2.5}, "episodes must be"),
        ({"length": 1}, "length must be a whole number of at least 2"),
        ({"seed": -1}, "seed must be a whole number of at least 0"),
        ({"workers": 0}, "workers must be"),
        ({"image_size": 3}, "image_size must lie between"),
        ({"name": "pushd"}, "Did you mean 'pusht'"),
    ],
)
def test_settings_that_make_no_sense(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises((RecordingError, envs.WorldError), match=message):
        collect(**({"name": "pusht", "path": tmp_path / "a.h5"} | SMALL | change))
    assert list(tmp_path.iterdir()) == []


def test_a_worker_that_fails_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        module, "request", lambda job: b'{"env": "moon", "length": 3, "image_size": 32, "seed": 0}\n'
    )
    with pytest.raises(RecordingError, match="a collecting process failed .WorldError: .*'moon'"):
        collect("two_room", tmp_path / "a.h5", **SMALL, workers=2)
    monkeypatch.setattr(module, "request", lambda job: b"")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    if os.path.exists("/bin/false"):
        with pytest.raises(RecordingError, match="it ended with code 1"):
            collect("two_room", tmp_path / "a.h5", **SMALL, workers=2)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    with pytest.raises(RecordingError, match="use workers=1"):
        collect("two_room", tmp_path / "a.h5", **SMALL, workers=2)


def test_collecting_does_not_import_torch(tmp_path: Path, root: Path) -> None:
    program = (
        "import sys; from latent_planner.envs.recordings.collect import collect\n"
        f"collect('two_room', {str(tmp_path / 'a.h5')!r}, episodes=4, length=5, workers=2, progress=False)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], cwd=root, check=True)  # no `if __name__` needed either


def test_the_command_line(tmp_path: Path, root: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "latent_planner.cli", "collect", *arguments]
        return subprocess.run(command, cwd=root, capture_output=True, text=True)

    settings = ["--episodes", "3", "--length", "5", "--image-size", "32", "--workers", "1"]
    done = run("two_room", str(tmp_path / "a.h5"), *settings)
    assert done.returncode == 0 and "15 frames" in done.stdout and "collecting two_room" in done.stderr
    wrong = run("two_room", str(tmp_path / "a.h5"), *settings, "--seed", "1")
    assert wrong.returncode == 2 and wrong.stderr.startswith("error: ") and wrong.stderr.count("\n") == 1
    missing = run("moon", str(tmp_path / "b.h5"))
    assert missing.returncode == 2 and "'moon'" in missing.stderr and missing.stderr.count("\n") == 1
