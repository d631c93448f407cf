"""Decoded training pictures in one memory-mapped file, and the split into trained and held out.

A data root holds `photos/KIND/{im,gt}` (pictures with masks), `cutouts/KIND` (RGBA),
`backgrounds/` and `panoramas/` (RGB). Decoding happens once; training then reads raw pixels.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from tools.nano.split import is_held_out, pairs, pictures

SCENERY = ("backgrounds", "panoramas")
_PIXELS, _INDEX = "pictures.bin", "index.json"


@dataclass(frozen=True)
class Entry:
    """One decoded picture: where it lies in the file, and what it is."""

    kind: str
    name: str
    held_out: bool
    height: int
    width: int
    channels: int
    offset: int


class PictureStore:
    """All pictures of a data root, decoded, shrunk to at most `longest` pixels a side.

    Photos and cut-outs are H x W x 4 uint8 (RGB and truth), scenery H x W x 3.
    """

    def __init__(self, folder: Path) -> None:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        self.entries = [Entry(**entry) for entry in index]
        self._pixels = np.memmap(folder / _PIXELS, dtype=np.uint8, mode="r")

    @classmethod
    def build(cls, root: Path, folder: Path, *, longest: int = 448) -> PictureStore:
        """Decode everything below `root` into `folder`, or open what is there already."""
        return cls.write(decode_all(root, longest), folder, origin=root)

    @classmethod
    def write(
        cls, decoded: Iterable[tuple[str, str, NDArray[Any]]], folder: Path, *, origin: Path
    ) -> PictureStore:
        """Write decoded pictures (kind, name, pixels) to `folder`, or open what is there already.

        Raises:
            ValueError: there are no pictures; the message names `origin`.
        """
        if not (folder / _INDEX).exists():
            folder.mkdir(parents=True, exist_ok=True)
            entries, offset = [], 0
            with (folder / _PIXELS).open("wb") as file:
                for kind, name, pixels in decoded:
                    place = (is_held_out(name), *pixels.shape, offset)
                    entries.append(Entry(kind, name, *place))
                    file.write(np.ascontiguousarray(pixels).data)
                    offset += pixels.size
            if not entries:
                raise ValueError(
                    f"{origin} holds no pictures; expected photos/KIND/im and gt, cutouts/KIND, "
                    "backgrounds or panoramas below it"
                )
            (folder / _INDEX).write_text(
                json.dumps([asdict(entry) for entry in entries]), encoding="utf-8"
            )
        return cls(folder)

    def select(self, kind: str, *, kept_out: bool = False) -> list[Entry]:
        """Entries of one kind: those to train on, or those held out."""
        return [e for e in self.entries if e.kind == kind and e.held_out == kept_out]

    def kinds(self) -> list[str]:
        """All kinds, in the order of the file."""
        return list(dict.fromkeys(entry.kind for entry in self.entries))

    def pixels(self, entry: Entry) -> NDArray[Any]:
        """H x W x C, read-only."""
        shape = (entry.height, entry.width, entry.channels)
        return self._pixels[entry.offset : entry.offset + int(np.prod(shape))].reshape(shape)


def decode_all(root: Path, longest: int) -> Iterator[tuple[str, str, NDArray[Any]]]:
    """Kind, file name and pixels of every picture below a data root, shrunk to `longest`."""
    for folder in sorted(p for p in root.glob("photos/*") if p.is_dir()):
        found = pairs(folder)
        for image, truth in found:
            rgb = read(image, cv2.IMREAD_COLOR)[..., ::-1]
            mask = read(truth, cv2.IMREAD_GRAYSCALE)
            if mask.shape != rgb.shape[:2]:
                mask = cv2.resize(mask, rgb.shape[1::-1], interpolation=cv2.INTER_AREA)
            picture = _shrink(np.dstack([rgb, mask]), longest)
            # A folder of many sources is balanced source by source.
            kind = image.name.split("_")[0] if folder.name == "mixed" else folder.name
            yield kind, image.name, picture
    for folder in sorted(p for p in root.glob("cutouts/*") if p.is_dir()):
        files = pictures(folder)
        for path in files:
            rgba = read(path, cv2.IMREAD_UNCHANGED)
            if rgba.ndim != 3 or rgba.shape[2] != 4:
                raise ValueError(f"{path} has no alpha; cut-outs must be RGBA")
            picture = _shrink(rgba[..., (2, 1, 0, 3)], longest)
            yield folder.name, path.name, picture
    for kind in SCENERY:
        files = pictures(root / kind)
        for path in files:
            picture = _shrink(read(path, cv2.IMREAD_COLOR)[..., ::-1], max(longest, 1024))
            yield kind, path.name, picture


def read(path: Path, flag: int) -> NDArray[Any]:
    """Decode one file with an OpenCV flag; refuses what cannot be decoded."""
    picture = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), flag)
    if picture is None:
        raise ValueError(f"{path} cannot be decoded; remove it or save it again")
    return picture


def _shrink(picture: NDArray[Any], longest: int) -> NDArray[Any]:
    height, width = picture.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
