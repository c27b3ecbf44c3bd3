"""Parts of gpu_day.py that train, and what every part shares: where it runs, and what it notes."""

from __future__ import annotations

import json
import os
import statistics
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import bench_planning as planning
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor

from latent_planner import Agent, envs
from latent_planner.checkpoints import checkpoint
from latent_planner.envs.goals import pairs
from latent_planner.envs.recordings.collect import collect
from latent_planner.envs.recordings.episodes import EpisodeReader
from latent_planner.evaluation import benchmark
from latent_planner.model.world_model import WorldModel, WorldModelConfig
from latent_planner.settings import AgentSettings
from latent_planner.training.dataset import WindowDataset
from latent_planner.training.train_config import TrainConfig
from latent_planner.training.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
PIECE = 15 * 10**6  # bytes of a file that a checkpoint is cut into
VALIDATION_SEED = 1_000_003  # as train.py validates
TINY = {  # a model for --dry
    "latent_dim": 16, "projector_dim": 24, "predictor_depth": 1, "predictor_width": 16, "predictor_heads": 2,
    "predictor_head_dim": 8, "predictor_mlp_dim": 16,
}  # fmt: skip
TINY_LEWM = {**TINY, "image_size": 28, "encoder_width": 12, "encoder_depth": 1}


@dataclass
class Context:
    """Where a part runs.   out: kept.   scratch: shared by all parts, then gone.   limit: seconds."""

    part: str
    out: Path
    scratch: Path
    limit: float
    dry: bool

    def __post_init__(self) -> None:
        self.begun, self.rows, self.status = time.monotonic(), list[dict[str, str]](), "begun"

    @property
    def device(self) -> torch.device:
        return torch.device("cpu" if self.dry else "cuda")

    @property
    def left(self) -> float:
        return self.limit - (time.monotonic() - self.begun)

    def note(self, what: str, figure: str, goal: str = "") -> None:
        """Keep a finding, whatever becomes of this process."""
        self.rows.append({"what": what, "figure": figure.replace("|", "/"), "goal": goal})
        self.keep()

    def keep(self) -> None:
        seconds = round(time.monotonic() - self.begun, 1)
        text = json.dumps({"status": self.status, "seconds": seconds, "rows": self.rows})
        temporary = self.scratch / f"{self.part}.part"
        temporary.write_text(text)
        os.replace(temporary, self.scratch / f"{self.part}.json")

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def rate(self, dtype: torch.dtype) -> float:
        """FLOP a second of large products in this type: what the chip's peak is measured as."""
        size = 128 if self.dry else 8192
        x = torch.randn(size, size, device=self.device, dtype=dtype)
        return 2 * size**3 / planning.median_seconds(lambda: x @ x, 5, self.device)

    def half(self) -> Any:
        """Autocast to bfloat16."""
        return torch.autocast(self.device.type, torch.bfloat16)


# -- models and recordings ----------------------------------------------------------------------------------


def settings(name: str) -> dict[str, Any]:
    """What train.py uses for PushT with model=name: its sections model, train and planner."""
    found: dict[str, Any] = {}
    for path in ("config.yaml", f"model/{name}.yaml", "env/pusht.yaml", "planner/cem.yaml"):
        values = yaml.safe_load((ROOT / "configs" / path).read_text())
        values = {"planner": values} if path.startswith("planner") else values
        for section in ("model", "train", "planner"):
            found[section] = {**found.get(section, {}), **values.get(section, {})}
    del found["model"]["name"]
    return found


def dataset(context: Context, image_size: int, num_frames: int, episodes: int) -> WindowDataset:
    """Windows of a PushT recording, made once on all cores."""
    episodes, length = (4, 30) if context.dry else (episodes, 100)
    path, begun = context.scratch / f"pusht-{image_size}-{episodes}.h5", time.monotonic()
    workers = 1 if context.dry else None
    collect(
        "pusht",
        path,
        episodes=episodes,
        length=length,
        image_size=image_size,
        workers=workers,
        progress=False,
    )
    if (spent := time.monotonic() - begun) > 1:
        context.note(f"recording {episodes * length} frames of {image_size} px", f"{spent:.0f} s")
    return WindowDataset(
        EpisodeReader(path), num_frames=num_frames, frameskip=5, device=context.device, progress=False
    )


def trainer(
    context: Context, name: str, folder: Path, episodes: int, *, validate: int = 0, **changes: Any
) -> Trainer:
    """As train.py makes it, with these changes of its section train (or of model: proposals, landmarks)."""
    own = settings(name)
    if context.dry:
        own["model"] |= TINY_LEWM if name == "lewm" else TINY
        own["train"] |= {"batch_size": 4, "log_every": 1, "sigreg_directions": 16}
        own["planner"] |= {"num_samples": 8, "num_elites": 2, "iterations": 1}
        changes |= {"minutes": None, "steps": 4} if "minutes" in changes else {}
    own["model"] |= {key: changes.pop(key) for key in list(changes) if key in own["model"]}
    windows = dataset(context, own["model"]["image_size"], own["model"]["context_len"] + 1, episodes)
    torch.manual_seed(0)
    statistics = {key: value for key, value in windows.statistics().items() if key not in own["model"]}
    world_model = WorldModel(WorldModelConfig.from_dict({**statistics, **own["model"]}))
    planner = AgentSettings.from_dict(own["planner"])
    config = TrainConfig(**{**own["train"], "num_frames": windows.num_frames, **changes})
    evaluate = partial(reached, planner, validate, own["model"]["image_size"]) if validate else None
    return Trainer(
        world_model, windows, config, run_dir=folder, evaluate=evaluate, planner=planner, probe=False,
        progress=False,
    )  # fmt: skip


def reached(planner: AgentSettings, count: int, image_size: int, world_model: WorldModel) -> dict[str, Any]:
    """Success on goals that are not the benchmark's."""
    agent = Agent(world_model, planner, device=next(world_model.parameters()).device)
    goals = pairs.draw("pusht", count, VALIDATION_SEED)
    result = benchmark.run(
        agent, lambda: envs.make("pusht", image_size=image_size), goals, progress=False, quick=True
    )
    return {"success": result["success"], "interval": result["interval"]}


# -- (2) training throughput --------------------------------------------------------------------------------


def plain_sigreg(latents: Tensor, directions: int = 1024, knots: int = 17) -> Tensor:
    """The definition of SIGReg by plain autograd: latents (T, B, D) -> scalar."""
    t = torch.linspace(0, 3, knots, device=latents.device)
    target = torch.exp(-t.square() / 2)
    weights = 2 * 3 / (knots - 1) * target
    weights[[0, -1]] /= 2
    along = F.normalize(torch.randn(latents.shape[-1], directions, device=latents.device), dim=0)
    angle = (latents.float() @ along)[..., None] * t
    off = (angle.cos().mean(1) - target).square() + angle.sin().mean(1).square()
    return (off @ weights).mean() * latents.shape[1]


def plain_steps(context: Context, made: Trainer, count: int) -> float:
    """Steps a second of the published recipe in plain PyTorch: frames from main memory, bfloat16, AdamW, one
    step ahead, SIGReg by autograd. Same model, same sizes of batch."""
    model, windows, size = made.world_model.train(), made.dataset, made.config.batch_size
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, weight_decay=1e-3, foreach=True)
    batch = windows.batch(0, size)
    frames = [batch.pixels.cpu().contiguous() for _ in range(2)]
    frames = frames if context.dry else [some.pin_memory() for some in frames]

    def step(k: int) -> None:
        pixels = frames[k % 2].to(context.device, non_blocking=True)
        with context.half():
            latents = model.encode(pixels)
            predicted = model.predict(latents[:, :-1], batch.actions)
            loss = (predicted - latents[:, 1:]).float().square().mean()
        with torch.autocast(context.device.type, enabled=False):
            loss = loss + 0.09 * plain_sigreg(latents.transpose(0, 1))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    for k in range(1 if context.dry else 5):
        step(k)
    context.synchronise()
    begun = time.monotonic()
    for k in range(count):
        step(k)
    context.synchronise()
    return count / (time.monotonic() - begun)


def throughput(context: Context, name: str) -> None:
    """Frames a second while everything is trained, and the share of the chip's matmul rate."""
    changes: dict[str, Any] = {"precision": "bfloat16", "evaluate_every_minutes": None}
    if name == "small":  # the steps in which everything learns
        changes |= {"freeze_encoder": 1.0, "proposals": 0}
    folder = context.scratch / f"throughput-{name}"
    made = trainer(context, name, folder, 50, minutes=min(0.35, context.left / 240), **changes)
    frames = made.config.batch_size * made.config.num_frames
    few = made.dataset.batch(0, min(8, made.config.batch_size))

    with torch.no_grad():
        forward = planning.flops(lambda: made.latent_loss(few.pixels, few.actions))
    flops = 3 * forward * made.config.batch_size / len(few.pixels)  # backward takes twice as much
    made.fit()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rates = [row["steps_per_second"] for row in rows if "steps_per_second" in row]
    steps = statistics.median(rates[1:] or rates)
    peak = context.rate(torch.bfloat16)
    context.note(
        f"training {name}, bfloat16, {made.config.batch_size} windows of {made.config.num_frames}",
        f"{frames * steps:,.0f} frames/s, {flops * steps / peak:.1%} of the matmul rate",
    )
    if context.device.type == "cuda":
        context.note(f"training {name}, memory", f"{torch.cuda.max_memory_allocated() / 1e9:.2f} GB")
    plain = plain_steps(context, made, 2 if context.dry else 30)
    context.note(f"training {name}, published recipe in plain PyTorch", f"{frames * plain:,.0f} frames/s")
    context.note(f"training {name}, ratio", f"{steps / plain:.2f}")


# -- (4) and (5) success against minutes --------------------------------------------------------------------


def keep(context: Context, folder: Path, name: str, files: Sequence[str]) -> None:
    """These files of a run folder in the results, as NAME.tar, or in pieces: cat NAME.tar.* > NAME.tar"""
    whole = context.scratch / f"{name}.tar"
    with tarfile.open(whole, "w") as archive:
        for file in files:
            if (folder / file).is_file():
                archive.add(folder / file, file)
    data = whole.read_bytes()
    pieces = [data[i : i + PIECE] for i in range(0, len(data), PIECE)]
    for i, piece in enumerate(pieces):
        (context.out / (f"{name}.tar" if len(pieces) == 1 else f"{name}.tar.{i}")).write_bytes(piece)


def success(context: Context, name: str, model: str, minutes: float, episodes: int, every: float) -> None:
    """Train for so long, note every evaluation, then run the benchmark on the best model and keep it."""
    folder = context.scratch / name
    validate, goals = (2, 2) if context.dry else (30, 100)
    made = trainer(
        context, model, folder, episodes, validate=validate, minutes=minutes, evaluate_every_minutes=every
    )

    def log(row: dict[str, Any]) -> None:
        if "success" in row:
            low, high = row["interval"]
            figure = f"{row['success']:.0%} ({low:.0%}–{high:.0%}) of {validate}, step {row['step']}"
            context.note(f"{model}, validation after {row['minutes']:.1f} minutes", figure)

    made.log = log
    done = made.fit()
    size = made.world_model.config.image_size
    agent = Agent.from_pretrained(folder, device=context.device)
    pairs_ = pairs.load("pusht").first(goals)
    maker = partial(envs.make, "pusht", image_size=size)
    result = benchmark.run(agent, maker, pairs_, progress=False, quick=True)
    low, high = result["interval"]
    context.note(
        f"{model}, trained for {done['minutes']:.1f} minutes, {done['steps']} steps",
        f"{result['success']:.0%} ({low:.0%}–{high:.0%}) of {goals} goals",
        "≥ 95 %" if model == "small" else "",
    )
    if model == "lewm":  # half the size, and read as it is
        world_model, info = checkpoint.load(folder)
        checkpoint.save(world_model.bfloat16(), folder, planner=info["planner"], training=info["training"])
    keep(context, folder, name, (*(path.name for path in checkpoint.files(folder)), "metrics.jsonl"))


def pusht(context: Context, minutes: float) -> None:
    success(context, f"pusht-{minutes:g}", "small", minutes, 2000, every=10.0)


def lewm(context: Context) -> None:
    minutes = max(1.0, (context.left - 60) / 60)
    success(context, "lewm", "lewm", minutes, 500, every=1.0)
