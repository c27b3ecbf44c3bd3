"""The policy: LeRobot's batches of tensors on the outside, an Agent inside."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.pretrained import PreTrainedPolicy
from torch import Tensor

from latent_planner import Agent
from latent_planner import goal_image as images
from latent_planner.checkpoints import checkpoint
from latent_planner.model.senses import VECTOR
from latent_planner.model.world_model import WorldModel, WorldModelConfig
from lerobot_policy_jepa.configuration_jepa import JepaConfig


class JepaPolicy(PreTrainedPolicy):
    """Plans to a goal picture: from `set_goal`, from a batch under config.goal_key, or config.goal_path.

    A batch holds frames under config.image_key, float (B, 3, H, W) from 0 to 1, or uint8; for a world model
    of several cameras and a vector (B, P) under config.key(NAME), those that there are. Actions leave in the
    robot's units and inside the bounds that the world model was trained with.
    """

    config_class = JepaConfig
    name = "jepa"

    def __init__(self, config: JepaConfig, **_: Any) -> None:
        """config is copied.   _: what LeRobot offers every policy (statistics of a dataset): not needed here.

        Raises CheckpointError, PlanError, and ValueError where the robot has other cameras or actions.
        """
        config = copy.deepcopy(config)
        super().__init__(config)
        if config.world_model:  # saved by LeRobot, which puts the weights in afterwards
            world_model = WorldModel(WorldModelConfig.from_dict(config.world_model))
        else:
            world_model, info = checkpoint.load(config.checkpoint)
            config.world_model, config.planner = (
                world_model.config.to_dict(),
                info["planner"] | config.planner,
            )
        config.validate_features()
        settings = checkpoint.agent_settings(config.planner)
        self.agent = Agent(world_model, settings, device=config.device or "auto", seed=config.seed)
        self.world_model = world_model  # so that weights are moved, saved and counted
        self._fill_features(world_model.config)
        self._goal: Any = None if config.goal_path is None else images.read_goal(config.goal_path)
        if self._goal is not None and world_model.config.several:
            self._goal = {world_model.config.cameras[0]: self._goal}
        self._count = 0  # problems that the agent has goals for

    def _fill_features(self, model: WorldModelConfig) -> None:
        """Say what goes in and out where nobody did; ValueError where somebody wants other actions."""
        frame = PolicyFeature(FeatureType.VISUAL, (3, model.image_size, model.image_size))
        inputs = {self.config.key(name): frame for name in model.cameras} or {self.config.image_key: frame}
        if model.proprio:
            inputs[self.config.key("proprio")] = PolicyFeature(FeatureType.STATE, (len(model.proprio),))
        self.config.input_features = self.config.input_features or inputs
        wanted = PolicyFeature(FeatureType.ACTION, (model.action_dim,))
        given = (self.config.output_features or {}).setdefault("action", wanted)
        self.config.output_features = self.config.output_features or {"action": given}
        if tuple(given.shape) != tuple(wanted.shape):
            raise ValueError(
                f"The robot's actions have shape {tuple(given.shape)}, those of {model.env}, which the "
                f"checkpoint learned, {tuple(wanted.shape)}: choose a checkpoint trained on this robot."
            )

    def set_goal(self, pixels: Any) -> None:
        """Pursue this picture from now on, uint8 (H, W, 3), or (B, H, W, 3), one per environment; of several
        cameras, a dict of what the goal shows of them and of the vector."""
        several = isinstance(pixels, dict)
        self._goal = {k: np.asarray(v) for k, v in pixels.items()} if several else np.asarray(pixels)
        self._count = 0

    def reset(self) -> None:
        """A new episode: forget plan and context. The goal of set_goal or goal_path stays."""
        self.agent.reset()
        self._count = 0

    @torch.no_grad()
    def select_action(self, batch: dict[str, Tensor], **_: Any) -> Tensor:
        """The next action (B, A); call it once per control step. ValueError for frames that cannot be used,
        PlanError without a goal."""
        frames = self._look(batch)
        return torch.from_numpy(self.agent.act(frames)).to(self.agent.device)

    @torch.no_grad()
    def predict_action_chunk(self, batch: dict[str, Tensor], **_: Any) -> Tensor:
        """A fresh plan, (B, chunk, A); what select_action is doing does not change."""
        plan = self.agent.plan(self._look(batch))
        return torch.from_numpy(plan.actions[:, : self.config.chunk_size]).to(self.agent.device)

    def forward(self, batch: dict[str, Tensor]) -> tuple[Tensor, dict | None]:
        raise NotImplementedError("This policy plans; train its world model with latent-planner's train.py.")

    def get_optim_params(self) -> dict:
        return {"params": list(self.parameters())}

    def _look(self, batch: dict[str, Tensor]) -> Any:
        """What the agent sees of this batch, after it has been told of goals that are new."""
        seen, goal = self._seen(batch)
        if goal is not None and not _same(goal, self._goal):
            self.set_goal(goal)
        count = len(next(iter(seen.values()))) if isinstance(seen, dict) else len(seen)
        if self._goal is not None and self._count != count:
            self.agent.reset()
            self.agent.set_goal(_for_each(self._goal, count), steps=self.config.goal_steps)
            self._count = count
        return seen

    def _seen(self, batch: dict[str, Tensor]) -> tuple[Any, Any]:
        """Frames (B, H, W, 3), or views by name, and the same of the goal where the batch holds one."""
        config, names = self.config, tuple(self.world_model.config.parts)
        if not names:
            goal = _pictures(batch, config.goal_key) if config.goal_key in batch else None
            return _pictures(batch, config.image_key), goal
        keys = {name: config.key(name) for name in names}
        seen, goal = (
            {name: _view(batch, name, key) for name, key in where.items() if key in batch}
            for where in (keys, {name: f"{config.goal_key}.{name}" for name in names})
        )
        if not seen:
            told = f"{', '.join(keys.values())}, only {', '.join(sorted(batch))}"
            raise ValueError(f"The batch has none of {told}: set keys.")
        return seen, goal or None


def _view(batch: dict[str, Any], name: str, key: str) -> np.ndarray:
    """A camera's pictures, or the vector float32 (B, P)."""
    if name != VECTOR:
        return _pictures(batch, key)
    return torch.as_tensor(batch[key]).float().cpu().numpy()


def _same(goal: Any, before: Any) -> bool:
    if not isinstance(goal, dict):
        return np.array_equal(goal, before)
    known = before if isinstance(before, dict) else {}
    return set(goal) == set(known) and all(np.array_equal(goal[name], known[name]) for name in goal)


def _for_each(goal: Any, count: int) -> Any:
    """The goal with B in front, where it has none."""
    if isinstance(goal, dict):
        axes = {name: 1 if name == VECTOR else 3 for name in goal}
        return {name: np.broadcast_to(v, (count, *v.shape[-axes[name] :])) for name, v in goal.items()}
    return np.broadcast_to(goal, (count, *goal.shape[-3:]))


def _pictures(batch: dict[str, Any], key: str) -> np.ndarray:
    """batch[key], (B, 3, H, W), as uint8 (B, H, W, 3). ValueError says what is wrong."""
    if key not in batch:
        raise ValueError(f"The batch has no {key!r}, only {', '.join(sorted(batch))}: set image_key.")
    frames = torch.as_tensor(batch[key])
    if frames.ndim != 4 or frames.shape[1] != 3:
        raise ValueError(f"{key} must be (B, 3, H, W), not {tuple(frames.shape)}.")
    if frames.is_floating_point():
        if not ((frames >= 0) & (frames <= 1)).all():  # also for NaN
            raise ValueError(f"{key} must be from 0 to 1: leave out the normalisation of images.")
        frames = (255 * frames.float()).round().to(torch.uint8)
    if frames.dtype != torch.uint8:
        raise ValueError(f"{key} must be float or uint8, not {frames.dtype}.")
    return np.ascontiguousarray(frames.permute(0, 2, 3, 1).cpu().numpy())
