"""Making sure of tensors that others give."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .config import PlanError


def checked_tensor(name: str, given: Any, axes: str, sizes: tuple[int | None, ...], otherwise: str) -> Tensor:
    """`given`, a finite tensor of these sizes, where None is any; PlanError otherwise.

    axes: what they are called, as in "problems, steps, block".   otherwise: what to do instead of giving NaN.
    """
    shape = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
    if not isinstance(given, Tensor) or not (
        given.ndim == len(sizes) and all(want in (None, have) for want, have in zip(sizes, given.shape))
    ):
        wanted = ", ".join("any" if size is None else str(size) for size in sizes)
        raise PlanError(f"{name} must be a tensor of shape ({axes}) = ({wanted}), not {shape}.")
    if not given.isfinite().all():
        raise PlanError(f"The values of {name} are not finite: {otherwise} instead.")
    return given
