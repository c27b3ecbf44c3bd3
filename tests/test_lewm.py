"""Published LeWM checkpoints: in, out, and refused with a sentence."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from published import episodes, lerobot, older_spelling, recording, weights
from safetensors.torch import save_file
from torch import Tensor

from latent_planner import Agent
from latent_planner.checkpoints import action_statistics, checkpoint, lewm
from latent_planner.checkpoints.checkpoint import CheckpointError
from latent_planner.model.world_model import WorldModel, WorldModelConfig

ACTIONS: dict[str, Any] = {"env": "pusht", "action_mean": (0.0, 0.1), "action_std": (0.2, 0.3)}


@pytest.fixture(scope="module")
def expert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording as published."""
    path = tmp_path_factory.mktemp("expert") / "pusht_expert_train.h5"
    recording(path, episodes("pusht", 3, 30, 32))
    return path


@pytest.fixture(scope="module")
def published_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "weights.pt"
    torch.save(weights(), path)
    return path


def changed(**values: Tensor | None) -> dict[str, Tensor]:
    """The published weights with some replaced, added, or (None) taken away; __ stands for a dot."""
    state = dict(weights())
    for name, value in values.items():
        name = name.replace("__", ".")
        state.pop(name) if value is None else state.update({name: value})
    return state


# there and back


def test_the_round_trip_is_exact() -> None:
    state = lewm.to_lewm(lewm.from_lewm(weights(), **ACTIONS))
    assert state.keys() == weights().keys() and len(state) == 303
    for name, value in weights().items():
        assert state[name].shape == value.shape and torch.equal(state[name], value), name


def test_both_spellings_and_any_prefix_give_the_same_model() -> None:
    older = older_spelling(weights())
    assert "encoder.encoder.layer.11.attention.attention.query.weight" in older and len(older) == 303
    wrapped = {f"model.{name}": value for name, value in older.items()} | {"sigreg.t": torch.zeros(17)}
    expected = lewm.from_lewm(weights(), **ACTIONS).state_dict()
    for state in (older, wrapped):
        found = lewm.from_lewm(state, **ACTIONS)
        assert not found.training and found.config.reference_look
        assert all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())


def test_only_models_of_the_published_shape_go_back(tiny_checkpoint: Path) -> None:
    with pytest.raises(
        CheckpointError, match="encoder=keypoint and predictor=banded: train one with model=lewm"
    ):
        lewm.to_lewm(checkpoint.load(tiny_checkpoint)[0])
    other = {**lewm.SETTINGS, "pixel_mean": (0.9, 0.9, 0.9), "encoder_depth": 1, "predictor_depth": 1}
    config = WorldModelConfig(**ACTIONS, action_low=(-1, -1), action_high=(1, 1), **other)
    with pytest.raises(CheckpointError, match="normalise with ImageNet's"):
        lewm.to_lewm(WorldModel(config))


# the command


def convert(weights_path: Path | str, actions: Path | str, out: Path, *words: str) -> int:
    return lewm.main(
        [str(weights_path), "--env", "pusht", "--actions", str(actions), "--out", str(out), *words]
    )


def test_one_command_makes_an_ordinary_checkpoint(
    published_file: Path, expert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs" / "lewm-pusht"
    assert convert(published_file, expert, out) == 0
    assert "18.03 million parameters" in capsys.readouterr().out
    world_model, info = checkpoint.load(out)
    known = action_statistics.read(expert)
    assert world_model.config.action_mean == known.mean and world_model.config.action_low == (-1.0, -1.0)
    assert info["planner"] == lewm.PLANNER and lewm.to_lewm(world_model).keys() == weights().keys()
    agent = Agent.from_pretrained(out, num_samples=4, num_elites=2, iterations=1, device="cpu")
    frame = np.random.default_rng(0).integers(0, 255, (224, 224, 3), dtype=np.uint8)
    agent.set_goal(frame, steps=50)
    action = agent.act(frame)
    assert action.shape == (2,) and (np.abs(action) <= 1).all()
    assert convert(published_file, expert, out) == 2
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["safetensors", "lightning"])
def test_other_files_of_weights(kind: str, tmp_path: Path) -> None:
    path = tmp_path / {"safetensors": "weights.safetensors", "lightning": "last.ckpt"}[kind]
    if kind == "safetensors":
        save_file(weights(), path)
    else:
        state = {f"model.{name}": value for name, value in weights().items()}
        torch.save({"epoch": 9, "state_dict": state, "optimizer_states": [{"lr": 5e-5}]}, path)
    state = lewm.read_weights(path)
    found = lewm.from_lewm(state, **ACTIONS).state_dict()
    expected = lewm.from_lewm(weights(), **ACTIONS).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def inside(*parts: str, word: str = "_orig_mod") -> dict[str, Tensor]:
    """The weights, with a wrapper's word in the names of some parts, as torch.compile leaves them."""
    return {
        name.replace(".", f".{word}.", 1) if name.partition(".")[0] in parts else name: value
        for name, value in weights().items()
    }


def before(prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in weights().items()}


def other_numbers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value + 1 for name, value in state.items()}


@pytest.mark.parametrize(
    "saved",
    [
        inside("encoder"),
        inside("encoder", "predictor", "projector"),
        inside("encoder", word="module"),
        {f"model.{name}": value for name, value in inside("predictor").items()},
        before("_orig_mod."),
        before("module."),
        before("module._orig_mod."),
        {"model": weights(), "epoch": 3},
        {"model_state_dict": before("module."), "epoch": 3},
        {"state_dict": before("model._orig_mod."), "hyper_parameters": {"lr": 1e-4}},
        {"module": weights(), "optimizer": {"lr": [1.0]}},
        {**before("model."), **other_numbers(before("ema.")), "sigreg.t": torch.zeros(17)},
        {**weights(), **other_numbers(before("ema_model.module.")), "sigreg.t": torch.zeros(17)},
        {"state_dict": weights(), "ema_state_dict": other_numbers(weights())},
    ],
    ids=range(14),
)
def test_every_way_in_which_training_programs_save_loads(saved: dict[str, Any], tmp_path: Path) -> None:
    torch.save(saved, tmp_path / "w.pt")
    found = lewm.to_lewm(lewm.from_lewm(lewm.read_weights(tmp_path / "w.pt"), **ACTIONS))
    assert all(torch.equal(value, found[name]) for name, value in weights().items())


def test_a_folder_as_published_loads_when_told_what_its_actions_are(
    published_file: Path, expert: Path
) -> None:
    folder = published_file.parent
    with pytest.raises(CheckpointError, match="do not say which world or actions.*give env= and actions="):
        checkpoint.load(folder)
    world_model, info = checkpoint.load(folder, env="pusht", actions=expert)
    assert world_model.config.action_mean == action_statistics.read(expert).mean and info["sha256"]
    world_model, _ = checkpoint.load(folder, env="pusht", actions=([0, 0.1], [0.2, 0.3]))
    assert world_model.config.action_std == (0.2, 0.3)


# the statistics of actions


def test_action_statistics_leave_out_what_is_not_a_number(tmp_path: Path) -> None:
    parts = episodes("two_room", 2, 12, 32)
    recording(tmp_path / "a.h5", parts)
    taken = np.concatenate([part["action"][:-1] for part in parts]).astype(np.float64)
    known = action_statistics.read(tmp_path / "a.h5")
    np.testing.assert_allclose(known.mean, taken.mean(0))
    np.testing.assert_allclose(known.std, taken.std(0))
    assert known.low is None


def test_action_statistics_from_json_and_lerobot_and_our_own_recordings(
    tmp_path: Path, pusht_recording: Path
) -> None:
    (tmp_path / "top.json").write_text('{"mean": [1, 2], "std": [3, 0]}')
    known = action_statistics.read(tmp_path / "top.json")
    assert (known.mean, known.std) == ((1.0, 2.0), (3.0, 1.0))  # what never varies is left as it is
    actions = lerobot(tmp_path / "robot")["action"]
    np.testing.assert_allclose(action_statistics.read(tmp_path / "robot").mean, actions.mean(0), rtol=1e-6)
    assert action_statistics.read(pusht_recording).low == (-1.0, -1.0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "does not say what the actions are"),
        ("[1]", "does not say"),
        ('{"mean": [1], "std": [1, 2]}', "1 means"),
    ],
)
def test_statistics_that_say_nothing(text: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(text)
    with pytest.raises(CheckpointError, match=sentence):
        action_statistics.read(tmp_path / "s.json")
    with pytest.raises(CheckpointError, match="no action statistics in .*nowhere"):
        action_statistics.read(tmp_path / "nowhere")


# what is wrong


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (changed(encoder__layernorm__bias=None), "missing: encoder.layernorm.bias"),
        (changed(decoder__weight=torch.zeros(1)), "extra: decoder.weight"),
        (
            changed(projector__net__0__bias=torch.zeros(3)),
            r"misshapen: projector.net.0.bias \(3,\) instead of \(2048,\)",
        ),
        (
            changed(
                predictor__pos_embedding=None, a=torch.zeros(1), encoder__layernorm__weight=torch.zeros(2)
            ),
            "missing: predictor.pos_embedding; extra: a; misshapen: encoder.layernorm.weight",
        ),
        ({}, "missing: .* and 291 more"),
        (
            changed(action_encoder__patch_embed__weight=torch.zeros(10, 25, 1)),
            "blocks of 25 numbers, but frameskip 5 times 2 action components is 10",
        ),
        (
            changed(encoder__layernorm__bias=torch.full((192,), torch.nan)),
            "not finite: encoder.layernorm.bias",
        ),
    ],
)
def test_weights_that_do_not_fit_are_listed(state: dict[str, Tensor], sentence: str) -> None:
    with pytest.raises(CheckpointError, match=sentence) as caught:
        lewm.from_lewm(state, **ACTIONS)
    assert "\n" not in str(caught.value)


class Trap:
    """A pickle of this runs a command when it is opened by something that trusts it."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def test_a_pickle_that_wants_to_run_code_is_refused(
    tmp_path: Path, expert: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": Trap(f"touch {tmp_path}/ran")}, tmp_path / "trap.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "lewm_object.ckpt")  # a model as an object
    asked = {"trap.pt": "posix.system|nt.system", "lewm_object.ckpt": "torch.nn"}
    for protocol in (2, 4):
        bare = tmp_path / f"bare{protocol}.pt"
        bare.write_bytes(pickle.dumps({"a": Trap(f"touch {tmp_path}/ran")}, protocol=protocol))
        asked[bare.name] = asked["trap.pt"]
    for name, asks in asked.items():
        with pytest.raises(CheckpointError, match=rf"would run code when opened \(it asks for ({asks})"):
            lewm.read_weights(tmp_path / name)
        assert convert(tmp_path / name, expert, tmp_path / "out") == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert not (tmp_path / "ran").exists() and not (tmp_path / "out").exists()


def test_files_that_are_no_weights(tmp_path: Path, published_file: Path) -> None:
    (tmp_path / "cut.pt").write_bytes(published_file.read_bytes()[:100_000])
    (tmp_path / "text.pt").write_text("not weights")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "bad.safetensors").write_text("not weights either")
    torch.save({"state_dict": [1, 2]}, tmp_path / "list.pt")
    (tmp_path / "folder").mkdir()
    for name, sentence in {
        "cut.pt": "not a file of weights, or cut off",
        "text.pt": "not a file of weights",
        "empty.pt": "not a file of weights",
        "bad.safetensors": "not a safetensors file",
        "list.pt": "no state dict",
        "none.pt": "There is no file",
        "folder": "no weights in",
    }.items():
        with pytest.raises(CheckpointError, match=sentence):
            lewm.read_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (lambda: torch.zeros(192, device="meta"), "no plain numbers: encoder.layernorm.bias .*meta"),
        (lambda: torch.zeros(192).to_sparse(), "not dense"),
        (lambda: torch.zeros(192).to(torch.float8_e4m3fn), "float8"),
        (lambda: torch.quantize_per_tensor(torch.zeros(192), 1.0, 0, torch.qint8), "quint8|qint8"),
        (lambda: torch.nested.nested_tensor([torch.zeros(192)]), "not dense"),
        (lambda: torch.zeros(1).expand(192), "larger than the numbers"),
        (lambda: torch.full((192,), 1e300, dtype=torch.float64), "not finite: encoder.layernorm.bias"),
        (lambda: torch.zeros(192, dtype=torch.complex64), "complex64"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")
def test_tensors_of_odd_kinds_are_one_sentence(
    value: Callable[[], Tensor], sentence: str, tmp_path: Path
) -> None:
    torch.save(changed(encoder__layernorm__bias=value()), tmp_path / "w.pt")
    with pytest.raises(CheckpointError, match=sentence):
        lewm.from_lewm(lewm.read_weights(tmp_path / "w.pt"), **ACTIONS)


def test_a_small_file_asks_for_no_large_memory(tmp_path: Path) -> None:
    torch.save({"a": torch.zeros(2_000_000)}, tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for member in plain.namelist():
            packed.writestr(member, plain.read(member))
    assert (tmp_path / "packed.pt").stat().st_size < 20_000
    with pytest.raises(CheckpointError, match="not a file of weights"):
        lewm.read_weights(tmp_path / "packed.pt")


def test_our_own_checkpoints_are_not_taken_for_published_ones(tiny_checkpoint: Path, tmp_path: Path) -> None:
    config = json.loads((tiny_checkpoint / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "format": "other"}))
    (tmp_path / "model.safetensors").write_bytes((tiny_checkpoint / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="not written by this program"):
        checkpoint.load(tmp_path)
