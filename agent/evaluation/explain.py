"""A picture of how plans were made: how the search went, what was imagined and what then happened, what
took the time.

Latents cannot be looked at. So each imagined latent is shown as the recorded frame whose latent is nearest.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from latent_planner.common.progress import Bar
from latent_planner.planners import Plan

from ..pixels import encode_frames
from .attempt import Attempt
from .plots import BLUE, CAPTION, COLOURS, GREEN, GREY, INK, ORANGE, dress, save

if TYPE_CHECKING:
    from ..agent import Agent

PICTURE = "explain.png"
PHASES = {
    "encode": "see (encode)",
    "propose": "propose candidates",
    "cost": "imagine and judge them",
    "learn": "learn from them",
    "imagine": "imagine the best again",
}
SHOWN = 3  # plans whose paths are drawn


@dataclass(frozen=True)
class Library:
    """Recorded frames, uint8 (n, h, w, 3), and their latents (n, D)."""

    frames: np.ndarray
    latents: np.ndarray

    @classmethod
    def of(cls, agent: Agent, frames: np.ndarray) -> Library:
        """With latents as the agent sees these frames."""
        parts = Bar(np.array_split(frames, -(-len(frames) // 250)), desc="reading", unit=" x 250 frames")
        return cls(frames, np.concatenate([_latents(agent, part) for part in parts]))

    def nearest(self, latent: np.ndarray) -> tuple[np.ndarray, float]:
        """The frame whose latent is nearest to latent (D,), and how far it is."""
        distances = np.linalg.norm(self.latents - latent, axis=1)
        return self.frames[distances.argmin()], float(distances.min())


def write_explanation(
    path: str | os.PathLike,
    agent: Agent,
    played: Attempt,
    library: Library,
    goal: np.ndarray,
    *,
    render: Callable[[np.ndarray], np.ndarray],
) -> Path:
    """Draw all of it into one PNG; returns the path, raises OSError.

    agent: who made the attempt `played`, with at least one plan.   goal: uint8 (h, w, 3).
    render: state -> uint8 (h, w, 3).
    """
    plans, frameskip, goal_latent = played.plans, agent.config.frameskip, _latents(agent, goal[None])[0]
    chosen = sorted({round(i) for i in np.linspace(0, len(plans) - 1, SHOWN)})
    columns = 2 + max(len(plans[i][1].latents) for i in chosen)
    figure = Figure(figsize=(1.35 * columns + 0.6, 3.2 + 3.3 * len(chosen)), layout="constrained")
    parts: Any = figure.subfigures(1 + len(chosen), 1, height_ratios=[3.2] + [3.3] * len(chosen))
    search, time = parts[0].subplots(1, 2)
    _draw_search(search, plans)
    _draw_time(time, [plan for _, plan in plans])
    for part, index in zip(parts[1:], chosen):
        step, plan = plans[index]
        axes = part.subplots(2, columns)
        part.suptitle(
            f"the plan made at step {step}: what was imagined (nearest recorded frame), and what happened",
            fontsize=CAPTION + 1, color=INK, x=0.01, ha="left",
        )  # fmt: skip
        for axis in axes.flat:
            axis.set_axis_off()
        _label(axes[0, 0], "imagined", BLUE)
        _label(axes[1, 0], "happened", ORANGE)
        to_go = np.linalg.norm(plan.latents - goal_latent, axis=1)
        for h, latent in enumerate(plan.latents):
            frame, off = library.nearest(latent)
            when = "now" if h == 0 else f"+{h * frameskip}"
            _frame(axes[0, h + 1], frame, f"{when}: {to_go[h]:.1f} to go", f"(frame is {off:.1f} off)")
            if h == to_go.argmin():
                axes[0, h + 1].spines[:].set(color=GREEN, linewidth=2.5)  # as near as it means to come
            end = len(played.states) - 1
            at = min(step + h * frameskip, end)
            if h == 0 or step + (h - 1) * frameskip < end:  # the last one is where the attempt ended
                when = "now" if h == 0 else f"+{at - step}"
                ended = "the end" if at == end else ""
                _frame(
                    axes[1, h + 1],
                    render(played.states[at]),
                    f"{when}: {played.distances[at]:.1f} to go",
                    ended,
                )
        _frame(axes[0, -1], goal, "goal", "")
        aim = goal_latent if plan.aims is None else np.asarray(plan.aims).reshape(-1)
        if np.linalg.norm(aim - goal_latent) > 1e-3:  # the goal is far: a sub-goal, where the first leg ends
            frame, off = library.nearest(aim)
            _frame(axes[1, -1], frame, "sub-goal of this plan", f"(frame is {off:.1f} off)")
    return save(figure, path)


def _draw_search(axis: Axes, plans: Sequence[tuple[int, Plan]]) -> None:
    """Root of the cost, a latent distance where the objective is one, of each plan's elites and best."""
    for i, (_, plan) in enumerate(plans):
        first = i == 0
        iterations = np.arange(1, plan.iterations + 1)
        style: dict[str, Any] = {"color": BLUE if first else GREY, "linewidth": 1.8 if first else 0.8}
        label = "the first plan" if first else ("the later plans" if i == 1 else None)
        axis.plot(iterations, np.sqrt(np.maximum(plan.elites, 0)), "--", alpha=0.7, **style)
        axis.plot(
            iterations, np.sqrt(np.maximum(plan.history, 0)), label=label, marker="o", markersize=3, **style
        )
    dress(axis, "distance to goal or sub-goal, best (lines) and elites (dashes)", "iteration")
    axis.set_ylabel("latent distance", fontsize=CAPTION, color=INK)
    axis.set_ylim(bottom=0)
    axis.set_xlim(left=0.8)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.legend(fontsize=CAPTION, frameon=False)


def _draw_time(axis: Axes, plans: Sequence[Plan]) -> None:
    """Milliseconds of each phase, median over the plans."""
    spent = [1000 * float(np.median([plan.seconds.get(name, 0.0) for plan in plans])) for name in PHASES]
    axis.barh(list(PHASES.values()), spent, color=COLOURS[: len(PHASES)])
    axis.invert_yaxis()
    for y, milliseconds in enumerate(spent):
        axis.text(milliseconds, y, f" {milliseconds:.1f} ms", va="center", fontsize=CAPTION, color=INK)
    axis.set_xlim(right=1.25 * max(*spent, 1e-3))
    dress(axis, f"time for a plan, median of {len(plans)}: {sum(spent):.0f} ms", "ms")


def _frame(axis: Axes, pixels: np.ndarray, above: str, below: str) -> None:
    axis.imshow(pixels, interpolation="nearest")
    axis.set_axis_on()
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(above, fontsize=CAPTION - 1, color=INK)
    axis.set_xlabel(below, fontsize=CAPTION - 2, color=GREY)


def _label(axis: Axes, text: str, colour: str) -> None:
    axis.text(1.0, 0.5, text, fontsize=CAPTION + 1, color=colour, ha="right", va="center", weight="bold")


def _latents(agent: Agent, frames: np.ndarray) -> np.ndarray:
    return encode_frames(agent.world_model, frames, agent.device).float().cpu().numpy()
