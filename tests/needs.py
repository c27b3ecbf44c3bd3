"""Marks for what is not to be had everywhere; tests that need it are skipped with its name."""

from __future__ import annotations

import importlib.util

import pytest

from latent_planner.envs.mujoco import gl

OPENGL = "no OpenGL here for MuJoCo to draw with"
drawn_by_mujoco = pytest.mark.skipif(gl.choose() is None, reason=OPENGL)
extra_worlds = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("dm_control", "ogbench"))), reason="the extra 'worlds' is not here"
)
MARKS = {
    "reacher": (drawn_by_mujoco, extra_worlds),
    "cube": (drawn_by_mujoco, extra_worlds),
    "point_maze": (drawn_by_mujoco,),
    "point_maze_medium": (drawn_by_mujoco,),
}


def world(name: str, *values: object) -> object:
    """A parameter (name, *values) of a test that is skipped where this world cannot be had."""
    return pytest.param(name, *values, marks=MARKS.get(name, ()))
