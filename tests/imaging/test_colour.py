"""Profiles lead to sRGB at 8 and 16 bits alike; broken and misplaced ones cost nothing."""

from __future__ import annotations

import io
import warnings

import numpy as np
import pytest
from PIL import Image, ImageCms

from birefnet.imaging import colour
from birefnet.imaging.io import decode, encode
from imaging import icc_profiles

GENERATOR = np.random.default_rng(3)
PIXELS = GENERATOR.integers(0, 256, (24, 30, 3), np.uint8)


def saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def lcms(pixels: np.ndarray, profile: bytes) -> np.ndarray:
    """What LittleCMS makes of 8-bit RGB, called directly."""
    converted = ImageCms.profileToProfile(
        Image.fromarray(pixels),
        ImageCms.getOpenProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
    )
    return np.asarray(converted)


PROFILES = {
    "adobe": icc_profiles.rgb(),
    "p3": icc_profiles.rgb(
        icc_profiles.DISPLAY_P3, icc_profiles.parametric(3, *icc_profiles.SRGB_CURVE)
    ),
    "table": icc_profiles.rgb(
        icc_profiles.ADOBE_RGB, icc_profiles.table(np.linspace(0, 1, 50) ** 1.8)
    ),
    "linear": icc_profiles.rgb(icc_profiles.SRGB, b"curv" + bytes(8)),
    "gamma": icc_profiles.rgb(icc_profiles.DISPLAY_P3, icc_profiles.parametric(0, 1.8)),
}  # fmt: skip


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_profiles_are_applied(name: str, format: str) -> None:
    profile = PROFILES[name]
    options = {"quality": 100, "subsampling": 0} if format == "JPEG" else {}
    if format == "WEBP":
        options = {"lossless": True}
    data = saved(Image.fromarray(PIXELS), format, icc_profile=profile, **options)
    picture = decode(data)
    stored = decode(data, convert_to_srgb=False)
    assert picture.icc_profile == stored.icc_profile == profile
    np.testing.assert_array_equal(picture.pixels, lcms(stored.pixels, profile))
    assert np.abs(picture.pixels.astype(int) - stored.pixels).max() > 5
    if format != "JPEG":
        np.testing.assert_array_equal(stored.pixels, PIXELS)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("format", ["png", "tiff"])
def test_sixteen_bits_are_converted_as_eight_are_but_finer(name: str, format: str) -> None:
    deep = PIXELS.astype(np.uint16) * 257
    data = encode(deep, format=format, bits=16, icc_profile=PROFILES[name])
    picture = decode(data)
    assert picture.pixels.dtype == np.uint16
    assert picture.icc_profile == PROFILES[name]
    expected = lcms(PIXELS, PROFILES[name])
    assert np.abs(picture.pixels / 257 - expected).max() < 1.5
    assert np.any(picture.pixels % 257)
    np.testing.assert_array_equal(decode(data, convert_to_srgb=False).pixels, deep)


def test_a_profile_that_is_srgb_changes_no_pixel() -> None:
    standard = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    own = icc_profiles.rgb(icc_profiles.SRGB, icc_profiles.parametric(3, *icc_profiles.SRGB_CURVE))
    deep = GENERATOR.integers(0, 65536, (9, 9, 3), np.uint16)
    for profile in (standard, own):
        data = saved(Image.fromarray(PIXELS), "PNG", icc_profile=profile)
        np.testing.assert_array_equal(decode(data).pixels, PIXELS)
        picture = decode(encode(deep, bits=16, icc_profile=profile))
        np.testing.assert_array_equal(picture.pixels, deep)
        assert picture.icc_profile == profile


def test_grey_profile() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = saved(Image.fromarray(grey), "PNG", icc_profile=icc_profiles.grey())
    pixels = decode(data).pixels
    assert pixels[0, 0].tolist() == [0, 0, 0]
    assert abs(int(pixels[8, 0, 0]) - 188) <= 1  # linear 0.5 is 188 in sRGB
    deep = np.full((4, 4), 32896, np.uint16)
    picture = decode(encode(deep, bits=16, icc_profile=icc_profiles.grey()))
    assert abs(int(picture.pixels[0, 0, 0]) // 257 - 188) <= 1


def test_grey_pixels_with_an_rgb_profile() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    data = saved(Image.fromarray(grey), "PNG", icc_profile=PROFILES["linear"])
    expected = lcms(np.repeat(grey[..., None], 3, axis=2), PROFILES["linear"])
    np.testing.assert_array_equal(decode(data).pixels, expected)


@pytest.mark.parametrize("profile", [b"no profile at all", bytes(200), PROFILES["p3"][:180]])
@pytest.mark.parametrize("bits", [8, 16])
def test_broken_profiles_are_ignored_with_a_warning(profile: bytes, bits: int) -> None:
    data = encode(PIXELS, bits=bits, icc_profile=profile)
    with pytest.warns(UserWarning, match="the picture: the colour profile"):
        picture = decode(data)
    np.testing.assert_array_equal(picture.rgb8(), PIXELS)


def test_a_profile_for_other_pixels_is_ignored_with_a_warning() -> None:
    data = saved(Image.fromarray(PIXELS), "PNG", icc_profile=icc_profiles.grey())
    with pytest.warns(UserWarning, match="is for GRAY"):
        np.testing.assert_array_equal(decode(data).pixels, PIXELS)


def test_cmyk_jpeg_with_and_without_profile() -> None:
    inks = np.zeros((16, 32, 4), np.uint8)
    inks[:, 16:] = (0, 0, 0, 255)
    image = Image.fromarray(inks, "CMYK")
    plain = decode(saved(image, "JPEG", quality=100)).pixels
    assert plain[:, :14].min() > 250
    assert plain[:, 18:].max() < 5
    managed = decode(saved(image, "JPEG", quality=100, icc_profile=icc_profiles.cmyk()))
    assert 10 < managed.pixels[:, 18:].mean() < 60  # ink that is not quite black
    assert managed.icc_profile == icc_profiles.cmyk()


def test_adobe_jpegs_store_inks_inverted_and_are_not_turned_negative() -> None:
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[..., 1] = 255  # magenta
    data = saved(Image.fromarray(inks, "CMYK"), "JPEG", quality=100)
    assert b"Adobe" in data
    red, green, blue = decode(data).pixels.reshape(-1, 3).mean(axis=0)
    assert red > 245
    assert green < 10
    assert blue > 245


def test_cmyk_tiff_and_lab_tiff() -> None:
    inks = np.zeros((8, 8, 4), np.uint8)
    inks[..., 0] = 255
    pixels = decode(saved(Image.fromarray(inks, "CMYK"), "TIFF")).pixels
    assert pixels[0, 0].tolist() == [0, 255, 255]
    lab = ImageCms.profileToProfile(
        Image.fromarray(PIXELS),
        ImageCms.createProfile("sRGB"),
        ImageCms.createProfile("LAB"),
        outputMode="LAB",
    )
    round_trip = decode(saved(lab, "TIFF")).pixels
    assert np.abs(round_trip.astype(int) - PIXELS).mean() < 3


def test_no_warning_for_a_sound_profile() -> None:
    data = saved(Image.fromarray(PIXELS), "PNG", icc_profile=PROFILES["p3"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(data)


def test_table_based_rgb_profiles_convert_16_bit_pixels_through_8() -> None:
    profile = PROFILES["p3"]
    assert colour._matrix_profile(profile) is not None
    with_table = icc_profiles.rgb()
    assert colour._matrix_profile(with_table.replace(b"wtpt", b"A2B0")) is None
