"""What the agent imagines, as something to look at.

Latents cannot be looked at. So each imagined latent is shown as a state: as a linear probe reads it, or,
until there is one, as the known state whose latent is nearest. What is known is drawn from the world's start
distribution and encoded in the background, and states that are visited join.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from latent_planner.envs import World, WorldError

KNOWN, SLOW_KNOWN = 1500, 300  # states, and of a world that is slow to draw
PART = 25  # encoded at once, so that plans are not kept waiting
EMPTY = 15  # frames whose median shows the world without what moves
DIFFERENT = 24  # grey levels by which a thing stands out from that
RIDGE = 1.0
FAINTEST, STRONGEST = 70, 190  # alpha of the farthest ghost and of the nearest


class Probe:
    """Reads states (S,) of a world out of latents (D,): ridge regression, angles by their sine and cosine."""

    def __init__(self, world: World, states: np.ndarray, latents: np.ndarray) -> None:
        self._world, self._size = world, states.shape[1]
        self._angles = [world.state_names.index(name) for name in world.angle_names]
        angles = states[:, self._angles]
        targets = np.concatenate([states, np.sin(angles), np.cos(angles)], axis=1)
        self._latent, self._target = latents.mean(0), targets.mean(0)
        centred = (latents - self._latent).astype(np.float64)
        damped = centred.T @ centred + RIDGE * np.eye(centred.shape[1])
        self._weights = np.linalg.solve(damped, centred.T @ (targets - self._target))

    def read(self, latent: np.ndarray) -> np.ndarray | None:
        """The state in a latent; None where the world cannot be like that."""
        read = (latent - self._latent) @ self._weights + self._target
        sines, cosines = np.split(read[self._size :], 2)
        state = read[: self._size]
        state[self._angles] = np.arctan2(sines, cosines)
        try:
            return self._world.check_state(state)
        except WorldError:
            return None


class Known:
    """States of a world beside `start` (S,), and their latents; filled by a thread of its own.

    encode: uint8 (n, h, w, 3) -> latents (n, D).   world: draws what the model sees; this thread's own.
    scene: draws what people see; of the thread that asks.
    """

    def __init__(
        self, world: World, scene: World, encode: Callable[[np.ndarray], np.ndarray], start: np.ndarray
    ) -> None:
        self._world, self._scene, self._encode = world, scene, encode
        self._start, self._most = start, SLOW_KNOWN if world.slow_to_draw else KNOWN
        self._states: list[np.ndarray] = []
        self._latents: list[np.ndarray] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.probe: Probe | None = None  # once enough is known
        self.empty = self._median()
        self._thread = threading.Thread(target=self._fill, name="known states", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def __len__(self) -> int:
        return len(self._states)

    def add(self, state: np.ndarray, latent: np.ndarray) -> None:
        """A state that was seen, and its latent (D,). The oldest that was drawn makes room."""
        with self._lock:
            self._states.append(np.array(state))
            self._latents.append(latent)
            if len(self._states) > 2 * self._most:
                del self._states[0], self._latents[0]

    def states_of(self, latents: np.ndarray) -> list[np.ndarray]:
        """A state for each of latents (n, D), the probe's or the nearest; none while nothing is known."""
        nearest = self._nearest(latents)
        if self.probe is None or not nearest:
            return nearest
        read = map(self.probe.read, latents)
        return [near if state is None else state for state, near in zip(read, nearest)]

    def _nearest(self, latents: np.ndarray) -> list[np.ndarray]:
        with self._lock:
            if not self._states:
                return []
            known, states = np.stack(self._latents), list(self._states)
        away = np.linalg.norm(known[None] - latents[:, None], axis=-1)
        return [states[i] for i in away.argmin(1)]

    def distance(self, latent: np.ndarray) -> float | None:
        """How far latent (D,) is from the nearest known one; None before enough is known to say."""
        with self._lock:
            if len(self._states) < self._most // 2:
                return None
            known = np.stack(self._latents)
        return float(np.linalg.norm(known - latent, axis=-1).min())

    def ghosts(self, states: list[np.ndarray]) -> np.ndarray:
        """What stands out in these states, later ones fainter, with the rest transparent: uint8 (H, W, 4)."""
        overlay = np.zeros((*self.empty.shape[:2], 4), np.uint8)
        shares = np.linspace(1.0, 0.0, max(len(states), 2))
        for state, share in reversed(list(zip(states, shares))):
            frame = self._scene.render_state(state)
            there = np.abs(frame.astype(int) - self.empty).max(-1) > DIFFERENT
            overlay[there, :3] = frame[there]
            overlay[there, 3] = round(FAINTEST + (STRONGEST - FAINTEST) * share)
        return overlay

    def _median(self) -> np.ndarray:
        rng = np.random.default_rng(1)
        states = [self._scene.sample_beside(rng, self._start) for _ in range(EMPTY)]
        return np.median([self._scene.render_state(state) for state in states], axis=0)

    def _fill(self) -> None:
        rng = np.random.default_rng(0)
        drawn = 0
        while drawn < self._most and not self._ended.is_set():
            states = [self._world.sample_beside(rng, self._start) for _ in range(PART)]
            latents = self._encode(np.stack([self._world.render_state(state) for state in states]))
            for state, latent in zip(states, latents):
                self.add(state, latent)
            drawn += PART
            time.sleep(0.02)
        if self._scene.handles() and not self._ended.is_set():  # what has none is no plain matter of places
            with self._lock:
                known = np.stack(self._states), np.stack(self._latents)
            self.probe = Probe(self._world, *known)
