"""The encoder of several cameras and the robot's own vector: a part of one latent for each.

The parts lie side by side, so a goal that shows one camera says what that camera's part is to be, and nothing
of the others; the predictor sees and predicts all of them together. What is missing leaves its part 0, the
mean of what SIGReg asks of every part. Each part is held at a Gaussian by itself, so two cameras may see the
same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from .encoder import Encoder, make_encoder
from .projector import Projector

if TYPE_CHECKING:
    from .world_model import WorldModelConfig

VECTOR = "proprio"


class Senses(nn.Module):
    """Normalised frames (N, 3, S, S) by camera, and vectors (N, P) -> latents (N, D).

    One encoder for all cameras, whose features a learned embedding shifts for each; or an encoder each.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.parts, self.size = config.parts, config.latent_dim
        width = config.parts[config.cameras[0]]
        own = config.camera_encoders == "own"
        self.encoders = nn.ModuleList(
            make_encoder(config, latent_dim=width.stop - width.start)
            for _ in (config.cameras if own else config.cameras[:1])
        )
        self.cameras = config.cameras
        features = self._encoder(0).features
        self.embedding = None if own else nn.Parameter(torch.randn(len(config.cameras), features))
        self.vector = None
        if config.proprio:
            self.vector = Projector(len(config.proprio), config.proprio_width, config.proprio_dims)
            self.register_buffer("mean", torch.tensor(config.proprio_mean), persistent=False)
            self.register_buffer("std", torch.tensor(config.proprio_std), persistent=False)

    def _encoder(self, index: int) -> Encoder:
        return cast(Encoder, self.encoders[index])

    def forward(self, frames: Mapping[str, Tensor], vector: Tensor | None) -> Tensor:
        found: dict[str, Tensor] = {}
        if self.embedding is not None and frames:  # all at once, as BatchNorm has to see all
            features = self._encoder(0).backbone(torch.cat(list(frames.values())))
            which = [
                self.embedding[self.cameras.index(name)].expand(x.shape[0], -1) for name, x in frames.items()
            ]
            latents = self._encoder(0).project(features + torch.cat(which).to(features.dtype))
            found = dict(zip(frames, latents.split([x.shape[0] for x in frames.values()])))
        elif frames:
            found = {name: self.encoders[self.cameras.index(name)](x) for name, x in frames.items()}
        if vector is not None and self.vector is not None:
            found[VECTOR] = self.vector((vector - self.mean) / self.std)
        some = next(iter(found.values()))
        return torch.cat(
            [
                found[name] if name in found else some.new_zeros(some.shape[0], part.stop - part.start)
                for name, part in self.parts.items()
            ],
            dim=-1,
        )
