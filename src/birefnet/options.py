"""What can be asked of a background removal, by every way in: command, server, page, nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError
from birefnet.guidance import Guidance, parse_box, parse_point
from birefnet.imaging.framing import Area, Frame, parse_aspect
from birefnet.imaging.io import decode
from birefnet.imaging.masks import alpha_is_mask, grey_levels
from birefnet.imaging.matting import check_method
from birefnet.imaging.measure import parse_measure
from birefnet.imaging.metadata import Metadata, check_keep
from birefnet.imaging.shadow import Shadow
from birefnet.matte import (
    Kind,
    Matte,
    Part,
    check_format,
    check_kind,
    encode_rendered,
    read_background,
)

if TYPE_CHECKING:
    from birefnet.imaging.io import Source
    from birefnet.imaging.picture import Limits
    from birefnet.predictor import Input, Predictor


LARGEST = 65_535
"""Pixels of a blur, an offset or a band: the longest side of most formats."""


@dataclass(frozen=True)
class Range:
    """The numbers that an option takes, ends included.

    Attributes:
        least, most: of them.
        is_open: whether `least` itself is left out.
    """

    least: float
    most: float
    is_open: bool = False

    def __contains__(self, number: float) -> bool:
        return self.least <= number <= self.most and not (self.is_open and number == self.least)

    def __str__(self) -> str:
        return f"{'above ' * self.is_open}{self.least:g} to {self.most:g}"


def _number(default: Any, least: float, most: float, *, is_open: bool = False) -> Any:
    """A field that holds a number, and which it may be."""
    return field(default=default, metadata={"range": Range(least, most, is_open)})


NAMES_FILE = {"names_file": True}
"""Of a field that may name a file of this machine: who is elsewhere must not set it to text, except
to what is no name, such as a colour."""


@dataclass(frozen=True)
class Options:
    """How to cut out a picture, and what to make of it; names and meanings as in `birefnet remove`.

    Attributes:
        kind: what comes out, see `Matte.render`.
        background: behind the subject; a string is a colour or a path until `prepared`.
        resolution, batch_size: see `Predictor.predict`.
        format: of the file, such as png; `None` leaves it to the caller.
        quality: of jpeg, webp and avif, 1 to 100.
        threshold, mask_blur, mask_offset: see `Matte.adjusted`.
        refine: see `Matte.foreground`.
        keep_profile: write the picture's ICC profile along (with pixels as stored).
        metadata: keep the picture's resolution, EXIF (with the place, if it says one), XMP
            and IPTC in files, or strip them.
        boxes, points, other_points: where the meant object is and is not, as text.
        guide: a coarse mask; a path, bytes or array until `prepared`.
        passes: 2 redoes edges at the picture's own resolution.
        matting: alpha once more inside the uncertain band, see `Matte.matted`.
        band: half of the width of that band, and of a trimap's [px]; `None` by the picture's size.
        objects: each connected object by itself, see `parts`.
        min_object: area from which on a part is an object: "400" pixels, or "0.1%" of the picture.
        crop: trim to the subject, see `framed`.
        crop_margin: around it: "24" pixels, or "5%" of the subject's longer side.
        aspect: shape of what is trimmed: "square", "4:5" (width:height).
        shadow: none, ground, drop or keep, see `birefnet.imaging.shadow.Shadow`.
        shadow_strength, shadow_blur, shadow_angle, shadow_length: how it looks.
    """

    kind: str = "cutout"
    background: Any = field(default=None, metadata=NAMES_FILE)
    resolution: int | tuple[int, int] | Literal["native"] | None = None
    batch_size: int | None = None
    format: str | None = None
    quality: int | None = _number(None, 1, 100)
    threshold: float | None = _number(None, 0, 1, is_open=True)
    mask_blur: float = _number(0, 0, LARGEST)
    mask_offset: float = _number(0, -LARGEST, LARGEST)
    refine: bool = True
    keep_profile: bool = False
    metadata: str = "keep"
    boxes: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    other_points: tuple[str, ...] = ()
    guide: Any = field(default=None, metadata=NAMES_FILE)
    passes: int = _number(1, 1, 2)
    matting: str = "none"
    band: float | None = _number(None, 0, LARGEST)
    objects: bool = False
    min_object: str | float = "0.1%"
    crop: bool = False
    crop_margin: str | float = "0"
    aspect: str | None = None
    shadow: str = "none"
    shadow_strength: float | None = _number(None, 0, 1, is_open=True)
    shadow_blur: float = _number(1.0, 0, 10)
    shadow_angle: float = _number(60.0, -360, 360)
    shadow_length: float = _number(0.5, 0, 3)

    @property
    def guidance(self) -> Guidance | None:
        """Which object is meant, if that is said.

        Raises:
            BiRefNetError: it cannot be understood.
        """
        points = tuple(parse_point(text) for text in self.points)
        others = tuple(parse_point(text, is_object=False) for text in self.other_points)
        if others and not points:
            raise BiRefNetError("--not-point says what is not meant; give --point too")
        boxes = tuple(parse_box(text) for text in self.boxes)
        return Guidance(boxes, points + others, self.guide) or None

    @property
    def is_plain(self) -> bool:
        """Whether the network sees the picture once, so that several can share a batch."""
        return self.guidance is None and self.passes == 1

    def prepared(self, limits: Limits | None = None) -> Options:
        """The same, checked, with background and coarse mask read, within these limits.

        Raises:
            BiRefNetError: one sentence on the option that makes no sense.
        """
        check_kind(self.kind, has_background=self.background is not None)
        self._check_numbers()
        prepared = self
        if self.background is not None:
            prepared = replace(prepared, background=read_background(self.background, limits))
        if self.guide is not None:
            is_array = isinstance(self.guide, np.ndarray)
            guide = self.guide.copy() if is_array else _read_mask(self.guide, limits)
            prepared = replace(prepared, guide=guide)
        _ = prepared.guidance
        self._check_parts()
        return prepared

    def _check_numbers(self) -> None:
        for name, allowed in RANGES.items():
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise BiRefNetError(f"--{name.replace('_', '-')} is {value}; give {allowed}")

    def _check_parts(self) -> None:
        """Matting, objects, crop and shadow: each by itself, and what goes only together."""
        check_method(self.matting)
        check_keep(self.metadata)
        _ = self.look
        parse_measure(self.crop_margin, "--crop-margin")
        parse_measure(self.min_object, "--min-object")
        if self.aspect is not None:
            parse_aspect(self.aspect)
        if self.format is not None:
            check_format(self.kind, self.format)
        is_drawn = self.shadow in ("ground", "drop")
        wanted = {
            "crop_margin": ("--crop", self.crop),
            "aspect": ("--crop", self.crop),
            "min_object": ("--objects", self.objects),
            "shadow_strength": ("--shadow", self.shadow != "none"),
            "shadow_blur": ("--shadow ground or drop", is_drawn),
            "shadow_angle": ("--shadow ground or drop", is_drawn),
            "shadow_length": ("--shadow ground or drop", is_drawn),
            "band": ("--matting or --type trimap", self.matting != "none" or self.kind == "trimap"),
        }
        for item in fields(self):
            needed, is_there = wanted.get(item.name, ("", True))
            if not is_there and str(getattr(self, item.name)) != str(item.default):
                name = item.name.replace("_", "-")
                raise BiRefNetError(f"--{name} does nothing without {needed}; add it")
        if self.shadow != "none" and self.kind in ("mask", "trimap", "foreground", "overlay"):
            raise BiRefNetError(f"--type {self.kind} shows no shadow; leave --shadow out")

    @property
    def look(self) -> Shadow | None:
        """The shadow that is asked for.

        Raises:
            BiRefNetError: an unknown kind, or a number that makes no sense.
        """
        if self.shadow == "none":
            return None
        return Shadow(
            self.shadow,
            self.shadow_strength,
            self.shadow_blur,
            self.shadow_angle,
            self.shadow_length,
        )

    def predict(self, predictor: Predictor, source: Input) -> Matte:
        """The matte of one picture, guided and refined as asked, before `finish`.

        Raises:
            BiRefNetError: see `Predictor.predict` and `Predictor.predict_guided`.
        """
        if self.is_plain:
            return predictor.predict(source, resolution=self.resolution)
        return predictor.predict_guided(
            source, self.guidance, passes=self.passes, resolution=self.resolution
        )

    def finish(self, matte: Matte) -> Matte:
        """The matte as asked for, at the picture's size: refined, corrected, with its shadow and,
        where they will be seen, its colours.

        Raises:
            BiRefNetError: the photograph's shadow is to be kept, and its ground is not plain.
        """
        if self.matting != "none":
            matte = matte.matted(self.matting, band=self.band)
        matte = matte.adjusted(
            offset=self.mask_offset, blur=self.mask_blur, threshold=self.threshold
        )
        look = self.look
        # Objects cast shadows of their own; a photograph's is divided among them.
        if look is not None and (look.kind == "keep" or not self.objects):
            matte = matte.with_shadow(look)
        if self.kind not in ("mask", "trimap", "overlay"):
            matte.foreground(refine=self.refine)  # the matte keeps it
        return matte

    def parts(self, matte: Matte) -> Iterator[Part]:
        """The objects of a finished matte, the largest first, one at a time, with their shadows."""
        look = self.look
        for part in matte.objects(parse_measure(self.min_object, "--min-object")):
            if look is not None and look.kind != "keep":
                yield replace(part, matte=part.matte.with_shadow(look))
            else:
                yield part

    def framed(self, matte: Matte, box: Area | None = None) -> Matte:
        """The finished matte trimmed to its subject, if that is asked for.

        `render` and `encode` do it by themselves; doing it twice changes nothing.

        Args:
            box: what must be seen instead of the subject: for frames, the union of their
                `Matte.visible_box`.
        """
        frame = self.frame(matte, box)
        return matte if frame is None else matte.within(frame)

    def frame(self, matte: Matte, box: Area | None = None) -> Frame | None:
        """Where `framed` trims a finished matte; `None` if nothing is to be trimmed or seen."""
        if not self.crop:
            return None
        margin = parse_measure(self.crop_margin, "--crop-margin")
        ratio = None if self.aspect is None else parse_aspect(self.aspect)
        return matte.frame(margin, aspect=ratio, box=box)

    def render(self, matte: Matte, box: Area | None = None) -> NDArray[Any]:
        """What is asked for, of a finished matte; see `Matte.render`, and `framed` for `box`."""
        if self.kind == "trimap":
            # Its band follows the whole picture's size and surroundings.
            known = matte.trimap(band=self.band)
            frame = self.frame(matte, box)
            return known if frame is None else frame.cut(known)
        return self.framed(matte, box).render(
            cast(Kind, self.kind), background=self.background, refine=self.refine
        )

    def encode(self, matte: Matte, format: str, box: Area | None = None) -> bytes:
        """`render` as the bytes of a file; see `Matte.encode`."""
        check_format(self.kind, format)
        return encode_rendered(
            self.render(matte, box),
            format,
            quality=self.quality,
            icc_profile=matte.picture.icc_profile if self.keep_profile else None,
            metadata=self.kept_metadata(matte),
        )

    def kept_metadata(self, matte: Matte) -> Metadata | None:
        """What files say of the picture beside its pixels."""
        return matte.picture.metadata if self.metadata == "keep" else None


RANGES: dict[str, Range] = {
    item.name: item.metadata["range"] for item in fields(Options) if "range" in item.metadata
}
"""The options that hold numbers, and which they take."""

FILE_OPTIONS = frozenset(item.name for item in fields(Options) if "names_file" in item.metadata)
"""The options that may name a file of this machine."""


def _read_mask(source: Source, limits: Limits | None) -> NDArray[Any]:
    picture = decode(source, limits=limits)
    if alpha_is_mask(picture):
        assert picture.alpha is not None
        return picture.alpha
    return grey_levels(picture.rgb8())
