"""A world whose answer is known, for the report: a dot that is pushed, and a hand of a clock that is turned.

`evidence("true")` brings a model that is the simulator, `evidence("collapsed")` one that sees the same in
every frame, `evidence("blind")` one that sees all and imagines that nothing ever changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

SIZE, RADIUS, HAND = 48, 3.0, 8.0  # px
LOW, HIGH = np.array([6.0, 6.0]), np.array([18.0, 42.0])  # of the dot, left half; the clock is in the right
CLOCK = np.array([35.0, 24.0])
PUSH, TURN = 1.5, 0.3  # px and radians an env step at most
NAMES, ANGLES = ("x", "y", "hand"), ("hand",)
FRAMESKIP = 2


def draw(state: np.ndarray) -> np.ndarray:
    """uint8 (SIZE, SIZE, 3): blue dot, red end of the clock's hand; smooth edges, so centres are exact."""
    x, y, hand = state
    across, down = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    ends = ((x, y, (0, 0, 1)), (*(CLOCK + HAND * np.array([np.cos(hand), np.sin(hand)])), (1, 0, 0)))
    pixels = np.full((SIZE, SIZE, 3), 255.0)
    for left, top, colour in ends:
        cover = np.clip(RADIUS + 0.5 - np.hypot(across - left, down - top), 0, 1)
        pixels -= 255 * cover[..., None] * (1 - np.array(colour))
    return pixels.round().astype(np.uint8)


def move(state: np.ndarray, action: np.ndarray) -> np.ndarray:
    """State (3,) after one env step of action (3,) in [-1, 1]."""
    at = np.clip(state[:2] + PUSH * action[:2], LOW, HIGH)
    return np.array([*at, (state[2] + TURN * action[2] + np.pi) % (2 * np.pi) - np.pi])


class KnownWorld(gymnasium.Env):
    """Gymnasium's interface, as the worlds of this project have it."""

    state_names, angle_names, control_hz = NAMES, ANGLES, 10.0
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (3,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        options = options or {}
        self.state = np.array(options.get("state", sample(self.np_random)), dtype=float)
        self.goal = np.array(options.get("goal_state", sample(self.np_random)), dtype=float)
        return self._look(), self._info()

    def step(self, action: Any) -> Any:
        self.state = move(self.state, np.clip(np.asarray(action, dtype=float), -1, 1))
        return self._look(), 0.0, False, False, self._info()

    def render_state(self, state: np.ndarray) -> np.ndarray:
        return draw(state)

    def _look(self) -> dict[str, np.ndarray]:
        return {"pixels": draw(self.state), "state": self.state.copy()}

    def _info(self) -> dict[str, Any]:
        turn = abs((self.state[2] - self.goal[2] + np.pi) % (2 * np.pi) - np.pi)
        near = np.linalg.norm(self.state[:2] - self.goal[:2]) < 2 and turn < 0.3
        return {"goal": draw(self.goal), "success": bool(near)}


def sample(rng: np.random.Generator) -> np.ndarray:
    """A state (3,) from anywhere."""
    return np.array([*rng.uniform(LOW, HIGH), rng.uniform(-np.pi, np.pi)])


def config() -> Any:
    from latent_planner.model.world_model import WorldModelConfig

    return WorldModelConfig(
        env="known", image_size=SIZE, frameskip=FRAMESKIP, context_len=3, latent_dim=4,
        action_mean=(0.0,) * 3, action_std=(0.5,) * 3, action_low=(-1.0,) * 3, action_high=(1.0,) * 3,
        pixel_mean=(0.9,) * 3, pixel_std=(0.2,) * 3,
    )  # fmt: skip


class TrueModel(nn.Module):
    """Is the simulator: latents are x, y, cosine and sine of the hand, each of about unit variance."""

    moves = True

    def __init__(self) -> None:
        super().__init__()
        self.config = config()
        self.register_buffer("middle", torch.tensor([*(LOW + HIGH) / 2, 0.0, 0.0], dtype=torch.float32))
        scale = [*(HIGH - LOW) / math.sqrt(12), math.sqrt(0.5), math.sqrt(0.5)]
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        self.register_buffer("action_std", torch.tensor(self.config.action_std))

    def encode(self, pixels: Tensor) -> Tensor:
        dark = 255 - pixels.double().amin(2)  # (B, T, h, w), whatever the colours
        left, right = dark.clone(), dark
        left[..., SIZE // 2 :], right[..., : SIZE // 2] = 0, 0
        hand = (_centre(right) - torch.tensor(CLOCK, device=pixels.device)) / HAND
        return ((torch.cat([_centre(left), hand], -1).float() - self.middle) / self.scale).float()

    def step(self, latents: Tensor, blocks: Tensor) -> Tensor:
        """(…, D), (…, F·A) -> (…, D)."""
        if not self.moves:
            return latents
        x = latents * self.scale + self.middle
        low, high = (torch.tensor(bound, dtype=x.dtype, device=x.device) for bound in (LOW, HIGH))
        for action in self.denormalise_actions(blocks.unflatten(-1, (FRAMESKIP, 3))).clamp(-1, 1).unbind(-2):
            at = torch.minimum(torch.maximum(x[..., :2] + PUSH * action[..., :2], low), high)
            hand = torch.atan2(x[..., 3], x[..., 2]) + TURN * action[..., 2]
            x = torch.cat([at, torch.stack([hand.cos(), hand.sin()], -1)], -1)
        return (x - self.middle) / self.scale

    def predict(self, latents: Tensor, actions: Tensor) -> Tensor:
        return self.step(latents, actions)

    def rollout(self, latents: Tensor, candidates: Tensor, past_actions: Tensor | None = None) -> Tensor:
        path = [latents[:, None, -1].expand(-1, candidates.shape[1], -1)]
        for block in candidates.unbind(2):
            path.append(self.step(path[-1], block))
        return torch.stack(path, 2)

    landmarks = None  # goals are near

    def propose(self, latents: Tensor, goals: Tensor, horizon: int) -> None:
        return None

    def normalise_actions(self, actions: Tensor) -> Tensor:
        return actions / self.action_std

    def denormalise_actions(self, actions: Tensor) -> Tensor:
        return actions * self.action_std


class BlindModel(TrueModel):
    """Sees everything, and imagines that nothing ever changes."""

    moves = False


class CollapsedModel(TrueModel):
    """Sees the same in every frame, but for a little noise that depends on nothing of interest."""

    moves = False

    def encode(self, pixels: Tensor) -> Tensor:
        noise = torch.sin(1e3 * super().encode(pixels).double().sum(-1, keepdim=True)).float()
        return 1e-3 * noise * torch.ones(4, device=pixels.device) + 0.5


def _centre(dark: Tensor) -> Tensor:
    """(…, h, w) -> (…, 2): centre of what is dark, x and y."""
    at = torch.arange(SIZE, dtype=dark.dtype, device=dark.device)
    total = dark.sum((-1, -2)).clamp_min(1e-9)
    return torch.stack([(dark.sum(-2) * at).sum(-1) / total, (dark.sum(-1) * at).sum(-1) / total], -1)


@dataclass
class Pairs:
    """Start/goal pairs of the known world, `offset` steps apart."""

    name, version = "known", "test"
    start: np.ndarray
    goal: np.ndarray
    seed: np.ndarray
    offset: int = 12
    budget: int = 24
    vary: tuple[str, ...] = ()
    shown: str = "both"
    rule: str = ""

    def options(self, index: int) -> dict[str, np.ndarray]:
        return {"state": self.start[index], "goal_state": self.goal[index]}

    def first_frames(self, index: int) -> None:
        return None


@lru_cache
def tracks(count: int, length: int, seed: int) -> tuple[Any, ...]:
    """Episodes in which each action is held for a while."""
    from latent_planner.report import Track

    rng, made = np.random.default_rng(seed), []
    for _ in range(count):
        actions = rng.uniform(-1, 1, (length // 4 + 1, 3)).repeat(4, 0)[: length - 1].astype(np.float32)
        state = [sample(rng)]
        for action in actions:
            state.append(move(state[-1], action))
        made.append(Track(np.stack([draw(s) for s in state]), actions, np.array(state)))
    return tuple(made)


def pairs(count: int = 12) -> Pairs:
    found = tracks(count, 20, seed=9)
    start, goal = ([track.state[at] for track in found] for at in (0, 12))
    return Pairs(np.array(start), np.array(goal), np.arange(count))


def evidence(model: str = "true", *, seed: int = 0, plan: bool = True, **others: Any) -> Any:
    """Evidence about the model "true", "blind" or "collapsed"; `others` replaces what Evidence takes."""
    from latent_planner import Agent
    from latent_planner.planners import PlanConfig
    from latent_planner.report import Evidence

    made = {"true": TrueModel, "blind": BlindModel, "collapsed": CollapsedModel}[model]().eval()
    values: dict[str, Any] = {
        "fit": tracks(40, 49, seed=1),
        "held_out": tracks(16, 49, seed=2),
        "state_names": NAMES,
        "angle_names": ANGLES,
        "make_env": KnownWorld,
        "pairs": pairs(),
    }
    if plan:
        search = PlanConfig(num_samples=64, num_elites=8, iterations=4, horizon=5, replan_every=1)
        values["agent"] = Agent(made, plan_config=search, device="cpu", seed=seed)
    return Evidence(made, **(values | {"seed": seed} | others))
