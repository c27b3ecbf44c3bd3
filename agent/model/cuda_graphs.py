"""CUDA graphs: a function recorded once and replayed, so that hundreds of small kernels start as one."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

KEPT = 8  # graphs; a horizon that shrinks needs one for each of its lengths
WARM_UP = 2  # calls before recording, in which libraries set themselves up


@dataclass
class Recording:
    graph: torch.cuda.CUDAGraph
    inputs: list[Tensor | None]  # what the graph reads
    output: Tensor  # what it writes


class Graphed:
    """function(*tensors or None) -> tensor, on CUDA, recorded anew for every combination of shapes.

    Calls that need a gradient are passed on as they are. So are all calls, after one warning, when the
    function cannot be recorded.
    """

    def __init__(self, function: Callable[..., Tensor]) -> None:
        self.function = function
        self._recordings: OrderedDict[tuple[object, ...], Recording] = OrderedDict()
        self._usable = True

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        if torch.is_grad_enabled() or not self._usable:
            return self.function(*inputs)
        key = tuple(None if x is None else (x.shape, x.dtype, x.device) for x in inputs)
        if key not in self._recordings:
            try:
                self._recordings[key] = self._record(inputs)
            except RuntimeError as error:
                self._usable = False
                logger.warning("rollouts run without a CUDA graph, for it could not be recorded: %s", error)
                return self.function(*inputs)
            if len(self._recordings) > KEPT:
                self._recordings.popitem(last=False)
        self._recordings.move_to_end(key)
        recording = self._recordings[key]
        for own, given in zip(recording.inputs, inputs):
            if own is not None and given is not None:
                own.copy_(given)
        recording.graph.replay()
        return recording.output.clone()

    def _record(self, inputs: tuple[Tensor | None, ...]) -> Recording:
        own = [None if x is None else x.clone() for x in inputs]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                self.function(*own)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            output = self.function(*own)
        return Recording(graph, own, output)
