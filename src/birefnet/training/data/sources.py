"""Sets of pictures with mask, whatever they are stored in, behind one small interface."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.errors import ImageError, counted
from birefnet.imaging.io import Source as Encoded
from birefnet.imaging.io import decode
from birefnet.imaging.masks import GREY_TOLERANCE, alpha_is_mask, channel_spread, grey_levels
from birefnet.imaging.picture import to_uint8
from birefnet.training.data.folders import DataError, FileSet, Kind

Pixels = NDArray[np.uint8]
"""H x W x 4: RGB and mask (colours not multiplied by it); H x W x 3 of pictures without a mask."""

_ASPECT_TOLERANCE = 0.02
_WEIGHT = re.compile(r"(?P<uri>.+)=(?P<number>\d*\.?\d+)(?P<percent>%?)")


class Source(ABC):
    """A set of pictures that can be read in any order."""

    name: str
    kind: Kind

    @abstractmethod
    def __len__(self) -> int:
        """How many pictures it has."""

    @abstractmethod
    def name_of(self, index: int) -> str:
        """The picture's name without suffix, for labels and messages."""

    @abstractmethod
    def read(self, index: int) -> Pixels:
        """Decode one picture.

        Raises:
            ImageError: it cannot be read, or its mask does not fit it.
        """


class FolderSource(Source):
    """Pictures in folders, see `birefnet.training.data.folders.find_set`."""

    def __init__(self, files: FileSet) -> None:
        files.require_complete()
        self.name, self.kind, self._entries = files.path, files.kind, files.entries

    def __len__(self) -> int:
        return len(self._entries)

    def name_of(self, index: int) -> str:
        return self._entries[index].name

    def read(self, index: int) -> Pixels:
        return read_as(self.kind, self._entries[index].image, self._entries[index].mask)


@dataclass(frozen=True)
class WeightedUri:
    """A source by its URI, shown `times` per epoch, or as a `share` of the epoch."""

    uri: str
    times: float = 1.0
    share: float | None = None


class Subset(Source):
    """Some pictures of a source."""

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self.name, self.kind = source.name, source.kind
        self._source, self._indices = source, list(indices)

    def __len__(self) -> int:
        return len(self._indices)

    def name_of(self, index: int) -> str:
        return self._source.name_of(self._indices[index])

    def read(self, index: int) -> Pixels:
        return self._source.read(self._indices[index])


class Changed(Source):
    """The pictures of a source, each changed by a function of it and its number.

    Args:
        source: the pictures.
        change: from a picture and its number to another.
        name, kind: of what comes out.
    """

    def __init__(
        self, source: Source, change: Callable[[Pixels, int], Pixels], name: str, kind: Kind
    ) -> None:
        self.name, self.kind, self._source, self._change = name, kind, source, change

    def __len__(self) -> int:
        return len(self._source)

    def name_of(self, index: int) -> str:
        return self._source.name_of(index)

    def read(self, index: int) -> Pixels:
        return self._change(self._source.read(index), index)


def split_for_validation(source: Source, share: float) -> tuple[Source, Source]:
    """Split a source into a training and a validation split, by the pictures' names.

    Pictures with the smallest hashes are for validation, at least one; copies of a picture under
    the same name in another folder fall on the same side more often than not.

    Raises:
        DataError: there are fewer than two pictures.
    """
    if len(source) < 2:
        raise DataError(
            f"{source.name} has {counted(len(source), 'picture')}, of which none can be left out "
            "for validation; add pictures, or give --validate"
        )

    def digest(index: int) -> str:
        stem = source.name_of(index).rsplit("/", 1)[-1]
        return hashlib.sha1(stem.encode(), usedforsecurity=False).hexdigest()

    order = sorted(range(len(source)), key=lambda index: (digest(index), index))
    count = min(len(source) - 1, max(1, round(share * len(source))))
    return Subset(source, sorted(order[count:])), Subset(source, sorted(order[:count]))


def read_some(source: Source, most: int) -> int:
    """Read pictures of a source, from the first to the last, to find errors before a run does.

    Args:
        source: of pictures with or without masks.
        most: how many to read; all of a source that has fewer.

    Returns how many it read.

    Raises:
        ImageError: one of them cannot be read, or its mask does not fit it.
    """
    count = min(most, len(source))
    for number in range(count):
        source.read(number * (len(source) - 1) // max(1, count - 1))
    return count


def parse_source(text: str) -> WeightedUri:
    """Split `PATH=2.0` or `PATH=20%`.

    >>> parse_source("DIS5K/DIS-TR=2.0")
    WeightedUri(uri='DIS5K/DIS-TR', times=2.0, share=None)

    Raises:
        DataError: a weight of 0, or a share of all or more.
    """
    found = _WEIGHT.fullmatch(text)
    if found is None or Path(text).exists():
        return WeightedUri(text)
    number = float(found["number"])
    if number <= 0 or (found["percent"] and number >= 100):
        raise DataError(
            f"the weight of {text!r} is {found['number']}{found['percent']}; give a number above "
            "0, or a share between 0% and 100%"
        )
    if found["percent"]:
        return WeightedUri(found["uri"], 1.0, number / 100)
    return WeightedUri(found["uri"], number)


def read_as(
    kind: Kind, image: Encoded, mask: Encoded | None = None, *, name: str | None = None
) -> Pixels:
    """A picture as sets of its kind have it: with its mask, with alpha, or alone.

    Args:
        kind: of the set; `mask` is given for `pairs`.
        name: for messages; the files' own names otherwise.

    Raises:
        ImageError: see `read_pair`, `read_cutout` and `read_picture`.
    """
    if kind == "pairs":
        assert mask is not None
        return read_pair(image, mask, name=name)
    return (read_cutout if kind == "cutouts" else read_picture)(image, name=name)


def read_pair(image: Encoded, mask: Encoded, *, name: str | None = None) -> Pixels:
    """A picture and its mask; the mask is resized where it is smaller or larger.

    Args:
        image, mask: whatever `imaging.io.decode` takes.
        name: for messages; the files' own names otherwise.

    Raises:
        ImageError: unreadable, or of different shapes.
    """
    rgb = read_picture(image, name=name)
    levels: NDArray[np.uint8] = read_mask(mask, name=name)
    height, width = rgb.shape[:2]
    if levels.shape != (height, width):
        mask_height, mask_width = levels.shape
        if not same_aspect(rgb.shape[:2], levels.shape):
            turned = same_aspect((width, height), levels.shape)
            cure = (
                "the mask was drawn on the picture before its EXIF rotation: turn the mask"
                if turned
                else "export the mask at the picture's size"
            )
            raise ImageError(
                f"{name or _path(image)} is {width} x {height} pixels and its mask "
                f"{mask_width} x {mask_height}; {cure}"
            )
        how = cv2.INTER_AREA if mask_height > height else cv2.INTER_LINEAR
        levels = np.asarray(cv2.resize(levels, (width, height), interpolation=how), np.uint8)
    return np.asarray(cv2.merge([rgb, levels]), np.uint8)


def same_aspect(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes (height, width) differ by scale alone, and by a pixel of rounding."""
    (height, width), (other_height, other_width) = shape[:2], other[:2]
    off = abs(width * other_height - height * other_width)
    slack = max(_ASPECT_TOLERANCE * height * other_width, height, width)
    return off <= slack


def read_picture(image: Encoded, *, name: str | None = None) -> Pixels:
    """RGB, upright, 8 bits; its alpha, if it has one, is left out."""
    try:
        return decode(image).rgb8()
    except ImageError as error:
        raise _named(error, name) from error


def read_cutout(image: Encoded, *, name: str | None = None) -> Pixels:
    """RGBA of a cut-out; refuses a picture without alpha."""
    try:
        picture = decode(image)
    except ImageError as error:
        raise _named(error, name) from error
    if picture.alpha is None:
        raise ImageError(
            f"{name or picture.name} has no transparent pixel; a cut-out needs an alpha channel, "
            "so cut it out ('birefnet remove') or put it among the backgrounds"
        )
    return np.asarray(cv2.merge([picture.rgb8(), to_uint8(picture.alpha)]), np.uint8)


def read_mask(mask: Encoded, *, name: str | None = None) -> Pixels:
    """H x W levels of a mask, 0 for background and 255 for the subject.

    A file with alpha is read by the rule of `imaging.masks.alpha_is_mask`, as in evaluation.

    Raises:
        ImageError: unreadable, a colour picture, or with the levels 0 and 1 only.
    """
    try:
        # Colour management would shift the levels of a mask that carries a profile.
        picture = decode(mask, convert_to_srgb=False)
    except ImageError as error:
        raise _named(error, name) from error
    name = name or picture.name or "the mask"
    if alpha_is_mask(picture):
        assert picture.alpha is not None
        return to_uint8(picture.alpha)
    pixels = picture.rgb8()
    if channel_spread(pixels) > GREY_TOLERANCE:
        raise ImageError(
            f"the mask of {name} is a colour picture; give a grey mask, 0 for background and 255 "
            "for the subject"
        )
    levels = grey_levels(pixels)
    if levels.max() == 1:
        raise ImageError(
            f"the mask of {name} has only the levels 0 and 1; save it with 0 and 255 (multiply "
            "by 255)"
        )
    return levels


def _path(source: Encoded) -> str:
    return str(source) if isinstance(source, (str, Path)) else "the picture"


def _named(error: ImageError, name: str | None) -> ImageError:
    return ImageError(f"{name}: {error}") if name else error


def shrink(pixels: Pixels, longest: int, *, is_cutout: bool = False) -> Pixels:
    """At most `longest` pixels on the longer side (0: as it is), antialiased.

    Args:
        is_cutout: colours under transparent pixels mean nothing and do not mix into the others.
    """
    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    if not longest or scale >= 1:
        return pixels
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    if is_cutout:
        weight = pixels[..., 3:].astype(np.float32) / 255
        shown = np.asarray(cv2.resize(pixels[..., :3] * weight, size, interpolation=cv2.INTER_AREA))
        share = np.asarray(cv2.resize(weight, size, interpolation=cv2.INTER_AREA))[..., None]
        visible = np.rint(shown / np.maximum(share, 1e-6))
        small[..., :3] = np.where(share > 0, visible, small[..., :3])
    return small
