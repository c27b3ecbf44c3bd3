"""Training windows over recorded episodes: which rows, from which episodes, normalised how."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from latent_planner.common import actions as recorded_actions
from latent_planner.common.action_space import NUMBERS, ActionSpace

from ..model.action_code import ActionCode
from ..model.senses import VECTOR
from ..model.world_model import WorldModelConfig
from ..protocols import Recording
from .frame_store import InMemory, OnDisk, frame_shape, place_frames
from .split import SPLITS, DatasetError, Split, split_parts

logger = logging.getLogger(__name__)

ENCODED_AT_ONCE = 512  # frames


@dataclass(frozen=True)
class Batch:
    """B windows of T frames.

    pixels   uint8 (B, T, 3, h, w); or float32 (B, T, D), once `WindowDataset.encode_frames` was called; of
             several cameras, what `WorldModel.encode` takes: {camera: uint8, "proprio": float32 (B, T, P)}
    actions  float32 (B, T−1, F·A), z-scored; block t holds the F actions between frame t and frame t+1,
             in time order. The last frame's block is left out: it leads to a frame outside the window.
    state    float32 (B, T, S) as recorded, or None
    """

    pixels: Any
    actions: Tensor
    state: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`, copied without blocking where the device allows it."""

        def move(tensor: Tensor) -> Tensor:
            if device.type == "cuda" and tensor.device.type == "cpu":
                tensor = tensor.pin_memory()
            return tensor.to(device, non_blocking=True)

        pixels = self.pixels
        pixels = {k: move(v) for k, v in pixels.items()} if isinstance(pixels, dict) else move(pixels)
        return Batch(pixels, move(self.actions), None if self.state is None else move(self.state))


class Journeys(NamedTuple):
    """B pairs of latents of one episode, and what was done in between.

    latents, goals  float32 (B, D)
    steps           int64 (B,), model steps from one to the other
    actions         float32 (B, longest, F·A), z-scored; 0 after `steps`
    """

    latents: Tensor
    goals: Tensor
    steps: Tensor
    actions: Tensor


class WindowDataset:
    """Windows of `num_frames` frames, `frameskip` env steps apart, drawn uniformly over all valid starts.

    reader      an open recording (latent_planner.envs.recordings.episodes.EpisodeReader or the like)
    num_frames  T, frames in a window
    frameskip   F, env actions between two of them
    held_out    share of the episodes kept from training; whole episodes, chosen by `seed`
    device      where batches are wanted; the frames are kept there when they fit
    memory_gb   most memory the frames may take on the device or in main memory; default half of what is free
    looks       whether the same frames in other looks are wanted, where the recording has them
    like        a model's config, whose mean and deviation of the actions are used; default the recording's

    Attributes: looks (a store of the frames in other looks, or None), env, image_size, frame_size (h, w),
    action_dim, state_names, angle_names, num_frames,
    frameskip, num_windows {split: int}, place ("cuda:0", "cpu" or "disk") and what `statistics()` returns.

    Raises DatasetError where the recording has no windows, too few episodes to split, or actions that are
    not numbers.
    """

    def __init__(
        self,
        reader: Recording,
        *,
        num_frames: int,
        frameskip: int,
        held_out: float = 0.1,
        seed: int = 0,
        device: torch.device | str = "cpu",
        memory_gb: float | None = None,
        looks: bool = False,
        like: WorldModelConfig | None = None,
        progress: bool = True,
    ) -> None:
        if num_frames < 2 or frameskip < 1:
            raise DatasetError(
                f"windows of {num_frames} frames, {frameskip} steps apart: at least 2 and 1 are needed"
            )
        self.num_frames, self.frameskip = num_frames, frameskip
        self.name = str(getattr(reader, "path", "the recording"))
        self.env, self.image_size = reader.env, int(reader.image_size)
        self.control_hz = _rate(getattr(reader, "attrs", {}).get("control_hz"))
        self.frame_size = frame_shape(reader)[:2]
        self.state_names, self.angle_names = tuple(reader.state_names), tuple(reader.angle_names)
        self.device = torch.device(device)

        windows = {"num_frames": num_frames, "frameskip": frameskip}
        lengths = np.asarray(reader.lengths)
        parts = getattr(reader, "parts", (len(lengths),))
        episodes = split_parts(lengths, parts, **windows, held_out=held_out, seed=seed, name=self.name)
        actions = self._read_actions(reader)
        self.action_dim = actions.shape[1]
        self.state = self._read_state(reader)
        self.space: ActionSpace = getattr(reader, "action_space", NUMBERS)
        taken = recorded_actions.taken(actions, reader.lengths, reader.offsets, space=self.space)
        self._check_choices(reader, actions, taken)
        self.rows = {split: _rows(reader, episodes[split]) for split in SPLITS}
        self.steps_left = _steps_left(taken.rows)
        self.starts = self._with_steps_left(self.span - 1)
        self.origins = self._with_steps_left(frameskip)
        self.num_windows = {split: len(self.starts[split]) for split in SPLITS}
        self._set_action_statistics(reader, actions, taken, like)

        self.cameras: dict[str, str] = dict(getattr(reader, "cameras", {}))
        self.proprio_names: tuple[str, ...] = tuple(getattr(reader, "proprio_names", ()))
        self._set_vector(reader)
        self.stores: dict[str, InMemory | OnDisk] = {
            name: place_frames(
                reader, device=self.device, memory_gb=memory_gb, progress=progress, column=column
            )
            for name, column in (self.cameras or {"pixels": "pixels"}).items()
        }
        self.frames = next(iter(self.stores.values()))
        column = getattr(reader, "look_column", None) if looks else None
        self.looks = column and place_frames(
            reader, device=self.device, memory_gb=memory_gb, progress=progress, column=column
        )
        self.place, self.workers = self.frames.place, max(some.workers for some in self.stores.values())
        self.latents: Tensor | None = None
        self.pixel_mean, self.pixel_std = self._pixel_statistics()

    @property
    def span(self) -> int:
        """Recorded frames that a window covers, first and last included: (T − 1)·F + 1."""
        return (self.num_frames - 1) * self.frameskip + 1

    def statistics(self) -> dict[str, Any]:
        """What a WorldModelConfig takes from its data, from training episodes only.

        env, image_size; action_mean, action_std, action_low, action_high (A,) in env units;
        pixel_mean, pixel_std (3,) of pixels / 255; control_hz, None where the recording does not say.
        """
        names = ("env", "image_size", "action_mean", "action_std", "action_low", "action_high", "pixel_mean")
        own = {name: getattr(self, name) for name in (*names, "pixel_std", "control_hz")}
        return own | {"action_space": str(self.space)} | self._senses()

    def _senses(self) -> dict[str, Any]:
        """What a model takes of several cameras and the vector; nothing for one camera alone."""
        if not self.cameras:
            return {}
        known = {"mean": self.proprio_mean, "std": self.proprio_std}
        statistics = {f"proprio_{name}": values for name, values in known.items()}
        return {"cameras": tuple(self.cameras), "proprio": self.proprio_names, **statistics}

    def look(self, rows: np.ndarray) -> Any:
        """What is seen in rows (n,): uint8 (n, 3, h, w); of several cameras, a dict of these and the vector
        float32 (n, P)."""
        seen: dict[str, Tensor] = {
            name: store.gather(rows).permute(0, 3, 1, 2) for name, store in self.stores.items()
        }
        if not self.cameras:
            return seen["pixels"]
        if self.vector is not None:
            seen[VECTOR] = self.vector[torch.from_numpy(rows)]
        return seen

    def batch(
        self,
        k: int,
        size: int,
        *,
        seed: int = 0,
        split: Split = "train",
        rank: int = 0,
        world_size: int = 1,
        state: bool = False,
    ) -> Batch:
        """Batch number `k` of a run: a pure function of (seed, k), so that resuming repeats nothing.

        `size` counts the windows of all ranks together; rank r gets its own size / world_size of them.
        """
        starts = self.starts[split]
        rng = np.random.default_rng([seed, SPLITS.index(split), k])
        chosen = starts[rng.integers(len(starts), size=size)]
        share = size // world_size
        return self.windows(chosen[rank * share : (rank + 1) * share], state=state).to(self.device)

    def windows(self, starts: np.ndarray, *, state: bool = False) -> Batch:
        """The windows that begin at the recorded rows `starts` (B,)."""
        rows = starts[:, None] + np.arange(0, self.span, self.frameskip)
        steps = starts[:, None] + np.arange(self.span - 1)
        actions = self.actions[torch.from_numpy(steps)].unflatten(1, (-1, self.frameskip)).flatten(2)
        if self.latents is not None:
            pixels = self.latents[torch.from_numpy(rows)]
        else:
            pixels = in_each(self.look(rows.reshape(-1)), lambda some: some.unflatten(0, rows.shape))
        states = self.state[torch.from_numpy(rows)] if state and self.state is not None else None
        return Batch(pixels, actions, states)

    def journeys(
        self,
        k: int,
        size: int,
        *,
        longest: int,
        seed: int = 0,
        split: Split = "train",
        rank: int = 0,
        world_size: int = 1,
    ) -> Journeys:
        """Batch number `k` of journeys of 1 to `longest` model steps, after `encode_frames`.

        Like `batch`: a function of (seed, k), and rank r gets its own size / world_size of them. Where an
        episode ends sooner the journey is shorter.
        """
        if self.latents is None:
            raise DatasetError("journeys lead between latents: call encode_frames first")
        rng = np.random.default_rng([seed, len(SPLITS) + SPLITS.index(split), k])
        origins = self.origins[split]
        rows = origins[rng.integers(len(origins), size=size)]
        farthest = np.minimum(self.steps_left[rows] // self.frameskip, longest)
        steps = 1 + (rng.random(size) * farthest).astype(np.int64)
        share = size // world_size
        rows, steps = (some[rank * share : (rank + 1) * share] for some in (rows, steps))
        when = np.arange(longest * self.frameskip)
        taken = np.minimum(rows[:, None] + when, len(self.actions) - 1)
        actions = self.actions[torch.from_numpy(taken)]
        actions = actions * torch.from_numpy(when < self.frameskip * steps[:, None])[..., None]
        ends = (torch.from_numpy(some) for some in (rows, rows + self.frameskip * steps))
        start, goal = (self.latents[some].to(self.device) for some in ends)
        actions = actions.reshape(len(rows), longest, -1).to(self.device)
        return Journeys(start, goal, torch.from_numpy(steps).to(self.device), actions)

    @torch.no_grad()
    def encode_frames(self, encode: Callable[[Tensor], Tensor]) -> None:
        """From now on windows hold latents in the place of pixels: those of all frames, encoded once, here.

        encode: uint8 (B, 1, 3, h, w) -> (B, 1, D).
        """
        count = len(self.actions)
        for first in range(0, count, ENCODED_AT_ONCE):
            rows = np.arange(first, min(first + ENCODED_AT_ONCE, count))
            pixels = in_each(self.look(rows), lambda some: some[:, None].to(self.device))
            some = encode(pixels)[:, 0].float()
            if first == 0:
                latents = some.new_empty(count, some.shape[1], device="cpu")
            latents[first : first + len(rows)] = some.cpu()
        self.latents = latents

    def sample(self, count: int, *, split: Split, seed: int = 0) -> tuple[Any, Tensor | None]:
        """At most `count` different frames, as `look` gives them, and their states (n, S) if recorded; a
        state that is no finite number is NaN."""
        rows = self.rows[split]
        chosen = np.random.default_rng([seed, SPLITS.index(split)]).permutation(len(rows))[:count]
        rows = np.sort(rows[chosen])
        states = None if self.state is None else self.state[torch.from_numpy(rows)]
        return self.look(rows), states

    def check(self, config: WorldModelConfig) -> None:
        """Raise DatasetError unless a model of this WorldModelConfig can learn from these windows."""
        for what, ours, models in (
            ("actions of size", self.action_dim, config.action_dim),
            ("windows of frameskip", self.frameskip, config.frameskip),
        ):
            if ours != models:
                raise DatasetError(
                    f"{self.name} has {what} {ours} but the model is made for {models}: "
                    "give it a matching recording, or train a model that matches this one"
                )
        known = {"cameras": tuple(self.cameras), VECTOR: self.proprio_names}
        for what, ours in known.items():
            wanted = getattr(config, what, ())
            if ours != wanted:
                raise DatasetError(
                    f"{self.name} is read with {what} {', '.join(ours) or 'none'} but the model is made for "
                    f"{', '.join(wanted) or 'none'}: set data.cameras and data.proprio as the model has them"
                )
        if self.space != config.space:
            raise DatasetError(
                f"{self.name} has actions made of {self.space or 'numbers'} but the model is made for "
                f"{config.space or 'numbers'}: give it a matching recording, or train a model that matches "
                "this one"
            )

    def _with_steps_left(self, least: int) -> dict[Split, np.ndarray]:
        """Of each split, the rows that at least so many actions taken follow."""
        found = {split: rows[self.steps_left[rows] >= least] for split, rows in self.rows.items()}
        for split, rows in found.items():
            if not len(rows):
                raise DatasetError(
                    f"no {split.replace('_', ' ')} episode of {self.name} has {least} actions in a row that "
                    "were taken: record more, or lower num_frames or frameskip"
                )
        return found

    def _set_action_statistics(
        self,
        reader: Recording,
        actions: np.ndarray,
        taken: recorded_actions.Taken,
        like: WorldModelConfig | None,
    ) -> None:
        """Bounds, mean and deviation, and the normalised actions, 0 in rows whose action was not taken."""
        remark = taken.remark(self.name)
        if remark is not None:
            logger.warning("%s; windows with them are left out", remark)
        train = self.rows["train"]
        known = recorded_actions.summarised(actions[train[taken.rows[train]]], self.space)
        self.action_mean, self.action_std = known.mean, known.std
        if like is not None:
            self.action_mean, self.action_std = like.action_mean, like.action_std
        self.action_low = tuple(float(v) for v in reader.action_low)
        self.action_high = tuple(float(v) for v in reader.action_high)
        for index, (low, high) in enumerate(zip(known.low, known.high)):
            if 0 < high - low <= 2 * recorded_actions.STILL:
                logger.warning(
                    "%s: component %d of the actions moves by %.1g only, too little for the model to see: "
                    "record it in a smaller unit", self.name, index, high - low
                )  # fmt: skip
        code = ActionCode(self.space, self.action_mean, self.action_std)
        scaled = code.encode(torch.from_numpy(actions)).float()
        self.actions = scaled.where(torch.from_numpy(taken.rows)[:, None], torch.zeros(()))

    def _check_choices(self, reader: Recording, actions: np.ndarray, taken: recorded_actions.Taken) -> None:
        """DatasetError where a choice was recorded that there is not."""
        rows = np.flatnonzero(taken.rows)
        odd = rows[self.space.odd(actions[rows])]
        if len(odd):
            raise DatasetError(
                f"{self.name} has {len(odd)} actions that are none of {self.space}, the first in "
                f"{_place(reader, odd[0])}, {actions[odd[0]].tolist()}: record those "
                "episodes again, or correct what the recording calls action_space"
            )

    def _read_actions(self, reader: Recording) -> np.ndarray:
        """All actions (N, A), float64; each episode's last row (no action follows it) becomes 0."""
        actions = np.array(reader.read("action", 0, reader.num_frames), dtype=np.float64)
        lengths, offsets = np.asarray(reader.lengths), np.asarray(reader.offsets)
        actions[offsets[lengths > 0] + lengths[lengths > 0] - 1] = 0
        bad = np.flatnonzero(~np.isfinite(actions).all(axis=1))
        bad = bad[np.isin(bad, _rows(reader, np.arange(len(lengths))))] if len(bad) else bad
        if len(bad):
            raise DatasetError(
                f"{self.name} has {len(bad)} actions that are not numbers, the first in "
                f"{_place(reader, bad[0])}: record those episodes again"
            )
        return actions

    def _set_vector(self, reader: Recording) -> None:
        """The robot's own vector (N, P), its mean and its deviation; DatasetError where it is not finite."""
        self.vector: Tensor | None = None
        self.proprio_mean: tuple[float, ...] = ()
        self.proprio_std: tuple[float, ...] = ()
        if not self.proprio_names:
            return
        values = np.asarray(reader.read(VECTOR, 0, reader.num_frames), np.float64)
        inside = _rows(reader, np.arange(len(reader.lengths)))
        bad = np.argwhere(~np.isfinite(values[inside]))
        if len(bad):
            row, component = inside[bad[0][0]], bad[0][1]
            where = f"{_place(reader, row)} ({self.proprio_names[component]})"
            raise DatasetError(
                f"{self.name}: {VECTOR} is NaN or infinite in {len(set(bad[:, 0]))} rows, the first in "
                f"{where}: record those episodes again, or leave out data.proprio"
            )
        train = values[self.rows["train"]]
        self.proprio_mean, self.proprio_std = _mean_std(train.mean(0), train.std(0))
        self.vector = torch.from_numpy(np.where(np.isfinite(values), values, 0.0).astype(np.float32))

    def _read_state(self, reader: Recording) -> Tensor | None:
        if "state" not in reader.columns or not self.state_names:
            return None
        with np.errstate(over="ignore"):
            state = np.asarray(reader.read("state", 0, reader.num_frames), dtype=np.float32)
        state = np.where(np.isfinite(state), state, np.float32(np.nan))
        inside = _rows(reader, np.arange(len(reader.lengths)))
        for name, lacking in zip(self.state_names, np.isnan(state[inside]).sum(0).tolist()):
            if lacking:
                logger.warning(
                    "%s: the state %s is NaN or infinite in %d of %d rows: %s", self.name, name, lacking,
                    len(inside), "the others are used" if lacking < len(inside) else "it is left out",
                )  # fmt: skip
        return torch.from_numpy(state)

    def _pixel_statistics(self, count: int = 1024) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of each channel of pixels/255, over a sample of training frames."""
        seen, _ = self.sample(count, split="train")
        cameras = [seen[name] for name in self.cameras] if self.cameras else [seen]
        total, frames = torch.zeros(2, 3, dtype=torch.float64), 0
        for some in (part for pixels in cameras for part in pixels.split(64)):
            values = some.float() / 255
            means = torch.stack([values.mean((0, 2, 3)), values.square().mean((0, 2, 3))])
            total += len(some) * means.cpu().double()
            frames += len(some)
        mean, square = (total / frames).numpy()
        return _mean_std(mean, np.sqrt(np.maximum(square - mean**2, 0)))


def _place(reader: Recording, row: int) -> str:
    """In words, the episode and step of a recorded row."""
    offsets = np.asarray(reader.offsets)
    episode = int(np.flatnonzero(offsets <= row)[-1])
    return f"episode {episode} at step {row - offsets[episode]}"


def in_each(seen: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """What `WindowDataset.look` gives, with each of its tensors changed so."""
    return {name: change(value) for name, value in seen.items()} if isinstance(seen, dict) else change(seen)


def _rate(recorded: Any) -> float | None:
    """Actions a second, of what a recording says or does not say."""
    known = isinstance(recorded, (int, float, np.number)) and np.isfinite(recorded) and recorded > 0
    return float(recorded) if known else None


def _rows(reader: Recording, episodes: np.ndarray) -> np.ndarray:
    """Flat rows of the given episodes."""
    offsets, lengths = np.asarray(reader.offsets)[episodes], np.asarray(reader.lengths)[episodes]
    before = np.cumsum(lengths) - lengths
    return np.arange(lengths.sum()) + np.repeat(offsets - before, lengths)


def _steps_left(taken: np.ndarray) -> np.ndarray:
    """(N,): how many actions that were taken, (N,) bool, follow each row without a break."""
    row = np.arange(len(taken))
    breaks = np.where(taken, len(taken), row)
    return np.minimum.accumulate(breaks[::-1])[::-1] - row


def _mean_std(mean: np.ndarray, std: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """As tuples; what never varies gets a standard deviation of 1 so that normalising keeps it finite."""
    return tuple(map(float, mean)), recorded_actions.deviations(std)
