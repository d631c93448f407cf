"""TIFFs of every layout are read right, or refused in a sentence that says what they are."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from birefnet.errors import BiRefNetError, ImageError, MissingExtraError
from birefnet.imaging.io import decode, decode_frames
from birefnet.imaging.picture import to_float
from imaging.tiff_files import PACKED, repacked, written

HEIGHT, WIDTH = 37, 21  # no multiple of a tile or strip
GENERATOR = np.random.default_rng(3)
UNIT = GENERATOR.random((HEIGHT, WIDTH, 5))  # what every file of the matrix shows, 0 to 1
UNIT[..., 4] = UNIT[..., 4] * 0.75 + 0.25  # alpha, high enough for colours to be found again
COLOURS = {"minisblack": 1, "miniswhite": 1, "rgb": 3, "palette": 1, "separated": 4, "cielab": 3}
DTYPES = ["bool", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64"]
REFUSED = ["int8", "int16", "int32", "complex64"]
LAYOUTS = [
    *({"rowsperstrip": rows} for rows in (17, HEIGHT)),
    {"tile": (16, 16)},
    {"tile": (48, 32)},
]
HALF = 0.51 / 255  # half a level of 8 bits
TOLERANCES = {"separated": 2.1 / 255, "cielab": 12 / 255}  # converted with 8 bits
DEEP = {"float16": 1 / 2000}
NOT_READ = {
    *itertools.product(["separated", "cielab"], ["float16", "float32", "float64"]),
    *itertools.product(["cielab"], ["uint32", "uint64"]),
}
EXTRAS = {"none": None, "unspecified": 0, "associated": 1, "unassociated": 2}


def stored(unit: np.ndarray, dtype: str) -> np.ndarray:
    if dtype == "bool":
        return unit > 0.5
    if dtype.startswith("float"):
        return unit.astype(dtype)
    return np.round(unit * np.iinfo(dtype).max).astype(dtype)


def shown(unit: np.ndarray, photometric: str) -> np.ndarray:
    """RGB in 0 to 1 of colours in 0 to 1, by other means than the package's."""
    if photometric in ("minisblack", "miniswhite"):
        grey = unit[..., 0] if photometric == "minisblack" else 1 - unit[..., 0]
        return np.dstack([grey] * 3)
    eight = np.round(unit * 255).astype(np.uint8)
    if photometric == "separated":
        return np.asarray(Image.fromarray(eight, "CMYK").convert("RGB")) / 255
    if photometric == "cielab":  # stored as signed bytes
        image = Image.frombytes("LAB", (WIDTH, HEIGHT), eight.tobytes())
        lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return np.asarray(ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")) / 255
    return unit


def one_sentence(error: BaseException) -> str:
    message = str(error)
    assert "\n" not in message
    assert "damaged" not in message
    assert "cut short" not in message
    return message


CASES = [
    (planes, extra, compression, layout, order, predictor)
    for planes, extra, compression, layout, order, predictor in itertools.product(
        ["contig", "separate"], EXTRAS, ["none", "deflate", *PACKED], LAYOUTS, "<>", [1, 2]
    )
    if predictor == 1 or compression != "none"
]


@pytest.mark.filterwarnings("ignore:.*beside the colours")
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite", "rgb", "separated", "cielab"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_layout(photometric: str, dtype: str) -> None:
    """Type x photometric x planes x other bands x compression x strips and tiles x byte order x
    predictor, against the numbers that the file was made of; of each pair of the first two another
    eighth of the rest."""
    chosen = CASES[zlib.crc32(f"{dtype} {photometric}".encode()) % 8 :: 8]
    read = 0
    for case in chosen:
        planes, extra, compression, layout, order, predictor = case
        bands = COLOURS[photometric] + (extra != "none")
        if bands == 1 and planes == "separate":
            continue
        if predictor == 2 and dtype in ("bool", "uint64"):
            continue  # tifffile writes no such differences
        colours = UNIT[..., : COLOURS[photometric]]
        alpha = UNIT[..., 4:] if extra in ("associated", "unassociated") else None
        unit = colours * alpha if extra == "associated" else colours
        samples = stored(np.dstack([unit, UNIT[..., 4:]]) if extra != "none" else unit, dtype)
        samples = np.moveaxis(samples, -1, 0) if planes == "separate" else samples
        data = written(
            samples[..., 0] if bands == 1 else samples,
            photometric=photometric,
            planarconfig=planes if bands > 1 else None,
            extrasamples=None if extra == "none" else (EXTRAS[extra],),
            compression=compression,
            byteorder=order,
            predictor=3 if predictor == 2 and dtype.startswith("float") else predictor,
            **layout,
        )
        try:
            picture = decode(data)
        except BiRefNetError as error:
            refusal = one_sentence(error)
        else:
            refusal = ""
        if refusal:
            is_refused = (photometric, dtype) in NOT_READ or dtype == "bool"
            is_refused |= photometric in TOLERANCES and extra == "associated"
            assert is_refused, f"{case}: {refusal}"
            continue
        read += 1
        is_deep = dtype not in ("bool", "uint8") and photometric not in ("separated", "cielab")
        assert picture.pixels.dtype == (np.uint16 if is_deep else np.uint8), case
        if dtype == "bool":
            if extra == "associated":
                continue  # nothing to be found again
            colours, alpha = colours > 0.5, None if alpha is None else alpha > 0.5
        expected = shown(np.asarray(colours, np.float64), photometric)
        tolerance = TOLERANCES.get(photometric, DEEP.get(dtype, 1.01 / 65535) if is_deep else HALF)
        if extra == "associated":
            tolerance *= 6  # divided by an alpha of a quarter and more
        assert np.abs(to_float(picture.pixels) - expected).max() <= tolerance, case
        if alpha is None:
            assert picture.alpha is None, case
        else:
            assert picture.alpha is not None, case
            assert np.abs(picture.alpha - alpha[..., 0]).max() <= max(DEEP.get(dtype, HALF), HALF)
    assert read > 3 or (photometric, dtype) in NOT_READ or dtype == "bool"


@pytest.mark.parametrize("dtype", REFUSED)
def test_numbers_without_black_and_white_are_refused(dtype: str) -> None:
    samples = (UNIT[..., 0] * 100).astype(dtype)
    with pytest.raises(ImageError, match="black and white") as error:
        decode(written(samples, photometric="minisblack"))
    one_sentence(error.value)


def packed_rows(values: np.ndarray, bits: int) -> bytes:
    """Rows of numbers of so many bits, each from a full byte on."""
    places = np.arange(bits - 1, -1, -1)
    return np.packbits((values[..., None] >> places & 1).reshape(len(values), -1), axis=1).tobytes()


@pytest.mark.parametrize("bits", [1, 2, 4, 6, 10, 12, 14])
@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("inverted", [False, True])
def test_odd_depths(bits: int, samples: int, inverted: bool) -> None:
    values = GENERATOR.integers(0, 1 << bits, (HEIGHT, WIDTH * samples))
    if samples == 3 and (inverted or bits == 1):
        return
    photometric = 2 if samples == 3 else 0 if inverted else 1
    body = packed_rows(values, bits)
    picture = decode(simple(body, WIDTH, HEIGHT, bits, samples, photometric))
    unit = values.reshape(HEIGHT, WIDTH, samples) / ((1 << bits) - 1)
    expected = np.broadcast_to(1 - unit if inverted else unit, (HEIGHT, WIDTH, 3))
    assert picture.pixels.dtype == (np.uint8 if bits <= 8 else np.uint16)
    tolerance = HALF if bits <= 8 else 1.01 / 65535
    assert np.abs(to_float(picture.pixels) - expected).max() <= tolerance


def simple(
    body: bytes, width: int, height: int, bits: int, samples: int, photometric: int, **tags: int
) -> bytes:
    """One strip, little-endian; `tags` as t322=…."""
    entries = {256: width, 257: height, 259: 1, 262: photometric, 277: samples, 278: height}
    entries |= {279: len(body), **{int(tag[1:]): value for tag, value in tags.items()}}
    count = len(entries) + 2
    after = 8 + 2 + 12 * count + 4
    listed = [(tag, 4, 1, value) for tag, value in entries.items()]
    listed += [(258, 3, samples, bits if samples == 1 else after), (273, 4, 1, after + 8)]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in sorted(listed))
    head = struct.pack("<2sHIH", b"II", 42, 8, count) + directory + bytes(4)
    return head + struct.pack("<4H", *[bits] * 4) + body


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("compression", ["none", "lzw"])
@pytest.mark.parametrize("tiled", [False, True])
def test_palettes(dtype: str, compression: str, tiled: bool) -> None:
    bits = np.dtype(dtype).itemsize * 8
    table = GENERATOR.integers(0, 65536, (3, 1 << bits)).astype(np.uint16)
    indices = GENERATOR.integers(0, 1 << bits, (HEIGHT, WIDTH)).astype(dtype)
    options = {"tile": (16, 16)} if tiled else {}
    data = written(
        indices, photometric="palette", colormap=table, compression=compression, **options
    )
    expected = np.moveaxis(table, 0, -1)[indices]
    picture = decode(data)
    if bits == 8:
        np.testing.assert_array_equal(picture.pixels, expected >> 8)
    else:
        np.testing.assert_array_equal(picture.pixels, expected)


@pytest.mark.parametrize("mode", ["L", "RGB", "YCbCr", "CMYK"])
@pytest.mark.parametrize("turned", [1, 6])
def test_jpeg_inside(mode: str, turned: int) -> None:
    y, x = np.mgrid[0:64, 0:80]
    smooth = np.dstack([x * 3, y * 3, 90 + x + y]).astype(np.uint8)
    image = Image.fromarray(smooth).convert(mode)
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[274] = turned
    image.save(buffer, "TIFF", compression="jpeg", quality=100, exif=exif)
    picture = decode(buffer.getvalue())
    expected = np.asarray(image.convert("RGB")).astype(int)
    expected = expected if turned == 1 else np.rot90(expected, -1)
    assert np.abs(picture.pixels - expected).max() <= 14


def test_ycbcr_without_jpeg() -> None:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    smooth = np.dstack([x * 9, y * 6, 90 + x + y]).astype(np.uint8)
    samples = np.asarray(Image.fromarray(smooth).convert("YCbCr"))
    for planes in ("contig", "separate"):
        stored = np.moveaxis(samples, -1, 0) if planes == "separate" else samples
        data = written(stored, photometric="ycbcr", planarconfig=planes, subsampling=(1, 1))
        if b"\x12\x02" not in data:  # YCbCrSubSampling, which tifffile leaves to JPEG
            with pytest.raises(ImageError, match="YCbCr") as error:
                decode(data)
            one_sentence(error.value)
            continue
        assert np.abs(decode(data).pixels.astype(int) - smooth).max() <= 3


@pytest.mark.parametrize("bands", [2, 4, 6])
def test_bands_without_names_are_refused(bands: int) -> None:
    samples = (UNIT[..., :1] * np.ones(bands) * 255).astype(np.uint8)
    kinds = (0,) * (bands - 1)
    data = written(samples, photometric="minisblack", planarconfig="contig", extrasamples=kinds)
    if bands == 2:
        with pytest.warns(UserWarning, match="1 band beside the colours"):
            np.testing.assert_array_equal(decode(data).pixels[..., 0], samples[..., 0])
        return
    with pytest.raises(ImageError, match=f"{bands} bands") as error:
        decode(data)
    one_sentence(error.value)


@pytest.mark.parametrize("kind", ["EXR-like 34892", "volume", "logluv", "jpeg2000", "sparse"])
def test_what_is_not_read_is_called_by_its_name(kind: str) -> None:
    if kind == "jpeg2000" and find_spec("imagecodecs"):
        pytest.skip("it would be read")
    grey = (UNIT[..., 0] * 255).astype(np.uint8)
    body = grey.tobytes()
    data, message = {
        "EXR-like 34892": (simple(body, WIDTH, HEIGHT, 8, 1, 34892), "raw camera file"),
        "volume": (
            written(np.stack([grey] * 3), photometric="minisblack", volumetric=True),
            "a volume 3 deep",
        ),
        "logluv": (simple(body, WIDTH, HEIGHT, 8, 1, 32845), "LOGLUV"),
        "jpeg2000": (simple(body, WIDTH, HEIGHT, 8, 1, 1, t259=34712), "JPEG2000"),
        "sparse": (simple(body, WIDTH, HEIGHT, 16, 1, 1, t279=0), "no pixels for some"),
    }[kind]
    with pytest.raises(BiRefNetError, match=message) as error:
        decode(data)
    one_sentence(error.value)


# Several directories


RGB = (UNIT[..., :3] * 255).astype(np.uint8)
SMALL = RGB[:8, :8]


def several(*writes: tuple[np.ndarray, dict], **options: object) -> bytes:
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer, **options) as file:
        for samples, more in writes:
            file.write(samples, **{"photometric": "rgb", "metadata": None, **more})
    return buffer.getvalue()


MASK = {"subfiletype": 4, "photometric": "minisblack"}
REDUCED, INSIDE = {"subfiletype": 1}, {"subfiletype": 1, "subifds": 1}


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
@pytest.mark.parametrize(
    ("writes", "count"),
    [
        ([(SMALL, REDUCED), (RGB, {})], 1),
        ([(RGB, {}), (SMALL, REDUCED)], 1),
        ([(SMALL, INSIDE), (RGB, {})], 1),
        ([(SMALL, {"subifds": 1}), (RGB, {})], 1),
        ([(RGB, {"subifds": 2}), (SMALL, REDUCED), (SMALL, REDUCED)], 1),
        ([(RGB, {}), (RGB[..., 0] > 99, MASK)], 1),
        ([(SMALL, REDUCED), (RGB, REDUCED)], 1),
        ([(RGB, {})] * 3, 3),
        ([(RGB, {"subfiletype": 2})] * 2, 2),
        ([(SMALL, REDUCED), (RGB, {}), (SMALL, REDUCED), (RGB, {})], 2),
    ],
)
def test_the_picture_among_the_directories(writes: list, count: int, options: dict) -> None:
    data = several(*writes, **options)
    pages = list(decode_frames(data))
    assert len(pages) == count
    for page in pages:
        np.testing.assert_array_equal(page.pixels, RGB)
    if count == 1:
        np.testing.assert_array_equal(decode(data).pixels, RGB)
    else:
        with pytest.warns(UserWarning, match=f"{count} pages; the first is read"):
            np.testing.assert_array_equal(decode(data).pixels, RGB)


def test_pages_of_different_sizes_and_kinds() -> None:
    grey = (UNIT[..., 0] * 65535).astype(np.uint16)
    data = several((SMALL, {}), (grey, {"photometric": "miniswhite"}), (RGB, {"tile": (16, 16)}))
    first, second, third = decode_frames(data)
    np.testing.assert_array_equal(first.pixels, SMALL)
    np.testing.assert_array_equal(second.pixels[..., 1], 65535 - grey)
    np.testing.assert_array_equal(third.pixels, RGB)


@pytest.mark.parametrize("suffix", [".dng", ".NEF", ".arw", ".cr2", ".tif"])
def test_raw_camera_files_are_refused_by_name(suffix: str, tmp_path: Path) -> None:
    cfa = {"photometric": 32803, "subfiletype": 0}
    dng = [(50706, 1, 4, (1, 4, 0, 0), True)]
    preview = {**INSIDE, "extratags": dng if suffix == ".dng" else []}
    path = tmp_path / f"shot{suffix}"
    path.write_bytes(several((SMALL, preview), ((UNIT[..., 0] * 9999).astype(np.uint16), cfa)))
    for source in (path, path.read_bytes()):
        with pytest.raises(ImageError, match="raw camera file; develop it first") as error:
            decode(source)
        one_sentence(error.value)


@pytest.mark.parametrize(
    "head",
    [
        *(b"FUJIFILMCCD-RAW 0201", b"IIRO\x08\0\0\0", b"IIU\0\x18\0\0\0", b"FOVb\0\0\3\0"),
        *(b"II*\0\x10\0\0\0CR\x02\0", b"\0\0\0\x18ftypcrx \0\0\0\1crx isom"),
    ],
)
def test_other_raw_camera_files(head: bytes) -> None:
    with pytest.raises(ImageError, match="raw camera file"):
        decode(head + bytes(500))


def test_nothing_of_others_is_said(capfd: pytest.CaptureFixture[str]) -> None:
    """tifffile, libtiff and OpenCV keep quiet over sound, strange and broken files."""
    data = written((UNIT[..., :3] * 65535).astype(np.uint16), photometric="rgb", compression="lzw")
    generator = np.random.default_rng(1)
    for number in range(60):
        broken = bytearray(data)
        for place in generator.integers(0, 300 if number % 2 else len(data), 4):
            broken[place] = generator.integers(0, 256)
        with suppress(BiRefNetError):
            decode(bytes(broken))
    decode(data)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("photometric", ["minisblack", "rgb", "separated"])
@pytest.mark.parametrize("planes", ["contig", "separate"])
@pytest.mark.parametrize("extra", [None, 2])
@pytest.mark.parametrize("compression", ["jpeg", "jpeg2000", "lerc", "jpegxl", "webp", "png"])
def test_rare_compressions(
    compression: str, extra: int | None, planes: str, photometric: str
) -> None:
    pytest.importorskip("imagecodecs")
    y, x = np.mgrid[0:64, 0:80]
    smooth = np.dstack([x * 3, y * 3, 90 + x + y, 200 - x, 140 + x]).astype(np.uint8)
    count = COLOURS[photometric]
    samples = smooth[..., [*range(count), *([4] if extra else [])]]
    if samples.shape[2] == 1:
        samples, planes = samples[..., 0], None
    elif planes == "separate":
        samples = np.moveaxis(samples, -1, 0)
    options = {"compressionargs": {"level": 98}} if compression == "jpeg" else {}
    try:
        data = several(
            (
                np.ascontiguousarray(samples),
                {
                    "photometric": photometric,
                    "planarconfig": planes,
                    "extrasamples": (extra,) if extra else None,
                    "compression": compression,
                    **options,
                },
            )
        )
    except (ValueError, RuntimeError):
        pytest.skip("a codec that cannot hold it")
    picture = decode(data)
    expected = smooth[..., :count]
    if count == 4:
        expected = np.asarray(Image.fromarray(expected.copy(), "CMYK").convert("RGB"))
    assert np.abs(picture.rgb8().astype(int) - expected).max() <= (8 if compression != "png" else 2)
    assert (picture.alpha is None) == (extra is None)
    if picture.alpha is not None:
        assert np.abs(picture.alpha * 255 - smooth[..., 4]).max() <= 3


@pytest.mark.filterwarnings("ignore:.*beside the colours")
@pytest.mark.parametrize("extra", [None, 0, 2])
def test_planes_of_jpeg(extra: int | None) -> None:
    """Each plane a grey JPEG: read, or refused for want of the extra; Pillow alone loses alpha."""
    y, x = np.mgrid[0:64, 0:80]
    plane = (x * 2 + y).astype(np.uint8)
    data = written(
        plane if extra is None else np.stack([plane, 255 - plane]),
        photometric="minisblack",
        planarconfig=None if extra is None else "separate",
        extrasamples=None if extra is None else (extra,),
        compression="deflate",
        rowsperstrip=64,
    )

    def as_jpeg(part: bytes) -> bytes:
        buffer = io.BytesIO()
        pixels = np.frombuffer(zlib.decompress(part), np.uint8).reshape(64, 80)
        Image.fromarray(pixels).save(buffer, "JPEG", quality=98)
        return buffer.getvalue()

    try:
        picture = decode(repacked(data, as_jpeg, 7))
    except MissingExtraError as error:
        refusal = one_sentence(error)
    else:
        assert np.abs(picture.pixels[..., 0].astype(int) - plane).max() <= 4
        assert (picture.alpha is None) == (extra != 2)
        return
    assert extra is not None
    assert "needs the extra 'tiff'" in refusal
