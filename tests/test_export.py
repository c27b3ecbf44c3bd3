"""The export, and planning with what it wrote: numpy and onnxruntime alone find torch's plan."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from waiting import PATIENCE

from latent_planner import Agent
from latent_planner.checkpoints import checkpoint
from latent_planner.deploy import export, export_graphs
from latent_planner.deploy.export import ExportError
from latent_planner.model.world_model import WorldModel, WorldModelConfig
from latent_planner.objective import Imagined, parse
from latent_planner.problem import mix_seeds

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "onnx_planner.py"
COMMON = dict(
    env="somewhere", frameskip=2, context_len=3, latent_dim=12, projector_dim=16,
    predictor_width=12, predictor_depth=1, predictor_heads=2, predictor_head_dim=6, predictor_mlp_dim=16,
    action_mean=(0.1, -0.2), action_std=(0.5, 0.4), action_low=(-1.0, -1.0), action_high=(1.0, 0.5),
    pixel_mean=(0.9, 0.8, 0.7), pixel_std=(0.2, 0.3, 0.4),
)  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "small": dict(
        image_size=16, encoder_width=4, encoder_values=2, proposals=3, proposal_steps=2, proposer_width=8
    ),
    "lewm": dict(image_size=28, encoder="vit", predictor="lewm", encoder_width=12, encoder_depth=1),
}  # fmt: skip
PLANNERS = {
    "small": dict(name="cem", objective="closest", noise_correlation=0.9, proposal_share=0.3),
    "lewm": dict(name="cem", objective="last", momentum=0.2),
}
SEARCH = dict(horizon=3, num_samples=24, num_elites=5, iterations=3, init_std=0.7)


def saved(family: str, folder: Path) -> Path:
    """A checkpoint of a very small model of this family, whose actions do something."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        world_model = WorldModel(WorldModelConfig(**COMMON, **FAMILIES[family]))
        for parameter in world_model.predictor.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return checkpoint.save(world_model.eval(), folder, planner={**PLANNERS[family], **SEARCH})


@pytest.fixture(scope="module", params=list(FAMILIES))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint and what `latent-planner export` wrote of it as ONNX."""
    home = tmp_path_factory.mktemp(request.param)
    folder = saved(request.param, home / "checkpoint")
    assert export.main([str(folder), "--out", str(home / "exported")]) == 0
    return folder, home / "exported"


@pytest.fixture
def onnx_planner(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(EXAMPLE.parent)
    return __import__("onnx_planner").OnnxPlanner


def frames(size: int, count: int = 2) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, size, size, 3), np.uint8)


def test_numpy_and_onnxruntime_find_the_plan_that_torch_finds(exported: Any, onnx_planner: Any) -> None:
    agent = Agent.from_pretrained(exported[0], device="cpu", seed=4)
    now, goal = frames(agent.config.image_size)
    agent.set_goal(goal)
    wanted = agent.plan(now)
    stream = torch.Generator().manual_seed(mix_seeds(mix_seeds(4, 0), 0) % 2**63)

    planner = onnx_planner(exported[1])
    blocks, cost = planner.plan(
        planner.encode(now)[None],
        planner.encode(goal),
        white=lambda shape: torch.empty(shape).normal_(generator=stream).numpy(),
    )
    actions = planner.actions(blocks)
    assert np.abs(wanted.actions).max() > 0.1  # a plan that does something
    np.testing.assert_allclose(actions, wanted.actions, atol=1e-4)
    assert cost == pytest.approx(float(wanted.cost), rel=1e-4)
    assert (actions >= agent.config.action_low).all() and (actions <= agent.config.action_high).all()


def test_the_past_counts_as_it_does_in_torch(exported: Any, onnx_planner: Any) -> None:
    world_model, info = checkpoint.load(exported[0])
    config, draw = world_model.config, torch.Generator().manual_seed(2)
    latents = torch.randn(1, 3, config.latent_dim, generator=draw)
    past = torch.randn(1, 2, config.block_dim, generator=draw)
    candidates = torch.randn(1, 7, 4, config.block_dim, generator=draw)
    goal = torch.randn(1, config.latent_dim, generator=draw)
    with torch.no_grad():
        path = world_model.rollout(latents, candidates, past)
    wanted = parse(info["planner"]["objective"])(Imagined(path, goal))[0]
    got = onnx_planner(exported[1]).cost(*(t[0].numpy() for t in (latents, past, goal, candidates)))
    np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-4)


def test_the_description_says_what_another_program_needs(exported: Any, onnx_planner: Any) -> None:
    world_model, info = checkpoint.load(exported[0])
    config, about = world_model.config, json.loads((exported[1] / "model.json").read_text())
    actions = about["actions"]
    assert actions["low"] == list(config.action_low) and actions["std"] == list(config.action_std)
    assert actions["block_high"] == pytest.approx(config.block_high)
    assert (actions["size"], actions["frameskip"], about["context_len"]) == (2, 2, 3)
    assert about["pixels"]["mean"] == list(config.pixel_mean) and about["pixels"]["normalised_inside"] is True
    assert about["checkpoint_sha256"] == info["sha256"]
    assert {**about["planner"], **info["planner"]} == about["planner"] and about["planner"][
        "warm_start"
    ] is True
    for graph in about["graphs"].values():
        assert (exported[1] / graph["file"]).is_file() and graph["difference_to_torch"] < 1e-4
    planner = onnx_planner(exported[1])
    side = config.image_size
    pixels = np.fromfunction(lambda y, x, c: (7 * y + 3 * x + 85 * c) % 256, (side, side, 3)).astype(np.uint8)
    latent = planner.encode(pixels)
    np.testing.assert_allclose(latent, about["check"]["latent"], rtol=1e-3, atol=1e-3)
    following = planner.run("step", latents=latent[None, None], blocks=np.zeros((1, 1, 4), np.float32))[0]
    wanted = about["check"]["next_latent_under_a_block_of_zeros"]
    np.testing.assert_allclose(following, wanted, rtol=1e-3, atol=1e-3)


def test_the_example_needs_neither_torch_nor_this_project(exported: Any, tmp_path: Path) -> None:
    from PIL import Image

    names = set()
    for node in ast.walk(ast.parse(EXAMPLE.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.name for alias in node.names} if isinstance(node, ast.Import) else {node.module}
    assert names <= {"json", "sys", "pathlib", "numpy", "onnxruntime", "PIL"}
    for name, frame in zip(("now", "goal"), frames(40)):
        Image.fromarray(frame).save(tmp_path / f"{name}.png")
    pictures = [str(tmp_path / "now.png"), str(tmp_path / "goal.png")]
    command = [sys.executable, str(EXAMPLE), str(exported[1]), *pictures]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    assert "squared latent distance" in result.stdout and result.stdout.count("[") > 6


def test_torch_export_loads_with_torch_alone(tmp_path: Path) -> None:
    folder = saved("lewm", tmp_path / "checkpoint")
    assert export.main([str(folder), "--format", "torch-export", "--out", str(tmp_path / "out")]) == 0
    world_model, _ = checkpoint.load(folder)
    pixels = torch.from_numpy(frames(28, 5))
    got = torch.export.load(tmp_path / "out" / "encoder.pt2").module()(pixels)
    with torch.no_grad():
        wanted = world_model.encode(pixels.permute(0, 3, 1, 2)[:, None])[:, 0]
    torch.testing.assert_close(got, wanted)
    assert json.loads((tmp_path / "out" / "model.json").read_text())["graphs_as"] == "torch-export"


class TestMistakes:
    """One sentence, exit code 2, nothing left behind."""

    def told(self, capsys: pytest.CaptureFixture, *words: str) -> str:
        assert export.main(words) == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ") and message.count("\n") == 1
        return message

    def test_an_unknown_format(self, tiny_checkpoint: Path, tmp_path: Path, capsys: Any) -> None:
        with pytest.raises(SystemExit) as ended:
            export.main([str(tiny_checkpoint), "--format", "tflite", "--out", str(tmp_path / "x")])
        assert ended.value.code == 2 and "onnx" in capsys.readouterr().err
        with pytest.raises(ExportError, match="Unknown format 'tflite': choose from onnx, torch-export"):
            export.export(*checkpoint.load(tiny_checkpoint), tmp_path / "x", "tflite")

    def test_no_checkpoint(self, tmp_path: Path, capsys: Any) -> None:
        assert "There is no checkpoint" in self.told(capsys, "nowhere", "--out", str(tmp_path / "x"))

    def test_the_extra_is_missing(
        self, tiny_checkpoint: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(export.importlib.util, "find_spec", lambda name: None)
        message = self.told(capsys, str(tiny_checkpoint), "--out", str(tmp_path / "x"))
        assert "pip install 'latent-planner[export]'" in message and not (tmp_path / "x").exists()

    def test_a_folder_in_use_is_left_alone(self, tiny_checkpoint: Path, tmp_path: Path, capsys: Any) -> None:
        (tmp_path / "mine.txt").write_text("mine")
        message = self.told(capsys, str(tiny_checkpoint), "--out", str(tmp_path))
        assert "is there already" in message and [p.name for p in tmp_path.iterdir()] == ["mine.txt"]

    def test_a_place_that_cannot_be_written(self, tiny_checkpoint: Path, tmp_path: Path, capsys: Any) -> None:
        (tmp_path / "file").write_text("")
        out = str(tmp_path / "file" / "x")
        assert "choose another place with --out" in self.told(capsys, str(tiny_checkpoint), "--out", out)

    def test_a_model_that_torch_cannot_export(
        self, tiny_checkpoint: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
    ) -> None:
        def fail(*_: Any) -> None:
            raise RuntimeError("\nno such operator\nand a long story")

        monkeypatch.setattr(export_graphs, "write", fail)
        message = self.told(capsys, str(tiny_checkpoint), "--out", str(tmp_path / "x"))
        assert "cannot be exported as onnx (no such operator)" in message
        assert list(tmp_path.iterdir()) == []

    def test_a_graph_that_gives_other_numbers(
        self, tiny_checkpoint: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
    ) -> None:
        monkeypatch.setattr(export_graphs, "write", lambda graph, path: path.write_bytes(b""))
        monkeypatch.setattr(export_graphs, "read", lambda path: lambda *arrays: np.zeros((1, 16), np.float32))
        message = self.told(capsys, str(tiny_checkpoint), "--out", str(tmp_path / "x"))
        assert "gives other numbers than torch" in message and list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(os.name != "posix", reason="needs a limit on files")
    def test_a_full_disk_is_one_sentence(self, tiny_checkpoint: Path, tmp_path: Path) -> None:
        """In a process of its own, which torch's own writer would end with SIGABRT."""
        code = "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        code += "from latent_planner.deploy.export import main; sys.exit(main(sys.argv[1:]))"
        words = [str(tiny_checkpoint), "--out", str(tmp_path / "x"), "--format", "torch-export"]
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert done.returncode == 2 and "choose another place with --out" in done.stderr
        assert "Traceback" not in done.stderr and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["onnx", "torch-export"])
def test_several_cameras_and_the_vector_are_exported(tmp_path: Path, onnx_planner: Any, format: str) -> None:
    senses: dict[str, Any] = dict(cameras=("front", "wrist"), proprio=("elbow", "grip"), proprio_dims=4)
    senses |= dict(proprio_mean=(1.0, -2.0), proprio_std=(0.5, 3.0))
    with torch.random.fork_rng():
        torch.manual_seed(5)
        world_model = WorldModel(WorldModelConfig(**COMMON, **FAMILIES["small"], **senses))
        for parameter in world_model.predictor.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    planner = {**PLANNERS["small"], **SEARCH}
    folder = checkpoint.save(world_model.eval(), tmp_path / "checkpoint", planner=planner)
    assert export.main([str(folder), "--out", str(tmp_path / "out"), "--format", format]) == 0
    about = json.loads((tmp_path / "out" / "model.json").read_text())
    assert about["parts"] == {"front": [0, 4], "wrist": [4, 8], "proprio": [8, 12]}
    assert about["cameras"] == ["front", "wrist"] and about["proprio"] == ["elbow", "grip"]
    names = [put["name"] for put in about["graphs"]["encoder"]["inputs"]]
    assert names == ["front", "wrist", "proprio", "shown"]
    if format != "onnx":
        return
    front, wrist = frames(16)
    agent = Agent.from_pretrained(folder, device="cpu", seed=4)
    agent.set_goal({"wrist": front})
    now = {"front": front, "proprio": np.array([0.5, 1.0], np.float32)}  # the wrist's camera has failed
    wanted = agent.plan(now)
    own, stream = onnx_planner(tmp_path / "out"), torch.Generator()
    stream.manual_seed(mix_seeds(mix_seeds(4, 0), 0) % 2**63)
    blocks, cost = own.plan(
        own.encode(now)[None],
        own.aim({"wrist": front}),
        white=lambda shape: torch.empty(shape).normal_(generator=stream).numpy(),
    )
    np.testing.assert_allclose(own.actions(blocks), wanted.actions, atol=1e-4)
    assert cost == pytest.approx(float(wanted.cost), rel=1e-4)
