"""What a world model is trained on: predict the next latents, and keep them from collapsing.

Once the latents stay as they are, also: guess the actions between two of them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..model.world_model import WorldModel
from .dataset import Journeys
from .sigreg import SIGReg


class LatentLoss(nn.Module):
    """Squared prediction error + sigreg_weight · SIGReg. Targets have a gradient; frames are encoded once.

    rollout_steps  K: the error is averaged over predictions k = 1 … K steps ahead. One step ahead starts from
                   true latents (the published loss), k steps from the predictions k − 1 steps ahead.

    After `freeze_encoder` it takes latents in the place of pixels: only the predictor learns then, and beside
    it the proposer, if the model has one, from journeys.

    Source: LeWorldModel, arXiv 2603.19312.
    """

    def __init__(
        self, world_model: WorldModel, sigreg: SIGReg, *, sigreg_weight: float, rollout_steps: int = 1
    ) -> None:
        super().__init__()
        self.world_model, self.sigreg = world_model, sigreg
        self.sigreg_weight, self.rollout_steps = sigreg_weight, rollout_steps
        self.frozen_sigreg: Tensor | None = None
        if world_model.proposer is not None:
            world_model.proposer.requires_grad_(False)

    @torch.no_grad()
    def freeze_encoder(self, latents: Tensor) -> None:
        """The encoder stops learning; sigreg stays what it is for these latents (B, T, D)."""
        self.world_model.encoder.requires_grad_(False)
        if self.world_model.proposer is not None:
            self.world_model.proposer.requires_grad_(True)
        self.frozen_sigreg = self.sigreg(latents.transpose(0, 1))

    def forward(
        self, pixels: Tensor, actions: Tensor, journeys: Journeys | None = None, *, step: int = 0
    ) -> dict[str, Tensor]:
        """uint8 (B, T, 3, h, w) or latents (B, T, D), normalised blocks (B, T−1, F·A) -> scalars loss,
        prediction, sigreg, and proposal where journeys are given.   step: of training, for SIGReg."""
        latents = self.world_model.encode(pixels) if self.frozen_sigreg is None else pixels
        predicted, errors = latents, []
        for k in range(1, self.rollout_steps + 1):
            predicted = self.world_model.predict(predicted[:, :-1], actions[:, k - 1 :])  # of frames k … T−1
            errors.append((predicted - latents[:, k:]).float().square().mean())
        prediction = torch.stack(errors).mean()
        sigreg = self.frozen_sigreg
        if sigreg is None:
            sigreg = self.sigreg(latents.transpose(0, 1), step=step)
        losses = {"prediction": prediction, "sigreg": sigreg}
        total = prediction + self.sigreg_weight * sigreg
        if journeys is not None and self.world_model.proposer is not None:
            losses["proposal"] = self.world_model.proposer.loss(*journeys)
            total = total + losses["proposal"]
        return {"loss": total, **losses}
