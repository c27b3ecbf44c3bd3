"""Encoders: one normalised frame (N, 3, S, S) -> one latent (N, D).

`keypoint` asks where in the frame each of its filters responds and what stands there: small, quick on a
CPU, and an object's place *and* angle are in its features from the first step. `robust` asks the same
through several layers, of pictures that are normalised each by itself: it can learn to see the same in
other colours, on other grounds, in other light (`training.robust`), and has the `keypoint` encoder that it
learned from at its side. `conv` is four plain convolutions, kept to compare with. `vit` is the published LeWM
encoder (ViT-Tiny on 14-pixel patches, its class token). All end in a Projector, whose BatchNorm SIGReg needs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .pooling import pool
from .projector import BatchNorm, Projector

if TYPE_CHECKING:
    from .world_model import WorldModelConfig

NARROWER = 0.75  # of the projector's hidden width: the layers before it do more in a robust encoder


class Encoder(nn.Module):
    """A backbone (N, 3, S, S) -> (N, features) and the projector to the latent (N, D).

    skip: whether the latent is also, besides what the projector says, a linear function of the features.
    """

    def __init__(
        self, backbone: nn.Module, features: int, projector_dim: int, latent_dim: int, *, skip: bool = False
    ) -> None:
        super().__init__()
        self.backbone, self.features = backbone, features
        self.projector = Projector(features, projector_dim, latent_dim)
        self.skip = nn.Linear(features, latent_dim, bias=False) if skip else None

    def forward(self, frames: Tensor) -> Tensor:
        return self.project(self.backbone(frames))

    def project(self, features: Tensor) -> Tensor:
        """(N, features), as the backbone gives them -> (N, D)."""
        latents = self.projector(features)
        return latents if self.skip is None else latents + self.skip(features)


class RobustEncoder(Encoder):
    """An encoder that knows many looks and, at its side, the trained one that it learned from.

    The trained one is more exact in the one look that it knows. So it counts where the two agree, up to a
    mean squared difference of `tolerance` between their latents; in training mode it is not asked.
    """

    tolerance: Tensor

    def __init__(
        self, backbone: nn.Module, features: int, projector_dim: int, latent_dim: int, *, trained: Encoder
    ) -> None:
        super().__init__(backbone, features, projector_dim, latent_dim, skip=True)
        self.trained = trained
        self.register_buffer("tolerance", torch.zeros(1))

    def forward(self, frames: Tensor) -> Tensor:
        latents = super().forward(frames)
        if self.training:
            return latents
        known = self.trained(frames)
        apart = (latents.float() - known.float()).square().mean(-1, keepdim=True)
        return torch.where(apart < self.tolerance, known, latents)


def make_encoder(config: WorldModelConfig, latent_dim: int | None = None) -> Encoder:
    """The encoder that config names, with fresh weights.   latent_dim: where it is not the config's."""
    latent_dim = latent_dim or config.latent_dim
    if config.encoder == "keypoint":
        keypoints = KeypointNet(config.image_size, config.encoder_width, config.encoder_values)
        return Encoder(keypoints, keypoints.features, config.projector_dim, latent_dim, skip=True)
    if config.encoder == "robust":
        robust = RobustNet(
            config.image_size, config.encoder_width, config.encoder_values, config.encoder_layers
        )
        trained = make_encoder(replace(config, encoder="keypoint"), latent_dim)
        width = max(1, round(NARROWER * config.projector_dim))
        return RobustEncoder(robust, robust.features, width, latent_dim, trained=trained)
    if config.encoder == "conv":
        conv = ConvNet(config.image_size, config.encoder_width)
        return Encoder(conv, conv.features, config.projector_dim, latent_dim)
    vit = ViT(
        image_size=config.image_size,
        patch_size=config.patch_size,
        width=config.encoder_width,
        depth=config.encoder_depth,
        heads=config.encoder_heads,
    )
    return Encoder(vit, config.encoder_width, config.projector_dim, latent_dim)


class KeypointNet(nn.Module):
    """Where filters respond, how widely, and what stands there: (N, 3, S, S) -> (N, width · (5 + values)).

    One convolution gives `width` maps (a filter each) and `values` features a cell. A softmax over the cells
    turns each map into weights; the weighted means over all cells of x, y, xx, yy, xy (as variances) and of
    the features are what is known of it. Keypoints move with an object, so its angle is nearly linear in
    them, and what is seen around them does not depend on where it stands. BatchNorm brings all to one scale;
    then places count most (SCALES), for they are what small objects have.

    The softmax over space is that of Levine et al., arXiv 1504.00702.
    """

    SCALES = (1.0, 0.25, 0.1)  # of places, spreads and values
    SHARPNESS = 4.0  # of the first filters: softmax weights that neither cover the frame nor pick one cell

    scale: Tensor
    places: Tensor

    def __init__(self, image_size: int, width: int, values: int) -> None:
        super().__init__()
        self.width, self.values = width, values
        self.filters = self._make_filters()
        self.value_bias = nn.Parameter(torch.zeros(values))  # on a map it would do nothing: softmax
        with torch.no_grad():
            self.filters.weight[:width] *= self.SHARPNESS
        self.features = width * (5 + values)
        self.norm = BatchNorm(self.features)
        place, spread, value = self.SCALES
        # constants are made on the CPU: on the device meta, torch would load its compiler, a second's work
        scale = torch.tensor([place] * 2 + [spread] * 3 + [value] * values, device="cpu")
        self.register_buffer("scale", scale / scale.square().mean().sqrt(), persistent=False)
        axis = torch.linspace(-1, 1, image_size // 4, device="cpu")
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        self.register_buffer("places", torch.stack([x, y, x * x, y * y, x * y]).flatten(1), persistent=False)

    def _make_filters(self) -> nn.Conv2d:
        return nn.Conv2d(3, self.width + self.values, kernel_size=8, stride=4, padding=2, bias=False)

    def forward(self, frames: Tensor) -> Tensor:
        return self.features_of(self.filters(frames.contiguous()))

    def features_of(self, responses: Tensor) -> Tensor:
        """What the filters say of each cell, (N, width + values, S/4, S/4) -> (N, width · (5 + values))."""
        pooled = pool(responses.flatten(2), self.value_bias, self.places, training=self.training)
        x, y, xx, yy, xy, *_ = means = pooled.unbind(-1)
        known = torch.stack([x, y, xx - x * x, yy - y * y, xy - x * y, *means[5:]], -1)
        return (self.norm(known.flatten(1)).unflatten(1, (self.width, -1)) * self.scale).flatten(1)


class RobustNet(KeypointNet):
    """Keypoints of what several layers see: a cell then knows whether it belongs to a thing, not only its
    colour.

    A picture first loses its own mean colour and its own contrast, so brightness, contrast and the colour of
    an even ground change nothing. layers: residual 3 × 3 convolutions between the first and the filters.
    """

    GROUPS = 8  # of the normalisation within each picture
    FAINTEST = (
        0.1  # contrast, in standard deviations of the recording, below which a picture is not amplified
    )

    def __init__(self, image_size: int, width: int, values: int, layers: int) -> None:
        super().__init__(image_size, width, values)
        self.first = self._layer(nn.Conv2d(3, width, kernel_size=8, stride=4, padding=2))
        self.layers = nn.ModuleList(
            self._layer(nn.Conv2d(width, width, kernel_size=3, padding=1)) for _ in range(layers)
        )
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _make_filters(self) -> nn.Conv2d:
        return nn.Conv2d(self.width, self.width + self.values, kernel_size=3, padding=1, bias=False)

    def _layer(self, convolution: nn.Conv2d) -> nn.Sequential:
        return nn.Sequential(convolution, nn.GroupNorm(self.GROUPS, self.width), nn.SiLU())

    def forward(self, frames: Tensor) -> Tensor:
        frames = frames - frames.mean((2, 3), keepdim=True)
        contrast = (frames.square().mean((1, 2, 3), keepdim=True) + self.FAINTEST**2).sqrt()
        seen = self.first((frames / contrast).contiguous(memory_format=torch.channels_last))
        for layer in self.layers:
            seen = seen + layer(seen)
        return self.features_of(self.filters(seen))


class ConvNet(nn.Module):
    """Four convolutions with GroupNorm, down to S/16 cells a side, flattened: places stay apart."""

    def __init__(self, image_size: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *self._layer(3, width, kernel=8, stride=4),
            *self._layer(width, 2 * width, kernel=3, stride=2),
            *self._layer(2 * width, 2 * width, kernel=3, stride=1),
            *self._layer(2 * width, 3 * width, kernel=3, stride=2),
        )
        self.features = 3 * width * (image_size // 16) ** 2
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @staticmethod
    def _layer(in_dim: int, out_dim: int, *, kernel: int, stride: int) -> tuple[nn.Module, ...]:
        padding = (kernel - stride + 1) // 2
        return nn.Conv2d(in_dim, out_dim, kernel, stride, padding), nn.GroupNorm(4, out_dim), nn.SiLU()

    def forward(self, frames: Tensor) -> Tensor:
        return self.layers(frames.to(memory_format=torch.channels_last)).flatten(1)


class ViT(nn.Module):
    """Vision transformer, pre-norm, learned positions, no dropout: the normalised class token (N, width).

    Layer norms, initial weights and GELU are those of the Hugging Face ViT, which the published checkpoints
    use.
    """

    def __init__(self, *, image_size: int, patch_size: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        tokens = (image_size // patch_size) ** 2 + 1
        self.patches = nn.Conv2d(3, width, patch_size, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, tokens, width))
        self.blocks = nn.ModuleList(ViTBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.apply(self._initialise)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.positions, std=0.02)

    @staticmethod
    def _initialise(module: nn.Module) -> None:
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def forward(self, frames: Tensor) -> Tensor:
        patches = rearrange(self.patches(frames), "n width rows columns -> n (rows columns) width")
        token = self.cls_token.expand(patches.shape[0], -1, -1).to(patches.dtype)
        x = torch.cat([token, patches], 1) + self.positions
        *first, last = self.blocks
        for block in first:
            x = block(x)
        return self.norm(last(x, outputs=1)[:, 0])  # only the class token leaves the last block


class ViTBlock(nn.Module):
    """Pre-norm self-attention and MLP (four times as wide). `outputs`: how many leading tokens to compute."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width, eps=1e-12)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.attention_output = nn.Linear(width, width)
        self.mlp_norm = nn.LayerNorm(width, eps=1e-12)
        self.mlp_hidden = nn.Linear(width, 4 * width)
        self.mlp_output = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, *, outputs: int | None = None) -> Tensor:
        normed = self.attention_norm(x)
        q, k, v = (
            rearrange(t, "n tokens (heads d) -> n heads tokens d", heads=self.heads)
            for t in (self.query(normed[:, :outputs]), self.key(normed), self.value(normed))
        )
        attended = F.scaled_dot_product_attention(q, k, v)
        attended = rearrange(attended, "n heads tokens d -> n tokens (heads d)")
        x = x[:, :outputs] + self.attention_output(attended)
        return x + self.mlp_output(F.gelu(self.mlp_hidden(self.mlp_norm(x))))
