"""A robot that goes to where a picture shows it, in the loop a real one would run. It needs no simulator:

    python examples/robot_loop.py

Camera and Arm stand in for your drivers; put yours there and keep the rest. The arm is a gantry that moves a
red gripper over a table with a wall and a gap in it, seen from above, which is what the bundled model
"two_room" knows. A model of your own robot is trained on a recording of it (docs/own-recordings.md).
"""

import time

import numpy as np

from latent_planner import Agent

HZ = 10  # control steps a second, as in the recording that the model learned from
STEPS = 60  # of them to get there
NEAR = 2.0  # latent distance at which the picture counts as reached: watch it once, then choose


class Arm:
    """The fake driver: an action (2,) in [-1, 1] moves the gripper by up to 5 mm along each axis."""

    def __init__(self, x: float, y: float) -> None:
        self.place = np.array([x, y])  # mm, on a table of 224

    def move(self, action: np.ndarray) -> None:
        x, y = np.clip(self.place + 5 * action, 21, 203)
        blocked = 100 < x < 124 and not 33 < y < 65  # by the wall
        self.place = np.array([self.place[0] if blocked else x, y])

    def stop(self) -> None:
        """On a real arm: hold still. It is called however the loop ends."""


class Camera:
    """The fake driver: the next picture, uint8 (H, W, 3), RGB, cut and sized as in the model's recording."""

    def __init__(self, arm: Arm) -> None:
        self.arm = arm

    def read(self) -> np.ndarray:
        scene = np.full((448, 448, 3), 255.0)  # two pixels a mm
        for edge in (20, 420):
            scene[edge : edge + 8], scene[:, edge : edge + 8] = 0, 0
        scene[:70, 214:236], scene[128:, 214:236] = 0, 0  # the wall and its gap
        rows, columns = np.mgrid[:448, :448] / 2 - 0.25
        red = np.exp(-((columns - self.arm.place[0]) ** 2 + (rows - self.arm.place[1]) ** 2) / 98)[..., None]
        scene = scene * (1 - red) + 255 * red * [1, 0, 0]
        return (scene.reshape(64, 7, 64, 7, 3).mean(axis=(1, 3)) + 0.5).astype(np.uint8)


def main(deadline: float | None = 0.8 / HZ) -> float:
    """Go there, planning within `deadline` seconds; returns how many mm from there the gripper ended."""
    there, arm = Arm(150, 90), Arm(75, 70)
    goal = Camera(there).read()  # in life: a photograph of the arm where it should be
    camera = Camera(arm)

    agent = Agent.from_pretrained("two_room", deadline=deadline)  # in time, if it can be
    agent.set_goal(goal, steps=STEPS)
    try:
        for step in range(STEPS):
            due = time.monotonic() + 1 / HZ
            picture = camera.read()
            distance = agent.latent_distance(picture)
            if step % 10 == 0:
                print(f"step {step:2d}: latent distance {distance:5.2f}")
            if distance < NEAR:
                break
            arm.move(agent.act(picture))  # always inside the bounds of the recording
            time.sleep(max(0.0, due - time.monotonic()))
    finally:
        arm.stop()
    missed = float(np.linalg.norm(arm.place - there.place))
    print(f"at step {step} the gripper is {missed:.0f} mm from where the picture shows it")
    return missed


if __name__ == "__main__":
    main()
