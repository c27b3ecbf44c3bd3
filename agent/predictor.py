"""Predictors: the latent one model step later, from the last latents and the action block taken at each.

Both are causal transformers whose blocks are steered by the action through zero-initialised AdaLN (Peebles &
Xie, arXiv 2212.09748). Inside, tensors are (B, N, T, …). What N candidates share is computed once, as N = 1,
and keys and values stored for earlier tokens are not computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from agent.projector import Projector

if TYPE_CHECKING:
    from agent.world_model import WorldModelConfig

KeysValues = tuple[Tensor, Tensor]  # each (B, N or 1, heads, tokens, head_dim)


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
        steering = self._steer(actions[:, None])
        return self._advance(latents[:, None], steering, position=0, outputs=latents.shape[1])[0][:, 0]

    def rollout(self, latents: Tensor, past_actions: Tensor, candidates: Tensor) -> Tensor:
        """(B, T, D), (B, T-1, F·A), (B, N, H, F·A) -> (B, N, H, D): the predicted latents, each fed back.

        Token i is latent i with the action taken there; up to T-2 all candidates share it. Same numbers as
        `forward` on the last window (slides) or on everything so far (otherwise), last output kept.
        """
        known, now = latents[:, None], latents.shape[1] - 1
        shared, own = self._steer(past_actions[:, None]), self._steer(candidates)
        tokens = known[:, :, now:].expand(-1, candidates.shape[1], -1, -1)  # per candidate, from `now` on
        start, caches = 0, None  # start: the first token of the window
        for newest in range(now, now + candidates.shape[2]):
            before, start = start, max(0, newest + 1 - self.context_len) if self.slides else 0
            if newest == now or start != before:
                first, caches = start, None
            else:
                first = newest  # everything before it is in the caches
            if first < now:
                some = [s[:, :, first:] for s in shared]
                _, caches = self._advance(known[:, :, first:now], some, first - start, outputs=0)
            first = max(first, now)
            some = [s[:, :, first - now : newest - now + 1] for s in own]
            new = tokens[:, :, first - now :]
            predicted, caches = self._advance(new, some, first - start, caches, outputs=1)
            tokens = torch.cat([tokens, predicted.to(tokens.dtype)], 2)
        return tokens[:, :, 1:]

    def _steer(self, actions: Tensor) -> list[Tensor]:
        """Per block, what its AdaLN makes of the actions: (B, N, T, F·A) -> (B, N, T, 6·width)."""
        embedded = F.silu(self.embed_actions(actions))
        return [block.modulation(embedded) for block in self.blocks]  # type: ignore[operator]

    def _advance(
        self,
        latents: Tensor,
        steering: Sequence[Tensor],
        position: int,
        caches: Sequence[KeysValues] | None = None,
        *,
        outputs: int,
    ) -> tuple[Tensor, list[KeysValues]]:
        """Put tokens (B, N, T, D) behind the cached ones -> predictions of the last `outputs`, caches."""
        x, new_caches = self.embed_latents(latents, position), []
        for i, block in enumerate(self.blocks):
            wanted = outputs if i == len(self.blocks) - 1 else x.shape[2]
            x, cache = block(x, steering[i], caches[i] if caches else None, outputs=wanted)
            new_caches.append(cache)
        if outputs == 0:
            return latents[:, :, :0], new_caches
        return self.read_out(self.norm(x), latents[:, :, -outputs:]), new_caches


class LeWMPredictor(Predictor):
    """The published predictor: positions 0 … context_len-1 within the window, a BatchNorm MLP at the end."""

    slides = True

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__(config, inner_norm=True, relative_positions=False)
        width = config.predictor_width
        self.action_encoder = nn.Sequential(
            nn.Linear(config.block_dim, 10), nn.Linear(10, 4 * width), nn.SiLU(), nn.Linear(4 * width, width)
        )
        self.positions = nn.Parameter(torch.randn(1, config.context_len, width))
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


class Block(nn.Module):
    """Attention and MLP; the action gives each a shift, a scale and a gate, at first zero: the identity."""

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        head_dim: int,
        mlp_dim: int,
        dropout: float,
        window: int,
        inner_norm: bool,
        relative_positions: bool,
    ) -> None:
        super().__init__()
        self.attention = Attention(
            width=width, heads=heads, head_dim=head_dim, dropout=dropout, window=window,
            inner_norm=inner_norm, relative_positions=relative_positions,
        )  # fmt: skip
        self.mlp = nn.Sequential(
            nn.LayerNorm(width) if inner_norm else nn.Identity(),
            nn.Linear(width, mlp_dim),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(mlp_dim, width),
            nn.Dropout(dropout),
        )
        self.norm = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(
        self, x: Tensor, steering: Tensor, cache: KeysValues | None, *, outputs: int
    ) -> tuple[Tensor, KeysValues]:
        """x (B, N, T, width), steering (B, N, T, 6·width) -> the last `outputs` tokens, keys and values."""
        shift, scale, *_ = steering.chunk(6, -1)
        attended, cache = self.attention(self.norm(x) * (1 + scale) + shift, cache, outputs=outputs)
        if outputs == 0:
            return attended, cache
        _, _, gate, mlp_shift, mlp_scale, mlp_gate = steering[:, :, -outputs:].chunk(6, -1)
        x = x[:, :, -outputs:] + gate * attended
        return x + mlp_gate * self.mlp(self.norm(x) * (1 + mlp_scale) + mlp_shift), cache


class Attention(nn.Module):
    """Causal attention over the last `window` tokens, of which the earlier ones may come from a cache."""

    def __init__(
        self,
        *,
        width: int,
        heads: int,
        head_dim: int,
        dropout: float,
        window: int,
        inner_norm: bool,
        relative_positions: bool,
    ) -> None:
        super().__init__()
        self.heads, self.window, self.dropout = heads, window, dropout
        self.inner_dim = heads * head_dim
        self.norm = nn.LayerNorm(width) if inner_norm else nn.Identity()
        self.qkv = nn.Linear(width, 3 * self.inner_dim, bias=False)
        self.output = nn.Sequential(nn.Linear(self.inner_dim, width), nn.Dropout(dropout))
        # added to the score of a token 0, 1, … steps back
        self.distance_bias = nn.Parameter(torch.zeros(heads, window)) if relative_positions else None

    def forward(self, x: Tensor, cache: KeysValues | None, *, outputs: int) -> tuple[Tensor, KeysValues]:
        """x (B, N, T, width) -> (B, N, outputs, width), keys and values that later tokens will need."""
        x = self.norm(x)
        weight_q, weight_kv = self.qkv.weight.split([self.inner_dim, 2 * self.inner_dim])
        k, v = (self._heads(t) for t in F.linear(x, weight_kv).chunk(2, -1))
        if cache is not None:
            past_k, past_v = (t.expand(-1, x.shape[1], -1, -1, -1) for t in cache)
            k, v = torch.cat([past_k, k], -2), torch.cat([past_v, v], -2)
        full = max(0, k.shape[-2] + 1 - self.window)  # how many the next token will no longer see
        cache = (k[..., full:, :], v[..., full:, :])
        if outputs == 0:
            return x[:, :, :0], cache
        q = self._heads(F.linear(x[:, :, -outputs:], weight_q))
        attended = self._attend_one(q, k, v) if outputs == 1 else self._attend(q, k, v)
        return self.output(attended.transpose(-3, -2).flatten(-2)), cache

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(-3, -2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The last tokens look at all: each at itself and at most window - 1 before it."""
        keys, queries = k.shape[-2], q.shape[-2]
        mask, causal = None, self.distance_bias is None and queries == keys <= self.window
        if not causal:
            places = torch.arange(keys, device=k.device)
            distance = places[keys - queries :, None] - places
            bias = k.new_zeros(1, self.window) if self.distance_bias is None else self.distance_bias
            mask = bias.to(k.dtype)[:, distance.clamp(0, self.window - 1)]
            mask = mask.masked_fill((distance < 0) | (distance >= self.window), -torch.inf)
        dropout = self.dropout if self.training else 0.0
        flat = [t.flatten(0, 1) for t in (q, k, v)]
        attended = F.scaled_dot_product_attention(
            flat[0], flat[1], flat[2], attn_mask=mask, is_causal=causal, dropout_p=dropout
        )
        return attended.unflatten(0, q.shape[:2])

    def _attend_one(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The last token looks back. With so few keys, plain sums are quicker than attention kernels."""
        k, v = k[..., -self.window :, :], v[..., -self.window :, :]
        scores = (q * k).sum(-1, keepdim=True) * q.shape[-1] ** -0.5
        if self.distance_bias is not None:
            scores = scores + self.distance_bias[:, : k.shape[-2]].flip(1)[..., None]
        seen = F.dropout(scores.softmax(-2), self.dropout, self.training)
        return (seen * v).sum(-2, keepdim=True)
