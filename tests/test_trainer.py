"""Training: it learns, stops and goes on exactly, runs on several processes, and says what went wrong."""

from __future__ import annotations

import json
import logging
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_run import SquareRecording, losses, rows, tiny_dataset, tiny_model, tiny_trainer
from waiting import PATIENCE, Ticks, started, until

from latent_planner.checkpoints import checkpoint
from latent_planner.model.device import choose_precision
from latent_planner.training.collapse import CollapseWatch, effective_rank
from latent_planner.training.dataset import DatasetError
from latent_planner.training.loss import LatentLoss
from latent_planner.training.optimization import learning_rate_scale, make_optimizer, training_device
from latent_planner.training.run_state import TrainingError, load_state, save_state
from latent_planner.training.sigreg import SIGReg
from latent_planner.training.train_config import TrainConfig

pytestmark = pytest.mark.random

SCRIPT = Path(__file__).with_name("tiny_run.py")
# What a file may say that no training has saved: a change of its values and tensors, or another text.
ODD_STATES: dict[str, Callable[[dict[str, Any], dict[str, torch.Tensor]], Any]] = {
    "rank": lambda values, tensors: values.update(rank=1),
    "folder": lambda values, tensors: values.update(run_dir="/x"),
    "no watch": lambda values, tensors: values.pop("watch"),
    "no took": lambda values, tensors: values["evaluated"].pop("took"),
    "list step": lambda values, tensors: values.update(step=[2]),
    "text step": lambda values, tensors: values.update(step="2"),
    "true step": lambda values, tensors: values.update(step=True),
    "huge step": lambda values, tensors: values.update(step=10**400),
    "half a step": lambda values, tensors: values.update(step=1.5),
    "negative step": lambda values, tensors: values.update(step=-1),
    "NaN seconds": lambda values, tensors: values.update(seconds=math.nan),
    "text best": lambda values, tensors: values["best"].update(success="1"),
    "list": lambda values, tensors: "[1, 2]",
    "deep": lambda values, tensors: "[" * 100_000,
    "a moment less": lambda values, tensors: tensors.pop("optimizer.0.exp_avg"),
    "a parameter less": lambda values, tensors: [
        tensors.pop(f"optimizer.0.{name}") for name in ("step", "exp_avg", "exp_avg_sq")
    ],
    "misshapen": lambda values, tensors: tensors.update({"optimizer.0.exp_avg": torch.zeros(7)}),
    "integers": lambda values, tensors: tensors.update(
        {"optimizer.0.exp_avg": torch.zeros_like(tensors["optimizer.0.exp_avg"]).int()}
    ),
    "NaN moment": lambda values, tensors: tensors["optimizer.0.exp_avg"].fill_(math.nan),
    "many parameters": lambda values, tensors: tensors.update({"optimizer.99999.step": torch.zeros([])}),
    "no parameter": lambda values, tensors: tensors.update({"optimizer.x.step": torch.zeros([])}),
    "float8": lambda values, tensors: tensors.update(
        {name: value.to(torch.float8_e4m3fn) for name, value in tensors.items() if value.ndim == 4}
    ),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("trained")
    tiny_trainer(folder, steps=2).fit()
    return folder


def stop_at(step: int, how: Callable[[], None]) -> Callable[[dict[str, Any]], None]:
    """A log callback that does something once, when a step is logged."""

    def log(row: dict[str, Any]) -> None:
        if row["step"] == step and "loss" in row:
            how()

    return log


def press_ctrl_c() -> None:
    os.kill(os.getpid(), signal.SIGINT)


class TestLearning:
    def test_it_learns_and_leaves_a_checkpoint_and_metrics(self, tmp_path: Path) -> None:
        seen: list[dict] = []
        trainer = tiny_trainer(
            tmp_path, steps=300, batch_size=32, learning_rate=3e-3, log_every=25, probe=True, log=seen.append
        )
        before = {name: value.clone() for name, value in trainer.world_model.state_dict().items()}
        result = trainer.fit()
        assert (result["steps"], result["best_step"], result["success"]) == (300, 300, None)
        logged = rows(tmp_path)
        assert logged == json.loads(json.dumps(seen))
        assert [row["step"] for row in logged if "loss" in row] == list(range(25, 301, 25))
        last = [row for row in logged if "loss" in row][-1]
        assert last["loss"] < 0.6 * logged[0]["loss"] and last["effective_rank"] > 2
        assert logged[-1]["probe/x/linear_r2"] > 0.8 and "probe/direction_sin/mlp_r" in logged[-1]
        world_model, info = checkpoint.load(tmp_path)
        assert info["training"]["step"] == 300 and not world_model.training
        after = world_model.state_dict()
        assert set(after) == set(before) and any(not torch.equal(after[name], before[name]) for name in after)

    def test_the_loss_is_prediction_error_and_sigreg(self) -> None:
        dataset = tiny_dataset()
        model, batch = tiny_model(dataset).eval(), dataset.batch(0, 6)
        sigreg = SIGReg(num_directions=16)
        found = LatentLoss(model, sigreg, sigreg_weight=0.5, rollout_steps=2)(batch.pixels, batch.actions)
        with torch.no_grad():
            z = model.encode(batch.pixels)
            one = model.predict(z[:, :3], batch.actions)
            two = model.predict(one[:, :2], batch.actions[:, 1:])
        error = ((one - z[:, 1:]).square().mean() + (two - z[:, 2:]).square().mean()) / 2
        assert found["prediction"].item() == pytest.approx(float(error), rel=1e-5)
        sigreg.step = 0
        assert found["loss"].item() == pytest.approx(float(error + 0.5 * sigreg(z.transpose(0, 1))), rel=1e-5)

    def test_a_frozen_encoder_stands_still_while_the_predictor_learns(self, tmp_path: Path) -> None:
        seen: dict[int, dict[str, torch.Tensor]] = {}

        def evaluate(model: torch.nn.Module) -> dict[str, float]:
            seen[len(seen)] = {name: value.clone() for name, value in model.state_dict().items()}
            return {"success": 0.0}

        config = {"steps": 120, "log_every": 10, "evaluate_every_steps": 40, "learning_rate": 3e-3}
        tiny_trainer(tmp_path, freeze_encoder=0.5, evaluate=evaluate, batch_size=32, **config).fit()
        frozen, last = seen[1], seen[2]  # at steps 80 and 120; the encoder stands still from 60 on
        moved = {name.split(".")[0] for name in frozen if not torch.equal(frozen[name], last[name])}
        assert moved == {"predictor"}
        logged = [row for row in rows(tmp_path) if "loss" in row]
        assert logged[-1]["held_out"] < logged[5]["held_out"]
        assert logged[-1]["sigreg"] == pytest.approx(logged[-2]["sigreg"])

    def test_the_best_checkpoint_by_success_stays_the_later_of_equals(self, tmp_path: Path) -> None:
        success = iter([0.5, 0.8, 0.2, 0.8, 0.3])
        trainer = tiny_trainer(
            tmp_path,
            steps=10,
            evaluate_every_steps=2,
            evaluate=lambda model: {"success": next(success), "n": 5},
        )
        assert trainer.fit()["success"] == 0.8
        assert checkpoint.load(tmp_path)[1]["training"]["step"] == 8
        assert [row["success"] for row in rows(tmp_path) if "n" in row] == [0.5, 0.8, 0.2, 0.8, 0.3]

    def test_evaluation_sees_a_model_in_eval_mode_and_changes_nothing(self, tmp_path: Path) -> None:
        def evaluate(model: torch.nn.Module) -> dict[str, float]:
            assert not model.training and not torch.is_grad_enabled()
            torch.rand(7)
            return {"success": 0.0}

        tiny_trainer(tmp_path / "a", steps=6, evaluate_every_steps=2, evaluate=evaluate, probe=True).fit()
        tiny_trainer(tmp_path / "b", steps=6).fit()
        assert losses(tmp_path / "a") == losses(tmp_path / "b")

    def test_a_budget_in_minutes_holds_evaluations_included(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        clock = Ticks(0.004)

        def evaluate(model: torch.nn.Module) -> dict[str, float]:
            clock.sleep(0.3)
            return {"success": 0.0}

        monkeypatch.setattr(time, "perf_counter", clock)
        started = time.perf_counter()
        trainer = tiny_trainer(tmp_path, minutes=3 / 60, evaluate_every_minutes=1.0, evaluate=evaluate)
        trainer.fit()
        assert 2.9 < time.perf_counter() - started < 3.1
        assert sum("success" in row for row in rows(tmp_path)) == 2  # one half-way, one at the end
        assert rows(tmp_path)[-2]["learning_rate"] < 1e-4  # the cosine has come to its end

    def test_bfloat16_runs_too(self, tmp_path: Path) -> None:
        tiny_trainer(tmp_path, steps=2, precision="bfloat16").fit()
        assert np.isfinite(losses(tmp_path)).all()
        assert all(value.dtype != torch.bfloat16 for value in checkpoint.load(tmp_path)[0].parameters())


class TestStoppingAndGoingOn:
    def test_killed_at_some_moment_it_goes_on_bit_for_bit(self, tmp_path: Path) -> None:
        config: dict[str, Any] = {"steps": 80, "save_every_minutes": 1e-4}
        killed = tmp_path / "killed"
        words = [str(killed), json.dumps({**config, "hold_at": 70})]
        with started([sys.executable, SCRIPT, *words]) as process:
            metrics, state = killed / "metrics.jsonl", killed / "state.safetensors"
            until(lambda: state.exists() and metrics.read_text().count("\n") >= 12, process)
        assert process.wait() == -signal.SIGKILL
        assert (killed / "state.safetensors").exists()
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as the script has it
        try:
            tiny_trainer(killed, **config).fit()
            tiny_trainer(tmp_path / "whole", **config).fit()
        finally:
            torch.set_num_threads(threads)
        assert len(losses(killed)) == 80 and losses(killed) == losses(tmp_path / "whole")
        assert (killed / "model.safetensors").read_bytes() == (
            tmp_path / "whole/model.safetensors"
        ).read_bytes()

    @pytest.mark.parametrize("freeze_encoder", [1.0, 0.6, 0.3])
    def test_ctrl_c_saves_says_how_to_go_on_and_nothing_is_lost(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, freeze_encoder: float
    ) -> None:
        config: dict[str, Any] = {"steps": 9, "log_every": 2, "freeze_encoder": freeze_encoder}
        with pytest.raises(KeyboardInterrupt):
            tiny_trainer(tmp_path / "a", log=stop_at(4, press_ctrl_c), **config).fit()
        assert "stopped at step 4" in caplog.text and f"resume={tmp_path / 'a'}" in caplog.text
        tiny_trainer(tmp_path / "a", **config).fit()
        tiny_trainer(tmp_path / "b", **config).fit()
        assert losses(tmp_path / "a") == losses(tmp_path / "b")

    def test_ctrl_c_does_not_wait_for_a_long_evaluation(self, tmp_path: Path) -> None:
        def evaluate(model: torch.nn.Module) -> dict[str, float]:
            press_ctrl_c()
            time.sleep(5)
            raise AssertionError("evaluated to the end")

        with pytest.raises(KeyboardInterrupt):
            tiny_trainer(tmp_path, steps=4, evaluate_every_steps=2, evaluate=evaluate).fit()
        assert tiny_trainer(tmp_path, steps=4).fit()["steps"] == 4

    def test_what_was_best_is_remembered(self, tmp_path: Path) -> None:
        options: dict[str, Any] = {"steps": 8, "evaluate_every_steps": 2}
        with pytest.raises(KeyboardInterrupt):
            log = stop_at(5, press_ctrl_c)
            tiny_trainer(tmp_path, evaluate=lambda _: {"success": 0.9}, log=log, **options).fit()
        result = tiny_trainer(tmp_path, evaluate=lambda _: {"success": 0.1}, **options).fit()
        assert result["success"] == 0.9 and checkpoint.load(tmp_path)[1]["training"]["step"] == 4

    def test_a_finished_run_has_nothing_left_to_do(self, tmp_path: Path) -> None:
        tiny_trainer(tmp_path, steps=3).fit()
        before = (tmp_path / "metrics.jsonl").read_text()
        assert tiny_trainer(tmp_path, steps=3).fit()["steps"] == 3
        assert (tmp_path / "metrics.jsonl").read_text() == before
        assert tiny_trainer(tmp_path, steps=5).fit()["steps"] == 5  # but it can be given more

    def test_a_state_is_replaced_whole_or_not_at_all(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path, model = tmp_path / "state", torch.nn.Linear(3, 3)
        optimizer = make_optimizer(model, learning_rate=0.1, weight_decay=0.0)
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
        save_state(path, model, optimizer, {"step": 1})
        before = path.read_bytes()

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            save_state(path, model, optimizer, {"step": 2})
        assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
        assert load_state(path, model, optimizer) == {"step": 1}

    @pytest.mark.parametrize("damage", ["cut", "foreign", "other model"])
    def test_a_state_that_cannot_be_used_is_refused_in_one_sentence(
        self, tmp_path: Path, damage: str
    ) -> None:
        tiny_trainer(tmp_path, steps=2).fit()
        state = tmp_path / "state.safetensors"
        if damage == "cut":
            state.write_bytes(state.read_bytes()[:-100])
        elif damage == "foreign":
            state.write_bytes((tmp_path / "model.safetensors").read_bytes())
        words = "belongs to another model" if damage == "other model" else "damaged or no training state"
        with pytest.raises(TrainingError, match=words):
            tiny_trainer(tmp_path, steps=4, model={"latent_dim": 24 if damage == "other model" else 12}).fit()

    @pytest.mark.parametrize("name", ODD_STATES)
    def test_a_state_sets_only_what_a_state_holds(self, trained: Path, tmp_path: Path, name: str) -> None:
        shutil.copytree(trained, tmp_path / "run")
        path = tmp_path / "run" / "state.safetensors"
        with safe_open(path, framework="pt") as file:
            values = json.loads(file.metadata()["state"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        changed = ODD_STATES[name](values, tensors)
        text = changed if isinstance(changed, str) else json.dumps(values)
        save_file(tensors, path, metadata={"state": text})
        with pytest.raises(TrainingError, match="delete it|belongs to another model") as caught:
            tiny_trainer(tmp_path / "run", steps=4).fit()
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500

    def test_a_run_resumed_with_a_frozen_encoder_leaves_the_same_bytes(self, tmp_path: Path) -> None:
        options: dict[str, Any] = {"steps": 8, "freeze_encoder": 0.5}
        tiny_trainer(tmp_path / "whole", **options).fit()
        for step in (3, 6, 7):  # before and after the encoder is frozen
            with pytest.raises(KeyboardInterrupt):
                tiny_trainer(tmp_path / "parts", **options, log=stop_at(step, press_ctrl_c)).fit()
        tiny_trainer(tmp_path / "parts", **options).fit()
        whole, parts = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "parts"))
        assert whole == parts


class TestTwoProcesses:
    def test_two_processes_give_the_losses_of_one(self, tmp_path: Path) -> None:
        config: dict[str, Any] = {"steps": 8, "batch_size": 16, "freeze_encoder": 0.7}
        config["model"] = {"dropout": 0.0, "proposals": 2}
        config["precision"] = "float32"  # in bfloat16 the order of sums shows
        command = [sys.executable, "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2"]
        command += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
        command += ["--main_process_port", "0", str(SCRIPT), str(tmp_path / "two"), json.dumps(config)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr[-2000:]
        tiny_trainer(tmp_path / "one", **config).fit()
        one, two = np.array(losses(tmp_path / "one")), np.array(losses(tmp_path / "two"))
        assert one.shape == two.shape == (8, 6)
        np.testing.assert_allclose(two, one, rtol=1e-5, atol=1e-6)
        models = [checkpoint.load(tmp_path / name)[0].eval() for name in ("one", "two")]
        batch = tiny_dataset().batch(0, 16)
        with torch.no_grad():  # in eval mode: with BatchNorm's running statistics
            outputs = [model(batch.pixels, batch.actions) for model in models]
        for ours, theirs in zip(*outputs):
            torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-4)
        # A bias before a BatchNorm has no effect, so its gradient is rounding, which Adam enlarges; the
        # running mean goes with it.
        hidden, mean = "encoder.projector.hidden.bias", "encoder.projector.norm.running_mean"
        weights = [model.state_dict() for model in models]
        for values in weights:
            values[mean] = values[mean] - values.pop(hidden)
        for name, value in weights[0].items():
            torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=1e-5, msg=name)


class TestWarnings:
    def test_a_loss_that_is_not_finite_stops_and_keeps_what_was_saved(self, tmp_path: Path) -> None:
        dataset = tiny_dataset()
        honest = dataset.batch

        def poisoned(k: int, size: int, **options: Any) -> Any:
            batch = honest(k, size, **options)
            if k >= 6:
                batch.actions.fill_(torch.nan)
            return batch

        dataset.batch = poisoned
        with pytest.raises(TrainingError, match="stopped being finite in steps 7 to 7: lower learning_rate"):
            tiny_trainer(
                tmp_path, dataset=dataset, steps=20, save_every_minutes=0, evaluate_every_steps=3
            ).fit()
        assert len(losses(tmp_path)) == 6
        assert checkpoint.load(tmp_path)[1]["training"]["step"] == 6
        assert tiny_trainer(tmp_path, steps=20).fit()["steps"] == 20

    def test_collapse_is_said_while_it_happens(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        tiny_trainer(
            tmp_path, steps=120, log_every=10, batch_size=32, sigreg_weight=0.0, learning_rate=1e-2
        ).fit()
        warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert any("the latents are collapsing at step" in text for text in warnings), warnings
        assert rows(tmp_path)[-2]["latent_std"] < 0.1

    def test_what_never_rose_did_not_fall(self, caplog: pytest.LogCaptureFixture) -> None:
        watch = CollapseWatch()
        assert watch.check(9.0, torch.full((4,), 0.01), step=60)
        (said,) = caplog.messages
        assert "the latents have not spread out at step 60: their standard deviation is 0.01;" in said
        assert not watch.check(9.0, torch.full((4,), 0.9), step=70)
        assert watch.check(9.0, torch.full((4,), 0.05), step=80)
        assert "are collapsing at step 80: their standard deviation is 0.05, was 0.9" in caplog.messages[-1]

    def test_a_healthy_run_is_quiet(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        tiny_trainer(tmp_path, steps=100, log_every=10, batch_size=32).fit()
        assert "collapsing" not in caplog.text

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({}, "either steps or minutes"),
            ({"steps": 3, "minutes": 1.0}, "either steps or minutes"),
            ({"steps": 0}, "steps must be a whole number of at least 1"),
            ({"steps": 3, "learning_rate": float("nan")}, "learning_rate must be a number above 0"),
            ({"steps": 3, "precision": "float16"}, "precision must be one of"),
            ({"steps": 3, "weight_decay": float("nan")}, "weight_decay must be a number"),
            ({"steps": 3, "sigreg_weight": -1.0}, "sigreg_weight must be a number of at least 0"),
            ({"steps": 3, "evaluate_every_steps": 0}, "evaluate_every_steps must be a whole number"),
            ({"steps": 3, "save_every_minutes": -1.0}, "save_every_minutes must be a number of at least 0"),
            ({"steps": 3, "rollout_steps": 4}, "needs num_frames"),
            ({"steps": 3, "warmup": 1.0}, "warmup must be a number of at least 0 and below 1"),
            ({"steps": 3, "freeze_encoder": 0.0}, "freeze_encoder must be a number above 0 and at most 1"),
        ],
    )
    def test_settings_that_cannot_work_are_refused(self, options: dict, words: str) -> None:
        with pytest.raises(TrainingError, match=words):
            TrainConfig(**options)

    def test_a_model_for_other_actions_is_refused(self, tmp_path: Path) -> None:
        dataset, other = tiny_dataset(), tiny_dataset(SquareRecording(), frameskip=3)
        from latent_planner.training.trainer import Trainer

        with pytest.raises(DatasetError, match="windows of frameskip 2 but the model is made for 3"):
            Trainer(tiny_model(other), dataset, TrainConfig(steps=1), run_dir=tmp_path)


class TestOptimization:
    def test_learning_rate_warms_up_then_falls_to_zero(self) -> None:
        scale = [learning_rate_scale(spent, 0.1) for spent in (0.0, 0.05, 0.1, 0.55, 1.0, 1.2)]
        assert scale == pytest.approx([0, 0.5, 1, 0.5, 0, 0])
        assert learning_rate_scale(0.0, 0.0) == 1

    def test_biases_and_norms_are_not_decayed(self) -> None:
        model = tiny_model(tiny_dataset())
        decayed, free = make_optimizer(model, learning_rate=1e-3, weight_decay=0.1).param_groups
        assert decayed["weight_decay"] == 0.1 and free["weight_decay"] == 0
        kept = {id(p) for p in free["params"]}
        for name, parameter in model.named_parameters():
            assert (id(parameter) in kept) == (name.endswith("bias") or parameter.ndim == 1), name

    def test_precision_is_what_was_asked_for(self) -> None:
        cpu = torch.device("cpu")
        assert choose_precision("bfloat16", cpu) == "bfloat16"
        assert choose_precision("auto", cpu) in ("float32", "bfloat16")
        assert choose_precision("auto", torch.device("mps")) == "float32"

    @pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
    def test_a_device_that_is_not_there_is_said(self) -> None:
        assert training_device("cpu") == torch.device("cpu")
        with pytest.raises(TrainingError, match="device=cuda is not there"):
            training_device("cuda")

    def test_effective_rank(self) -> None:
        noise = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
        assert effective_rank(noise) == pytest.approx(8, abs=0.1)
        assert effective_rank(noise[:, :1] @ torch.ones(1, 8)) == pytest.approx(1, abs=1e-3)
        assert effective_rank(torch.zeros(10, 8)) == 1


@pytest.mark.parametrize("value", [torch.inf, torch.nan, 1e200])
def test_the_effective_rank_of_latents_that_explode_is_no_traceback(value: float) -> None:
    latents = torch.ones(8, 4, dtype=torch.float64)
    latents[0, 0] = value
    assert math.isnan(effective_rank(latents)) or effective_rank(latents) >= 1
