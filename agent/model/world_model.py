"""The world model: an encoder from pixels to latents, and a predictor that moves latents under actions.

Everything that changes what it computes is in WorldModelConfig or in the weights. Normalisation is inside.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from latent_planner.common.action_space import ActionSpace
from latent_planner.common.printable import printable
from latent_planner.common.words import did_you_mean

from ..pixels import resize
from .action_code import ActionCode
from .encoder import Encoder, make_encoder
from .inverse import InverseModel
from .landmarks import Landmarks
from .predictor import make_predictor
from .proposer import Proposer
from .senses import VECTOR, Senses

ENCODERS = ("keypoint", "robust", "conv", "vit")
PREDICTORS = ("banded", "lewm")
CANDIDATES_AT_ONCE = 1024  # of a rollout without gradient on a CPU: bounds its memory
CANDIDATES_ON_GPU = 8192  # the same elsewhere
LARGEST = 3e38  # of a number here: it must fit into float32
LARGEST_COLOUR = 1e6  # of a colour once it is normalised
MOST_CAMERAS = 16
MOST_NAMES = 1024  # of cameras, or of a vector's components
LARGEST_SIZES = {"image_size": 4096, "context_len": 1024, "frameskip": 4096}  # of the others: 2**20


RENAMED = {"published_look": "reference_look"}  # settings of older checkpoints


@dataclass(frozen=True)
class WorldModelConfig:
    """What a world model is made of and which numbers it expects. Plain values; wrong ones raise ValueError.

    action_*: one number per action component, in the environment's units.
    pixel_*: one number per colour channel, of pixels / 255.
    frameskip: environment actions in one action block.   context_len: frames the predictor looks back on.
    """

    env: str
    image_size: int
    action_mean: tuple[float, ...]
    action_std: tuple[float, ...]
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    pixel_mean: tuple[float, ...]
    pixel_std: tuple[float, ...]
    frameskip: int = 5
    context_len: int = 3
    latent_dim: int = 128
    projector_dim: int = 512  # hidden width of the BatchNorm MLPs
    encoder: str = "keypoint"
    encoder_width: int = 64  # keypoint: filters whose places are taken
    encoder_values: int = 16  # keypoint: features seen at each of those places
    encoder_layers: int = 2  # robust: layers between the first and the filters
    encoder_depth: int = 12  # vit: blocks
    encoder_heads: int = 3  # vit
    patch_size: int = 14  # vit
    predictor: str = "banded"
    predictor_width: int = 128
    predictor_depth: int = 3
    predictor_heads: int = 4
    predictor_head_dim: int = 32
    predictor_mlp_dim: int = 512
    dropout: float = 0.0  # in the predictor
    proposals: int = 0  # guesses of a plan, for each number of steps it may take; 0: no proposer
    proposal_steps: int = 5  # longest plan that is proposed, in model steps
    proposer_width: int = 512
    landmarks: int = 0  # recorded latents to plan through when a goal is far; 0: none, goals are near
    latent_actions: int = 0  # numbers of a latent action, of a model of frames alone; 0: actions are recorded
    reference_look: bool = False  # frames show what the world's published version draws, see envs.make
    control_hz: float | None = None  # environment actions a second in the recording; None: not known
    action_space: str = ""  # what an action is made of, as common.action_space writes it; "": A numbers
    cameras: tuple[str, ...] = ()  # names of several cameras; none: one camera alone
    camera_encoders: str = "shared"  # shared: one for all, with an embedding for each; own: one for each
    proprio: tuple[str, ...] = ()  # names of the components of the robot's own vector; none: no vector
    proprio_mean: tuple[float, ...] = ()  # of each component
    proprio_std: tuple[float, ...] = ()
    proprio_dims: int = 16  # numbers of the latent that the vector decides; cameras share the rest evenly
    proprio_width: int = 128  # hidden width of the network for the vector

    def __post_init__(self) -> None:
        for field in fields(self):
            value = _checked(field.name, str(field.type), getattr(self, field.name))
            object.__setattr__(self, field.name, value)
        sizes = {name: len(getattr(self, f"action_{name}")) for name in ("mean", "std", "low", "high")}
        if len(set(sizes.values())) > 1 or bool(self.action_mean) == bool(self.latent_actions):
            told = ", ".join(f"action_{name} has {size}" for name, size in sizes.items())
            raise ValueError(f"Action statistics need one number per action component, but {told}.")
        self._check_choices()
        self._check_senses()
        if len(self.pixel_mean) != 3 or len(self.pixel_std) != 3:
            raise ValueError("pixel_mean and pixel_std need three numbers each, one per colour channel.")
        for name in ("action_std", "pixel_std"):
            if any(value <= 0 for value in getattr(self, name)):
                raise ValueError(f"{name} must be above zero everywhere, but is {getattr(self, name)}.")
        if not all(abs(v) <= LARGEST for v in (*self.block_low, *self.block_high)):
            raise ValueError(f"action_std is so small that actions overflow: {self.action_std}.")
        colours = zip(self.pixel_mean, self.pixel_std)
        if not all(max(abs(mean), abs(1 - mean)) / std <= LARGEST_COLOUR for mean, std in colours):
            raise ValueError(
                f"pixel_mean and pixel_std must describe pixels from 0 to 1, but are {self.pixel_mean} and "
                f"{self.pixel_std}."
            )
        if any(low > high for low, high in zip(self.action_low, self.action_high)):  # equal: always so
            raise ValueError(
                f"action_low {self.action_low} must be at or below action_high {self.action_high}."
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, but is {self.dropout}.")
        self._check_modules()

    def _check_choices(self) -> None:
        space = ActionSpace.parse(self.action_space)
        if space.parts and space.size != len(self.action_mean):
            raise ValueError(
                f"action_space {space} has {space.size} components, and action_mean {len(self.action_mean)}."
            )
        given = zip(self.action_mean, self.action_std, self.action_low, self.action_high)
        for index, (count, first, known) in enumerate(zip(space.choices, space.first, given)):
            if count and known != (0, 1, first, first + count - 1):
                raise ValueError(
                    f"Component {index} of the actions is a choice: its action_mean, action_std, action_low "
                    f"and action_high must be 0, 1, {first} and {first + count - 1}, not {known}."
                )

    def _check_senses(self) -> None:
        names = (*self.cameras, *((VECTOR,) if self.proprio else ()))
        if self.camera_encoders not in ("shared", "own"):
            raise ValueError(f"camera_encoders must be shared or own, not {printable(self.camera_encoders)}.")
        if len(self.cameras) > MOST_CAMERAS:
            raise ValueError(f"cameras must be at most {MOST_CAMERAS}, not {len(self.cameras)}.")
        if len(set(names)) < len(names) or len(set(self.proprio)) < len(self.proprio):
            raise ValueError(
                f"cameras and proprio must hold different names, not {names} and {self.proprio}."
            )
        sizes = {len(self.proprio), len(self.proprio_mean), len(self.proprio_std)}
        if len(sizes) > 1 or (self.proprio and not self.cameras):
            raise ValueError(
                "proprio needs a mean and a deviation for each component, and a camera with a name."
            )
        if self.proprio and min(self.proprio_std) <= 0:
            raise ValueError(f"proprio_std must be above zero everywhere, but is {self.proprio_std}.")
        rest = self.latent_dim - (self.proprio_dims if self.proprio else 0)
        if self.cameras and (rest < len(self.cameras) or rest % len(self.cameras)):
            raise ValueError(
                f"{len(self.cameras)} cameras share latent_dim, less proprio_dims where there is a vector, "
                f"which is {rest}: choose a multiple of {len(self.cameras)}."
            )

    def _check_modules(self) -> None:
        for name, known in (("encoder", ENCODERS), ("predictor", PREDICTORS)):
            if getattr(self, name) not in known:
                raise ValueError(f"Unknown {name} {getattr(self, name)!r}: choose from {', '.join(known)}.")
        cell = {"keypoint": 4, "robust": 4, "conv": 16, "vit": self.patch_size}[self.encoder]
        if self.image_size % cell:
            raise ValueError(
                f"image_size must be a multiple of {cell} ({self.encoder}), not {self.image_size}."
            )
        groups = {"conv": 4, "robust": 8}.get(self.encoder, 1)
        if self.encoder_width % groups:
            raise ValueError(
                f"encoder_width must be a multiple of {groups} for {self.encoder}, "
                f"but is {self.encoder_width}."
            )
        if self.encoder == "vit" and self.encoder_width % self.encoder_heads:
            heads = self.encoder_heads
            raise ValueError(
                f"encoder_width must be a multiple of {heads} (heads), but is {self.encoder_width}."
            )
        if self.predictor == "lewm" and self.predictor_width != self.latent_dim:
            raise ValueError(
                f"The lewm predictor needs predictor_width equal to latent_dim, "
                f"but they are {self.predictor_width} and {self.latent_dim}."
            )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> WorldModelConfig:
        """From what to_dict gave, or any mapping of the same names. Unknown or absent names: ValueError."""
        known = {field.name: field for field in fields(cls)}
        values = {RENAMED.get(name, name): value for name, value in values.items()}
        for name in values:
            if name not in known:
                raise ValueError(f"Unknown model setting {name!r}{did_you_mean(name, known) or '.'}")
        absent = [name for name, field in known.items() if field.default is MISSING and name not in values]
        if absent:
            raise ValueError(f"The model settings lack {', '.join(absent)}.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, tuples as lists."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @property
    def action_dim(self) -> int:
        """A: components of one environment action."""
        return len(self.action_mean)

    @property
    def several(self) -> bool:
        """Whether the model knows cameras by name, and perhaps a vector, instead of one camera."""
        return bool(self.cameras)

    @property
    def parts(self) -> dict[str, slice]:
        """Which numbers of a latent each camera and the vector decide; empty for one camera alone."""
        width = (self.latent_dim - (self.proprio_dims if self.proprio else 0)) // max(1, len(self.cameras))
        parts = {name: slice(i * width, (i + 1) * width) for i, name in enumerate(self.cameras)}
        return parts | ({VECTOR: slice(len(self.cameras) * width, self.latent_dim)} if self.proprio else {})

    @property
    def space(self) -> ActionSpace:
        """What an action is made of."""
        return ActionSpace.parse(self.action_space)

    @property
    def action_code(self) -> ActionCode:
        """Between actions (A,) and the E numbers that they are inside the model; E is A without choices."""
        return ActionCode(self.space, self.action_mean, self.action_std)

    @property
    def block_dim(self) -> int:
        """F·A: components of one action block; of a choice each is one. Without actions, those of a latent
        action."""
        return self.latent_actions or self.frameskip * self.action_code.size

    @property
    def block_limits(self) -> dict[str, Any]:
        """What a planner needs to know of action blocks: low, high, action_dim, choices."""
        choices = self.space.choices or None
        limits = {"low": self.block_low, "high": self.block_high, "choices": choices}
        return limits | {"action_dim": self.action_code.size}

    @property
    def block_low(self) -> tuple[float, ...]:
        """(F·A,) lower bounds of a normalised action block; 0 for choices."""
        return self.action_code.bounds(self.action_low, self.action_high)[0] * self.frameskip

    @property
    def block_high(self) -> tuple[float, ...]:
        """(F·A,) upper bounds of a normalised action block; 1 for choices."""
        return self.action_code.bounds(self.action_low, self.action_high)[1] * self.frameskip


def _checked(name: str, kind: str, value: Any) -> Any:
    """value as the field's type: no guessing from text, no NaN."""
    if kind == "float | None":
        known = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < LARGEST
        if value is not None and not known:
            raise ValueError(
                f"{name} must be a number above 0, or null where it is not known, not {printable(value)}."
            )
        return value if value is None else float(value)
    if kind == "tuple[str, ...]":
        named = isinstance(value, (tuple, list)) and len(value) <= MOST_NAMES
        if not named or not all(isinstance(v, str) and 0 < len(v) <= 100 and v.isprintable() for v in value):
            raise ValueError(f"{name} must hold names, at most {MOST_NAMES}, but is {printable(value)}.")
        return tuple(value)
    if kind == "str":
        if not isinstance(value, str):
            raise ValueError(f"{name} must be text, but is {printable(value)}.")
        return value
    if kind == "bool":
        if not isinstance(value, bool):
            raise ValueError(f"{name} must be true or false, but is {printable(value)}.")
        return value
    if kind == "int":
        least = 0 if name in ("proposals", "landmarks", "latent_actions") else 1
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, but is {printable(value)}.")
        if value > (most := LARGEST_SIZES.get(name, 2**20)):
            raise ValueError(f"{name} must be at most {most}, but is {printable(value)}.")
        return value
    try:
        numbers = tuple(float(v) for v in value) if kind.startswith("tuple") else (float(value),)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} must hold numbers, but is {printable(value)}.") from None
    if not all(math.isfinite(v) for v in numbers):
        raise ValueError(f"{name} must hold finite numbers, but is {printable(value)}.")
    if not all(abs(v) <= LARGEST for v in numbers):
        raise ValueError(f"{name} must hold numbers of at most {LARGEST:g}, but is {printable(value)}.")
    return numbers if kind.startswith("tuple") else numbers[0]


class WorldModel(nn.Module):
    """Encoder and predictor of one config (LeWorldModel, arXiv 2603.19312).

    Axes: B batch, T frames, D latent, F·A action block, N candidates, H horizon. Like any torch module, a new
    model is in training mode: call `.eval()` before planning, so that BatchNorm uses its running statistics.
    """

    action_mean: Tensor
    action_std: Tensor
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self, config: WorldModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: Encoder | Senses = Senses(config) if config.several else make_encoder(config)
        self.predictor = make_predictor(config)
        self.proposer = Proposer(config) if config.proposals else None
        self.landmarks = Landmarks(config) if config.landmarks else None
        self.inverse = InverseModel(config) if config.latent_actions else None
        for name in ("action_mean", "action_std", "pixel_mean", "pixel_std"):
            # they belong to the config, not to the weights: hence not persistent
            self.register_buffer(name, torch.tensor(getattr(config, name)), persistent=False)

    def forward(self, pixels: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
        """For training: uint8 (B, T, 3, h, w), normalised (B, T-1, F·A) -> latents (B, T, D), predictions
        (B, T-1, D), where predictions[:, t] stands for latents[:, t + 1].

        One call, so that a wrapper (DistributedDataParallel, compile) sees all of it.
        """
        latents = self.encode(pixels)
        return latents, self.predict(latents[:, :-1], self.done(latents, actions))

    def done(self, latents: Tensor, actions: Tensor) -> Tensor:
        """What was done between latents (B, T, D): the recorded blocks (B, T-1, F·A), or without recorded
        actions the latent ones (B, T-1, K)."""
        return actions if self.inverse is None else self.inverse(latents[:, :-1], latents[:, 1:])

    def encode(self, pixels: Tensor | Mapping[str, Tensor]) -> Tensor:
        """Frames uint8 (B, T, 3, h, w), of any size -> latents (B, T, D). ValueError for anything else.

        Frames of another size are resized to the model's (`pixels.resize`); those for a ViT as published.
        Of a model of several cameras: a mapping from names to frames, and from `proprio` to float (B, T, P);
        what is missing leaves its part of the latent 0.
        """
        if isinstance(self.encoder, Senses):
            return self._encode_senses(self.encoder, pixels)
        if isinstance(pixels, Mapping):
            raise ValueError(f"encode takes frames of one camera, not a mapping from {', '.join(pixels)}.")
        if pixels.ndim != 5 or pixels.shape[2] != 3 or pixels.dtype != torch.uint8:
            raise ValueError(f"encode takes uint8 frames (B, T, 3, h, w), but got {_told(pixels)}.")
        return self.encoder(self._frames(pixels)).unflatten(0, pixels.shape[:2])

    def _frames(self, pixels: Tensor) -> Tensor:
        """uint8 (B, T, 3, h, w) -> normalised (B·T, 3, S, S)."""
        frames = pixels.flatten(0, 1).to(self.pixel_mean.dtype)
        mean, std = (255 * t.view(3, 1, 1) for t in (self.pixel_mean, self.pixel_std))
        frames = frames.sub_(mean).div_(std)
        return resize(frames, self.config.image_size, antialias=self.config.encoder == "vit")

    def _encode_senses(self, encoder: Senses, seen: Any) -> Tensor:
        known = self.config.parts
        if not isinstance(seen, Mapping) or not seen or not set(seen) <= set(known):
            told = ", ".join(seen) if isinstance(seen, Mapping) else type(seen).__name__
            raise ValueError(f"encode takes a mapping from some of {', '.join(known)}, but got {told}.")
        for name, value in seen.items():
            wanted = (
                (value.ndim == 3 and value.shape[2] == len(self.config.proprio))
                if name == VECTOR
                else (value.ndim == 5 and value.shape[2] == 3 and value.dtype == torch.uint8)
            )
            if not wanted:
                raise ValueError(f"encode cannot take {name} as {_told(value)}.")
        shape = next(iter(seen.values())).shape[:2]
        frames = {name: self._frames(value) for name, value in seen.items() if name != VECTOR}
        vector = seen[VECTOR].flatten(0, 1).to(self.pixel_mean) if VECTOR in seen else None
        return encoder(frames, vector).unflatten(0, shape)

    def predict(self, latents: Tensor, actions: Tensor) -> Tensor:
        """(B, T, D), normalised blocks (B, T, F·A) -> (B, T, D): entry t is the latent that follows entry t.

        Entry t depends on latents and actions up to t only. The lewm predictor takes T up to context_len.
        """
        self._check("predict", latents, (None, None, self.config.latent_dim))
        self._check("predict", actions, (*latents.shape[:2], self.config.block_dim))
        if self.predictor.slides and latents.shape[1] > self.config.context_len:
            longest = self.config.context_len
            raise ValueError(
                f"predict takes at most context_len = {longest} latents, not {latents.shape[1]}."
            )
        return self.predictor(latents, actions).to(latents.dtype)

    def rollout(self, latents: Tensor, candidates: Tensor, past_actions: Tensor | None = None) -> Tensor:
        """(B, T, D), (B, N, H, F·A), past (B, T-1, F·A) -> (B, N, H+1, D); index 0 is the current latent.

        latents: of the last T frames; past_actions: the blocks that led from each to the next; blocks are
        normalised. Keeps the gradient when gradients are enabled.
        """
        batch, length = latents.shape[:2]
        if past_actions is None:
            past_actions = candidates.new_zeros(batch, 0, self.config.block_dim)
        self._check("rollout", latents, (None, None, self.config.latent_dim))
        self._check("rollout", candidates, (batch, None, None, self.config.block_dim))
        self._check("rollout (past_actions)", past_actions, (batch, length - 1, self.config.block_dim))
        now = latents[:, None, -1:].expand(-1, candidates.shape[1], -1, -1)
        if torch.is_grad_enabled():
            return torch.cat([now, self.predictor.rollout(latents, past_actions, candidates)], 2)
        out = latents.new_empty(*candidates.shape[:2], candidates.shape[2] + 1, latents.shape[-1])
        out[:, :, :1] = now
        size = CANDIDATES_AT_ONCE if latents.device.type == "cpu" else CANDIDATES_ON_GPU
        for b, n in _chunks(batch, out.shape[1], size):
            out[b, n, 1:] = self.predictor.rollout(latents[b], past_actions[b], candidates[b, n])
        return out

    def propose(self, latents: Tensor, goals: Tensor, horizon: int) -> Tensor | None:
        """Plans that may lead from latents (B, D) to goals (B, D): normalised blocks (B, P, horizon, F·A).

        They are guesses, not inside the action bounds, for a planner to search around; see `model.proposer`.
        None when this model has no proposer.
        """
        if self.proposer is None:
            return None
        for name, given in (("propose", latents), ("propose (goals)", goals)):
            self._check(name, given, (len(latents), self.config.latent_dim))
        return self.proposer.propose(latents, goals, horizon)

    def clip_blocks(self, blocks: Tensor) -> Tensor:
        """Normalised blocks (…, F·A), put inside the action bounds; of a choice, the likeliest is made."""
        low, high = (
            torch.tensor(side).to(blocks) for side in (self.config.block_low, self.config.block_high)
        )
        blocks = blocks.clamp(low, high)
        if not self._chooses:
            return blocks
        code = self.config.action_code
        return code.settle(blocks.unflatten(-1, (-1, code.size))).flatten(-2)

    def normalise_actions(self, actions: Tensor) -> Tensor:
        """Environment units (…, A) -> the model's, same shape but for choices, which become one-hot."""
        if self._chooses:
            return self.config.action_code.encode(actions)
        return (actions - self.action_mean) / self.action_std

    def denormalise_actions(self, actions: Tensor) -> Tensor:
        """The model's units, as `normalise_actions` gives them, -> the environment's (…, A)."""
        if self._chooses:
            return self.config.action_code.decode(actions)
        return actions * self.action_std + self.action_mean

    @property
    def _chooses(self) -> bool:
        return bool(self.config.space.choices)

    @staticmethod
    def _check(where: str, x: Tensor, shape: tuple[int | None, ...]) -> None:
        if x.ndim != len(shape) or any(want not in (None, have) for want, have in zip(shape, x.shape)):
            wanted = ", ".join("*" if n is None else str(n) for n in shape)
            raise ValueError(f"{where} needs a tensor of shape ({wanted}), but got {_told(x)}.")


def _told(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"


def _chunks(batch: int, candidates: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Slices of (B, N) that hold at most `size` together, whole problems where possible."""
    problems = max(1, size // max(1, candidates))
    for b in range(0, batch, problems):
        for n in range(0, candidates, size):
            yield slice(b, b + problems), slice(n, n + size)
