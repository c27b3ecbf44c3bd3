"""Train an agent on a world: record it, learn a world model, run the benchmark, in one run folder.

    python train.py env=pusht                          # half an hour on two cores
    python train.py env=two_room                       # ten minutes
    python train.py env=pusht data.path=my.h5 train.minutes=60
    python train.py env=gym env.id=Pendulum-v1         # any Gymnasium environment, see docs/worlds/gym.md
    python train.py env=recorded data.path=my.h5       # a recording of your own, see docs/own-recordings.md
    python train.py model=lewm train.minutes=240       # the published architecture, for a GPU
    python train.py resume=runs/RUN                    # continue a run that was stopped
    python train.py -m seed=0,1,2                      # one run after the other; Hydra's launchers work too
    accelerate launch train.py env=pusht               # several processes

Settings are written key=value. env, model and planner choose a file in configs/; all others are listed below.
"""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from latent_planner.settings import AgentSettings

from .overrides import ConfigError, check_word, checked, listing
from .run_folder import check_free, file_name, resumed, run_folder

log = logging.getLogger(__name__)

OWN = "latent_planner"  # whose errors are sentences for the user
ANY_WORLD = {"env": "any", "action_mean": (0,), "action_std": (1,), "action_low": (-1,), "action_high": (1,)}
ANY_WORLD |= {"pixel_mean": (0, 0, 0), "pixel_std": (1, 1, 1)}
PANEL = 160  # px of a world in the video
RECORDED = "recorded"  # the env of recordings without a world
GYM = "gym"  # the env that stands for all of Gymnasium's
VALIDATION_SEED = 1_000_003  # of the goals planned to while training; the benchmark has others


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns 0, 2 on a user error, or 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(arguments):
        print(f"{__doc__}\n{listing()}", end="")
        return 0
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("absl", "accelerate", "hydra", "matplotlib", "OpenGL", "PIL", "wandb"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    before = sys.argv
    try:
        with mistakes_in_words():
            sys.argv = [sys.argv[0], *checked(arguments)]
            job()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0


@hydra.main(version_base="1.3", config_path="pkg://latent_planner.configs", config_name="config")
def job(config: DictConfig) -> None:
    """One run: with the settings that Hydra composed, or with those of the run to resume."""
    with mistakes_in_words():
        train(resumed(config, HydraConfig.get().overrides.task) if config.resume else config)


@contextmanager
def mistakes_in_words() -> Iterator[None]:
    """Turn a user error into one sentence and an exit code; a fault of the program keeps its traceback."""
    try:
        yield
    except KeyboardInterrupt as stop:
        print(str(stop) or "stopped", file=sys.stderr)
        raise SystemExit(130) from None
    except (OSError, ValueError) as error:
        sentence = str(error)
        if isinstance(error, OSError):
            where = f" ({error.filename})" if error.filename else ""
            sentence = f"{error.strerror or error}{where}; what the run saved before is kept"
        elif type(error).__module__.partition(".")[0] != OWN:
            raise
        print(f"error: {sentence}", file=sys.stderr)
        raise SystemExit(2) from error


def train(config: DictConfig) -> Path:
    """Recording, dataset, world model, training, benchmark, in this order. Returns the run folder."""
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    from latent_planner.training.dataset import WindowDataset
    from latent_planner.training.optimization import training_device
    from latent_planner.training.tracker import MODES, Tracker
    from latent_planner.training.trainer import Trainer

    check_free(config)
    check_word("device", config.device, ("auto", "cpu", "cuda", "mps"))
    check_word("wandb.mode", config.wandb.mode, MODES)
    device = training_device(config.device)
    settings, planner = train_config(config), planner_settings(config)
    model_config(config, ANY_WORLD)  # report mistakes in it before anything is collected
    name_world(config)
    processes = PartialState()
    first = processes.is_main_process  # the one that speaks and writes
    logging.getLogger().setLevel(logging.INFO if first else logging.ERROR)

    with processes.main_process_first():
        reader = open_recording(config)
    dataset = WindowDataset(
        reader,
        num_frames=settings.num_frames,
        frameskip=config.model.frameskip,
        held_out=config.data.held_out,
        memory_gb=config.data.memory_gb,
        seed=config.seed,
        device=device,
        progress=first,
    )
    world_model = make_world_model(config, dataset)
    evaluate = evaluator(config)
    folder = Path(broadcast_object_list([str(run_folder(config)) if first else ""])[0])
    size = sum(parameter.numel() for parameter in world_model.parameters()) / 1e6
    log.info("%s: %.1f million parameters on %s, run folder %s", config.env.name, size, device, folder)

    plain: Any = OmegaConf.to_container(config, resolve=True)
    mode = config.wandb.mode if first else "disabled"
    with Tracker(folder, mode=mode, project=config.wandb.project, settings=plain) as tracker:
        trainer = Trainer(
            world_model,
            dataset,
            settings,
            run_dir=folder,
            evaluate=evaluate,
            log=tracker.log,
            planner=planner,
            progress=first,
        )
        trained = trainer.fit()
    reader.close()
    if first:
        result = test(config, folder, device)
        if config.report:
            what_it_knows(folder, device, tracker)
        report(config, folder, trained, result)
    return folder


def name_world(config: DictConfig) -> None:
    """Make env.name what recording and checkpoint will call it: of env=gym, what env.id and others say."""
    from latent_planner.envs.gym import names as gym_names
    from latent_planner.envs.gym import world as gym_world

    env = config.env
    gym_world.bring(config.module)
    if env.name == GYM:
        if env.id is None:
            raise ConfigError(
                "env=gym needs to know which environment: say env.id=, as in env.id=Pendulum-v1"
            )
        rules = {key: env[key] for key in ("tolerance", "goal", "past_end", "plain")}
        env.name = gym_names.compose(env.id, **rules)


def policy_of(config: DictConfig) -> str | None:
    """What acts while a Gymnasium environment is recorded; None for the other worlds, which have their own.

    A Stable-Baselines3 file becomes a file of plain numbers in data/.
    """
    policy = config.env.get("policy")
    if policy is None or not policy.startswith("sb3:"):
        return policy
    from latent_planner.checkpoints import sb3

    return f"mlp:{sb3.convert(policy.removeprefix('sb3:'), Path('data'))}"


def train_config(config: DictConfig) -> Any:
    """The TrainConfig: config.train with one budget, the seed, and windows as long as the context asks."""
    from latent_planner.training.train_config import TrainConfig

    values = {**config.train, "seed": config.seed, "num_frames": config.model.context_len + 1}
    if values["steps"] is not None:
        values["minutes"] = None
    try:
        return OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(TrainConfig), values))
    except OmegaConfBaseException as error:
        raise ConfigError(f"train.{error.key}: {str(error).splitlines()[0]}") from error


def planner_settings(config: DictConfig) -> AgentSettings:
    """What the checkpoint will say about planning; PlanError where that makes no sense."""
    own: Any = OmegaConf.to_container(config.planner)
    return AgentSettings.from_dict({"num_elites": 1, **own})  # for planners that have no elites


def open_recording(config: DictConfig) -> Any:
    """The recording to learn from: data.path, or one that is collected now unless it is there already."""
    from latent_planner.envs.goals.recorded import shows_reference_look
    from latent_planner.envs.gym import world as gym_world
    from latent_planner.envs.gym.names import as_recorded, is_gym
    from latent_planner.envs.recordings.collect import collect
    from latent_planner.envs.recordings.episodes import EpisodeReader

    if config.data.path is None:
        if config.env.name == RECORDED:
            raise ConfigError("env=recorded has nothing to learn from: say data.path=RECORDING")
        env, size = config.env, config.model.image_size
        policy = policy_of(config)
        world = as_recorded(env.name)
        label = world if policy in (None, "smooth") else f"{world}-{policy}"
        name = f"{file_name(label)}-{size}-{env.episodes}x{env.length}-seed{config.seed}.h5"
        config.data.path = str(Path("data") / name)
        collect(
            world,
            Path(config.data.path),
            episodes=env.episodes,
            length=env.length,
            image_size=size,
            seed=config.seed,
            workers=config.data.workers or None,
            policy=policy,
            module=config.module,
        )
    config.data.path = str(Path(config.data.path).resolve())  # so that the run can go on from elsewhere
    data = config.data
    reader = EpisodeReader(data.path, camera=data.camera, action=data.action, state=data.state)
    if config.env.get("past_end") is False and 2 * np.median(reader.lengths) < config.env.length:
        log.warning(
            "half of the episodes end within %d frames, because %s says so: env.past_end=true goes on",
            np.median(reader.lengths),
            config.env.name,
        )
    if is_gym(config.env.name):
        quick = gym_world.too_quick(reader, config.env.name, config.model.frameskip)
        if quick:
            log.warning(
                "%s move too far within the %d steps of a block to be followed, so the model may leave "
                "them out: a gentler env.policy or a smaller model.frameskip may help",
                ", ".join(quick),
                config.model.frameskip,
            )
    if data.reference_look is None:
        data.reference_look = bool(shows_reference_look(reader, config.env.name))
    return reader


def model_config(config: DictConfig, statistics: Mapping[str, Any]) -> Any:
    """The WorldModelConfig: config.model, and what a dataset's `statistics()` says of actions and pixels."""
    from latent_planner.model.world_model import WorldModelConfig

    values = {key: value for key, value in config.model.items() if key != "name"}
    try:
        return WorldModelConfig.from_dict({**statistics, **values})
    except (ValueError, TypeError) as error:
        raise ConfigError(f"model: {error}") from error


def make_world_model(config: DictConfig, dataset: Any) -> Any:
    """A world model for this dataset, with its first weights. Raises ConfigError when they do not match."""
    import torch

    from latent_planner.envs.gym.names import as_recorded
    from latent_planner.model.world_model import WorldModel

    if dataset.env not in (None, as_recorded(config.env.name)):  # others' recordings do not say
        raise ConfigError(f"{dataset.name} was recorded in {dataset.env}: say env={dataset.env}")
    (height, width), size = dataset.frame_size, config.model.image_size
    if (height, width) != (size, size):
        log.warning("%d x %d px frames are resized to %d px, every time they are read", height, width, size)
    torch.manual_seed(config.seed)
    own = {"env": config.env.name, "reference_look": bool(config.data.reference_look)}
    return WorldModel(model_config(config, {**dataset.statistics(), **own}))


def env_maker(config: DictConfig, image_size: int | None = None) -> Callable[[], Any]:
    """Makes the world, as the recording shows it, seen at the model's size unless another is given."""
    from latent_planner import envs

    size, reference_look = image_size or config.model.image_size, bool(config.data.reference_look)
    return partial(envs.make, config.env.name, image_size=size, reference_look=reference_look)


def evaluator(config: DictConfig) -> Callable[[Any], dict[str, Any]] | None:
    """Asked while training: how often does this model reach goals that are not the benchmark's?"""
    from latent_planner.agent import Agent
    from latent_planner.envs.goals import pairs
    from latent_planner.evaluation import benchmark

    if config.benchmark.validation_pairs < 1:
        return None
    goals = pairs.draw(config.env.name, config.benchmark.validation_pairs, VALIDATION_SEED)
    settings = planner_settings(config)

    def evaluate(world_model: Any) -> dict[str, Any]:
        device = next(world_model.parameters()).device
        agent = Agent(world_model, settings, device=device)
        result = benchmark.run(agent, env_maker(config), goals, progress=False, quick=True)
        low, high = result["interval"]
        return {"success": result["success"], "success_low": low, "success_high": high}

    return evaluate


def test(config: DictConfig, folder: Path, device: Any) -> dict[str, Any] | None:
    """The benchmark of the best model (None without pairs), and pictures of it and of the training."""
    from latent_planner import Agent
    from latent_planner.envs.goals import pairs
    from latent_planner.envs.gym.names import is_gym
    from latent_planner.evaluation import benchmark, plots, provenance, video

    rows, result = plots.read_rows(folder / "metrics.jsonl"), None
    if config.benchmark.pairs > 0:
        shown: list[video.Clip] = []
        large = None if is_gym(config.env.name) else env_maker(config, PANEL)().unwrapped.render_state
        result = benchmark.run(
            Agent.from_pretrained(folder, device=device),
            env_maker(config),
            pairs.load(config.env.name).first(config.benchmark.pairs),
            recordings=shown,
            record=config.benchmark.videos,
            draw=large,
        )
        provenance.write_json(folder / "benchmark.json", result)
        if shown:
            video.write_video(folder / "planned.mp4", video.tiled_frames(shown, panel=PANEL), fps=10)
    plots.plot_loss(rows, folder / "loss.png")
    plots.plot_success(rows, folder / "success.png", result)
    return result


def what_it_knows(folder: Path, device: Any, tracker: Any) -> None:
    """report.html and report.json in the run folder, and their figures to the tracker."""
    from latent_planner.report.page import pictures

    from .report import report_on

    made, _ = report_on(folder, device=device)
    with tracker:
        tracker.show(pictures(made))


def report(config: DictConfig, folder: Path, trained: dict[str, Any], result: dict[str, Any] | None) -> None:
    """What came out, in one short table, and what to do next."""
    from latent_planner.evaluation import plots

    steps, minutes, best = trained["steps"], trained["minutes"], trained["best_step"]
    print(f"\n{steps} steps in {minutes:.1f} minutes; the best model is that of step {best}")
    if result is not None:
        low, high = result["interval"]
        print(f"\ngoals reached   {result['success']:5.0%}   (95 % interval {low:.0%} to {high:.0%})")
        for name, floor in result["floors"].items():
            print(f"  {name:12s}  {floor['success']:5.0%}")
        print(f"one plan        {result['seconds_per_plan']['median']:5.2f} s")
    found = plots.probes(plots.read_rows(folder / "metrics.jsonl"))
    if found:
        print("\nread from the latent on held-out episodes, correlation r: linear, MLP")
        for quantity, scores in found.items():
            print(f"  {quantity:18s}  {scores['linear_r']:5.2f}  {scores['mlp_r']:5.2f}")
    print(
        f"\n{folder}/  " + "  ".join(sorted(path.name for path in folder.iterdir() if path.name != "wandb"))
    )
    if config.env.name == RECORDED:
        print(f"next: Agent.from_pretrained({str(folder)!r}) in your own program")
        return
    module = f" --module {config.module}" if config.module else ""
    print(f"next: python plan.py --make-goal goal.png --env {shlex.quote(config.env.name)}{module}")
    print(f"      python plan.py --goal goal.png --checkpoint {folder}{module}")
