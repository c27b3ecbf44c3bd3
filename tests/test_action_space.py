"""Actions that are choices, or numbers and choices: from the environment to the planner and back."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from latent_planner.common.action_space import ActionSpace, ActionSpaceError, apart
from latent_planner.envs.gym.making import action_parts
from latent_planner.envs.world import WorldError

SPACES = [
    ("Discrete(4)", spaces.Discrete(4)),
    ("Discrete(3 from -1)", spaces.Discrete(3, start=-1)),
    ("MultiDiscrete(3, 2)", spaces.MultiDiscrete([3, 2])),
    ("MultiBinary(3)", spaces.MultiBinary(3)),
    ("Tuple(Box(2), Discrete(2))", spaces.Tuple([spaces.Box(-1, 3, (2,)), spaces.Discrete(2)])),
    (
        "Dict(arm=Box(2x2), gripper=Discrete(2))",
        spaces.Dict({"arm": spaces.Box(-1, 1, (2, 2)), "gripper": spaces.Discrete(2)}),
    ),
]


@pytest.mark.parametrize(("text", "space"), SPACES)
def test_a_row_becomes_what_the_environment_takes_and_comes_back(text: str, space: gymnasium.Space) -> None:
    made_of, low, high = action_parts("world", space)
    assert str(made_of) == text and ActionSpace.parse(text) == made_of
    assert len(low) == len(high) == made_of.size
    rng = np.random.default_rng(0)
    rows = np.stack([made_of.random_row(rng, low, high) for _ in range(50)])
    assert (low <= rows).all() and (rows <= high).all() and not made_of.odd(rows).any()
    for row in rows:
        own = made_of.own_form(row)
        assert space.contains(own)
        np.testing.assert_array_equal(made_of.row(own), row)
        np.testing.assert_array_equal(made_of.row(row), row)
    space.seed(1)
    for _ in range(20):
        own = space.sample()
        assert space.contains(made_of.own_form(made_of.row(own)))
    together = apart(made_of.own_form(rows), len(rows))
    np.testing.assert_array_equal([made_of.row(own) for own in together], rows)
    for column, (count, first) in enumerate(zip(made_of.choices, made_of.first)):
        if count:
            assert set(rows[:, column]) == set(range(first, first + count))


@pytest.mark.parametrize(("text", "space"), SPACES)
def test_an_action_that_is_none_of_them_gets_one_sentence(text: str, space: gymnasium.Space) -> None:
    made_of = ActionSpace.parse(text)
    for wrong in (
        "left",
        [9.0] * made_of.size,
        [np.nan] * made_of.size,
        [0.0] * (made_of.size + 1),
        {"arm": 1},
        None,
    ):
        with pytest.raises(ActionSpaceError, match="An action is one of"):
            made_of.row(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "Discrete",
        "Discrete(0)",
        "Discrete(2, 2)",
        "Box()",
        "Box(0)",
        "Tuple()",
        "Dict(Box(2))",
        "Dict(a=Box(1), a=Box(1))",
    ]
    + ["Tuple(Tuple(Box(1)))", "os.system(1)", "Discrete(99999)", "x" * 5000, "Box(9999x9999)", 3],
)
def test_a_text_that_means_nothing_gets_one_sentence(text: str) -> None:
    with pytest.raises(ActionSpaceError, match="is no space of actions: write Box"):
        ActionSpace.parse(text)


def test_spaces_that_cannot_be_planned_get_one_sentence() -> None:
    for space in (
        spaces.Text(3),
        spaces.Dict({"a b": spaces.Discrete(2)}),
        spaces.Tuple([spaces.Tuple([spaces.Discrete(2)])]),
        spaces.Discrete(10_000),
    ):
        with pytest.raises(WorldError, match="alone or in one Tuple or Dict"):
            action_parts("world", space)
    with pytest.raises(WorldError, match="without bounds"):
        action_parts("world", spaces.Tuple([spaces.Box(-np.inf, np.inf, (2,)), spaces.Discrete(2)]))
