"""Draw docs/pusht.gif: the bundled PushT model on three goals of the benchmark, the goal next to the scene.

python docs/make_gif.py
"""

from pathlib import Path

import numpy as np
from PIL import Image

from latent_planner import Agent, envs
from latent_planner.envs.goals import pairs
from latent_planner.evaluation.attempt import attempt
from latent_planner.evaluation.video import Clip, episode_frames, held

GOALS = (50, 99, 17)  # of the fixed list: the block has to move 130 px or more and turn by 60 to 80 degrees
SIZE = (560, 408)  # px
HOLD = 12  # frames for which the end of an episode stays
FRAME_MS = 100  # PushT runs at 10 Hz


def clip(agent: Agent, goals: pairs.Pairs, i: int) -> Clip:
    """One attempt at goal i, drawn large."""
    env = envs.make("pusht", image_size=agent.config.image_size)
    scene = envs.make("pusht", image_size=384)
    observation, info = env.reset(options={"state": goals.start[i], "goal_state": goals.goal[i]})
    agent.reset(seeds=[int(goals.seed[i])])
    agent.set_goal(info["goal"], steps=goals.budget)
    played = attempt(agent, env, observation, budget=goals.budget, success=bool(info["success"]))
    frames = [scene.render_state(state) for state in played.states]
    goal = scene.render_state(goals.goal[i])
    return Clip(frames, goal, played.distances, played.budget, played.reached_at)


def main() -> None:
    agent, goals = Agent.from_pretrained("pusht", device="cpu"), pairs.load("pusht")
    frames = [frame for i in GOALS for frame in held(episode_frames(clip(agent, goals, i)), HOLD)]
    small = [Image.fromarray(np.asarray(frame)).resize(SIZE, Image.Resampling.LANCZOS) for frame in frames]
    palette = Image.fromarray(np.concatenate([np.asarray(s) for s in small[:: HOLD + 1]])).quantize(64)
    first, *rest = [s.quantize(palette=palette, dither=Image.Dither.NONE) for s in small]
    out = Path(__file__).parent / "pusht.gif"
    first.save(out, save_all=True, append_images=rest, duration=FRAME_MS, loop=0, optimize=True)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, {len(frames)} frames")


if __name__ == "__main__":
    main()
