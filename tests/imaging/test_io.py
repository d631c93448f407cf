"""Every usual kind of picture becomes upright 8- or 16-bit RGB with its alpha."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from birefnet.errors import ImageError
from birefnet.imaging.formats import SUFFIXES, is_picture, sniff
from birefnet.imaging.io import decode, decode_frames, encode
from birefnet.imaging.picture import to_float, to_uint8, to_uint16

GENERATOR = np.random.default_rng(5)
RGB = GENERATOR.integers(0, 256, (20, 31, 3), np.uint8)
RGBA = GENERATOR.integers(0, 256, (20, 31, 4), np.uint8)
DEEP = GENERATOR.integers(0, 65536, (20, 31, 4), np.uint16)


def saved(image: Image.Image | np.ndarray, format: str, **options: object) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def opencv(pixels: np.ndarray, suffix: str) -> bytes:
    """RGB(A) or grey, encoded by OpenCV, whose order is BGR(A)."""
    if pixels.ndim == 3:
        pixels = pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]
    # Uncompressed, for some versions choose a logarithmic colour space for floats otherwise.
    options = [cv2.IMWRITE_TIFF_COMPRESSION, 1] if suffix == ".tiff" else []
    return cv2.imencode(suffix, pixels, options)[1].tobytes()


@pytest.mark.parametrize(
    ("format", "options", "tolerance"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("AVIF", {"quality": 100, "subsampling": "4:4:4"}, 4),
        ("JPEG", {"quality": 100, "subsampling": 0}, 4),
    ],
)
def test_rgb(format: str, options: dict, tolerance: int) -> None:
    data = saved(RGB, format, **options)
    assert sniff(data) == format.lower()
    picture = decode(data)
    assert (picture.height, picture.width) == (20, 31)
    assert picture.pixels.dtype == np.uint8
    assert picture.alpha is None
    assert picture.duration_ms is None
    assert np.abs(picture.pixels.astype(int) - RGB).max() <= tolerance


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP", "AVIF"])
def test_rgba(format: str) -> None:
    options = {"WEBP": {"lossless": True, "exact": True}, "AVIF": {"quality": 100}}.get(format, {})
    picture = decode(saved(RGBA, format, **options))
    assert picture.alpha is not None
    assert picture.alpha.dtype == np.float32
    np.testing.assert_allclose(picture.alpha, RGBA[..., 3] / 255, atol=1e-6)
    if format != "AVIF":
        np.testing.assert_array_equal(picture.pixels, RGBA[..., :3])


def test_an_alpha_that_is_opaque_is_none() -> None:
    opaque = RGBA.copy()
    opaque[..., 3] = 255
    assert decode(saved(opaque, "PNG")).alpha is None


def test_grey_grey_alpha_and_one_bit() -> None:
    grey = RGB[..., 0]
    np.testing.assert_array_equal(decode(saved(grey, "PNG")).pixels, np.dstack([grey] * 3))
    both = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(RGB[..., 1])])
    picture = decode(saved(both, "PNG"))
    np.testing.assert_array_equal(picture.pixels, np.dstack([grey] * 3))
    np.testing.assert_allclose(picture.alpha, RGB[..., 1] / 255, atol=1e-6)
    bits = Image.fromarray(grey > 127)
    for format in ("PNG", "TIFF", "BMP"):
        assert set(np.unique(decode(saved(bits, format)).pixels)) == {0, 255}


def test_palette_with_and_without_transparency() -> None:
    image = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9])
    plain = decode(saved(image, "PNG"))
    assert plain.alpha is None
    assert plain.pixels.reshape(-1, 3).tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255], [9] * 3]
    one = decode(saved(image, "PNG", transparency=1))
    assert one.alpha.ravel().tolist() == [1, 0, 1, 1]
    several = decode(saved(image, "PNG", transparency=bytes([0, 51, 255, 255])))
    np.testing.assert_allclose(several.alpha.ravel(), [0, 0.2, 1, 1], atol=1e-6)
    gif = decode(saved(image, "GIF", transparency=2))
    assert gif.alpha.ravel().tolist() == [1, 1, 0, 1]


def test_transparent_colour_of_rgb_and_grey_png() -> None:
    picture = decode(saved(RGB, "PNG", transparency=tuple(int(v) for v in RGB[3, 4])))
    assert picture.alpha[3, 4] == 0
    assert picture.alpha.mean() > 0.9
    grey = Image.fromarray(RGB[..., 0])
    picture = decode(saved(grey, "PNG", transparency=int(RGB[3, 4, 0])))
    assert picture.alpha[3, 4] == 0


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_each_transparent_level_of_grey_png(bits: int) -> None:
    levels = np.linspace(0, 2**bits - 1, min(2**bits, 8)).round().astype(int)
    digits = "".join(f"{level:0{bits}b}" for level in levels)
    row = b"\0" + int(digits.ljust(-(-len(digits) // 8) * 8, "0"), 2).to_bytes(-(-len(digits) // 8))
    for index, level in enumerate(levels):
        chunks = [
            (b"IHDR", struct.pack(">IIBBBBB", len(levels), 1, bits, 0, 0, 0, 0)),
            (b"tRNS", struct.pack(">H", level)),
            (b"IDAT", zlib.compress(row)),
            (b"IEND", b""),
        ]
        png = b"".join(
            len(data).to_bytes(4) + name + data + zlib.crc32(name + data).to_bytes(4)
            for name, data in chunks
        )
        picture = decode(b"\x89PNG\r\n\x1a\n" + png)
        assert picture.alpha.ravel().tolist() == [float(i != index) for i in range(len(levels))]


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_kept(suffix: str, channels: int) -> None:
    deep = DEEP[..., 0] if channels == 1 else DEEP[..., :channels]
    picture = decode(opencv(deep, suffix))
    assert picture.pixels.dtype == np.uint16
    expected = np.dstack([deep] * 3) if channels == 1 else deep[..., :3]
    np.testing.assert_array_equal(picture.pixels, expected)
    if channels == 4:
        np.testing.assert_allclose(picture.alpha, deep[..., 3] / 65535, atol=1e-6)
    else:
        assert picture.alpha is None
    assert picture.rgb8().dtype == np.uint8
    assert np.abs(picture.rgb8() - picture.pixels / 257).max() <= 0.5


def test_sixteen_bit_frames_are_kept_for_still_pictures() -> None:
    (picture,) = decode_frames(opencv(DEEP[..., :3], ".png"))
    np.testing.assert_array_equal(picture.pixels, DEEP[..., :3])
    (picture,) = decode_frames(opencv(DEEP[..., :3], ".tiff"))
    np.testing.assert_array_equal(picture.pixels, DEEP[..., :3])


def test_sixteen_bit_grey_from_pillow_with_either_byte_order() -> None:
    image = Image.fromarray(DEEP[..., 0])
    assert image.mode == "I;16"
    expected = np.dstack([DEEP[..., 0]] * 3)
    for data in (saved(image, "PNG"), saved(image, "TIFF")):
        np.testing.assert_array_equal(decode(data).pixels, expected)
    np.testing.assert_array_equal(decode(image).pixels, expected)
    transparent = decode(saved(image, "PNG", transparency=int(DEEP[2, 2, 0])))
    assert transparent.alpha[2, 2] == 0


@pytest.mark.parametrize("scale", [1, 255, 65535])
def test_float_tiff(scale: int) -> None:
    unit = DEEP[..., :3].astype(np.float32) / 65535
    for samples in (unit, unit[..., 0]):
        picture = decode(opencv(samples * np.float32(scale), ".tiff"))
        expected = samples if samples.ndim == 3 else np.dstack([samples] * 3)
        assert np.abs(picture.pixels / 65535 - expected).max() < 2e-5
    image = Image.fromarray(unit[..., 0] * np.float32(scale))
    assert image.mode == "F"
    assert np.abs(decode(image).pixels[..., 0] / 65535 - unit[..., 0]).max() < 2e-5


def test_float_tiff_with_strange_values() -> None:
    samples = np.array([[np.nan, -1, 0.5, 3]], np.float32)
    pixels = decode(opencv(samples, ".tiff")).pixels[0, :, 0]
    assert pixels.tolist() == [0, 0, 32768, 65535]
    with pytest.raises(ImageError, match=r"e\+09"):
        decode(opencv(samples * np.float32(1e9), ".tiff"))


def test_premultiplied_tiff() -> None:
    alpha = np.full((6, 6), 128, np.uint8)
    plain = np.full((6, 6, 3), (200, 100, 50), np.uint8)
    stored = np.dstack([np.round(plain * (128 / 255)).astype(np.uint8), alpha])
    for bits in (8, 16):
        data = encode(stored[..., :3], to_float(alpha), format="tiff", bits=bits)
        entry = b"\x52\x01\x03\0\x01\0\0\0"  # ExtraSamples: 2 is plain alpha, 1 associated
        assert data.count(entry + b"\2") == 1
        picture = decode(data.replace(entry + b"\2", entry + b"\1"))
        assert picture.pixels.dtype == (np.uint8 if bits == 8 else np.uint16)
        assert np.abs(picture.rgb8().astype(int) - plain).max() <= 2


# Where the marked corner of a picture stored with each EXIF orientation belongs.
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
def test_exif_orientation(orientation: int, format: str) -> None:
    upright = np.zeros((16, 32, 3), np.uint8)
    upright[:8, :8] = (255, 0, 0)
    upright[8:, :8] = (0, 255, 0)
    upright[:8, 24:] = (0, 0, 255)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100, "subsampling": 0} if format == "JPEG" else {}
    options = {"lossless": True} if format == "WEBP" else options
    options = {"quality": 100, "subsampling": "4:4:4"} if format == "AVIF" else options
    image = Image.fromarray(np.ascontiguousarray(stored))
    picture = decode(saved(image, format, exif=exif, **options))
    assert picture.pixels.shape == upright.shape
    assert np.abs(picture.pixels.astype(int) - upright).max() < 40
    assert picture.pixels.flags.c_contiguous


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_orientation_of_16_bits_and_alpha(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = {1: 0, 3: 2, 6: 1}[orientation]
    stored = np.rot90(DEEP, turns)
    png = encode(stored[..., :3], to_float(stored[..., 3]), bits=16)
    block = exif.tobytes()[6:]
    chunk = len(block).to_bytes(4, "big") + b"eXIf" + block
    chunk += zlib.crc32(chunk[4:]).to_bytes(4, "big")
    picture = decode(png[:33] + chunk + png[33:])
    np.testing.assert_array_equal(picture.pixels, DEEP[..., :3])
    np.testing.assert_allclose(picture.alpha, DEEP[..., 3] / 65535, atol=2e-5)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_block_is_ignored() -> None:
    data = saved(RGB, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xffgarbage", quality=100)
    assert decode(data).pixels.shape == RGB.shape


@pytest.mark.parametrize("kind", ["path", "str", "bytes", "stream", "pillow", "array", "bytearray"])
def test_sources(kind: str, tmp_path: Path) -> None:
    data = saved(RGB, "PNG")
    path = tmp_path / "a picture.dat"
    path.write_bytes(data)
    source = {
        "path": path,
        "str": str(path),
        "bytes": data,
        "bytearray": bytearray(data),
        "stream": io.BytesIO(data),
        "pillow": Image.fromarray(RGB),
        "array": RGB,
    }[kind]
    np.testing.assert_array_equal(decode(source).pixels, RGB)
    if kind == "path":
        assert decode(source).name == str(path)
    if kind != "stream":
        (frame,) = decode_frames(source)
        np.testing.assert_array_equal(frame.pixels, RGB)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "La", "P", "PA", "RGBA", "RGBa", "CMYK", "YCbCr", "I", "F", "HSV"]
)
def test_pillow_modes(mode: str) -> None:
    image = Image.fromarray(RGBA if mode == "RGBa" else RGB)
    if mode == "RGBa":
        image = image.convert("RGBa")
    elif mode in ("LA", "La", "PA"):
        image = image.convert("L").convert("LA").convert(mode)
    else:
        image = image.convert(mode)
    if mode == "I":
        image = Image.fromarray(RGB[..., 0].astype(np.int32) * 257)
    picture = decode(image)
    assert picture.pixels.shape == RGB.shape
    image = image.convert("LA") if mode == "La" else image
    reference = image.convert("RGB") if mode not in ("I", "F") else Image.fromarray(RGB[..., 0])
    if mode not in ("I", "F"):
        assert np.abs(picture.rgb8().astype(int) - np.asarray(reference)).max() <= 2


def test_arrays() -> None:
    grey = RGB[..., 0]
    for array in (grey, grey[..., None]):
        np.testing.assert_array_equal(decode(array).pixels, np.dstack([grey] * 3))
    picture = decode(RGBA)
    np.testing.assert_array_equal(picture.pixels, RGBA[..., :3])
    np.testing.assert_allclose(picture.alpha, RGBA[..., 3] / 255, atol=1e-6)
    picture = decode(RGB.astype(np.float64) / 255)
    assert picture.pixels.dtype == np.uint16
    np.testing.assert_array_equal(picture.rgb8(), RGB)
    np.testing.assert_array_equal(decode(grey > 100).pixels[..., 0], (grey > 100) * 255)
    np.testing.assert_array_equal(decode(DEEP).pixels, DEEP[..., :3])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 4, 5), np.uint8), "shape"),
        (np.zeros((0, 4, 3), np.uint8), "shape"),
        (np.zeros(5, np.uint8), "shape"),
        (np.zeros((2, 2, 3, 1), np.uint8), "shape"),
        (np.zeros((4, 4, 3), np.int32), "int32"),
        (np.full((4, 4, 3), 255.0), "0 ... 1"),
        (np.full((4, 4, 3), np.nan), "0 ... 1"),
        (np.zeros((4, 4, 3), np.complex64), "complex64"),
    ],
)
def test_unusable_arrays(array: np.ndarray, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        decode(array)


def test_suffixes_and_signatures() -> None:
    assert is_picture("a/B.JPEG")
    assert is_picture(Path("x.avif"))
    assert not is_picture("notes.txt")
    assert not is_picture("png")
    assert set(SUFFIXES.values()) == {
        *("jpeg", "png", "webp", "tiff", "bmp", "gif", "avif", "heif"),
    }
    assert sniff(b"") is None
    assert sniff(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic") == "heif"
    assert sniff(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf") == "avif"
    assert sniff(b"\0\0\0\x18ftypmp42\0\0\0\0isommp42") is None


def test_depth_conversions_round_exactly() -> None:
    deep = np.arange(65536, dtype=np.uint16)
    np.testing.assert_array_equal(to_uint8(deep), np.rint(deep / 257))
    shallow = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(to_uint16(shallow)), shallow)
    np.testing.assert_array_equal(to_uint8(to_float(shallow)), shallow)
    np.testing.assert_array_equal(to_uint16(to_float(deep)), deep)
    assert to_uint8(np.array([-1, 0.5, 2])).tolist() == [0, 128, 255]
    with pytest.raises(ImageError, match="int64"):
        to_uint8(np.arange(3))
