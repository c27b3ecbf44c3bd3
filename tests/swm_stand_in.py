"""As much of stable-worldmodel 0.1.1 as a policy meets, written anew: a World that resets, asks and steps.

infos hold arrays (n, 1, ...), the same dict at every step; after an episode's end its environment is reset
and `_needs_flush` says so, and stays in the dict.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from latent_planner import envs


class World:
    """starts, goals: states (E, S), one row an episode; episode e runs in environment e mod num_envs."""

    def __init__(
        self, name: str, num_envs: int, image_size: int, budget: int, starts: np.ndarray, goals: np.ndarray
    ) -> None:
        make = {
            "image_size": image_size,
            "reference_look": envs.world_class(name).reference_marker is not None,
        }
        self.envs = [envs.make(name, **make) for _ in range(num_envs)]
        self.num_envs, self.budget, self.starts, self.goals = num_envs, budget, starts, goals
        self.infos: dict[str, Any] = {}
        self.policy: Any = None

    def set_policy(self, policy: Any) -> None:
        self.policy = policy
        policy.set_env(self)

    def evaluate(self) -> dict[str, Any]:
        """All episodes, each for the budget at most: success_rate in percent and episode_successes."""
        count = len(self.starts)
        successes = np.zeros(count, bool)
        playing = list(range(self.num_envs))
        waiting = list(range(self.num_envs, count))
        self.infos = self._stacked([self._reset(i, episode) for i, episode in enumerate(playing)])
        running = np.ones(self.num_envs, bool)
        while running.any():
            actions = self.policy.get_action(self.infos)
            done = np.zeros(self.num_envs, bool)
            for i in np.flatnonzero(running):
                observation, _, _, _, info = self.envs[i].step(actions[i])
                self.infos["pixels"][i, 0] = observation["pixels"]
                self.infos["step_idx"][i, 0] += 1
                successes[playing[i]] |= info["success"]
                done[i] = info["success"] or self.infos["step_idx"][i, 0] == self.budget
            for i in np.flatnonzero(done):
                if not waiting:
                    running[i] = False
                    continue
                playing[i] = waiting.pop(0)
                fresh = self._reset(i, playing[i])
                for key, value in fresh.items():
                    self.infos[key][i, 0] = value
            if done.any():
                self.infos["_needs_flush"] = done
        return {"success_rate": 100 * successes.mean(), "episode_successes": successes}

    def _reset(self, i: int, episode: int) -> dict[str, Any]:
        options = {"state": self.starts[episode], "goal_state": self.goals[episode]}
        observation, _ = self.envs[i].reset(seed=0, options=options)
        # their goal picture has the look of every frame
        goal = self.envs[i].render_state(self.goals[episode])
        return {"pixels": observation["pixels"], "goal": goal, "step_idx": 0}

    @staticmethod
    def _stacked(infos: list[dict[str, Any]]) -> dict[str, Any]:
        return {key: np.stack([np.asarray(info[key]) for info in infos])[:, None] for key in infos[0]}
