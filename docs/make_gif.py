"""Draw docs/pusht.gif: the bundled PushT model on three goals of the benchmark, the goal next to the scene.

python docs/make_gif.py
"""

from pathlib import Path

from latent_planner import Agent, envs
from latent_planner.envs.goals import pairs
from latent_planner.evaluation.attempt import attempt
from latent_planner.evaluation.video import Clip, episode_frames, held, write_gif

GOALS = (50, 99, 17)  # of the fixed list: the block has to move 130 px or more and turn by 60 to 80 degrees
WIDTH = 560  # px
HOLD = 12  # frames for which the end of an episode stays


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
    out = write_gif(Path(__file__).parent / "pusht.gif", frames, 10.0, width=WIDTH)
    print(f"{out}: {out.stat().st_size / 1e6:.2f} MB, {len(frames)} frames")


if __name__ == "__main__":
    main()
