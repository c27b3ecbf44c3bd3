"""Learning from some episodes with actions what was done in all others: an inverse model of single steps.

The encoder is done: it has learned from frames alone, all of them. A small network learns from the episodes
with actions which action lies between two frames, by the latents of the frame before them, of the two, and of
the frame after. It then says so of all the others, and the recording is one with actions like any other.
"""

from __future__ import annotations

import logging
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from latent_planner.common.progress import Bar

from ...model.action_code import ActionCode
from ..dataset import WindowDataset
from ..optimization import learning_rate_scale, make_optimizer

logger = logging.getLogger(__name__)

AROUND = (-1, 0, 1, 2)  # frames, from the one that the action follows
STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY, WARMUP = 2000, 256, 2e-3, 1e-2, 0.05
WIDTH, DROPOUT = 512, 0.1
AT_ONCE = 8192  # rows
SAMPLE = 4096  # rows with actions by whose latents the input is scaled


class Labeller:
    """Says of every row of a recording which action was taken there.

    dataset  the episodes with actions, after `encode_frames`, which holds the latents of all rows
    lengths, offsets   (E,) of all episodes
    low, high   (A,) bounds of the actions, in environment units

    explained: after `learn`, the share of the variance of the actions that it explains in held-out episodes.
    """

    def __init__(
        self,
        dataset: WindowDataset,
        lengths: np.ndarray,
        offsets: np.ndarray,
        *,
        low: np.ndarray,
        high: np.ndarray,
        steps: int = STEPS,
        seed: int = 0,
        progress: bool = True,
    ) -> None:
        assert dataset.latents is not None
        self.dataset, self.low, self.high = dataset, low, high
        self.steps, self.seed, self.progress = steps, seed, progress
        self.latents: Tensor = dataset.latents
        rows = np.arange(len(self.latents))
        self.first, self.last = rows.copy(), rows.copy()  # of the episode that a row is in
        for start, length in zip(offsets.tolist(), lengths.tolist()):
            self.first[start : start + length], self.last[start : start + length] = start, start + length - 1
        self.code = ActionCode(dataset.space, dataset.action_mean, dataset.action_std)
        self.known = {split: some[dataset.steps_left[some] > 0] for split, some in dataset.rows.items()}
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = nn.Sequential(
                nn.Linear(len(AROUND) * self.latents.shape[1], WIDTH), nn.SiLU(), nn.Dropout(DROPOUT),
                nn.Linear(WIDTH, WIDTH), nn.SiLU(), nn.Dropout(DROPOUT),
                nn.Linear(WIDTH, dataset.actions.shape[1]),
            )  # fmt: skip
        self.net.to(dataset.device)
        some = self._changes(np.random.default_rng(seed).permutation(self.known["train"])[:SAMPLE])
        self.mean, self.std = some.mean(0), some.std(0, correction=0).clamp(min=1e-6)
        self.explained = math.nan

    def learn(self) -> np.ndarray:
        """(N, A) actions of all rows, as the network gives them: in environment units, inside the bounds."""
        rows = self.known["train"]
        optimizer = make_optimizer(self.net, learning_rate=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        bar = Bar(total=self.steps, desc="inverse model", delay=2, disable=not self.progress)
        self.net.train()
        with torch.random.fork_rng(), torch.enable_grad(), bar:
            torch.manual_seed(self.seed)
            for step in range(self.steps):
                for group in optimizer.param_groups:
                    group["lr"] = LEARNING_RATE * learning_rate_scale((step + 0.5) / self.steps, WARMUP)
                rng = np.random.default_rng([self.seed, 0x1ABE, step])
                chosen = rows[rng.integers(len(rows), size=BATCH)]
                loss = F.mse_loss(self.net(self._seen(chosen)), self._actions(chosen))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                bar.update(1)
        self.net.eval()
        held_out = self.known["held_out"]
        error = (self._said(held_out) - self._actions(held_out)).square().mean()
        spread = self._actions(held_out).var(0, correction=0).mean()
        self.explained = float(1 - error / spread) if spread > 0 else math.nan
        found = self.code.decode(self._said(np.arange(len(self.latents)))).double().cpu().numpy()
        return np.clip(found, self.low, self.high)

    @torch.no_grad()
    def _said(self, rows: np.ndarray) -> Tensor:
        """(n, E) normalised actions that the network gives for these rows."""
        parts = np.split(rows, range(AT_ONCE, len(rows), AT_ONCE))
        return torch.cat([self.net(self._seen(some)) for some in parts])

    def _seen(self, rows: np.ndarray) -> Tensor:
        """(n, 4·D), scaled: what the network sees of these rows."""
        return ((self._changes(rows) - self.mean) / self.std).to(self.dataset.device)

    def _changes(self, rows: np.ndarray) -> Tensor:
        """(n, 4·D): the latent of each row, and the changes from frame to frame around it."""
        around = [
            self.latents[torch.from_numpy(np.clip(rows + k, self.first[rows], self.last[rows]))]
            for k in AROUND
        ]
        changes = [b - a for a, b in zip(around, around[1:])]
        return torch.cat([around[1], *changes], 1)

    def _actions(self, rows: np.ndarray) -> Tensor:
        return self.dataset.actions[torch.from_numpy(rows)].to(self.dataset.device)
