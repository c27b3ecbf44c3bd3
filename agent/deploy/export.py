"""Export a checkpoint as ONNX or torch.export, to plan without this project (C++, TensorRT, a robot).

    latent-planner export pusht --format onnx --out exported            # or torch-export, for torch alone

writes encoder, rollout step, whole rollout, the proposer if there is one, and `model.json` with everything
else: shapes, normalisation, bounds, context, how to search, and numbers to check against. Everything written
is read back and compared with torch first; nothing is left where it differs. `examples/onnx_planner.py` plans
with it.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latent_planner.common.commands import in_words
from latent_planner.common.files import blame
from latent_planner.common.progress import Bar

from ..checkpoints import checkpoint
from ..checkpoints.checkpoint import CheckpointError
from ..evaluation.provenance import versions, write_json
from ..model.senses import VECTOR
from ..model.world_model import WorldModel, WorldModelConfig
from . import export_graphs
from .export_graphs import FORMATS, TOLERANCE, Graph

DESCRIPTION = "model.json"
VERSION = 1
RESIZED = {True: "bilinear with antialiasing", False: "the mean of what each pixel covers"}  # a ViT's; others
NEEDED = ("onnx", "onnxscript", "onnxruntime")  # for the format onnx
# The frame that the numbers under "check" are of: easy to make anywhere, and unlike any other when turned.
CHECK_FRAME = "pixels[y][x][channel] = (7*y + 3*x + 85*channel) mod 256"


class ExportError(ValueError):
    """A model cannot be exported; the message says why and what to do."""


def export(
    world_model: WorldModel, info: Mapping[str, Any], out: str | Path, format: str = "onnx"
) -> dict[str, Any]:
    """Write the folder `out`, new or empty, whole or not at all; returns what DESCRIPTION holds.

    world_model, info: as `checkpoint.load` gives them.   format: one of FORMATS.
    Raises ExportError for what cannot be exported, a missing package, a folder in use, and graphs that give
    other numbers than torch; OSError where nothing can be written.
    """
    out = Path(out)
    if format not in FORMATS:
        raise ExportError(f"Unknown format {format!r}: choose from {', '.join(FORMATS)}.")
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None] if format == "onnx" else []
    if missing:
        raise ExportError(f"{', '.join(missing)} is not installed: pip install 'latent-planner[export]'.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} is there already: choose another folder.")
    if made_of := world_model.config.action_space:
        raise ExportError(
            f"Actions of this model are {made_of}, and only numbers can be exported: use Agent."
        )
    world_model = world_model.to("cpu").eval()
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f"{out.name}.tmp-", dir=out.parent))
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            horizon = checkpoint.agent_settings(info["planner"]).plan_config.horizon
            graphs = _write_graphs(world_model, horizon, beside, format)
            description = _description(world_model, info, format, graphs)
        write_json(beside / DESCRIPTION, description)
        os.chmod(beside, 0o777 & ~_umask())
        with suppress(FileNotFoundError):
            out.rmdir()
        os.replace(beside, out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return description


def _write_graphs(
    world_model: WorldModel, horizon: int, folder: Path, format: str
) -> dict[str, dict[str, Any]]:
    """Write and compare every graph: what DESCRIPTION says of each. ExportError."""
    written = {}
    graphs = list(export_graphs.graphs_of(world_model, horizon))
    for graph in Bar(graphs, desc="exporting", unit=" networks", leave=False, delay=2):
        path = folder / f"{graph.name}{FORMATS[format]}"
        try:
            export_graphs.write(graph, path)
            run = export_graphs.read(path)
            difference = export_graphs.differences(graph, run)
            if graph.name == "step":  # also one after the other, as a planner calls it
                far = export_graphs.window(world_model.config) + 2
                imagined = export_graphs.imagined_difference(world_model, run, far)
                difference = max(difference, imagined)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # torch and ONNX raise nearly every type on what they cannot do
            reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
            raise ExportError(
                f"The {graph.name} of this checkpoint cannot be exported as {format} "
                f"({reason.strip()[:200]}): try another format."
            ) from error
        if difference > TOLERANCE:
            raise ExportError(
                f"The {graph.name} exported as {format} gives other numbers than torch (they differ by "
                f"{difference:.2g} of the largest), so nothing was written: try another format."
            )
        written[graph.name] = _about(graph, path, difference)
    return written


def _about(graph: Graph, path: Path, difference: float) -> dict[str, Any]:
    name, shape = graph.output
    return {
        "file": path.name,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "inputs": [
            {"name": name, "dtype": dtype, "shape": list(shape)}
            for name, (dtype, shape) in graph.inputs.items()
        ],
        "output": {"name": name, "dtype": "float32", "shape": list(shape)},
        "largest": graph.largest,
        "difference_to_torch": float(f"{difference:.2g}"),
    }


def _description(
    world_model: WorldModel, info: Mapping[str, Any], format: str, graphs: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """Everything that a planner elsewhere has to know, as plain values."""
    config = world_model.config
    return {
        "format": "latent-planner-export",
        "version": VERSION,
        "checkpoint_sha256": info["sha256"],
        "written_with": versions(),
        "graphs_as": format,
        "graphs": graphs,
        "env": config.env,
        "pixels": {
            "size": config.image_size,
            "order": "batch, rows from the top, columns, RGB",
            "resize": f"a frame of another size: {RESIZED[config.encoder == 'vit']}, to size x size",
            "normalised_inside": True,
            "mean": list(config.pixel_mean),
            "std": list(config.pixel_std),
            "of": "pixels / 255",
        },
        "latent_dim": config.latent_dim,
        **_senses(config),
        "actions": {
            "size": config.action_dim,
            "frameskip": config.frameskip,
            "block": "frameskip actions in the order of time, end to end, each (action - mean) / std",
            "mean": list(config.action_mean),
            "std": list(config.action_std),
            "low": list(config.action_low),
            "high": list(config.action_high),
            "block_low": list(config.block_low),
            "block_high": list(config.block_high),
        },
        "control_hz": config.control_hz,
        "context_len": config.context_len,
        "window": export_graphs.window(config),
        "imagine": "from one frame, rollout; from several, step: append next_latent to latents and the next "
        "block to blocks, and give it the last `window` of each",
        "proposals": {"guesses": config.proposals, "longest": config.proposal_steps},
        "planner": checkpoint.agent_settings(info["planner"]).to_dict(),
        "check": _check(world_model),
    }


def _senses(config: WorldModelConfig) -> dict[str, Any]:
    """What a planner has to know of several cameras and the vector; nothing of one camera."""
    if not config.several:
        return {}
    return {
        "cameras": list(config.cameras),
        "proprio": list(config.proprio),
        "parts": {name: [part.start, part.stop] for name, part in config.parts.items()},
        "shown": "1 for each input of the encoder that is there, in the order of parts, else 0; the latent "
        "of what is missing is 0 in its part, and a goal counts only in the parts of what it shows",
    }


@torch.no_grad()
def _check(world_model: WorldModel) -> dict[str, Any]:
    """Numbers that an own program can compare with."""
    config = world_model.config
    y, x, channel = np.ogrid[: config.image_size, : config.image_size, :3]
    pixels = torch.from_numpy(((7 * y + 3 * x + 85 * channel) % 256).astype(np.uint8))
    frame = pixels.permute(2, 0, 1)[None, None]
    seen: Any = {name: frame for name in config.cameras} or frame
    if config.proprio:
        seen[VECTOR] = torch.tensor(config.proprio_mean)[None, None]
    latent = world_model.encode(seen)
    following = world_model.predict(latent, torch.zeros(1, 1, config.block_dim))
    return {
        "pixels": CHECK_FRAME,
        **({"proprio": list(config.proprio_mean)} if config.proprio else {}),
        "latent": [float(f"{value:.6g}") for value in latent.flatten().tolist()],
        "next_latent_under_a_block_of_zeros": [float(f"{v:.6g}") for v in following.flatten().tolist()],
    }


def _umask() -> int:
    """Which rights new folders do not get: a temporary folder has fewer."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="latent-planner export",
        description="Write a checkpoint's networks for programs without this one.",
    )
    add = parser.add_argument
    add("checkpoint", help="a run folder, a bundled name such as pusht, or hf://owner/name")
    add("--format", choices=list(FORMATS), default="onnx", help="default onnx")
    add("--out", required=True, type=Path, help="folder to write, new or empty")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """The command line. Returns 0, 2 on a user error, 130 after Ctrl-C."""
    args = _arguments(words)
    with in_words(ExportError, CheckpointError, system_error=_another_place) as outcome:
        print(f"exporting {args.checkpoint} as {args.format}, each network compared with torch", flush=True)
        description = export(*checkpoint.load(args.checkpoint), args.out, args.format)
    if outcome.code:
        return outcome.code
    for name, about in description["graphs"].items():
        ins = ", ".join(f"{put['name']} {tuple(put['shape'])}" for put in about["inputs"])
        off = about["difference_to_torch"]
        print(f"{args.out / about['file']}: {name}, {ins}; differs from torch by {off:.0e} at most")
    print(f"{args.out / DESCRIPTION}: shapes, normalisation, bounds, how to search, numbers to check against")
    return 0


def _another_place(error: OSError) -> str:
    return f"{blame(error)}; choose another place with --out"
