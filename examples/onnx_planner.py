"""Plan with an exported model: numpy and onnxruntime, no torch, nothing of this project.

    latent-planner export pusht --format onnx --out exported
    python examples/onnx_planner.py exported frame.png goal.png         # prints the actions to take

The cross-entropy method as the checkpoint is planned with, in a form to translate into any language.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

LEVELS = 9  # different correlations of the noise among the candidates


class OnnxPlanner:
    """The networks of an exported folder, and a search for the blocks of actions that lead to a goal."""

    def __init__(self, folder):
        folder = Path(folder)
        self.about = json.loads((folder / "model.json").read_text())
        self.search = self.about["planner"]
        if self.search["name"] != "cem" or self.search["objective"] not in ("closest", "last"):
            raise ValueError("This example has cem with the objectives closest and last; add what you need.")
        self.graphs = {
            name: onnxruntime.InferenceSession(folder / graph["file"], providers=["CPUExecutionProvider"])
            for name, graph in self.about["graphs"].items()
        }
        self.said = np.float32(1)  # where the goal says what the latent is to be
        self.low, self.high = (np.float32(self.about["actions"][f"block_{end}"]) for end in ("low", "high"))

    def run(self, name, **arrays):
        return self.graphs[name].run(None, arrays)[0]

    def encode(self, pixels):
        """A frame, uint8 (S, S, 3) -> its latent (D,). Of several cameras: a dict of frames and the vector
        (P,), those that there are."""
        if not isinstance(pixels, dict):
            return self.run("encoder", pixels=pixels[None])[0]
        given = {
            name: np.zeros(len(self.about["proprio"]), np.float32)
            if name == "proprio"
            else np.zeros((self.about["pixels"]["size"],) * 2 + (3,), np.uint8)
            for name in self.about["parts"]
        }
        shown = np.float32([[name in pixels for name in given]])
        batch = {name: value[None] for name, value in (given | pixels).items()}
        return self.run("encoder", **batch, shown=shown)[0]

    def aim(self, goal):
        """Pursue what these views show, a dict as for `encode`, and nothing else: its latent."""
        self.said = np.zeros(self.about["latent_dim"], np.float32)
        for name in goal:
            first, end = self.about["parts"][name]
            self.said[first:end] = 1
        return self.encode(goal)

    def actions(self, blocks):
        """Normalised blocks (H, F·A) -> actions (H·F, A) in the robot's units, inside its bounds."""
        about = {name: np.float32(self.about["actions"][name]) for name in ("mean", "std", "low", "high")}
        actions = blocks.reshape(-1, self.about["actions"]["size"]) * about["std"] + about["mean"]
        return actions.clip(about["low"], about["high"])

    def cost(self, latents, past, goal, candidates):
        """Squared distance to the goal (N,) of the imagined latents: the least, or that at the end.

        latents (T, D) and the blocks between them (T-1, F·A), newest last; candidates (N, H, F·A).
        """
        count, window = len(candidates), self.about["window"]
        seen = np.repeat(latents[None], count, 0)
        if len(latents) == 1 and candidates.shape[1] == self.search["horizon"]:  # the quick way
            path = self.run("rollout", latent=seen[:, 0], candidates=candidates)
            return self.price(path, goal)
        done = np.concatenate([np.repeat(past[None], count, 0), candidates], 1)
        for h in range(candidates.shape[1]):
            end = len(latents) + h
            following = self.run(
                "step", latents=seen[:, -window:], blocks=done[:, max(0, end - window) : end]
            )
            seen = np.concatenate([seen, following[:, None]], 1)
        return self.price(seen[:, len(latents) :], goal)

    def price(self, path, goal):
        """Imagined latents (N, H, D) -> (N,)."""
        distances = (np.square(path - goal) * self.said).sum(-1)
        return distances.min(1) if self.search["objective"] == "closest" else distances[:, -1]

    def proposals(self, latent, goal, horizon):
        """What the proposer guesses, for arriving after 1, 2, … steps: (P, H, F·A); perhaps none."""
        if "proposer" not in self.graphs:
            return np.zeros((0, horizon, len(self.low)), np.float32)
        longest = self.about["proposals"]["longest"]
        steps = np.arange(1, min(longest, horizon) + 1)
        pairs = (np.repeat(vector[None], len(steps), 0) for vector in (latent, goal))
        guesses = self.run("proposer", **dict(zip(("latent", "goal"), pairs)), steps=steps)
        guesses = guesses.reshape(-1, longest, len(self.low))[:, :horizon]
        return np.pad(guesses, ((0, 0), (0, horizon - guesses.shape[1]), (0, 0)))

    def correlate(self, white):
        """White noise (N, H, F·A) -> the same, hanging together in time by 0 up to noise_correlation."""
        in_time = white.reshape(len(white), -1, self.about["actions"]["size"])
        when = np.arange(in_time.shape[1])
        mixed = []
        levels = np.linspace(0, self.search["noise_correlation"], LEVELS)
        for level, part in zip(levels, np.array_split(in_time, LEVELS)):
            root = np.linalg.cholesky(level ** np.abs(when[:, None] - when))
            mixed.append(root.astype(np.float32) @ part)
        return np.concatenate(mixed).reshape(white.shape)

    def draw(self, mean, std, proposed, white):
        """Candidates (N, H, F·A): the mean, noise around it, some proposals, noise around those."""
        noise = self.correlate(white) if self.search["noise_correlation"] else white
        candidates = mean + std * noise
        candidates[0] = mean
        count = min(round(self.search["proposal_share"] * len(white)), len(white) - 1) if len(proposed) else 0
        places = np.linspace(1, len(white) - 1, count).astype(int)
        which = np.arange(count)
        if count < len(proposed):
            which = which * len(proposed) // count
        noisy = np.float32(which >= len(proposed))[:, None, None] * np.float32(self.search["proposal_std"])
        if count:
            candidates[places] = proposed[which % len(proposed)] + noisy * noise[places]
        return candidates.clip(self.low, self.high)

    def plan(self, latents, goal, past=None, *, horizon=None, start=None, white):
        """The cheapest blocks found (H, F·A), and their cost.

        latents: (T, D), of the last frames, one per block, and the blocks between them, past (T-1, F·A).
        start: (H, F·A), for instance what is left of the last plan.   white: shape -> standard normal noise.
        """
        search, horizon = self.search, horizon or self.search["horizon"]
        past = np.zeros((0, len(self.low)), np.float32) if past is None else past
        mean = np.zeros((horizon, len(self.low)), np.float32) if start is None else start
        mean, std = mean.clip(self.low, self.high), np.float32(search["init_std"])
        proposed, best, least = self.proposals(latents[-1], goal, horizon), mean, np.inf
        for _ in range(search["iterations"]):
            candidates = self.draw(mean, std, proposed, white((search["num_samples"], *mean.shape)))
            cost = self.cost(latents, past, goal, candidates)
            order = np.argsort(cost)[: search["num_elites"]]
            elites = candidates[order]
            if cost[order[0]] < least:
                best, least = elites[0], cost[order[0]]
            kept = np.float32(search["momentum"])
            mean = (1 - kept) * elites.mean(0) + kept * mean
            std = np.maximum((1 - kept) * elites.std(0) + kept * std, np.float32(search["min_std"]))
        return best, float(least)


def main(folder, *pictures):
    from PIL import Image

    planner, noise = OnnxPlanner(folder), np.random.default_rng(0)
    size = planner.about["pixels"]["size"]
    frames = [Image.open(path).convert("RGB").resize((size, size), Image.BOX) for path in pictures]
    now, goal = (np.array(frame) for frame in frames)
    if "cameras" in planner.about:  # here the first of several
        now, goal = ({planner.about["cameras"][0]: frame} for frame in (now, goal))
    now, goal = planner.encode(now), planner.aim(goal) if isinstance(goal, dict) else planner.encode(goal)
    blocks, cost = planner.plan(now[None], goal, white=lambda shape: noise.standard_normal(shape, np.float32))
    before = planner.price(now[None, None], goal)[0]
    print(f"squared latent distance to the goal: {before:.1f} now, {cost:.1f} imagined")
    print(np.array2string(planner.actions(blocks), precision=3))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python examples/onnx_planner.py EXPORTED_FOLDER FRAME GOAL")
    main(*sys.argv[1:])
