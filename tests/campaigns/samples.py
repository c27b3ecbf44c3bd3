"""What is damaged: of every kind of input that is read here a sound sample, and how the program reads it."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import io
import json
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # the samples of the tests

import numpy as np
import published
import test_other_formats as others
import tiny_run
import torch
from PIL import Image

from latent_planner import Agent, goal_image
from latent_planner.checkpoints import checkpoint, lewm, sb3
from latent_planner.checkpoints.lewm_names import from_lewm_keys
from latent_planner.cli import train as train_command
from latent_planner.cli.__main__ import main
from latent_planner.cli.user_errors import USER_ERRORS
from latent_planner.envs.gym.policies import make_gym_policy
from latent_planner.envs.recordings.collect import collect
from latent_planner.envs.recordings.episodes import EpisodeWriter
from latent_planner.evaluation import plots, reachability

PICTURES = (
    "png",
    "jpg",
    "gif",
    "bmp",
    "webp",
    "tif",
    "ppm",
    "tga",
    "ico",
    "pcx",
    "qoi",
    "sgi",
    "jp2",
    "avif",
)


class Fault(Exception):
    """The program ended in a way that it never should; the message says how."""


@dataclass
class Kind:
    """make(folder) writes a sound sample; read(folder) reads it as the program does.

    files: those that may be damaged.   keeps: reading leaves them as they were.
    """

    make: Callable[[Path], Any]
    read: Callable[[Path], Any]
    files: str = "**/*"
    keeps: bool = True


def command(*words: str | Path) -> None:
    """Run a command of the console. ValueError with its sentence where it ends with 2, Fault where it ends
    with anything else than 0."""
    out, err = io.StringIO(), io.StringIO()
    code: Any = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(word) for word in words])
        except SystemExit as stop:
            code = stop.code
    text = err.getvalue()
    if "Traceback" in text:
        raise Fault(text)
    if code == 2:
        said = [line for line in text.splitlines() if line.startswith("error: ")]
        if len(said) != 1 or not said[0].isprintable():
            raise Fault(f"not one sentence: {text!r}")
        raise ValueError(said[0])
    if code:
        raise Fault(f"exit code {code}: {text}")


# -- recordings ----------------------------------------------------------------------------------------------


def recording(name: str) -> Callable[[Path], None]:
    def read(folder: Path) -> None:
        command("inspect", folder / name, "--out", folder.parent / "sheet.png")
        _convert("convert", folder / name, folder.parent / "out.h5")

    return read


def _convert(*words: str | Path) -> None:
    try:
        command(*words)
    except ValueError:
        if Path(words[-1]).exists():
            raise Fault(f"{words[-1]} was written in spite of the error") from None
        raise


def columns(episode: int, length: int = 6) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(episode)
    return {
        "pixels": rng.integers(0, 256, (length, 24, 24, 3), np.uint8),
        "state": rng.normal(size=(length, 2)).astype(np.float32),
        "action": rng.normal(size=(length, 2)).astype(np.float32),
    }


def own(folder: Path) -> None:
    attrs: dict[str, Any] = {
        "env": "two_room",
        "state_names": ["x", "y"],
        "action_low": [-1.0, -1.0],
        "action_high": [1.0, 1.0],
    }
    with EpisodeWriter(folder / "a.h5", attrs=attrs) as writer:
        for episode in range(4):
            writer.append(columns(episode))


def journal(folder: Path) -> None:
    """A recording whose writer died."""
    writer = EpisodeWriter(folder / "a.h5", attrs={"env": "two_room", "state_names": ["x", "y"]})
    for episode in range(4):
        writer.append(columns(episode))
    writer.abandon()


def published_file(folder: Path) -> None:
    published.recording(folder / "a.h5", [columns(episode) for episode in range(4)], chunk=10)


def videos(folder: Path) -> None:
    lines = ["video,frame,action_x,action_y,state_x"]
    for episode, part in enumerate(others.episodes()):
        published.video(folder / f"{episode}.mp4", list(part["pixels"]), 10)
        lines += [f"{episode}.mp4,{i},{x:.4f},{y:.4f},{i}" for i, (x, y) in enumerate(part["action"])]
    (folder / "actions.csv").write_text("\n".join(lines) + "\n")


def read_videos(folder: Path) -> None:
    target = folder.parent / "out.h5"
    _convert("from-videos", folder, folder / "actions.csv", "--size", "32", target)


# -- checkpoints and runs ------------------------------------------------------------------------------------

PLANNER = {"name": "cem", "objective": "closest", "num_samples": 8, "num_elites": 2, "iterations": 1}
FRAME = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)


def small_checkpoint(folder: Path) -> None:
    model = tiny_run.tiny_model(tiny_run.tiny_dataset()).eval()
    checkpoint.save(model, folder, planner=PLANNER, training={"best_step": 3})


def read_checkpoint(folder: Path) -> None:
    agent = Agent.from_pretrained(folder, device="cpu")
    agent.set_goal(FRAME)
    action = agent.act(FRAME)
    low, high = (np.asarray(v, np.float32) for v in (agent.config.action_low, agent.config.action_high))
    if not (np.isfinite(action).all() and (low <= action).all() and (action <= high).all()):
        raise Fault(f"the action {action} is outside of {low} to {high}")


def read_signed_checkpoint(folder: Path) -> None:
    """As if whoever damaged the weights had also written down their SHA-256."""
    info = json.loads((folder / "config.json").read_text())
    info["sha256"] = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    (folder / "config.json").write_text(json.dumps(info))
    read_checkpoint(folder)


def run(folder: Path) -> None:
    tiny_run.tiny_trainer(folder, steps=3).fit()
    with (folder / "metrics.jsonl").open("a") as file:
        row = {"step": 3, "success": 0.5, "success_low": 0.2, "success_high": 0.8, "probe/x/linear_r2": 0.5}
        file.write(
            json.dumps(row | {"probe/x/mlp_r2": 0.4, "probe/x/linear_r": 0.7, "probe/x/mlp_r": 0.6}) + "\n"
        )


def resume(folder: Path) -> None:
    tiny_run.tiny_trainer(folder, steps=4).fit()


def resume_and_plot(folder: Path) -> None:
    resume(folder)
    rows = plots.read_rows(folder / "metrics.jsonl")
    plots.plot_loss(rows, folder.parent / "loss.png")
    plots.plot_success(rows, folder.parent / "success.png", None)
    plots.probes(rows)


class _Enough(ValueError):
    """The settings were read, and training would begin."""


def _stop(*_: Any, **__: Any) -> Any:
    raise _Enough("training would begin")


def settings(folder: Path) -> None:
    """A run folder as train.py leaves it, but for its models."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    collect(
        "two_room",
        folder.parent / "two_room.h5",
        episodes=8,
        length=24,
        image_size=64,
        workers=1,
        progress=False,
    )
    with initialize_config_module("latent_planner.configs", version_base="1.3"):
        words = ["env=two_room", "model=small", f"data.path={folder.parent / 'two_room.h5'}", "train.steps=4"]
        config = compose(
            "config", [*words, "benchmark.validation_pairs=0", "wandb.mode=disabled", "device=cpu"]
        )
    OmegaConf.save(config, folder / "train.yaml", resolve=True)


def read_settings(folder: Path) -> None:
    from latent_planner.cli import recording as recording_module
    from latent_planner.cli.run_folder import stored_settings

    stored_settings(folder)  # as the report reads them
    vars(train_command)["Trainer"] = vars(recording_module)["collect"] = _stop
    before = set(USER_ERRORS)
    if _Enough not in before:
        vars(train_command)["USER_ERRORS"] = (*USER_ERRORS, _Enough)
    try:
        command("train", f"resume={folder}", "device=cpu", "data.workers=1", "wandb.mode=disabled")
    except ValueError as error:
        if "training would begin" not in str(error):
            raise


def reach(folder: Path) -> None:
    reachability.save(folder, 1.5, "0" * 64)


def read_reach(folder: Path) -> None:
    threshold = reachability.load(folder, "0" * 64)
    if threshold is not None and not (np.isfinite(threshold) and threshold > 0):
        raise Fault(f"the threshold {threshold}")


# -- weights of others, goals --------------------------------------------------------------------------------


def lewm_weights(folder: Path) -> dict[str, torch.Tensor]:
    names = list(json.loads((published.DATA / "lewm_keys.json").read_text()))[:24]
    return {name: torch.randn(2, 3) for name in names}


def lewm_pt(folder: Path) -> None:
    torch.save(lewm_weights(folder), folder / "weights.pt")


def lewm_safetensors(folder: Path) -> None:
    from safetensors.torch import save_file

    save_file(lewm_weights(folder), folder / "weights.safetensors")


def read_lewm(folder: Path) -> None:
    """As far as names: the model of 18 million numbers is too large to be made for every file."""
    state = lewm.read_weights(folder)
    with contextlib.suppress(ValueError):  # which `from_lewm` words
        from_lewm_keys(state)


def sb3_zip(folder: Path) -> None:
    shapes = {"actor.latent_pi.0": (8, 3), "actor.latent_pi.2": (8, 8), "actor.mu": (1, 8)}
    state = {f"{name}.weight": torch.randn(shape) for name, shape in shapes.items()}
    state |= {f"{name}.bias": torch.zeros(shape[0]) for name, shape in shapes.items()}
    weights = io.BytesIO()
    torch.save(state, weights)
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("data", json.dumps({"policy_kwargs": {"net_arch": [8, 8]}}))
        archive.writestr("policy.pth", weights.getvalue())


WORLD = SimpleNamespace(
    action_space=SimpleNamespace(low=-np.ones(1, np.float32), high=np.ones(1, np.float32)),
    state_names=("x", "y", "z"), action_size=1, name="gym:Pendulum-v1",
)  # fmt: skip


def read_sb3(folder: Path) -> None:
    _act(sb3.convert(folder / "a.zip", folder.parent / "made"))


def _act(path: Path) -> None:
    policy = make_gym_policy(f"mlp:{path}", WORLD)
    policy.reset(np.random.default_rng(0))
    action = policy.act({"state": np.zeros(3, np.float32)})
    if action.shape != (1,) or not np.isfinite(action).all():
        raise Fault(f"the action {action}")


def mlp(folder: Path) -> None:
    rng = np.random.default_rng(0)
    layers = {"weight_0": rng.normal(size=(8, 3)), "bias_0": np.zeros(8)}
    layers |= {"weight_1": rng.normal(size=(1, 8)), "bias_1": np.zeros(1)}
    layers = {name: values.astype(np.float32) for name, values in layers.items()}
    np.savez(folder / "a.npz", kinds=np.array(["relu", "tanh"]), **layers)


def goals(folder: Path) -> None:
    picture = Image.fromarray(np.kron(FRAME[:16, :16], np.ones((2, 2, 1), np.uint8)))
    for ending in PICTURES:
        picture.save(folder / f"goal.{ending}")
    goal_image.write_goal(folder / "text.png", FRAME, [0.5, 0.5], "two_room", 3)


def read_goals(folder: Path) -> None:
    said: Exception | None = None
    for path in sorted(folder.iterdir()):
        try:
            goal_image.read_goal(path)
            goal_image.read_goal_text(path)
        except goal_image.GoalImageError as error:
            said = error
    if said:
        raise said


KINDS = {
    "own recording": Kind(own, recording("a.h5")),
    "own journal": Kind(journal, recording("a.h5")),
    "published HDF5": Kind(published_file, recording("a.h5")),
    "robomimic HDF5": Kind(lambda folder: others.robomimic_file(folder / "a"), recording("a.hdf5")),
    "LeRobot v3": Kind(lambda folder: published.lerobot(folder / "a"), recording("a")),
    "LeRobot v2.1": Kind(lambda folder: published.lerobot_2(folder / "a"), recording("a")),
    "LeRobot pictures": Kind(lambda folder: published.lerobot_2(folder / "a", pictures=True), recording("a")),
    "stable-worldmodel": Kind(lambda folder: others.pictures_folder(folder / "a"), recording("a")),
    "stable-worldmodel mp4": Kind(lambda folder: others.video_folder(folder / "a"), recording("a")),
    **(
        {
            "Lance": Kind(lambda folder: others.lance_table(folder / "a"), recording("a")),
            "Lance with videos": Kind(
                lambda folder: others.lance_table(folder / "a", videos=True), recording("a"), "**/*.lance/*/*"
            ),
        }
        if importlib.util.find_spec("lance")
        else {}
    ),
    "CSV and videos": Kind(videos, read_videos),
    "config.json": Kind(small_checkpoint, read_checkpoint, "config.json"),
    "model.safetensors": Kind(small_checkpoint, read_checkpoint, "model.safetensors"),
    "model, SHA made to fit": Kind(
        small_checkpoint, read_signed_checkpoint, "model.safetensors", keeps=False
    ),
    "state.safetensors": Kind(run, resume, "state.safetensors", keeps=False),
    "metrics.jsonl": Kind(run, resume_and_plot, "metrics.jsonl", keeps=False),
    "train.yaml": Kind(settings, read_settings, "train.yaml", keeps=False),
    "reach.json": Kind(reach, read_reach),
    "LeWM .pt": Kind(lewm_pt, read_lewm),
    "LeWM .safetensors": Kind(lewm_safetensors, read_lewm),
    "SB3 zip": Kind(sb3_zip, read_sb3),
    "mlp .npz": Kind(mlp, lambda folder: _act(folder / "a.npz")),
    "goal pictures": Kind(goals, read_goals),
}
