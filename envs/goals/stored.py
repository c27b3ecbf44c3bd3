"""Start/goal pairs in a file of plain numbers, for those who play them elsewhere."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from latent_planner.common.files import beside

from ..world import WorldError
from .base import Pairs
from .replayed import ReplayedPairs

KINDS: dict[str, type[Pairs]] = {"set": Pairs, "replayed": ReplayedPairs}


def save(pairs: Pairs, path: Path) -> None:
    """Write pairs as an .npz file, numbers to the last bit, whole or not at all."""
    kind = next(name for name, made in KINDS.items() if type(pairs) is made)
    values = {field.name: getattr(pairs, field.name) for field in fields(pairs)}
    arrays: dict[str, Any] = {n: value for n, value in values.items() if isinstance(value, np.ndarray)}
    plain = {name: value for name, value in values.items() if name not in arrays}
    text = json.dumps({"kind": kind, **plain})
    with beside(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, about=np.array(text), **arrays)


def load(path: Path) -> Pairs:
    """Pairs that `save` has written; WorldError where they are damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            values: dict[str, Any] = {name: file[name] for name in file.files}
        plain = json.loads(str(values.pop("about")))
        made = KINDS[plain.pop("kind")]
        return made(**values, **plain | {"vary": tuple(plain["vary"])})
    except OSError:
        raise
    except Exception as error:  # the library raises nearly every type on damaged files
        raise WorldError(f"The start/goal pairs in {path} are damaged; delete the file.") from error
