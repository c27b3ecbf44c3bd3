"""What the factors of variation of a world are, and its looks, in words and in a picture.

latent-planner shifts pusht                        every factor and its range, every look
latent-planner shifts pusht --picture pusht.png    three draws of each
latent-planner shifts --picture all.png            every world as it is, trained and unseen
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw

from latent_planner import envs
from latent_planner.common.files import beside

from .factors import LOOKS
from .looks.families import TRAINED, UNSEEN, families

VARIED = tuple(envs.names())  # the worlds that have factors
_GAP, _HEAD = 4, 16  # px between frames, and of a line of words
_SIZE, _DRAWS, _CELLS = 72, 3, 3  # px of a frame, frames of each look, looks in a row
_SEEN_AS = ((), (TRAINED,), (TRAINED,), (TRAINED,), (UNSEEN,), (UNSEEN,), (UNSEEN,))


def summary(name: str) -> str:
    """All that may vary in a world, in a line: groups of factors, and how many families of looks."""
    known = envs.world_class(name).factors
    groups = ", ".join(dict.fromkeys(factor.group for factor in known.values()))
    return f"{groups}; {len(families(known))} families of looks"


def table(name: str) -> list[tuple[str, ...]]:
    """Rows of words, the first of which says what the others hold."""
    rows: list[tuple[str, ...]] = [("factor", "group", "unless asked", "range", "what it is")]
    for label, factor in envs.world_class(name).factors.items():
        default = "as the state says" if factor.default is None else str(factor.default)
        rows.append((label, factor.group, default, factor.bounds(), factor.about))
    return rows


def looks_table(name: str) -> list[tuple[str, ...]]:
    """Likewise, of the families of looks."""
    rows: list[tuple[str, ...]] = [("look", "group", "", "what it is")]
    for family in families(envs.world_class(name).factors):
        rows.append((family.name, family.group, TRAINED if family.trained else UNSEEN, family.about))
    return rows


def sheet(name: str) -> np.ndarray:
    """Frames (h, w, 3) of three draws of each look of a world, and of each other group of factors.

    The state is the same everywhere but under "start". Physics does not show, so it is left out.
    """
    env = envs.make(name, image_size=_SIZE)
    state, known = env.reset(seed=3)[0]["state"], env.factors
    groups = dict.fromkeys(factor.group for factor in known.values())
    cells = [(group, group) for group in groups if group not in (*LOOKS, "physics")]
    for family in families(known):
        cells.append((family.name, family.name if family.trained else f"{family.name} ({UNSEEN})"))
    step = _SIZE + _GAP
    wide, high = _DRAWS * step + 2 * _GAP, step + _HEAD
    made = Image.new("RGB", (_CELLS * wide, -(-len(cells) // _CELLS) * high), "white")
    pen = ImageDraw.Draw(made)
    for number, (word, label) in enumerate(cells):
        left, top = number % _CELLS * wide, number // _CELLS * high
        pen.text((left, top + 1), label, fill="black", font_size=12)
        for draw in range(_DRAWS):
            obs, _ = env.reset(seed=draw + 5, options={"state": state, "vary": [word]})
            made.paste(Image.fromarray(obs["pixels"]), (left + draw * step, top + _HEAD))
    return np.asarray(made)


def overview(names: Sequence[str]) -> np.ndarray:
    """Frames (h, w, 3), a row a world: as it is, three trained looks, three unseen ones."""
    step = _SIZE + _GAP
    made = Image.new("RGB", (len(_SEEN_AS) * step + 4 * _GAP, len(names) * step + _HEAD), "white")
    pen = ImageDraw.Draw(made)
    for position, label in ((0, "usual"), (1, TRAINED), (4, UNSEEN)):
        pen.text((position * step + position // 2 * 2 * _GAP, 1), label, fill="black", font_size=12)
    for row, name in enumerate(names):
        env = envs.make(name, image_size=_SIZE)
        state = env.reset(seed=3)[0]["state"]
        for column, vary in enumerate(_SEEN_AS):
            obs, _ = env.reset(seed=column + 20, options={"state": state, "vary": list(vary)})
            left = column * step + (column > 0) * 2 * _GAP + (column > 3) * 2 * _GAP
            made.paste(Image.fromarray(obs["pixels"]), (left, _HEAD + row * step))
    return np.asarray(made)


def _drawn_here() -> list[str]:
    """The worlds that can be drawn here, in spite of extras that are missing."""
    found = []
    for name in VARIED:
        try:
            envs.make(name, image_size=16).reset(seed=0)
        except envs.WorldError:
            continue
        found.append(name)
    return found


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
    try:
        if args.picture:
            sheets = [sheet(name) for name in args.worlds] or [overview(_drawn_here())]
            made = Image.fromarray(np.concatenate(sheets))
            with beside(args.picture) as temporary:
                made.save(temporary, format="PNG", optimize=True)
            print(args.picture)
            return 0
        for name in args.worlds or VARIED:
            print(f"{name}: {summary(name)}")
            for rows in (table(name), looks_table(name)):
                _print(rows)
    except envs.WorldError as error:
        parser.error(str(error))
    return 0


def _print(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  " + "  ".join(word.ljust(width) for word, width in zip(row, widths)).rstrip())
