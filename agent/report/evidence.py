"""What every section of the report is handed: a model, episodes it never learned from, and perhaps its world.

    evidence = Evidence.from_reader(world_model, reader, agent=agent, make_env=make_env, pairs=pairs)
    evidence = Evidence(world_model, fit=[...], held_out=[...], state_names=("x", "y"))     # by hand

Anything with `config`, `encode`, `rollout`, `normalise_actions` like model.world_model.WorldModel serves as a
model, so a test can hand over one that is the simulator, or one that has collapsed. numpy outside: latents
are float32 (n, D), pixels uint8 (n, h, w, 3), states float64 (n, S) in the world's units, actions float32 in
the world's units; `blocks` are normalised action blocks (…, F·A), as the model takes them. Latents of all
frames are computed once, when first asked for.

A section that cannot be told raises Skipped, most easily by `need_state`, `need_env` and `need_agent`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch

from latent_planner.common.progress import Bar

from ..pixels import encode_frames
from ..training.split import DatasetError, split_episodes
from .recordings import Frames, Played, Shifts, Track, Windows, with_known_state

Split = Literal["fit", "held_out"]
SPLITS: tuple[Split, Split] = ("fit", "held_out")
ROLLED_AT_ONCE = 1024  # rollouts imagined together


class Skipped(Exception):
    """This section says nothing about this model; the message is the reason, for the reader of the report."""


class Evidence:
    """See the module. `fit` is for whatever is learned in a section, `held_out` for what it is judged on.

    agent: an agent.Agent with this model, for sections that plan.
    make_env: a fresh world: observations {"pixels": uint8 (h, w, 3), "state": (S,)}, reset options "state"
        and "goal_state", `info["goal"]`, `info["success"]`, as latent_planner.evaluation.benchmark has it.
    pairs: start/goal pairs of latent_planner.evaluation.benchmark.
    foreign: frames (n, h, w, 3) of other worlds, or what makes them when they are asked for.
    shifts: the looks that the world can have; None: it has one.
    seed: of everything drawn.   progress: whether bars are shown.
    """

    def __init__(
        self,
        world_model: Any,
        *,
        fit: Sequence[Track],
        held_out: Sequence[Track],
        state_names: Sequence[str] = (),
        angle_names: Sequence[str] = (),
        agent: Any = None,
        make_env: Callable[[], Any] | None = None,
        pairs: Any = None,
        foreign: np.ndarray | Callable[[], np.ndarray | None] | None = None,
        shifts: Shifts | None = None,
        seed: int = 0,
        device: torch.device | str = "cpu",
        progress: bool = False,
    ) -> None:
        self.world_model, self.config = world_model, world_model.config
        self.tracks: dict[Split, list[Track]] = {"fit": list(fit), "held_out": list(held_out)}
        self.state_names, self.angle_names = tuple(state_names), tuple(angle_names)
        self.agent, self.make_env, self.pairs, self._foreign = agent, make_env, pairs, foreign
        self.shifts = shifts
        self.seed, self.device, self.progress = seed, device, progress
        self._known: dict[str, Any] = {}
        if not all(self.tracks.values()):
            raise ValueError("a report needs at least one episode to fit on and one held out")

    # What can be asked of any evidence ---------------------------------------------------------------------

    @property
    def has_state(self) -> bool:
        return bool(self.state_names) and all(
            track.state is not None for split in SPLITS for track in self.tracks[split]
        )

    @property
    def foreign(self) -> np.ndarray | None:
        """Frames (n, h, w, 3) of other worlds; None without."""
        made = self._foreign
        return self.once("foreign", made) if callable(made) else made

    def need_state(self) -> None:
        """Raise Skipped where the recording holds no state."""
        if not self.has_state:
            raise Skipped("the recording holds no state")

    def need_env(self) -> Callable[[], Any]:
        """The maker of worlds; Skipped where there is none, or one without state."""
        if self.make_env is None:
            raise Skipped("there is no world here to play in")
        return self.make_env

    def need_agent(self) -> Any:
        """The agent; Skipped without one."""
        if self.agent is None:
            raise Skipped("there is no agent to plan with")
        return self.agent

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        """What `make` gave when it was first asked for under this name: for what several sections need."""
        if name not in self._known:
            self._known[name] = make()
        return self._known[name]

    def random(self, branch: int = 0) -> np.random.Generator:
        """A stream of random numbers that depends on the seed and `branch` only."""
        return np.random.default_rng([self.seed, branch])

    def bar(self, what: Iterable[Any], text: str, unit: str = "") -> Any:
        """`what`, under a progress bar."""
        return Bar(what, desc=text, unit=unit, leave=False, disable=not self.progress)

    # Latents -----------------------------------------------------------------------------------------------

    @cached_property
    def _latents(self) -> dict[Split, list[np.ndarray]]:
        return {
            split: [self.encode(track.pixels) for track in self.bar(self.tracks[split], f"encode {split}")]
            for split in SPLITS
        }

    def latents(self, split: Split) -> list[np.ndarray]:
        """(T, D) of each episode, every frame."""
        return self._latents[split]

    def encode(self, pixels: np.ndarray) -> np.ndarray:
        """uint8 (n, h, w, 3) of any size -> (n, D)."""
        return encode_frames(self.world_model, pixels, self.device).float().cpu().numpy()

    @torch.no_grad()
    def rollout(self, latents: np.ndarray, blocks: np.ndarray) -> np.ndarray:
        """(n, D), or (n, T, D) with K = T - 1 + H blocks; (n, K, F·A) -> (n, H + 1, D), 0 is the last latent.

        With one frame each, what a planner imagines when it begins; with T frames the first T - 1 blocks lie
        between them.
        """
        context = latents[:, None] if latents.ndim == 2 else latents
        past = context.shape[1] - 1
        out = []
        for first in range(0, len(blocks), ROLLED_AT_ONCE):
            part = slice(first, first + ROLLED_AT_ONCE)
            seen, done = self._tensor(context[part]), self._tensor(blocks[part])
            imagined = self.world_model.rollout(seen, done[:, None, past:], done[:, :past])
            out.append(imagined[:, 0].float().cpu().numpy())
        return np.concatenate(out)

    def normalise(self, actions: np.ndarray) -> np.ndarray:
        """(…, K·F, A) in the world's units -> blocks (…, K, F·A)."""
        scaled = self.world_model.normalise_actions(self._tensor(actions)).cpu().numpy()
        return scaled.reshape(*scaled.shape[:-2], -1, self.config.block_dim).astype(np.float32)

    def denormalise(self, blocks: np.ndarray) -> np.ndarray:
        """Blocks (…, K, F·A) -> actions (…, K·F, A) in the world's units."""
        flat = blocks.reshape(*blocks.shape[:-2], -1, self.config.action_dim)
        return self.world_model.denormalise_actions(self._tensor(flat)).cpu().numpy()

    def _tensor(self, values: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(np.ascontiguousarray(values), dtype=torch.float32, device=self.device)

    # Choosing from the episodes ----------------------------------------------------------------------------

    def sample(self, split: Split, count: int, branch: int = 0) -> Frames:
        """At most `count` different frames, drawn evenly over all, in recorded order."""
        lengths = np.array([len(track) for track in self.tracks[split]])
        rows = np.sort(self.random(branch).permutation(lengths.sum())[:count])
        episode = np.repeat(np.arange(len(lengths)), lengths)[rows]
        frame = rows - (np.cumsum(lengths) - lengths)[episode]
        return self._frames(split, episode, frame)

    def _frames(self, split: Split, episode: np.ndarray, frame: np.ndarray) -> Frames:
        latents = self.latents(split)
        state = None
        if self.has_state:
            state = np.stack([self._state(split, e)[f] for e, f in zip(episode, frame)])
        return Frames(np.stack([latents[e][f] for e, f in zip(episode, frame)]), state, episode, frame)

    def _state(self, split: Split, episode: int) -> np.ndarray:
        state = self.tracks[split][episode].state
        assert state is not None
        return state

    def windows(self, split: Split, steps: int, count: int, branch: int = 0) -> Windows:
        """At most `count` different stretches of `steps` model steps; Skipped if no episode is so long."""
        skip = self.config.frameskip
        starts = np.array([max(0, len(track) - steps * skip) for track in self.tracks[split]])
        if not starts.any():
            raise Skipped(f"no episode of the recording is {steps * skip + 1} frames long")
        chosen = np.sort(self.random(branch).permutation(starts.sum())[:count])
        episode = np.repeat(np.arange(len(starts)), starts)[chosen]
        frame = chosen - (np.cumsum(starts) - starts)[episode]
        every, latents = np.arange(0, steps * skip + 1, skip), self.latents(split)
        actions = np.stack(
            [self.tracks[split][e].actions[f : f + steps * skip] for e, f in zip(episode, frame)]
        )
        state = None
        if self.has_state:
            state = np.stack([self._state(split, e)[f + every] for e, f in zip(episode, frame)])
        seen = np.stack([latents[e][f + every] for e, f in zip(episode, frame)])
        return Windows(seen, self.normalise(actions), state, episode, frame)

    def longest(self, split: Split = "held_out") -> int:
        """Model steps that the longest episode spans."""
        return max((len(track) - 1) // self.config.frameskip for track in self.tracks[split])

    def pixels(self, split: Split, episode: int, frame: Any) -> np.ndarray:
        """Frames of one episode: (h, w, 3) for an index, (n, h, w, 3) for several."""
        return self.tracks[split][episode].pixels[frame]

    def quantities(self, state: np.ndarray) -> dict[str, np.ndarray]:
        """States (…, S) -> {name: (…)}: as recorded, an angle as <name>_sin and <name>_cos."""
        found: dict[str, np.ndarray] = {}
        for index, name in enumerate(self.state_names):
            values = state[..., index]
            if name in self.angle_names:
                found |= {f"{name}_sin": np.sin(values), f"{name}_cos": np.cos(values)}
            else:
                found[name] = values
        return found

    # The world ---------------------------------------------------------------------------------------------

    def render(self, states: np.ndarray) -> np.ndarray:
        """What the world shows in states (n, S): uint8 (n, h, w, 3). Skipped without a world."""
        with closing(self.need_env()()) as env:
            return np.stack([_reset(env, state)["pixels"].copy() for state in states])

    def possible(self, states: np.ndarray, goals: np.ndarray | None = None) -> np.ndarray:
        """Which of the states (n, S) the world can be in, with these goals (n, S): bool (n,). Skipped without
        a world."""
        asked = [{"state": state} for state in states]
        if goals is not None:
            asked = [{**options, "goal_state": goal} for options, goal in zip(asked, goals)]
        with closing(self.need_env()()) as env:
            return np.array([_accepts(env, options) for options in asked], bool)

    def simulate(self, states: np.ndarray, actions: np.ndarray, every: int | None = None) -> Played:
        """Play actions (n, K, A) from states (n, S); T = 1 + K // every frames, `every` env steps apart.

        every: default the model's frameskip, so that frame t belongs to step t of a rollout.
        """
        every = self.config.frameskip if every is None else every
        pixels, reached = [], []
        with closing(self.need_env()()) as env:
            for start, own in zip(states, actions):
                seen = [_reset(env, start)]
                for index, action in enumerate(own.astype(env.action_space.dtype), 1):
                    observation = env.step(action)[0]
                    if index % every == 0:
                        seen.append({name: np.array(value) for name, value in observation.items()})
                pixels.append([look["pixels"] for look in seen])
                reached.append([look["state"] for look in seen])
        return Played(np.array(pixels), np.array(reached, dtype=float))

    @classmethod
    def from_reader(
        cls,
        world_model: Any,
        reader: Any,
        *,
        held_out: float = 0.1,
        split_seed: int = 0,
        most: tuple[int, int] = (100, 50),
        memory_gb: float = 2.0,
        **others: Any,
    ) -> Evidence:
        """From an open recording (latent_planner.envs.recordings.episodes.EpisodeReader or the like).

        held_out, split_seed: as the model was trained with, so that `held_out` are episodes it never saw.
        most: at most so many episodes to fit on and held out, fewer if their frames take more than memory_gb.
        others: what the class takes. Raises DatasetError.
        """
        config, lengths = world_model.config, np.asarray(reader.lengths)
        chosen = split_episodes(
            lengths, num_frames=config.context_len + 1, frameskip=config.frameskip, held_out=held_out,
            seed=split_seed, name=str(reader.path),
        )  # fmt: skip
        frame = reader.read_rows("pixels", np.array([0]))[0]
        room = memory_gb * 2**30 / (frame.nbytes * max(1.0, lengths.mean())) / sum(most)
        tracks: dict[Split, list[Track]] = {}
        for name, indices, count in zip(SPLITS, (chosen["train"], chosen["held_out"]), most):
            count = max(1, min(len(indices), int(count * min(1.0, room))))
            some = indices[np.linspace(0, len(indices) - 1, count).round().astype(int)]
            bar = Bar(some, desc=f"read {name}", leave=False, disable=not others.get("progress", False))
            tracks[name] = [_track(reader, int(episode)) for episode in bar]
        known, names = with_known_state(tracks, reader.state_names)
        angles = tuple(name for name in reader.angle_names if name in names)
        fit, held = known["fit"], known["held_out"]
        return cls(world_model, fit=fit, held_out=held, state_names=names, angle_names=angles, **others)


def _track(reader: Any, episode: int) -> Track:
    first = int(reader.offsets[episode])
    last = first + int(reader.lengths[episode])
    actions = np.asarray(reader.read("action", first, last - 1), np.float32)
    if not np.isfinite(actions).all():
        raise DatasetError(
            f"{reader.path} has actions that are not numbers in episode {episode}: record it again"
        )
    state = None
    if "state" in reader.columns and reader.state_names:
        state = np.asarray(reader.read("state", first, last), np.float64)
    return Track(reader.read("pixels", first, last), actions, state)


def _accepts(env: Any, options: dict[str, np.ndarray]) -> bool:
    try:
        env.reset(seed=0, options=options)
    except ValueError:  # every world's own error is one
        return False
    return True


def _reset(env: Any, state: np.ndarray) -> dict[str, np.ndarray]:
    observation, _ = env.reset(seed=0, options={"state": state})
    return {name: np.array(value) for name, value in observation.items()}
