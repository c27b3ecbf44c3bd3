"""A program that plans loads what planning needs, and nothing else: each of these costs its user time."""

from __future__ import annotations

import json
import subprocess
import sys

from waiting import PATIENCE

# what training, recording, simulating, drawing and compiling need
NOT_NEEDED = {
    "PIL", "accelerate", "cv2", "gymnasium", "h5py", "huggingface_hub", "hydra", "imageio", "matplotlib",
    "mpmath", "mujoco", "numpy.ma", "omegaconf", "onnx", "pandas", "pyarrow", "pygame", "pymunk", "scipy",
    "sympy", "torch._dynamo", "torch._inductor", "torch.onnx", "torch.utils.tensorboard", "torchvision",
    "wandb", "websockets", "yaml",
}  # fmt: skip

PROGRAM = """
import gc, json, sys
import numpy as np, torch
before = set(sys.modules)
from latent_planner import Agent
agent = Agent.from_pretrained("pusht", device="cpu")
frame = np.full((64, 64, 3), 250, np.uint8)
agent.set_goal(frame)
agent.act(frame)
planning = sorted(set(sys.modules) - before)

from latent_planner.checkpoints import lewm
from latent_planner.model.world_model import WorldModel, WorldModelConfig
actions = {"action_mean": (0.0,), "action_std": (1.0,), "action_low": (-1.0,), "action_high": (1.0,)}
before = set(sys.modules)
for own in ({"encoder": "conv", "image_size": 64}, lewm.SETTINGS):
    pixels = {"pixel_mean": (0.5,) * 3, "pixel_std": (0.5,) * 3}
    with torch.device("meta"):  # as a checkpoint is checked before memory is asked for
        WorldModel(WorldModelConfig(**{"env": "pusht", **actions, **pixels, **own}))
print(json.dumps([planning, sorted(set(sys.modules) - before), gc.isenabled()]))
"""


def test_planning_loads_nothing_that_it_does_not_need() -> None:
    """In a new process, which loads torch: the reason for a second or two."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    planning, checking, collects_garbage = json.loads(done.stdout.splitlines()[-1])
    assert "latent_planner.agent" in planning  # the list is that of the program
    for loaded in (planning, checking):
        odd = [name for name in loaded if name in NOT_NEEDED]
        assert not odd, f"loaded without need: {', '.join(odd)}"
    assert collects_garbage
