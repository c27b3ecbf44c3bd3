"""Goal pictures: every kind of image file becomes uint8 (H, W, 3), everything else one clear sentence."""

from __future__ import annotations

import json
import logging
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin

from latent_planner import goal_image as images
from latent_planner.goal_image import GoalImageError, read_goal, read_goal_text, write_goal
from latent_planner.pixels import resize_picture


def scene(size: int = 32) -> np.ndarray:
    """A picture without symmetry: dark square in the upper left, a colour ramp to the right."""
    pixels = np.full((size, size, 3), 255, np.uint8)
    pixels[: size // 4, : size // 2] = (20, 40, 60)
    pixels[size // 2 :, :, 0] = np.linspace(0, 255, size).astype(np.uint8)
    return pixels


def png_of_size(path: Path, width: int, height: int) -> Path:
    """A tiny file whose header promises width x height (1 bit a pixel, all white)."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compressobj(9)
    row = b"\0" + b"\xff" * ((width + 7) // 8)
    data = rows.compress(row * min(height, 64)) + rows.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)
    return path


def one_sentence(error: pytest.ExceptionInfo) -> str:
    text = str(error.value)
    assert "\n" not in text and len(text) < 300
    return text


@pytest.mark.parametrize("suffix", ["png", "bmp", "tiff", "webp", "gif", "jpg", "ppm"])
def test_usual_formats_are_read(tmp_path, suffix):
    path = tmp_path / f"goal.{suffix}"
    options = {"webp": {"lossless": True}, "jpg": {"quality": 95, "subsampling": 0}}.get(suffix, {})
    Image.fromarray(scene()).save(path, **options)
    pixels = read_goal(path)
    assert pixels.dtype == np.uint8 and pixels.shape == (32, 32, 3)
    allowed = {"jpg": 3.0, "gif": 1.5}.get(suffix, 0.0)  # grey levels, on average
    assert np.abs(pixels.astype(int) - scene()).mean() <= allowed


def test_format_is_told_by_content_not_by_name(tmp_path):
    Image.fromarray(scene()).save(tmp_path / "goal.jpg", format="PNG")
    assert (read_goal(tmp_path / "goal.jpg") == scene()).all()


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "LA", "RGBA", "PA"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    grey = np.repeat(scene()[:, :, 2:], 3, axis=2) // 255 * 255
    path = tmp_path / ("goal.tiff" if mode in ("CMYK", "PA") else "goal.png")
    image = Image.fromarray(grey)
    (image.convert("P").convert("PA") if mode == "PA" else image.convert(mode)).save(path)
    assert np.abs(read_goal(path).astype(int) - grey).max() <= 1


@pytest.mark.parametrize("size", [32, 2048])
def test_alpha_is_laid_on_white(tmp_path, size):
    rgba = np.zeros((size, size, 4), np.uint8)  # transparent black ...
    rgba[: size // 2] = (10, 20, 30, 255)  # ... under an opaque half
    rgba[size // 2 :, : size // 2, 3] = 51  # and a fifth of black
    Image.fromarray(rgba).save(tmp_path / "goal.png")
    pixels = resize_picture(read_goal(tmp_path / "goal.png"), 32)
    assert (pixels[:16] == (10, 20, 30)).all()
    assert (pixels[16:, :16] == 204).all() and (pixels[16:, 16:] == 255).all()


def test_transparent_palette_colour_is_laid_on_white(tmp_path):
    image = Image.fromarray(scene()).convert("RGB").quantize(8)
    image.info["transparency"] = image.getpixel((0, 0))
    image.save(tmp_path / "goal.gif", transparency=image.getpixel((0, 0)))
    assert (read_goal(tmp_path / "goal.gif")[:8, :16] == 255).all()


def test_16_bit_grey_uses_its_full_range(tmp_path):
    deep = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(deep).save(tmp_path / "goal.png")
    Image.fromarray(deep).save(tmp_path / "goal.tiff")
    expected = np.round(deep / 257.0)
    for name in ("goal.png", "goal.tiff"):
        pixels = read_goal(tmp_path / name)
        assert np.abs(pixels - expected[:, :, None]).max() <= 1 and pixels.max() == 255


def test_fractions_are_scaled_and_nan_is_refused(tmp_path):
    values = np.linspace(0, 1, 256, dtype=np.float32).reshape(16, 16)
    Image.fromarray(values).save(tmp_path / "goal.tiff")
    assert (read_goal(tmp_path / "goal.tiff")[:, :, 0].ravel() == np.arange(256)).all()
    values[3, 3] = np.nan
    Image.fromarray(values).save(tmp_path / "nan.tiff")
    with pytest.raises(GoalImageError, match="finite"):
        read_goal(tmp_path / "nan.tiff")


def test_of_an_animation_the_first_frame_counts(tmp_path, caplog):
    first = Image.fromarray(scene())
    rest = [Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")]
    first.save(tmp_path / "goal.webp", save_all=True, append_images=rest, lossless=True)
    with caplog.at_level(logging.WARNING):
        assert (read_goal(tmp_path / "goal.webp") == scene()).all()
    assert "first" in caplog.text


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held sideways: turn clockwise to see it upright
    Image.fromarray(np.rot90(scene())).save(tmp_path / "goal.png", exif=exif)
    assert (read_goal(tmp_path / "goal.png") == scene()).all()


def test_an_oblong_picture_stays_as_it_is_and_is_squeezed_by_the_model(tmp_path):
    wide = scene().repeat(2, axis=1)
    Image.fromarray(wide).save(tmp_path / "goal.png")
    assert (read_goal(tmp_path / "goal.png") == wide).all()
    assert (resize_picture(wide, 32) == scene()).all()


def test_a_flat_picture_is_warned_of(tmp_path, caplog):
    Image.new("RGB", (32, 32), "red").save(tmp_path / "goal.png")
    with caplog.at_level(logging.WARNING):
        assert read_goal(tmp_path / "goal.png").shape == (32, 32, 3)
    assert "flat colour" in caplog.text


def test_large_pictures_are_reduced_and_enlarged_ones_come_back_exactly(tmp_path):
    def enlarged(factor):
        return scene().repeat(factor, axis=0).repeat(factor, axis=1)

    Image.fromarray(enlarged(5)).save(tmp_path / "goal.png")
    assert (resize_picture(read_goal(tmp_path / "goal.png"), 32) == scene()).all()
    Image.fromarray(enlarged(96)).save(tmp_path / "large.png")
    assert read_goal(tmp_path / "large.png").shape == (1024, 1024, 3)
    assert np.abs(resize_picture(read_goal(tmp_path / "large.png"), 32).astype(int) - scene()).max() <= 1
    Image.fromarray(enlarged(63)).save(tmp_path / "under.png")
    assert (read_goal(tmp_path / "under.png") == enlarged(63)).all()
    assert resize_picture(read_goal(tmp_path / "goal.png"), 300).shape == (300, 300, 3)


@pytest.mark.parametrize(
    "name, content, sentence",
    [
        ("text.png", b"this is no picture", "not an image"),
        ("empty.png", b"", "empty"),
        ("goal.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        ("header.png", b"\x89PNG\r\n\x1a\n", "not an image|damaged"),
    ],
)
def test_files_that_are_no_pictures(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(GoalImageError, match=sentence) as error:
        read_goal(tmp_path / name)
    assert name in one_sentence(error)


def test_missing_file_folder_and_device(tmp_path):
    cases = [
        (tmp_path / "none.png", "no file"),
        (tmp_path, "folder"),
        ("/dev/null", "regular"),
        ("x" * 999, "opened"),
    ]
    for path, sentence in cases:
        with pytest.raises(GoalImageError, match=sentence) as error:
            read_goal(path)
        one_sentence(error)


def test_20000_px_square_is_refused_and_20000_px_wide_is_read(tmp_path):
    with pytest.raises(GoalImageError, match="million pixels") as error:
        read_goal(png_of_size(tmp_path / "bomb.png", 20_000, 20_000))
    one_sentence(error)
    with pytest.raises(GoalImageError, match="million pixels"):
        read_goal(png_of_size(tmp_path / "big.png", 20_000, 4_000))
    assert read_goal(png_of_size(tmp_path / "wide.png", 20_000, 64)).shape == (64, 20_000, 3)
    with pytest.raises(GoalImageError, match="too small"):
        read_goal(png_of_size(tmp_path / "line.png", 20_000, 3))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), suffix=st.sampled_from(["png", "jpg", "gif", "webp", "tiff", "bmp"]))
def test_damaged_files_never_raise_anything_else(tmp_path_factory, data, suffix):
    path = tmp_path_factory.getbasetemp() / f"damaged.{suffix}"
    Image.fromarray(scene()).save(path)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 8))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        pixels = read_goal(path)
    except GoalImageError as error:
        assert "\n" not in str(error)
    else:
        assert pixels.dtype == np.uint8 and pixels.ndim == 3


def test_truncated_picture_says_so(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    for suffix in ("png", "jpg"):
        path = tmp_path / f"goal.{suffix}"
        Image.fromarray(noise).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(GoalImageError, match="cut off"):
            read_goal(path)


def test_goal_text_round_trip(tmp_path):
    path = write_goal(
        tmp_path / "goal.png", scene(), np.array([1.5, -2.0]), "pusht", 7, start_state=[0.1, 1e-17], steps=25
    )
    assert (read_goal(path) == scene()).all()
    text = read_goal_text(path)
    assert text == images.GoalText("pusht", (1.5, -2.0), 7, (0.1, 1e-17), 25)
    assert [entry.name for entry in tmp_path.iterdir()] == ["goal.png"]


def with_text(path: Path, text: str) -> Path:
    info = PngImagePlugin.PngInfo()
    info.add_text(images.TEXT_KEY, text)
    info.add_text("Comment", "made elsewhere")
    Image.fromarray(scene()).save(path, pnginfo=info)
    return path


GOOD = {"version": 1, "env": "pusht", "state": [1.0, 2.0], "seed": None, "start_state": None, "steps": None}


@pytest.mark.parametrize(
    "change",
    [
        {"state": [1.0, float("nan")]},
        {"state": [1.0, 1e308]},
        {"state": [1.0, True]},
        {"state": [1.0, "2"]},
        {"state": []},
        {"state": None},
        {"state": [0.0] * 1000},
        {"start_state": [1.0]},
        {"env": 3},
        {"env": "a\nb"},
        {"version": 2},
        {"seed": -1},
        {"seed": 10**400},
        {"state": [10**400, 0]},
        {"steps": 0},
    ],
)
def test_malformed_goal_text_is_ignored_with_a_warning(tmp_path, caplog, change):
    path = with_text(tmp_path / "goal.png", json.dumps(GOOD | change))
    with caplog.at_level(logging.WARNING):
        assert read_goal_text(path) is None
    assert "ignored" in caplog.text
    assert (read_goal(path) == scene()).all()


@pytest.mark.parametrize("text", ["", "{", "[" * 15_000, "null", "x" * 50_000, '"\\ud800"'])
def test_garbage_goal_text_is_ignored(tmp_path, text):
    assert read_goal_text(with_text(tmp_path / "goal.png", text)) is None


def test_pictures_without_our_text_have_none(tmp_path):
    Image.fromarray(scene()).save(tmp_path / "goal.png")
    Image.fromarray(scene()).save(tmp_path / "goal.jpg")
    (tmp_path / "no.png").write_bytes(b"no")
    for name in ("goal.png", "goal.jpg", "no.png", "missing.png"):
        assert read_goal_text(tmp_path / name) is None


def test_write_goal_refuses_what_it_could_not_read_back(tmp_path):
    with pytest.raises(GoalImageError, match=".png"):
        write_goal(tmp_path / "goal.jpg", scene(), [0.0], "pusht")
    with pytest.raises(ValueError, match="finite"):
        write_goal(tmp_path / "goal.png", scene(), [float("inf")], "pusht")
    with pytest.raises(ValueError, match="uint8"):
        write_goal(tmp_path / "goal.png", scene().astype(float), [0.0], "pusht")
    assert list(tmp_path.iterdir()) == []


def test_full_disk_leaves_the_old_goal(tmp_path):
    path = write_goal(tmp_path / "goal.png", scene(), [0.0], "pusht")
    before = path.read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))  # stands in for a full disk
    try:
        with pytest.raises(OSError):
            write_goal(path, noise, [1.0], "pusht")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["goal.png"]


def text_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_the_state_is_read_without_the_picture(tmp_path, monkeypatch):
    write_goal(tmp_path / "goal.png", scene(), [1.0, 2.0], "pusht", 5)
    found = read_goal_text(tmp_path / "goal.png")
    data = (tmp_path / "goal.png").read_bytes()

    def decoded(*_, **__):
        raise AssertionError("the picture was opened")

    monkeypatch.setattr(Image, "open", decoded)
    assert found == read_goal_text(tmp_path / "goal.png") and found.state == (1.0, 2.0)
    start = data.index(b"tEXt") - 4
    size = int.from_bytes(data[start : start + 4], "big")
    text = data[start + 8 : start + 8 + size].partition(b"\0")[2]
    key = images.TEXT_KEY.encode() + b"\0"
    for chunk in (
        text_chunk(b"zTXt", key + b"\0" + zlib.compress(text)),
        text_chunk(b"iTXt", key + b"\0\0en\0\0" + text),
        text_chunk(b"iTXt", key + b"\1\0\0\0" + zlib.compress(text)),
    ):
        (tmp_path / "other.png").write_bytes(data[:start] + chunk + data[start + 12 + size :])
        assert read_goal_text(tmp_path / "other.png") == found
    bomb = text_chunk(b"zTXt", key + b"\0" + zlib.compress(bytes(50_000_000)))
    for damaged in (data[: start + 20], data[:start] + b"\xff" * 40, b"", data[:8], data[:start] + bomb):
        (tmp_path / "other.png").write_bytes(damaged)
        assert read_goal_text(tmp_path / "other.png") is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes")
def test_a_pipe_as_goal_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "goal.png")
    assert read_goal_text(tmp_path / "goal.png") is None
    with pytest.raises(GoalImageError, match="not a regular file"):
        read_goal(tmp_path / "goal.png")


def test_a_picture_of_too_many_pixels_is_not_decoded(tmp_path, monkeypatch):
    """170 million pixels in a small file."""
    head = struct.pack(">IIBBBBB", 13_000, 13_000, 1, 0, 0, 0, 0)
    body = text_chunk(b"IHDR", head) + text_chunk(b"IDAT", zlib.compress(bytes(13_000 * 1626)))
    (tmp_path / "large.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body + text_chunk(b"IEND", b""))
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load", lambda *_: pytest.fail("it was decoded"))
    assert read_goal_text(tmp_path / "large.png") is None
    with pytest.raises(GoalImageError, match="more than 64 million pixels"):
        read_goal(tmp_path / "large.png")
