"""train.py as it is used: through its command line, for a few steps with a model of nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_module
from omegaconf import OmegaConf
from waiting import PATIENCE

from latent_planner import envs, planners
from latent_planner.cli import train
from latent_planner.cli.kinds import kind
from latent_planner.cli.overrides import ConfigError, checked, flat, options
from latent_planner.cli.recording import open_recording
from latent_planner.cli.run_folder import stored_settings
from latent_planner.evaluation import plots
from latent_planner.planners import PlanConfig

ROOT = Path(__file__).resolve().parent.parent
TINY = [
    "model.latent_dim=16", "model.projector_dim=32", "model.encoder_width=8", "model.predictor_width=32",
    "model.predictor_depth=1", "model.predictor_heads=2", "model.predictor_head_dim=16",
    "model.predictor_mlp_dim=32", "train.batch_size=8", "train.log_every=2", "train.evaluate_every_steps=4",
    "benchmark.pairs=3", "benchmark.validation_pairs=2", "planner.num_samples=8", "planner.num_elites=2",
    "planner.iterations=1", "device=cpu",
]  # fmt: skip


def rows(folder: Path) -> list[dict]:
    return plots.read_rows(folder / "metrics.jsonl")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A whole run from nothing, in a folder of its own, as a user would start it."""
    folder = tmp_path_factory.mktemp("train")
    command = [sys.executable, str(ROOT / "train.py"), "env=two_room", "env.episodes=12", "env.length=40"]
    command += [*TINY, "train.steps=6", "out=run", "data.workers=1", "wandb.mode=offline"]
    environment = {**os.environ, "WANDB_MODE": "offline"}
    options: dict[str, Any] = {"env": environment, "capture_output": True, "text": True, "timeout": PATIENCE}
    done = subprocess.run(command, cwd=folder, **options)
    return folder, done


def test_a_run_from_nothing_leaves_everything_in_its_folder(run) -> None:
    folder, done = run
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["data", "run"]  # and nothing beside it
    assert [path.name for path in (folder / "data").glob("*.h5")] == ["two_room-64-12x40-seed0.h5"]
    names = {path.name for path in (folder / "run").iterdir()}
    assert names >= {
        "train.yaml", "model.safetensors", "config.json", "metrics.jsonl", "benchmark.json", "loss.png",
        "success.png", "planned.mp4", "wandb", "looks.json",
    }  # fmt: skip
    assert not [name for name in names if ".tmp-" in name]
    assert list((folder / "run" / "wandb").glob("offline-run-*"))
    assert yaml.safe_load((folder / "run" / "train.yaml").read_text())["train"]["batch_size"] == 8
    tested = json.loads((folder / "run" / "benchmark.json").read_text())
    assert len(tested["episodes"]) == 3 and set(tested["floors"]) == {"random", "still"}


def test_a_run_ends_with_a_short_table_and_what_to_do_next(run) -> None:
    _, done = run
    assert "6 steps" in done.stdout and "95 % interval" in done.stdout and "random" in done.stdout
    assert done.stdout.splitlines()[-1].split() == "python plan.py --goal goal.png --checkpoint run".split()
    assert "Traceback" not in done.stderr and "wandb:" not in done.stderr + done.stdout


def test_metrics_hold_losses_and_tests_on_the_way(run) -> None:
    folder, _ = run
    found = rows(folder / "run")
    assert [row["step"] for row in found if "loss" in row] == [2, 3, 4, 6]  # 3: the encoder is done
    assert [row["step"] for row in found if "success" in row] == [4, 6]
    assert all(
        row["success_low"] <= row["success"] <= row["success_high"] for row in found if "success" in row
    )


@pytest.mark.parametrize(
    ("steps", "frozen", "said"),
    [(9, 9, "the encoder was frozen at step 9, too few"), (9, None, "too few to have learned"),
     (900, 880, "880"), (900, 450, ""), (900, None, "")],
)  # fmt: skip
def test_too_few_steps_to_have_learned_anything(steps: int, frozen: int | None, said: str) -> None:
    assert bool(train.too_short(steps, frozen)) is bool(said) and said in train.too_short(steps, frozen)


def test_a_training_that_learned_nothing_says_so_and_how_to_go_on(tmp_path, capsys) -> None:
    with initialize_config_module("latent_planner.configs", version_base="1.3"):
        config = compose("config", overrides=["env=recorded", "train.minutes=1.5"])
    trained = {"steps": 9, "minutes": 1.5, "frozen": 9, "best_step": 9, "success": None}
    train.report(config, tmp_path, trained, None)
    said = capsys.readouterr().out
    assert "9 steps in 1.5 minutes; the encoder was frozen at step 9" in said and "give it more time" in said
    assert "best model" not in said and "Agent.from_pretrained" not in said
    assert f"resume={tmp_path} train.minutes=15" in said


def test_ctrl_c_in_the_benchmark_says_what_is_kept(run, monkeypatch, capsys) -> None:
    folder, _ = run
    monkeypatch.chdir(folder)

    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(train.benchmark, "run", stopped)
    assert train.main(["resume=run", "train.steps=6", "wandb.mode=disabled"]) == 130
    said = capsys.readouterr().err
    assert "the trained model is in run" in said and "python train.py resume=run" in said


def test_a_run_goes_on_in_the_same_folder(run, monkeypatch, capsys) -> None:
    folder, _ = run
    monkeypatch.chdir(folder)
    told: list[Path] = []
    monkeypatch.setattr(train, "what_it_knows", lambda folder, device, tracker: told.append(folder))
    assert train.main(["resume=run", "train.steps=8", "wandb.mode=disabled", "report=true"]) == 0
    assert told == [Path("run")]
    assert [row["step"] for row in rows(folder / "run") if "loss" in row] == [2, 3, 4, 6, 8]
    assert sorted(path.name for path in folder.iterdir()) == ["data", "run"]
    assert "8 steps" in capsys.readouterr().out


def failing(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one sentence that train.py answers with."""
    assert train.main(list(arguments)) == 2
    out, err = capsys.readouterr()
    lines = err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), err
    assert "Traceback" not in out
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train.minuts=3"], "did you mean 'train.minutes'"),
        (["minutes=3"], "did you mean 'train.minutes'"),
        (["lr=3"], "did you mean 'train.learning_rate'"),
        (["planner.num_sample=3"], "did you mean 'planner.num_samples'"),
        (["planner.temperature=1"], "planner.temperature is a setting of planner=mppi"),
        (["env=push"], "there is no env=push; did you mean 'pusht'? choose from cube, gym, "),
        (["env=nowhere"], "there is no env=nowhere; choose from cube, gym, "),
        (["model=big"], "there is no model=big; choose from lewm, small"),
        (["enf=pusht"], "did you mean 'env'"),
        (["seed=abc"], "seed takes a whole number"),
        (["train.minutes=soon"], "train.minutes takes a number"),
        (["train.steps=many"], "train.steps takes a whole number of at least 1"),
        (["planner.warm_start=3"], "planner.warm_start takes true or false"),
        (["planner={horizon: 3}"], "there is no planner="),
        (["data=a.h5"], "data has several settings"),
        (["+extra=3"], "there is no setting 'extra'"),
        (["~seed"], "not a setting"),
        (["--seed=3"], "settings are written seed=3"),
        (["pusht"], "'pusht' is not a setting"),
        (["device=gpu"], "choose from auto, cpu, cuda, mps"),
        (["wandb.mode=of"], "wandb.mode=of"),
        (["train.batch_size=0"], "batch_size"),
        (["train.minutes=null"], "minutes"),
        (["model.image_size=50"], "image_size must be a multiple of"),
        (["model.encoder=resnet"], "Unknown encoder 'resnet'"),
        (["planner.num_elites=1000"], "num_elites"),
        (["planner.deadline=soon"], "planner.deadline takes a number of seconds"),
        (["planner.objective=first"], "Unknown objective"),
        (["-m", "env=pusht,too_room"], "did you mean 'two_room'"),
        (["resume=7"], "resume=7: there is no train.yaml in it"),
        (["module=7"], "The module 7 cannot be imported"),
        (["module=.odd"], "The module .odd cannot be imported"),
        (["data.path=7"], "7"),
        (["seed=-1"], "seed takes a whole number of at least 0"),
        (["seed=99999999999999999999999"], "seed takes a whole number of at least 0 and at most"),
        (["seed=0,1"], "several values, one run each, need -m"),
        (["-m", "seed=0,-1"], "seed=-1: seed takes a whole number"),
        (["data.memory_gb=lots"], "data.memory_gb takes a number of at least 0, or null"),
        (["data.memory_gb=-1"], "data.memory_gb takes a number of at least 0, or null"),
        (["data.workers=-2"], "data.workers takes a whole number of at least 0"),
        (["data.reference_look=maybe"], "data.reference_look takes true or false, or null"),
        (["data.held_out=2"], "data.held_out takes a number above 0 and below 1"),
        (["train.learning_rate=1e30"], "train.learning_rate takes a number above 0 and at most 1"),
        (["train.weight_decay=nan"], "train.weight_decay takes a number"),
        (["train.sigreg_weight=-1"], "train.sigreg_weight takes a number of at least 0"),
        (["train.evaluate_every_steps=0"], "train.evaluate_every_steps takes a whole number of at least 1"),
        (["train.save_every_minutes=nan"], "train.save_every_minutes takes a number of at least 0"),
        (["benchmark.pairs=-1"], "benchmark.pairs takes a whole number of at least 0"),
        (["planner.deadline=-1"], "planner.deadline takes a number of seconds of at least 0"),
        (["env=two_room", "planner.max_change=[1,2,3]"], "one number or 2, one per action component"),
        (["env=recorded", "benchmark.pairs=3"], "no world to test in"),
        (["out=${oc.env:HOME}"], "out takes text"),
        (["out=???"], "out takes text"),
        (["out="], "out takes text"),
    ],
)
def test_a_mistake_gets_one_sentence(arguments, sentence, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in failing(capsys, *arguments)
    assert not list(tmp_path.iterdir())


def test_a_path_needs_no_quotes_of_its_own(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert "my data (1)/a=b,c.h5" in failing(capsys, "data.path=my data (1)/a=b,c.h5")


PATHS = (
    "7", "1e5", "true", "2026-07-18", "a,b.h5", "rec (1).h5", "[1].h5", "{a}.h5", "it's.h5", 'q"q.h5',
    "$HOME.h5", "C:\\data\\x.h5", "\\\\server\\share\\x.h5", "a\\,b.h5", "ends ", " begins", "x\\", "李明.h5",
    "a=b#1.h5", "50%_r.h5",
)  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_text_is_taken_as_it_stands(path: str) -> None:
    words = checked([f"out={path}", f"data.path={path}"])
    with initialize_config_module("latent_planner.configs", version_base="1.3"):
        config = compose("config", overrides=words)
    assert (config.out, config.data.path) == (path, path)


def test_null_is_no_value_and_quotes_as_hydra_wants_them_are_understood() -> None:
    words = checked(["out=null", "data.path='a,b'", "train.steps=null"])
    with initialize_config_module("latent_planner.configs", version_base="1.3"):
        config = compose("config", overrides=words)
    assert (config.out, config.data.path, config.train.steps) == (None, "a,b", None)


def test_several_texts_are_several_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []
    monkeypatch.setattr(train, "train", lambda config: seen.append(config.data.path))
    assert train.main(["-m", "data.path=7,b.h5"]) == 0
    assert seen == ["7", "b.h5"]


@pytest.mark.parametrize("env", options("env"))
def test_every_default_is_a_value_of_its_kind(env: str) -> None:
    for group in ("planner", "model"):
        for option in options(group):
            with initialize_config_module("latent_planner.configs", version_base="1.3"):
                config = compose("config", overrides=[f"env={env}", f"{group}={option}"])
            for key, default in flat(config):
                plain = OmegaConf.to_container(default) if OmegaConf.is_list(default) else default
                kind(key, plain).check(key, plain)


def test_a_folder_in_use_is_not_written_to(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    monkeypatch.chdir(tmp_path)
    assert "out=mine is there already" in failing(capsys, "out=mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_model_that_no_machine_has_room_for_is_one_sentence(run, monkeypatch, capsys) -> None:
    folder, _ = run
    monkeypatch.chdir(folder)
    words = ["env=two_room", "data.path=data/two_room-64-12x40-seed0.h5", "out=large", *TINY]
    words += ["wandb.mode=disabled", "model.predictor_mlp_dim=1000000", "model.predictor_width=1000000"]
    assert "needs more memory than this machine has" in failing(capsys, *words)


def test_resume_refuses_what_would_make_another_run(run, monkeypatch, capsys) -> None:
    folder, _ = run
    monkeypatch.chdir(folder)
    assert "leave out model.latent_dim=" in failing(capsys, "resume=run", "model.latent_dim=8")
    assert "leave out env=" in failing(capsys, "resume=run", "env=pusht")
    assert "there is no train.yaml" in failing(capsys, "resume=data")
    assert "there is no train.yaml" in failing(capsys, "resume=nowhere")


HOSTILE = (
    "", "- a", "a: [", "train: 3\nenv: 4\nmodel: 5", "\x00", "seed: ${oc.env:HOME}", "out: \"\\x24{seed}\"",
    "seed: ???", "a: &a [1, 2]\nb: [*a, *a]", "a: !!python/name:os.system", "a: 2026-01-01", "1: 2",
    "[" * 3000, "a: " + "9" * 70000, "seed: -1", "seed: .nan", "data: {memory_gb: lots}",
    "train: {learning_rate: 1e30}",
)  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_resume_refuses_settings_that_are_not_those_of_a_run(text, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "train.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    failing(capsys, f"resume={tmp_path}", "train.steps=3")


@pytest.mark.parametrize("text", ["seed: 0\ndata: {path: '${oc.env:HOME}'}", "a: &a [1]\ndata: *a\nseed: 0"])
def test_a_report_refuses_settings_that_mean_more_than_they_say(text, tmp_path) -> None:
    (tmp_path / "train.yaml").write_text(text)
    with pytest.raises(ConfigError, match="train.yaml cannot be read"):
        stored_settings(tmp_path)


def test_data_of_another_world_is_refused(run, monkeypatch, capsys) -> None:
    folder, _ = run
    monkeypatch.chdir(folder)
    data = next((folder / "data").glob("*.h5"))
    assert "recorded in two_room: say env=two_room" in failing(capsys, "env=pusht", f"data.path={data}")
    assert sorted(path.name for path in folder.iterdir()) == ["data", "run"]


def test_a_full_disk_gets_one_sentence(monkeypatch, capsys) -> None:
    def full(config):
        raise OSError(28, "No space left on device", "runs/x")

    monkeypatch.setattr(train, "train", full)
    assert "No space left on device (runs/x)" in failing(capsys)


def test_ctrl_c_ends_with_its_own_code(monkeypatch, capsys) -> None:
    def stopped(config):
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "train", stopped)
    assert train.main([]) == 130
    assert capsys.readouterr().err == "stopped\n"


@pytest.mark.parametrize("script", ["train.py", "plan.py"])
def test_ctrl_c_while_it_starts_ends_in_one_word(script, tmp_path) -> None:
    (tmp_path / "torch.py").write_text("raise KeyboardInterrupt")  # as if pressed while torch is loading
    words = [sys.executable, str(ROOT / script), "--help"]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    options: dict[str, Any] = {"env": environment, "capture_output": True, "text": True, "timeout": PATIENCE}
    done = subprocess.run(words, cwd=tmp_path, **options)
    assert (done.returncode, done.stderr) == (130, "stopped\n")


def test_what_a_recording_decides_is_returned_and_not_written(run, monkeypatch) -> None:
    folder, _ = run
    monkeypatch.chdir(folder)
    with initialize_config_module("latent_planner.configs", version_base="1.3"):
        config = compose("config", overrides=["env=two_room", "env.episodes=12", "env.length=40"])
    before = OmegaConf.to_container(config)
    reader, decided = open_recording(config)
    reader.close()
    (path,) = (folder / "data").iterdir()
    assert decided == {"data.path": str(path.resolve()), "data.reference_look": False}
    filled = train.settled(config, decided)
    assert OmegaConf.to_container(config) == before
    assert filled.data.path == str(path.resolve()) and filled.data.reference_look is False
    assert filled.env == config.env and filled.train == config.train


def test_a_mistake_of_our_own_is_not_hidden(monkeypatch, capsys) -> None:
    def wrong(config):
        raise ValueError("ours")

    monkeypatch.setattr(train, "train", wrong)
    assert train.main([]) == 1
    assert "ValueError: ours" in capsys.readouterr().err


def test_several_runs_one_after_the_other(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    seen: list[tuple[int, str]] = []
    monkeypatch.setattr(train, "train", lambda config: seen.append((config.seed, config.env.name)))
    assert train.main(["-m", "seed=1,2", "env=pusht,two_room"]) == 0
    assert seen == [(1, "pusht"), (1, "two_room"), (2, "pusht"), (2, "two_room")]


@pytest.mark.parametrize("model", options("model"))
@pytest.mark.parametrize("planner", options("planner"))
@pytest.mark.parametrize("env", options("env"))
def test_every_choice_of_options_fits_what_it_configures(env, model, planner) -> None:
    choices = [f"env={env}", f"model={model}", f"planner={planner}"]
    with initialize_config_module("latent_planner.configs", version_base="1.3"):
        config = compose("config", overrides=choices)
    assert train.model_config(config, train.ANY_WORLD).image_size == config.model.image_size
    assert train.train_config(config).num_frames == config.model.context_len + 1
    assert train.planner_settings(config).planner == planner
    agents = {"name", "objective", "legs", "max_change", "precision", "deadline"}
    assert agents <= set(config.planner) <= agents | {field.name for field in dataclasses.fields(PlanConfig)}
    assert config.env.name in [*envs.names(), train.RECORDED, train.GYM] and config.env.name == env


def test_every_field_of_the_planners_is_a_setting_somewhere() -> None:
    files = [(ROOT / "configs" / "planner" / f"{name}.yaml").read_text() for name in options("planner")]
    for field in dataclasses.fields(PlanConfig):
        assert field.name == "seed" or any(f"\n{field.name}: " in text for text in files), field.name
    assert options("planner") == sorted([*planners.names(), "cem_lewm"])


def test_help_is_readable_and_complete(capsys) -> None:
    assert train.main(["--help"]) == 0
    text = capsys.readouterr().out
    for word in (
        "python train.py env=pusht",
        "resume=",
        "learning_rate: 0.001",
        "# model=lewm",
        "num_elites",
    ):
        assert word in text
    assert "hydra:" not in text and "@package" not in text and "defaults:" not in text
    assert max(map(len, text.splitlines())) <= 120


def test_the_settings_of_an_older_run_go_on(tmp_path: Path) -> None:
    """A key that has another name now is understood, and one that is new gets its default."""
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    from latent_planner.cli.run_folder import SETTINGS, resumed

    with initialize_config_module("latent_planner.configs", version_base="1.3"):
        config = compose("config", overrides=["env=two_room", f"resume={tmp_path}"])
    old = OmegaConf.create(OmegaConf.to_container(config))
    old.data.published = old.data.pop("reference_look")
    old.data.published = True
    del old["report"]
    OmegaConf.save(old, tmp_path / SETTINGS)
    stored = resumed(config, [f"resume={tmp_path}"])
    assert stored.data.reference_look is True and "published" not in stored.data
    assert stored.report is False and stored.env.name == "two_room"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model": None}, "model is no group of settings"),
        ({"planner": 5}, "planner is no group of settings"),
        ({"model": ["small"]}, "model is no group of settings"),
        ({"train": {"learning_ratex": 1.0}}, "no setting train.learning_ratex; did you mean 'learning_rate'"),
        ({"model": {"name": "small", "image_size": 64, "frameskip": 5}}, "lack model.context_len"),
        (
            {"model": {"name": "small", "image_size": 64, "frameskip": 5, "context_len": "3"}},
            "have model.context_len='3', and it must be a whole number",
        ),
        ({"env": {"": "two_room"}}, "lack env.name"),
        ({"planner": {"name": ["cem"]}}, "Unknown planner"),
    ],
)
def test_damaged_settings_of_a_run_are_one_sentence(
    change: dict[str, Any], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hydra import compose, initialize_config_module
    from omegaconf import OmegaConf

    from latent_planner.cli.run_folder import SETTINGS

    with initialize_config_module("latent_planner.configs", version_base="1.3"):
        stored = OmegaConf.to_container(compose("config", overrides=["env=two_room"]))
    (tmp_path / SETTINGS).write_text(OmegaConf.to_yaml(OmegaConf.create({**stored, **change})))
    assert train.main([f"resume={tmp_path}"]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1 and sentence in said[0]
