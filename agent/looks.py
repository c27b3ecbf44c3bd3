"""Does a picture look like what the model has seen? Whether a goal can be reached is another question.

Each picture, fitted to the model's size, gives a few numbers in grey levels (`features`): how bright it is,
how much of each colour it has, which colour its four edges have. When training ends, `measure` notes the
range of each number over recorded frames, and over the same frames resized and compressed as JPEG, as goal
pictures are. It also notes the largest norm of their latents: SIGReg keeps recorded latents on a shell, and
pictures unlike any of them may fall far outside. The ranges are in `looks.json` next to the checkpoint.

An encoder that knows many looks (encoder=robust) is not asked for colours. Recorded latents fill few of
their directions, and the latent of a picture that the encoder cannot read leaves them. So what counts is the
distance from the recorded latents, in units of their spread (`Shell`).
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from latent_planner.common.files import write_text

from .model.world_model import WorldModel
from .pixels import encode_frames, resize, resize_picture

FILE = "looks.json"
FORMAT, SHELL_FORMAT = "looks 1", "looks 2"
SIZES, QUALITIES = (1.5, 3.5), (None, 40, 10)  # what goal pictures may be: times the model's size, and JPEG
DEGRADED = 48  # recorded frames that are also resized and compressed
SHARE = 0.1  # of a range, by which it may be left on either side
SLACK = {"scene": 0.05, "goal": 1.0}  # grey levels, and by these
EDGE_SLACK = {"scene": 2.0, "goal": 6.0}  # the same for edges, where things may lie
SHELL = 1.5  # times the largest recorded norm that a latent may have
LEAST_SPREAD = 1e-4  # of the variance along the widest direction: what narrower ones count as
FAR = 0.99  # share of the recorded latents that are nearer than what counts as the farthest
WIDE = 2.0  # times as far as that share of frames in the look that was recorded: others may be unreadable
BEYOND = 1.25  # times that
AT_ONCE, ENCODED = 256, 64  # recorded frames looked at together, and how many of those are encoded
LIKELY = 0.4  # of the way from the middle to the border
EDGE = 1 / 16  # of a side: how much counts as its edge
CHANNELS, SIDES = ("red", "green", "blue"), ("top", "bottom", "left", "right")
OTHERS = ("cyan", "magenta", "yellow")
UNREADABLE = "in no colours or light would it look like a recorded one"
NAMES = (
    *CHANNELS,
    *(f"spread of {name}" for name in CHANNELS),
    *(f"share of {name}" for name in (*CHANNELS, *OTHERS)),
    *(f"{side} {name}" for side in SIDES for name in CHANNELS),
)

_OF_EDGES = np.array([name.split()[0] in SIDES for name in NAMES])


def features(frames: np.ndarray, size: int) -> np.ndarray:
    """uint8 (B, H, W, 3) -> (B, len(NAMES)) in grey levels, from the frames at size px a side."""
    pixels = torch.from_numpy(np.array(frames.transpose(0, 3, 1, 2), order="C")).float()
    images = resize(pixels, size, antialias=False).permute(0, 2, 3, 1).numpy()
    flat = images.reshape(len(images), -1, 3)
    tint = flat - (flat.sum(-1, keepdims=True) - flat) / 2  # how much more of a channel than of the others
    width = max(1, round(size * EDGE))
    edges = [images[:, :width], images[:, -width:], images[:, :, :width], images[:, :, -width:]]
    parts = [
        flat.mean(1), flat.std(1), tint.clip(0).mean(1), (-tint).clip(0).mean(1),
        *(_median(edge.reshape(len(images), -1, 3)) for edge in edges),  # things may lie there
    ]  # fmt: skip
    return np.concatenate(parts, axis=1).astype(float)


def _median(rows: np.ndarray) -> np.ndarray:
    """(B, n, 3) -> (B, 3). As np.median, which would load numpy.ma, a tenth of a second's work."""
    middle = [(rows.shape[1] - 1) // 2, rows.shape[1] // 2]
    return np.partition(rows, middle, axis=1)[:, middle].mean(axis=1)


@dataclass(frozen=True)
class Look:
    """What one picture looks like to a model.

    unfamiliarity: 0 in the middle of what was recorded, 1 at its border, above 1 outside.
    reason: how it differs, as "it is darker"; "" for a picture that is familiar.
    """

    unfamiliarity: float
    reason: str

    @property
    def familiar(self) -> bool:
        return self.unfamiliarity <= 1.0


@dataclass(frozen=True)
class Shell:
    """Where recorded latents lie: their mean (D,), what brings their spread to one (D, D), and how far from
    the mean they lie at most, for frames of the scene and for goal pictures."""

    mean: np.ndarray
    scale: np.ndarray
    farthest: Mapping[str, float]

    @classmethod
    def of(cls, latents: np.ndarray, usual: np.ndarray, kinds: Mapping[str, np.ndarray]) -> Shell:
        """By latents (n, D), as far as others reach, (n, D) of each kind, of which some are in the look that
        was recorded, `usual` (m, D)."""
        mean = latents.mean(0)
        variance, directions = np.linalg.eigh(np.cov(latents.T))
        least = max(float(variance[-1]) * LEAST_SPREAD, 1e-12)
        scale = directions / np.sqrt(np.maximum(variance, least) * len(mean))
        shell = cls(mean, scale, {})
        most = WIDE * np.quantile(shell.distance(usual), FAR)
        away = {kind: np.quantile(shell.distance(some), FAR) for kind, some in kinds.items()}
        return cls(mean, scale, {kind: float(min(most, far)) for kind, far in away.items()})

    def distance(self, latents: np.ndarray) -> np.ndarray:
        """(n, D) -> (n,): about 1 for recorded ones."""
        away: np.ndarray = np.linalg.norm((latents - self.mean) @ self.scale, axis=1)
        return away


@dataclass(frozen=True)
class Looks:
    """The looks that a model knows: ranges of `features`, (2, len(NAMES)), lowest first, and largest norms of
    latents, each for frames of the scene and for goal pictures. With a shell, that alone counts."""

    ranges: Mapping[str, np.ndarray]
    norms: Mapping[str, float]
    shell: Shell | None = None

    def of(self, world_model: WorldModel, frames: np.ndarray, kind: str = "scene") -> list[Look]:
        """What uint8 (B, H, W, 3) look like, judged as kind: "scene", seen by the camera that recorded, or
        "goal", a picture that may have been resized or compressed."""
        if not len(frames):
            return []
        device = next(world_model.parameters()).device
        latents = encode_frames(world_model, frames, device).float()
        if self.shell is not None:
            away = self.shell.distance(latents.cpu().numpy()) / (BEYOND * self.shell.farthest[kind])
            away = np.where(np.isfinite(away), away, np.inf)
            return [Look(float(far), "" if far <= 1.0 else UNREADABLE) for far in away]
        norms = latents.norm(dim=-1).tolist()
        seen = features(frames, world_model.config.image_size)
        return [self._look(own, norm, kind) for own, norm in zip(seen, norms)]

    def _look(self, seen: np.ndarray, norm: float, kind: str) -> Look:
        low, high = self.ranges[kind]
        middle, half = (low + high) / 2, (high - low) / 2
        slack = np.where(_OF_EDGES, EDGE_SLACK[kind], SLACK[kind])
        away = (seen - middle) / (half * (1 + 2 * SHARE) + slack)  # beyond -1 and 1: outside
        shell = norm / (SHELL * self.norms[kind])
        most = max(float(np.abs(away).max()), shell)
        return Look(most if math.isfinite(most) else math.inf, "" if most <= 1.0 else _reason(away))


def complaint(looks: Sequence[Look]) -> str:
    """A sentence on goals that are unlike what the model has seen; "" where all are familiar."""
    odd = [look.reason for look in looks if not look.familiar]
    if not odd:
        return ""
    which = "this picture does" if len(looks) == 1 else f"{len(odd)} of {len(looks)} pictures do"
    return f"{which} not look like what the model has seen: {odd[0]}"


def _reason(away: np.ndarray) -> str:
    """How a picture differs whose features lie so far from the middle: outside beyond -1 and 1."""
    found = dict(zip(NAMES, away.tolist()))
    mean = [found[name] for name in CHANNELS]
    edges = [side for side in SIDES if max(abs(found[f"{side} {name}"]) for name in CHANNELS) > 1.0]
    tints = {name: found[f"share of {name}"] for name in (*CHANNELS, *OTHERS)}
    odd = max(tints, key=lambda name: abs(tints[name]))
    reasons = []
    if max(mean) < -1.0:
        reasons.append("it is darker")
    elif min(mean) > 1.0:
        reasons.append("it is brighter")
    if abs(tints[odd]) > 1.0:
        reasons.append(f"it has other colours ({'more' if tints[odd] > 0 else 'less'} {odd})")
    if not reasons and len(edges) in (0, len(SIDES)):  # the most likely, where nothing stands out
        reasons += ["it is darker"] * (max(mean) < -LIKELY) + ["it is brighter"] * (min(mean) > LIKELY)
    if edges and (len(edges) < len(SIDES) or not reasons):
        reasons.append(f"it shows a border ({', '.join(edges)})")
    spread = [found[f"spread of {name}"] for name in CHANNELS]
    if not reasons and max(map(abs, spread)) > 1.0:
        reasons.append(f"it has {'more' if max(spread) > 1.0 else 'less'} contrast")
    return " and ".join(reasons) or "what it shows is arranged in another way"


def measure(world_model: WorldModel, frames: np.ndarray) -> Looks:
    """The looks of recorded frames, uint8 (n, H, W, 3), n at least 1."""
    size, device = world_model.config.image_size, next(world_model.parameters()).device
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, DEGRADED).astype(int))]
    ranges, norms = {}, {}
    low, high, longest = np.full(len(NAMES), np.inf), np.full(len(NAMES), -np.inf), 0.0
    parts = np.array_split(frames, -(-len(frames) // AT_ONCE))
    for kind, sets in (("scene", parts), ("goal", _degraded(chosen, size))):
        for pictures in sets:
            seen = features(pictures, size)
            low, high = np.minimum(low, seen.min(0)), np.maximum(high, seen.max(0))
            latents = encode_frames(world_model, pictures[:ENCODED], device)
            longest = max(longest, float(latents.float().norm(dim=-1).max()))
        ranges[kind], norms[kind] = np.stack([low, high]), longest
    return Looks(ranges, norms)


def measure_shell(world_model: WorldModel, frames: np.ndarray, others: np.ndarray) -> Looks:
    """The same for an encoder that knows many looks: frames as recorded, and others in other looks.

    Every second one says where latents lie, the rest how far away they may be.
    """
    size, device = world_model.config.image_size, next(world_model.parameters()).device

    def encoded(pictures: np.ndarray) -> np.ndarray:
        parts = np.array_split(pictures, -(-len(pictures) // AT_ONCE))
        latents = [encode_frames(world_model, part, device).float().cpu().numpy() for part in parts]
        return np.concatenate(latents)

    chosen = np.concatenate(
        [some[np.linspace(0, len(some) - 1, DEGRADED).astype(int)] for some in (frames, others)]
    )
    usual = encoded(frames)
    scene = np.concatenate([usual, encoded(others)])
    goals = np.concatenate([scene, *(encoded(pictures) for pictures in _degraded(chosen, size))])
    return Looks({}, {}, Shell.of(scene[::2], usual, {"scene": scene[1::2], "goal": goals[1::2]}))


def _degraded(frames: np.ndarray, size: int) -> list[np.ndarray]:
    """The frames as goal pictures may be: at other sizes, and compressed."""
    return [
        np.stack([_compressed(resize_picture(frame, round(times * size)), quality) for frame in frames])
        for times in SIZES
        for quality in QUALITIES
    ]


def _compressed(picture: np.ndarray, quality: int | None) -> np.ndarray:
    """uint8 (H, W, 3) after JPEG of this quality; None: as it is."""
    if quality is None:
        return picture
    from PIL import Image  # by training alone, not by whoever plans

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file).convert("RGB"))


def save(folder: Path, looks: Looks, sha256: str) -> Path:
    """Leave looks in folder, for the weights of this SHA-256. OSError."""
    known: dict[str, Any] = {"format": FORMAT, "sha256": sha256}
    if looks.shell is not None:
        shell = looks.shell
        known |= {"format": SHELL_FORMAT, "farthest": {k: round(v, 4) for k, v in shell.farthest.items()}}
        known |= {"mean": _short(shell.mean), "scale": [_short(row) for row in shell.scale]}
        return _written(folder, json.dumps(known))
    kinds = {
        kind: {
            "norm": round(looks.norms[kind], 4),
            "low": low.round(3).tolist(),
            "high": high.round(3).tolist(),
        }
        for kind, (low, high) in looks.ranges.items()
    }
    return _written(folder, json.dumps({**known, "features": NAMES, **kinds}, indent=1))


def _short(values: np.ndarray) -> list[float]:
    return [float(f"{value:.5g}") for value in values]


def _written(folder: Path, text: str) -> Path:
    write_text(folder / FILE, text + "\n")
    return folder / FILE


def load(folder: Path, sha256: str) -> Looks | None:
    """The looks next to these weights; None where there are none, or those of other weights."""
    try:
        found: Any = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if found["sha256"] != sha256:
            return None
        if found["format"] == SHELL_FORMAT:
            return _with_shell(found)
        if (found["format"], found["features"]) != (FORMAT, list(NAMES)):
            return None
        ranges = {kind: np.array([found[kind]["low"], found[kind]["high"]], float) for kind in SLACK}
        norms = {kind: float(found[kind]["norm"]) for kind in SLACK}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    usable = all(
        ranges[kind].shape == (2, len(NAMES)) and np.isfinite(ranges[kind]).all() and norms[kind] > 0
        for kind in SLACK
    )
    return Looks(ranges, norms) if usable else None


def _with_shell(found: Mapping[str, Any]) -> Looks | None:
    mean, scale = np.array(found["mean"], float), np.array(found["scale"], float)
    farthest = {kind: float(found["farthest"][kind]) for kind in SLACK}
    fits = mean.ndim == 1 and scale.shape == (len(mean), len(mean))
    numbers = fits and np.isfinite(mean).all() and np.isfinite(scale).all() and min(farthest.values()) > 0
    return Looks({}, {}, Shell(mean, scale, farthest)) if numbers else None
