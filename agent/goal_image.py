"""Goal pictures: read any image file safely, and PNG files that say which state they show.

A picture is read into uint8 (H, W, 3): orientation from EXIF is applied, alpha is laid on white, grey and
palette become RGB, 16-bit grey is scaled by its full range, and of an animation the first frame counts. It
keeps its size and shape: what a model makes of those is the model's affair (`pixels.resize`). Only a very
large picture is reduced here, to bound the memory.
"""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from latent_planner.common.files import beside

from . import png_text

log = logging.getLogger(__name__)

MAX_PIXELS = 64_000_000  # a picture with more is refused before it is decoded
MAX_SIDE = 1024  # a shorter side of twice this or more is reduced: no world model looks closer
MIN_SIDE = 8
TEXT_KEY = "latent-planner-goal"
TEXT_VERSION = 1
MAX_TEXT = 20_000
# Formats that Pillow decodes by itself; the rest start other programs (EPS) or are not pictures of a scene.
FORMATS = (
    "PNG", "JPEG", "MPO", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "JPEG2000", "AVIF", "TGA", "ICO", "PCX",
    "QOI", "SGI",
)  # fmt: skip


class GoalImageError(ValueError):
    """A goal picture cannot be used; the message is one sentence for the user."""


@dataclass(frozen=True)
class GoalText:
    """What a goal picture made by `write_goal` knows about itself (states in the world's own units)."""

    env: str
    state: tuple[float, ...]
    seed: int | None = None
    start_state: tuple[float, ...] | None = None
    steps: int | None = None  # env steps that the world's policy took from start_state to state


def read_goal(path: str | os.PathLike) -> np.ndarray:
    """Picture at `path` as uint8 (H, W, 3), as large as it is; from 2048 px a side on, reduced by a whole
    factor to between 1024 and 2047 (the shorter side counts).

    Raises GoalImageError for everything that is not a readable picture; logs a warning when it had to choose
    (first frame of several) and for a picture of one flat colour.
    """
    path = Path(path)
    _check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # remarks on odd tags: the pixels decide
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_formats()) as image:
                _check_size(path, image.size)
                _warn_if_animated(path, image)
                image.draft(image.mode, (MAX_SIDE, MAX_SIDE))  # JPEG: decode straight to a smaller size
                image.load()
                rgb = _to_rgb(_upright(image))
    except GoalImageError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise GoalImageError(_too_large(path)) from None
    except UnidentifiedImageError:
        raise GoalImageError(
            f"{path} is not an image that can be read; save it as a PNG or JPEG file"
        ) from None
    except MemoryError:
        raise GoalImageError(f"{path} does not fit into memory; save the goal smaller") from None
    except PermissionError:
        raise GoalImageError(f"{path} may not be read; check its permissions") from None
    except Exception as error:  # decoders raise nearly every type on broken files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise GoalImageError(f"{path} is damaged or cut off ({reason}); save the picture again") from error
    _warn_if_flat(path, rgb)
    return np.array(rgb)


def write_goal(
    path: str | os.PathLike,
    pixels: np.ndarray,
    state: Any,
    env: str,
    seed: int | None = None,
    *,
    start_state: Any = None,
    steps: int | None = None,
) -> Path:
    """Write uint8 (H, W, 3) as a PNG that carries its state (S,), world and start as text; returns the path.

    Raises GoalImageError for a name that does not end in .png, OSError when it cannot be written; the file
    appears whole or not at all.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise GoalImageError(f"{path} must end in .png, the format that can carry the goal's state")
    pixels = np.asarray(pixels)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
        raise ValueError(f"pixels must be uint8 (H, W, 3), not {pixels.dtype} {pixels.shape}")
    fields = {
        "version": TEXT_VERSION,
        "env": env,
        "state": np.asarray(state, dtype=float).tolist(),
        "seed": None if seed is None else int(seed),
        "start_state": None if start_state is None else np.asarray(start_state, dtype=float).tolist(),
        "steps": None if steps is None else int(steps),
    }
    parse_goal_text(json.dumps(fields))  # never write what we would not read
    info = PngImagePlugin.PngInfo()
    info.add_text(TEXT_KEY, json.dumps(fields))
    with beside(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", pnginfo=info, optimize=True)
    return path


def read_goal_text(path: str | os.PathLike) -> GoalText | None:
    """The state that a picture made by `write_goal` carries; None for every other picture.

    The picture is not looked at. Text of ours that is malformed is ignored with a warning: the picture alone
    still is a goal.
    """
    try:
        text = png_text.read_text(path, TEXT_KEY, MAX_TEXT)
    except (OSError, ValueError):  # read_goal tells the user, here there is just no text
        return None
    if text is None:
        return None
    try:
        return parse_goal_text(text)
    except ValueError as error:
        log.warning("the state in %s is ignored: %s", path, error)
        return None


def parse_goal_text(text: str) -> GoalText:
    """JSON of `write_goal` -> GoalText; ValueError says what is wrong with it."""
    if len(text) > MAX_TEXT:
        raise ValueError("its text is too long")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("its text is not JSON") from None
    if not isinstance(fields, dict) or fields.get("version") != TEXT_VERSION:
        raise ValueError(f"its text is not of version {TEXT_VERSION}")
    env = fields.get("env")
    if not isinstance(env, str) or not re.fullmatch(r"[A-Za-z0-9_/.:?=&,-]{1,200}", env):
        raise ValueError("its env is not a name")
    state = _numbers("state", fields.get("state"))
    start = fields.get("start_state")
    start_state = None if start is None else _numbers("start_state", start)
    if start_state is not None and len(start_state) != len(state):
        raise ValueError("its start_state and state differ in length")
    seed = _whole("seed", fields.get("seed"), 0, 2**63 - 1)
    steps = _whole("steps", fields.get("steps"), 1, 1_000_000)
    return GoalText(env=env, state=state, seed=seed, start_state=start_state, steps=steps)


def _numbers(name: str, values: object) -> tuple[float, ...]:
    if not isinstance(values, list) or not 1 <= len(values) <= 512:
        raise ValueError(f"its {name} is not a list of numbers")
    if not all(_is_number(value) for value in values):
        raise ValueError(f"its {name} holds something that is not a finite number")
    return tuple(float(v) for v in values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12  # not NaN


def _whole(name: str, value: object, low: int, high: int) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"its {name} is not a whole number from {low} to {high}")
    return value


def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]  # AVIF and QOI depend on the Pillow version


def _check_file(path: Path) -> None:
    try:
        if path.is_dir():
            raise GoalImageError(f"{path} is a folder; give the goal as one image file")
        if not path.exists():
            raise GoalImageError(f"there is no file {path}; give the path of a goal image")
        if not path.is_file():
            raise GoalImageError(f"{path} is not a regular file; give the goal as an image file")
        if path.stat().st_size == 0:
            raise GoalImageError(f"{path} is empty; save the goal picture again")
    except (OSError, ValueError) as error:  # a name too long, or with a NUL in it
        if isinstance(error, GoalImageError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise GoalImageError(f"{str(path)[:80]!r} cannot be opened ({reason}); give a goal image") from None


def _check_size(path: Path, size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise GoalImageError(_too_large(path, f" ({width} x {height})"))
    if min(size) < MIN_SIDE:
        wanted = f"at least {MIN_SIDE} x {MIN_SIDE} is needed"
        raise GoalImageError(f"{path} is {width} x {height} px, too small to show a goal; {wanted}")


def _too_large(path: Path, size: str = "") -> str:
    limit = f"more than {MAX_PIXELS // 10**6} million pixels{size}"
    return f"{path} has {limit}; save the goal at about {MAX_SIDE} x {MAX_SIDE}"


def _warn_if_animated(path: Path, image: Image.Image) -> None:
    if getattr(image, "is_animated", False):
        log.warning("%s holds several frames; the first one is the goal", path)
        image.seek(0)


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception as error:  # EXIF written by broken software: the picture itself is fine
        log.warning("the goal picture's EXIF cannot be read (%s); it is taken as it lies", error)
        return image


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode -> RGB, reduced towards MAX_SIDE."""
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = Image.fromarray(_deep_grey(np.asarray(image)))
    has_alpha = image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info
    if image.mode in ("P", "PA", "1", "La", "RGBa"):  # averaging needs real colours
        image = image.convert("RGBA" if has_alpha else "RGB")
    factor = min(image.size) // MAX_SIDE
    if factor > 1:
        image = (image.convert("RGBA") if has_alpha else image).reduce(factor)
    if has_alpha:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, rgba)
    return image.convert("RGB")


def _deep_grey(values: np.ndarray) -> np.ndarray:
    """Grey of more than 8 bits (H, W) -> uint8: integers by their 16-bit range, floats by 0..1 or 0..255."""
    if values.dtype.kind == "f":
        if not np.isfinite(values).all():
            raise GoalImageError("the goal picture holds values that are not finite; save it as an 8-bit PNG")
        scale = 255.0 if values.max() <= 1.0 else 1.0
    else:
        if values.min() < 0 or values.max() > 65535:
            raise GoalImageError("the goal picture holds grey values beyond 16 bits; save it as an 8-bit PNG")
        scale = 255.0 / 65535.0
    return (values * np.float32(scale) + np.float32(0.5)).clip(0, 255).astype(np.uint8)


def _warn_if_flat(path: Path, image: Image.Image) -> None:
    low_high: Any = image.getextrema()
    if all(high - low < 3 for low, high in low_high):
        log.warning("%s is of one flat colour; it shows no goal", path)
