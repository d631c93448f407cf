"""What is encoded is read back, by this package and by others; files appear whole or not at all."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from birefnet.errors import BiRefNetError
from birefnet.imaging.io import decode, decode_frames, encode, encode_animation, write_atomic
from birefnet.imaging.png import write_png
from imaging import icc_profiles

GENERATOR = np.random.default_rng(11)
RGB = GENERATOR.integers(0, 256, (37, 53, 3), np.uint8)
DEEP = GENERATOR.integers(0, 65536, (37, 53, 3), np.uint16)
ALPHA = GENERATOR.random((37, 53), np.float32)


@pytest.mark.parametrize("format", ["png", "tiff", "webp", "avif"])
def test_round_trip_with_alpha(format: str) -> None:
    picture = decode(encode(RGB, ALPHA, format=format, lossless=True))
    visible = ALPHA > 0.01  # webp forgets colours that nobody sees
    difference = np.abs(picture.pixels.astype(int) - RGB)[visible]
    assert difference.max() <= (4 if format == "avif" else 0)
    assert np.abs(picture.alpha - ALPHA).max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("format", ["png", "tiff"])
@pytest.mark.parametrize("with_alpha", [False, True])
@pytest.mark.parametrize("bits", [8, 16])
def test_lossless_formats_at_both_depths(format: str, with_alpha: bool, bits: int) -> None:
    pixels = RGB if bits == 8 else DEEP
    alpha = ALPHA if with_alpha else None
    data = encode(pixels, alpha, format=format, bits=bits)
    picture = decode(data)
    assert picture.pixels.dtype == pixels.dtype
    np.testing.assert_array_equal(picture.pixels, pixels)
    if (format, with_alpha, bits) == ("tiff", True, 8):
        return  # OpenCV multiplies these by alpha when it reads them
    other = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(other[..., 2::-1], pixels)
    if with_alpha:
        full_scale = 2**bits - 1
        assert np.abs(picture.alpha - ALPHA).max() <= 0.51 / full_scale
        np.testing.assert_array_equal(other[..., 3], np.rint(ALPHA * full_scale))
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.size == (53, 37)


@pytest.mark.parametrize("format", ["png", "tiff", "webp", "jpeg", "avif"])
def test_masks(format: str) -> None:
    data = encode(ALPHA, format=format)
    expected = np.rint(ALPHA * 255)
    difference = np.abs(decode(data).pixels[..., 0] - expected).max()
    assert difference <= {"jpeg": 16, "avif": 2}.get(format, 0)
    if format in ("png", "tiff", "jpeg"):
        assert Image.open(io.BytesIO(data)).mode == "L"


@pytest.mark.parametrize("format", ["png", "tiff"])
def test_masks_of_16_bits_and_grey_with_alpha(format: str) -> None:
    deep = decode(encode(ALPHA, format=format, bits=16)).pixels[..., 0]
    np.testing.assert_array_equal(deep, np.rint(ALPHA * 65535))
    picture = decode(encode(ALPHA, ALPHA[::-1], format=format))
    np.testing.assert_array_equal(picture.pixels[..., 2], np.rint(ALPHA * 255))
    assert np.abs(picture.alpha - ALPHA[::-1]).max() <= 0.51 / 255


def test_depths_are_converted_with_rounding() -> None:
    np.testing.assert_array_equal(decode(encode(DEEP)).pixels, np.rint(DEEP / 257))
    np.testing.assert_array_equal(decode(encode(RGB, bits=16)).pixels, RGB * np.uint16(257))
    unit = DEEP.astype(np.float32) / 65535
    np.testing.assert_array_equal(decode(encode(unit, bits=16)).pixels, DEEP)
    np.testing.assert_array_equal(decode(encode(ALPHA > 0.5)).pixels[..., 0], (ALPHA > 0.5) * 255)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4000), (4000, 1), (700, 900)])
@pytest.mark.parametrize("writer", ["png", "tiff"])
def test_sizes_around_a_strip(shape: tuple[int, int], writer: str) -> None:
    pixels = GENERATOR.integers(0, 256, (*shape, 3), np.uint8)
    np.testing.assert_array_equal(decode(encode(pixels, format=writer)).pixels, pixels)
    with Image.open(io.BytesIO(encode(pixels, format=writer))) as image:
        np.testing.assert_array_equal(np.asarray(image), pixels)


def test_non_contiguous_pixels() -> None:
    for writer in ("png", "tiff"):
        data = encode(RGB[::-1, ::2], ALPHA[::-1, ::2], format=writer)
        np.testing.assert_array_equal(decode(data).pixels, RGB[::-1, ::2])


def test_png_compresses_about_as_well_as_pillow() -> None:
    y, x = np.mgrid[0:300, 0:400]
    smooth = np.dstack([(x / 2) % 256, (y / 2) % 256, (x + y) / 3]).astype(np.uint8)
    smooth = (smooth + GENERATOR.integers(0, 4, smooth.shape)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(smooth).save(buffer, "PNG")
    assert len(write_png(smooth)) < 1.15 * len(buffer.getvalue())


@pytest.mark.parametrize(
    ("format", "bits"),
    [("png", 8), ("png", 16), ("tiff", 8), ("tiff", 16), ("webp", 8), ("jpeg", 8), ("avif", 8)],
)
def test_profiles_are_written(format: str, bits: int) -> None:
    profile = icc_profiles.rgb()
    data = encode(RGB, format=format, bits=bits, icc_profile=profile)
    assert Image.open(io.BytesIO(data)).info["icc_profile"] == profile
    assert decode(data, convert_to_srgb=False).icc_profile == profile


def test_quality_and_lossless_change_the_size() -> None:
    smooth = cv2.GaussianBlur(RGB, (0, 0), 3)
    for format in ("jpeg", "webp", "avif"):
        small, large = (len(encode(smooth, format=format, quality=q)) for q in (10, 95))
        assert small < large
    assert len(encode(RGB, format="webp")) < len(encode(RGB, format="webp", lossless=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "jpeg", "alpha": ALPHA}, "needs a background"),
        ({"format": "jpg", "alpha": ALPHA}, "needs a background"),
        ({"format": "pdf"}, "choose one of png"),
        ({"format": "jpeg", "bits": 16}, "16 need png or tiff"),
        ({"bits": 12}, "bits"),
        ({"format": "jpeg", "quality": 0}, "1 to 100"),
        ({"alpha": ALPHA[1:]}, "must agree"),
        ({"pixels": RGB[..., :2]}, "expected H x W x 3"),
        ({"pixels": RGB[:0]}, "expected H x W x 3"),
        ({"pixels": RGB.astype(np.int32)}, "int32"),
        ({"format": "webp", "pixels": np.zeros((1, 16384, 3), np.uint8)}, "16383"),
    ],
)
def test_what_cannot_be_encoded(options: dict, message: str) -> None:
    with pytest.raises(BiRefNetError, match=message):
        encode(**{"pixels": RGB, **options})


@pytest.mark.parametrize("format", ["gif", "webp", "apng"])
def test_animations(format: str) -> None:
    frames = [
        (
            np.full((20, 30, 3), (200, 6 * shift, 90), np.uint8),
            np.roll(disc(), shift, 1),
            40 + shift,
        )
        for shift in (0, 10, 20, 30)
    ]
    data = encode_animation(iter(frames), format=format, lossless=True)
    decoded = list(decode_frames(data))
    assert [picture.duration_ms for picture in decoded] == [40, 50, 60, 70]
    for picture, (pixels, alpha, _) in zip(decoded, frames, strict=True):
        visible = alpha > 0.5
        assert np.abs(picture.pixels.astype(int) - pixels)[visible].max() <= 8 * (format == "gif")
        if format == "gif":
            np.testing.assert_array_equal(picture.alpha, visible)
        else:
            assert np.abs(picture.alpha - alpha).max() <= 0.51 / 255
    first = decode(data)
    np.testing.assert_array_equal(first.pixels, decoded[0].pixels)
    assert first.duration_ms == 40


def disc() -> np.ndarray:
    y, x = np.mgrid[0:20, 0:30]
    return np.clip(8 - np.hypot(y - 10, x - 12), 0, 1).astype(np.float32)


def test_animations_without_alpha_draw_frames_one_at_a_time() -> None:
    drawn = []

    def frames() -> object:
        for index in range(3):
            drawn.append(index)
            yield np.full((9, 9, 3), index * 50, np.uint8), None, 33.4
            assert len(drawn) == index + 1

    for format in ("gif", "webp", "apng"):
        drawn.clear()
        decoded = list(decode_frames(encode_animation(frames(), format=format, lossless=True)))
        assert [picture.pixels[0, 0, 0] for picture in decoded] == [0, 50, 100]
        assert all(picture.alpha is None for picture in decoded)


def test_one_frame_and_the_number_of_loops() -> None:
    frame = (RGB, None, 100)
    for format in ("gif", "webp", "apng"):
        assert decode(encode_animation([frame], format=format)).pixels.shape == RGB.shape
    for format, loop in (("webp", 3), ("apng", 0)):
        data = encode_animation([frame, (RGB[::-1], None, 90)], format=format, loop=loop)
        assert Image.open(io.BytesIO(data)).info["loop"] == loop


def test_animations_that_cannot_be() -> None:
    with pytest.raises(BiRefNetError, match="no frames"):
        encode_animation([])
    with pytest.raises(BiRefNetError, match="must agree"):
        encode_animation([(RGB, None, 10), (RGB[1:], None, 10)], format="apng")
    with pytest.raises(BiRefNetError, match="choose one of gif"):
        encode_animation([(RGB, None, 10)], format="mp4")


def test_partial_frames_come_composited() -> None:
    first = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    second = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    second.paste((0, 255, 0, 255), (0, 0, 4, 4))
    buffer = io.BytesIO()
    first.save(
        buffer, "PNG", save_all=True, append_images=[second], duration=[70, 80], blend=1, disposal=0
    )
    frames = list(decode_frames(buffer.getvalue()))
    assert frames[1].pixels[0, 0].tolist() == [0, 255, 0]
    assert frames[1].pixels[7, 7].tolist() == [255, 0, 0]
    assert [frame.duration_ms for frame in frames] == [70, 80]


def test_the_default_picture_of_an_apng_is_no_frame() -> None:
    pictures = [Image.new("RGB", (6, 6), shade) for shade in ("red", "lime", "blue")]
    buffer = io.BytesIO()
    pictures[0].save(
        buffer, "PNG", save_all=True, append_images=pictures[1:], default_image=True, duration=50
    )
    frames = list(decode_frames(buffer.getvalue()))
    assert [frame.pixels[0, 0].tolist() for frame in frames] == [[0, 255, 0], [0, 0, 255]]
    assert decode(buffer.getvalue()).pixels[0, 0].tolist() == [255, 0, 0]


def test_tiff_pages() -> None:
    pages = [Image.new("RGB", (5 + index, 6), (index, 0, 0)) for index in range(3)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    decoded = list(decode_frames(buffer.getvalue()))
    assert [page.width for page in decoded] == [5, 6, 7]
    assert all(page.duration_ms is None for page in decoded)


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_atomic(path, b"one")
    write_atomic(str(path), b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_failed_write_leaves_the_old_file_and_no_rubbish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.png"]


@pytest.mark.skipif(os.name == "nt", reason="POSIX permissions and links")
def test_permissions_and_links_are_kept(tmp_path: Path) -> None:
    target, link = tmp_path / "target.png", tmp_path / "link.png"
    target.write_bytes(b"old")
    target.chmod(0o640)
    link.symlink_to(target)
    write_atomic(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    previous = os.umask(0o027)
    try:
        write_atomic(tmp_path / "fresh.png", b"x")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "fresh.png").stat().st_mode) == 0o640
    with pytest.raises(OSError, match="directory"):
        write_atomic(tmp_path, b"x")
