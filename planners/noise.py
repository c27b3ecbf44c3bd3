"""Temporally correlated noise for the candidates, made from white noise.

Independent noise at every action hardly moves anything: its steps cancel out. Noise whose neighbours agree
goes far with few samples. A mixing matrix M (steps, steps) turns white noise over the steps of a plan into
noise of unit variance with covariance M Mᵀ.
"""

from __future__ import annotations

import torch
from torch import Tensor

LEVELS = 9  # different correlations among the candidates


def spread(correlation: float, steps: int) -> Tensor:
    """(LEVELS, steps, steps), float64: first-order autoregressions whose correlation from one action to the
    next is spread evenly from 0 (white, which refines) to `correlation` (which explores)."""
    levels = torch.linspace(0, correlation, LEVELS, dtype=torch.float64)
    when = torch.arange(steps, dtype=torch.float64)
    return torch.linalg.cholesky(levels[:, None, None] ** (when[:, None] - when).abs())


def coloured(beta: float, steps: int) -> Tensor:
    """(1, steps, steps), float64: noise whose power falls as 1 / frequency ** beta; beta 0 is white.

    As in Timmer & Koenig, "On generating power law noise", Astronomy and Astrophysics, 1995: the constant
    part has the power of the lowest frequency. Random phases make such noise a stationary normal, so its
    covariance, a circulant with that spectrum, says all.
    """
    frequency = torch.fft.fftfreq(steps, d=1 / steps, dtype=torch.float64).abs().clamp_min(1)
    amplitude = frequency ** (-beta / 2)
    amplitude = amplitude / amplitude.square().mean().sqrt()
    root = torch.fft.ifft(amplitude).real  # first column of the circulant's square root
    when = torch.arange(steps)
    return root[(when[:, None] - when) % steps][None]


def mix(white: Tensor, mixing: Tensor, action_dim: int) -> Tensor:
    """White noise (B, N, H, FA) -> the same shape, mixed over time.

    The matrices of `mixing` (L, steps, steps) share out the candidates evenly, in their order.
    """
    in_time = white.unflatten(-1, (-1, action_dim)).flatten(2, 3)  # (B, N, steps, A)
    parts = in_time.tensor_split(len(mixing), dim=1)
    return torch.cat([matrix @ part for matrix, part in zip(mixing, parts)], dim=1).view_as(white)
