"""A contact sheet of findings: examples of each problem, as one HTML page or one PNG."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from birefnet.errors import ImageError, counted
from birefnet.html_report import Group, Section, render
from birefnet.imaging.encoding import encode
from birefnet.imaging.figure import figure
from birefnet.imaging.io import decode
from birefnet.training.data.findings import CheckReport, Finding, Item
from birefnet.training.data.sources import Pixels, shrink

_EXAMPLES = 12  # of each finding
_SIDE = 200  # of a thumbnail [px]
_COLUMNS = 4  # examples in a row of the PNG
_GAP, _LINE = 14, 20  # px
_PAPER, _INK, _GREY = (250, 250, 248), (28, 28, 30), (120, 120, 126)
_LINE_COLOUR = (200, 200, 204)
_CHECKER = ((208, 208, 208), (240, 240, 240))  # behind transparent pixels


_Example = tuple[Item, list[tuple[str, Pixels]]]
"""An item with its thumbnails; those that cannot be shown are left out."""


def write_html(report: CheckReport) -> bytes:
    """The sheet as an HTML report."""
    names = ", ".join(one.name for one in report.sets)
    count = sum(one.count for one in report.sets)
    return render(
        f"Findings: {names}" if names else "Findings",
        [_section(finding) for finding in report.findings] or [Section("Nothing was found.")],
        facts=[f"{counted(count, 'picture')} checked"],
    )


def _section(finding: Finding) -> Section:
    groups = [
        Group(
            [figure(word, pixels, side=_SIDE) for word, pixels in pictures],
            note=" ".join(filter(None, (str(item.path), item.detail))),
        )
        for item, pictures in _examples(finding)
    ]
    more = len(finding.items) - len(groups)
    lines = [f"… and {more:,} more."] if more > 0 else []
    return Section(finding.title, finding.advice, groups, lines)


def write_png(report: CheckReport) -> bytes:
    """The sheet as one picture, with fewer examples in as many rows as there are findings."""
    width = _GAP + _COLUMNS * (2 * _SIDE + 2 * _GAP)
    bands = [_band(finding, width) for finding in report.findings]
    if not bands:
        bands = [np.full((4 * _LINE, width, 3), _PAPER, np.uint8)]
        bands = [_write(bands[0], [(_GAP, _GAP, "Nothing was found.", _INK, 18)])]
    return encode(np.vstack(bands), format="png")


def _band(finding: Finding, width: int) -> Pixels:
    height = 2 * _GAP + 2 * _LINE + _SIDE + 2 * _LINE
    band: Pixels = np.full((height, width, 3), _PAPER, np.uint8)
    texts = [(_GAP, _GAP, finding.title, _INK, 18), (_GAP, _GAP + 24, finding.advice, _GREY, 14)]
    top = _GAP + 2 * _LINE + _GAP // 2
    for column, (item, pictures) in enumerate(_examples(finding, most=_COLUMNS)):
        left = _GAP + column * (2 * _SIDE + 2 * _GAP)
        for number, (_, pixels) in enumerate(pictures[:2]):
            x = left + number * (_SIDE + 4)
            pixels = _framed(pixels)
            band[top : top + pixels.shape[0], x : x + pixels.shape[1]] = pixels
        texts.append((left, top + _SIDE + 2, _shorten(item.path.name, 52), _INK, 13))
        texts.append((left, top + _SIDE + 19, _shorten(item.detail, 52), _GREY, 13))
    return _write(band, texts)


def _framed(pixels: Pixels) -> Pixels:
    """With a thin grey line around, for white masks on white paper."""
    framed = pixels.copy()
    for edge in (framed[0], framed[-1], framed[:, 0], framed[:, -1]):
        edge[:] = _LINE_COLOUR
    return framed


def _write(pixels: Pixels, texts: list[tuple[int, int, str, tuple[int, int, int], int]]) -> Pixels:
    picture = Image.fromarray(pixels)
    draw = ImageDraw.Draw(picture)
    for x, y, text, colour, size in texts:
        draw.text((x, y), text, fill=colour, font=ImageFont.load_default(size))
    return np.asarray(picture)


def _shorten(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most // 2 - 1]}…{text[-most // 2 + 1 :]}"


def _examples(finding: Finding, most: int = _EXAMPLES) -> Iterator[_Example]:
    """The first files of a finding, spread over its sets, with what can be shown of them."""
    by_set: dict[str, list[Item]] = {}
    for item in finding.items:
        by_set.setdefault(item.set_name, []).append(item)
    rounds = max(len(items) for items in by_set.values())
    spread = [items[i] for i in range(rounds) for items in by_set.values() if i < len(items)]
    for item in spread[:most]:
        asked = {"picture": item.image, "truth": item.mask, "the other": item.other}
        shown = [(word, _thumbnail(path)) for word, path in asked.items() if path is not None]
        yield item, [(word, pixels) for word, pixels in shown if pixels is not None]


def _thumbnail(path: Path) -> Pixels | None:
    """At most 200 pixels a side, on a chequered ground where it is transparent."""
    try:
        picture = decode(path)
    except ImageError:
        return None
    rgb = picture.rgb8()
    if picture.alpha is not None:
        rgb = _on_checker(rgb, picture.alpha)
    small = shrink(rgb, _SIDE)
    if small.max() == 1:  # a mask of levels 0 and 1 would look empty
        small = small * np.uint8(255)
    return small


def _on_checker(rgb: Pixels, alpha: NDArray[np.float32]) -> Pixels:
    rows, columns = np.indices(alpha.shape)
    side = max(4, max(alpha.shape) // 24)
    tiles = np.array(_CHECKER, np.float32)[(rows // side + columns // side) % 2]
    out = tiles + alpha[..., None] * (rgb - tiles)
    return np.asarray(np.rint(out), np.uint8)
