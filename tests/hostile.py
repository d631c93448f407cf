"""Files that were made to hurt: mutated, truncated, disguised, or far larger than they look."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, features

from fakes import disc


def _saved(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def seeds() -> dict[str, bytes]:
    """Small good pictures of every kind that is read."""
    pixels = disc(32, 40)
    colour = Image.fromarray(pixels)
    grey = colour.convert("L")
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    alpha = Image.fromarray(np.dstack([pixels, pixels[..., 0]]))
    frames = [Image.fromarray(disc(32, 40, subject=200 + i)) for i in range(4)]
    animated = {"save_all": True, "append_images": frames[1:], "duration": 50}
    found = {
        "png": _saved(colour, "PNG"),
        "png grey": _saved(grey, "PNG"),
        "png deep": _saved(deep, "PNG"),
        "png alpha": _saved(alpha, "PNG"),
        "png palette": _saved(colour.quantize(16), "PNG", transparency=1),
        "jpeg": _saved(colour, "JPEG"),
        "jpeg cmyk": _saved(colour.convert("CMYK"), "JPEG"),
        "jpeg progressive": _saved(
            colour, "JPEG", progressive=True, exif=b"Exif\0\0MM\0*\0\0\0\x08"
        ),
        "webp": _saved(colour, "WEBP"),
        "webp alpha": _saved(alpha, "WEBP", lossless=True),
        "webp animated": _saved(frames[0], "WEBP", **animated),
        "gif": _saved(frames[0], "GIF", **animated),
        "tiff": _saved(colour, "TIFF"),
        "tiff lzw": _saved(colour, "TIFF", compression="tiff_lzw"),
        "tiff deep": _saved(deep, "TIFF"),
        "bmp": _saved(colour, "BMP"),
    }
    if features.check("avif"):
        found["avif"] = _saved(colour, "AVIF")
    return found


def mutants(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Good pictures with some of their bytes changed, moved, repeated or missing."""
    chance = random.Random(seed)
    good = list(seeds().items())
    for number in range(count):
        name, data = good[number % len(good)]
        changed = bytearray(data)
        how = chance.choice(("flip", "flip", "header", "cut", "fill", "repeat", "swap", "grow"))
        start = chance.randrange(len(data))
        length = chance.randrange(1, 64)
        if how == "flip":
            for _ in range(chance.randrange(1, 12)):
                changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
        elif how == "header":
            for _ in range(3):
                changed[chance.randrange(min(64, len(changed)))] = chance.randrange(256)
        elif how == "cut":
            del changed[start:]
        elif how == "fill":
            changed[start : start + length] = bytes([chance.choice((0, 255))]) * length
        elif how == "repeat":
            changed[start:start] = changed[start : start + length] * chance.randrange(1, 50)
        elif how == "swap":
            other = chance.choice(good)[1]
            changed[start:] = other[min(start, len(other) - 1) :]
        else:
            changed += chance.randbytes(length)
        yield f"{name} {how} {number}", bytes(changed)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of_size(width: int, height: int, *extra: bytes) -> bytes:
    """A PNG that claims this size and holds next to nothing."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            png_chunk(b"IHDR", header),
            *extra,
            png_chunk(b"IDAT", zlib.compress(bytes(1000))),
            png_chunk(b"IEND", b""),
        )
    )


def bombs() -> dict[str, bytes]:
    """Pictures that would be huge, or hold something huge."""
    good = seeds()
    jpeg = bytearray(good["jpeg"])
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = b"\xff\xff\xff\xff"
    gif = bytearray(good["gif"])
    gif[6:10] = b"\xff\xff\xff\xff"
    bmp = bytearray(good["bmp"])
    bmp[18:26] = struct.pack("<ii", 2**30, 2**30)
    inflated = zlib.compress(bytes(50_000_000))
    return {
        "png of 3.6 gigapixels": png_of_size(60_000, 60_000),
        "png of the largest size": png_of_size(2**31 - 1, 2**31 - 1),
        "png of no size": png_of_size(0, 0),
        "png with a long profile": png_of_size(8, 8, png_chunk(b"iCCP", b"x\0\0" + inflated)),
        "png with a long text": png_of_size(8, 8, png_chunk(b"zTXt", b"x\0\0" + inflated)),
        "jpeg of 4 gigapixels": bytes(jpeg),
        "gif of 4 gigapixels": bytes(gif),
        "bmp of an exapixel": bytes(bmp),
        "tiff whose directory points at itself": b"II*\0\x08\0\0\0\0\0\x08\0\0\0",
        "svg that expands": b'<?xml version="1.0"?><!DOCTYPE l [<!ENTITY a "aaaa">]><svg/>',
    }


def polyglots() -> dict[str, bytes]:
    """Files of two kinds at once, and those that say something else than they are."""
    good = seeds()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../etc/passwd", "x")
    return {
        "gif and html": b"GIF89a/*" + b"<script>alert(1)</script>",
        "png and zip": good["png"] + archive.getvalue(),
        "jpeg and script": good["jpeg"] + b"<?php system('id'); ?>",
        "pdf": b"%PDF-1.7\n1 0 obj<<>>endobj",
        "elf": b"\x7fELF\x02\x01\x01" + bytes(64),
        "mvg": b"push graphic-context\nimage over 0,0 0,0 'https://127.0.0.1/'",
        "postscript": b"%!PS-Adobe-3.0 EPSF\n(/etc/passwd) (r) file",
        "nothing": b"",
        "one byte": b"\x89",
        "text": b"a picture",
        "playlist": b"#EXTM3U\nfile:///etc/passwd\n",
    }


def zip_of(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def zips() -> dict[str, bytes]:
    """Archives that expand, escape or lie."""
    good = seeds()["png"]
    many = zip_of({f"{number}.png": b"x" for number in range(1_500)})
    honest = zip_of({"a.png": good})
    lying = bytearray(honest)
    directory = lying.rindex(b"PK\x01\x02")
    lying[directory + 24 : directory + 28] = struct.pack("<I", 5)  # its size, unpacked
    return {
        "expands a thousandfold": zip_of({"a.png": bytes(40_000_000)}),
        "in another": zip_of({"a.zip": zip_of({"b.zip": honest})}),
        "has too many entries": many,
        "names other folders": zip_of(
            {"../../a.png": good, "/etc/b.png": good, "c\\..\\d.png": good}
        ),
        "has odd names": zip_of(
            {"con.png": good, "a\u202egnp.png": good, "x" * 300 + ".png": good}
        ),
        "lies about a size": bytes(lying),
        "is cut off": honest[:-10],
        "has no directory": honest[: honest.rindex(b"PK\x01\x02")],
        "holds nothing": zip_of({}),
        "is none": b"PK\x03\x04 no zip at all",
    }


ODD_URLS = (
    "http://127.0.0.1/",
    "http://127.1/",
    "http://0/",
    "http://0x7f000001/",
    "http://0177.0.0.1/",
    "http://2130706433/",
    "http://localhost:22/",
    "http://LOCALHOST./",
    "http://[::1]/",
    "http://[::]/",
    "http://[::ffff:127.0.0.1]/",
    "http://[::ffff:7f00:1]/",
    "http://[64:ff9b::7f00:1]/",
    "http://[fe80::1%25lo]/",
    "http://[fd00::1]/",
    "http://10.0.0.1/",
    "http://172.16.0.1/",
    "http://192.168.0.1/",
    "http://100.64.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://224.0.0.1/",
    "http://255.255.255.255/",
    "http://user:password@example.org/",
    "http://127.0.0.1#@example.org/",
    "http://example.org@127.0.0.1/",
    "http://127.0.0.1\\@example.org/",
    "http:\\\\127.0.0.1\\a",
    "http:///etc/passwd",
    "http://",
    "http://:80/",
    "http://a b/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:-1/",
    "http://[::1",
    "http://xn--/",
    "http://\u2460\u2461\u2466.\u24ea.\u24ea.\u2460/",
    "http://example.org\r\nX-Header: 1/",
    "http://" + "a" * 70 + ".org/",
    "http://" + "a." * 2_000 + "org/",
    "http://exa\u0000mple.org/",
    "https://127.0.0.1/",
    "HTTP://127.0.0.1/",
    "//127.0.0.1/",
    "file:///etc/passwd",
    "FILE:///etc/passwd",
    "ftp://example.org/a.png",
    "gopher://127.0.0.1/",
    "jar:http://127.0.0.1!/",
    "data:text/html,<script>",
    "data:image/png;base64,%%%",
    "javascript:alert(1)",
    "/etc/passwd",
    "../../etc/passwd",
    "\\\\server\\share\\a.png",
)
"""URLs that must never be fetched (no name in them resolves to a public address offline)."""
