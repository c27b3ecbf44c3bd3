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
        self,
        world_model: WorldModel,
        sigreg: SIGReg,
        *,
        sigreg_weight: float,
        rollout_steps: int = 1,
        sense_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.sense_dropout, self.parts = sense_dropout, world_model.config.parts
        self.world_model, self.sigreg = world_model, sigreg
        self.sigreg_weight, self.rollout_steps = sigreg_weight, rollout_steps
        self.frozen_sigreg: Tensor | None = None
        world_model.encoder.requires_grad_(True)  # an earlier round of training may have frozen it
        if world_model.proposer is not None:
            world_model.proposer.requires_grad_(False)

    @torch.no_grad()
    def freeze_encoder(self, latents: Tensor) -> None:
        """The encoder stops learning; sigreg stays what it is for these latents (B, T, D)."""
        self.world_model.encoder.requires_grad_(False)
        if self.world_model.proposer is not None:
            self.world_model.proposer.requires_grad_(True)
        self.frozen_sigreg = self._sigreg(latents)

    def forward(
        self, pixels: Tensor, actions: Tensor, journeys: Journeys | None = None, *, step: int = 0
    ) -> dict[str, Tensor]:
        """uint8 (B, T, 3, h, w) or latents (B, T, D), normalised blocks (B, T−1, F·A) -> scalars loss,
        prediction, sigreg, and proposal where journeys are given.   step: of training, for SIGReg."""
        latents = self.world_model.encode(pixels) if self.frozen_sigreg is None else pixels
        actions = self.world_model.done(latents, actions)
        predicted, errors = self._with_gaps(latents), []
        for k in range(1, self.rollout_steps + 1):
            predicted = self.world_model.predict(predicted[:, :-1], actions[:, k - 1 :])  # of frames k … T−1
            errors.append((predicted - latents[:, k:]).float().square().mean())
        prediction = torch.stack(errors).mean()
        sigreg = self.frozen_sigreg
        if sigreg is None:
            sigreg = self._sigreg(latents, step)
        losses = {"prediction": prediction, "sigreg": sigreg}
        total = prediction + self.sigreg_weight * sigreg
        if journeys is not None and self.world_model.proposer is not None:
            start, goal = (self._with_gaps(some[:, None])[:, 0] for some in journeys[:2])
            losses["proposal"] = self.world_model.proposer.loss(start, goal, *journeys[2:])
            total = total + losses["proposal"]
        return {"loss": total, **losses}

    def _sigreg(self, latents: Tensor, step: int = 0) -> Tensor:
        """Of latents (B, T, D); with several cameras, the mean over their parts, which may say the same."""
        if not self.parts:
            return self.sigreg(latents.transpose(0, 1), step=step)
        each = [self.sigreg(latents[..., part].transpose(0, 1), step=step) for part in self.parts.values()]
        return torch.stack(each).mean()

    def _with_gaps(self, latents: Tensor) -> Tensor:
        """Latents (B, T, D) without the parts of some cameras, or of the vector, which are 0 for all of a
        window, but never all parts; with one camera, the latents as they are."""
        if not self.parts or not self.sense_dropout:
            return latents
        kept = torch.rand(len(latents), len(self.parts), device=latents.device) >= self.sense_dropout
        some = torch.randint(len(self.parts), (len(latents),), device=latents.device)
        kept |= (~kept.any(1))[:, None] & nn.functional.one_hot(some, len(self.parts)).bool()
        sizes = [part.stop - part.start for part in self.parts.values()]
        mask = kept.repeat_interleave(torch.tensor(sizes, device=latents.device), dim=1)
        return latents * mask[:, None]
