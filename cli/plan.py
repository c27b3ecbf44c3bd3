"""Reach a goal image with a trained world model, and show what happened.

    python plan.py --make-goal goal.png              # write a goal image that can be reached
    python plan.py --goal goal.png                   # reach it: plan.mp4, plan.png, result.json
    python plan.py --goal goal.png --checkpoint runs/mine --seed 3 --budget 100
    python plan.py --goal goal.png planner=mppi planner.num_samples=100
    python plan.py --goal photo.jpg --anyway         # act even if it looks like nothing the model has seen
    python plan.py --goal goal.png --explain         # also draw how the plans came about: explain.png
    python plan.py --play --checkpoint two_room      # a page on which goals are set with the mouse
    python plan.py --benchmark --env two_room        # success on the fixed start/goal pairs
    python plan.py --benchmark --env two_room benchmark.offset=100   # on goals that are farther away
    python plan.py --benchmark --env pusht benchmark.offset=75 benchmark.budget=90   # in so many steps
    python plan.py --benchmark --env pusht benchmark.strict=true     # also: held, and twice as near
    python plan.py --benchmark --env pusht benchmark.shift=color     # under a distribution shift
    python plan.py --make-goal goal.png --env gym:Pendulum-v1    # see docs/worlds/gym.md
    python plan.py --benchmark --checkpoint runs/mine benchmark.protocol=lewm data.path=expert.h5

The goal may be any image file of any size; an oblong one is squeezed into a square, as all frames are.
Planning uses the settings stored in the checkpoint; planner=NAME and planner.KEY=VALUE, as in
configs/planner/, change them.
benchmark.protocol=lewm is the published LeWM evaluation: starts and goals from the recording data.path.
"""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from latent_planner import Agent, envs
from latent_planner import goal_image as images
from latent_planner import looks as known_looks
from latent_planner.checkpoints import checkpoint, hub
from latent_planner.common.commands import in_words
from latent_planner.common.files import blame
from latent_planner.common.progress import Bar, log_above_bars
from latent_planner.envs.goals import made, recorded
from latent_planner.envs.goals import pairs as lists
from latent_planner.envs.gym.making import bring
from latent_planner.envs.recordings.samples import sample_frames
from latent_planner.envs.world import SHOWN as WHERE
from latent_planner.evaluation import benchmark as protocol
from latent_planner.evaluation import explain as explanation
from latent_planner.evaluation import reachability
from latent_planner.evaluation.attempt import RESULTS, Attempt, attempt, story, write_results
from latent_planner.evaluation.provenance import about_agent, write_json
from latent_planner.evaluation.sight import Sight
from latent_planner.evaluation.strict import held_line
from latent_planner.model.world_model import WorldModelConfig
from latent_planner.pixels import resize_picture
from latent_planner.planners import Plan

from .benchmark_words import OFFSET, PROTOCOL, SHIFT, SHOWN, STEPS, STRICT, YES, shows
from .goal_checks import as_the_model_sees, check_looks, warn_out_of_reach
from .overrides import ConfigError
from .plan_options import BUDGET, parse_options
from .planner_words import planner_settings
from .run_folder import file_name, new_folder
from .user_errors import USER_ERRORS

log = logging.getLogger(__name__)

GOAL_SIZE = 448  # px; seven times 64 and twice 224, so that averaging it down is exact area averaging
SCENE_SIZE = 384  # px, of a world in the video
LIBRARY = 8000  # recorded frames among which --explain looks for the nearest
FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
SAME_PICTURE = 1.0  # mean difference in grey levels that drawing at another size may cost


def main(argv: Sequence[str] | None = None) -> int:
    """The program; returns its exit code: 0 when it ran, 2 on a user error, 130 after Ctrl-C."""
    log_above_bars("warning: %(message)s")
    with in_words(*USER_ERRORS, system_error=where_else) as outcome:
        args = parse(sys.argv[1:] if argv is None else argv)
        bring(args.module)
        if args.make_goal is not None:
            make_goal(args)
        elif args.benchmark:
            benchmark(args)
        elif args.play:
            from .play.command import play  # which needs this module

            play([args.checkpoint or args.env or "pusht"], args.overrides, device=args.device, seed=args.seed)
        else:
            reach(args)
    return outcome.code


def where_else(error: OSError) -> str:
    """What is wrong with a file or folder, and what to do."""
    hint = "make room" if error.errno in FULL else "choose another place"
    return f"{blame(error)}; {hint} and run this again"


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Checked arguments; raises ConfigError."""
    return parse_options(argv, about=str(__doc__), worlds=envs.names())


def make_goal(args: argparse.Namespace) -> None:
    """Write a goal picture that a policy reached some env steps after a start that goes with it."""
    path, name, seed = Path(args.make_goal), args.env or "pusht", args.seed or 0
    if path.exists() and images.read_goal_text(path) is None:
        raise ConfigError(f"{path} is there already and was not made by --make-goal; choose another name")
    goal = made.make_goal(name, seed, image_size=GOAL_SIZE)
    images.write_goal(path, goal.pixels, goal.state, name, seed, start_state=goal.start, steps=made.OFFSET)
    print(f"{path}: a goal of {name}, {made.OFFSET} steps from its start")
    trained = "" if name in checkpoint.bundled() else " --checkpoint RUN"
    print(f"reach it with: python plan.py --goal {path}{trained}")


def load_agent(args: argparse.Namespace, env_name: str | None) -> tuple[Agent, dict[str, Any]]:
    """The agent of the checkpoint asked for, and {"name", "sha256"} of that. Raises the errors of both."""
    name, lewm = args.checkpoint or env_name or "pusht", args.settings.get(PROTOCOL) == "lewm"
    model, info = checkpoint.load(name, env=env_name, actions=args.settings.get("data.path"))
    words = ["planner=cem_lewm", *args.overrides] if lewm else args.overrides
    settings = planner_settings(words, info["planner"])
    if env_name is not None and model.config.env != env_name:
        raise ConfigError(f"checkpoint {name} is of the world {model.config.env}, not of {env_name}")
    context_len = 1 if lewm else None
    device = args.device or "auto"
    looks = known_looks.load(Path(info["path"]), info["sha256"])
    agent = Agent(model, settings, device=device, seed=args.seed, context_len=context_len, looks=looks)
    return agent, {"name": str(name), "sha256": info["sha256"]}


def world_of(agent: Agent) -> envs.World:
    """The world that the agent's model knows, as it learned to see it, with frames of its size."""
    if not envs.known(agent.config.env):
        raise ConfigError(f"the checkpoint is of {agent.config.env}, which is not a world here; use Agent")
    look = agent.config.reference_look
    config = agent.config
    shown: dict[str, Any] = {"cameras": config.cameras or None, "proprio": bool(config.proprio)}
    env = envs.make(config.env, image_size=config.image_size, reference_look=look, **shown)
    if config.proprio and tuple(env.proprio_names) != config.proprio:
        wanted = f"{', '.join(config.proprio)}, those of {config.env} {', '.join(env.proprio_names)}"
        raise ConfigError(f"the checkpoint's vector has {wanted}; choose a checkpoint of this world")
    size = env.action_size
    if size != agent.config.action_dim:
        wanted = f"{agent.config.action_dim} numbers, those of {agent.config.env} have {size}"
        raise ConfigError(f"the checkpoint's actions have {wanted}; choose a checkpoint of this world")
    if str(env.actions) != agent.config.action_space:
        wanted = agent.config.action_space or "numbers"
        raise ConfigError(
            f"the checkpoint's actions are {wanted}, those of {agent.config.env} {env.actions or 'numbers'}; "
            "choose a checkpoint of this world"
        )
    return env


def reach(args: argparse.Namespace) -> None:
    """Plan to the goal picture and write result.json, plan.png and plan.mp4."""
    text = images.read_goal_text(args.goal)
    if text is not None and not envs.known(text.env):
        log.warning("%s says it shows the world %s, which is unknown here", args.goal, text.env)
        text = None
    if text is not None and args.env not in (None, text.env):
        raise ConfigError(f"{args.goal} shows the world {text.env}, not {args.env}; leave --env out")
    agent, about = load_agent(args, args.env or (text.env if text else None))
    if args.explain and agent.config.several:
        raise ConfigError("--explain is for models of one camera; leave it out")
    env = world_of(agent)
    shown = images.read_goal(args.goal)
    height, width = shown.shape[:2]
    if height != width:
        message = "%s is not square (%d x %d): the model sees it squeezed into a square, as all frames"
        log.warning(message, args.goal, width, height)
    if text is not None and not fits(text, env, shown):
        log.warning("the state that %s carries is not the one it shows, so it is ignored", args.goal)
        text = None
    shown = as_the_model_sees(agent, env, shown, args.goal)
    if text is not None and agent.config.reference_look:  # the picture was drawn as our world looks
        shown = env.render_state(np.array(text.state))
    goal_seen = told_of(agent, env, shown, text)
    observation, success = start(args, env, text)
    judge = check_looks(args, agent, shown, observation["pixels"])
    print(f"planning to {args.goal} in {agent.config.env}, checkpoint {about['name']}, on {agent.device}")
    budget = args.budget or BUDGET
    agent.set_goal(goal_seen, steps=budget)
    most = reachability.load(checkpoint.find(about["name"]), about["sha256"])
    with Bar(total=budget, desc="planning", unit="step") as bar:
        on_step = partial(show_step, bar, partial(warn_out_of_reach, agent, most, shown))
        played = attempt(
            agent,
            env,
            observation,
            budget=budget,
            success=success,
            on_step=on_step,
            judge=judge,
            within=env.within_limits if isinstance(env, envs.World) else None,
        )
    print("\n".join([*story(played, most), *computed_with(agent)]))
    goal = {"goal": str(args.goal), "goal_state": list(text.state) if text else None, "seed": agent.seed}
    notes = {"env": agent.config.env, "checkpoint": about, **goal, **about_agent(agent)}
    folder = out_folder(args.out, Path(args.goal).stem)
    draw = painter(args, agent, played, text)
    write_results(folder, played, shown, notes, render=draw, fps=env.control_hz)
    for name, what in RESULTS.items():
        print(f"{folder / name}: {what}")
    if args.explain:
        explain(args, agent, played, shown, folder, draw)


def told_of(agent: Agent, env: envs.World, shown: np.ndarray, text: images.GoalText | None) -> Any:
    """The goal as the agent takes it. A model of several cameras gets what all of them would show, where the
    world knows the goal, and else the picture as that of its first camera. Resets the env."""
    if not agent.config.several:
        return shown
    if text is not None:
        options = {"goal_state": np.array(text.state)} if env.settable_states else {}
        info = env.reset(seed=text.seed, options=options)[1]
        if np.allclose(info["goal_state"], text.state, rtol=1e-6, atol=1e-6):
            return Sight(agent.config).goal_of(info)
    return {agent.config.cameras[0]: shown}


def computed_with(agent: Any) -> list[str]:
    """A line on the threads that plans got, where that was a choice."""
    return [f"plans were computed with {agent.threads}"] if agent.threads.most > 1 else []


def painter(
    args: argparse.Namespace, agent: Agent, played: Attempt, text: images.GoalText | None
) -> Callable[[np.ndarray], np.ndarray]:
    """State (S,) of the attempt -> its frame, as large as the video shows it."""
    look = agent.config.reference_look
    scene = envs.make(agent.config.env, image_size=SCENE_SIZE, reference_look=look)
    if scene.settable_states:
        return scene.render_state
    # all of it is played once more
    seen = [start(args, scene, text)[0], *(scene.step(action)[0] for action in played.actions)]
    frames = {state.tobytes(): obs["pixels"] for state, obs in zip(played.states, seen)}
    return lambda state: frames[state.tobytes()]


def explain(
    args: argparse.Namespace,
    agent: Agent,
    played: Attempt,
    goal: np.ndarray,
    folder: Path,
    draw: Callable[[np.ndarray], np.ndarray],
) -> None:
    """Draw explain.png: the search, the imagined paths beside what happened, the time."""
    if not played.plans:
        print("nothing was planned, so there is nothing to explain")
        return
    name, size = agent.config.env, agent.config.image_size
    slow = size >= 128 or envs.world_class(name).slow_to_draw
    count = LIBRARY // 8 if slow else LIBRARY
    library = explanation.Library.of(agent, sample_frames(name, count, size, args.recording))
    path = folder / explanation.PICTURE
    explanation.write_explanation(path, agent, played, library, goal, render=draw)
    print(f"{path}: how the plans came about")


def fits(text: images.GoalText, env: envs.World, shown: np.ndarray) -> bool:
    """Whether the picture shows the state that its text names: somebody may have painted in it."""
    try:
        check_state(env, text.state, "the goal's state")
        if text.start_state is not None:
            check_state(env, text.start_state, "the goal's start")
    except ConfigError:
        return False
    if not env.settable_states:  # so none can be drawn
        return True
    plain = envs.make(text.env, image_size=env.image_size)
    drawn = plain.render_state(np.array(text.state)).astype(float)
    return float(np.abs(drawn - resize_picture(shown, len(drawn))).mean()) < SAME_PICTURE


def check_state(env: envs.World, state: Sequence[float], name: str) -> None:
    """Raise ConfigError unless the env can be in this state."""
    names = env.state_names
    if len(state) != len(names):
        raise ConfigError(f"{name} must be {len(names)} numbers ({', '.join(names)}), not {len(state)}")
    for value, low, high, label in zip(state, env.state_low, env.state_high, names):
        if not low <= value <= high:
            raise ConfigError(f"{name} has {label} = {value:g}; it must lie between {low:g} and {high:g}")


def start(
    args: argparse.Namespace, env: envs.World, text: images.GoalText | None
) -> tuple[dict[str, Any], bool | None]:
    """Reset the env: first observation, and whether that is at the goal (None: the goal has no state)."""
    options: dict[str, Any] = {"goal_state": np.array(text.state)} if text else {}
    if args.state is not None:
        try:
            state = [float(word) for word in args.state.replace(",", " ").split()]
        except ValueError:
            raise ConfigError(f"--state {args.state} is not a list of numbers such as 100,200") from None
        check_state(env, state, "--state")
        options["state"] = np.array(state)
    elif args.seed is None and text is not None and text.start_state is not None:
        options["state"] = np.array(text.start_state)
    own = text.seed if text and text.start_state is None else None  # of a world without settable states
    observation, info = env.reset(seed=own or 0 if args.seed is None else args.seed, options=options)
    return observation, bool(info["success"]) if text else None


def show_step(bar: Bar, look_at: Callable[[Plan], None], so_far: Attempt) -> None:
    """Move the progress bar to this step; look_at gets the first plan."""
    bar.set_postfix(distance=f"{so_far.distances[-1]:.3g}", refresh=False)
    bar.update(len(so_far.actions) - bar.n)
    if len(so_far.actions) == 1:
        look_at(so_far.plans[0][1])


def out_folder(out: str | None, name: str) -> Path:
    """The folder asked for, or a new one in plans/ that nobody used before."""
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        return Path(out)
    return new_folder(Path("plans") / f"{file_name(name)}-{time.strftime('%Y%m%d-%H%M%S')}")


def recorded_pairs(args: argparse.Namespace, config: WorldModelConfig) -> lists.Pairs:
    """Start/goal pairs from the recording asked for, for a model of this config."""
    keys = {key: args.settings.get(f"data.{key}") for key in ("path", "camera", "state")}
    seed = recorded.SEED if args.seed is None else args.seed
    offset = int(args.settings.get(OFFSET, recorded.OFFSET))
    return recorded.load(
        **keys, name=config.env, seed=seed, reference_look=config.reference_look, offset=offset
    )


def held_out_pairs(args: argparse.Namespace, name: str) -> lists.Pairs:
    """The world's fixed start/goal pairs, or fresh ones, as the words ask."""
    offset = int(args.settings.get(OFFSET, lists.OFFSET))
    if args.pairs_seed is not None:
        pairs = lists.draw(name, args.pairs or lists.COUNT, args.pairs_seed, offset)
    else:
        pairs = lists.load(name, offset=offset)
    if SHIFT not in args.settings:
        return pairs
    return lists.shifted(pairs, args.settings[SHIFT], args.settings.get(SHOWN, WHERE[0]))


def benchmark(args: argparse.Namespace) -> None:
    """Run the protocol, ours on the world's fixed pairs, and write what came out as JSON."""
    (agent, about), lewm = load_agent(args, args.env), args.settings[PROTOCOL] == "lewm"
    if lewm and args.pairs_seed is not None:
        raise ConfigError("--pairs-seed has no meaning with benchmark.protocol=lewm; leave it out")
    pairs = recorded_pairs(args, agent.config) if lewm else held_out_pairs(args, agent.config.env)
    if args.pairs is not None:
        if args.pairs > len(pairs.start):
            raise ConfigError(f"--pairs {args.pairs}: there are only {len(pairs.start)}; or add --pairs-seed")
        pairs = pairs.first(args.pairs)
    if STEPS in args.settings:
        pairs = replace(pairs, budget=int(args.settings[STEPS]))
    count, name = len(pairs.start), agent.config.env
    print(
        f"{count} start/goal pairs of {name}, {pairs.offset} steps apart, {pairs.budget} to get there, "
        f"checkpoint {about['name']}, on {agent.device}"
    )
    if pairs.vary:
        where = "" if pairs.shown == WHERE[0] else f", shown in the {pairs.shown} alone"
        print(f"shifted: every episode draws {', '.join(pairs.vary)}{where}")
    if lewm and agent.config.several:
        raise ConfigError("benchmark.protocol=lewm is for models of one camera; leave it out")
    strict = YES[args.settings.get(STRICT, "false")]
    asked = shows(args.settings) | {"strict": strict}
    result = protocol.run(agent, lambda: world_of(agent), pairs, seed=args.seed or 0, **asked)
    rules = {"name": args.settings[PROTOCOL], "in_distribution": lewm, "changed": args.overrides}
    if lewm:
        changed = f", changed by {' '.join(args.overrides)}" if args.overrides else ""
        print(f"LeWM's protocol{changed}: in-distribution, the recording may be what the model learned from")
    if agent.config.several:
        seen, goal = (", ".join(result[key]) for key in ("senses", "goal_shows"))
        print(f"the agent sees {seen}; a goal shows {goal}")
    low, high = result["interval"]
    print(f"success {result['success']:.0%} of {count} goals (95 % interval {low:.0%} to {high:.0%})")
    if strict:
        print(f"  {held_line(result)}")
    for kind, label in (("random", "random actions"), ("still", "standing still")):
        print(f"  {label}: {result['floors'][kind]['success']:.0%}")
    print(f"one plan takes {result['seconds_per_plan']['median']:.2f} s (median)")
    print("".join(f"{line}\n" for line in computed_with(agent)), end="")
    home, file = checkpoint.find(about["name"]), "benchmark-lewm.json" if lewm else "benchmark.json"
    shared = about["name"] in checkpoint.bundled() or hub.is_remote(about["name"])
    if args.out is not None or shared or os.path.lexists(home / file) or not os.access(home, os.W_OK):
        home = out_folder(args.out, f"benchmark-{name}")
    path = write_json(home / file, {"checkpoint": about, "protocol": rules, **result})
    print(f"{path}: every outcome")
