"""A gripper that opens and closes: numbers and a choice in one action, goals from pictures of the table.

    cd examples                                              # where the module is found
    python ../train.py env=gym module=gripper env.id=Gripper-v0 env.policy=gripper:carry env.goal=[3,4] \\
        env.length=40 env.episodes=1500 model.frameskip=2 train.minutes=2
    python gripper.py runs/RUN                               # carries the block to where a picture shows it
    python ../plan.py --benchmark --checkpoint runs/RUN --module gripper

The gripper moves over a table, seen from above. What it closes on moves with it until it opens. An action is
{"move": two numbers, "close": 0 or 1}. The state is the gripper's place, whether it is closed, and the
block's place. A goal counts as reached when the block lies where the picture shows it (env.goal=[3,4]).
"""

from __future__ import annotations

import argparse
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

ID = "Gripper-v0"
STEP, REACH = 0.15, 0.25  # of a table from -1 to 1: the longest move, and how near it can take the block
SIDE = 96
GROUND, BLOCK, OPEN, CLOSED = (238, 236, 230), (200, 80, 50), (40, 110, 170), (20, 40, 70)


class Gripper(gymnasium.Env):
    """A gripper and a block on a table."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 10}

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = spaces.Box(-1.0, 1.0, (5,))
        move, close = spaces.Box(-1.0, 1.0, (2,)), spaces.Discrete(2)
        self.action_space = spaces.Dict({"close": close, "move": move})

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.block = self.np_random.uniform(-0.8, 0.8, 2)
        away = self.np_random.uniform(-0.8, 0.8, 2)
        self.hand = away if self.np_random.random() < 0.5 else self.block.copy()
        self.closed = self.held = False
        return self._state(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        close = bool(action["close"])
        if close and not self.closed:
            self.held = bool(np.linalg.norm(self.block - self.hand) < REACH)
        self.closed, self.held = close, self.held and close
        self.hand = np.clip(self.hand + STEP * np.asarray(action["move"], float), -0.9, 0.9)
        if self.held:
            self.block = self.hand.copy()
        return self._state(), 0.0, False, False, {}

    def render(self) -> np.ndarray:
        frame = np.full((SIDE, SIDE, 3), GROUND, np.uint8)
        _rectangle(frame, self.block, (0.14, 0.14), BLOCK)
        apart = 0.2 if self.closed else 0.3
        for side in (-apart, apart):  # the fingers
            _rectangle(frame, self.hand + [side, 0.0], (0.05, 0.2), CLOSED if self.closed else OPEN)
        return frame

    def _state(self) -> np.ndarray:
        return np.array([*self.hand, self.closed, *self.block], np.float32)


def _rectangle(
    frame: np.ndarray, middle: np.ndarray, half: tuple[float, float], colour: tuple[int, ...]
) -> None:
    """Paint a rectangle on the table; middle and half sizes in its units, x to the right and y up."""
    (x, y), (w, h) = middle, half
    left, right, top, bottom = (
        int(np.clip(round((1 + edge) / 2 * SIDE), 0, SIDE)) for edge in (x - w, x + w, -y - h, -y + h)
    )
    frame[top:bottom, left:right] = colour


def carry(observation: np.ndarray, random: np.random.Generator) -> dict[str, Any]:
    """Records: go to the block, close, carry it about, let go. Remembers nothing."""
    hand, closed, block = observation[:2], observation[2] > 0.5, observation[3:]
    noise, way = random.uniform(-1, 1, 2), block - hand
    if closed and np.allclose(way, 0, atol=1e-4):  # carrying, along a field of directions
        angle = 3 * np.pi * np.sin(2 * hand[0] + 3 * hand[1] + hand[0] * hand[1])
        move = np.array([np.cos(angle), np.sin(angle)]) - 0.8 * hand
        return {"close": int(random.random() > 0.06), "move": np.clip(move + noise, -1, 1)}
    near = np.linalg.norm(way) < 0.8 * REACH
    if near or random.random() < 0.3:
        return {"close": int(random.random() < 0.3), "move": noise}
    return {"close": 0, "move": np.clip(way / STEP + 0.5 * noise, -1, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="a run folder of this world")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--steps", type=int, default=40, help="of an episode")
    args = parser.parse_args()

    from latent_planner import Agent, envs

    agent = Agent.from_pretrained(args.checkpoint)
    world = envs.make(f"gym:{ID}?goal=3,4", image_size=agent.config.image_size)
    before, after, grips = [], [], 0
    for seed in range(args.episodes):
        goal, _ = world.reset(seed=seed, options={"goal": None})
        there = goal["state"][3:]
        seen, _ = world.reset(seed=1000 + seed, options={"goal": None})
        before.append(np.linalg.norm(seen["state"][3:] - there))
        agent.reset()
        agent.set_goal(goal["pixels"])
        for _ in range(args.steps):
            action = agent.act(seen["pixels"])
            grips += action["close"]
            seen, *_ = world.step(action)
        after.append(np.linalg.norm(seen["state"][3:] - there))
        print(f"goal {seed}: the block was {before[-1]:.2f} away, and is {after[-1]:.2f} away", flush=True)
    reached = np.mean(np.array(after) < REACH)
    print(
        f"within {REACH}: {reached:.0%} of {args.episodes}, {np.mean(np.array(before) < REACH):.0%} at first"
    )
    print(f"closed for {grips / (args.episodes * args.steps):.0%} of all steps")


if ID not in gymnasium.registry:
    gymnasium.register(ID, entry_point=Gripper)

if __name__ == "__main__":
    main()
