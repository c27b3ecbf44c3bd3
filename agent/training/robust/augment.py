"""Other looks of recorded frames that cannot be rendered again: colours, light, ground, by image operations.

Nothing moves: what a frame shows stays where it is, so the latent of the frame is still the right one.
Where the camera stands still, the median over the recording is the ground and what differs from it are
things, so both get colours of their own and the ground gets a texture and clutter, as if the scene had been
rendered anew.

Random convolutions: Lee et al., arXiv 1910.05396. Overlays: Hansen and Wang, arXiv 2011.13389.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

OCTAVES = (2, 4, 8, 16, 32)  # cells across of the noise that textures are made of
THING, CERTAIN = 10.0, 30.0  # grey levels from the ground: where a thing begins, and where it is sure
GROUND_FRAMES, AT_ONCE = 256, 256  # whose median is the ground; looked at together
STROKE_CELLS = (2, 3, 5, 9)  # cells across of the noise whose contours are clutter: few cells, long strokes
LAYERS = 3  # of clutter, at most, each in a colour of its own
MOST_THINGS = 0.4  # share of a frame that things may cover where the camera stands still


class Augmentation:
    """frames uint8 (B, h, w, 3) -> other looks of them, uint8 (B, h, w, 3), drawn from a seed.

    ground: the median of recorded frames, (h, w, 3), of a camera that stands still; None for one that moves.
    """

    def __init__(self, ground: Tensor | None) -> None:
        self.ground = None if ground is None else ground.float()

    @classmethod
    def of(cls, frames: Tensor) -> Augmentation:
        """For a recording with such frames, uint8 (n, h, w, 3)."""
        ground = frames.float().median(0).values
        things = _things(frames.float(), ground).mean()
        return cls(ground if float(things) <= MOST_THINGS else None)

    def __call__(self, frames: Tensor, seed: Sequence[int]) -> Tensor:
        if not len(frames):
            return frames
        draw = _Draw(seed, len(frames), frames.device)
        seen = frames.float()
        if self.ground is None:
            seen = draw.some(0.5, seen, _recoloured)
            seen = draw.some(0.4, seen, _overlaid)
        else:
            ground = self.ground.to(seen)
            things = _things(seen, ground)
            paint = draw.some(0.85, seen, _recoloured)
            under = draw.some(0.85, ground.expand_as(seen), _new_ground)
            for _ in range(LAYERS):
                under = draw.some(0.4, under, _cluttered)
            seen = things * paint + (1 - things) * under
        seen = draw.some(0.25, seen, _convolved)
        seen = draw.some(0.5, seen, _lit)
        return (seen + 0.5).clamp(0, 255).to(torch.uint8)

    def without_scene(self, frames: Tensor, seed: Sequence[int]) -> Tensor:
        """Pictures that show no scene: the tiles of other looks of frames in disorder, textures, noise."""
        if not len(frames):
            return frames
        draw = _Draw(seed, len(frames), frames.device)
        kind, nothing = draw.uniform(0, 3, 1, 1, 1), torch.zeros_like(frames, dtype=torch.float32)
        seen = torch.where(kind < 1, _shuffled(self(frames, [*seed, 0]).float(), draw), _noise(nothing, draw))
        seen = torch.where(kind < 2, seen, _new_ground(nothing, draw))
        return (seen + 0.5).clamp(0, 255).to(torch.uint8)


def augmented(frames: np.ndarray, seed: int = 0) -> np.ndarray:
    """One other look of each of a recording's frames, uint8 (n, h, w, 3), whatever their size."""
    augmentation = Augmentation.of(torch.from_numpy(frames[:: max(1, len(frames) // GROUND_FRAMES)]))
    parts = torch.from_numpy(frames).split(AT_ONCE)
    return torch.cat([augmentation(part, [seed, k]) for k, part in enumerate(parts)]).numpy()


class _Draw:
    """Random numbers for each of some frames, from a seed alone, on a CPU: the same on every device."""

    def __init__(self, seed: Sequence[int], count: int, device: torch.device) -> None:
        number = int(np.random.SeedSequence(seed).generate_state(1)[0])
        self.count, self.device = count, device
        self.generator = torch.Generator().manual_seed(number)

    def uniform(self, low: float, high: float, *shape: int) -> Tensor:
        """(B, *shape)"""
        values = torch.rand(self.count, *shape, generator=self.generator)
        return (low + (high - low) * values).to(self.device)

    def normal(self, *shape: int) -> Tensor:
        """(B, *shape)"""
        return torch.randn(self.count, *shape, generator=self.generator).to(self.device)

    def some(self, share: float, frames: Tensor, change: Callable[[Tensor, _Draw], Tensor]) -> Tensor:
        """`change` for such a share of the frames; the rest stay as they are."""
        chosen = self.uniform(0, 1) < share
        part = copy.copy(self)  # the same generator, fewer frames
        part.count = int(chosen.sum())
        if not part.count:
            return frames
        changed = frames.clone()
        changed[chosen] = change(frames[chosen], part)
        return changed


def _things(frames: Tensor, ground: Tensor) -> Tensor:
    """(B, h, w, 3) -> (B, h, w, 1): 1 where a frame shows something else than the ground."""
    away = (frames - ground).abs().amax(-1, keepdim=True)
    return ((away - THING) / (CERTAIN - THING)).clamp(0, 1)


def _recoloured(frames: Tensor, draw: _Draw) -> Tensor:
    """Colours mixed at random, around a random one: what had one colour gets another, all over a frame."""
    mix = draw.normal(3, 3) * 0.6 + torch.eye(3, device=frames.device) * draw.uniform(-0.5, 1.0, 1, 1)
    turned = (frames - 128).flatten(1, 2) @ mix
    return turned.unflatten(1, frames.shape[1:3]) + draw.uniform(20, 235, 1, 1, 3)


def _new_ground(ground: Tensor, draw: _Draw) -> Tensor:
    """Another even colour, or a texture of two colours, over the ground; some of that shows through."""
    texture = _texture(ground, draw)
    even = draw.uniform(0, 255, 1, 1, 3)
    other = (even + draw.normal(1, 1, 3) * 60).clamp(0, 255)
    painted = torch.where(
        draw.uniform(0, 1, 1, 1, 1) < 0.3, even.expand_as(ground), even * (1 - texture) + other * texture
    )
    return painted + (ground - ground.mean((1, 2), keepdim=True)) * draw.uniform(0, 1, 1, 1, 1)


def _cluttered(ground: Tensor, draw: _Draw) -> Tensor:
    """Strokes and spots of one colour: pieces of the contours of smooth noise, to each side as wide as .5 to
    4 pixels of 64."""
    smooth = partial(F.interpolate, size=ground.shape[1:3], mode="bicubic", align_corners=False)
    kind = draw.uniform(0, len(STROKE_CELLS), 1, 1, 1).long()
    height = torch.zeros_like(ground[:, None, :, :, 0])
    for k, cells in enumerate(STROKE_CELLS):
        height = torch.where(kind == k, smooth(draw.uniform(-1, 1, 1, cells + 1, cells + 1)), height)
    level = height - draw.uniform(-0.3, 0.3, 1, 1, 1)
    slope = torch.hypot(*torch.gradient(height, dim=(2, 3))).clamp_min(1e-3)
    width = (0.5 + 3.5 * draw.uniform(0, 1, 1, 1, 1) ** 3) * min(ground.shape[1:3]) / 64
    stroke = (width + 0.5 - level.abs() / slope).clamp(0, 1)
    pieces = (smooth(draw.uniform(-1, 1, 1, 4, 4)) - draw.uniform(-0.3, 0.7, 1, 1, 1)) * 8
    painted = (stroke * pieces.clamp(0, 1)).permute(0, 2, 3, 1)
    return ground * (1 - painted) + draw.uniform(0, 255, 1, 1, 3) * painted


def _overlaid(frames: Tensor, draw: _Draw) -> Tensor:
    """A texture over everything, half transparent."""
    share = draw.uniform(0.1, 0.5, 1, 1, 1)
    return frames * (1 - share) + _new_ground(torch.zeros_like(frames), draw) * share


def _convolved(frames: Tensor, draw: _Draw) -> Tensor:
    """A random 3 x 3 convolution of each frame, mixed with the frame."""
    count, height, width, _ = frames.shape
    kernels = draw.normal(3, 3, 3, 3) / 27**0.5
    image = (frames - 128).permute(0, 3, 1, 2).reshape(1, 3 * count, height, width)
    image = F.pad(image, (1, 1, 1, 1), mode="replicate")
    turned = F.conv2d(image, kernels.flatten(0, 1), groups=count).view(count, 3, height, width)
    share = draw.uniform(0.2, 0.8, 1, 1, 1)
    return frames * (1 - share) + (turned.permute(0, 2, 3, 1) * 2 + 128) * share


def _lit(frames: Tensor, draw: _Draw) -> Tensor:
    """Brightness, contrast and gamma."""
    lit = (frames - 128) * draw.uniform(0.6, 1.3, 1, 1, 1) + 128 + draw.uniform(-40, 40, 1, 1, 1)
    return 255 * (lit.clamp(0, 255) / 255) ** draw.uniform(0.7, 1.4, 1, 1, 1)


def _shuffled(frames: Tensor, draw: _Draw) -> Tensor:
    """The tiles of each frame in another order."""
    count, height, width, _ = frames.shape
    across = next(n for n in (8, 4, 2, 1) if height % n == 0 and width % n == 0)
    tiles = frames.view(count, across, height // across, across, width // across, 3).transpose(2, 3)
    order = draw.uniform(0, 1, across * across).argsort(1)
    other = tiles.flatten(1, 2)[torch.arange(count, device=frames.device)[:, None], order]
    return other.unflatten(1, (across, across)).transpose(2, 3).reshape(frames.shape)


def _noise(like: Tensor, draw: _Draw) -> Tensor:
    """Around any grey, every pixel, or every channel of it, by itself."""
    coloured = draw.normal(*like.shape[1:])
    noise = torch.where(draw.uniform(0, 1, 1, 1, 1) < 0.5, coloured, coloured[..., :1])
    return draw.uniform(0, 255, 1, 1, 1) + noise * draw.uniform(5, 90, 1, 1, 1)


def _texture(like: Tensor, draw: _Draw) -> Tensor:
    """Noise of several scales, (B, h, w, 1) in 0 to 1; for half of the frames with hard edges."""
    size = like.shape[1:3]
    roughness = draw.uniform(0.2, 1.2, 1, 1, 1)
    total = torch.zeros(len(like), 1, *size, device=like.device)
    for cells in OCTAVES:
        grid = draw.uniform(0, 1, 1, cells, cells) - 0.5
        weight = (2 / cells) ** roughness
        total = total + weight * F.interpolate(grid, size, mode="bilinear", align_corners=False)
    low, high = total.amin((2, 3), keepdim=True), total.amax((2, 3), keepdim=True)
    even = (total - low) / (high - low)
    hard = (even * 20 - 10).sigmoid()
    return torch.where(draw.uniform(0, 1, 1, 1, 1) < 0.5, hard, even).permute(0, 2, 3, 1)
