"""Where and how exactly to compute: the device and the precision that a name such as "auto" stands for."""

from __future__ import annotations

import torch

from latent_planner.planners import PlanError

PRECISIONS = ("auto", "float32", "bfloat16")
PLANNING_PRECISIONS = (*PRECISIONS, "int8")


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
        return "bfloat16" if _has("avx512_bf16", "amx_tile") else "float32"
    return "float32"


def planning_precisions(wanted: str, device: torch.device) -> tuple[str, ...]:
    """What plans may be computed in, float32 or the only one first. For `auto` on a CPU those that it has
    instructions for: which is quickest has to be measured. PlanError for int8 elsewhere than on a CPU."""
    if wanted == "int8" and (device.type != "cpu" or not has_int8()):
        raise PlanError("precision=int8 is for CPUs that torch can compute it on: choose auto or float32.")
    if wanted != "auto" or device.type != "cpu":
        return (choose_precision(wanted, device),)
    int8 = ("int8",) if _has("vnni", "avx512_vnni") and has_int8() else ()
    return tuple(dict.fromkeys(("float32", choose_precision("auto", device), *int8)))


def has_int8() -> bool:
    """Whether torch can compute with 8-bit whole numbers on this CPU, at whatever speed."""
    there = hasattr(torch, "quantize_per_channel") and hasattr(torch.ops.quantized, "linear_dynamic")
    return there and "onednn" in torch.backends.quantized.supported_engines


def _has(*instructions: str) -> bool:
    """Whether torch finds one of these sets of instructions in this CPU."""
    asked = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in instructions)
    return any(supported() for supported in asked if supported)
