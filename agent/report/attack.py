"""Where do model and simulator disagree most? A search over action sequences that tries to find it.

From frames of held-out episodes, CEM looks for the actions, inside the world's bounds, under which what the
model imagines is farthest from what the encoder sees of the simulator. The same is measured under actions
drawn evenly from the bounds, and under those that were recorded.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from latent_planner import planners

from .evidence import Evidence, Windows
from .section import picture
from .statistics import spearman

STARTS = 6
HORIZON = 5  # model steps, where no agent says how far it plans
SAMPLES, ROUNDS = 48, 8
SECONDS = 60.0  # of computing at most, unless that leaves fewer than LEAST samples
LEAST = 10
KNOWN = 20_000  # recorded state-action pairs that the coverage is judged by
EDGE = 0.95  # share of held-out recorded pairs that count as covered


@dataclass(frozen=True)
class Plays:
    """n action sequences, played in the model and in the simulator: H model steps from a start each.

    blocks (n, H, F·A), normalised; start (n,); imagined, seen (n, H, D); state (n, H + 1, S); error (n, H),
    the distance of imagined and seen in units of the latents' spread: about 1.4 between unrelated frames.
    """

    blocks: np.ndarray
    start: np.ndarray
    imagined: np.ndarray
    seen: np.ndarray
    state: np.ndarray
    error: np.ndarray

    @property
    def disagreement(self) -> np.ndarray:
        """(n,): mean over steps, what the search makes large."""
        return self.error.mean(1)


@dataclass(frozen=True)
class Coverage:
    """How far state-action pairs are from the nearest recorded one: root mean square over the numbers of the
    state and of the action, each in units of its standard deviation, both halves weighing the same.

    edge: 95 % of held-out recorded pairs are nearer.     recorded, random, found: shares of pairs beyond it.
    correlation: of ranks, between a sequence's mean distance and its disagreement.
    distances: mean of each sequence, for drawing.
    """

    edge: float
    recorded: float
    random: float
    found: float
    correlation: float
    distances: dict[str, np.ndarray] = picture()


@dataclass(frozen=True)
class Attack:
    """recorded, random, found: disagreement, mean over starts.     ratio: found / random.
    worst: the largest found.     recorded_steps, random_steps, found_steps: mean error at each step (H,).
    rounds: iterations of the search.     sequences: how many it played.
    """

    recorded: float
    random: float
    found: float
    ratio: float
    worst: float
    recorded_steps: np.ndarray
    random_steps: np.ndarray
    found_steps: np.ndarray
    rounds: int
    sequences: int
    coverage: Coverage
    plays: dict[str, Plays] = picture()


def attack(
    evidence: Evidence,
    *,
    starts: int = STARTS,
    samples: int = SAMPLES,
    rounds: int = ROUNDS,
    seconds: float = SECONDS,
) -> Attack:
    """Needs a world and recorded states.

    From `starts` frames, `samples` random sequences each, and `rounds` rounds of CEM with as many; fewer
    samples, down to LEAST, where the world is so slow that they would take more than `seconds` of computing.
    """
    evidence.need_state()
    evidence.need_env()
    config = evidence.config
    past = min(config.context_len, evidence.longest()) - 1
    horizon = HORIZON if evidence.agent is None else evidence.agent.settings.plan_config.horizon
    horizon = max(1, min(horizon, evidence.longest() - past))
    begin = evidence.windows("held_out", past + horizon, starts, branch=41)
    count = len(begin.latents)

    begun = time.process_time()
    recorded = play(evidence, begin, np.arange(count), begin.blocks[:, past:])
    cost_of_one = (time.process_time() - begun) * (rounds + 1)
    samples = min(samples, max(LEAST, int(seconds / max(cost_of_one, 1e-9))))
    random = evidence.random(42)
    low, high = (np.asarray(bound, np.float64) for bound in (config.block_low, config.block_high))
    low, high = np.maximum(low, -1e3), np.minimum(high, 1e3)
    drawn = random.uniform(low, high, (count * samples, horizon, len(low))).astype(np.float32)
    which = np.repeat(np.arange(count), samples)
    plays = {
        "recorded": recorded,
        "random": play(evidence, begin, which, drawn),
    }

    def cost(candidates: Tensor) -> Tensor:  # (B, N, H, F·A)
        flat = candidates.flatten(0, 1).cpu().numpy()
        done = play(evidence, begin, np.repeat(np.arange(count), candidates.shape[1]), flat)
        return -torch.as_tensor(done.disagreement).reshape(candidates.shape[:2]).to(candidates)

    search = planners.PlanConfig(
        horizon=horizon, num_samples=samples, num_elites=max(2, samples // 6), iterations=rounds,
        noise_correlation=0.9, init_std=float(np.mean(high - low)) / 4, min_std=0.05, seed=evidence.seed,
    )  # fmt: skip
    planner = planners.make(
        "cem", search, **config.block_limits | {"low": low.tolist(), "high": high.tolist()}
    )
    plan = planner.plan(cost, batch_size=count)
    plays["found"] = play(evidence, begin, np.arange(count), plan.actions.cpu().numpy())

    mean = {name: float(one.disagreement.mean()) for name, one in plays.items()}
    return Attack(
        recorded=mean["recorded"],
        random=mean["random"],
        found=mean["found"],
        ratio=mean["found"] / max(mean["random"], 1e-9),
        worst=float(plays["found"].disagreement.max()),
        recorded_steps=plays["recorded"].error.mean(0),
        random_steps=plays["random"].error.mean(0),
        found_steps=plays["found"].error.mean(0),
        rounds=plan.iterations,
        sequences=plan.iterations * samples * count,
        coverage=coverage(evidence, plays),
        plays=plays,
    )


def play(evidence: Evidence, starts: Windows, which: np.ndarray, blocks: np.ndarray) -> Plays:
    """Blocks (n, H, F·A) from the starts `which` (n,): the windows' frame H steps before their last."""
    assert starts.state is not None
    now = starts.latents.shape[1] - 1 - blocks.shape[1]
    context = starts.latents[which, : now + 1]
    imagined = evidence.rollout(context, np.concatenate([starts.blocks[which, :now], blocks], 1))[:, 1:]
    world = evidence.simulate(starts.state[which, now], evidence.denormalise(blocks))
    frames = world.pixels[:, 1:]
    seen = evidence.encode(frames.reshape(-1, *frames.shape[2:])).reshape(imagined.shape)
    error = np.sqrt(np.square(imagined.astype(np.float64) - seen).mean(-1)) / spread(evidence)
    return Plays(blocks, which, imagined, seen, world.state, error)


def spread(evidence: Evidence) -> float:
    """Root mean variance of the held-out latents, never quite 0."""
    return float(np.sqrt(max(np.concatenate(evidence.latents("held_out")).var(0).mean(), 1e-12)))


def coverage(evidence: Evidence, plays: dict[str, Plays]) -> Coverage:
    """Of the state-action pairs along these plays, named recorded, random and found."""
    known, other = (evidence.windows(split, 1, KNOWN, branch=43) for split in ("fit", "held_out"))
    assert known.state is not None and other.state is not None
    state = np.stack([*evidence.quantities(known.state[:, 0]).values()], -1)
    mean, std = state.mean(0), state.std(0)
    std = np.where(std > 1e-9, std, 1.0)

    def table(state: np.ndarray, blocks: np.ndarray) -> np.ndarray:
        numbers = (np.stack([*evidence.quantities(state).values()], -1) - mean) / std
        halves = [part / np.sqrt(2 * part.shape[-1]) for part in (numbers, blocks)]  # each counts half
        return np.concatenate(halves, -1).reshape(-1, sum(part.shape[-1] for part in halves))

    recorded = table(known.state[:, 0], known.blocks[:, 0])
    chosen = evidence.random(44).permutation(len(other.blocks))[:2000]
    usual = nearest(table(other.state[chosen, 0], other.blocks[chosen, 0]), recorded)[0]
    edge = float(np.quantile(usual, EDGE))
    away = {
        name: nearest(table(one.state[:, :-1], one.blocks), recorded)[0].reshape(one.error.shape)
        for name, one in plays.items()
    }
    distances = {name: values.mean(1) for name, values in away.items()}
    every = np.concatenate([*distances.values()]), np.concatenate([p.disagreement for p in plays.values()])
    return Coverage(
        edge=edge,
        **{name: float((values > edge).mean()) for name, values in away.items()},
        correlation=spearman(*every),
        distances=distances,
    )


def nearest(points: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distance (n,) of each of points (n, K) to the nearest of known (m, K), and which that is (n,)."""
    there = torch.as_tensor(known, dtype=torch.float32)
    found = [torch.cdist(part, there).min(1) for part in torch.as_tensor(points).float().split(256)]
    return tuple(torch.cat([one[i] for one in found]).numpy() for i in (0, 1))  # type: ignore[return-value]
