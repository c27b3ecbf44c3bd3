"""What the benchmarks share that train and test into one folder, and go on where they were stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("WANDB_MODE", "disabled")

from latent_planner.cli import plan, train  # noqa: E402

SMALL = [  # a model of nothing
    "model.latent_dim=24", "model.projector_dim=32", "model.encoder_width=8", "model.predictor_width=32",
    "model.predictor_depth=1", "model.predictor_heads=2", "model.predictor_head_dim=16",
    "model.predictor_mlp_dim=32", "train.batch_size=8", "train.steps=4", "model.image_size=32",
    "planner.num_samples=8", "planner.num_elites=2", "planner.iterations=1",
]  # fmt: skip


def trained(run: Path, words: Sequence[str]) -> Path:
    """This run folder, trained to its end with these words of train.py."""
    if not (run / "trained").exists():
        fresh = ["wandb.mode=disabled", "benchmark.pairs=0", f"out={run}", *words]
        if code := train.main([f"resume={run}"] if (run / "train.yaml").exists() else fresh):
            raise SystemExit(code)
        (run / "trained").touch()
    return run


def tested(run: Path, out: Path, words: Sequence[str]) -> dict[str, Any]:
    """What the benchmark says of this run with these words of plan.py; it is kept in `out`."""
    if not (out / "benchmark.json").exists():
        if code := plan.main(["--benchmark", "--checkpoint", str(run), "--out", str(out), *words]):
            raise SystemExit(code)
    found: dict[str, Any] = json.loads((out / "benchmark.json").read_text())
    return found
