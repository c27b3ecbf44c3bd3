"""What can be chosen on the page, and what was: also as the command line and the Python that do the same."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from latent_planner.settings import AgentSettings

from ..overrides import options
from ..planner_words import planner_settings
from .orders import DEADLINES, SPEEDS
from .players import Player


def choices(checkpoints: Sequence[str]) -> dict[str, Any]:
    """What there is to choose from."""
    deadlines = {"deadlines": DEADLINES, "speeds": SPEEDS}
    return {"planners": options("planner"), "checkpoints": list(checkpoints), **deadlines}


def chosen(player: Player, start: str) -> dict[str, Any]:
    """What a player's world was given.   start: the word of the command line that begins there."""
    settings, stored = player.agent.settings, player.stored
    return {
        "checkpoint": player.name,
        "planner": settings.planner,
        "deadline": settings.deadline,
        "command": command_line(player.name, settings, stored, start),
        "python": python(player.name, settings, stored),
    }


def differences(settings: AgentSettings, other: AgentSettings) -> dict[str, Any]:
    """Fields in which settings differ from other, as checkpoints call them ("name" is the planner's)."""
    before = other.to_dict()
    return {key: value for key, value in settings.to_dict().items() if value != before[key]}


def planner_words(settings: AgentSettings, stored: Mapping[str, Any]) -> list[str]:
    """The words that make these settings of a checkpoint's "planner": planner=mppi planner.deadline=0.1."""
    other = settings.planner != stored.get("name", "cem")
    words = [f"planner={settings.planner}"] if other else []
    changed = differences(settings, planner_settings(words, stored))
    return words + [f"planner.{key}={_word(value)}" for key, value in changed.items()]


def command_line(checkpoint: str, settings: AgentSettings, stored: Mapping[str, Any], start: str) -> str:
    """A command that goes to a saved goal as the page does."""
    words = ["latent-planner", "plan", "--goal", "goal.png", "--checkpoint", checkpoint, start]
    return shlex.join([*words, *planner_words(settings, stored)])


def python(checkpoint: str, settings: AgentSettings, stored: Mapping[str, Any]) -> str:
    """A program that plans as the page does."""
    changed = differences(settings, AgentSettings.from_dict(stored))
    names = {"planner" if key == "name" else key: value for key, value in changed.items()}
    arguments = [repr(checkpoint), *(f"{key}={value!r}" for key, value in names.items())]
    return "\n".join(
        [
            "from latent_planner import Agent",
            "",
            f"agent = Agent.from_pretrained({', '.join(arguments)})",
            "agent.set_goal(goal_pixels)  # uint8 (H, W, 3)",
            "action = agent.act(pixels)  # once for each step",
        ]
    )


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
