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
from latent_planner.model.world_model import WorldModel, WorldModelConfig
from lerobot_policy_jepa.configuration_jepa import JepaConfig


class JepaPolicy(PreTrainedPolicy):
    """Plans to a goal picture: from `set_goal`, from a batch under config.goal_key, or config.goal_path.

    A batch holds frames under config.image_key, float (B, 3, H, W) from 0 to 1, or uint8. Actions leave in
    the robot's units and inside the bounds that the world model was trained with.
    """

    config_class = JepaConfig
    name = "jepa"

    def __init__(self, config: JepaConfig, **_: Any) -> None:
        """config is copied.   _: what LeRobot offers every policy (statistics of a dataset): not needed here.

        Raises CheckpointError, PlanError, and ValueError where the robot has other cameras or actions.
        """
        config = copy.deepcopy(config)
        super().__init__(config)
        config.validate_features()
        if config.world_model:  # saved by LeRobot, which puts the weights in afterwards
            world_model = WorldModel(WorldModelConfig.from_dict(config.world_model))
        else:
            world_model, info = checkpoint.load(config.checkpoint)
            config.world_model, config.planner = (
                world_model.config.to_dict(),
                info["planner"] | config.planner,
            )
        settings = checkpoint.agent_settings(config.planner)
        self.agent = Agent(world_model, settings, device=config.device or "auto", seed=config.seed)
        self.world_model = world_model  # so that weights are moved, saved and counted
        self._fill_features(world_model.config)
        self._goal = None if config.goal_path is None else images.read_goal(config.goal_path)
        self._count = 0  # problems that the agent has goals for

    def _fill_features(self, model: WorldModelConfig) -> None:
        """Say what goes in and out where nobody did; ValueError where somebody wants other actions."""
        frame = PolicyFeature(FeatureType.VISUAL, (3, model.image_size, model.image_size))
        self.config.input_features = self.config.input_features or {self.config.image_key: frame}
        wanted = PolicyFeature(FeatureType.ACTION, (model.action_dim,))
        given = (self.config.output_features or {}).setdefault("action", wanted)
        self.config.output_features = self.config.output_features or {"action": given}
        if tuple(given.shape) != tuple(wanted.shape):
            raise ValueError(
                f"The robot's actions have shape {tuple(given.shape)}, those of {model.env}, which the "
                f"checkpoint learned, {tuple(wanted.shape)}: choose a checkpoint trained on this robot."
            )

    def set_goal(self, pixels: np.ndarray) -> None:
        """Pursue this picture from now on, uint8 (H, W, 3), or (B, H, W, 3), one per environment."""
        self._goal, self._count = np.asarray(pixels), 0

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

    def _look(self, batch: dict[str, Tensor]) -> np.ndarray:
        """Frames (B, H, W, 3) of this batch, after the agent has been told of goals that are new."""
        frames = _pictures(batch, self.config.image_key)
        goal = _pictures(batch, self.config.goal_key) if self.config.goal_key in batch else None
        if goal is not None and not np.array_equal(goal, self._goal):
            self.set_goal(goal)
        if self._goal is not None and self._count != len(frames):
            goals = np.broadcast_to(self._goal, (len(frames), *self._goal.shape[-3:]))
            self.agent.reset()
            self.agent.set_goal(goals, steps=self.config.goal_steps)
            self._count = len(frames)
        return frames


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
