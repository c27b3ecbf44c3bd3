"""What happens when the processes of one training no longer reach each other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch.distributed as dist
from accelerate.utils import DistributedType

from .run_state import TrainingError

# what gloo, NCCL and the store through which processes find each other say
SIGNS = re.compile(
    r"connection (closed|reset|refused)|broken pipe|timed out|socket|remote process|peer|nccl|gloo",
    re.IGNORECASE,
)
SHORT = re.compile(r"connection (closed|reset|refused)[^\[\n]*|broken pipe|timed out", re.IGNORECASE)


def check_kind(kind: DistributedType) -> None:
    """TrainingError for what Accelerate may be configured for and this training cannot do."""
    known = (DistributedType.NO, DistributedType.FSDP)
    if kind not in known and not kind.value.startswith("MULTI_"):
        raise TrainingError(
            f"Accelerate is configured for {kind.value}: choose plain multi-CPU or multi-GPU training, or "
            "FSDP, with `accelerate config`, or launch with torchrun"
        )


@contextmanager
def others_may_go(processes: int, run_dir: Path) -> Iterator[None]:
    """TrainingError in place of what torch raises when another process or its machine is gone."""
    try:
        yield
    except RuntimeError as error:
        reason = lost_connection(error) if processes > 1 else None
        if reason is None:
            raise
        raise TrainingError(
            f"another process of this training is gone, or its machine ({reason}): go on from what was "
            f"saved, with as many processes as you like, by resume={run_dir}"
        ) from error


def lost_connection(error: RuntimeError) -> str | None:
    """Why the connection is lost, in a few words; None for any other error."""
    text = str(error)
    if not isinstance(error, dist.DistError) and not SIGNS.search(text):
        return None
    found = SHORT.search(text)
    return found[0].strip().rstrip(".").lower() if found else "the connection is lost"
