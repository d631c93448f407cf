"""Damaged, huge, disguised and missing pictures end in one clear sentence, soon."""

from __future__ import annotations

import io
import struct
import time
import warnings
import zlib
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from birefnet.errors import BiRefNetError, ImageError
from birefnet.imaging.io import Limits, decode, decode_frames

RGB = np.random.default_rng(7).integers(0, 256, (40, 50, 3), np.uint8)
FORMATS = ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "AVIF"]


def saved(format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(RGB).save(buffer, format, **options)
    return buffer.getvalue()


def png_chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes, *extra: bytes, depth: int = 8) -> bytes:
    header = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 2, 0, 0, 0))
    body = b"".join(extra) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


def one_sentence(error: pytest.ExceptionInfo[BaseException]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert message.endswith(".")
    assert len(message) < 300
    return message


def outcome(data: bytes) -> str:
    """What is wrong with a picture of up to a megapixel; nothing for a sound one."""
    try:
        decode(data, limits=Limits(max_pixels=10**6))
    except ImageError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_truncated(format: str, share: float) -> None:
    data = saved(format)
    with pytest.raises(ImageError) as error:
        list(decode_frames(data[: int(len(data) * share)]))
    assert "the picture" in one_sentence(error)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, over broken directories
@pytest.mark.parametrize("format", [*FORMATS, "PNG16", "TIFF16"])
def test_flipped_bytes_give_a_picture_or_an_error_of_ours(format: str) -> None:
    generator = np.random.default_rng(len(format))
    if format.endswith("16"):
        deep = RGB.astype(np.uint16) * 257
        data = cv2.imencode({"PNG16": ".png", "TIFF16": ".tiff"}[format], deep)[1].tobytes()
    else:
        data = saved(format)
    for _ in range(40):
        broken = bytearray(data)
        for place in generator.integers(0, min(len(data), 400), 3):
            broken[place] = generator.integers(0, 256)
        assert "\n" not in outcome(bytes(broken))


@pytest.mark.parametrize(
    "data",
    [b"hello, world", b"%PDF-1.7\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"\0" * 5000],
)
def test_no_picture(data: bytes) -> None:
    with pytest.raises(ImageError, match="not a picture that can be read") as error:
        decode(data)
    assert "JPEG, PNG" in one_sentence(error)


def test_a_signature_alone_is_no_picture() -> None:
    signatures = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF89a", b"BM", b"II*\0"
    for data in (*signatures, b"RIFFxxxxWEBP", b"\0\0\0\x18ftypavif"):
        with pytest.raises(ImageError) as error:
            decode(data)
        one_sentence(error)


def test_empty_missing_folder_and_address(tmp_path: Path) -> None:
    empty = tmp_path / "empty.png"
    empty.touch()
    cases = {
        empty: "is empty",
        tmp_path / "none.png": "does not exist",
        tmp_path: "is a folder",
        "https://example.org/a.png": "is an address",
        "with\0null.png": "cannot be opened",
    }
    for source, message in cases.items():
        with pytest.raises(ImageError, match=message) as error:
            decode(source)
        assert str(source).replace("\0", "\\x00") in one_sentence(error)
    with pytest.raises(ImageError, match="is empty"):
        decode(b"")
    with pytest.raises(BiRefNetError, match="expected a path"):
        decode(12)
    with pytest.raises(ImageError, match="binary mode"):
        decode(io.StringIO("text"))


def test_too_many_bytes(tmp_path: Path) -> None:
    path = tmp_path / "big.png"
    path.write_bytes(saved("PNG"))
    limits = Limits(max_bytes=1000)
    for source in (path, path.read_bytes(), io.BytesIO(path.read_bytes())):
        with pytest.raises(ImageError, match="1,000"):
            decode(source, limits=limits)


@pytest.mark.parametrize("format", FORMATS)
def test_too_many_pixels(format: str) -> None:
    with pytest.raises(ImageError, match="50 x 40 pixels; at most 1,999") as error:
        decode(saved(format), limits=Limits(max_pixels=1999))
    one_sentence(error)
    assert decode(saved(format), limits=Limits(max_pixels=2000)).width == 50


def test_too_many_pixels_in_an_image_or_array() -> None:
    for source in (RGB, Image.fromarray(RGB)):
        with pytest.raises(ImageError, match="50 x 40"):
            decode(source, limits=Limits(max_pixels=100))


def test_the_limit_is_ours_and_not_pillow_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for format in ("PNG", "JPEG", "BMP", "TIFF"):
        assert decode(saved(format)).width == 50
    deep = cv2.imencode(".tiff", RGB.astype(np.uint16) * 257)[1].tobytes()
    assert decode(deep).width == 50


@pytest.mark.parametrize("depth", [8, 16])
def test_a_bomb_is_refused_by_its_header(depth: int) -> None:
    bomb = png(60_000, 60_000, bytes(10**6), depth=depth)
    assert len(bomb) < 10**5
    start = time.process_time()
    with pytest.raises(ImageError, match="60000 x 60000"):
        decode(bomb)
    assert time.process_time() - start < 2


def test_a_webp_canvas_is_refused_before_it_is_allocated() -> None:
    body = struct.pack("<B3x", 2) + (16382).to_bytes(3, "little") * 2
    data = b"VP8X" + struct.pack("<I", len(body)) + body
    data = b"RIFF" + struct.pack("<I", 4 + len(data)) + b"WEBP" + data
    with pytest.raises(ImageError, match="16383 x 16383"):
        decode(data)


@pytest.mark.parametrize("name", [b"zTXt", b"iCCP", b"iTXt"])
def test_compressed_chunks_neither_expand_without_end_nor_cost_the_picture(name: bytes) -> None:
    zeros = zlib.compress(bytes(20 * 2**20), 1)
    data = {
        b"zTXt": b"key\0\0" + zeros,
        b"iCCP": b"key\0\0" + zeros,
        b"iTXt": b"key\0\1\0\0\0" + zeros,
    }[name]
    rows = (b"\0" + bytes(30)) * 10
    start = time.process_time()
    bomb = png(10, 10, rows, png_chunk(name, data))
    assert decode(bomb).width == 10
    late = bomb[:-12] + png_chunk(name, data) + bomb[-12:]
    assert decode(late).width == 10
    assert "\n" not in outcome(bomb[: len(bomb) - 100])
    assert time.process_time() - start < 2


def test_a_second_png_header_is_refused() -> None:
    second = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 30_000, 30_000, 16, 2, 0, 0, 0))
    for depth in (8, 16):
        with pytest.raises(ImageError):
            decode(png(10, 10, bytes(1000), second, depth=depth))


def test_tiff_directories_that_lie() -> None:
    deep = RGB.astype(np.uint16)
    data = cv2.imencode(".tiff", deep)[1].tobytes()
    assert decode(data).width == 50
    entry = struct.pack("<HHI", 256, 4, 1) if b"\0\1\4\0\1\0" in data else b"\0\1\3\0\1\0\0\0"
    place = data.index(entry)
    twice = bytearray(data)
    twice[place + 12 : place + 14] = struct.pack("<H", 256)  # the height's tag becomes a width
    with pytest.raises(ImageError):
        decode(bytes(twice))
    wide = bytearray(data)
    wide[place + 2 : place + 12] = struct.pack("<HII", 4, 1, 2**31 - 1)
    with pytest.raises(ImageError, match="2147483647 x 40 pixels"):
        decode(bytes(wide))


def test_too_many_frames() -> None:
    frames = [Image.new("L", (4, 4), 20 * shade) for shade in range(12)]
    for format in ("GIF", "WEBP", "PNG", "TIFF"):
        buffer = io.BytesIO()
        frames[0].save(buffer, format, save_all=True, append_images=frames[1:])
        data = buffer.getvalue()
        with pytest.raises(ImageError, match="12 frames; at most 11"):
            list(decode_frames(data, limits=Limits(max_frames=11)))
        assert decode(data, limits=Limits(max_frames=11)).width == 4
        assert len(list(decode_frames(data, limits=Limits(max_frames=12)))) == 12


def test_a_gif_frame_that_outgrows_the_canvas() -> None:
    small = Image.new("P", (4, 4))
    buffer = io.BytesIO()
    small.save(buffer, "GIF")
    data = bytearray(buffer.getvalue())
    place = data.index(b",\0\0\0\0")
    data[place + 5 : place + 9] = struct.pack("<HH", 60_000, 60_000)
    with pytest.raises(ImageError):
        decode(bytes(data))


def odd_files() -> dict[str, bytes]:
    """Sound pictures with chunks, tags and counts that decoders like to talk about."""
    deep = cv2.imencode(".png", RGB.astype(np.uint16) * 257)[1].tobytes()
    chunks = {
        "profile": png_chunk(b"iCCP", b"x\0\0" + zlib.compress(b"no profile")),
        "gamma": png_chunk(b"gAMA", b"xx"),
        "time": png_chunk(b"tIME", b"1234567")[:-1] + b"x",
        "rendering": png_chunk(b"sRGB", b"\x09"),
    }
    found = {f"png {name}": deep[:33] + chunk + deep[33:] for name, chunk in chunks.items()}
    found["png cut"] = deep[: len(deep) // 2]
    found["png flipped"] = deep[:-90] + bytes([deep[-90] ^ 255]) + deep[-89:]
    found["jpeg exif"] = saved("JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xffgarbage")
    found["jpeg bytes"] = saved("JPEG")[:-2] + b"extra" + b"\xff\xd9"
    for format in FORMATS:
        found[f"{format} cut"] = saved(format)[:-40]
    return found


@pytest.mark.parametrize("name", list(odd_files()))
def test_decoders_write_nothing_to_standard_error(
    name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")  # as the command does
        with suppress(ImageError):
            decode(odd_files()[name])
    assert capfd.readouterr() == ("", "")


def test_a_kind_that_is_not_read_is_not_called_damaged() -> None:
    bitmap = bytearray(saved("BMP"))
    bitmap[30] = 12  # a compression that nobody knows
    with pytest.raises(ImageError, match="of a kind that is not read") as error:
        decode(bytes(bitmap))
    assert "damaged" not in one_sentence(error)
