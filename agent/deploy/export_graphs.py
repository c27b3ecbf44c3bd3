"""The parts of a world model as graphs that run without this program: what goes in and out, and writing them.

    encoder    pixels uint8 (batch, S, S, 3)                       -> latent (batch, D)
               of several cameras: NAME uint8 (batch, S, S, 3) for each, proprio (batch, P) if there is one,
               and shown (batch, senses)
    step       latents (batch, time, D), blocks (batch, time, F·A) -> next_latent (batch, D)
    rollout    latent (batch, D), candidates (batch, H, F·A)       -> path (batch, H, D)
    proposer   latent, goal (batch, D), steps int64 (batch,)       -> blocks (batch, guesses, longest, F·A)

Pixels are normalised inside the encoder; blocks are normalised everywhere, as a planner searches over them.
`rollout` is `step` H times from one frame, nothing computed twice; `step` also starts from several frames.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from latent_planner.common.files import write_bytes

from ..model.senses import VECTOR
from ..model.world_model import WorldModel, WorldModelConfig

FORMATS = {"onnx": ".onnx", "torch-export": ".pt2"}
OPSET = 18  # the oldest that has what is needed: other programs are slow to follow
TOLERANCE = 1e-4  # of the largest number that comes out; rounding alone stays well below
Run = Callable[..., np.ndarray]  # a written graph: arrays in the order of its inputs -> its output


class Encode(nn.Module):
    """A camera's frames to latents."""

    def __init__(self, world_model: WorldModel) -> None:
        super().__init__()
        self.world_model = world_model

    def forward(self, pixels: Tensor) -> Tensor:
        return self.world_model.encode(pixels.permute(0, 3, 1, 2)[:, None])[:, 0]


class EncodeSenses(nn.Module):
    """What several cameras and the vector show, to latents; parts of what is not shown are 0."""

    spread: Tensor  # (senses, D)

    def __init__(self, world_model: WorldModel) -> None:
        super().__init__()
        self.world_model, self.names = world_model, tuple(world_model.config.parts)
        sizes = torch.tensor([part.stop - part.start for part in world_model.config.parts.values()])
        which = torch.arange(len(sizes)).repeat_interleave(sizes)
        self.register_buffer("spread", nn.functional.one_hot(which, len(sizes)).T.float(), persistent=False)

    def forward(self, *given: Tensor) -> Tensor:
        *views, shown = given
        seen = {
            name: view[:, None] if name == VECTOR else view.permute(0, 3, 1, 2)[:, None]
            for name, view in zip(self.names, views)
        }
        return self.world_model.encode(seen)[:, 0] * (shown @ self.spread)


class Step(nn.Module):
    """The latent that follows the last of some."""

    def __init__(self, world_model: WorldModel) -> None:
        super().__init__()
        self.world_model = world_model

    def forward(self, latents: Tensor, blocks: Tensor) -> Tensor:
        return self.world_model.predict(latents, blocks)[:, -1]


class Rollout(nn.Module):
    """The latents that follow one under blocks, each fed back."""

    def __init__(self, world_model: WorldModel) -> None:
        super().__init__()
        self.predictor = world_model.predictor

    def forward(self, latent: Tensor, candidates: Tensor) -> Tensor:
        nothing = candidates[:, :0]  # before the first frame
        return self.predictor.rollout(latent[:, None], nothing, candidates[:, None])[:, 0]


class Propose(nn.Module):
    """Guesses of the blocks that lead from one latent to another in so many steps."""

    def __init__(self, proposer: nn.Module) -> None:
        super().__init__()
        self.proposer = proposer

    def forward(self, latent: Tensor, goal: Tensor, steps: Tensor) -> Tensor:
        return self.proposer(latent, goal, steps)


@dataclass(frozen=True)
class Graph:
    """One of them. inputs: name -> (dtype, shape); in a shape, a word is a size that may change."""

    name: str
    module: nn.Module
    inputs: dict[str, tuple[str, tuple[int | str, ...]]]
    output: tuple[str, tuple[int | str, ...]]
    largest: dict[str, int]  # of the sizes called by a word, where there is a limit
    below: int = 256  # exclusive upper bound for integer inputs

    def example(self, **sizes: int) -> tuple[Tensor, ...]:
        """Random inputs with these sizes for the words."""
        made = []
        for dtype, words in self.inputs.values():
            shape = tuple(sizes[word] if isinstance(word, str) else word for word in words)
            least = int(dtype == "int64")
            whole = torch.randint(least, self.below, shape).to(getattr(torch, dtype))
            made.append(torch.randn(shape) if dtype == "float32" else whole)
        return tuple(made)

    def sizes(self) -> Iterator[dict[str, int]]:
        """Sizes to compare at: one, and some; every number of frames."""
        words = {word for _, shape in self.inputs.values() for word in shape if isinstance(word, str)}
        for batch in (1, 3):
            for time in range(1, self.largest["time"] + 1) if "time" in words else (1,):
                yield {"batch": batch, "time": time}


def window(config: WorldModelConfig) -> int:
    """How many latents back the next one can depend on: the most frames that `step` takes."""
    if config.predictor == "lewm":
        return config.context_len
    return 1 + config.predictor_depth * (config.context_len - 1)


def graphs_of(world_model: WorldModel, horizon: int) -> list[Graph]:
    """encoder, step, rollout over the horizon, and the proposer where the model has one."""
    config = world_model.config
    size, latent, block, time = config.image_size, config.latent_dim, config.block_dim, window(config)
    frame: tuple[str, tuple[int | str, ...]] = ("uint8", ("batch", size, size, 3))
    inputs = {name: frame for name in config.cameras} or {"pixels": frame}
    if config.proprio:
        inputs[VECTOR] = ("float32", ("batch", len(config.proprio)))
    if config.several:
        inputs["shown"] = ("float32", ("batch", len(config.parts)))
    encode = EncodeSenses(world_model) if config.several else Encode(world_model)
    found = [
        Graph("encoder", encode, inputs, ("latent", ("batch", latent)), {}),
        Graph(
            "step",
            Step(world_model),
            {
                "latents": ("float32", ("batch", "time", latent)),
                "blocks": ("float32", ("batch", "time", block)),
            },
            ("next_latent", ("batch", latent)),
            {"time": time},
        ),
        Graph(
            "rollout",
            Rollout(world_model),
            {
                "latent": ("float32", ("batch", latent)),
                "candidates": ("float32", ("batch", horizon, block)),
            },
            ("path", ("batch", horizon, latent)),
            {},
        ),
    ]
    if world_model.proposer is not None:
        found.append(
            Graph(
                "proposer",
                Propose(world_model.proposer),
                {
                    "latent": ("float32", ("batch", latent)),
                    "goal": ("float32", ("batch", latent)),
                    "steps": ("int64", ("batch",)),
                },
                ("blocks", ("batch", config.proposals, config.proposal_steps, block)),
                {},
                below=config.proposal_steps + 1,
            )
        )
    return found


@torch.no_grad()
def write(graph: Graph, path: Path) -> None:
    """Write it in the format that the name's ending stands for. Raises whatever torch does."""
    example = graph.example(batch=2, time=min(2, graph.largest.get("time", 2)))
    dims = {
        word: torch.export.Dim(word, min=1, max=graph.largest.get(word, 2**20))
        for _, shape in graph.inputs.values()
        for word in shape
        if isinstance(word, str) and graph.largest.get(word) != 1
    }
    changing: dict[str, Any] = {
        name: {axis: dims[word] for axis, word in enumerate(shape) if word in dims}
        for name, (_, shape) in graph.inputs.items()
    }
    if isinstance(graph.module, EncodeSenses):  # which takes as many as there are
        changing = {"given": tuple(changing.values())}
    with _quiet():
        if path.suffix == FORMATS["torch-export"]:
            program = torch.export.export(graph.module, example, dynamic_shapes=changing, strict=False)
            held = io.BytesIO()  # torch's own writer ends the process on a full disk
            torch.export.save(program, held)
            write_bytes(path, held.getvalue())
            return
        torch.onnx.export(
            graph.module,
            example,
            str(path),
            input_names=list(graph.inputs),
            output_names=[graph.output[0]],
            dynamic_shapes=changing,
            opset_version=OPSET,
            external_data=False,
            dynamo=True,
            verbose=False,
        )


def read(path: Path) -> Run:
    """A written graph, on the CPU."""
    if path.suffix == FORMATS["torch-export"]:
        module = torch.export.load(path).module()
        return lambda *arrays: module(*(torch.from_numpy(array) for array in arrays)).detach().numpy()
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [put.name for put in session.get_inputs()]
    return lambda *arrays: np.asarray(session.run(None, dict(zip(names, arrays)))[0])


@torch.no_grad()
def differences(graph: Graph, run: Run) -> float:
    """The largest difference to torch over all sizes, as a share of the largest number that came out."""
    worst = 0.0
    for sizes in graph.sizes():
        example = graph.example(**sizes)
        worst = max(worst, _difference(run(*(given.numpy() for given in example)), graph.module(*example)))
    return worst


@torch.no_grad()
def imagined_difference(world_model: WorldModel, step: Run, horizon: int) -> float:
    """The same for whole imagined paths, `step` by step, beside those of the planner here."""
    config = world_model.config
    longest = window(config)
    latents = torch.randn(1, config.context_len, config.latent_dim)
    past = torch.randn(1, config.context_len - 1, config.block_dim)
    candidates = torch.randn(1, 4, horizon, config.block_dim)
    wanted = world_model.rollout(latents, candidates, past)[0]
    path = list(latents.expand(4, -1, -1).unbind(1))
    blocks = [*past.expand(4, -1, -1).unbind(1), *candidates[0].unbind(1)]
    for h in range(horizon):
        end = config.context_len + h
        seen = [torch.stack(some[max(0, end - longest) : end], 1).numpy() for some in (path, blocks)]
        path.append(torch.from_numpy(step(*seen)))
    return _difference(torch.stack(path[config.context_len :], 1).numpy(), wanted[:, 1:])


def _difference(got: np.ndarray, wanted: Tensor) -> float:
    if got.shape != tuple(wanted.shape):
        return float("inf")
    largest = float(np.abs(got - wanted.numpy()).max() / (1 + wanted.abs().max()))
    return largest if np.isfinite(largest) else float("inf")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch has to say about libraries that are not needed here."""
    loggers: Sequence[Any] = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        for logger, level in zip(loggers, levels):
            logger.setLevel(level)
