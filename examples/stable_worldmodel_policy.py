"""Drive an Agent inside a World of stable-worldmodel (0.1.x): a policy for `World.set_policy`.

    import stable_worldmodel as swm
    from stable_worldmodel_policy import LatentPlannerPolicy     # this file, in your program's folder

    world = swm.World("swm/PushT-v1", num_envs=4, image_shape=(224, 224), max_episode_steps=50)
    world.set_policy(LatentPlannerPolicy("pusht", steps=50))
    print(world.evaluate(episodes=50, seed=0)["success_rate"])

Or from a terminal, with stable-worldmodel[env] installed:

    python examples/stable_worldmodel_policy.py swm/PushT-v1 --checkpoint pusht --episodes 50

The model of PushT that comes with this project has not learned to see the green T that their default look
draws into every frame. It is painted away here, in frames and in goals.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from latent_planner import Agent, envs

Look = Callable[[np.ndarray], np.ndarray]  # frame uint8 (H, W, 3) -> the frame that the model knows


class LatentPlannerPolicy:
    """What a World asks of a policy: `set_env`, then `get_action` once a step for all of its environments.

    agent: an Agent, or what Agent.from_pretrained takes.
    steps: environment steps in which a goal is to be reached, such as the World's max_episode_steps; None:
        no limit.   look: brings frames and goals into the look that the model knows; default `look_of`.
    """

    def __init__(self, agent: Agent | str, *, steps: int | None = None, look: Look | None = None) -> None:
        self.agent = agent if isinstance(agent, Agent) else Agent.from_pretrained(agent)
        self.steps, self.look = steps, look or look_of(self.agent)
        self.env: Any = None
        self._goals: np.ndarray | None = None  # (n, H, W, 3), as the World gave them
        self._counts = np.zeros(0, int)  # steps into each episode, as far as the World counts them

    def set_env(self, env: Any) -> None:
        """Take the World's pool of environments: all episodes begin anew."""
        self.env, self._goals = env, None
        self.agent.reset()

    def get_action(self, info_dict: dict[str, Any], **_: Any) -> np.ndarray:
        """Actions float32 (n, A) for "pixels" and "goal" of info_dict, each uint8 (n, 1, H, W, 3)."""
        pixels, goals = _frames(info_dict, "pixels"), _frames(info_dict, "goal")
        self._begin_episodes(info_dict, goals)
        return self.agent.act(np.stack([self.look(frame) for frame in pixels]))

    def _begin_episodes(self, info_dict: dict[str, Any], goals: np.ndarray) -> None:
        """Forget the past and take the goal wherever an episode or a goal is new."""
        new = np.ones(len(goals), bool)
        counts = np.asarray(info_dict.get("step_idx", np.zeros(len(goals)))).reshape(len(goals), -1)[:, -1]
        flushed = info_dict.pop(
            "_needs_flush", None
        )  # taken out: the World would show it at later steps, too
        if self._goals is not None and self._goals.shape == goals.shape:
            new = (goals != self._goals).any(axis=(1, 2, 3)) | (counts < self._counts)
            if flushed is not None:
                new |= np.asarray(flushed, bool).reshape(-1)
        else:
            self.agent.reset()
        self._goals, self._counts = goals.copy(), counts.copy()
        if new.all():
            self.agent.reset()
            self.agent.set_goal(self._seen(goals), steps=self.steps)
        elif new.any():
            self.agent.reset(mask=new)
            self.agent.set_goal(self._seen(goals), steps=self.steps, mask=new)

    def _seen(self, frames: np.ndarray) -> np.ndarray:
        return np.stack([self.look(frame) for frame in frames])


def look_of(agent: Agent) -> Look:
    """Removes the marker that the published look of the agent's world draws, unless its model knows it."""
    name = agent.config.env
    if agent.config.reference_look or name not in envs.names():
        return lambda frame: frame
    return envs.world_class(name).without_reference_marker


def _frames(info_dict: Mapping[str, Any], key: str) -> np.ndarray:
    """The newest frame of each environment, uint8 (n, H, W, 3). ValueError for what is no such frame."""
    if key not in info_dict:
        raise ValueError(f"the World gives no {key!r}: make it with image_shape and a goal")
    frames = np.asarray(info_dict[key])
    frames = frames[:, -1] if frames.ndim == 5 else frames
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[-1] != 3:
        wanted = "uint8 (n, 1, H, W, 3): leave out image_transform and goal_transform"
        raise ValueError(f"{key!r} must be {wanted}, not {frames.dtype} {frames.shape}")
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description="success of an Agent in a World of stable-worldmodel")
    parser.add_argument("world", help="such as swm/PushT-v1")
    parser.add_argument("--checkpoint", required=True, help="bundled name, run folder or hf://owner/name")
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--num-envs", type=int, default=4)
    parser.add_argument("--budget", type=int, default=50, help="environment steps an episode")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    import stable_worldmodel as swm

    world = swm.World(
        args.world, num_envs=args.num_envs, image_shape=(224, 224), max_episode_steps=args.budget
    )
    world.set_policy(LatentPlannerPolicy(args.checkpoint, steps=args.budget))
    result = world.evaluate(episodes=args.episodes, seed=args.seed)
    print(f"success {result['success_rate']:.0f} % of {args.episodes} episodes")


if __name__ == "__main__":
    main()
