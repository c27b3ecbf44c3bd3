"""Looks of worlds: families that training may draw or never sees, and frames in two looks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from needs import world

from latent_planner import envs
from latent_planner.cli import train
from latent_planner.envs import WorldError, shifts
from latent_planner.envs.factors import LOOKS
from latent_planner.envs.looks import families, relook, training, words
from latent_planner.envs.looks.picture import Finish
from latent_planner.envs.recordings.collect import collect
from latent_planner.envs.recordings.episodes import EpisodeReader, EpisodeWriter, RecordingError
from latent_planner.envs.recordings.sharded.collecting import collect_shards
from latent_planner.envs.recordings.sharded.merging import merge

WORLDS = [world(name) for name in ("pusht", "two_room", "wall", "point_maze", "reacher", "cube")]
SMALL = {"episodes": 6, "length": 8, "image_size": 32, "seed": 5, "progress": False}


def known(name: str) -> dict:
    return envs.world_class(name).factors


@pytest.mark.parametrize("name", WORLDS)
def test_every_group_has_families_to_train_on_and_two_to_test_with(name: str) -> None:
    for group in LOOKS:
        assert families.families(known(name), trained=True, group=group)
        assert len(families.families(known(name), trained=False, group=group)) >= 2


@pytest.mark.parametrize("name", WORLDS)
def test_every_family_shows_and_is_drawn_from_the_seed(name: str) -> None:
    env = envs.make(name, image_size=64)
    start = env.reset(seed=3)[0]
    for family in families.families(env.factors):
        options = {"state": start["state"], "goal_state": start["state"], "vary": [family.name]}
        seen = [env.reset(seed=seed, options=options) for seed in (1, 1, 2)]
        frames = [obs["pixels"] for obs, _ in seen]
        assert not np.array_equal(frames[0], start["pixels"]), family.name
        np.testing.assert_array_equal(frames[0], frames[1])
        assert seen[0][1]["factors"] == seen[1][1]["factors"]
        assert not np.array_equal(frames[0], frames[2]) or family.name == "color.swapped"
        np.testing.assert_array_equal(seen[0][0]["state"], start["state"])
    np.testing.assert_array_equal(env.reset(seed=3)[0]["pixels"], start["pixels"])


@pytest.mark.parametrize("name", WORLDS)
def test_looks_change_no_motion_and_no_goal(name: str) -> None:
    env = envs.make(name, image_size=32)
    seen = []
    for vary in ([], ["unseen"], ["trained"]):
        obs, info = env.reset(seed=4, options={"vary": vary})
        states = [
            obs["state"],
            *(env.step(np.linspace(0.7, -0.4, env.action_size))[0]["state"] for _ in range(8)),
        ]
        seen.append((np.array(states), info["goal_state"]))
    for states, goal in seen[1:]:
        np.testing.assert_array_equal(states, seen[0][0])
        np.testing.assert_array_equal(goal, seen[0][1])


@pytest.mark.parametrize("name", WORLDS)
@pytest.mark.parametrize("word", ["trained", "unseen", "unseen.background", "color,background", "photograph"])
def test_what_matters_stands_out_in_every_draw(name: str, word: str) -> None:
    factors = known(name)
    wanted = words.read(factors, {}, word, name)
    for seed in range(30):
        drawn = words.values(factors, wanted, np.random.default_rng(seed))
        assert families.visible(factors, drawn), (seed, drawn)


def test_what_is_asked_for_is_never_drawn_again() -> None:
    env = envs.make("pusht", image_size=16)
    asked = {"block.color": (250, 250, 250)}  # nearly the ground's
    _, info = env.reset(seed=0, options={"factors": asked, "vary": "light"})
    assert info["factors"]["block.color"] == (250, 250, 250)
    _, info = env.reset(seed=0, options={"factors": asked, "vary": "trained.background"})
    assert {*info["factors"]} == {"block.color", "background.color", "background.pattern"}


@pytest.mark.parametrize("name", WORLDS)
def test_training_draws_every_trained_family_and_no_other(name: str) -> None:
    factors, env = known(name), envs.make(name, image_size=16)
    unseen = {
        n for f in families.families(factors, trained=False) for n in f.sets if f.group in ("light", "camera")
    }
    met, plain = set(), 0
    for child in np.random.SeedSequence(0).spawn(300):
        drawn = training.values(env, "trained", child)
        assert not unseen & set(drawn)
        kinds = {
            str(drawn.get(n, "none")).split()[0]
            for n in ("background.pattern", "clutter.still", "clutter.moving")
        }
        assert not kinds & {"wood", "photo", "lines", "writing", "star"}
        for color in families.things(factors).keys() & drawn.keys():
            dark = factors[color].brightness[0]
            assert max(drawn[color]) >= int(255 * dark)
        met |= kinds | set(drawn)
        plain += not drawn
    assert {"plain", "stripes", "checks", "gradient", "noise", "discs", "boxes", "disc"} <= met
    assert {"light.brightness", "light.contrast", "light.gamma", "camera.zoom", "camera.blur"} <= met
    assert 0 < plain < 30  # some episodes look as usual
    listed = training.families(env, "trained")
    assert listed == [family.name for family in families.families(factors, trained=True)]
    for child in np.random.SeedSequence(1).spawn(20):
        groups = {factors[n].group for n in training.values(env, "light,camera", child)}
        assert groups <= {"light", "camera"}


@pytest.mark.parametrize(
    "word", ["unseen", "unseen.color", "shape", "colour", "", "color.dark", "light.cast"]
)
def test_training_refuses_what_is_for_tests(word: str) -> None:
    with pytest.raises(WorldError, match=r"Training may vary trained .* Unseen looks are for tests"):
        training.families(envs.make("pusht", image_size=16), word)


def test_the_goal_or_the_scene_alone_may_look_otherwise() -> None:
    env = envs.make("pusht", image_size=48)
    usual, info = env.reset(seed=2)
    clean = usual["pixels"], info["goal"]
    seen = {}
    for shown in ("both", "scene", "goal"):
        obs, info = env.reset(seed=2, options={"vary": ["unseen.color", "size"], "shown": shown})
        seen[shown] = obs["pixels"], info["goal"]
        assert set(info["factors"]) >= {"agent.size", "block.size", "agent.color"}
    same = [
        np.array_equal(a[i], b[i])
        for a, b in ((seen["both"], seen["scene"]), (seen["both"], seen["goal"]))
        for i in (0, 1)
    ]
    assert same == [True, False, False, True]
    sizes, _ = env.reset(
        seed=2, options={"factors": {k: info["factors"][k] for k in ("agent.size", "block.size")}}
    )
    np.testing.assert_array_equal(seen["goal"][0], sizes["pixels"])  # bodies are as large in both
    with pytest.raises(WorldError, match="'both', 'scene', 'goal', not 'neither'"):
        env.reset(seed=2, options={"shown": "neither"})
    obs, info = env.reset(seed=2)
    np.testing.assert_array_equal(obs["pixels"], clean[0])
    np.testing.assert_array_equal(info["goal"], clean[1])


@pytest.mark.parametrize("name", [world("point_maze"), world("reacher"), world("cube")])
def test_worlds_that_share_a_model_keep_their_looks(name: str) -> None:
    one, other = envs.make(name, image_size=48), envs.make(name, image_size=48)
    usual = one.reset(seed=1)[0]["pixels"]
    looks = [{"background.pattern": "photo 1"}, {"clutter.still": "boxes 2", "background.pattern": "wood 3"}]
    alone = []
    for look in looks:
        alone.append(one.reset(seed=1, options={"factors": look})[0]["pixels"])
    other.reset(seed=1, options={"factors": looks[0]})
    draw = one.drawn_in({"light.gamma": 2.0})
    for _ in range(2):
        np.testing.assert_array_equal(one.render(), alone[1])
        np.testing.assert_array_equal(other.render(), alone[0])
        assert not np.array_equal(draw(), alone[1])
    np.testing.assert_array_equal(other.reset(seed=1)[0]["pixels"], usual)
    assert not np.array_equal(alone[0], alone[1])


@pytest.mark.parametrize("name", [world("reacher")])
def test_a_published_look_has_light_and_camera_alone(name: str) -> None:
    env = envs.make(name, image_size=48, reference_look=True)
    env.reset(seed=0, options={"vary": ["light", "camera"]})
    with pytest.raises(WorldError, match="In the published look only light and camera can vary"):
        env.reset(seed=0, options={"vary": "color"})
    env.reset(seed=0)


def test_a_world_of_one_look_says_so() -> None:
    class Plain(envs.world_class("two_room")):  # type: ignore[misc]
        factors = {}

    with pytest.raises(WorldError, match="Plain has one look"):
        training.families(Plain(image_size=16), "trained")


def test_clutter_that_moves_moves_and_hides_nothing() -> None:
    env = envs.make("pusht", image_size=64)
    still = {"state": [100, 400, 256, 200, 0, 0, 0], "factors": {"clutter.moving": "disc 3"}}
    frames = [env.reset(options=still)[0]["pixels"], *(env.step([0, 0])[0]["pixels"] for _ in range(20))]
    assert all(not np.array_equal(a, b) for a, b in zip(frames, frames[1:]))
    again = [env.reset(options=still)[0]["pixels"], *(env.step([0, 0])[0]["pixels"] for _ in range(20))]
    np.testing.assert_array_equal(frames, again)
    usual = env.reset(options={"state": still["state"]})[0]["pixels"]
    fills = [np.array(env.factors[name].default) for name in ("agent.color", "block.color")]
    things = np.any([(usual == fill).all(-1) for fill in fills], axis=0)
    assert things.sum() > 40
    assert np.abs(np.array(frames)[:, things].astype(int) - usual[things]).max() <= 1


def test_camera_and_light_do_what_they_say() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)
    moved = Finish(40, {"camera.shift_x": 5.0, "camera.shift_y": -10.0})(frame)
    np.testing.assert_array_equal(moved[:-4, 2:], frame[4:, :-2])  # 2 px to the right, 4 px up
    np.testing.assert_array_equal(
        Finish(40, {"light.brightness": 0.5})(frame), np.rint(frame / 2).astype(np.uint8)
    )
    red = Finish(40, {"light.cast": (255, 0, 0)})(frame)
    np.testing.assert_array_equal(red[..., 0], frame[..., 0])
    assert not red[..., 1:].any()
    turned = [Finish(40, {"camera.rotation": angle})(frame).astype(int) for angle in (0.0001, 45.0)]
    assert np.abs(turned[0] - frame).mean() < 1 and np.abs(turned[1] - frame).mean() > 20
    flat = np.full((40, 40, 3), 90, np.uint8)
    for values in (
        {"camera.zoom": 1.3},
        {"camera.blur": 4.0},
        {"camera.perspective_x": 9.0},
        {"camera.rotation": 9.0},
    ):
        np.testing.assert_array_equal(Finish(40, values)(flat), flat)
    corners = Finish(40, {"light.vignette": 0.5})(flat)
    assert corners[20, 20, 0] >= 89 and corners[0, 0, 0] < 50
    assert Finish.of(40, {"light.gamma": 1.0, "clutter.still": "discs 3", "agent.color": (1, 2, 3)}) is None


# recordings


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return collect("two_room", tmp_path_factory.mktemp("looks") / "a.h5", **SMALL, workers=1, vary="trained")


def test_a_recording_has_a_second_look_of_the_same_episodes(recording: Path, tmp_path: Path) -> None:
    plain = collect("two_room", tmp_path / "plain.h5", **SMALL, workers=1)
    with EpisodeReader(recording) as reader, EpisodeReader(plain) as usual:
        assert reader.look_column == "pixels_look" and usual.look_column is None
        assert set(reader.columns) == {*usual.columns, "pixels_look"} and reader.cameras == {}
        for column in usual.columns:
            np.testing.assert_array_equal(reader.read(column, 0, 48), usual.read(column, 0, 48))
        looks = reader.read("pixels_look", 0, 48)
        assert looks.shape == (48, 32, 32, 3) and looks.dtype == np.uint8
        differs = [
            not np.array_equal(looks[i : i + 8], reader.read("pixels", i, i + 8)) for i in range(0, 48, 8)
        ]
        assert sum(differs) >= 4
        assert reader.attrs["vary"] == "trained" and reader.attrs["vary_version"] == families.VERSION
        assert reader.attrs["vary_families"] == training.families(envs.make("two_room"), "trained")
        assert not {"vary", "vary_families", "vary_version"} & set(usual.attrs)


def test_workers_and_shards_record_the_same_looks(recording: Path, tmp_path: Path) -> None:
    other = collect("two_room", tmp_path / "b.h5", **SMALL, workers=2, vary="trained")
    shards = collect_shards("two_room", tmp_path / "shards", **SMALL, shards=2, vary="trained")
    with EpisodeReader(shards) as reader:
        assert reader.look_column == "pixels_look"
        together = reader.read("pixels_look", 0, 48)
    merged = merge(shards, tmp_path / "c.h5", progress=False)
    assert recording.read_bytes() == other.read_bytes() == merged.read_bytes()
    with EpisodeReader(recording) as reader:
        np.testing.assert_array_equal(reader.read("pixels_look", 0, 48), together)


def test_a_recording_under_other_looks_is_another_one(recording: Path) -> None:
    with pytest.raises(RecordingError, match="was recorded with vary=.?trained.? and not"):
        collect("two_room", recording, **SMALL, workers=1)
    with pytest.raises(WorldError, match="did you mean 'color'"):
        collect("two_room", recording.with_name("d.h5"), **SMALL, workers=1, vary="colors")


def test_the_second_look_is_no_camera_and_a_camera_is_no_second_look(recording: Path, tmp_path: Path) -> None:
    for asked in ({"cameras": ["pixels", "look"]}, {"camera": "pixels_look"}, {"camera": "look"}):
        with pytest.raises(RecordingError, match="different names of cameras"):
            EpisodeReader(recording, **asked)
    path = tmp_path / "robot.h5"
    frames, action = np.zeros((3, 8, 8, 3), np.uint8), np.zeros((3, 1), np.float32)
    with EpisodeWriter(path, attrs={"env": "robot"}) as writer:
        writer.append({"pixels": frames, "pixels_look": frames + 1, "action": action})
    with EpisodeReader(path) as reader:
        assert reader.look_column is None  # nothing says what it is


@pytest.mark.parametrize("name", ["pusht", "two_room", "wall"])
def test_a_recording_is_drawn_again_from_its_states(name: str, tmp_path: Path) -> None:
    small = {**SMALL, "episodes": 3}
    plain = collect(name, tmp_path / "plain.h5", **small, workers=1)
    wanted = collect(name, tmp_path / "wanted.h5", **small, workers=1, vary="trained")
    assert relook.main([str(plain), str(tmp_path / "made.h5")]) == 0
    with EpisodeReader(tmp_path / "made.h5") as made, EpisodeReader(wanted) as expected:
        assert made.look_column == "pixels_look" and made.attrs["vary_from"] == "recorded states"
        assert {**made.attrs, **expected.attrs} == made.attrs
        for column in ("pixels", "state", "action"):
            np.testing.assert_array_equal(made.read(column, 0, 24), expected.read(column, 0, 24))
        one, other = (reader.read("pixels_look", 0, 24).astype(int) for reader in (made, expected))
        assert np.abs(one - other).mean() < 0.1


def test_what_cannot_be_drawn_again_says_so(recording: Path, tmp_path: Path, capsys) -> None:
    assert relook.main([str(recording), str(tmp_path / "out.h5")]) == 2
    assert "has a second look already" in capsys.readouterr().err
    path = tmp_path / "robot.h5"
    with EpisodeWriter(path, attrs={"env": "robot"}) as writer:
        frames, action = np.zeros((3, 8, 8, 3), np.uint8), np.zeros((3, 1), np.float32)
        writer.append({"pixels": frames, "action": action})
    assert relook.main([str(path), str(tmp_path / "out.h5")]) == 2
    assert "was not recorded here" in capsys.readouterr().err
    assert not (tmp_path / "out.h5").exists()


def test_the_list_says_which_looks_are_unseen(capsys) -> None:
    assert shifts.main(["two_room"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    kinds = {line[0]: line[2] for line in lines if len(line) > 2}
    for family in families.families(known("two_room")):
        assert kinds[family.name] == ("trained" if family.trained else "unseen") or family.name in known(
            "two_room"
        )


def test_train_needs_a_recording_with_a_second_look(
    recording: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    plain = collect("two_room", tmp_path / "plain.h5", **SMALL, workers=1)
    words = ["env=two_room", "model.image_size=32", "data.vary=trained"]
    assert train.main([*words, f"data.path={plain}"]) == 2
    assert "has no second look" in capsys.readouterr().err
    assert train.main([*words[:2], "data.vary=[color,shape]", "env.episodes=2", "env.length=4"]) == 2
    assert "not 'shape'" in capsys.readouterr().err


DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("name", sorted({name.removesuffix("_medium") for name in shifts.VARIED}))
def test_each_world_s_page_says_all_that_may_vary(name: str) -> None:
    page = (DOCS / "worlds" / f"{name}.md").read_text(encoding="utf-8")
    assert f"also takes [factors of variation](../shifts.md): {shifts.summary(name)} |" in page


def test_the_page_of_shifts_lists_every_family() -> None:
    page = (DOCS / "shifts.md").read_text(encoding="utf-8")
    for group in dict.fromkeys(family.group for family in families.FAMILIES):
        of_group = [family for family in families.FAMILIES if family.group == group]
        trained, unseen = (
            ", ".join(f"`{family.name}` ({family.about})" for family in of_group if family.trained == kind)
            for kind in (True, False)
        )
        assert f"| `{group}` | {trained} | {unseen} |" in page
