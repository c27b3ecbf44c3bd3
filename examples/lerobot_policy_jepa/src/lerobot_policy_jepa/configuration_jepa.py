"""What LeRobot knows of this policy before it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lerobot.configs.policies import PreTrainedConfig
from lerobot.configs.types import FeatureType, NormalizationMode


@PreTrainedConfig.register_subclass("jepa")
@dataclass
class JepaConfig(PreTrainedConfig):
    """checkpoint: a run folder of train.py, a bundled name, or hf://owner/name.

    image_key: the camera, of those the robot has.   goal_key: where a batch may carry goal pictures.
    keys: of a world model of several cameras, where a batch has each of them and the vector `proprio`;
        default observation.images.NAME and observation.state. Goals are under goal_key.NAME.
    goal_path: a picture to reach, where no batch carries one; of several cameras, of the first.
    goal_steps: control steps to get there.
    chunk_size: actions that predict_action_chunk gives; None: the whole plan.
    planner: how to search, changing what the checkpoint says, as {"num_samples": 64, "deadline": 0.1}.
    world_model: of weights that LeRobot saved, what they are the weights of; save_pretrained fills it.
    """

    checkpoint: str = "pusht"
    image_key: str = "observation.image"
    keys: dict[str, str] = field(default_factory=dict)
    goal_key: str = "observation.goal"
    goal_path: str | None = None
    goal_steps: int | None = None
    chunk_size: int | None = None
    seed: int = 0
    planner: dict[str, Any] = field(default_factory=dict)
    world_model: dict[str, Any] = field(default_factory=dict)
    # the world model normalises by itself, with the statistics it was trained with
    normalization_mapping: dict[str, NormalizationMode] = field(
        default_factory=lambda: {kind: NormalizationMode.IDENTITY for kind in ("VISUAL", "STATE", "ACTION")}
    )

    @property
    def observation_delta_indices(self) -> None:
        return None

    @property
    def action_delta_indices(self) -> None:
        return None

    @property
    def reward_delta_indices(self) -> None:
        return None

    def get_optimizer_preset(self) -> Any:
        raise NotImplementedError("This policy plans; train its world model with latent-planner's train.py.")

    def get_scheduler_preset(self) -> None:
        return None

    def key(self, name: str) -> str:
        """Where a batch has this camera, of several, or the vector."""
        usual = "observation.state" if name == "proprio" else f"observation.images.{name}"
        return self.keys.get(name, usual)

    def validate_features(self) -> None:
        """ValueError unless the camera called image_key, or one of several, is among those of the robot."""
        cameras = [
            key for key, known in (self.input_features or {}).items() if known.type is FeatureType.VISUAL
        ]
        several = [self.key(name) for name in self.world_model.get("cameras", ())]
        told = ", ".join(sorted(cameras))
        if cameras and several and not set(several) & set(cameras):
            raise ValueError(f"There is none of {', '.join(several)}: say in keys what is called {told}.")
        if cameras and not several and self.image_key not in cameras:
            raise ValueError(f"There is no camera {self.image_key!r}: set image_key to one of {told}.")
