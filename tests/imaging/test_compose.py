"""Compositions follow their formulas at every depth, and colours are read as people write them."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from birefnet.errors import BiRefNetError, ImageError
from birefnet.imaging import compose
from birefnet.imaging.foreground import estimate_foreground
from birefnet.imaging.picture import to_float, to_uint8, to_uint16

GENERATOR = np.random.default_rng(13)
RGB = GENERATOR.integers(0, 256, (30, 44, 3), np.uint8)
OTHER = GENERATOR.integers(0, 256, (30, 44, 3), np.uint8)
ALPHA = GENERATOR.random((30, 44), np.float32)
ALPHA[:5] = 0
ALPHA[-5:] = 1

# How 8-bit pixels become each depth, its white, and the error of one rounding.
DEPTHS = {
    "uint8": (to_uint8, 255, 0),
    "uint16": (to_uint16, 65535, 0),
    "float": (to_float, 1, 1e-6),
}


def test_doctest() -> None:
    assert doctest.testmod(compose).failed == 0


@pytest.mark.parametrize("depth", DEPTHS)
def test_blend_follows_the_formula(depth: str) -> None:
    convert, white, tolerance = DEPTHS[depth]
    over, under = convert(RGB), convert(OTHER)
    result = compose.blend(over, under, ALPHA)
    a = ALPHA[..., None].astype(np.float64)
    expected = a * over + (1 - a) * under
    assert result.dtype == over.dtype
    assert np.abs(result - expected).max() <= (0.51 if white > 1 else tolerance)


@pytest.mark.parametrize("depth", DEPTHS)
def test_on_colour(depth: str) -> None:
    convert, white, tolerance = DEPTHS[depth]
    result = compose.on_colour(convert(RGB), ALPHA, (255, 0, 51, 255))
    assert result.shape == RGB.shape
    np.testing.assert_allclose(result[0, 0], np.array([1, 0, 0.2]) * white, rtol=1e-6)
    np.testing.assert_allclose(result[-5:], convert(RGB)[-5:], atol=tolerance)
    assert (compose.white(convert(RGB), ALPHA)[0] == white).all()
    assert compose.green(RGB, ALPHA)[0, 0].tolist() == [0, 255, 0]


def test_on_a_translucent_colour() -> None:
    result = compose.on_colour(RGB, ALPHA, (10, 200, 30, 128))
    assert result.shape == (30, 44, 4)
    assert result[0, 0].tolist() == [10, 200, 30, 128]
    np.testing.assert_array_equal(result[-5:, :, :3], RGB[-5:])
    assert (result[-5:, :, 3] == 255).all()
    # Laid on white, it is what laying one after the other on white gives.
    opacity = result[..., 3] / np.float32(255)
    at_once = compose.white(np.ascontiguousarray(result[..., :3]), opacity)
    tint = compose.white(np.full_like(RGB, (10, 200, 30)), np.full_like(ALPHA, 128 / 255))
    assert np.abs(at_once.astype(int) - compose.blend(RGB, tint, ALPHA)).max() <= 2
    clear = compose.on_colour(RGB, ALPHA, (0, 0, 0, 0))
    np.testing.assert_array_equal(clear[5:], compose.cutout(RGB, ALPHA)[5:])
    assert not clear[:5].any()


@pytest.mark.parametrize("depth", DEPTHS)
def test_cutout_and_mask(depth: str) -> None:
    convert, white, _ = DEPTHS[depth]
    result = compose.cutout(convert(RGB), ALPHA)
    assert result.dtype == convert(RGB).dtype
    np.testing.assert_array_equal(result[..., :3], convert(RGB))
    assert np.abs(result[..., 3] / white - ALPHA).max() <= 0.51 / 255
    np.testing.assert_array_equal(compose.mask(ALPHA), np.rint(ALPHA * 255))
    np.testing.assert_array_equal(compose.mask(ALPHA, 16), np.rint(ALPHA * 65535))


@pytest.mark.parametrize("size", [(30, 44), (60, 20), (7, 300), (1, 1), (500, 700)])
@pytest.mark.parametrize("mode", ["fill", "fit"])
@pytest.mark.parametrize("depth", DEPTHS)
def test_on_picture_covers_or_shows_everything(size: tuple, mode: str, depth: str) -> None:
    convert, white, tolerance = DEPTHS[depth]
    background = np.full((*size, 3), (0, 0, 255), np.uint8)
    empty = np.zeros_like(ALPHA)
    result = compose.on_picture(
        convert(RGB), empty, convert(background), mode=mode, colour=(255, 0, 0, 255)
    )
    assert result.shape == RGB.shape
    assert result.dtype == convert(RGB).dtype
    is_blue = result[..., 2] == white
    if mode == "fill":
        assert is_blue.all()
    else:
        scale = min(30 / size[0], 44 / size[1])
        rows, columns = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
        assert is_blue.sum() == rows * columns
        assert (result[~is_blue][:, 0] == white).all()
        assert is_blue[(30 - rows) // 2, (44 - columns) // 2]
    opaque = compose.on_picture(convert(RGB), np.ones_like(ALPHA), background, mode=mode)
    np.testing.assert_allclose(opaque, convert(RGB), atol=tolerance)


def test_fill_cuts_both_sides_alike() -> None:
    stripes = np.zeros((30, 132, 3), np.uint8)
    stripes[:, 44:88] = 255
    result = compose.on_picture(RGB, np.zeros_like(ALPHA), stripes)
    assert result.min() == 255


def test_blurred_background_casts_no_glow() -> None:
    height, width = 120, 160
    alpha = np.zeros((height, width), np.float32)
    alpha[40:80, 60:100] = 1
    pixels = np.full((height, width, 3), (20, 40, 60), np.uint8)
    pixels[40:80, 60:100] = 255
    result = compose.blurred(pixels, alpha, pixels, radius=20)
    outside = alpha == 0
    assert np.abs(result[outside].astype(int) - (20, 40, 60)).max() <= 2
    assert (result[40:80, 60:100] == 255).all()
    np.testing.assert_array_equal(
        compose.blurred(RGB, np.zeros_like(ALPHA), RGB, radius=0)[3:-3, 3:-3], RGB[3:-3, 3:-3]
    )


@pytest.mark.parametrize("depth", DEPTHS)
def test_blurred_background_is_smooth(depth: str) -> None:
    convert, white, tolerance = DEPTHS[depth]
    noise = GENERATOR.integers(0, 256, (100, 120, 3), np.uint8)
    clear = np.zeros((100, 120), np.float32)
    result = compose.blurred(convert(noise), clear, convert(noise), radius=10) / white
    assert result.std() < 0.1
    assert abs(result.mean() - noise.mean() / 255) < 0.01
    whole = compose.blurred(convert(noise), clear + 1, convert(noise))
    np.testing.assert_allclose(whole, convert(noise), atol=tolerance)


def test_overlay_tints_and_outlines() -> None:
    alpha = np.zeros((60, 80), np.float32)
    alpha[20:40, 20:60] = 1
    grey = np.full((60, 80, 3), 100, np.uint8)
    result = compose.overlay(grey, alpha, colour=(255, 0, 0, 255), opacity=0.5, outline=2)
    assert (result[:15] == 100).all()
    assert np.abs(result[30, 40].astype(int) - (178, 50, 50)).max() <= 1
    assert result[20, 40, 0] > 230
    plain = compose.overlay(grey, alpha, colour=(255, 0, 0, 255), opacity=0.5, outline=0)
    assert np.abs(plain[20, 40].astype(int) - (178, 50, 50)).max() <= 1
    with pytest.raises(BiRefNetError, match="opacity"):
        compose.overlay(grey, alpha, opacity=2)


@pytest.mark.parametrize(
    ("text", "colour"),
    [
        ("white", (255, 255, 255, 255)),
        (" Black ", (0, 0, 0, 255)),
        ("#f80", (255, 136, 0, 255)),
        ("#FF8000", (255, 128, 0, 255)),
        ("#ff800040", (255, 128, 0, 64)),
        ("1,2,3", (1, 2, 3, 255)),
        ("1, 2, 3, 4", (1, 2, 3, 4)),
        ("rgb(5, 6, 7)", (5, 6, 7, 255)),
        ("hsl(0, 100%, 50%)", (255, 0, 0, 255)),
        ("transparent", (0, 0, 0, 0)),
        ((9, 8, 7), (9, 8, 7, 255)),
        ([9, 8, 7, 6], (9, 8, 7, 6)),
    ],
)
def test_parse_colour(text: object, colour: tuple) -> None:
    assert compose.parse_colour(text) == colour


@pytest.mark.parametrize(
    "text",
    [
        "",
        "whitish",
        "#12345",
        "1,2",
        "1,2,256",
        "1,2,3,4,5",
        "-1,0,0",
        "a,b,c",
        (1, 2),
        (1, 2, 300),
        (0.9, 0.5, 0.1),
        (1.0, 1.0, 1.0),
    ],
)
def test_what_is_no_colour(text: object) -> None:
    with pytest.raises(BiRefNetError, match="is not a colour"):
        compose.parse_colour(text)


def test_wrong_shapes_are_refused() -> None:
    for call in (compose.cutout, compose.white, compose.overlay):
        with pytest.raises(ImageError, match="expected"):
            call(RGB, ALPHA[1:])
    with pytest.raises(ImageError, match="background"):
        compose.on_picture(RGB, ALPHA, ALPHA)
    with pytest.raises(BiRefNetError, match="fill or fit"):
        compose.on_picture(RGB, ALPHA, RGB, mode="stretch")
    for radius in (-1, float("nan"), float("inf")):
        with pytest.raises(BiRefNetError, match="blur"):
            compose.blurred(RGB, ALPHA, RGB, radius=radius)


def test_no_halo_of_the_old_background() -> None:
    y, x = np.mgrid[0:160, 0:160]
    alpha = np.clip(50 - np.hypot(y - 80, x - 80), 0, 6).astype(np.float32) / 6
    subject = np.full((160, 160, 3), (150, 60, 40), np.uint8)
    picture = compose.white(subject, alpha)
    wanted = compose.on_colour(subject, alpha, (10, 10, 40, 255)).astype(int)
    kept = compose.on_colour(picture, alpha, (10, 10, 40, 255)).astype(int)
    foreground = estimate_foreground(picture, alpha, dtype=np.uint8)
    cleaned = compose.on_colour(foreground, alpha, (10, 10, 40, 255)).astype(int)
    assert np.abs(kept - wanted).max() > 50
    assert np.abs(cleaned - wanted).max() < 10
