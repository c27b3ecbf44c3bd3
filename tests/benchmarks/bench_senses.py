"""Goals of one camera, of several, or of the vector alone, and choices among four moves, on toy worlds.

    python tests/benchmarks/bench_senses.py            # a minute of one core for each of the two models

A square moves over a board. First it has two cameras (`front` shows where it is across, `wrist` where it is
down) and a vector with both and its speed; then one camera and four choices: left, right, up, down. Each
model learns from 60 short episodes. Then it has 16 steps for each of 20 goals, and what is printed is how far
the square is from the goal at the start and at the end, across and down; the board is 1 wide.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tiny_run import tiny_dataset, tiny_trainer
from two_cameras import look, write

from latent_planner import Agent
from latent_planner.envs.recordings.episodes import EpisodeReader, EpisodeWriter

MODEL: dict[str, Any] = {
    "latent_dim": 40, "projector_dim": 64, "encoder_width": 16, "predictor_width": 64, "predictor_depth": 2,
    "predictor_heads": 2, "predictor_head_dim": 32, "predictor_mlp_dim": 128, "dropout": 0.0,
    "proposals": 2, "proposal_steps": 3, "proposer_width": 64,
}  # fmt: skip
SENSES = ("front", "wrist", "proprio")
CASES = [  # what the goal shows, and what the agent sees
    (SENSES, SENSES), (("front",), SENSES), (("wrist",), SENSES), (("proprio",), SENSES),
    (("front", "wrist"), ("front", "wrist")), (("front", "wrist"), ("proprio",)),
]  # fmt: skip
MOVES = 0.08 * np.array([(-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0)])
GOALS, STEPS = 20, 16


def learned(reader: EpisodeReader, folder: Path, steps: int, **model: Any) -> Agent:
    """An agent of a model that has learned from this recording."""
    dataset = tiny_dataset(reader, frameskip=2, num_frames=4)
    options: dict[str, Any] = {"batch_size": 32, "learning_rate": 2e-3, "freeze_encoder": 0.6}
    options |= {"rollout_steps": 3, "log_every": 100, "sigreg_directions": 256}
    tiny_trainer(folder, dataset=dataset, model=MODEL | model, steps=steps, **options).fit()
    return Agent.from_pretrained(
        folder, device="cpu", horizon=3, num_samples=128, num_elites=12, iterations=4
    )


def errors(
    agent: Agent,
    show: Callable[[np.ndarray, np.ndarray], Any],
    goal: Callable[[np.ndarray], Any],
    move: Callable[[Any], np.ndarray],
) -> str:
    """Mean distances at the start and at the end.   show: place, speed -> what is seen."""
    draws, start, end = np.random.default_rng(5), [], []
    for _ in range(GOALS):
        place, wanted, speed = draws.uniform(0.2, 0.8, 2), draws.uniform(0.2, 0.8, 2), np.zeros(2)
        start.append(np.abs(place - wanted))
        agent.reset()
        agent.set_goal(goal(wanted), steps=STEPS)
        for _ in range(STEPS):
            speed = move(agent.act(show(place, speed)))
            place = np.clip(place + speed, 0, 1)
        end.append(np.abs(place - wanted))
    first, last = np.mean(start, 0), np.mean(end, 0)
    return f"start {first[0]:.2f} {first[1]:.2f}   end {last[0]:.3f} {last[1]:.3f}"


def senses(folder: Path, steps: int) -> None:
    """Goals of one camera, several and the vector."""
    path = write(folder / "senses.h5", episodes=60, length=30)
    reader = EpisodeReader(path, cameras=["front", "wrist"], proprio="proprio")
    agent = learned(reader, folder / "senses", steps, proprio_dims=8)

    def seen(place: np.ndarray, speed: np.ndarray) -> dict[str, Any]:
        return {**look(place), "proprio": np.array([*place, *speed], np.float32)}

    for said, sees in CASES:

        def show(place: np.ndarray, speed: np.ndarray, sees: Any = sees) -> Any:
            return {name: view for name, view in seen(place, speed).items() if name in sees}

        def goal(place: np.ndarray, said: Any = said) -> Any:
            return {name: view for name, view in seen(place, np.zeros(2)).items() if name in said}

        moved = errors(agent, show, goal, lambda action: 0.08 * action)
        print(f"goal {'+'.join(said):20s} sees {'+'.join(sees):20s} {moved}", flush=True)


def picture(place: np.ndarray) -> np.ndarray:
    """One camera that shows both: uint8 (32, 32, 3)."""
    frame = np.full((32, 32, 3), 30, np.uint8)
    column, row = (26 * place).astype(int)
    frame[row : row + 6, column : column + 6] = (230, 60, 40)
    return frame


def choices(folder: Path, steps: int) -> None:
    """Four choices; random ones for comparison."""
    draws = np.random.default_rng(0)
    with EpisodeWriter(
        folder / "choices.h5", attrs={"env": "recorded", "action_space": "Discrete(4)"}
    ) as writer:
        for _ in range(60):
            place, frames, chosen = draws.uniform(0.2, 0.8, 2), [], draws.integers(0, 4, (30, 1))
            for (choice,) in chosen:
                frames.append(picture(place))
                place = np.clip(place + MOVES[choice], 0, 1)
            writer.append({"pixels": np.array(frames), "action": chosen.astype(np.float32)})
    agent = learned(EpisodeReader(folder / "choices.h5"), folder / "choices", steps, latent_dim=24)
    cases: list[tuple[str, Callable[[Any], np.ndarray]]] = [
        ("planned", lambda choice: MOVES[choice]),
        ("random", lambda _: MOVES[draws.integers(4)]),
    ]
    for name, move in cases:
        print(
            f"choices, {name:8s} {errors(agent, lambda place, _: picture(place), picture, move)}", flush=True
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=700, help="of training, for each model")
    parser.add_argument("--only", choices=("senses", "choices"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name, part in (("senses", senses), ("choices", choices)):
            if args.only in (None, name):
                part(Path(folder), args.steps)


if __name__ == "__main__":
    main()
