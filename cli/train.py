"""Train an agent on a world: record it, learn a world model, run the benchmark, in one run folder.

    python train.py env=pusht                          # half an hour on two cores
    python train.py env=two_room                       # ten minutes
    python train.py env=pusht data.path=my.h5 train.minutes=60
    python train.py env=gym env.id=Pendulum-v1         # any Gymnasium environment, see docs/worlds/gym.md
    python train.py env=recorded data.path=my.h5       # a recording of your own, see docs/own-recordings.md
    python train.py env=pusht rounds=3                 # with practice in between, see docs/rounds.md
    python train.py data.path=videos.h5 data.actions=none     # from frames alone, see docs/few-actions.md
    python train.py data.path=my.h5 start=runs/RUN     # then actions of some episodes make a planner of it
    python train.py env=two_room play=true             # a page shows the run as it learns: docs/play.md
    python train.py model=lewm train.minutes=240       # the published architecture, for a GPU
    python train.py resume=runs/RUN                    # continue a run that was stopped
    python train.py -m seed=0,1,2                      # a sweep, one table at the end; --dry prints it
    python train.py -m seed=0,1,2 engine=ray           # its runs on a Ray cluster: docs/scale.md
    accelerate launch train.py env=pusht               # several processes

Settings are written key=value. env, model and planner choose a file in configs/; all others are listed below.
"""

from __future__ import annotations

import copy
import logging
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from latent_planner import Agent, envs
from latent_planner.common.commands import in_words
from latent_planner.common.engines.engine import Engine
from latent_planner.common.progress import log_above_bars
from latent_planner.envs.goals import pairs
from latent_planner.envs.gym import names as gym_names
from latent_planner.envs.gym.making import bring
from latent_planner.envs.recordings.columns import memory
from latent_planner.evaluation import benchmark, plots, provenance, video
from latent_planner.evaluation.sight import Sight
from latent_planner.evaluation.strict import held_line
from latent_planner.model.world_model import WorldModel, WorldModelConfig
from latent_planner.report.page import pictures
from latent_planner.settings import AgentSettings
from latent_planner.training.dataset import WindowDataset
from latent_planner.training.optimization import training_device
from latent_planner.training.robust.learn import check_teachable
from latent_planner.training.run_state import LOCK, alone_in
from latent_planner.training.tracker import Tracker
from latent_planner.training.train_config import TrainConfig
from latent_planner.training.trainer import Trainer

from . import rounds
from .overrides import DRY, ConfigError, checked, listing
from .play.command import need_websockets
from .play.training import FILMED, watched
from .recording import RECORDED, open_recording, varied, warn_of_short_sight, world_options
from .reporting import report_on
from .run_folder import check_free, resumed, run_folder
from .scale import sweep
from .upkeep import few_actions, looks, robust
from .user_errors import USER_ERRORS

log = logging.getLogger(__name__)

ANY_WORLD = {"env": "any", "action_mean": (0,), "action_std": (1,), "action_low": (-1,), "action_high": (1,)}
ANY_WORLD |= {"pixel_mean": (0, 0, 0), "pixel_std": (1, 1, 1)}
ENOUGH = 50  # steps that a training needs at least, as does what follows when the encoder is frozen
WEIGHTS_HELD = 4  # while training: weights, gradients, and two moments
PANEL = 160  # px of a world in the video
GYM = "gym"  # the env that stands for all of Gymnasium's
VALIDATION_SEED = 1_000_003  # of the goals planned to while training; the benchmark has others


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line. Returns 0, 2 on a user error, or 130 after Ctrl-C."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(arguments):
        print(f"{__doc__}\n{listing()}", end="")
        return 0
    log_above_bars("%(message)s", logging.INFO)
    for noisy in ("absl", "accelerate", "hydra", "matplotlib", "OpenGL", "PIL", "wandb"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    before = sys.argv
    try:
        with in_words(*USER_ERRORS) as outcome:
            where = [word for word in arguments if Engine.is_word(word)]
            words = checked([word for word in arguments if word not in where])
            if where and not sweep.is_sweep(words):
                raise ConfigError(f"{where[0]} says where the runs of a sweep go: add -m, or leave it out")
            if DRY in words:
                print("\n".join(map(sweep.command, sweep.jobs(words))))
                return 0
            folder = None
            if sweep.is_sweep(words):
                words, folder = sweep.with_folder(words)
            if folder is not None and where:
                sweep.run_on(Engine.from_words(where), words, folder, main)
            else:
                sys.argv = [sys.argv[0], *words]
                job()
            if folder is not None and sweep.report(words, folder, where):
                return 2
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return outcome.code


@hydra.main(version_base="1.3", config_path="pkg://latent_planner.configs", config_name="config")
def job(config: DictConfig) -> None:
    """One run: with the settings that Hydra composed, or with those of the run to resume."""
    with in_words(*USER_ERRORS, system_error=nothing_lost) as outcome:  # Hydra would print a traceback
        if sweep.in_sweep():
            sweep.run_one(config, train)
        else:
            train(resumed(config, HydraConfig.get().overrides.task) if config.resume else config)
    if outcome.code and not (sweep.in_sweep() and outcome.code == 2):  # the other runs of a sweep go on
        raise SystemExit(outcome.code)


def nothing_lost(error: OSError) -> str:
    """What is wrong with a file or disk, and that the run can go on."""
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{where}; what the run saved before is kept"


def train(config: DictConfig) -> Path:
    """Recording, dataset, world model, training, benchmark, in this order. Returns the run folder.

    Until it ends, no other process may train in that folder.
    """
    with ExitStack() as locks:
        return _train(config, locks)


def _train(config: DictConfig, locks: ExitStack) -> Path:
    check_free(config)
    if config.play:
        need_websockets()
        if config.data.cameras or config.data.proprio:
            raise ConfigError("the page shows runs of one camera: leave out play, or cameras and proprio")
    config = settled(config, few_actions.settings(config))
    device = training_device(config.device)
    settings, planner = train_config(config), planner_settings(config)
    model_config(config, ANY_WORLD)  # report mistakes in it before anything is collected
    bring(config.module)
    config = settled(config, {"env.name": world_name(config)})
    start = few_actions.start_model(config, device)
    check_world(config, planner)
    rounds.check(config)
    processes = PartialState()
    first = processes.is_main_process  # the one that speaks and writes
    logging.getLogger().setLevel(logging.INFO if first else logging.ERROR)
    if first and config.resume:
        locks.enter_context(alone_in(Path(config.resume)))

    with processes.main_process_first():
        reader, decided = open_recording(config)
    config = settled(config, decided)
    dataset_of = partial(
        WindowDataset,
        num_frames=settings.num_frames,
        frameskip=config.model.frameskip,
        held_out=config.data.held_out,
        seed=config.seed,
        device=device,
        looks=varied(config) is not None,
        progress=first,
    )
    source = few_actions.source(config, reader, start, dataset_of, first=first)
    reader = source.reader
    # a run that goes on in a later round takes only statistics from the recording alone
    dataset = [dataset_of(reader, memory_gb=0 if rounds.over(config) else config.data.memory_gb)]
    world_model = make_world_model(config, dataset[0], start)
    if config.data.vary:
        check_teachable(world_model.config)
    check_senses(config, world_model.config)
    if not world_model.config.latent_actions:
        planner.change_limit(world_model.config.action_dim)
    warn_of_short_sight(config, dataset[0].control_hz)
    folder = Path(broadcast_object_list([str(run_folder(config)) if first else ""])[0])
    if first:
        locks.enter_context(alone_in(folder))
        source.keep(folder)
    size = sum(parameter.numel() for parameter in world_model.parameters()) / 1e6
    log.info("%s: %.1f million parameters on %s, run folder %s", config.env.name, size, device, folder)

    page = locks.enter_context(watched(folder, world_model)) if first and config.play else None
    evaluate = evaluator(config, None if page is None else page.plans)
    plain: Any = OmegaConf.to_container(config, resolve=True)
    mode = config.wandb.mode if first else "disabled"
    with Tracker(folder, mode=mode, project=config.wandb.project, settings=plain) as tracker:
        note = tracker.log if page is None else page.after(tracker.log)
        trainer_of = partial(
            Trainer,
            world_model,
            config=settings,
            run_dir=folder,
            evaluate=evaluate,
            log=note,
            planner=planner,
            encoder_done=start is not None,
            progress=first,
        )
        make_world = partial(env_maker, config)
        in_rounds = rounds.Rounds(
            config, folder, reader, world_model, planner, dataset_of, trainer_of, make_world, note
        )
        trainer, trained = in_rounds.fit(dataset)
        reader = in_rounds.reader
        if first and config.data.vary:
            robust.learn_at_the_end(folder, trainer.dataset, settings, trainer.note, evaluate)
    if page is not None:
        page.note(f"The training is over; the tests follow. The model is in {folder}.")
    if first and not reader.cameras:  # looks are those of one camera
        looks.write(folder, reader)
    reader.close()
    if first:
        result = test(config, folder, device)
        if config.report and reader.cameras:
            log.warning("no report: it is made for models of one camera")
        elif config.report:
            what_it_knows(folder, device, tracker)
        report(config, folder, trained, result)
    return folder


def world_name(config: DictConfig) -> str:
    """What recording and checkpoint call the world: env.name, or of env=gym what env.id and others say."""
    env = config.env
    if env.name != GYM:
        return env.name
    if env.id is None:
        raise ConfigError("env=gym needs to know which environment: say env.id=, as in env.id=Pendulum-v1")
    return gym_names.compose(env.id, **{key: env[key] for key in ("tolerance", "goal", "past_end", "plain")})


def check_world(config: DictConfig, planner: AgentSettings) -> None:
    """Raise ConfigError or PlanError for settings that do not go with the world, before it is recorded."""
    if config.env.name == RECORDED:
        if config.benchmark.pairs or config.benchmark.validation_pairs:
            raise ConfigError("env=recorded has no world to test in: leave out benchmark.pairs and the like")
    elif config.data.cameras or config.data.proprio:
        env_maker(config)().close()  # which has these cameras, and this vector
    if config.env.name != RECORDED and not isinstance(planner.max_change, (int, float, type(None))):
        world = env_maker(config)()
        planner.change_limit(world.action_size)
        world.close()


def check_senses(config: DictConfig, model: WorldModelConfig) -> None:
    """Raise ConfigError or PlanError where the benchmark would show what the world or the model does not."""
    Sight(model, config.benchmark.senses, config.benchmark.goal)
    if config.env.name == RECORDED or not model.proprio:
        return
    with closing(env_maker(config)()) as world:
        if tuple(world.proprio_names) != model.proprio:
            raise ConfigError(
                f"the vector {config.data.proprio} of this recording holds {', '.join(model.proprio)}, and "
                f"that of {config.env.name} {', '.join(world.proprio_names)}: leave data.proprio out, or say "
                f"env={RECORDED}"
            )


def train_config(config: DictConfig) -> TrainConfig:
    """config.train with one budget, the seed, and windows as long as the context asks."""
    values = {**config.train, "seed": config.seed, "num_frames": config.model.context_len + 1}
    if values["steps"] is not None:
        values["minutes"] = None
    return TrainConfig(**values)


def planner_settings(config: DictConfig) -> AgentSettings:
    """What the checkpoint will say about planning; PlanError where that makes no sense."""
    own: Any = OmegaConf.to_container(config.planner)
    return AgentSettings.from_dict({"num_elites": 1, **own})  # for planners that have no elites


def settled(config: DictConfig, values: Mapping[str, Any]) -> DictConfig:
    """A copy of the configuration in which these keys, such as "data.path", have these values."""
    config = copy.deepcopy(config)
    for key, value in values.items():
        OmegaConf.update(config, key, value)
    return config


def model_config(config: DictConfig, statistics: Mapping[str, Any]) -> WorldModelConfig:
    """config.model, and what a dataset's `statistics()` says of actions and pixels."""
    values = {key: value for key, value in config.model.items() if key != "name"}
    try:
        return WorldModelConfig.from_dict({**statistics, **values})
    except (ValueError, TypeError) as error:
        raise ConfigError(f"model: {error}") from error


def make_world_model(config: DictConfig, dataset: WindowDataset, start: WorldModel | None) -> WorldModel:
    """A world model for this dataset, with its first weights, and the encoder of the model to start from.
    Raises ConfigError when they do not match."""
    if dataset.env not in (None, gym_names.as_recorded(config.env.name)):  # others' recordings do not say
        raise ConfigError(f"{dataset.name} was recorded in {dataset.env}: say env={dataset.env}")
    (height, width), size = dataset.frame_size, config.model.image_size
    if (height, width) != (size, size):
        log.warning("%d x %d px frames are resized to %d px, every time they are read", height, width, size)
    own = {"env": config.env.name, "reference_look": bool(config.data.reference_look)}
    own |= few_actions.model_settings(config)
    wanted = few_actions.adapted(model_config(config, {**dataset.statistics(), **own}), start, config.start)
    check_room(wanted)
    torch.manual_seed(config.seed)
    world_model = WorldModel(wanted)
    if start is not None:
        world_model.encoder.load_state_dict(start.encoder.state_dict())
    return world_model


def check_room(wanted: WorldModelConfig) -> None:
    """Raise ConfigError for a model whose training needs more memory than this machine has."""
    try:
        with torch.device("meta"):  # asks for no memory
            count = sum(parameter.numel() for parameter in WorldModel(wanted).parameters())
    except RuntimeError as error:
        raise ConfigError(f"model: its sizes are larger than any machine has room for ({error})") from error
    if WEIGHTS_HELD * 4 * count > memory():
        raise ConfigError(
            f"model: training {count / 1e6:,.0f} million parameters needs more memory than this machine has: "
            "choose a smaller model"
        )


def env_maker(config: DictConfig, image_size: int | None = None) -> Callable[[], envs.World]:
    """Makes the world, as the recording shows it, seen at the model's size unless another is given."""
    size, reference_look = image_size or config.model.image_size, bool(config.data.reference_look)
    options = {"image_size": size, "reference_look": reference_look, **world_options(config.data)}
    return partial(envs.make, config.env.name, **options)


def shows(config: DictConfig) -> dict[str, Any]:
    """What an agent is shown in the benchmark, for `benchmark.run`."""
    asked = config.benchmark
    return {"senses": asked.senses, "goal": asked.goal, "history": asked.history}


def evaluator(
    config: DictConfig, show: Callable[[list[video.Clip], float], None] | None = None
) -> Callable[[WorldModel], dict[str, Any]] | None:
    """Asked while training: how often does this model reach goals that are not the benchmark's?

    show: gets the first episodes, and the share that reached its goal.
    """
    if config.benchmark.validation_pairs < 1:
        return None
    goals = pairs.draw(config.env.name, config.benchmark.validation_pairs, VALIDATION_SEED)
    settings = planner_settings(config)

    def evaluate(world_model: WorldModel) -> dict[str, Any]:
        device = next(world_model.parameters()).device
        agent = Agent(world_model, settings, device=device)
        clips: list[video.Clip] | None = None if show is None else []
        result = benchmark.run(
            agent, env_maker(config), goals, progress=False, quick=True, recordings=clips, record=FILMED,
            **shows(config),
        )  # fmt: skip
        if show is not None and clips:
            show(clips, result["success"])
        low, high = result["interval"]
        return {"success": result["success"], "success_low": low, "success_high": high}

    return evaluate


def test(config: DictConfig, folder: Path, device: torch.device) -> dict[str, Any] | None:
    """The benchmark of the best model (None without pairs), and pictures of it and of the training."""
    rows, result = plots.read_rows(folder / "metrics.jsonl"), None
    if config.benchmark.pairs > 0:
        shown: list[video.Clip] = []
        settable = envs.world_class(config.env.name).settable_states
        large = env_maker(config, PANEL)().render_state if settable else None
        try:
            result = benchmark.run(
                Agent.from_pretrained(folder, device=device),
                env_maker(config),
                pairs.load(config.env.name).first(config.benchmark.pairs),
                recordings=shown,
                record=config.benchmark.videos,
                draw=large,
                strict=config.benchmark.strict,
                **shows(config),
            )
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped in the benchmark; the trained model is in {folder}, and to go on: "
                f"python train.py resume={shlex.quote(str(folder))}"
            ) from None
        provenance.write_json(folder / "benchmark.json", result)
        if shown:
            video.write_video(folder / "planned.mp4", video.tiled_frames(shown, panel=PANEL), fps=10)
    plots.plot_loss(rows, folder / "loss.png")
    if plots.plot_success(rows, folder / "success.png", result) is None:
        log.info("no success.png: no goal was planned to, neither while training nor at the end")
    return result


def too_short(steps: int, frozen: int | None) -> str:
    """What to say of a training that cannot have learned anything; nothing of others.

    frozen: the step at which the encoder was.
    """
    if min(steps, steps - (frozen or 0)) >= ENOUGH:
        return ""
    part = "" if frozen is None else f"the encoder was frozen at step {frozen}, "
    return f"{part}too few to have learned anything: give it more time"


def what_it_knows(folder: Path, device: torch.device, tracker: Tracker) -> None:
    """report.html and report.json in the run folder, and their figures to the tracker."""
    made, _ = report_on(folder, device=device)
    with tracker:
        tracker.show(pictures(made))


def report(config: DictConfig, folder: Path, trained: dict[str, Any], result: dict[str, Any] | None) -> None:
    """What came out, in one short table, and what to do next."""
    steps, minutes, best = trained["steps"], trained["minutes"], trained["best_step"]
    short = too_short(steps, trained["frozen"])
    print(f"\n{steps} steps in {minutes:.1f} minutes; {short or f'the best model is that of step {best}'}")
    if result is not None:
        low, high = result["interval"]
        print(f"\ngoals reached   {result['success']:5.0%}   (95 % interval {low:.0%} to {high:.0%})")
        if "strict" in result:
            print(f"  {held_line(result)}")
        for name, floor in result["floors"].items():
            print(f"  {name:12s}  {floor['success']:5.0%}")
        print(f"one plan        {result['seconds_per_plan']['median']:5.2f} s")
    found = plots.probes(plots.read_rows(folder / "metrics.jsonl"))
    if found:
        print("\nread from the latent on held-out episodes, correlation r: linear, MLP")
        for quantity, scores in found.items():
            print(f"  {quantity:18s}  {scores['linear_r']:5.2f}  {scores['mlp_r']:5.2f}")
    print(
        f"\n{folder}/  "
        + "  ".join(sorted(path.name for path in folder.iterdir() if path.name not in ("wandb", LOCK)))
    )
    if short and config.train.steps is None:
        more = f"train.minutes={10 * config.train.minutes:g}"
        print(f"next: python train.py resume={shlex.quote(str(folder))} {more}")
        return
    if config.data.actions == few_actions.NONE:
        start = shlex.quote(str(folder))
        print(f"next: python train.py env={config.env.name} data.path=RECORDING start={start}")
        return
    if config.env.name == RECORDED:
        print(f"next: Agent.from_pretrained({str(folder)!r}) in your own program")
        return
    module = f" --module {config.module}" if config.module else ""
    print(f"next: python plan.py --make-goal goal.png --env {shlex.quote(config.env.name)}{module}")
    print(f"      python plan.py --goal goal.png --checkpoint {folder}{module}")
