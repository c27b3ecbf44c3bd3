"""The precision in which plans are imagined: as asked, or on a CPU the quickest, which is measured."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from .device import planning_precisions
from .int8 import with_int8_predictor
from .threads import at_most
from .world_model import WorldModel

log = logging.getLogger(__name__)

ROUNDS = 3  # of a measurement; the first warms up
WORTH = 0.9  # another precision must need at most this share of the time of float32


class Precision:
    """Rolls a world model out in one of the precisions that a name such as "auto" allows on a device.

    One may serve several agents of the same world model, whose weights must not change: int8 keeps its own.
    timer: in seconds.   PlanError for what the device cannot do.
    """

    def __init__(
        self,
        wanted: str,
        world_model: WorldModel,
        device: torch.device,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.world_model, self.device, self.timer = world_model, device, timer
        self.choices = planning_precisions(wanted, device)
        self.used = self.choices[0]
        self.seconds: dict[str, float] = {}  # of a trial, by precision
        self._int8: WorldModel | None = None

    def choose(self, work: Callable[[], Any]) -> None:
        """Where there is a choice, settle on the quickest, once. work: a part of what a plan computes."""
        if len(self.choices) == 1 or self.seconds:
            return
        spent: dict[str, list[float]] = {name: [] for name in self.choices}
        with at_most(1):  # in turns, so that what else runs disturbs all alike
            for _ in range(ROUNDS):
                for self.used, own in spent.items():
                    started = self.timer()
                    work()
                    own.append(self.timer() - started)
        self.seconds = {name: min(own[1:]) for name, own in spent.items()}
        best = min(self.seconds, key=lambda name: self.seconds[name])
        self.used = best if self.seconds[best] < WORTH * self.seconds["float32"] else "float32"
        log.info("plans are imagined in %s", self)

    def rollout(self, latents: Tensor, candidates: Tensor, past: Tensor | None) -> Tensor:
        """As WorldModel.rollout. With gradients, int8 is float32."""
        if self.used == "int8" and not torch.is_grad_enabled():
            if self._int8 is None:
                self._int8 = with_int8_predictor(self.world_model)
            return self._int8.rollout(latents, candidates, past)
        half = self.used == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext():
            return self.world_model.rollout(latents, candidates, past)

    def __str__(self) -> str:
        trials = ", ".join(f"{name} {1000 * seconds:.1f} ms" for name, seconds in self.seconds.items())
        return f"{self.used} (trials: {trials})" if trials else self.used
