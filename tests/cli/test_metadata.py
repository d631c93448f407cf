"""What a picture carries beside its pixels is in its results, whatever the two formats are."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, IptcImagePlugin

from birefnet.imaging.io import decode
from birefnet.imaging.metadata import iptc_segment, read_iptc
from fakes import disc

pytestmark = pytest.mark.usefixtures("bright")

DPI = (300.0, 150.0)  # horizontal and vertical, so that a turn shows
PLACE = {1: "N", 2: (48.0, 51.0, 29.0), 3: "E", 4: (2.0, 17.0, 40.0)}
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-'
    b'syntax-ns#"><rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" '
    b'xmlns:dc="http://purl.org/dc/elements/1.1/" dc:source="ours"/></rdf:RDF></x:xmpmeta>'
)
FIELDS = {(1, 90): b"\x1b%G", (2, 5): b"Title", (2, 25): b"sea", (2, 120): "Été".encode()}
WITH_IPTC = ("jpg", "tif")
INPUTS = ["jpg", "png", "webp", "tif", "avif", "heic"]
OUTPUTS = ["jpg", "png", "webp", "tif", "avif"]
UPRIGHT = (64, 48)


def block(orientation: int, *, with_dpi: bool = False) -> Image.Exif:
    exif = Image.Exif()
    exif[274], exif[315], exif[271] = orientation, "Ann Author", "Ours"
    exif[0x8769] = {0x9003: "2024:05:06 07:08:09", 0x920A: 35.0, 0x927C: b"old pixels" * 9}
    exif[0x8769] |= {0xA002: 9999, 0xA001: 65535}
    exif[0x8825] = PLACE
    if with_dpi:
        exif[282], exif[283], exif[296] = *DPI, 2
    return exif


def iptc_field(record: int, number: int, value: bytes) -> bytes:
    return struct.pack(">BBBH", 0x1C, record, number, len(value)) + value


def iptc_block() -> bytes:
    """Fields, and a preview of the old picture after them."""
    fields = [iptc_field(*key, value) for key, value in FIELDS.items()]
    return b"".join([*fields, iptc_field(2, 202, b"old pixels" * 9), iptc_field(3, 10, b"9999")])


def iptc_of(image: Image.Image) -> dict[tuple[int, int], Any]:
    return IptcImagePlugin.getiptcinfo(image) or {}


def write_picture(path: Path, orientation: int = 1) -> Path:
    """A disc with everything; stored on its side where the orientation says so."""
    pixels = disc(UPRIGHT[1], UPRIGHT[0])
    image = Image.fromarray(np.ascontiguousarray(np.rot90(pixels) if orientation == 6 else pixels))
    suffix = path.suffix[1:]
    xmp = XMP.replace(b'"6"', b'"%d"' % orientation)
    exif = block(orientation, with_dpi=suffix in ("webp", "avif", "heic"))
    options: dict[str, Any] = {"exif": exif.tobytes(), "dpi": DPI}
    if suffix == "tif":
        whole = Image.Exif()
        whole.load(options["exif"])
        whole[700], whole[33723] = xmp, iptc_block()
        options["exif"] = whole
    elif suffix == "png":
        from PIL.PngImagePlugin import PngInfo

        options["pnginfo"] = PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", xmp.decode())
    elif suffix in ("jpg", "webp", "avif"):
        options["xmp"] = xmp
        options |= {"extra": iptc_segment(iptc_block())} if suffix == "jpg" else {}
    if suffix == "heic":
        pillow_heif = pytest.importorskip("pillow_heif")
        heif = pillow_heif.from_pillow(image)
        heif.save(path, exif=options["exif"], xmp=xmp, quality=90)
    else:
        image.save(path, **options)
    return path


def dpi_of(image: Image.Image) -> tuple[float, float]:
    exif = image.getexif()
    dpi = image.info.get("dpi") or (exif.get(282), exif.get(283))
    return round(float(dpi[0])), round(float(dpi[1]))


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("source", INPUTS)
@pytest.mark.parametrize("target", OUTPUTS)
def test_kept(command: Any, tmp_path: Path, source: str, target: str, orientation: int) -> None:
    if source == "heic" and orientation != 1:
        return  # it is turned by its container, whatever EXIF says: see test_heif
    picture = write_picture(tmp_path / f"in.{source}", orientation)
    path = tmp_path / f"out.{target}"
    asked = ["remove", picture, "-o", path, "--type", "white" if target == "jpg" else "cutout"]
    result = command(*asked)
    assert result.status == 0, result.stderr
    image = Image.open(path)
    image.load()
    assert image.size == UPRIGHT
    exif = image.getexif()
    assert exif.get(274, 1) == 1
    assert exif[315] == "Ann Author"
    inside, place = exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)
    assert inside[0x9003] == "2024:05:06 07:08:09"
    assert not {0x927C, 0xA001, 0xA002} & set(inside)
    assert tuple(map(float, place[2])) == PLACE[2]
    assert dpi_of(image) == (DPI[::-1] if orientation == 6 else DPI)
    packet = image.info.get("xmp") or image.getexif().get(700)
    assert b"ours" in packet
    assert b'tiff:Orientation="1"' in packet
    assert iptc_of(image) == (FIELDS if {source, target} <= set(WITH_IPTC) else {})

    assert command(*asked, "--metadata", "strip", "--overwrite").status == 0
    image = Image.open(path)
    image.load()
    assert image.info.get("dpi", (1, 1)) in [(1, 1), (72, 72)]  # what Pillow says of none
    assert not {315, 282, 0x8769, 0x8825} & set(image.getexif())
    assert not image.info.get("xmp")
    assert not iptc_of(image)


@pytest.mark.parametrize("plays", [0, 1, 2, 5])
@pytest.mark.parametrize("source", ["gif", "webp", "png"])
@pytest.mark.parametrize("target", ["gif", "webp", "png"])
def test_animations_end_when_theirs_do(
    command: Any, tmp_path: Path, source: str, target: str, plays: int
) -> None:
    frames = [Image.fromarray(disc(ground=20 + shade)) for shade in (0, 20, 40)]
    # A GIF counts what comes after the first time, and has no count where that is nothing.
    loop = {"loop": plays - 1 if plays else 0} if source == "gif" else {"loop": plays}
    loop = {} if source == "gif" and plays == 1 else loop
    picture, path = tmp_path / f"in.{source}", tmp_path / f"out.{target}"
    frames[0].save(picture, save_all=True, append_images=frames[1:], duration=80, **loop)
    assert command("remove", picture, "-o", path).status == 0
    image = Image.open(path)
    found = image.info.get("loop")
    if target == "gif":
        found = 1 if found is None else found + 1 if found else 0
    assert found == plays
    assert decode(path).plays == plays
    if source != "gif":
        frames[0].save(picture, save_all=True, append_images=frames[1:], dpi=(9, 9), loop=plays)


def test_what_would_show_the_old_picture_is_left_out(command: Any, tmp_path: Path) -> None:
    """Thumbnails of EXIF; XMP with pictures, depth or gain maps inside."""
    thumbnail = io.BytesIO()
    Image.fromarray(disc()).save(thumbnail, "JPEG")
    exif = block(1)
    data = exif.tobytes()
    for marker in (b"hdrgm:Version", b"GDepth:Data", b"xmp:Thumbnails"):
        packet = XMP.replace(b"dc:source", marker)
        picture = tmp_path / "in.jpg"
        Image.fromarray(disc()).save(picture, exif=data, xmp=packet)
        path = tmp_path / "out.png"
        assert command("remove", picture, "-o", path, "--overwrite").status == 0
        assert marker not in path.read_bytes()


def test_a_huge_block_does_not_cost_the_picture(command: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x8769] = {0x9286: b"ASCII\0\0\0" + b"word " * 14_000}
    picture = tmp_path / "in.png"
    Image.fromarray(disc()).save(picture, exif=exif)
    result = command("remove", picture, "-o", tmp_path / "out.jpg", "--type", "white")
    assert result.status == 0
    assert "the EXIF has 70," in result.stderr
    assert "is left out" in result.stderr


@pytest.mark.parametrize(
    ("block", "kept"),
    [
        (b"", None),
        (b"\0" * 40, None),
        (iptc_field(2, 5, b"a") + b"\0\0\0", iptc_field(2, 5, b"a")),  # padded
        (iptc_field(2, 5, b"a")[:-1], None),  # cut short
        (b"\x1c\x02\x05\x80\x04\0\0\0\x01a", b"\x1c\x02\x05\x80\x04\0\0\0\x01a"),  # long
        (b"\x1c\x02\x05\xff\xff" + b"\xff" * 9, None),
        (b"\x1c\x02", None),
        (iptc_field(2, 202, b"preview"), None),
        ("text", None),
        ((0x1C020500, 0x01610000), None),  # of the other byte order
    ],
)
def test_broken_iptc(block: Any, kept: bytes | None) -> None:
    exif = Image.Exif()
    exif[33723] = block
    assert read_iptc({"photoshop": {}}, exif) == kept
    assert read_iptc({"photoshop": b"odd"}, exif) == kept


def test_iptc_as_numbers_of_four_bytes() -> None:
    field = iptc_field(2, 5, b"abc")
    for endian in "<>":
        exif = Image.Exif()
        exif.endian = endian
        exif[33723] = struct.unpack(f"{endian}2L", field)
        assert read_iptc({}, exif) == field


def test_unknown_choice(command: Any, tmp_path: Path) -> None:
    result = command("remove", write_picture(tmp_path / "a.png"), "--metadata", "gps")
    assert result.status == 2
    assert "choose one of keep, strip" in result.stderr


def test_every_page_is_cut_out(command: Any, tmp_path: Path) -> None:
    pages = [Image.fromarray(disc(40 + 8 * page, 64)) for page in range(3)]
    picture = tmp_path / "scan.tif"
    pages[0].save(picture, save_all=True, append_images=pages[1:], dpi=DPI)
    assert command("remove", picture).status == 0
    found = Image.open(tmp_path / "scan.cutout.tif")
    assert found.n_frames == 3
    for number in range(3):
        found.seek(number)
        assert found.size == pages[number].size
        assert found.mode == "RGBA"
        assert dpi_of(found) == DPI
        assert found.getchannel("A").getextrema() == (0, 255)
    asked = ("--box", "0,0,0.4,1", "-o", tmp_path / "left.tif")
    assert command("remove", picture, *asked).status == 0
    result = command("remove", picture, "-o", tmp_path / "one.png")
    assert result.status == 1
    assert "several pages, and png holds one; choose tiff" in result.stderr


def test_raw_camera_files_in_a_folder_are_passed_over_with_a_word(
    command: Any, tmp_path: Path
) -> None:
    (tmp_path / "shots").mkdir()
    write_picture(tmp_path / "shots" / "a.png")
    for name in ("a.NEF", "b.dng"):
        (tmp_path / "shots" / name).write_bytes(b"raw")
    result = command("remove", tmp_path / "shots", "-o", tmp_path / "out")
    assert result.status == 0
    assert result.stderr.count("2 raw camera files are passed over; develop them first") == 1
