"""What the latents know: how well the recorded state can be read from them on episodes not trained on.

The state is never shown to the world model; the probes are fitted afterwards, on frozen latents.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..model.world_model import WorldModel
from .dataset import DatasetError, Split, WindowDataset, in_each

FEWEST = 10  # frames in which a quantity must be known
Scores = dict[str, dict[str, float]]


@torch.no_grad()
def probe(
    world_model: WorldModel, dataset: WindowDataset, *, frames: int = 8000, seed: int = 0, mlp: bool = True
) -> Scores:
    """Fit a linear (ridge) and a small MLP probe on training episodes, score them on held-out ones.

    frames  at most so many frames to fit on, and a quarter of it to score on
    Returns {quantity: {"linear_r2", "linear_r", "mlp_r2", "mlp_r"}}: r2 is the share of the variance that is
    explained, r the correlation. An angle becomes <name>_sin and <name>_cos; what does not vary is left out.
    Where a quantity is not a finite number, that frame does not count for it.
    DatasetError without recorded state. Leaves the mode of the model and all random streams as they were.
    """
    training = world_model.training
    world_model.eval()
    x, targets = _latents_and_targets(world_model, dataset, "train", frames, seed)
    x_test, targets_test = _latents_and_targets(world_model, dataset, "held_out", frames // 4, seed)
    world_model.train(training)

    read = read_out(x, targets, x_test, seed=seed, mlp=mlp)
    scores: Scores = {}
    for kind, values in read.items():
        for name, predicted in values.items():
            known = targets_test[name].isfinite()
            if varies(targets_test[name]):
                r2, r = score(predicted[known], targets_test[name][known].to(predicted.device))
                scores.setdefault(name, {}).update({f"{kind}_r2": r2, f"{kind}_r": r})
    return scores


@torch.no_grad()
def read_out(
    x: Tensor, targets: dict[str, Tensor], x_test: Tensor, *, seed: int = 0, mlp: bool = True
) -> dict[str, dict[str, Tensor]]:
    """Probes fitted on latents x (n, D) and targets {quantity: (n,)}, asked about x_test (m, D).

    Returns {"linear": {quantity: (m,)}, "mlp": …}, in the quantities' own units, without what never varies.
    A quantity is fitted on the frames in which it is a finite number.
    """
    found: dict[str, dict[str, Tensor]] = {}
    groups: dict[bytes, list[str]] = {}  # quantities that are known in the same frames
    for name in targets:
        if varies(targets[name]):
            groups.setdefault(targets[name].isfinite().cpu().numpy().tobytes(), []).append(name)
    for names in groups.values():
        known = targets[names[0]].isfinite()
        y = torch.stack([targets[name][known] for name in names], 1).to(x)
        for kind, values in _fitted(x[known.to(x.device)], y, x_test, names, seed, mlp).items():
            found.setdefault(kind, {}).update(values)
    return found


def varies(values: Tensor) -> bool:
    """Whether the finite ones of values (n,) are enough and not all the same."""
    known = values[values.isfinite()]
    return len(known) >= min(FEWEST, len(values)) and float(known.std()) > 1e-6


def _fitted(
    x: Tensor, y: Tensor, x_test: Tensor, names: list[str], seed: int, mlp: bool
) -> dict[str, dict[str, Tensor]]:
    """Both probes on latents x (n, D) and finite targets y (n, len(names)), asked about x_test (m, D)."""
    mean, std = y.mean(0), y.std(0)
    x, x_test = _standardise(x, x_test)
    predicted = {"linear": _ridge(x, (y - mean) / std, x_test)}
    if mlp:
        predicted["mlp"] = _mlp(x, (y - mean) / std, x_test, seed)
    return {kind: dict(zip(names, (v * std + mean).unbind(1))) for kind, v in predicted.items()}


def _latents_and_targets(
    world_model: WorldModel, dataset: WindowDataset, split: Split, count: int, seed: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """Latents (n, D) of some frames, and for each recorded quantity its values (n,)."""
    pixels, state = dataset.sample(count, split=split, seed=seed)
    if state is None:
        raise DatasetError(f"{dataset.name} holds no state to probe: record it with its state")
    device = next(world_model.parameters()).device
    parts = []
    for first in range(0, len(state), 256):
        some = in_each(pixels, lambda all_, at=first: all_[at : at + 256, None].to(device))  # type: ignore[misc]
        parts.append(world_model.encode(some)[:, 0].float())
    targets: dict[str, Tensor] = {}
    for name, values in zip(dataset.state_names, state.unbind(1)):
        if name in dataset.angle_names:
            targets |= {f"{name}_sin": values.sin(), f"{name}_cos": values.cos()}
        else:
            targets[name] = values
    return torch.cat(parts), targets


def _standardise(fit: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Both (n, K), by the mean and standard deviation of the first."""
    mean, std = fit.mean(0), fit.std(0).clamp_min(1e-6)
    return (fit - mean) / std, (test - mean) / std


def _ridge(x: Tensor, y: Tensor, x_test: Tensor, strength: float = 1e-3) -> Tensor:
    """Standardised inputs (n, D), targets (n, Q) -> predictions for x_test."""
    penalty = strength * len(x) * torch.eye(x.shape[1], device=x.device)
    return x_test @ torch.linalg.solve(x.T @ x + penalty, x.T @ y)


def _mlp(x: Tensor, y: Tensor, x_test: Tensor, seed: int, *, width: int = 256, epochs: int = 30) -> Tensor:
    """The same with two hidden layers, trained for a few seconds."""
    devices = [x.device] if x.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.enable_grad():
        torch.manual_seed(seed)
        layers = [nn.Linear(x.shape[1], width), nn.GELU(), nn.Linear(width, width), nn.GELU()]
        net = nn.Sequential(*layers, nn.Linear(width, y.shape[1])).to(x.device)
        batch = min(512, len(x))
        steps = epochs * (len(x) // batch)
        optimizer = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=max(2, steps))
        for _ in range(epochs):
            for rows in torch.randperm(len(x), device=x.device)[: len(x) // batch * batch].split(batch):
                loss = (net(x[rows]) - y[rows]).square().mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return net(x_test)


def score(predicted: Tensor, target: Tensor) -> tuple[float, float]:
    """(n,), (n,) -> R² and correlation r."""
    residual = (target - predicted).square().mean()
    r2 = float(1 - residual / target.var(correction=0))
    if float(predicted.std()) < 1e-9:
        return r2, 0.0
    return r2, float(torch.corrcoef(torch.stack([predicted, target]))[0, 1])
