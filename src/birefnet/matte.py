"""A picture and the matte of its subject: everything that can be made of the two."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError, ImageError
from birefnet.imaging import compose, masks, matting
from birefnet.imaging.box import Area, Box
from birefnet.imaging.foreground import estimate_foreground
from birefnet.imaging.formats import SUFFIXES
from birefnet.imaging.framing import Frame, frame_around, union, visible_box
from birefnet.imaging.io import decode, encode, write_atomic
from birefnet.imaging.metadata import Metadata, check_keep
from birefnet.imaging.objects import regions
from birefnet.imaging.picture import Limits, Picture, to_uint8
from birefnet.imaging.shadow import Shadow
from birefnet.imaging.trimap import trimap
from birefnet.imaging.values import Keep, Kind, Measure, parse_measure

if TYPE_CHECKING:
    from PIL import Image

    from birefnet.imaging.io import Source

Background: TypeAlias = "Source | Picture | tuple[int, ...]"
"""A colour (a name, "#rrggbb[aa]", "r,g,b" or 3-4 numbers), or a picture of any kind and size."""

EMPTY_COVERAGE = 0.0005
EMPTY_CONFIDENCE = 0.25

_PLAIN = {"green": compose.GREEN, "white": compose.WHITE}


@dataclass(frozen=True, eq=False)
class Matte:
    """How much of each pixel belongs to the subject, and the picture it belongs to.

    Attributes:
        alpha: float32 H x W in [0, 1] at the picture's size: the network's probability, times the
            picture's own alpha where it has one. Never stretched to its own minimum and maximum.
        picture: the source as decoded.
        shadow: opacity of black between background and subject, float32 H x W; `None` for none.
            It is seen in cut-outs and on backgrounds, and no part of alpha.
        outline: width [px] and colour of a line around the subject; `None` for none. It is seen
            where the shadow is, over it.
        wide_shadow: the same with what lies beyond the picture, and the frame of both; `cropped`
            shows it.
    """

    alpha: NDArray[np.float32]
    picture: Picture
    shadow: NDArray[np.float32] | None = None
    wide_shadow: tuple[Frame, NDArray[np.float32]] | None = None
    outline: tuple[float, compose.Colour] | None = None
    _estimates: list[NDArray] = field(default_factory=list, init=False, repr=False)
    """The subject's own colours, once they have been estimated: one array."""

    def __post_init__(self) -> None:
        if self.alpha.shape != self.picture.pixels.shape[:2]:
            raise ImageError(
                f"got an alpha of shape {self.alpha.shape} for a picture of "
                f"{self.picture.pixels.shape[:2]}; they must agree"
            )

    @property
    def height(self) -> int:
        return self.picture.height

    @property
    def width(self) -> int:
        return self.picture.width

    @cached_property
    def coverage(self) -> float:
        """Mean alpha, 0 to 1: the share of the picture that the subject takes."""
        return float(self.alpha.mean(dtype=np.float64))

    @cached_property
    def confidence(self) -> float:
        """How decided the network is about the subject it shows, 0 to 1.

        The mean over the matte, weighted by alpha itself, of the distance above one half:
        sum(a * max(0, 2a - 1)) / sum(a). A subject of ones gives 1, less its soft edge; a matte
        that nowhere exceeds one half gives 0, and so does one of zeros.
        """
        alpha = self.alpha
        total = float(alpha.sum(dtype=np.float64))
        return float(np.vdot(alpha, np.maximum(2 * alpha - 1, 0))) / total if total else 0.0

    @property
    def is_empty(self) -> bool:
        """Whether no object was found: coverage below 0.0005 or confidence below 0.25.

        The first is a square of 23 px in a megapixel; the second a matte most of whose weight lies
        in pixels about which the network is undecided or that it holds for background.
        """
        return self.coverage < EMPTY_COVERAGE or self.confidence < EMPTY_CONFIDENCE

    def adjusted(
        self, *, offset: float = 0, blur: float = 0, threshold: float | None = None
    ) -> Matte:
        """The same picture with a corrected alpha, in this order.

        Args:
            offset: move the edge outwards (> 0) or inwards (< 0) [px].
            blur: soften the edge within this radius [px].
            threshold: then make each pixel all or nothing: 1 where alpha reaches it.
        """
        alpha = self.alpha
        if offset:
            alpha = masks.offset_mask(alpha, offset)
        if blur:
            alpha = masks.blur_mask(alpha, blur)
        if threshold is not None:
            alpha = masks.threshold_mask(alpha, threshold)
        return self if alpha is self.alpha else replace(self, alpha=alpha)

    def matted(self, method: str = "guided", *, band: float | None = None) -> Matte:
        """The same picture with alpha found anew inside its uncertain band, see `refine_alpha`.

        Args:
            method: guided; or with the extra `matting` closed-form, lbdm or lkm.
            band: half of its width [px]; `None` follows the picture's size.

        Raises:
            BiRefNetError: an unknown method.
            MissingExtraError: one that needs the extra `matting`.
        """
        alpha = matting.refine_alpha(self.picture.pixels, self.alpha, method, band=band)
        return self if alpha is self.alpha else replace(self, alpha=alpha)

    def with_shadow(self, style: Shadow | None = None) -> Matte:
        """The same with a shadow below the subject.

        Args:
            style: of the shadow; `None` for a soft one on the ground.

        Raises:
            BiRefNetError: the photograph's own is to be kept, and its ground is not plain.
        """
        style = style or Shadow()
        frame, wide = style.around(self.picture.pixels, self.alpha)
        shadow = Frame(-frame.top, -frame.left, self.height, self.width).cut(wide)
        return replace(self, shadow=shadow, wide_shadow=(frame, wide))

    def outlined(
        self, width: str | float | Measure = "2%", colour: str | tuple[int, ...] = "white"
    ) -> Matte:
        """The same with a line around the subject, as stickers have.

        Args:
            width: pixels, or a share of the subject's longer side; 0 for none.
            colour: opaque.

        Raises:
            BiRefNetError: no size, or no colour.
        """
        if not isinstance(width, Measure):
            width = parse_measure(width)
        parsed = compose.parse_colour(colour)
        box = visible_box(self.alpha)
        pixels = 0 if box is None else width.of(max(box.height, box.width))
        return replace(self, outline=(pixels, parsed) if pixels else None)

    def cropped(
        self,
        margin: str | float | Measure = 0,
        *,
        aspect: float | None = None,
        box: Area | None = None,
    ) -> Matte:
        """Trimmed to the subject and its shadow, also where that reaches beyond the picture; an
        empty matte stays as it is.

        Args:
            margin: around it, pixels or a share of the longer side such as "5%", see
                `frame_around`. Beyond the picture alpha is 0.
            aspect: width over height of the result; `None` for the subject's own.
            box: what must be seen instead of the subject, such as that of all frames.
        """
        frame = self.frame(margin, aspect=aspect, box=box)
        return self if frame is None else self.within(frame)

    def frame(
        self,
        margin: str | float | Measure = 0,
        *,
        aspect: float | None = None,
        box: Area | None = None,
    ) -> Frame | None:
        """Where `cropped` cuts; `None` where nothing is seen."""
        if not isinstance(margin, Measure):
            margin = parse_measure(margin)
        box = box or self.visible_box
        if box is None:
            return None
        return frame_around(box, self.height, self.width, margin=margin, aspect=aspect)

    @property
    def visible_box(self) -> Area | None:
        """The box of subject, outline and shadow, also beyond the picture; `None` for nothing."""
        around, shadow = self.wide_shadow or (None, self.shadow)
        box = visible_box(self.alpha, shadow, around)
        subject = visible_box(self.alpha)
        if self.outline is None or subject is None:
            return box
        line = round(self.outline[0]) + 1
        top, left = subject.top - line, subject.left - line
        high, wide = subject.height + 2 * line, subject.width + 2 * line
        return union([box, Frame(top, left, high, wide)])

    def within(self, frame: Frame) -> Matte:
        """The part inside a frame; beyond the picture alpha is 0, and colours are repeated."""
        picture = replace(
            self.picture,
            pixels=frame.cut(self.picture.pixels, repeats=True),
            alpha=None if self.picture.alpha is None else frame.cut(self.picture.alpha),
        )
        shadow = None if self.shadow is None else frame.cut(self.shadow)
        if self.wide_shadow is not None:
            around, wide = self.wide_shadow
            top, left = frame.top - around.top, frame.left - around.left
            shadow = replace(frame, top=top, left=left).cut(wide)
        part = Matte(frame.cut(self.alpha), picture, shadow, outline=self.outline)
        # The estimate of the whole picture is the better one, where it is there already.
        part._estimates.extend(frame.cut(colours) for colours in self._estimates)
        return part

    def objects(self, minimum: str | float | Measure = "0.1%") -> Iterator[Part]:
        """Each connected object by itself, the largest first, one at a time.

        Args:
            minimum: area from which on a part is an object: pixels, or a share of the picture such
                as "0.1%". Smaller ones go to an object nearby, or are dropped.
        """
        if not isinstance(minimum, Measure):
            minimum = parse_measure(minimum)
        objects = regions(self.alpha, minimum.of(self.alpha.size))
        for number, region in enumerate(objects, 1):
            shadow = None
            if self.shadow is not None:
                shadow = np.where(region.territory, self.shadow, np.float32(0))
            matte = replace(self, alpha=region.alpha, shadow=shadow, wide_shadow=None)
            matte._estimates.extend(self._estimates)
            yield Part(number, matte, region.box, region.area, matte.confidence)

    # What can be made of it. Arrays are H x W (x 3 or 4), RGB, of the picture's own depth.

    def mask(self, bits: Literal[8, 16] = 8) -> NDArray:
        """The alpha rounded to uint8 (or uint16) H x W."""
        return compose.mask(self.alpha, bits)

    def trimap(self, *, band: float | None = None) -> NDArray[np.uint8]:
        """Certain subject 255, certain ground 0, unknown 128; uint8 H x W.

        `band` is half of the unknown band's width [px]; `None` follows the picture's size.
        """
        return trimap(self.alpha, band=band)

    def foreground(self, *, refine: bool = True) -> NDArray:
        """The subject's own colours, H x W x 3; without `refine` simply the picture's.

        At an edge a pixel shows a mixture of subject and old background; the estimate takes the
        background's share out, so that no halo is left on a new one. Away from the subject it is
        black.
        """
        pixels = self.picture.pixels
        if not refine:
            return pixels
        if not self._estimates:
            self._estimates.append(estimate_foreground(pixels, self.alpha, dtype=pixels.dtype))
        return self._estimates[0]

    def cutout(self, *, refine: bool = True) -> NDArray:
        """RGBA, H x W x 4, colours not multiplied by alpha; see `foreground` for `refine`."""
        return compose.cutout(*self._layers(refine))

    def _layers(self, refine: bool) -> tuple[NDArray, NDArray[np.float32]]:
        """The layers over a background: subject, outline and shadow, as colours and opacity."""
        colours, alpha = self.foreground(refine=refine), self.alpha
        if self.outline is not None:
            width, colour = self.outline
            line = compose.outline(self.alpha, width)
            colours, alpha = compose.over_layer(colours, alpha, line, colour)
        if self.shadow is not None:
            colours, alpha = compose.over_layer(colours, alpha, self.shadow)
        return colours, alpha

    def on(
        self,
        background: Background,
        *,
        mode: Literal["fill", "fit"] = "fill",
        refine: bool = True,
    ) -> NDArray:
        """The subject before something else: H x W x 3 (x 4 on a colour that is not opaque).

        Args:
            background: a colour, or a picture, which is scaled to this one's size. A string that
                is not a colour is a path.
            mode: of a picture: `fill` everything and cut what sticks out, or `fit` in and leave
                white bars.
            refine: see `foreground`.

        Raises:
            BiRefNetError: neither a colour nor a readable picture.
        """
        foreground, alpha = self._layers(refine)
        behind = read_background(background)
        if isinstance(behind, Picture):
            return compose.on_picture(foreground, alpha, behind.pixels, mode=mode)
        return compose.on_colour(foreground, alpha, behind)

    def blurred(self, radius: float | None = None, *, refine: bool = True) -> NDArray:
        """The subject before its own background out of focus, H x W x 3.

        `radius` [px] is that of the blur; `None` for a fortieth of the longer side.
        """
        foreground = self.foreground(refine=refine)
        return compose.blurred(foreground, self.alpha, self.picture.pixels, radius)

    def overlay(self, colour: str | tuple[int, ...] = compose.TINT) -> NDArray:
        """The picture with the subject tinted and outlined, to judge the matte by, H x W x 3."""
        tint = compose.parse_colour(colour)
        return compose.overlay(self.picture.pixels, self.alpha, colour=tint)

    def render(
        self,
        kind: Kind = "cutout",
        *,
        background: Background | None = None,
        refine: bool = True,
    ) -> NDArray:
        """One of the above by name.

        Args:
            kind: cutout, mask, trimap, foreground, colour (needs `background`), green, white, blur
                or overlay.
            background: with `cutout` or `colour`, what to put behind the subject, see `on`.
            refine: see `foreground`.

        Raises:
            BiRefNetError: an unknown kind, or one that does not go with a background.
        """
        check_kind(kind, has_background=background is not None)
        if background is not None:
            return self.on(background, refine=refine)
        if kind == "mask":
            return self.mask(16 if self.picture.pixels.dtype == np.uint16 else 8)
        if kind == "trimap":
            return self.trimap()
        if kind == "overlay":
            return self.overlay()
        if kind == "blur":
            return self.blurred(refine=refine)
        if kind == "foreground":
            return self.foreground(refine=refine)
        if kind in _PLAIN:
            return self.on(_PLAIN[kind], refine=refine)
        return self.cutout(refine=refine)

    def to_pil(
        self,
        kind: Kind = "cutout",
        *,
        background: Background | None = None,
        refine: bool = True,
    ) -> Image.Image:
        """`render` as a Pillow image of 8 bits: RGBA, RGB or L."""
        from PIL import Image

        return Image.fromarray(to_uint8(self.render(kind, background=background, refine=refine)))

    def encode(
        self,
        format: str = "png",
        kind: Kind = "cutout",
        *,
        background: Background | None = None,
        refine: bool = True,
        quality: int | None = None,
        icc_profile: bytes | None = None,
        metadata: Keep = "keep",
    ) -> bytes:
        """`render` as the bytes of a png, webp, jpeg, tiff or avif file.

        Pictures of 16 bits keep them in png and tiff. `quality`, 1 to 100, is for jpeg, webp and
        avif; `icc_profile` is written along, and right only if the pixels were not converted from
        it (`Predictor(convert_to_srgb=False)`). `metadata` keeps the picture's resolution, EXIF
        (GPS included), XMP and IPTC, or strips them.

        Raises:
            BiRefNetError: the format cannot hold it: a JPEG needs a background, and makes more
                than three levels of a trimap.
        """
        rendered = self.render(kind, background=background, refine=refine)
        check_format(kind, format)
        check_keep(metadata)
        return encode_rendered(
            rendered,
            format,
            quality=quality,
            icc_profile=icc_profile,
            metadata=self.picture.metadata if metadata == "keep" else None,
        )

    def save(
        self,
        path: str | os.PathLike[str],
        kind: Kind = "cutout",
        *,
        background: Background | None = None,
        refine: bool = True,
        quality: int | None = None,
        metadata: Keep = "keep",
    ) -> None:
        """Write `render` to a file whose suffix says the format; complete, or not at all.

        `metadata` as for `encode`. A `~` at the beginning is the home folder. The file's folder is
        made if it is not there.

        Raises:
            BiRefNetError: a suffix that is unknown, or a format that cannot hold it.
            OSError: the file cannot be written.
        """
        path = os.path.expanduser(path) if isinstance(path, str) else path
        format = format_of(path)
        data = self.encode(
            format,
            kind,
            background=background,
            refine=refine,
            quality=quality,
            metadata=metadata,
        )
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)


@dataclass(frozen=True, eq=False)
class Part:
    """One object of a matte.

    Attributes:
        number: from 1 on, the largest first.
        matte: of it alone, at the picture's size.
        box: where it is.
        area: sum of its alpha [px].
        confidence: see `Matte.confidence`.
    """

    number: int
    matte: Matte
    box: Box
    area: float
    confidence: float

    def facts(self) -> dict[str, Any]:
        """For reports: number, box as x0, y0, x1, y1 [px], area [px], share of the picture, and
        confidence."""
        return {
            "number": self.number,
            "box": self.box.corners,
            "area": round(self.area),
            "coverage": round(self.area / self.matte.alpha.size, 4),
            "confidence": round(self.confidence, 4),
        }


def encode_rendered(
    rendered: NDArray,
    format: str,
    *,
    quality: int | None = None,
    icc_profile: bytes | None = None,
    metadata: Metadata | None = None,
) -> bytes:
    """The result of `Matte.render` as the bytes of a file; see `Matte.encode`."""
    deep = rendered.dtype == np.uint16 and format in ("png", "tiff")
    return encode(
        rendered,
        format=format,
        quality=quality,
        bits=16 if deep else 8,
        icc_profile=icc_profile,
        metadata=metadata,
    )


def check_format(kind: str, format: str) -> None:
    """Refuse formats that would make more than three levels of a trimap."""
    if kind == "trimap" and format in ("jpeg", "jpg", "avif"):
        raise BiRefNetError(f"{format} does not keep a trimap's three levels; choose png or webp")


def format_of(path: str | os.PathLike[str]) -> str:
    """Format by suffix, such as `jpeg`; an unknown suffix is a `BiRefNetError`."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise BiRefNetError(
            f"{os.fspath(path)!r} has no suffix of a picture; give .png, .webp, .jpg or .tif"
        )
    return SUFFIXES[suffix]


def check_kind(kind: str, *, has_background: bool) -> None:
    """Refuse unknown kinds, and those that a background does not go with or is missing for."""
    if kind not in get_args(Kind):
        raise BiRefNetError(f"there is no kind {kind!r}; choose one of {', '.join(get_args(Kind))}")
    if kind == "colour" and not has_background:
        raise BiRefNetError("kind 'colour' needs a background: give a colour such as '#ff8800'")
    if has_background and kind not in ("cutout", "colour"):
        raise BiRefNetError(f"kind {kind!r} takes no background; leave one of them out")


def read_background(
    background: Background, limits: Limits | None = None
) -> compose.Colour | Picture:
    """A colour, or the decoded picture; strings are tried as colours first, then as paths.

    What is transparent in the picture becomes white.

    Raises:
        BiRefNetError: neither.
    """
    if isinstance(background, Picture):
        if background.alpha is None:
            return background
        pixels = compose.on_colour(background.pixels, background.alpha)
        return replace(background, pixels=pixels, alpha=None)
    if isinstance(background, (tuple, list)):
        return compose.parse_colour(background)
    source: Any = background
    if isinstance(background, str):
        try:
            return compose.parse_colour(background)
        except BiRefNetError as error:
            if not Path(background).exists():
                raise BiRefNetError(
                    f"background {background!r} is neither a file nor a colour; give a picture, or "
                    "a name such as white, #rrggbb or r,g,b"
                ) from error
    return read_background(decode(source, limits=limits))
