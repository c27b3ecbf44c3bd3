"""Learning the landmarks of a model whose other parts are done: which they are, and what a leg leaves.

Nothing is labelled: the model imagines its own proposals between pairs of recorded latents.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..model.landmarks import Landmarks, imagine_proposals
from ..model.world_model import WorldModel
from .dataset import ENCODED_AT_ONCE, WindowDataset, in_each

logger = logging.getLogger(__name__)

PAIRS = 24_000  # of latents, between which plans are imagined
FARTHEST = 12  # model steps between two latents of one episode; half of the pairs are of two episodes
TRUSTED = 0.75  # share of the pairs one plan apart that leave at most the trusted distance
PAIRS_A_STEP = 8  # so that few pairs are not learned by heart
STEPS, BATCH, LEARNING_RATE, WEIGHT_DECAY = 3000, 256, 2e-3, 1e-2
IMAGINED_AT_ONCE = 256  # pairs


def learn_landmarks(
    world_model: WorldModel,
    dataset: WindowDataset,
    *,
    pairs: int = PAIRS,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, float]:
    """Choose the landmarks of world_model (in place) among the recording's latents and learn what legs leave.

    pairs: how many pairs of latents to imagine plans between.

    Returns {"trust", "r2"}: the trusted squared distance, and how well the network explains pairs that it has
    not learned from. Does nothing for a model without landmarks or without a proposer: {}.
    """
    landmarks = world_model.landmarks
    if landmarks is None or world_model.proposer is None:
        return {}
    rng = np.random.default_rng([seed, 0x1A4D])
    device = next(world_model.parameters()).device
    world_model.eval()
    with torch.no_grad():
        rows = rng.choice(dataset.origins["train"], size=len(landmarks.latents))
        landmarks.latents.copy_(encode_rows(world_model, dataset, rows))
        starts, ends, apart = _pairs(dataset, pairs, rng)
        here, there = (encode_rows(world_model, dataset, some) for some in (starts, ends))
        left = torch.cat([
            leg_leaves(world_model, a, b)
            for a, b in tqdm(
                zip(here.split(IMAGINED_AT_ONCE), there.split(IMAGINED_AT_ONCE)),
                total=-(-pairs // IMAGINED_AT_ONCE), desc="imagining legs", disable=not progress,
            )
        ])  # fmt: skip
        near = torch.from_numpy((apart > 0) & (apart <= world_model.proposer.longest)).to(device)
        trust = torch.quantile(left[near] if near.any() else left, TRUSTED).clamp(min=1e-6)
    r2 = _fit(landmarks, here, there, torch.log1p(left), seed)
    landmarks.trust.fill_(trust)
    landmarks.forget_table()
    found = {"trust": float(trust), "r2": r2}
    logger.info("landmarks: a leg is trusted to within %.2f; the network explains %.0f %%", trust, 100 * r2)
    return found


@torch.no_grad()
def leg_leaves(world_model: WorldModel, latents: Tensor, goals: Tensor) -> Tensor:
    """(B, D), (B, D) -> (B,): the squared distance to goals that the best proposed plan leaves on its way."""
    proposer = world_model.proposer
    assert proposer is not None
    _, path = imagine_proposals(world_model, latents, goals, proposer.leg_steps)
    return (path[:, :, 1:] - goals[:, None, None]).float().square().sum(-1).amin((1, 2))


def _pairs(
    dataset: WindowDataset, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recorded rows, and how many model steps lie between them (0: two episodes)."""
    rows = dataset.rows["train"]
    starts, others = rng.choice(rows, size=count), rng.choice(rows, size=count)
    farthest = np.minimum(dataset.steps_left[starts] // dataset.frameskip, FARTHEST)
    apart = np.where(rng.random(count) < 0.5, (rng.random(count) * (farthest + 1)).astype(np.int64), 0)
    ends = np.where(apart > 0, starts + dataset.frameskip * apart, others)
    return starts, ends, apart


@torch.no_grad()
def encode_rows(world_model: WorldModel, dataset: WindowDataset, rows: np.ndarray) -> Tensor:
    """Latents (n, D) of recorded rows."""
    device = next(world_model.parameters()).device
    parts = []
    for first in range(0, len(rows), ENCODED_AT_ONCE):
        pixels = dataset.look(rows[first : first + ENCODED_AT_ONCE])
        parts.append(world_model.encode(in_each(pixels, lambda some: some[:, None].to(device)))[:, 0].float())
    return torch.cat(parts)


def _fit(landmarks: Landmarks, here: Tensor, there: Tensor, target: Tensor, seed: int) -> float:
    """Regress target (n,) on pairs of latents; returns R² on a tenth that is held out."""
    generator = torch.Generator().manual_seed(seed)
    held_out, steps = max(1, len(target) // 10), max(1, min(STEPS, len(target) // PAIRS_A_STEP))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for layer in landmarks.layers:
            if isinstance(layer, torch.nn.Linear):
                layer.reset_parameters()
    layers = landmarks.layers.requires_grad_(True)
    optimizer = torch.optim.AdamW(layers.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    with torch.enable_grad():
        for _ in range(steps):
            which = torch.randint(held_out, len(target), (BATCH,), generator=generator).to(target.device)
            error = landmarks(here[which], there[which]) - target[which]
            optimizer.zero_grad()
            error.square().mean().backward()
            optimizer.step()
            schedule.step()
    layers.requires_grad_(False)
    with torch.no_grad():
        error = landmarks(here[:held_out], there[:held_out]) - target[:held_out]
        spread = target[:held_out].var(correction=0).clamp(min=1e-12)
        return float(1 - error.square().mean() / spread)
