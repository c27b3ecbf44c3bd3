"""The kind and range of every setting. Those of training and planning stand next to what they configure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from latent_planner.common.kinds import (
    SEED,
    Choice,
    Kind,
    Number,
    Several,
    Text,
    Whole,
    WordOrNumber,
    YesNo,
    kind_of,
)
from latent_planner.planners import PlanConfig
from latent_planner.practice.goals import KINDS as GOALS
from latent_planner.practice.play import STARTS
from latent_planner.settings import OWN_KINDS
from latent_planner.training.tracker import MODES
from latent_planner.training.train_config import TrainConfig

DEVICES = ("auto", "cpu", "cuda", "mps")
COUNT = Whole(low=0, high=10**6)

KINDS: Mapping[str, Kind] = {
    "seed": SEED,
    "device": Choice(names=DEVICES),
    "out": Text(optional=True),
    "resume": Text(optional=True),
    "start": Text(optional=True),
    "module": Text(optional=True),
    "data.path": Text(optional=True),
    "data.camera": Text(optional=True),
    "data.action": Text(optional=True),
    "data.actions": WordOrNumber(names=("all", "none"), number=Number(low=0, high=1, above=True, below=True)),
    "data.state": Text(optional=True),
    "data.cameras": Several(optional=True, single=True, each=Text()),
    "data.action_space": Text(optional=True),
    "data.proprio": Text(optional=True),
    "data.vary": Several(optional=True, single=True, each=Text()),
    "data.reference_look": YesNo(optional=True),
    "data.workers": Whole(low=0, high=1024),
    "data.held_out": Number(low=0, high=1, above=True, below=True),
    "data.memory_gb": Number(optional=True, low=0),  # 0: from the disk
    "benchmark.pairs": COUNT,
    "benchmark.validation_pairs": COUNT,
    "benchmark.videos": COUNT,
    "benchmark.senses": Several(optional=True, single=True, each=Text()),
    "benchmark.goal": Several(optional=True, single=True, each=Text()),
    "rounds": Whole(low=0, high=1000),
    "practice.goals": Choice(names=GOALS),
    "practice.starts": Choice(names=STARTS),
    "practice.episodes": Whole(optional=True, low=2, high=10**6),
    "wandb.mode": Choice(names=MODES),
    "env.episodes": COUNT,
    "env.length": COUNT,
    "env.tolerance": Number(low=0, above=True),
    "env.goal": Several(optional=True, single=True, each=Whole(low=0)),
    **{f"train.{name}": kind for name, kind in TrainConfig.KINDS.items()},
    **{f"planner.{name}": kind for name, kind in {**PlanConfig.KINDS, **OWN_KINDS}.items()},
}


def kind(key: str, default: Any) -> Kind:
    """What the setting takes: as the table says, or else of the kind of its default."""
    return KINDS.get(key) or kind_of(default)
