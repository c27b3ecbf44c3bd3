"""Videos and pictures of what happened: the world beside its goal, over the curve of the latent distance.

`episode_frames` draws one episode, `tiled_frames` several small ones, `summary_picture` start, goal and end;
`write_video`, `write_gif` and `write_picture` put the result beside its target, renamed when it is whole.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from latent_planner.common.files import beside

log = logging.getLogger(__name__)

# The first encoder that this PyAV has is used; MPEG-4 part 2 is in every build.
ENCODERS: dict[str, dict[str, str]] = {
    "libx264": {"crf": "18", "preset": "veryfast"},
    "libopenh264": {},
    "mpeg4": {"qscale": "2"},
}

PAPER = (250, 250, 250)
INK = (38, 44, 52)
FAINT = (150, 156, 164)
RULE = (216, 219, 224)
LINE = (38, 98, 196)
REACHED = (22, 140, 74)
MISSED = (186, 66, 48)

PALETTE_FRAMES = 24  # from which a GIF's colours are chosen
PANEL, GAP, LABEL, CURVE = 384, 24, 36, 132  # px


@dataclass(frozen=True)
class Clip:
    """What is drawn: T env steps, hence T + 1 frames.

    frames: uint8 (h, w, 3) each, index 0 before the first action.   goal: uint8 (h, w, 3).
    distances: latent distance to the goal at each frame (T + 1).     budget: env steps that were allowed.
    reached_at: index of the first frame in which the goal was reached; None when it was not.
    judged: False when nobody knows whether it was reached.
    """

    frames: Sequence[np.ndarray]
    goal: np.ndarray
    distances: Sequence[float]
    budget: int
    reached_at: int | None = None
    judged: bool = True

    def verdict(self, step: int) -> tuple[str, tuple[int, int, int]]:
        """What can be said at this step, and the colour to say it in; nothing while it is open."""
        if self.reached_at is not None and step >= self.reached_at:
            return f"reached at step {self.reached_at}", REACHED
        ended = self.judged and self.reached_at is None and step == len(self.frames) - 1
        return ("not reached", MISSED) if ended else ("", INK)

    def __post_init__(self) -> None:
        if not self.frames or len(self.frames) != len(self.distances):
            raise ValueError(
                f"{len(self.frames)} frames and {len(self.distances)} distances: need one of each"
            )


def write_video(path: str | os.PathLike, frames: Iterable[np.ndarray], fps: float) -> Path:
    """Encode uint8 (H, W, 3) frames of one size as MP4 at `fps` frames a second; returns the path.

    H.264 (yuv420p, plays everywhere), or MPEG-4 where PyAV has no H.264 encoder. Odd sizes are padded by one
    line. Raises OSError when it cannot be written, ValueError without frames; no half file is left.
    """
    import av  # FFmpeg's libraries: a benchmark that writes no video needs none

    path = Path(path)
    try:
        with beside(path) as temporary:
            _encode(temporary, iter(frames), fps)
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise OSError(f"the video {path} could not be encoded ({error})") from error
    return path


def write_gif(
    path: str | os.PathLike, frames: Iterable[np.ndarray], fps: float, *, width: int, colours: int = 64
) -> Path:
    """Write uint8 (H, W, 3) frames of one size as a GIF that runs for ever; returns the path.

    width: px, to which frames are averaged down; larger than they are, it leaves them.   colours: of one
    palette for all. Raises OSError, ValueError without frames.
    """
    path, small = Path(path), [_reduced(frame, width) for frame in frames]
    if not small:
        raise ValueError("a GIF needs at least one frame")
    some = small[:: max(1, len(small) // PALETTE_FRAMES)]
    together = Image.fromarray(np.concatenate([np.asarray(each) for each in some]))
    palette = together.quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=2)  # thin lines count
    first, *rest = [each.quantize(palette=palette, dither=Image.Dither.NONE) for each in small]
    with beside(path) as temporary:
        first.save(
            temporary, format="GIF", save_all=True, append_images=rest, duration=round(1000 / fps), loop=0,
            optimize=True,
        )  # fmt: skip
    return path


def _reduced(frame: np.ndarray, width: int) -> Image.Image:
    image = Image.fromarray(frame)
    if image.width <= width:
        return image
    return image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)


def write_picture(path: str | os.PathLike, pixels: np.ndarray) -> Path:
    """Write uint8 (H, W, 3) as PNG, whole or not at all; returns the path. Raises OSError."""
    path = Path(path)
    with beside(path) as temporary:
        Image.fromarray(pixels).save(temporary, format="PNG", optimize=True)
    return path


def held(frames: Iterable[np.ndarray], count: int) -> Iterator[np.ndarray]:
    """The frames, the last one `count` times more, so that a player's end can be looked at."""
    last = None
    for last in frames:
        yield last
    if last is not None:
        for _ in range(count):
            yield last


def episode_frames(episode: Clip) -> Iterator[np.ndarray]:
    """One uint8 (H, W, 3) frame a step: the world, the goal beside it, the distance so far below."""
    width = 2 * PANEL + 3 * GAP
    height = 2 * LABEL + PANEL + CURVE + GAP
    goal = Image.fromarray(enlarge(episode.goal, PANEL))
    for step, frame in enumerate(episode.frames):
        verdict, colour = episode.verdict(step)
        canvas = Image.new("RGB", (width, height), PAPER)
        _panel(canvas, (GAP, LABEL), Image.fromarray(enlarge(frame, PANEL)), colour)
        _panel(canvas, (2 * GAP + PANEL, LABEL), goal)
        draw = ImageDraw.Draw(canvas)
        _text(draw, (GAP, LABEL // 2), f"step {step} of {episode.budget}", INK)
        _text(draw, (2 * GAP + PANEL, LABEL // 2), "goal", INK)
        if verdict:
            _text(draw, (GAP + PANEL, LABEL // 2), f"goal {verdict}", colour, anchor="rm")
        middle = LABEL + PANEL + LABEL // 2 + 4
        _text(draw, (GAP, middle), "latent distance to the goal", INK, size=16)
        _text(draw, (width - GAP, middle), f"{episode.distances[step]:.3g}", LINE, size=16, anchor="rm")
        curve = _curve(episode, step, (width - 2 * GAP, CURVE))
        canvas.paste(curve, (GAP, 2 * LABEL + PANEL))
        yield np.asarray(canvas)


def tiled_frames(episodes: Sequence[Clip], columns: int = 3, panel: int = 160) -> Iterator[np.ndarray]:
    """Several episodes at once, each world beside its goal; an ended one keeps its last frame."""
    gap, label = 12, 26
    cell = (2 * panel + gap, panel + label)
    columns = min(columns, len(episodes))
    rows = -(-len(episodes) // columns)
    size = (columns * (cell[0] + 2 * gap) + 2 * gap, rows * (cell[1] + gap) + gap)
    for step in range(max(len(episode.frames) for episode in episodes)):
        canvas = Image.new("RGB", size, PAPER)
        draw = ImageDraw.Draw(canvas)
        for index, episode in enumerate(episodes):
            x = 2 * gap + (index % columns) * (cell[0] + 2 * gap)
            y = gap + (index // columns) * (cell[1] + gap)
            now = min(step, len(episode.frames) - 1)
            verdict, colour = episode.verdict(now)
            _panel(canvas, (x, y + label), Image.fromarray(enlarge(episode.frames[now], panel)), colour)
            _panel(canvas, (x + panel + gap, y + label), Image.fromarray(enlarge(episode.goal, panel)))
            note = verdict or f"step {now} of {episode.budget}"
            _text(draw, (x, y + label // 2), note, colour, size=14)
            _text(draw, (x + panel + gap, y + label // 2), "goal", FAINT, size=14)
        yield np.asarray(canvas)


def summary_picture(episode: Clip) -> np.ndarray:
    """Start, goal and end side by side -> uint8 (H, W, 3)."""
    last = len(episode.frames) - 1
    end = f"end, after {last} step{'' if last == 1 else 's'}"
    verdict, colour = episode.verdict(last)
    panels = [
        ("start", episode.frames[0], INK),
        ("goal", episode.goal, INK),
        (end, episode.frames[-1], colour),
    ]
    canvas = Image.new("RGB", (3 * PANEL + 4 * GAP, LABEL + PANEL + LABEL), PAPER)
    draw = ImageDraw.Draw(canvas)
    for index, (label, frame, edge) in enumerate(panels):
        x = GAP + index * (PANEL + GAP)
        _panel(canvas, (x, LABEL), Image.fromarray(enlarge(frame, PANEL)), edge)
        _text(draw, (x, LABEL // 2), label, INK)
    if verdict:
        _text(draw, (3 * GAP + 3 * PANEL, LABEL // 2), f"goal {verdict}", colour, size=16, anchor="rm")
    for frame_index, index in ((0, 0), (last, 2)):
        distance = f"latent distance {episode.distances[frame_index]:.3g}"
        _text(draw, (GAP + index * (PANEL + GAP), LABEL + PANEL + LABEL // 2), distance, FAINT, size=16)
    return np.asarray(canvas)


def enlarge(pixels: np.ndarray, side: int) -> np.ndarray:
    """uint8 (h, w, 3) -> (side, side, 3): small frames keep their square pixels, large ones are averaged."""
    height, width = pixels.shape[:2]
    if (height, width) == (side, side):
        return pixels
    image = Image.fromarray(pixels)
    if max(height, width) >= side:
        return np.asarray(image.resize((side, side), Image.Resampling.LANCZOS))
    factor = -(-side // min(height, width))  # whole pixels first, then down: even edges at any ratio
    image = image.resize((width * factor, height * factor), Image.Resampling.NEAREST)
    return np.asarray(image.resize((side, side), Image.Resampling.BOX))


def _encode(path: Path, frames: Iterator[np.ndarray], fps: float) -> None:
    import av

    first = next(frames, None)
    if first is None:
        raise ValueError("a video needs at least one frame")
    height, width = first.shape[0] + first.shape[0] % 2, first.shape[1] + first.shape[1] % 2
    with av.open(str(path), mode="w", format="mp4", options={"movflags": "faststart"}) as container:
        name = encoder()
        rate = Fraction(fps).limit_denominator(1000)
        stream: Any = container.add_stream(name, rate=rate, options=dict(ENCODERS[name]))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in itertools.chain([first], frames):
            if frame.shape[:2] != (height, width):
                short = (height - frame.shape[0], width - frame.shape[1])
                frame = np.pad(frame, ((0, short[0]), (0, short[1]), (0, 0)), mode="edge")
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())


@lru_cache(maxsize=1)
def encoder() -> str:
    """Name of the first of ENCODERS that this PyAV can use."""
    import av

    for name in ENCODERS:
        try:
            av.Codec(name, "w")
        except ValueError:  # what PyAV raises for an unknown codec
            continue
        if name == "mpeg4":
            log.warning(
                "this PyAV has no H.264 encoder; videos are written as MPEG-4, which browsers do not play"
            )
        return name
    raise OSError(
        "this PyAV has no encoder for MP4 video; install it anew with: pip install --force-reinstall av"
    )


@lru_cache(maxsize=8)
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _text(
    draw: ImageDraw.ImageDraw,
    at: tuple[int, int],
    text: str,
    colour: tuple[int, int, int],
    *,
    size: int = 18,
    anchor: str = "lm",
) -> None:
    draw.text(at, text, fill=colour, font=_font(size), anchor=anchor)


def _panel(
    canvas: Image.Image, at: tuple[int, int], image: Image.Image, colour: tuple[int, int, int] = INK
) -> None:
    """A picture with a thin edge, or with a thick one in the colour of a verdict."""
    x, y = at
    thick = 1 if colour == INK else 4
    frame = (x - thick, y - thick, x + image.width - 1 + thick, y + image.height - 1 + thick)
    ImageDraw.Draw(canvas).rectangle(frame, outline=RULE if colour == INK else colour, width=thick)
    canvas.paste(image, at)


def _curve(episode: Clip, step: int, size: tuple[int, int]) -> Image.Image:
    """The distances up to `step` over the whole budget; drawn at twice the size, so that lines are smooth."""
    scale = 2
    width, height = size[0] * scale, size[1] * scale
    left, right, top, bottom = 52 * scale, 10 * scale, 8 * scale, 26 * scale
    image = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(image)
    steps = max(episode.budget, len(episode.frames) - 1, 1)
    finite = [distance for distance in episode.distances if np.isfinite(distance)]
    highest = _round_up(max(finite, default=1.0))

    def place(index: float, distance: float) -> tuple[float, float]:
        x = left + (width - left - right) * index / steps
        return x, height - bottom - (height - top - bottom) * min(distance / highest, 1.0)

    for share in (0.0, 0.5, 1.0):
        _, y = place(0, share * highest)
        draw.line([(left, y), (width - right, y)], fill=RULE, width=scale)
        _text(draw, (left - 8 * scale, int(y)), f"{share * highest:g}", FAINT, size=12 * scale, anchor="rm")
    for index in range(0, steps + 1, _tick(steps)):
        x, y = place(index, 0.0)
        _text(draw, (int(x), int(y) + 14 * scale), str(index), FAINT, size=12 * scale, anchor="mm")
    if episode.reached_at is not None and step >= episode.reached_at:
        x, y = place(episode.reached_at, 0.0)
        draw.line([(x, top), (x, y)], fill=REACHED, width=2 * scale)
    points = [place(i, d) for i, d in enumerate(episode.distances[: step + 1]) if np.isfinite(d)]
    if len(points) > 1:
        draw.line(points, fill=LINE, width=2 * scale, joint="curve")
    if points:
        x, y = points[-1]
        draw.ellipse((x - 4 * scale, y - 4 * scale, x + 4 * scale, y + 4 * scale), fill=LINE)
    return image.resize(size, Image.Resampling.BOX)


def _round_up(value: float) -> float:
    """The next of 1, 2, 4, 5, 10 times a power of ten, so that the axis has short numbers."""
    if value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(m * power for m in (1, 2, 4, 5, 10) if m * power >= value * (1 - 1e-9)))


def _tick(steps: int) -> int:
    return next(tick for tick in (1, 2, 5, 10, 20, 50, 100, 200, 500, 10**9) if steps / tick <= 10)
