"""Processes that are killed, and disks that fill up, at any moment: afterwards the same command goes on.

Each command runs in a process and a folder of its own; what it leaves is compared with an undisturbed run's.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import published
import tiny_run
from PIL import Image
from reading import FINE, LATE, LOST, SENTENCE, TRACEBACK, quiet
from safetensors import safe_open
from safetensors.numpy import load_file

from latent_planner import goal_image
from latent_planner.checkpoints import checkpoint
from latent_planner.cli.__main__ import main
from latent_planner.envs.recordings.collect import collect
from latent_planner.envs.recordings.episodes import EpisodeReader
from latent_planner.training.dataset import WindowDataset

STARTER = multiprocessing.get_context("forkserver")
SECONDS = 300.0  # for one command
PAGE, BALLAST = 4096, "ballast"  # of a small disk
IN_A_ROW = 3  # kills of one piece of work, at most
TIMES = ("minutes", "seconds", "took", "wait", "time", "rate", "per_second", "date")  # differ from run to run
Say = Callable[..., None]


@dataclass
class Job:
    """run(given) works in the current folder and returns an exit code; `give` filled the folder given."""

    run: Callable[[Path], int]
    give: Callable[[Path], Any] = lambda given: None


# -- the work ------------------------------------------------------------------------------------------------


def two_room(given: Path, episodes: int = 8, length: int = 24) -> Path:
    path = given / "two_room.h5"
    return collect(
        "two_room", path, episodes=episodes, length=length, image_size=64, workers=1, progress=False
    )


def model_of_two_room(given: Path) -> None:
    """A recording, an untrained model of it in given/model, and a goal picture."""
    with EpisodeReader(two_room(given, 16, 60)) as reader:
        dataset = WindowDataset(reader, num_frames=4, frameskip=5, held_out=0.25, progress=False)
        model = tiny_run.tiny_model(dataset).eval()
        planner = {"name": "cem", "objective": "closest", "num_samples": 8, "num_elites": 2, "iterations": 1}
        checkpoint.save(model, given / "model", planner=planner, training={})
        goal_image.write_goal(given / "goal.png", reader.read("pixels", 5, 6)[0], [0.5, 0.5], "two_room", 3)


def record(given: Path) -> int:
    words = "collect two_room a.h5 --episodes 12 --length 20 --image-size 64 --seed 1 --workers 1"
    return main(words.split())


def learn(given: Path) -> int:
    """Training that saves as often as it can."""
    tiny_run.tiny_trainer("run", steps=16, save_every_minutes=1e-6, evaluate_every_steps=8).fit()
    return 0


TINY = [
    "model.latent_dim=12", "model.projector_dim=24", "model.encoder_width=8", "model.predictor_width=24",
    "model.predictor_depth=1", "model.predictor_heads=2", "model.predictor_head_dim=12",
    "model.predictor_mlp_dim=32", "train.batch_size=4", "train.steps=3", "train.log_every=1",
    "benchmark.pairs=0", "benchmark.validation_pairs=0", "device=cpu", "wandb.mode=disabled",
    "data.workers=1", "report=false",
]  # fmt: skip


def train(given: Path) -> int:
    if Path("run/train.yaml").exists():
        return main(["train", "resume=run"])
    return main(["train", "env=two_room", f"data.path={given / 'two_room.h5'}", "out=run", *TINY])


def convert(given: Path) -> int:
    return main(["convert", str(given / "theirs"), "a.h5"])


def lerobot(given: Path) -> None:
    published.lerobot(given / "theirs", lengths=(20, 16, 20, 12, 20))


def report(given: Path) -> int:
    words = [
        "--recording",
        str(given / "two_room.h5"),
        "--only",
        "health",
        "--out",
        "page",
        "--device",
        "cpu",
    ]
    return main(["report", str(given / "model"), *words])


def plan(given: Path) -> int:
    words = ["--goal", str(given / "goal.png"), "--checkpoint", str(given / "model"), "--device", "cpu"]
    return main(["plan", *words, "--out", "result"])


def export(given: Path) -> int:
    return main(["export", str(given / "model"), "--out", "exported"])


def benchmark(given: Path) -> int:
    words = ["--checkpoint", str(given / "model"), "--pairs", "1", "--device", "cpu", "--out", "result"]
    return main(["plan", "--benchmark", *words])


JOBS = {
    "recording": Job(record),
    "training, saving": Job(learn),
    "converting": Job(convert, lerobot),
    "reporting": Job(report, model_of_two_room),
}
DISK_JOBS = {
    "collect": Job(record),
    "train": Job(train, lambda given: two_room(given, 16, 40)),
    "convert": Job(convert, lerobot),
    "report": Job(report, model_of_two_room),
    "plan": Job(plan, model_of_two_room),
    "benchmark": Job(benchmark, model_of_two_room),
    "export": Job(export, model_of_two_room),
}


# -- running it ----------------------------------------------------------------------------------------------


def work(name: str, disk: bool, folder: str, given: str, said: str) -> None:
    """The process: do the work in `folder`, words into the file `said`."""
    quiet(Path(folder))
    with open(said, "w") as words, contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
        try:
            code = (DISK_JOBS if disk else JOBS)[name].run(Path(given))
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            words.write(traceback.format_exc())
            code = 1
    os._exit(code)  # as a finished command, but without what a library does at its end


def started(name: str, disk: bool, folder: Path, given: Path, said: Path) -> Any:
    process = STARTER.Process(target=work, args=(name, disk, str(folder), str(given), str(said)))
    process.start()
    return process


def finished(process: Any, said: Path) -> tuple[int | None, str]:
    """Exit code and words; the code is None where it had to be killed."""
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        return None, "did not end"
    return process.exitcode, said.read_text(errors="replace")


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        kept = (key for key in value if not any(word in key for word in TIMES))
        return {key: without_times(value[key]) for key in kept}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def _read(text: str) -> Any:
    """What a JSON text says, or the text itself, such as a checksum."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def content(path: Path) -> Any:
    """What a file must hold whenever it was made; ValueError and the like where it is not whole."""
    match path.suffix:
        case ".h5":
            with EpisodeReader(path) as reader:
                columns = {name: reader.read(name, 0, reader.num_frames).tobytes() for name in reader.columns}
                return columns, reader.lengths.tolist(), repr(sorted(reader.attrs.items(), key=str))
        case ".safetensors":
            with safe_open(path, framework="np") as file:
                said = {key: without_times(_read(text)) for key, text in (file.metadata() or {}).items()}
            return {name: value.tobytes() for name, value in load_file(path).items()}, said
        case ".jsonl":
            return [without_times(json.loads(line)) for line in path.read_text().splitlines()]
        case ".json":
            return without_times(json.loads(path.read_text()))
        case ".png":
            Image.open(path).load()
        case ".html":
            if not path.read_text().rstrip().endswith("</html>"):
                raise ValueError("the page is cut off")
    return None


def left(folder: Path) -> dict[str, Any]:
    """Contents of the finished files in a folder."""
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and not unfinished(path)]
    return {str(path.relative_to(folder)): content(path) for path in paths}


def unfinished(path: Path) -> bool:
    return ".tmp-" in path.name or path.suffix == ".partial" or path.name == BALLAST


def undisturbed(name: str, disk: bool, home: Path) -> tuple[Path, dict[str, Any], float]:
    """Where the given files are, what the work leaves, and seconds that it takes."""
    given, folder = home / "given", home / "undisturbed"
    given.mkdir(parents=True)
    folder.mkdir()
    (DISK_JOBS if disk else JOBS)[name].give(given)
    for _ in range(2):  # the second time shows how long it takes
        shutil.rmtree(folder)
        folder.mkdir()
        begun = time.monotonic()
        code, words = finished(started(name, disk, folder, given, home / "said"), home / "said")
        if code:
            raise SystemExit(f"{name}: the undisturbed run failed: {words}")
    return given, left(folder), time.monotonic() - begun


def different(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    return ", ".join(sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key)))


# -- killed --------------------------------------------------------------------------------------------------


def kills(name: str, count: int, seed: int, home: Path, say: Say) -> Counter[str]:
    """Kill the work `count` times at random moments, up to three times in a row; then it must come to its end
    with what an undisturbed run leaves. Counted are the kills: fine, or what the end of their work was."""
    counted: Counter[str] = Counter()
    if not count:
        return counted
    given, wanted, seconds = undisturbed(name, False, home)
    rng, folder, said = np.random.default_rng([seed, len(name)]), home / "work", home / "said"
    while (done := sum(counted.values())) < count:
        folder.mkdir()
        killed, tries = 0, min(count - done, int(rng.integers(1, IN_A_ROW + 1)))
        while killed < tries:
            process = started(name, False, folder, given, said)
            process.join(float(rng.uniform(0, seconds)))
            if process.exitcode is not None:
                break  # it was quicker this time
            process.kill()
            process.join()
            killed += 1
        code, words = finished(started(name, False, folder, given, said), said)
        found, words = _judged(code, words, folder, wanted, home / "undisturbed")
        counted[found] += killed
        if found != FINE:
            say(f"killed: {name}", f"{done}: {found}", words, folder)
        shutil.rmtree(folder)
    return counted


def _judged(
    code: int | None, words: str, folder: Path, wanted: dict[str, Any], undisturbed: Path
) -> tuple[str, str]:
    if code is None:
        return LATE, words
    if "exists already" in words or "is there already" in words:  # killed after its last write
        code = 0
    if code:
        return TRACEBACK, words
    differs = different(left(folder), wanted)
    return (LOST, f"differs from an undisturbed run: {differs}") if differs else (FINE, "")


# -- full disks ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def small_disk(folder: Path, pages: int) -> Iterator[None]:
    """A file system in memory with room for so many pages of 4,096 bytes, or none. OSError where it may not
    be mounted."""
    folder.mkdir()
    _mount("mount", "-t", "tmpfs", "-o", f"size={(pages + 1) * PAGE}", "none", str(folder))
    try:
        (folder / BALLAST).write_bytes(bytes(PAGE))
        yield
    finally:
        _mount("umount", "-l", str(folder))
        folder.rmdir()


def _mount(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise OSError(done.stderr.strip())


def full_disks(name: str, count: int, home: Path, say: Say) -> Counter[str] | None:
    """Let the work meet `count` disks of different sizes that are too small; then give it room and repeat.
    None, with a sentence, where no such disk can be made."""
    counted: Counter[str] = Counter()
    if not count:
        return counted
    try:
        home.mkdir(parents=True)
        with small_disk(home / "disk", 16):
            pass
    except OSError as error:
        print(f"full disk: {name} is left out, a small disk cannot be mounted ({error})", file=sys.stderr)
        return None
    given, wanted, _ = undisturbed(name, True, home)
    need = sum(path.stat().st_size for path in (home / "undisturbed").rglob("*") if path.is_file())
    for index in range(count):
        pages = int(need * index / count / PAGE)
        with small_disk(home / "disk", pages):
            found, words = _full(name, home, given, wanted)
        counted[found] += 1
        if found not in (FINE, SENTENCE):
            say(f"full disk: {name}", f"{pages} pages: {found}", words)
    return counted


def _full(name: str, home: Path, given: Path, wanted: dict[str, Any]) -> tuple[str, str]:
    folder, said = home / "disk", home / "said"
    code, words = finished(started(name, True, folder, given, said), said)
    if code is None:
        return LATE, words
    sentences = [line for line in words.splitlines() if line.startswith("error: ")]
    if code and ("Traceback" in words or code != 2 or len(sentences) != 1):
        return TRACEBACK, f"exit code {code}: {words}"
    try:
        left(folder)
    except Exception as error:
        return LOST, f"half-written under its name: {error!r} ({words})"
    _mount("mount", "-o", "remount,size=512m", str(folder))
    again, more = finished(started(name, True, folder, given, said), said)
    if code == 0:
        return FINE, ""
    if again:
        return LOST, f"does not go on with room on the disk: {more} (before: {words})"
    missing = wanted.keys() - left(folder).keys()
    differs = [key for key, value in left(folder).items() if key.endswith((".h5", "model.safetensors"))]
    differs = [key for key in differs if left(folder)[key] != wanted.get(key)]
    if missing or differs:
        return LOST, f"missing {sorted(missing)}, different {differs} (before: {words})"
    return SENTENCE, sentences[0]
