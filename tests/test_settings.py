"""One settings object says how an Agent plans, with the same defaults wherever one plans from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf

from latent_planner import Agent
from latent_planner.checkpoints import checkpoint
from latent_planner.cli import plan, train
from latent_planner.cli.overrides import options
from latent_planner.evaluation.provenance import about_agent
from latent_planner.planners import PlanConfig, PlanError
from latent_planner.settings import AgentSettings

ROOT = Path(__file__).resolve().parent.parent

# What each planner's file changes of the defaults, because that planner needs it.
OWN: dict[str, dict[str, Any]] = {
    "cem": {},
    "cem_gradient": {"iterations": 4},
    "cem_lewm": {
        "objective": "last", "replan_every": 5, "num_samples": 300, "num_elites": 30, "iterations": 30,
        "init_std": 1.0,
    },
    "gradient": {"num_samples": 32, "iterations": 10},
    "icem": {"iterations": 8},
    "mppi": {},
    "predictive": {"init_std": 0.5},
}  # fmt: skip


@pytest.mark.parametrize("name", options("planner"))
def test_the_files_of_configs_planner_hold_the_defaults(name: str) -> None:
    file: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "configs" / "planner" / f"{name}.yaml"))
    defaults = AgentSettings(planner=name).to_dict()
    assert {key: value for key, value in file.items() if defaults[key] != value} == OWN[name]


def test_a_program_plan_train_and_a_checkpoint_have_the_same_defaults(tmp_path, tiny_checkpoint) -> None:
    with initialize_config_module("latent_planner.configs", version_base="1.3"):
        config = compose("config")
    assert train.planner_settings(config) == plan.planner_settings([], {}) == AgentSettings()
    model, _ = checkpoint.load(tiny_checkpoint)
    assert Agent(model, device="cpu").settings == AgentSettings()
    checkpoint.save(model, tmp_path / "run")
    assert Agent.from_pretrained(tmp_path / "run", device="cpu").settings == AgentSettings()


def test_settings_are_plain_values_and_come_back(tiny_checkpoint, tmp_path) -> None:
    model, _ = checkpoint.load(tiny_checkpoint)
    limits = np.array([0.5, 1.0], np.float32)
    agent = Agent(model, device="cpu", planner="mppi", objective="last + 0.5*effort", max_change=limits)
    plain = json.loads(json.dumps(about_agent(agent)["planner"]))
    assert plain["name"] == "mppi" and plain["max_change"] == [0.5, 1.0]
    assert AgentSettings.from_dict(plain).to_dict() == plain
    checkpoint.save(model, tmp_path / "run", planner=agent.settings)
    assert Agent.from_pretrained(tmp_path / "run", device="cpu").settings.to_dict() == plain


def test_changes_reach_both_levels(tiny_checkpoint) -> None:
    settings = AgentSettings().changed(planner="icem", horizon=3, deadline=0.5)
    assert (settings.planner, settings.plan_config.horizon, settings.deadline) == ("icem", 3, 0.5)
    assert settings.changed(plan_config=PlanConfig(iterations=2), horizon=4).plan_config == PlanConfig(
        iterations=2, horizon=4
    )
    model, _ = checkpoint.load(tiny_checkpoint)
    agent = Agent(model, settings, num_samples=20, device="cpu", seed=3)
    assert agent.settings == settings.changed(num_samples=20)
    assert agent.clone().settings == agent.settings and agent.clone().seed == 3


@pytest.mark.parametrize(
    "values, sentence",
    [
        ({"horison": 3}, "did you mean 'horizon'"),
        ({"planner": "cme"}, "cme"),
        ({"plan_config": 3}, "plan_config must be a PlanConfig"),
        ({"objective": "effort"}, "leads nowhere"),
        ({"precision": "float8"}, "precision must be one of"),
        ({"max_change": -1}, "max_change must be above 0"),
        ({"deadline": "soon"}, "deadline must be a number of seconds"),
    ],
)
def test_nonsense_is_refused_in_one_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(PlanError, match=sentence) as error:
        AgentSettings().changed(**values)
    assert "\n" not in str(error.value)
    if "planner" not in values:
        with pytest.raises(PlanError):
            AgentSettings.from_dict(values)
