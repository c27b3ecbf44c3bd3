"""Predictors: the latent one model step later, from the last latents and the action block taken at each.

A rollout computes no token twice where the mathematics allows: what N candidates share is computed once, as
N = 1, keys and values of earlier tokens are kept, and the last block computes the last token only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .projector import Projector
from .transformer import Block, KeyValue

if TYPE_CHECKING:
    from .world_model import WorldModelConfig


def make_predictor(config: WorldModelConfig) -> Predictor:
    """The predictor that config names, with fresh weights."""
    return {"banded": BandedPredictor, "lewm": LeWMPredictor}[config.predictor](config)


class Predictor(nn.Module):
    """What the predictors share. Subclasses say how actions and latents enter and how a prediction leaves."""

    slides: bool  # positions count from the start of the window: a window that moves is computed anew

    def __init__(self, config: WorldModelConfig, *, inner_norm: bool, relative_positions: bool) -> None:
        super().__init__()
        self.context_len = config.context_len
        self.blocks = nn.ModuleList(
            Block(
                width=config.predictor_width,
                heads=config.predictor_heads,
                head_dim=config.predictor_head_dim,
                mlp_dim=config.predictor_mlp_dim,
                dropout=config.dropout,
                window=config.context_len,
                inner_norm=inner_norm,
                relative_positions=relative_positions,
            )
            for _ in range(config.predictor_depth)
        )
        self.norm = nn.LayerNorm(config.predictor_width)

    def embed_actions(self, actions: Tensor) -> Tensor:
        """(…, F·A) normalised -> (…, width)."""
        raise NotImplementedError

    def embed_latents(self, latents: Tensor, position: int) -> Tensor:
        """(…, T, D) -> (…, T, width); position: of the first of them in the window."""
        raise NotImplementedError

    def read_out(self, features: Tensor, latents: Tensor) -> Tensor:
        """Normalised features (…, width) of tokens whose latents are (…, D) -> the next latents (…, D)."""
        raise NotImplementedError

    def forward(self, latents: Tensor, actions: Tensor) -> Tensor:
        """(B, T, D), (B, T, F·A) -> (B, T, D): entry t follows latents[:, t] under actions[:, t]."""
        x, embedded = self.embed_latents(latents, 0), F.silu(self.embed_actions(actions))
        for block in self._blocks():
            x = block(x, block.steer(embedded))
        return self.read_out(self.norm(x), latents)

    def rollout(self, latents: Tensor, past_actions: Tensor, candidates: Tensor) -> Tensor:
        """(B, T, D), (B, T-1, F·A), (B, N, H, F·A) -> (B, N, H, D): the predicted latents, each fed back.

        Token i is latent i with the action taken there; up to T-2 all candidates share it. Same numbers as
        `forward` on the last window (slides) or on everything so far (otherwise), last output kept.
        """
        now, horizon = latents.shape[1] - 1, candidates.shape[2]
        tokens = list(latents[:, :, None].unbind(1))  # (B, 1, D) each; later (B, N, D)
        shared = self._steer(rearrange(past_actions, "b t a -> t b 1 a"))
        own = self._steer(rearrange(candidates, "b n h a -> h b n a").contiguous())
        first, past = 0, self._nothing()  # of the window; what its tokens up to the newest have left
        for newest in range(now, now + horizon):
            start = max(0, newest + 1 - self.context_len) if self.slides else 0
            fresh = newest == now or start != first
            first = start
            if fresh:  # nothing was kept, or what was has the wrong positions
                past = self._nothing()
                if first < now:
                    x = torch.stack(tokens[first:now])
                    _, past = self._advance(x, [s[first:] for s in shared], past, 0, outputs=0)
            begin = max(first, now) if fresh else newest
            x = _stacked(tokens[begin : newest + 1])
            some = [s[begin - now : newest - now + 1] for s in own]
            x, past = self._advance(x, some, past, begin - first, outputs=1)
            tokens.append(self.read_out(self.norm(x[0]), tokens[-1]).to(latents.dtype))
        return torch.stack(tokens[now + 1 :], 2)

    def _blocks(self) -> list[Block]:
        return [cast(Block, block) for block in self.blocks]

    def _nothing(self) -> list[KeyValue | None]:
        return [None for _ in self.blocks]

    def _steer(self, actions: Tensor) -> list[Tensor]:
        """Per block, what its AdaLN makes of the actions: (T, B, N, F·A) -> (T, B, N, 6·width)."""
        embedded = F.silu(self.embed_actions(actions))
        return [block.steer(embedded) for block in self._blocks()]

    def _advance(
        self,
        tokens: Tensor,
        steering: list[Tensor],
        past: list[KeyValue | None],
        position: int,
        *,
        outputs: int,
    ) -> tuple[Tensor, list[KeyValue | None]]:
        """Put tokens (T, B, N or 1, D) behind the past -> features of the last `outputs`, the longer past."""
        x = self.embed_latents(rearrange(tokens, "t b n d -> b n t d"), position)
        x = rearrange(x, "b n t width -> t b n width")
        following: list[KeyValue | None] = []
        for i, block in enumerate(self._blocks()):
            wanted = outputs if i == len(self.blocks) - 1 else len(x)
            x, kept = block.step(x, steering[i], past[i], outputs=wanted)
            following.append(kept)
        return x, following


def _stacked(tokens: list[Tensor]) -> Tensor:
    """(B, N or 1, D) each -> (T, B, N, D); a single one is not copied."""
    return tokens[0][None] if len(tokens) == 1 else torch.stack(torch.broadcast_tensors(*tokens))


class LeWMPredictor(Predictor):
    """The published predictor: positions 0 … context_len-1 within the window, a BatchNorm MLP at the end."""

    slides = True

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__(config, inner_norm=True, relative_positions=False)
        width = config.predictor_width
        self.action_encoder = nn.Sequential(
            nn.Linear(config.block_dim, 10), nn.Linear(10, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)
        )
        self.positions = nn.Parameter(torch.empty(1, config.context_len, width))
        if not self.positions.is_meta:  # there, torch would load its compiler for it: a second's work
            nn.init.normal_(self.positions)
        self.head = Projector(width, config.projector_dim, config.latent_dim)

    def embed_actions(self, actions: Tensor) -> Tensor:
        return self.action_encoder(actions)

    def embed_latents(self, latents: Tensor, position: int) -> Tensor:
        return latents + self.positions[:, position : position + latents.shape[-2]]

    def read_out(self, features: Tensor, latents: Tensor) -> Tensor:
        return self.head(features)


class BandedPredictor(Predictor):
    """Small and quick: predicts the change of the latent.

    In each block a token sees itself and the context_len - 1 before it. It knows how far back each is, not at
    which position: keys and values stay valid while a rollout moves on.
    """

    slides = False

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__(config, inner_norm=False, relative_positions=True)
        width = config.predictor_width
        self.action_encoder = nn.Sequential(
            nn.Linear(config.block_dim, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.input = nn.Linear(config.latent_dim, width)
        self.output = nn.Linear(width, config.latent_dim)
        with torch.no_grad():  # start near "nothing changes"
            self.output.weight.mul_(0.1)
            self.output.bias.zero_()

    def embed_actions(self, actions: Tensor) -> Tensor:
        return self.action_encoder(actions)

    def embed_latents(self, latents: Tensor, position: int) -> Tensor:
        return self.input(latents)

    def read_out(self, features: Tensor, latents: Tensor) -> Tensor:
        return latents + self.output(features)
