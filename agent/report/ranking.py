"""Does the model know the true next state among others, and does what it imagines hold the true state?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..evaluation.benchmark import wilson
from .attack import Plays
from .evidence import Evidence
from .quantities import moved, objects, values, visible
from .section import picture
from .statistics import fit_linear

MOMENTS = 120
OTHERS = 4  # next states under other recorded actions
FIT = 8000


@dataclass(frozen=True)
class Ranking:
    """first: share of moments at which the true next state is nearer to the imagined one than all others,
    with its 95 % interval; ties lose.     chance: what guessing would give.
    beaten: {kind of other state: share that is farther than the true one}.
    mistakes: frames (k, 3, h, w, 3): now, truly next, and what the model held for next.
    """

    first: float
    interval: tuple[float, float]
    chance: float
    moments: int
    beaten: dict[str, float]
    mistakes: np.ndarray = picture()


@dataclass(frozen=True)
class Fidelity:
    """R² of each quantity (Q,), read by linear probes at the end of sequences: 0 is what its mean gives.

    limit: from the encoded frames of the simulator under random actions, which is the probes' own limit;
    recorded, random, found: from what the model imagined under such actions.
    """

    names: tuple[str, ...]
    limit: np.ndarray
    recorded: np.ndarray
    random: np.ndarray
    found: np.ndarray


def ranking(evidence: Evidence) -> Ranking:
    """Needs a world and recorded states.

    Plausible others: what other recorded actions would have led to, and the state as it is. Implausible: the
    true next state with one object elsewhere. Others that look exactly like the true one are left out.
    """
    past = min(evidence.config.context_len, evidence.longest()) - 1
    windows = evidence.windows("held_out", past + 1, MOMENTS, branch=51)
    assert windows.state is not None
    count, random = len(windows.blocks), evidence.random(52)
    now, block = windows.state[:, past], windows.blocks[:, past:]
    imagined = evidence.rollout(windows.latents[:, : past + 1], windows.blocks)[:, 1]

    def after(blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        played = evidence.simulate(now, evidence.denormalise(blocks))
        return played.pixels[:, -1], played.state[:, -1]

    true, state = after(block)
    others: list[tuple[str, np.ndarray]] = [("nothing moved", evidence.render(now))]
    for _ in range(min(OTHERS, count - 1)):
        others.append(("other actions", after(block[random.permutation(count)])[0]))
    for name, components in objects(evidence, visible(evidence)).items():
        elsewhere = moved(evidence, state, state[random.permutation(count)], components)
        others.append((f"{name} elsewhere", evidence.render(elsewhere)))

    def away(frames: np.ndarray) -> np.ndarray:
        return np.linalg.norm(evidence.encode(frames).astype(np.float64) - imagined, axis=-1)

    own = away(true)
    distance = np.stack([away(frames) for _, frames in others], 1)
    differs = np.stack([(frames != true).any((1, 2, 3)) for _, frames in others], 1)
    beaten = distance > own[:, None]
    counted = differs.any(1)
    first = (beaten | ~differs).all(1)[counted]
    kinds: dict[str, list[int]] = {}
    for index, (kind, _) in enumerate(others):
        kinds.setdefault(kind, []).append(index)
    wrong = np.flatnonzero(counted & ~(beaten | ~differs).all(1))[:5]
    chosen = np.where(differs, distance, np.inf).argmin(1)
    pictures = [np.stack([others[0][1][i], true[i], others[chosen[i]][1][i]]) for i in wrong]
    return Ranking(
        first=float(first.mean()) if len(first) else 0.0,
        interval=wilson(int(first.sum()), max(len(first), 1)),
        chance=float((1 / (1 + differs.sum(1)))[counted].mean()) if len(first) else 1.0,
        moments=int(counted.sum()),
        beaten={
            kind: float(beaten[:, own][differs[:, own]].mean())
            for kind, own in kinds.items()
            if differs[:, own].any()
        },
        mistakes=np.array(pictures),
    )


def fidelity(evidence: Evidence, plays: dict[str, Plays]) -> Fidelity:
    """Of plays named recorded, random and found, at their last step."""
    fit, shown = evidence.sample("fit", FIT), visible(evidence)
    assert fit.state is not None
    known = values(evidence, fit.state, shown)
    names = tuple(name for name in known if known[name].std() > 1e-6)
    read = fit_linear(fit.latents, np.stack([known[name] for name in names], -1))
    variance = np.array([known[name].var() for name in names])

    def score(latents: np.ndarray, state: np.ndarray) -> np.ndarray:
        true = values(evidence, state, shown)
        target = np.stack([true[name] for name in names], -1)
        return 1 - np.square(read(latents) - target).mean(0) / variance

    ends = {name: (one.imagined[:, -1], one.state[:, -1]) for name, one in plays.items()}
    limit = score(plays["random"].seen[:, -1], plays["random"].state[:, -1])
    return Fidelity(names, limit, **{name: score(*end) for name, end in ends.items()})
