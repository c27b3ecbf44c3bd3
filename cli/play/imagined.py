"""What the agent imagines, as something to look at.

Latents cannot be looked at. Where the world's states can be set, each imagined latent is shown as a state: as
a linear probe reads it, or, until there is one, as the known state whose latent is nearest. In other worlds
it is the nearest known frame. What is known is drawn from the world's start distribution, or played with
noise, and encoded in the background; what is visited joins.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

from latent_planner.envs import World, WorldError
from latent_planner.envs.gym.policies import Smooth

KNOWN, SLOW_KNOWN = 1500, 300  # states or frames, and of a world that is slow to draw
PART = 25  # encoded at once, so that plans are not kept waiting
PLAYED = 50  # steps of noise after a reset
EMPTY = 15  # frames whose median shows the world without what moves
DIFFERENT = 24  # grey levels by which a thing stands out from that
RIDGE = 1.0
FAINTEST, STRONGEST = 70, 190  # alpha of the farthest ghost and of the nearest

Encode = Callable[[np.ndarray], np.ndarray]  # uint8 (n, h, w, 3) -> latents (n, D)


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

    def read(self, latents: np.ndarray) -> np.ndarray:
        """The states (…, S) in latents (…, D), whether or not the world can be like that."""
        read = (latents - self._latent) @ self._weights + self._target
        sines, cosines = np.split(read[..., self._size :], 2, axis=-1)
        states: np.ndarray = read[..., : self._size]
        states[..., self._angles] = np.arctan2(sines, cosines)
        return states

    def possible(self, state: np.ndarray) -> np.ndarray | None:
        """The state (S,), or None where the world cannot be like that."""
        try:
            return self._world.check_state(state)
        except WorldError:
            return None


class Known:
    """Things of a world and their latents, filled by a thread of its own.

    A thing is a state (S,), in an episode in which `start` (S,) occurs; or, where states cannot be set, a
    frame (h, w, 3).   world: draws what the model sees; this thread's own.
    """

    def __init__(self, world: World, encode: Encode, start: np.ndarray) -> None:
        self.settable = world.settable_states
        self._world, self._encode = world, encode
        self._start, self._most = start, SLOW_KNOWN if world.slow_to_draw else KNOWN
        self._things: list[np.ndarray] = []
        self._latents: list[np.ndarray] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self.probe: Probe | None = None  # once enough is known, where things can be dragged
        self._thread = threading.Thread(target=self._fill, name="known states", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        self._thread.join()

    def __len__(self) -> int:
        return len(self._things)

    def wait(self) -> None:
        """Until everything is known that will be."""
        self._thread.join()

    def add(self, thing: np.ndarray, latent: np.ndarray) -> None:
        """What was seen, and its latent (D,). The oldest makes room."""
        with self._lock:
            self._things.append(np.array(thing))
            self._latents.append(latent)
            if len(self._things) > 2 * self._most:
                del self._things[0], self._latents[0]

    def things_of(self, latents: np.ndarray) -> list[np.ndarray]:
        """A thing for each of latents (n, D), the probe's or the nearest; none while nothing is known."""
        nearest = self._nearest(latents)
        if self.probe is None or not nearest:
            return nearest
        read = map(self.probe.possible, self.probe.read(latents))
        return [near if state is None else state for state, near in zip(read, nearest)]

    def _nearest(self, latents: np.ndarray) -> list[np.ndarray]:
        with self._lock:
            if not self._things:
                return []
            known, things = np.stack(self._latents), list(self._things)
        away = np.linalg.norm(known[None] - latents[:, None], axis=-1)
        return [things[i] for i in away.argmin(1)]

    def distance(self, latent: np.ndarray) -> float | None:
        """How far latent (D,) is from the nearest known one; None before enough is known to say."""
        with self._lock:
            if len(self._things) < self._most // 2:
                return None
            known = np.stack(self._latents)
        return float(np.linalg.norm(known - latent, axis=-1).min())

    def some(self, count: int) -> list[np.ndarray]:
        """So many things, spread over all; fewer while fewer are known."""
        with self._lock:
            return self._things[:: max(1, len(self._things) // count)][:count]

    def _fill(self) -> None:
        rng = np.random.default_rng(0)
        drawn = 0
        while drawn < self._most and not self._ended.is_set():
            things, frames = self._drawn(rng) if self.settable else self._played(rng)
            for thing, latent in zip(things, self._encode(np.stack(frames))):
                self.add(thing, latent)
            drawn += len(things)
            time.sleep(0.02)
        if self.settable and self._world.handles() and not self._ended.is_set():
            with self._lock:  # what has no handles is no plain matter of places
                known = np.stack(self._things), np.stack(self._latents)
            self.probe = Probe(self._world, *known)

    def _drawn(self, rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
        states = [self._world.sample_beside(rng, self._start) for _ in range(PART)]
        return states, [self._world.render_state(state) for state in states]

    def _played(self, rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
        noise = Smooth(self._world.action_low, self._world.action_high, self._world.actions)
        noise.reset(rng)
        observation, _ = self._world.reset(seed=int(rng.integers(2**31)), options={"goal": None})
        frames = [observation["pixels"]]
        for _ in range(PLAYED):
            frames.append(self._world.step(noise.act({}))[0]["pixels"])
        return frames, frames


class Ghosts:
    """Draws known things over each other.   draw: thing -> uint8 (H, W, 3), in the thread that asks."""

    def __init__(self, known: Known, draw: Callable[[np.ndarray], np.ndarray]) -> None:
        self._known, self._draw = known, draw
        self._empty: np.ndarray | None = None

    def over(self, things: list[np.ndarray]) -> np.ndarray:
        """What stands out in these, later ones fainter, with the rest transparent: uint8 (H, W, 4)."""
        empty = self._without_what_moves()
        overlay = np.zeros((*empty.shape[:2], 4), np.uint8)
        shares = np.linspace(1.0, 0.0, max(len(things), 2))
        for thing, share in reversed(list(zip(things, shares))):
            frame = self._draw(thing)
            there = (np.abs(frame.astype(np.int16) - empty) > DIFFERENT).any(-1)
            overlay[there, :3] = frame[there]
            overlay[there, 3] = round(FAINTEST + (STRONGEST - FAINTEST) * share)
        return overlay

    def _without_what_moves(self) -> np.ndarray:
        if self._empty is None:
            things = self._known.some(EMPTY)
            empty: np.ndarray = np.median([self._draw(thing) for thing in things], axis=0).astype(np.int16)
            if len(things) < EMPTY:
                return empty
            self._empty = empty
        return self._empty
