"""Where and how exactly to compute: the device and the precision that a name such as "auto" stands for."""

from __future__ import annotations

import torch

from latent_planner.planners import PlanError

PRECISIONS = ("auto", "float32", "bfloat16")


def pick_device(device: torch.device | str = "auto") -> torch.device:
    """The device itself, or for "auto" CUDA, else MPS, else the CPU; PlanError if it is not there."""
    if str(device) == "auto":
        device = (
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    try:
        device = torch.device(device)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise PlanError(f"Device {str(device)!r} cannot be used here: choose cpu or auto.") from error
    return device


def choose_precision(wanted: str, device: torch.device) -> str:
    """float32 or bfloat16. `auto` takes bfloat16 on GPUs that have it and on CPUs with instructions for it.

    A CPU without them emulates bfloat16 and is several times slower than in float32.
    """
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type == "cpu":
        fast = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
        return "bfloat16" if any(supported() for supported in fast if supported) else "float32"
    return "float32"
