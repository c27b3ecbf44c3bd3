"""One behaviour-policy episode at a time, here or in a process of its own.

As a program (started by `collect`) it reads a job as one line of JSON and
then numbers of episodes, one a line, and answers each with that episode as a journal record. It ends with its
input, so it never outlives the process that collects. A plain program instead of multiprocessing: the script
that collects, which may import torch, is not loaded again in every worker.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from latent_planner import envs

from .. import policies
from ..catalogue import entry
from ..gym.making import bring
from ..looks import training
from .journal import RecordingError, encode
from .senses import LOOK

BRANCH = 0  # of the seeds: training episodes; benchmark pairs come from another
REPLY = struct.Struct("<qQ")  # number of the episode, or FAILED or REFUSED, and size of what follows
FAILED, REFUSED = -1, -2  # REFUSED: a sentence for the user, which playing again would meet again


@dataclass(frozen=True)
class Job:
    """What to record: `length` frames an episode of the world `env` under its behaviour policy.

    cameras, proprio: what is recorded beside the usual frames, as for `envs.make`.
    policy, module: of a Gymnasium environment, what else than smooth noise acts (envs.gym.policies), and the
    module that registers it.
    vary: looks, see envs.looks.words, in which every frame is drawn once more; None for none.
    """

    env: str
    length: int
    image_size: int
    seed: int
    policy: str | None = None
    module: str | None = None
    cameras: Sequence[str] | None = None
    proprio: bool = False
    vary: str | None = None


class Player:
    """A world and its policy, which play the episodes of a job in any order."""

    def __init__(self, job: Job) -> None:
        self.family = entry(job.env).family
        if (job.policy or job.module) and not self.family:
            raise RecordingError(
                f"{job.env} is recorded with its own policy: leave out the policy and module"
            )
        bring(job.module)
        self.job = job
        self.world: Any = envs.make(
            job.env, image_size=job.image_size, cameras=job.cameras, proprio=job.proprio
        )
        self.policy = policies.make_policy(job.env, kind=job.policy, world=self.world)
        self.families = [] if job.vary is None else training.families(self.world, job.vary)

    def record(self, index: int) -> bytes:
        """Episode `index` as a journal record: a function of the job and the index alone."""
        return encode(self.play(index))

    def play(self, index: int, most: int | None = None) -> dict[str, np.ndarray]:
        """Episode `index`: pixels (T, H, W, 3), state (T, S), action (T, A), the last of which is NaN; and
        pixels_<name> (T, H, W, 3) and proprio (T, P), where the job asks for them, and `pixels` in looks of
        the episode as pixels_look, where the job has looks.

        most: frames, where not as many as the job says. There are fewer where the world ends the episode.
        """
        job, low, high = self.job, self.world.action_low, self.world.action_high
        length = job.length if most is None else most
        of_world, of_policy, of_look = np.random.SeedSequence([job.seed, BRANCH, index]).spawn(3)
        without_goal = {"goal": None} if self.family else None  # which takes time to find there
        obs, _ = self.world.reset(seed=int(of_world.generate_state(1)[0]), options=without_goal)
        self.policy.reset(np.random.default_rng(of_policy))
        look = None if job.vary is None else training.drawn_in(self.world, job.vary, of_look)
        first = obs if look is None else {**obs, LOOK: obs["pixels"]}
        seen = {
            name: np.empty((length, *value.shape), np.uint8 if value.dtype == np.uint8 else np.float32)
            for name, value in first.items()
        }
        action = np.full((length, len(low)), np.nan, np.float32)
        frames, ended = 0, False
        while frames < length and not ended:
            if frames:
                action[frames - 1] = self.policy.act(obs)
                obs, _, ended, *_ = self.world.step(action[frames - 1])
            for name, rows in seen.items():
                rows[frames] = next(look) if look is not None and name == LOOK else obs[name]
            frames += 1
        taken = action[: frames - 1]
        if not ((low <= taken) & (taken <= high)).all():
            raise RecordingError(
                f"the policy of {job.env} acts outside the world's bounds in episode {index}"
            )
        return {name: rows[:frames] for name, rows in {**seen, "action": action}.items()}


def request(job: Job) -> bytes:
    """The first line that a worker reads."""
    return json.dumps(asdict(job)).encode() + b"\n"


def serve(requests: Any, replies: Any) -> None:
    """Answer what comes in on one binary stream on the other, until it ends."""

    def reply(index: int, data: bytes) -> None:
        replies.write(REPLY.pack(index, len(data)) + data)
        replies.flush()

    try:
        player = Player(Job(**json.loads(requests.readline())))
        for line in requests:
            index = int(line)
            try:
                record = player.record(index)
            except (RecordingError, envs.WorldError) as error:
                return reply(REFUSED, str(error).encode())
            reply(index, record)
    except BrokenPipeError:
        raise
    except Exception as error:
        reply(FAILED, f"{type(error).__name__}: {error}".encode())


def main() -> None:
    replies = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a world may print is no reply
    try:
        serve(sys.stdin.buffer, replies)
    except BrokenPipeError:
        os._exit(0)  # the collecting process is gone; there is nobody to flush to


if __name__ == "__main__":
    main()
