"""A MiniGrid room as a world: three choices (left, right, forward), goals from pictures of the room.

    pip install minigrid
    cd examples                                              # where the module is found
    python ../train.py env=gym module=mini_grid env.id=MiniGridRoom-v0 env.goal=[0,1] env.policy=random \\
        env.past_end=true env.length=60 model.frameskip=1 planner.horizon=12
    python ../plan.py --benchmark --checkpoint runs/RUN --module mini_grid

MiniGrid observes a coded view, a direction and a text. Here the state is the agent's cell and direction
instead, so that a goal is reached when the agent stands where the picture shows it.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import minigrid  # noqa: F401  registers its worlds
import numpy as np
from gymnasium import spaces

ID = "MiniGridRoom-v0"


class Room(gymnasium.Wrapper):
    """MiniGrid's empty room with the agent's column, row and direction as the observation."""

    def __init__(self, **options: Any) -> None:
        room = "MiniGrid-Empty-Random-6x6-v0"
        super().__init__(gymnasium.make(room, max_episode_steps=-1, highlight=False, **options))
        self.observation_space = spaces.Box(0.0, 8.0, (3,))
        self.action_space = spaces.Discrete(3)

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        info = super().reset(**options)[1]
        return self._place(), info

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        _, reward, ended, _, info = super().step(int(action))  # without MiniGrid's own limit of steps
        return self._place(), float(reward), ended, False, info

    def _place(self) -> np.ndarray:
        bare: Any = self.unwrapped
        return np.array([*bare.agent_pos, bare.agent_dir], np.float32)


if ID not in gymnasium.registry:
    gymnasium.register(ID, entry_point=Room)
