"""SIGReg: the published value, an exact gradient, and the same numbers on several processes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from latent_planner.model.projector import Projector
from latent_planner.training.sigreg import SIGReg

pytestmark = pytest.mark.random

REFERENCE = Path(__file__).parent / "data" / "lewm_reference.npz"


def plain(latents: Tensor, directions: Tensor, knots: int = 17) -> Tensor:
    """The definition, written out: what the fast form must equal."""
    t = torch.linspace(0, 3, knots, dtype=latents.dtype)
    target = torch.exp(-t.square() / 2)
    trapezoid = torch.full_like(t, 2 * 3 / (knots - 1))
    trapezoid[[0, -1]] /= 2
    angle = (latents @ directions)[..., None] * t
    off = (angle.cos().mean(1) - target).square() + angle.sin().mean(1).square()
    return (off @ (trapezoid * target)).mean() * latents.shape[1]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def unit(dim: int, count: int, **kwargs: object) -> Tensor:
    directions = draw(dim, count, **kwargs)  # type: ignore[arg-type]
    return directions / directions.norm(dim=0)


def test_equals_the_published_value() -> None:
    reference = np.load(REFERENCE)
    directions = unit(192, 1024, seed=7)  # as the reference drew them
    np.testing.assert_allclose(directions[:2, :4], reference["sigreg_directions_start"], rtol=1e-4)
    value = SIGReg()(torch.from_numpy(reference["sigreg_z"]), directions)
    assert value.item() == pytest.approx(reference["sigreg"].item(), rel=1e-5)


@pytest.mark.parametrize("knots", [2, 5, 17])
def test_value_and_gradient_equal_the_plain_form(knots: int) -> None:
    directions = unit(6, 9, seed=1, dtype=torch.float64)
    fast, slow = (draw(3, 11, 6, dtype=torch.float64).requires_grad_() for _ in range(2))
    value, expected = SIGReg(knots, 9)(fast, directions), plain(slow, directions, knots)
    (3 * value).backward()
    (3 * expected).backward()
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-8)  # the constants are float32
    torch.testing.assert_close(fast.grad, slow.grad, rtol=1e-5, atol=1e-8)


def test_gradcheck() -> None:
    regulariser, directions = SIGReg(5, 4), unit(3, 4, dtype=torch.float64)
    latents = draw(2, 4, 3, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: regulariser(z, directions), (latents,))


def test_a_gaussian_is_near_its_floor_and_a_collapse_is_not() -> None:
    regulariser = SIGReg().eval()
    gaussian = draw(64, 128, 64)
    assert regulariser(gaussian).item() == pytest.approx(1.05, abs=0.03)
    assert regulariser(0.01 * gaussian).item() > 20
    assert regulariser(gaussian * torch.linspace(0, 2, 64)).item() > 1.2


def test_the_batch_size_is_a_factor() -> None:
    latents, regulariser = draw(2, 64, 8), SIGReg().eval()
    twice = torch.cat([latents, latents], 1)  # the same characteristic function
    assert regulariser(twice).item() == pytest.approx(2 * regulariser(latents).item(), rel=1e-5)


def test_fresh_directions_each_training_step_that_a_resumed_run_repeats() -> None:
    latents, first, resumed = draw(2, 16, 8), SIGReg(seed=5), SIGReg(seed=5)
    values = [first(latents, step=step).item() for step in range(3)]
    assert len(set(values)) == 3
    assert resumed(latents, step=2).item() == values[2]
    assert first(latents, step=0).item() == values[0]  # nothing is counted inside
    assert not first.state_dict()
    assert SIGReg(seed=6)(latents).item() != values[0]


def test_autocast_does_not_lower_its_precision() -> None:
    latents, regulariser = draw(2, 32, 16), SIGReg().eval()
    with torch.autocast("cpu", torch.bfloat16):
        value = regulariser(latents)
    assert value.dtype == torch.float32
    assert value.item() == regulariser(latents).item()
    assert regulariser(latents.bfloat16()).dtype == torch.float32


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="knots"):
        SIGReg(knots=1)


class Toy(nn.Module):
    """Inputs (B, T, 5) -> latents through BatchNorm -> SIGReg and a loss of this rank's own latents."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.projector = Projector(5, 8, 4)
        self.sigreg = SIGReg(num_directions=32)

    def forward(self, inputs: Tensor, step: int) -> Tensor:
        latents = self.projector(inputs)
        return (
            self.sigreg(latents.transpose(0, 1), step=step)
            + (latents[:, 1:] - latents[:, :-1]).square().mean()
        )


def train_three_steps(model: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for step, batch in enumerate(inputs):
        loss = model(batch, step=step)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.detach())
    state = {name.removeprefix("module."): value for name, value in model.state_dict().items()}
    return {"losses": torch.stack(losses), **state}


def one_of_two(rank: int, folder: str, inputs: Tensor) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    share = inputs.chunk(2, dim=1)[rank]
    result = train_three_steps(nn.parallel.DistributedDataParallel(Toy()), share)
    dist.all_reduce(result["losses"])
    if rank == 0:
        torch.save({**result, "losses": result["losses"] / 2}, f"{folder}/result.pt")
    dist.barrier()  # one that is torn down while the other still writes has been seen to abort
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_available(), reason="needs torch.distributed")
def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Losses, weights and BatchNorm statistics equal those of one process with the whole batch."""
    inputs = draw(3, 24, 3, 5)  # steps, batch, time, features
    expected = train_three_steps(Toy(), inputs)
    mp.spawn(one_of_two, (str(tmp_path), inputs), nprocs=2)
    result = torch.load(tmp_path / "result.pt", weights_only=True)
    assert result.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            result[name], value, rtol=1e-5, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}"
        )
