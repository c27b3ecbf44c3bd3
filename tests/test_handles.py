"""What can be taken hold of in each world: it goes where it is dragged, and is drawn there."""

from __future__ import annotations

import numpy as np
import pytest

from latent_planner import envs
from latent_planner.envs import World

WORLDS = {"two_room": {"dot"}, "wall": {"dot"}, "pusht": {"agent", "block"}, "point_maze": {"ball"}}
WORLDS["reacher"] = {"elbow", "finger"}
SIZE = 96


def world_and_state(name: str, seed: int = 3) -> tuple[World, np.ndarray]:
    try:
        world = envs.make(name, image_size=SIZE)
    except envs.WorldError as error:
        pytest.skip(str(error))
    return world, world.sample_state(np.random.default_rng(seed))


@pytest.mark.parametrize("name", WORLDS)
def test_a_handle_is_where_the_thing_is_drawn(name: str) -> None:
    world, state = world_and_state(name)
    assert set(world.handles()) == WORLDS[name]
    empty = np.median(
        [world.render_state(world.sample_beside(np.random.default_rng(i), state)) for i in range(25)], axis=0
    )
    for label, handle in world.handles().items():
        x, y = handle.at(state)
        column, row = int(x * SIZE), int(y * SIZE)
        shown = world.render_state(state).astype(float)[row, column]
        assert np.abs(shown - empty[row, column]).max() > 30, f"nothing is at the {label} of {name}"


@pytest.mark.parametrize("name", WORLDS)
def test_things_go_where_they_are_dragged(name: str) -> None:
    world, state = world_and_state(name)
    aim = world.sample_beside(np.random.default_rng(8), state)
    for label, handle in world.handles().items():
        wanted = handle.at(aim)
        moved = world.check_state(handle.move(state, *wanted))
        if label == "elbow":  # on its circle
            moved = world.check_state(
                handle.move(state, 0.5 + 3 * (wanted[0] - 0.5), 0.5 + 3 * (wanted[1] - 0.5))
            )
        assert np.allclose(handle.at(moved), wanted, atol=0.01), label


@pytest.mark.parametrize("name", ["two_room", "wall", "pusht", "reacher"])
@pytest.mark.parametrize("corner", [(-5.0, -5.0), (0.5, 0.9), (7.0, 0.5)])
def test_no_drag_leaves_the_world(name: str, corner: tuple[float, float]) -> None:
    world, state = world_and_state(name)
    for label, handle in world.handles().items():
        moved = world.check_state(handle.move(state, *corner))
        world.render_state(moved)
        assert all(-0.01 <= share <= 1.01 for share in handle.at(moved)), label


def test_the_dot_is_not_dropped_into_the_wall() -> None:
    world, state = world_and_state("two_room")
    moved = world.handles()["dot"].move(state, 0.51, 0.8)
    assert moved[0] > 112 + 12 and moved[1] == pytest.approx(0.8 * 224)


@pytest.mark.parametrize("name, label", [("pusht", "block"), ("reacher", "elbow"), ("reacher", "finger")])
def test_turning_is_clockwise_as_seen(name: str, label: str) -> None:
    world, state = world_and_state(name)
    handle = world.handles()[label]
    assert handle.turn is not None
    if name == "pusht":
        turned = handle.turn(state, 0.3)
        assert np.allclose(handle.at(turned), handle.at(state)) and turned[4] - state[4] == pytest.approx(0.3)
    else:
        state = np.array([0.5, 0.0, 0.0, 0.0])
        turned = handle.turn(state, 0.3)
        assert handle.at(turned)[1] > handle.at(state)[1]  # an arm to the right sinks
