"""As much of lerobot 0.6.1 as a policy meets, written anew: what it registers, inherits and is handed.

`install` puts these modules where `import lerobot…` finds them.
"""

from __future__ import annotations

import json
import sys
import types
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model


class FeatureType(StrEnum):
    VISUAL = "VISUAL"
    STATE = "STATE"
    ACTION = "ACTION"


class NormalizationMode(StrEnum):
    IDENTITY = "IDENTITY"
    MEAN_STD = "MEAN_STD"


@dataclass
class PolicyFeature:
    type: FeatureType
    shape: tuple[int, ...]


@dataclass
class PreTrainedConfig:
    input_features: dict[str, PolicyFeature] | None = field(default_factory=dict)
    output_features: dict[str, PolicyFeature] | None = field(default_factory=dict)
    device: str | None = "cpu"
    pretrained_path: str | None = None

    known = {}  # noqa: RUF012  (name -> class, as theirs has it)

    @classmethod
    def register_subclass(cls, name: str) -> Any:
        def register(subclass: type) -> type:
            cls.known[name] = subclass
            return subclass

        return register

    @property
    def type(self) -> str:
        return next(name for name, cls in self.known.items() if cls is type(self))


class PreTrainedPolicy(torch.nn.Module):
    """Weights under `model.safetensors`, the configuration under `config.json`, beside each other."""

    config_class: Any = None
    name: Any = None

    def __init__(self, config: PreTrainedConfig) -> None:
        super().__init__()
        assert isinstance(config, PreTrainedConfig)
        self.config = config

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        assert cls.config_class and cls.name
        for method in ("reset", "forward", "select_action", "predict_action_chunk", "get_optim_params"):
            assert method in vars(cls), f"{method} is abstract"

    def save_pretrained(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        save_model(self, str(folder / "model.safetensors"))
        (folder / "config.json").write_text(json.dumps({"type": self.name, **asdict(self.config)}))

    @classmethod
    def from_pretrained(cls, folder: Path) -> Any:
        values = json.loads((folder / "config.json").read_text())
        config_class: Any = PreTrainedConfig.known[values.pop("type")]
        for side in ("input_features", "output_features"):
            values[side] = {
                key: PolicyFeature(FeatureType(known["type"]), tuple(known["shape"]))
                for key, known in values[side].items()
            }
        policy = cls(config_class(**values))
        load_model(policy, str(folder / "model.safetensors"), strict=True)
        return policy.eval()


class _Step:
    def __init__(self, **options: Any) -> None:
        self.options = options


class RenameObservationsProcessorStep(_Step):
    pass


class DeviceProcessorStep(_Step):
    pass


class AddBatchDimensionProcessorStep(_Step):
    pass


class PolicyProcessorPipeline:
    def __init__(self, steps: list[Any], name: str, to_transition: Any = None, to_output: Any = None) -> None:
        self.steps, self.name = steps, name
        self.to_transition, self.to_output = to_transition, to_output


def install(monkeypatch: Any) -> None:
    """Until the test ends, `import lerobot` gives these."""
    this = sys.modules[__name__]
    constants = {
        "POLICY_PREPROCESSOR_DEFAULT_NAME": "policy_preprocessor",
        "POLICY_POSTPROCESSOR_DEFAULT_NAME": "policy_postprocessor",
    }
    converters = {"policy_action_to_transition": dict, "transition_to_policy_action": dict}
    contents: dict[str, Any] = {
        "lerobot": {},
        "lerobot.configs": {},
        "lerobot.configs.policies": vars(this),
        "lerobot.configs.types": vars(this),
        "lerobot.policies": {},
        "lerobot.policies.pretrained": vars(this),
        "lerobot.processor": vars(this),
        "lerobot.processor.converters": converters,
        "lerobot.utils": {},
        "lerobot.utils.constants": constants,
    }
    for name, content in contents.items():
        module = types.ModuleType(name)
        vars(module).update({key: value for key, value in content.items() if not key.startswith("__")})
        monkeypatch.setitem(sys.modules, name, module)
