"""Facts of one picture and its mask for the check: a few numbers, not the pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.errors import ImageError
from birefnet.imaging.formats import sniff
from birefnet.imaging.io import decode
from birefnet.imaging.masks import GREY_TOLERANCE, alpha_is_mask, channel_spread, grey_levels
from birefnet.imaging.picture import to_float, to_uint8
from birefnet.processes import spread
from birefnet.training.data.alignment import Edges, edges_of
from birefnet.training.data.folders import Entry, FileSet, Kind
from birefnet.training.data.sources import Source, same_aspect

LOW, HIGH = 16, 239  # levels between which a mask is neither background nor subject

_HASHED_SIDE = 32  # of the picture whose cosine transform is hashed [px]
_HASH_SIDE = 8  # of the block of lowest frequencies that is kept
_THUMB_SIDE = 24
_EXTREME = 0.98  # share of a mask's pixels that are background or subject, each at least _SOME
_SOME = 0.005
_FEW_LEVELS = 16  # soft edges of whole pictures have more, unless drawn by few samples per pixel
_SQUARE = np.ones((7, 7), np.uint8)
_CHUNK = 8  # entries that a process takes at a time


@dataclass(frozen=True, eq=False)
class PerceptualHash:
    """How a picture looks, to find it again.

    Attributes:
        digest: of the decoded pixels.
        bits: 64 bits, alike for pictures that look alike: signs of the lowest frequencies.
        thumb: 24 x 24 grey levels with mean 0 and norm 1; all 0 for a plain picture.
    """

    digest: bytes
    bits: np.uint64
    thumb: NDArray[np.float16]


@dataclass(frozen=True)
class MaskFacts:
    """Numbers of a mask.

    Attributes:
        height, width: [px].
        is_jpeg: by its first bytes.
        is_colour: its channels differ too much for a grey picture.
        low, high: smallest and largest level.
        share: mean level, 0 to 1.
        border: mean level of the pixels along the frame, 0 to 1.
        between: share of the pixels of a level from 16 to 239.
        areas: share of the pixels whose whole neighbourhood, 7 x 7, has such levels.
        smeared: share of the pixels of a level from 1 to 15 or 240 to 254, 4 pixels or more from
            any edge: JPEG leaves them, antialiasing does not.
        levels: the commonest levels between (at most 4), if there are no more than 16 of them;
            `areas` is 0 otherwise.
    """

    height: int
    width: int
    is_jpeg: bool
    is_colour: bool
    low: int
    high: int
    share: float
    border: float
    between: float
    areas: float
    smeared: float
    levels: tuple[int, ...] = ()


@dataclass(frozen=True)
class Facts:
    """Facts of one entry; `error` and `mask_error` say why some are missing.

    Attributes:
        height, width: of the picture [px].
        has_alpha: some pixel of the picture is not opaque.
        is_mask: the picture has nothing but black and white, as masks have.
        edges: of the picture and of its mask; None where one has none.
    """

    entry: Entry
    kind: Kind
    height: int = 0
    width: int = 0
    has_alpha: bool = False
    is_mask: bool = False
    hash: PerceptualHash | None = field(default=None, compare=False)
    edges: Edges | None = field(default=None, compare=False)
    mask: MaskFacts | None = None
    error: str = ""
    mask_error: str = ""


def inspect(files: FileSet, jobs: int = 1) -> Iterator[Facts]:
    """The facts of a set's files, in order.

    Args:
        jobs: processes; 0 takes one per core.
    """
    work = partial(inspect_entry, kind=files.kind)
    yield from spread(work, files.entries, jobs, chunk=_CHUNK)


def inspect_source(source: Source, jobs: int = 1) -> Iterator[Facts]:
    """The facts of pictures that are no files: rows and members of shards.

    They are seen as training sees them, so what it refuses counts as unreadable, with its reason.
    """
    work = partial(_inspect_sample, source)
    yield from spread(work, range(len(source)), jobs, chunk=_CHUNK)


def inspect_entry(entry: Entry, kind: Kind) -> Facts:
    """Decode a picture and its mask once and keep numbers."""
    try:
        data = _read(entry.image)
        picture = decode(data)
    except ImageError as error:
        return Facts(entry, kind, error=_reason(error))
    rgb = picture.rgb8()
    mask, mask_error, edges = None, "", None
    if kind == "cutouts" and picture.alpha is not None:
        mask = mask_facts(to_uint8(picture.alpha))
    elif entry.mask is not None:
        try:
            mask, levels = _read_mask(entry.mask)
            edges = _edges_of_pair(rgb, levels)
        except ImageError as error:
            mask_error = _reason(error)
    return Facts(
        entry,
        kind,
        height=picture.height,
        width=picture.width,
        has_alpha=picture.alpha is not None,
        is_mask=_is_mask(rgb),
        edges=edges,
        hash=perceptual_hash(rgb, None if kind != "cutouts" else picture.alpha),
        mask=mask,
        mask_error=mask_error,
    )


def _inspect_sample(source: Source, index: int) -> Facts:
    entry = Entry(source.name_of(index), Path(source.name_of(index)))
    try:
        pixels = source.read(index)
    except ImageError as error:
        return Facts(entry, source.kind, error=_reason(error))
    rgb, mask = np.ascontiguousarray(pixels[..., :3]), None
    is_cutout = source.kind == "cutouts"
    if pixels.shape[2] == 4:
        mask = np.ascontiguousarray(pixels[..., 3])
    return Facts(
        entry,
        source.kind,
        height=rgb.shape[0],
        width=rgb.shape[1],
        has_alpha=is_cutout,
        is_mask=_is_mask(rgb),
        edges=None if is_cutout or mask is None else _edges_of_pair(rgb, mask),
        hash=perceptual_hash(rgb, to_float(mask) if is_cutout and mask is not None else None),
        mask=None if mask is None else mask_facts(mask),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as failure:
        raise ImageError(f"it cannot be opened: {failure.strerror}") from None


def _reason(error: ImageError) -> str:
    return str(error).removeprefix("the picture ").rstrip(".")


def _is_mask(rgb: NDArray[np.uint8]) -> bool:
    """Whether a picture has nothing but black and white; line art may, too."""
    green = np.ascontiguousarray(rgb[..., 1])
    counts = cv2.calcHist([green], [0], None, [256], [0, 256]).ravel() / green.size
    dark, bright = float(counts[:LOW].sum()), float(counts[HIGH + 1 :].sum())
    is_extreme = dark + bright > _EXTREME and min(dark, bright) > _SOME
    return is_extreme and channel_spread(rgb) <= GREY_TOLERANCE


def _edges_of_pair(rgb: NDArray[np.uint8], levels: NDArray[np.uint8]) -> Edges | None:
    return edges_of(rgb, levels) if same_aspect(rgb.shape[:2], levels.shape) else None


def _read_mask(path: Path) -> tuple[MaskFacts, NDArray[np.uint8]]:
    """Numbers of a mask's file, and its levels, 0 to 255 where it has 0 and 1 only."""
    data = _read(path)
    picture = decode(data, convert_to_srgb=False)
    pixels = picture.rgb8()
    is_jpeg = sniff(data) == "jpeg"
    if alpha_is_mask(picture):
        assert picture.alpha is not None
        levels, is_colour = to_uint8(picture.alpha), False
    else:
        levels, is_colour = grey_levels(pixels), channel_spread(pixels) > GREY_TOLERANCE
    facts = mask_facts(levels, is_jpeg=is_jpeg, is_colour=is_colour)
    return facts, levels * np.uint8(255) if facts.high == 1 else levels


def mask_facts(
    levels: NDArray[np.uint8], *, is_jpeg: bool = False, is_colour: bool = False
) -> MaskFacts:
    """Numbers of a mask, H x W."""
    counts = np.bincount(levels.ravel(), minlength=256)
    used = np.flatnonzero(counts)
    between = used[(used >= LOW) & (used <= HIGH)]
    commonest = sorted(between, key=lambda level: -counts[level])[:4]
    frame = np.concatenate([levels[0], levels[-1], levels[:, 0], levels[:, -1]])
    total = levels.size
    return MaskFacts(
        height=levels.shape[0],
        width=levels.shape[1],
        is_jpeg=is_jpeg,
        is_colour=is_colour,
        low=int(used[0]),
        high=int(used[-1]),
        share=float(np.arange(256) @ counts / (255 * total)),
        border=float(frame.mean() / 255),
        between=float(counts[LOW : HIGH + 1].sum() / total),
        areas=_areas_between(levels) if len(between) <= _FEW_LEVELS else 0.0,
        smeared=_smeared(levels),
        levels=tuple(int(v) for v in sorted(commonest)) if len(between) <= _FEW_LEVELS else (),
    )


def _areas_between(levels: NDArray[np.uint8]) -> float:
    """Share of the pixels that lie within areas of levels between, not on mere edges."""
    between = cv2.inRange(levels, LOW, HIGH)
    inner = cv2.erode(between, _SQUARE, borderValue=0)
    return float(np.count_nonzero(inner) / levels.size)


def _smeared(levels: NDArray[np.uint8]) -> float:
    """Share of the pixels that are nearly background or subject, far from any edge."""
    almost = ((levels > 0) & (levels < LOW)) | ((levels > HIGH) & (levels < 255))
    if not almost.any():
        return 0.0
    small = np.ones((3, 3), np.uint8)
    low, high = (np.asarray(levels < LOW, np.uint8), np.asarray(levels > HIGH, np.uint8))
    edge = cv2.bitwise_and(cv2.dilate(low, small), cv2.dilate(high, small))
    edge = cv2.bitwise_or(edge, cv2.inRange(levels, LOW, HIGH))
    return float(np.count_nonzero(almost & (cv2.dilate(edge, _SQUARE) == 0)) / levels.size)


def perceptual_hash(
    rgb: NDArray[np.uint8], alpha: NDArray[np.float32] | None = None
) -> PerceptualHash:
    """Of a picture (H x W x 3); a cut-out is seen on grey."""
    digest = hashlib.blake2b(str(rgb.shape).encode(), digest_size=16)
    digest.update(np.ascontiguousarray(rgb).data)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    if alpha is not None:
        digest.update(np.ascontiguousarray(alpha).data)
        grey = (grey * alpha + 127 * (1 - alpha)).astype(np.uint8)
    sides = (_HASHED_SIDE, _HASHED_SIDE)
    small = cv2.resize(grey, sides, interpolation=cv2.INTER_AREA).astype(np.float32)
    low = np.asarray(cv2.dct(small))[:_HASH_SIDE, :_HASH_SIDE].ravel().copy()
    low[0] = 0  # brightness says nothing
    bits = np.packbits(low > np.median(low)).view(np.uint64)[0]
    sides = (_THUMB_SIDE, _THUMB_SIDE)
    thumb = cv2.resize(grey, sides, interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
    thumb -= thumb.mean()
    norm = float(np.linalg.norm(thumb))
    thumb = thumb / norm if norm > _THUMB_SIDE else np.zeros_like(thumb)
    return PerceptualHash(digest.digest(), bits, thumb.astype(np.float16))
