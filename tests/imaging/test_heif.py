"""HEIC with its extra, and a clear word without it."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image

from birefnet.errors import ImageError, MissingExtraError
from birefnet.imaging.io import Limits, decode
from imaging import icc_profiles

Y, X = np.mgrid[0:64, 0:96]
RGB = np.dstack([X * 2, Y * 3, (X + Y) % 256]).astype(np.uint8)


def heic(pixels: np.ndarray, profile: bytes | None = None, exif: bytes | None = None) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    if "x265" not in pillow_heif.libheif_info()["encoders"]:
        pytest.skip("this pillow-heif cannot encode")
    mode = {3: "RGB", 4: "RGBA"}[pixels.shape[2]] + (";16" if pixels.dtype == np.uint16 else "")
    file = pillow_heif.from_bytes(mode, pixels.shape[1::-1], pixels.tobytes())
    for key, value in (("icc_profile", profile), ("exif", exif)):
        if value:
            file[0].info[key] = value
    buffer = io.BytesIO()
    file.save(buffer, quality=100, chroma=444)
    return buffer.getvalue()


def test_rgb() -> None:
    picture = decode(heic(RGB))
    assert picture.pixels.dtype == np.uint8
    assert picture.alpha is None
    assert np.abs(picture.pixels.astype(int) - RGB).max() <= 6


def test_alpha() -> None:
    alpha = (X * 2).astype(np.uint8)
    picture = decode(heic(np.dstack([RGB, alpha])))
    assert np.abs(picture.alpha - alpha / 255).max() < 0.03


def test_more_than_8_bits_are_kept() -> None:
    deep = np.dstack([X * 600, Y * 900, (X + Y) * 300]).astype(np.uint16)
    picture = decode(heic(deep))
    assert picture.pixels.dtype == np.uint16
    assert np.abs(picture.pixels.astype(int) - deep).max() < 700


def test_profile_is_applied() -> None:
    profile = icc_profiles.rgb()
    for pixels in (RGB, RGB.astype(np.uint16) * 257):
        data = heic(pixels, profile=profile)
        managed, stored = decode(data), decode(data, convert_to_srgb=False)
        assert managed.icc_profile == stored.icc_profile == profile
        assert np.abs(stored.rgb8().astype(int) - RGB).max() <= 6
        assert np.abs(managed.rgb8().astype(int) - stored.rgb8()).max() > 8


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_orientation_is_applied_once(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode(heic(RGB, exif=exif.tobytes()))
    expected = np.rot90(RGB, {1: 0, 3: 2, 6: -1}[orientation])
    assert picture.pixels.shape == expected.shape
    assert np.abs(picture.pixels.astype(int) - expected).max() <= 6


def test_limits_and_damage() -> None:
    data = heic(RGB)
    with pytest.raises(ImageError, match="96 x 64"):
        decode(data, limits=Limits(max_pixels=1000))
    with pytest.raises(ImageError, match="cannot be decoded"):
        decode(data[: len(data) // 2])


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(MissingExtraError, match=r"birefnet\[heif\]"):
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
