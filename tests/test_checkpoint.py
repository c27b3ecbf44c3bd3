"""Checkpoints: what is saved is loaded, a kill leaves one whole checkpoint, and bad files are named."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from latent_planner.checkpoints import checkpoint
from latent_planner.checkpoints.checkpoint import CheckpointError

WEIGHTS, CONFIG = "model.safetensors", "config.json"


@pytest.fixture
def folder(tiny_checkpoint, tmp_path):
    """A checkpoint that a test may spoil."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "run")


def edit(folder, **changes):
    """Change config.json; a value of None removes the entry."""
    config = json.loads((folder / CONFIG).read_text())
    config = {key: value for key, value in {**config, **changes}.items() if value is not None}
    (folder / CONFIG).write_text(json.dumps(config))


def edit_weights(folder, change):
    """Rewrite the weights with a right checksum, so that only their content is wrong."""
    state = change(load_file(folder / WEIGHTS))
    save_file(state, folder / WEIGHTS)
    edit(folder, sha256=hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest())


def filled(world_model, value):
    with torch.no_grad():
        for parameter in world_model.parameters():
            parameter.fill_(value)
    return world_model


def first_value(world_model):
    return next(world_model.parameters()).flatten()[0].item()


def test_what_is_saved_is_loaded(tiny_checkpoint, tmp_path):
    world_model, info = checkpoint.load(tiny_checkpoint)
    planner = {"name": "mppi", "objective": "last", "horizon": 3}
    metrics = {"success": np.float32(0.5), "loss": float("nan"), "curve": np.arange(3), "where": tmp_path}
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.jsonl").write_text("kept")
    assert (
        checkpoint.save(world_model, tmp_path / "run", planner=planner, training=metrics) == tmp_path / "run"
    )
    assert sorted(os.listdir(tmp_path / "run")) == [CONFIG, "metrics.jsonl", WEIGHTS]
    again, info = checkpoint.load(tmp_path / "run")
    assert again.config == world_model.config and not again.training
    assert info["planner"] == planner and info["path"] == str(tmp_path / "run")
    assert info["training"] == {"success": 0.5, "loss": None, "curve": [0, 1, 2], "where": str(tmp_path)}
    for name, value in world_model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    pixels = torch.randint(0, 256, (2, 1, 3, 64, 64), dtype=torch.uint8)
    assert torch.equal(again.encode(pixels), world_model.encode(pixels))


def test_loading_leaves_the_random_stream_alone(tiny_checkpoint):
    before = torch.get_rng_state()
    checkpoint.load(tiny_checkpoint)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_file_inside_the_folder_names_it_too(folder):
    assert checkpoint.find(folder / CONFIG) == folder
    assert checkpoint.find(str(folder / WEIGHTS)) == folder


def test_bundled_checkpoints_are_found_by_name(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "_home", lambda: tmp_path / "pretrained")
    assert checkpoint.bundled() == []
    shutil.copytree(folder, tmp_path / "pretrained" / "tiny")
    assert checkpoint.bundled() == ["tiny"]
    assert checkpoint.find("tiny") == tmp_path / "pretrained" / "tiny"
    with pytest.raises(CheckpointError, match=r"'pusht'.*bundled name \(tiny\)"):
        checkpoint.load("pusht")


def test_every_bundled_checkpoint_loads():
    for name in checkpoint.bundled():
        world_model, info = checkpoint.load(name)
        parameters = dict(world_model.named_parameters())
        trained = "encoder.trained."  # kept next to the robust encoder that learned from it
        own = sum(p.numel() for key, p in parameters.items() if not key.startswith(trained))
        assert info["planner"] and own <= 3_000_000
        assert (checkpoint.find(name) / WEIGHTS).stat().st_size <= 12e6


class Killed(BaseException):
    pass


@pytest.mark.parametrize("fresh", [False, True])
def test_a_save_killed_at_any_moment_leaves_a_whole_checkpoint(folder, tmp_path, monkeypatch, fresh):
    """Die before each rename in turn: the old checkpoint or the new one loads, never a mixture."""
    world_model = filled(checkpoint.load(folder)[0], 0.5)
    rename, seen = os.replace, []
    for deadly in range(4):
        target = tmp_path / f"copy{deadly}"
        if fresh:
            target.mkdir()
        else:
            shutil.copytree(folder, target)
        count = iter(range(100))

        def die(source, destination, count=count, deadly=deadly):
            if next(count) == deadly:
                raise Killed
            rename(source, destination)

        monkeypatch.setattr(os, "replace", die)
        try:
            checkpoint.save(world_model, target, planner={"horizon": 2})
        except Killed:
            pass
        monkeypatch.setattr(os, "replace", rename)
        try:
            loaded, info = checkpoint.load(target)
        except CheckpointError as error:
            assert fresh and "no model.safetensors" in str(error)
            seen.append("none")
            continue
        new = first_value(loaded) == 0.5
        assert new == (info["planner"] == {"horizon": 2})
        seen.append("new" if new else "old")
        checkpoint.save(filled(loaded, 0.25), target, planner={"horizon": 3})
        loaded, info = checkpoint.load(target)
        assert first_value(loaded) == 0.25 and info["planner"] == {"horizon": 3}
        assert sorted(os.listdir(target)) == [CONFIG, WEIGHTS]
    assert seen == ["none" if fresh else "old"] * 2 + ["new"] * 2


def test_a_save_that_fails_leaves_the_old_checkpoint(folder, monkeypatch):
    world_model, _ = checkpoint.load(folder)
    before = {name: (folder / name).read_bytes() for name in os.listdir(folder)}

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(filled(world_model, 0.5), folder)
    assert {name: (folder / name).read_bytes() for name in os.listdir(folder)} == before


def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(folder):
    world_model, _ = checkpoint.load(folder)
    before = (folder / WEIGHTS).read_bytes()
    with pytest.raises(CheckpointError, match="not finite"):
        checkpoint.save(filled(world_model, float("nan")), folder)
    assert (folder / WEIGHTS).read_bytes() == before
    edit_weights(folder, lambda state: {name: value * float("nan") for name, value in state.items()})
    with pytest.raises(CheckpointError, match="not finite"):
        checkpoint.load(folder)


def test_weights_of_half_precision_load_into_float32(folder):
    edit_weights(folder, lambda s: {k: v.half() if v.is_floating_point() else v for k, v in s.items()})
    world_model, _ = checkpoint.load(folder)
    assert {p.dtype for p in world_model.parameters()} == {torch.float32}


def test_weights_that_do_not_fit_are_named(folder):
    name = sorted(load_file(folder / WEIGHTS))[0]
    edit_weights(folder, lambda state: {**state, name: torch.zeros(7, 7, 7)})
    with pytest.raises(CheckpointError, match=rf"{name}.*\(7, 7, 7\)"):
        checkpoint.load(folder)
    edit_weights(folder, lambda state: {key: value for key, value in state.items() if key != name})
    with pytest.raises(CheckpointError, match=f"{name}.*absent"):
        checkpoint.load(folder)
    edit_weights(folder, lambda state: {"other": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="do not fit"):
        checkpoint.load(folder)


def cut(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: shutil.rmtree(f), "no checkpoint"),
        (lambda f: [path.unlink() for path in f.iterdir()], "holds no model.safetensors"),
        (lambda f: (f / WEIGHTS).unlink(), "holds no model.safetensors"),
        (lambda f: (f / CONFIG).unlink(), "holds no config.json"),
        (lambda f: cut(f / WEIGHTS, 1000), "SHA-256"),
        (lambda f: cut(f / WEIGHTS, 0), "SHA-256"),
        (lambda f: edit(f, sha256="0" * 64), "SHA-256"),
        (lambda f: edit_weights(f, lambda state: {**state, "x": torch.zeros(1)}), "'x'"),
        (lambda f: cut(f / CONFIG, 100), "not readable JSON"),
        (lambda f: (f / CONFIG).write_bytes(b"\xff\xfe\x00junk"), "not readable JSON"),
        (lambda f: (f / CONFIG).write_text("[1, 2]"), "not written by this program"),
        (lambda f: edit(f, format="other"), "not written by this program"),
        (lambda f: edit(f, format=None), "not written by this program"),
        (lambda f: edit(f, version=2), "version 2"),
        (lambda f: edit(f, sha256=None), "sha256"),
        (lambda f: edit(f, extra=1), "extra"),
        (lambda f: edit(f, model=[1]), "'model'"),
        (lambda f: edit(f, model={"env": "pusht"}), "model config"),
        (lambda f: edit(f, planner={"name": "astar"}), "astar"),
        (lambda f: edit(f, planner={"objective": "best"}), "best"),
        (lambda f: edit(f, planner={"horizons": 4}), "did you mean 'horizon'"),
        (lambda f: edit(f, planner={"num_elites": 9999}), "num_samples"),
    ],
)
def test_every_bad_checkpoint_is_one_clear_sentence(folder, spoil, message):
    spoil(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.load(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "change", [{"colour": 1}, {"latent_dim": -4}, {"latent_dim": "wide"}, {"encoder": "resnet"}]
)
def test_a_model_config_that_cannot_be_used_is_a_clear_error(folder, change):
    config = json.loads((folder / CONFIG).read_text())
    edit(folder, model={**config["model"], **change})
    with pytest.raises(CheckpointError, match="model config"):
        checkpoint.load(folder)


def test_weights_that_are_not_safetensors_are_a_clear_error(folder):
    (folder / WEIGHTS).write_bytes(b"PK\x03\x04 a pickle, perhaps")
    edit(folder, sha256=hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest())
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        checkpoint.load(folder)


def test_unknown_planner_settings_are_not_saved(folder):
    world_model, _ = checkpoint.load(folder)
    with pytest.raises(CheckpointError, match="horizons"):
        checkpoint.save(world_model, folder, planner={"horizons": 4})


# what a stranger's files may say


def edit_model(folder, **changes):
    """Change the model's settings in config.json, in a checkpoint that has no seal, as older ones."""
    edit_weights(folder, lambda state: state)
    config = json.loads((folder / CONFIG).read_text())
    edit(folder, model={**config["model"], **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"predictor_depth": 100_000}, "asks for 100000 blocks"),
        ({"encoder": "vit", "patch_size": 8, "encoder_width": 63, "encoder_depth": 10**6}, "blocks"),
        ({"latent_dim": 65_536}, "do not fit its config"),
        ({"latent_dim": 2**20, "projector_dim": 2**20}, "do not fit its config"),
        ({"predictor_mlp_dim": 10**18}, "at most 1048576"),
        ({"image_size": 10**6}, "image_size must be at most 4096"),
        ({"context_len": 10**9}, "at most 1024"),
        ({"action_std": [1e308, 1]}, "action_std must hold numbers of at most 3e"),
        ({"action_std": [1e-46, 1]}, "action_std is so small"),
        ({"action_high": [1e39, 1]}, "action_high must hold numbers of at most"),
        ({"action_mean": [10**400, 1]}, "action_mean must hold numbers"),
        ({"pixel_mean": [1e20, 0, 0]}, "must describe pixels from 0 to 1"),
        ({"env": "x" * 10**5 + "\x1b[2J", "encoder": 5}, "encoder must be text"),
    ],
)
def test_settings_are_checked_before_memory_is_asked_for(folder, changes, message):
    edit_model(folder, **changes)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.load(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "planner",
    [
        {"num_samples": 10**18},
        {"num_samples": 10**6, "horizon": 10**6},
        {"init_std": 1e39},
        {"temperature": 10**400},
        {"max_change": 10**400},
        {"objective": [[]]},
        {"name": {}},
    ],
)
def test_odd_ways_to_plan_are_one_sentence(folder, planner):
    edit(folder, planner=planner)
    with pytest.raises(CheckpointError, match="planner settings") as caught:
        checkpoint.load(folder)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize("text", ["[" * 100_000, '{"format": ' + "[" * 100_000, "1" * 10_000, "\ud800"])
def test_json_of_any_depth_is_one_sentence(folder, text):
    (folder / CONFIG).write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(CheckpointError, match="not readable JSON"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value.to(torch.float8_e4m3fn), "float8_e4m3fn|not a safetensors file"),
        (lambda value: value.to(torch.complex64), "complex64|not a safetensors file"),
        (lambda value: value.bool(), "bool"),
        (lambda value: value.int(), "int32"),
        (lambda value: torch.full_like(value, 1e300, dtype=torch.float64), "not finite"),
    ],
)
def test_weights_of_other_kinds_are_one_sentence(folder, change, message):
    edit_weights(
        folder, lambda state: {k: change(v) if v.is_floating_point() else v for k, v in state.items()}
    )
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


def test_a_changed_digit_in_the_settings_is_noticed(tiny_checkpoint, folder):
    checkpoint.save(checkpoint.load(tiny_checkpoint)[0], folder, planner={"max_change": 0.5})
    config = json.loads((folder / CONFIG).read_text())
    checkpoint.load(folder)
    for changes in (
        {"model": {**config["model"], "action_std": [2 * value for value in config["model"]["action_std"]]}},
        {"planner": {"max_change": 5.5}},
    ):
        edit(folder, **{**config, **changes})
        with pytest.raises(CheckpointError, match="not those that the checkpoint was saved with"):
            checkpoint.load(folder)
    edit(folder, **{**config, "training": {"note": "free"}})
    checkpoint.load(folder)
    edit_model(folder)  # as an older version saved it: no seal, so nothing to compare
    edit(folder, planner={"max_change": 5.5})
    assert checkpoint.load(folder)[1]["planner"] == {"max_change": 5.5}
