"""What the factors of variation of a world are, in words and in a picture.

latent-planner shifts pusht                       every factor, what it is unless asked, its range
latent-planner shifts --picture shifts.png        what they look like
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from latent_planner import envs
from latent_planner.common.files import beside

VARIED = ("pusht", "two_room", "wall")  # the worlds that have factors
_GAP, _HEAD = 6, 22  # px between frames, and of a line of words


def table(name: str) -> list[tuple[str, ...]]:
    """Rows of words, the first of which says what the others hold."""
    rows: list[tuple[str, ...]] = [("factor", "group", "unless asked", "range", "what it is")]
    for label, factor in envs.make(name, image_size=16).factors.items():
        default = "as the state says" if factor.default is None else str(factor.default)
        rows.append((label, factor.group, default, factor.bounds(), factor.about))
    return rows


def picture(names: Sequence[str], size: int = 192, count: int = 3) -> np.ndarray:
    """Columns of frames (h, w, 3): each world as it is, and `count` draws of each of its groups.

    The state is the same everywhere but under "start". Physics does not show, so it is left out.
    """
    bands = []
    for name in names:
        env = envs.make(name, image_size=size)
        groups = list(dict.fromkeys(factor.group for factor in env.factors.values()))
        options = {"state": env.reset(seed=3)[0]["state"]}
        tiles = []
        for group in [None, *(group for group in groups if group != "physics")]:
            column = Image.new("RGB", (size + _GAP, _HEAD + count * (size + _GAP)), "white")
            pen = ImageDraw.Draw(column)
            pen.text((2, 1), name if group is None else group, fill="black", font_size=16)
            for row in range(count if group else 1):
                vary = [] if group is None else [group]
                obs, _ = env.reset(seed=row + 5, options={**options, "vary": vary})
                top = _HEAD + row * (size + _GAP)
                column.paste(Image.fromarray(obs["pixels"]), (0, top))
                pen.rectangle((0, top, size - 1, top + size - 1), outline="grey")
            tiles.append(np.asarray(column))
        bands.append(np.concatenate(tiles, axis=1))
    width = max(band.shape[1] for band in bands)
    return np.concatenate(
        [np.pad(band, ((0, 0), (0, width - band.shape[1]), (0, 0)), constant_values=255) for band in bands]
    )


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="latent-planner shifts", description="What may look or move otherwise in a world."
    )
    parser.add_argument("worlds", nargs="*", metavar="world", help=f"of {', '.join(VARIED)}")
    parser.add_argument("--picture", metavar="FILE", help="draw them (PNG) instead of listing them")
    args = parser.parse_args(words)
    for name in args.worlds:
        if name not in VARIED:
            parser.error(f"{name!r} has no factors of variation; these have: {', '.join(VARIED)}")
    if args.picture:
        with beside(args.picture) as temporary:
            Image.fromarray(picture(args.worlds or VARIED[:2])).save(temporary, format="PNG")
        print(args.picture)
        return 0
    for name in args.worlds or VARIED:
        rows = table(name)
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        print(name)
        for row in rows:
            print("  " + "  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip())
    return 0
