"""What sections are handed: the same numbers however they are asked for."""

from __future__ import annotations

from dataclasses import replace

import known_world
import numpy as np
import pytest

from latent_planner.report import Evidence, Skipped, quantities
from latent_planner.report.recordings import with_known_state


def test_the_true_model_is_the_simulator() -> None:
    found = known_world.evidence(plan=False)
    windows = found.windows("held_out", 6, 50)
    imagined = found.rollout(windows.latents[:, 0], windows.blocks)
    assert imagined.shape == (50, 7, 4)
    assert np.abs(imagined - windows.latents).max() < 0.02
    played = found.simulate(windows.state[:5, 0], found.denormalise(windows.blocks[:5]))
    assert np.allclose(played.state, windows.state[:5], atol=1e-6)
    assert np.allclose(found.encode(played.pixels[:, -1]), windows.latents[:5, -1], atol=1e-5)
    assert (found.render(windows.state[:2, 0]) == played.pixels[:2, 0]).all()


def test_windows_lie_in_one_episode_and_samples_are_different_frames() -> None:
    found = known_world.evidence(plan=False)
    windows, frames = found.windows("fit", 24, 10_000), found.sample("fit", 300)
    assert len(windows.latents) == 40 and (windows.frame == 0).all()  # 49 frames: one stretch of 24 x 2
    assert len(set(zip(frames.episode, frames.frame))) == 300
    track = found.tracks["fit"][frames.episode[7]]
    assert (frames.state[7] == track.state[frames.frame[7]]).all()
    assert np.allclose(frames.latents[7], found.encode(track.pixels[frames.frame[7]][None])[0], atol=1e-6)
    assert set(found.quantities(frames.state)) == {"x", "y", "hand_sin", "hand_cos"}
    assert found.longest() == 24
    with pytest.raises(Skipped, match="51 frames"):
        found.windows("fit", 25, 10)


def test_what_is_lacking_is_said() -> None:
    track = known_world.tracks(2, 9, seed=5)[0]
    model = known_world.TrueModel()
    bare = Evidence(model, fit=[track], held_out=[track])
    for ask, reason in (
        (bare.need_state, "no state"),
        (bare.need_env, "no world"),
        (bare.need_agent, "agent"),
    ):
        with pytest.raises(Skipped, match=reason):
            ask()
    with pytest.raises(ValueError, match="at least one episode"):
        Evidence(model, fit=[], held_out=[track])


class Walled(known_world.KnownWorld):
    """The dot cannot be in the upper half of the right."""

    def reset(self, *, seed=None, options=None):
        if options["state"][0] > 12 and options["state"][1] < 24:
            raise ValueError("in the wall")
        return super().reset(seed=seed, options=options)


def test_nothing_is_moved_to_where_the_world_does_not_let_it_be() -> None:
    track = known_world.tracks(2, 9, seed=5)[0]
    names = {"state_names": known_world.NAMES, "angle_names": known_world.ANGLES}
    found = Evidence(known_world.TrueModel(), fit=[track], held_out=[track], make_env=Walled, **names)
    state = np.array([[8.0, 10.0, 0.0], [8.0, 30.0, 0.0]])
    others = np.array([[16.0, 40.0, 1.0], [16.0, 40.0, 1.0]])
    assert found.possible(others).all()
    seen = quantities.moved(found, state, others, [0])
    assert seen.tolist() == [[8, 10, 0], [16, 30, 0]]  # the first would be in the wall
    assert quantities.moved(found, state, others, [0, 1]).tolist() == [[16, 40, 0], [16, 40, 0]]


def test_frames_whose_state_is_no_number_are_left_out(caplog: pytest.LogCaptureFixture) -> None:
    tracks = known_world.tracks(3, 9, seed=5)
    first, second, third = (np.array(track.state) for track in tracks)
    first[2, 0], second[-1] = np.nan, np.inf
    changed = [replace(track, state=state) for track, state in zip(tracks, (first, second, third))]
    found, names = with_known_state({"fit": changed[:2], "held_out": changed[2:]}, known_world.NAMES)
    assert names == known_world.NAMES and caplog.text.count("these frames are left out") == 3
    cut, shorter = found["fit"]
    assert len(cut) == 9 - 3 and len(shorter) == 8 and len(cut.actions) == 5
    assert np.array_equal(cut.pixels, tracks[0].pixels[3:]) and np.array_equal(cut.state, first[3:])
    for state in (first, second, third):
        state[:, 1] = np.nan
    found, names = with_known_state({"fit": changed[:2], "held_out": changed[2:]}, known_world.NAMES)
    assert names == known_world.NAMES[:1] + known_world.NAMES[2:] and "it is left out" in caplog.text
    for state in (first, second, third):
        state[:] = np.nan
    found, names = with_known_state({"fit": changed[:2], "held_out": changed[2:]}, known_world.NAMES)
    assert names == () and len(found["fit"]) == 2 and found["fit"][0].state is None
