"""The improved cross-entropy method.

Pinneri et al., "Sample-efficient Cross-Entropy Method for Real-time Planning", CoRL 2020 (arXiv 2008.06389).
What it adds to CEM: noise coloured in time; a share of the elites joins the next iteration's candidates;
every iteration draws fewer samples than the one before; the mean is a candidate; the next solve starts from
the shifted mean (`warm_start`, by whoever replans). Its best candidate is what is done, as with all planners
here; its momentum is the config's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from . import noise
from .cem import CEM
from .planner import Search, cheapest


class ICEM(CEM):
    """CEM with coloured noise (`noise_beta`), kept elites and `sample_decay`."""

    def mixing(self, steps: int) -> Tensor | None:
        return noise.coloured(self.config.noise_beta, steps) if self.config.noise_beta else None

    def propose(self, search: Search) -> Tensor:
        cfg = self.config
        fewer = math.ceil(cfg.num_samples / cfg.sample_decay**search.iteration)
        drawn = search.draw(min(cfg.num_samples, max(fewer, 2 * cfg.num_elites)))
        kept = math.ceil(cfg.keep_elites * cfg.num_elites)
        if search.iteration == 0 or kept == 0:
            return drawn
        elites, _ = cheapest(search.candidates, search.cost, kept)
        return torch.cat([drawn, elites], dim=1)
