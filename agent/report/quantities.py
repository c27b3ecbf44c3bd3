"""The numbers of a recorded state: which of them a frame shows, and which belong to one object."""

from __future__ import annotations

import numpy as np

from .evidence import Evidence

LOOKS = 6  # states that are drawn to see whether a number shows


def visible(evidence: Evidence) -> list[str]:
    """Names of the state's components that change what the world shows; all where there is no world to ask.

    A velocity, for one, is in no single frame, so no latent of a single frame can hold it.
    """
    found: list[str] = evidence.once("visible", lambda: _visible(evidence))
    return found


def _visible(evidence: Evidence) -> list[str]:
    names = list(evidence.state_names)
    if evidence.make_env is None:
        return names
    state = evidence.sample("held_out", 2 * LOOKS, branch=901).state
    if state is None or len(state) < 2:
        return names
    half = len(state) // 2
    here, there = state[:half], state[half : 2 * half]
    changed = np.concatenate([_mixed(here, there, [index]) for index in range(len(names))])
    changed = _if_possible(evidence, changed, np.tile(here, (len(names), 1)))
    drawn = evidence.render(np.concatenate([here, changed])).reshape(1 + len(names), half, -1)
    return [name for index, name in enumerate(names) if (drawn[index + 1] != drawn[0]).any()]


def values(evidence: Evidence, state: np.ndarray, names: list[str] | None = None) -> dict[str, np.ndarray]:
    """Quantities of states (…, S), {name: (…)}, of these components only; angles as sine and cosine."""
    found = evidence.quantities(state)
    if names is None:
        return found
    wanted = set(names) | {f"{name}_{part}" for name in names for part in ("sin", "cos")}
    return {name: value for name, value in found.items() if name in wanted}


def objects(evidence: Evidence, shown: list[str]) -> dict[str, list[int]]:
    """{object: indices of its components}: what stands before the last underscore of a name is the object.

    Objects of which no frame shows anything are left out.
    """
    found: dict[str, list[int]] = {}
    for index, name in enumerate(evidence.state_names):
        found.setdefault(name.rpartition("_")[0] or name, []).append(index)
    names = evidence.state_names
    return {name: own for name, own in found.items() if any(names[index] in shown for index in own)}


def moved(evidence: Evidence, state: np.ndarray, others: np.ndarray, components: list[int]) -> np.ndarray:
    """States (n, S) in which one object is where it is in the states `others` (n, S); those that the world
    could not be in, an object inside a wall, stay as they are."""
    return _if_possible(evidence, _mixed(state, others, components), state)


def _mixed(state: np.ndarray, others: np.ndarray, components: list[int]) -> np.ndarray:
    changed = state.copy()
    changed[:, components] = others[:, components]
    return changed


def _if_possible(evidence: Evidence, changed: np.ndarray, state: np.ndarray) -> np.ndarray:
    return np.where(evidence.possible(changed)[:, None], changed, state)
