"""Objectives: what each term measures, how they are written, and keeping out of places."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from latent_planner import objective
from latent_planner.keep_out import learn_penalty
from latent_planner.objective import Imagined, closest, keep_out, parse
from latent_planner.planners import PlanError


def imagined(**changes) -> Imagined:
    """Two problems, four equal candidates, two steps of two actions each."""
    latents = torch.tensor([[9.0, 9.0], [1.0, 0.0], [0.0, 3.0]]).view(1, 1, 3, 2).repeat(2, 4, 1, 1)
    goal = torch.tensor([[0.0, 0.0], [9.0, 9.0]])
    actions = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 2.0], [0.0, 2.0]]).expand(2, 4, 4, 2)
    return Imagined(**({"latents": latents, "goal": goal, "actions": actions} | changes))


@pytest.mark.parametrize(
    ("text", "first", "second"),
    [
        ("last", 9.0, 117.0),
        ("closest", 1.0, 117.0),  # the current latent does not count
        ("discounted(1)", 5.0, 131.0),
        ("discounted(0.5)", (2 * 1 + 9) / 3, (2 * 145 + 117) / 3),
        ("last + 2*effort", 9 + 2 * 2.5, 117 + 2 * 2.5),
        ("3*closest + smoothness", 3 + 5 / 3, 351 + 5 / 3),
        ("1e-1*last", 0.9, 11.7),
    ],
)
def test_what_each_objective_measures(text, first, second):
    cost = parse(text)(imagined())
    assert cost.shape == (2, 4)
    torch.testing.assert_close(cost[:, 2], torch.tensor([first, second]))
    torch.testing.assert_close(parse(str(parse(text)))(imagined()), cost)


def test_smoothness_counts_from_the_last_action_done():
    still = torch.zeros(2, 4, 1, 2)
    assert (parse("closest + smoothness")(imagined(actions=still)) == closest()(imagined())).all()
    moved = imagined(actions=still, last=torch.tensor([[0.0, 2.0], [0.0, 0.0]]))
    assert (parse("closest + smoothness")(moved) - closest()(moved))[:, 0].tolist() == [4.0, 0.0]


def test_objectives_add_up_and_name_themselves():
    whole = 2 * (closest() + 0.5 * objective.effort()) + keep_out(lambda z: z[..., 0] * 0, "wall")
    assert str(whole) == "2*closest + effort + wall"
    assert whole(imagined())[0, 0].item() == 2 + 2.5
    assert str(parse("  discounted( 0.8 )+ .5 * effort")) == "discounted(0.8) + 0.5*effort"
    assert parse(whole) is whole
    assert str(parse("1000000*last")) == "1e06*last" and parse("1e06*last")(imagined())[0, 0] == 9e6


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lest", "did you mean 'last'"),
        ("nearest", "last, closest, discounted"),
        ("effort", "leads nowhere"),
        ("last +", "not understood"),
        ("last - effort", "not understood"),
        ("-1*last", "not understood"),
        ("last(3)", "takes no number"),
        ("discounted(1.5)", "at most 1"),
        ("discounted(0)", "above 0"),
        ("1.2.3*last", "cannot be read"),
        (None, "did you mean|choose from"),
    ],
)
def test_wrong_objectives_are_clear_errors(text, message):
    with pytest.raises(PlanError, match=message):
        parse(text)


def test_other_misuse_is_a_clear_error():
    with pytest.raises(PlanError, match="weight"):
        -1 * closest()
    with pytest.raises(PlanError, match="judges actions"):
        parse("last + effort")(imagined(actions=None))
    with pytest.raises(PlanError, match="one number per latent"):
        (closest() + keep_out(lambda latents: latents))(imagined())


def test_keep_out_adds_up_along_the_plan_but_not_where_it_starts():
    cost = keep_out(lambda latents: (latents[..., 1] > 2).float())(imagined())
    assert (cost == 1).all()  # of (9, 9), (1, 0), (0, 3): the first is where one stands


class Places(torch.nn.Module):
    """The latent of a frame is where its brightest pixel is."""

    def __init__(self) -> None:
        super().__init__()
        self.unused = torch.nn.Parameter(torch.zeros(1))

    def encode(self, pixels):
        which = pixels.float().mean(2).flatten(2).argmax(-1)
        return torch.stack([which % 16, which // 16], -1).float()


def test_a_penalty_is_learned_from_frames():
    def frames(places):
        made = np.zeros((len(places), 16, 16, 3), np.uint8)
        for frame, (x, y) in zip(made, places):
            frame[y, x] = 255
        return made

    places = [(x, y) for x in range(16) for y in range(16)]
    inside = [(x, y) for x, y in places if 5 <= x <= 10 and 5 <= y <= 10]
    outside = [place for place in places if place not in inside]
    state = torch.get_rng_state()
    penalty = learn_penalty(Places(), frames(inside), frames(outside))
    assert torch.equal(torch.get_rng_state(), state)
    there = penalty(torch.tensor([[[7.5, 7.5]], [[1.0, 8.0]], [[14.0, 14.0]]]))
    assert there.shape == (3, 1) and there[0] > 0.9 and (there[1:] < 0.1).all()
    path = torch.tensor([[7.0, 7.0]], requires_grad=True)
    assert torch.autograd.grad(penalty(path).sum(), path)[0].isfinite().all()
    for wrong in (frames(inside)[0], frames(inside).astype(float), frames(inside)[:0]):
        with pytest.raises(PlanError, match="forbidden must be frames"):
            learn_penalty(Places(), wrong, frames(outside))
