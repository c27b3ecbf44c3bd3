"""stable-worldmodel's own LeWM with its own CEM, for bench_peers.py, in an interpreter that has that package.

    PYTHON tests/benchmarks/peer_worker.py THREADS PROBLEM.npz [NAME ...]

PROBLEM.npz holds weights, latents and sizes. NAMEs are modules that the package imports and planning does not
use: where they are not installed, empty ones take their place. It answers each line of JSON on standard input
with one on standard output.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
import time
import types
from typing import Any

import numpy as np
import torch


class Empty(types.ModuleType):
    """A module in which every name is an empty class."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


class EmptyModules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds an empty module for these names and all below them, where no other finder has one."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name.split(".")[0] in self.names:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
        return None

    def create_module(self, spec: Any) -> types.ModuleType:
        return Empty(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def build(problem: Any) -> Any:
    """Their model with the weights of the problem. Its encoder is left out: the latents are given."""
    from stable_worldmodel.wm.lewm import LeWM
    from stable_worldmodel.wm.lewm.module import MLP, Embedder, Predictor

    size = json.loads(str(problem["sizes"]))
    width, hidden, block = size["latent_dim"], size["projector_dim"], size["block_dim"]
    model = LeWM(
        encoder=torch.nn.Identity(),
        predictor=Predictor(
            num_frames=size["context_len"], depth=size["predictor_depth"], heads=size["predictor_heads"],
            mlp_dim=size["predictor_mlp_dim"], input_dim=width, hidden_dim=width, output_dim=width,
            dim_head=size["predictor_head_dim"], dropout=size["dropout"],
        ),
        action_encoder=Embedder(input_dim=block, smoothed_dim=block, emb_dim=width, mlp_scale=4),
        pred_proj=MLP(width, hidden, width, norm_fn=torch.nn.BatchNorm1d),
    )  # fmt: skip
    weights = {name[2:]: torch.from_numpy(problem[name]) for name in problem.files if name.startswith("w/")}
    model.load_state_dict(weights)
    return model.eval()


class Peer:
    def __init__(self, problem: Any) -> None:
        self.model = build(problem)
        self.block = json.loads(str(problem["sizes"]))["block_dim"]
        self.latent, self.goal = (torch.from_numpy(problem[name]) for name in ("latent", "goal"))

    def infos(self) -> dict[str, torch.Tensor]:
        """What they ask a model with, one environment: latents of the frame seen and of the goal."""
        return {
            "pixels": torch.zeros(1, 1, 1, 1, 1), "goal": torch.zeros(1, 1, 1, 1, 1),
            "emb": self.latent[None, None], "goal_emb": self.goal[None, None],
        }  # fmt: skip

    @torch.inference_mode()
    def cost(self, candidates: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(candidates)[None]
        infos = {k: v[:, None].expand(-1, given.shape[1], *v.shape[1:]) for k, v in self.infos().items()}
        return self.model.get_cost(infos, given)[0].numpy()

    def plan(self, samples: int, elites: int, iterations: int, horizon: int, seed: int) -> dict[str, Any]:
        import gymnasium
        from stable_worldmodel.policy import PlanConfig
        from stable_worldmodel.solver.cem import CEMSolver

        solver = CEMSolver(self.model, num_samples=samples, topk=elites, n_steps=iterations, seed=seed)
        space = gymnasium.spaces.Box(-np.inf, np.inf, (1, self.block))
        config = PlanConfig(horizon=horizon, receding_horizon=horizon, action_block=1)
        solver.configure(action_space=space, n_envs=1, config=config)
        begun = time.perf_counter(), time.process_time()
        actions = solver.solve(self.infos())["actions"][0].tolist()
        seconds, processor = time.perf_counter() - begun[0], time.process_time() - begun[1]
        return {"seconds": seconds, "processor": processor, "actions": actions}


def main() -> None:
    threads, path, *names = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")  # they print
    os.dup2(2, 1)
    torch.set_num_threads(int(threads))
    sys.meta_path.append(EmptyModules(names))
    peer = Peer(np.load(path, allow_pickle=False))
    from importlib.metadata import version

    print(
        json.dumps({"version": version("stable-worldmodel"), "torch": torch.__version__}),
        file=answers,
        flush=True,
    )
    for line in sys.stdin:
        asked = json.loads(line)
        if "candidates" in asked:
            answer: Any = {"cost": peer.cost(np.array(asked["candidates"], np.float32)).tolist()}
        else:
            answer = peer.plan(**asked)
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
