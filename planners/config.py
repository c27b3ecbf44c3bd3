"""What a planner is told and what it answers: PlanConfig, Plan, PlanError."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from latent_planner.common.kinds import Kind, Number, Whole, YesNo
from latent_planner.common.words import did_you_mean

MOST_STEPS = 10**7  # that one iteration may imagine
COUNT = Whole(low=1, high=10**6)
LARGEST = 1e9  # so that float32 can compute with it
POSITIVE, SHARE = Number(low=0, high=LARGEST, above=True), Number(low=0, high=1, below=True)


class PlanError(ValueError):
    """A plan cannot be made with what was given; the message says why and what to change."""


@dataclass(frozen=True)
class PlanConfig:
    """How to search; the defaults are those of configs/planner/cem.yaml. Standard deviations and
    learning_rate are in the units of the candidates.

    horizon, replan_every: in model steps. `replan_every` is read by whoever executes the plan.
    num_samples, num_elites, iterations: the search's size. MPPI, predictive sampling and the gradient planner
        have no elites; for the gradient planner num_samples are its starts and iterations its steps.
    init_std, min_std: where the standard deviation starts, and the least it may fall to. Of choices it is the
        share of the chances, up to 1, that is the same for all of them.
    noise_correlation: of one action's noise with the next one's, in [0, 1). White noise (0) hardly leaves the
        spot, for its steps cancel out; neighbours that go together explore far with few samples, but cannot
        refine. So candidates get correlations spread evenly from 0 to this; see `planners.noise`.
    proposal_share, proposal_std: where `plan` is given proposals, the share of the candidates that come from
        them, and the noise around them; see `latent_planner.planners.proposals`.
    momentum: share of the old mean and standard deviation kept by each update, in [0, 1).
    temperature: MPPI's weights are softmax(-cost / temperature), lower is greedier; see `planners.mppi`.
    noise_beta, keep_elites, sample_decay: iCEM's coloured noise, the share of the elites that joins the next
        iteration, and by how much an iteration has fewer samples than the one before; see `planners.icem`.
    gradient_starts, gradient_steps, learning_rate: how many candidates are moved, how often and how far by
        gradients; see `latent_planner.planners.gradient` and `latent_planner.planners.cem_gradient`.
    warm_start: whether whoever replans starts from the shifted last plan.
    seed: problem i of a batch draws from the stream `seed + i` unless `plan` is given seeds.
    """

    horizon: int = 5
    replan_every: int = 1
    num_samples: int = 256
    num_elites: int = 16
    iterations: int = 6
    init_std: float = 0.7
    min_std: float = 0.05
    noise_correlation: float = 0.9
    proposal_share: float = 0.3
    proposal_std: float = 0.3
    momentum: float = 0.0
    temperature: float = 0.15
    noise_beta: float = 2.0
    keep_elites: float = 0.3
    sample_decay: float = 1.25
    gradient_starts: int = 8
    gradient_steps: int = 4
    learning_rate: float = 0.1
    warm_start: bool = True
    seed: int = 0

    KINDS: ClassVar[Mapping[str, Kind]] = {
        "horizon": COUNT,
        "replan_every": COUNT,
        "num_samples": COUNT,
        "num_elites": COUNT,
        "iterations": COUNT,
        "init_std": POSITIVE,
        "min_std": Number(low=0, high=LARGEST),
        "noise_correlation": SHARE,
        "proposal_share": SHARE,
        "proposal_std": Number(low=0, high=LARGEST),
        "momentum": SHARE,
        "temperature": POSITIVE,
        "noise_beta": Number(low=0, high=LARGEST),
        "keep_elites": Number(low=0, high=1),
        "sample_decay": Number(low=1, high=LARGEST),
        "gradient_starts": COUNT,
        "gradient_steps": COUNT,
        "learning_rate": POSITIVE,
        "warm_start": YesNo(),
        "seed": Whole(),
    }

    def __post_init__(self) -> None:
        for name, kind in self.KINDS.items():
            try:
                kind.check(name, getattr(self, name))
            except ValueError as error:
                raise PlanError(f"{error}.") from None
        if self.num_samples * self.horizon > MOST_STEPS:
            raise PlanError(
                f"num_samples ({self.num_samples}) times horizon ({self.horizon}) is more than "
                f"{MOST_STEPS:,} imagined steps: choose fewer."
            )
        if self.num_elites > self.num_samples:
            raise PlanError(
                f"num_elites ({self.num_elites}) is more than num_samples ({self.num_samples}): "
                "choose at most as many elites as samples."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PlanConfig:
        """Build from plain values; PlanError names an unknown key and the nearest known one."""
        known = [field.name for field in dataclasses.fields(cls)]
        for key in values:
            if key not in known:
                raise PlanError(f"Unknown planner option {key!r}{nearest_or_all(key, known)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as `from_dict` takes them."""
        return dataclasses.asdict(self)


@dataclass(frozen=True)
class Plan:
    """The best candidates found.

    actions: (B, H, FA) in the units of the candidates.   cost: (B,), that of `actions`.
    iterations: how many were finished.                    solve_seconds: wall clock.
    history: (B, iterations), best cost so far.
    elites: (B, iterations), mean cost of the num_elites cheapest candidates of each iteration.
    seconds: wall clock of each phase; on a GPU, work is charged to the phase that waits for it.
    latents: (B, H+1, D), where a model filled it in.
    aims: (B, D), the latents that the plans lead to, likewise: the goals, or ends of first legs towards them.
    fan: (B, iterations, n, H+1, D), what a model imagined of n candidates of each iteration, where that was
        asked for; the search narrows along the iterations.
    """

    actions: Any
    cost: Any
    iterations: int
    solve_seconds: float
    history: Any = None
    elites: Any = None
    seconds: dict[str, float] = field(default_factory=dict)
    latents: Any = None
    aims: Any = None
    fan: Any = None


def is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def nearest_or_all(name: str, known: Sequence[str]) -> str:
    """The end of the sentence "Unknown NAME": the nearest known name, or all where none is near."""
    return did_you_mean(name, known) or f"; choose from {', '.join(known)}."
