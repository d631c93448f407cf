"""Preprocessing equals Pillow's resize, and every geometry leads back to the picture's size."""

from __future__ import annotations

import numpy as np
import PIL
import pytest
from PIL import Image

from birefnet.errors import BiRefNetError, ImageError
from birefnet.imaging.geometry import Preprocess, resize

SIZES = [(1, 1), (1, 5000), (5000, 1), (33, 47), (720, 1280), (256, 256)]


def picture(height: int, width: int, dtype: type = np.uint8) -> np.ndarray:
    generator = np.random.default_rng(height * 7919 + width)
    return generator.integers(0, np.iinfo(dtype).max + 1, (height, width, 3), dtype)


def smooth_map(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    return (np.sin(y / 40) + np.cos(x / 50)).astype(np.float32)


@pytest.mark.parametrize("fit", ["stretch", "pad", "native"])
@pytest.mark.parametrize("size", SIZES)
def test_any_size_goes_in_and_comes_back(fit: str, size: tuple[int, int]) -> None:
    preprocess = Preprocess(width=256, height=128, fit=fit, minimum=64, maximum=512)
    geometry = preprocess.plan(*size)
    tensor = geometry.apply(picture(*size))
    assert tensor.dtype == np.float32
    assert tensor.shape == (3, *geometry.input)
    assert all(side % 32 == 0 for side in geometry.input)
    restored = geometry.restore(tensor[0])
    assert restored.shape == size
    assert np.isfinite(restored).all()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(300, 500), (100, 90), (64, 600)])
def test_apply_equals_pillow(interpolation: str, size: tuple[int, int]) -> None:
    preprocess = Preprocess(width=256, height=160, interpolation=interpolation)
    pixels = picture(*size)
    tensor = preprocess.plan(*size).apply(pixels)
    kernel = Image.Resampling[interpolation.upper()]
    expected = np.asarray(Image.fromarray(pixels).resize((256, 160), kernel)) / 255.0
    expected = (expected - preprocess.mean) / preprocess.std
    np.testing.assert_allclose(tensor.transpose(1, 2, 0), expected, atol=1e-5)


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(
    "size", [(1025, 769), (301, 1999), (700, 700), (200, 1999), (1999, 300), (288, 1999)]
)
def test_halves_made_side_by_side_equal_pillow(interpolation: str, size: tuple[int, int]) -> None:
    preprocess = Preprocess(448, 288, (0, 0, 0), (1, 1, 1), interpolation=interpolation)
    pixels = picture(*size)
    kernel = Image.Resampling[interpolation.upper()]
    image = Image.fromarray(pixels)
    rows_first = image.resize((448, size[0]), kernel).resize((448, 288), kernel)
    found = np.round(preprocess.plan(*size).apply(pixels).transpose(1, 2, 0) * 255)
    np.testing.assert_array_equal(found, rows_first)
    # From version 13 on Pillow itself may take the columns first; it rounds and clips in between.
    own = np.asarray(image.resize((448, 288), kernel)).astype(int)
    is_own_order = int(PIL.__version__.split(".")[0]) < 13
    assert np.abs(found - own).max() <= (0 if is_own_order else 1 if kernel == 2 else 9)


@pytest.mark.parametrize(
    ("interpolation", "levels"), [("bilinear", 1), ("area", 1), ("bicubic", 9)]
)
def test_sixteen_bits_agree_with_eight(interpolation: str, levels: int) -> None:
    # Pillow clips 8-bit pixels between its two passes, which bicubic overshoots of noise feel.
    preprocess = Preprocess(width=96, height=64, interpolation=interpolation)
    pixels = picture(150, 200)
    geometry = preprocess.plan(150, 200)
    difference = geometry.apply(pixels) - geometry.apply(pixels.astype(np.uint16) * 257)
    assert np.abs(difference).max() * max(preprocess.std) <= levels / 255


def test_restore_shrinks_with_antialias() -> None:
    stripes = np.zeros((256, 256), np.float32)
    stripes[:, ::2] = 1
    restored = Preprocess(width=256, height=256).plan(40, 41).restore(stripes)
    assert abs(restored - 0.5).max() < 0.1


def test_restore_keeps_values_outside_the_unit_range() -> None:
    logits = (smooth_map(64, 64) - 1) * 40
    restored = Preprocess(width=64, height=64).plan(200, 100).restore(logits)
    assert restored.min() < -20
    assert restored.max() > 20


@pytest.mark.parametrize("size", [(100, 400), (400, 100), (3, 1000)])
def test_padding_is_mean_and_is_removed(size: tuple[int, int]) -> None:
    geometry = Preprocess(width=256, height=256, fit="pad").plan(*size)
    tensor = geometry.apply(np.full((*size, 3), 255, np.uint8))
    inside = np.zeros(geometry.input, bool)
    inside[geometry.box.slices] = True
    assert geometry.is_padded
    assert (tensor[:, ~inside] == 0).all()
    assert (tensor[:, inside] > 2).all()
    assert (geometry.restore(inside.astype(np.float32)) == 1).all()


def test_a_smooth_map_survives_the_round_trip() -> None:
    source = smooth_map(180, 240)
    pixels = np.repeat(((source + 2) / 4 * 65535).astype(np.uint16)[..., None], 3, axis=2)
    for fit in ("stretch", "pad"):
        preprocess = Preprocess(width=160, height=192, fit=fit, mean=(0, 0, 0), std=(1, 1, 1))
        geometry = preprocess.plan(180, 240)
        restored = geometry.restore(geometry.apply(pixels)[1]) * 4 - 2
        assert np.abs(restored - source).max() < 0.02


@pytest.mark.parametrize(
    ("fit", "resolution", "size", "expected"),
    [
        ("stretch", None, (10, 20), (1024, 1024)),
        ("stretch", 512, (10, 20), (512, 512)),
        ("stretch", 500, (10, 20), (512, 512)),
        ("stretch", 1, (10, 20), (32, 32)),
        ("stretch", (640, 320), (10, 20), (320, 640)),
        ("stretch", "native", (700, 900), (704, 896)),
        ("pad", 512, (100, 50), (512, 512)),
        ("native", None, (700, 900), (704, 896)),
        ("native", None, (33, 47), (256, 352)),
        ("native", None, (1, 5000), (256, 2304)),
        ("native", None, (6000, 4000), (2304, 1536)),
        ("native", 1024, (6000, 3000), (1024, 512)),
    ],
)
def test_plan(fit: str, resolution: object, size: tuple[int, int], expected: object) -> None:
    assert Preprocess(fit=fit).plan(*size, resolution).input == expected


@pytest.mark.parametrize("resolution", [0, -3, 10**6, 1.5, "huge", (1, 2, 3), (0, 32), True])
def test_bad_resolution_is_refused(resolution: object) -> None:
    with pytest.raises(BiRefNetError, match="resolution"):
        Preprocess().plan(10, 10, resolution)


def test_dict_round_trip_and_unknown_keys() -> None:
    preprocess = Preprocess(width=352, fit="pad", mean=(0.5, 0.5, 0.5))
    assert Preprocess.from_dict(preprocess.to_dict()) == preprocess
    assert isinstance(preprocess.to_dict()["mean"], list)
    with pytest.raises(BiRefNetError, match="widht"):
        Preprocess.from_dict({"widht": 3})


@pytest.mark.parametrize(
    "values",
    [
        {"width": 100},
        {"height": 0},
        {"fit": "crop"},
        {"std": (1, 0, 1)},
        {"mean": (1, 2)},
        {"minimum": 512, "maximum": 256},
        {"multiple": 0},
    ],
)
def test_contradictions_are_refused(values: dict) -> None:
    with pytest.raises(BiRefNetError):
        Preprocess(**values)


def test_wrong_pixels_and_maps_are_refused() -> None:
    geometry = Preprocess(width=64, height=64).plan(10, 12)
    for pixels in (picture(12, 10), picture(10, 12)[..., :1], picture(10, 12).astype(np.float32)):
        with pytest.raises(ImageError, match="expected"):
            geometry.apply(pixels)
    with pytest.raises(ImageError, match="expected"):
        geometry.restore(np.zeros((10, 12), np.float32))
    with pytest.raises(ImageError, match="at least 1 x 1"):
        Preprocess().plan(0, 5)


def test_area_equals_block_means_at_whole_factors() -> None:
    pixels = picture(60, 90)
    means = pixels.reshape(20, 3, 30, 3, 3).mean((1, 3))
    assert np.abs(resize(pixels, 20, 30, "area") - means).max() <= 0.5 + 1e-6


def test_non_contiguous_pixels() -> None:
    pixels = picture(50, 60)
    geometry = Preprocess(width=32, height=32).plan(50, 60)
    flipped = geometry.apply(pixels[::-1, ::-1])
    np.testing.assert_array_equal(flipped, geometry.apply(pixels[::-1, ::-1].copy()))
