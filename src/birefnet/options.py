"""The options of a background removal, each declared once: type, range, help, what it goes with.

The command, the server's routes, the page, ComfyUI's nodes and videos make their forms from it.
`VideoOptions` are those that a video has beside them. Nothing heavy is imported before an option is
used, so that `birefnet --help` is quick.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal, cast, get_args, get_type_hints

from birefnet.errors import BiRefNetError, OptionError
from birefnet.imaging.values import (
    SHADOW_RANGES,
    Keep,
    Kind,
    Method,
    Position,
    Range,
    ShadowKind,
    parse_aspect,
    parse_box,
    parse_measure,
    parse_point,
    parse_position,
    parse_rate,
    parse_resolution,
)

if TYPE_CHECKING:
    from birefnet.imaging.box import Area
    from birefnet.imaging.framing import Frame
    from birefnet.imaging.io import Source
    from birefnet.imaging.metadata import Metadata
    from birefnet.imaging.picture import Limits, Pixels
    from birefnet.imaging.shadow import Shadow
    from birefnet.inference.guidance import Guidance
    from birefnet.inference.predictor import Input, Predictor
    from birefnet.matte import Matte, Part

Values = Mapping[str, tuple[str, ...]]
"""Field → its values that are meant; none for all but the default."""

_PIXELS = Range(0, 65_535)  # the longest side of most formats


@dataclass(frozen=True)
class Option:
    """Metadata of a field of `Options` or `VideoOptions`.

    Attributes:
        help: one or two sentences.
        default, type: of the field.
        usual: description of the default, if that is `None`.
        flag, short: its names in the command, if other than the field's: "box" of `boxes`, "t".
        form: notation of a value, if not clear from its type: "X,Y".
        choices: the allowed texts.
        range: of a number.
        parse: reads a value, or raises.
        requires: one of these must be set.
        excludes: none of these may be set.
        names_file: whether it may name a file of this machine. Remote clients must not set it to
            text, except to a value that cannot be a name, such as a colour.
    """

    help: str
    default: Any = None
    type: Any = None
    usual: str = ""
    flag: str = ""
    short: str = ""
    form: str = ""
    choices: tuple[str, ...] = ()
    range: Range | None = None
    parse: Callable[[Any], object] | None = None
    requires: Values = field(default_factory=dict)
    excludes: Values = field(default_factory=dict)
    names_file: bool = False

    @property
    def is_list(self) -> bool:
        """Whether the field holds several values."""
        return bool(self.type == tuple[str, ...])

    def check(self, name: str, value: Any) -> None:
        """Refuse a value of the field `name`; `None` always passes.

        Raises:
            OptionError: it is none of the choices, out of range, or cannot be read.
        """
        if value is None:
            return
        if self.choices and value not in self.choices:
            listed = ", ".join(self.choices)
            raise OptionError(f"{{{name}}} is {{value!r}}; choose one of {listed}", value=value)
        if self.range is not None and value not in self.range:
            raise OptionError(f"{{{name}}} is {{value}}; give {self.range}", value=value)
        if self.parse is not None:
            for item in value if self.is_list else (value,):
                try:
                    self.parse(item)
                except BiRefNetError as error:
                    raise OptionError(f"{{{name}}}: {{reason}}", reason=error) from None


def option(default: Any, help: str, **more: Any) -> Any:
    """A field that is an option; see `Option` for what else is said of it."""
    return field(default=default, metadata={"option": Option(help, default, **more)})


def declared(kind: type) -> dict[str, Option]:
    """The fields of a dataclass that are made by `option`."""
    types = get_type_hints(kind)
    return {
        item.name: replace(item.metadata["option"], type=types[item.name])
        for item in fields(kind)
        if "option" in item.metadata
    }


def read_colour(value: Any) -> Any:
    """See `birefnet.imaging.compose.parse_colour`, which is imported where it is needed."""
    from birefnet.imaging.compose import parse_colour

    return parse_colour(value)


def _listed(words: tuple[str, ...]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


_KINDS: tuple[str, ...] = get_args(Kind)
_CUT_OUT = ("cutout", "colour")
_SHADOWLESS = ("mask", "trimap", "foreground", "overlay")
_CROP: Values = {"crop": ()}
_FLAT = (*_SHADOWLESS, "blur")
_DRAWN: Values = {"shadow": ("ground", "drop")}


@dataclass(frozen=True)
class Options:
    """How to cut out a picture, and what to make of it.

    `help(Options)` and `birefnet remove --help` explain each field.
    """

    kind: str = option(
        "cutout", f"Output: {_listed(_KINDS)}.", flag="type", short="t", choices=_KINDS
    )
    background: Any = option(
        None,
        "Background: a colour (white, '#rrggbb', 'r,g,b') or a picture.",
        short="b",
        excludes={"kind": tuple(kind for kind in _KINDS if kind not in _CUT_OUT)},
        form="COLOUR|FILE",
        names_file=True,
    )
    resolution: int | tuple[int, int] | Literal["native"] | None = option(
        None,
        "Input size of the network; rounded to multiples of 32.",
        usual="as trained",
        form="N|WxH|native",
        parse=parse_resolution,
    )
    batch_size: int | None = option(
        None,
        "Pictures or frames in a batch.",
        usual="4 on CUDA, else 1",
        range=Range(1, 65_535),
    )
    format: str | None = option(
        None,
        "Format of the file: png, webp, jpeg, tiff, avif or gif.",
        usual="by the output's suffix, else png; animations keep theirs",
        short="f",
    )
    quality: int | None = option(None, "Quality of jpeg, webp and avif.", range=Range(1, 100))
    threshold: float | None = option(
        None,
        "Make alpha 0 or 1: 1 from this value on.",
        usual="soft edges",
        range=Range(0, 1, is_open=True),
    )
    mask_blur: float = option(0, "Soften the edge [px].", range=_PIXELS)
    mask_offset: float = option(
        0,
        "Move the edge outwards, or inwards if negative [px].",
        range=Range(-_PIXELS.most, _PIXELS.most),
    )
    refine: bool = option(True, "Remove the old background's colour from the edges.")
    keep_profile: bool = option(False, "Keep ICC profiles instead of making sRGB.")
    metadata: str = option(
        "keep",
        "Resolution (DPI), EXIF with the GPS position, XMP and IPTC of pictures: keep or strip.",
        choices=get_args(Keep),
    )
    boxes: tuple[str, ...] = option(
        (),
        "Box around the object, in pixels or as shares such as 0.2,0,0.8,1; several are united.",
        flag="box",
        form="X0,Y0,X1,Y1",
        parse=parse_box,
    )
    points: tuple[str, ...] = option(
        (),
        "Point on the object, in pixels or as shares.",
        flag="point",
        form="X,Y",
        parse=parse_point,
        excludes={"boxes": (), "guide": ()},
    )
    other_points: tuple[str, ...] = option(
        (),
        "Negative point: on something that is not the object.",
        flag="not-point",
        form="X,Y",
        parse=parse_point,
        requires={"points": ()},
    )
    guide: Any = option(
        None,
        "Mask prompt: a picture with a coarse mask or a scribble of the object.",
        excludes={"boxes": ()},
        form="FILE",
        names_file=True,
    )
    passes: int = option(
        1,
        "2 adds a second pass, for edges at the picture's full resolution.",
        flag="refine-passes",
        range=Range(1, 2),
    )
    matting: str = option(
        "none",
        "Estimate alpha again in the unknown region: guided, or closed-form, lbdm, lkm.",
        choices=get_args(Method),
    )
    band: float | None = option(
        None,
        "Half the width of the unknown region, for matting and trimaps [px].",
        usual="1.2 % of the longer side",
        range=_PIXELS,
        requires={"matting": (), "kind": ("trimap",)},
    )
    objects: bool = option(
        False, "Each connected object separately; files NAME.1.png … and a list, NAME.json."
    )
    min_object: str | float = option(
        "0.1%",
        "Smallest area of an object, in pixels or of the picture.",
        form="PX|%",
        parse=parse_measure,
        requires={"objects": ()},
    )
    crop: bool = option(False, "Trim to the subject.")
    crop_margin: str | float = option(
        "0",
        "Margin around the subject, in pixels or of its longer side; may extend beyond the "
        "picture.",
        form="PX|%",
        parse=parse_measure,
        requires=_CROP,
    )
    aspect: str | None = option(
        None,
        "Shape of the crop: square, 4:5 (width:height) …",
        usual="the subject's own",
        form="W:H",
        parse=parse_aspect,
        requires=_CROP,
    )
    shadow: str = option(
        "none",
        "Shadow: ground, drop (on a wall), or keep that of the photograph.",
        choices=("none", *get_args(ShadowKind)),
        excludes={"kind": _SHADOWLESS},
    )
    shadow_strength: float | None = option(
        None,
        "Opacity of the shadow, up to 1; for keep, the share of the visible shadow.",
        usual="0.5; 0.4 for drop, 1 for keep",
        range=SHADOW_RANGES["strength"],
        requires={"shadow": ()},
    )
    shadow_blur: float = option(
        1,
        "Softness of the shadow; 0 is hard, 1 usual.",
        range=SHADOW_RANGES["blur"],
        requires=_DRAWN,
    )
    shadow_angle: float = option(
        60,
        "Direction of the shadow [degrees]: 0 backwards, 90 to the right, 180 towards the viewer.",
        range=SHADOW_RANGES["angle"],
        requires=_DRAWN,
    )
    shadow_length: float = option(
        0.5,
        "Length of the shadow, in heights of the subject.",
        range=SHADOW_RANGES["length"],
        requires=_DRAWN,
    )
    outline: str | float = option(
        "0",
        "Width of a line around the subject, as on stickers, in pixels or of its longer side.",
        form="PX|%",
        parse=parse_measure,
        excludes={"kind": _FLAT},
    )
    outline_colour: str = option(
        "white",
        "Colour of the outline.",
        form="COLOUR",
        parse=read_colour,
        requires={"outline": ()},
    )

    @classmethod
    def of_form(cls, values: Mapping[str, Any]) -> Options:
        """Options from a form, whose controls always have a value: those that would do nothing
        beside the others are left out.

        Args:
            values: by field; those that are missing are the default.
        """
        options = cls(**values)
        for name, about in OPTIONS.items():
            if not about.is_list and options._misses(about.requires):
                options = replace(options, **{name: about.default})
        return options

    @property
    def guidance(self) -> Guidance | None:
        """Which object is meant, if that is said.

        Raises:
            BiRefNetError: it cannot be understood.
        """
        from birefnet.inference.guidance import Guidance

        points = tuple(parse_point(text) for text in self.points)
        others = tuple(parse_point(text, is_object=False) for text in self.other_points)
        boxes = tuple(parse_box(text) for text in self.boxes)
        return Guidance(boxes, points + others, self.guide) or None

    @property
    def is_plain(self) -> bool:
        """Whether the network sees the picture once, so that several can share a batch."""
        is_guided = self.boxes or self.points or self.other_points or self.guide is not None
        return not is_guided and self.passes == 1

    @property
    def is_transparent(self) -> bool:
        """Whether the result has transparent parts, which a JPEG cannot hold."""
        return self.kind == "cutout" and self.background is None

    def checked(self) -> Options:
        """The same, with each option looked at by itself and beside the others; no file is read.

        Raises:
            OptionError: one sentence on what makes no sense.
            MissingExtraError: a matting that needs a library.
        """
        from birefnet.matte import check_format

        for name, about in OPTIONS.items():
            about.check(name, getattr(self, name))
        if self.kind == "colour" and self.background is None:
            raise OptionError("{kind} colour needs a {background}: give one such as '#ff8800'")
        for name, about in OPTIONS.items():
            if not self.is_set(name):
                continue
            if self._misses(about.requires):
                needed = " or ".join(
                    f"{{{other}}} {' or '.join(values)}".strip()
                    for other, values in about.requires.items()
                )
                raise OptionError(f"{{{name}}} does nothing without {needed}; add it")
            if other := self._first(about.excludes):
                value = getattr(self, other) if about.excludes[other] else ""
                raise OptionError(
                    f"{{{name}}} does not go with {{{other}}} {value}".rstrip()
                    + "; leave one of them out"
                )
        if self.matting != "none":
            from birefnet.imaging.matting import check_method

            check_method(self.matting)
        if self.format is not None:
            check_format(self.kind, self.format)
        return replace(self, resolution=parse_resolution(self.resolution))

    def is_set(self, name: str, values: tuple[str, ...] = ()) -> bool:
        """Whether an option has one of these values; without any, another than its default."""
        value, default = getattr(self, name), OPTIONS[name].default
        if values:
            return value in values
        if value is None or default is None:
            return value is not default
        return bool(value != default) and str(value) != str(default)

    def _first(self, others: Values) -> str | None:
        """The first of these that is set."""
        return next((name for name, values in others.items() if self.is_set(name, values)), None)

    def _misses(self, required: Values) -> bool:
        return bool(required) and self._first(required) is None

    def prepared(self, limits: Limits | None = None) -> Options:
        """The same, checked, with background and coarse mask read, within these limits.

        Raises:
            BiRefNetError: one sentence on the option that makes no sense.
        """
        from birefnet.matte import read_background

        checked = self.checked()
        background, guide = self.background, self.guide
        if background is not None:
            background = read_background(background, limits)
        if guide is not None:
            guide = _read_mask(guide, limits)
        return replace(checked, background=background, guide=guide)

    @property
    def shadow_style(self) -> Shadow | None:
        """The shadow that is asked for.

        Raises:
            BiRefNetError: an unknown kind, or a number that makes no sense.
        """
        from birefnet.imaging.shadow import Shadow

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
        style = self.shadow_style
        # Objects cast shadows of their own; a photograph's is divided among them.
        if style is not None and (style.kind == "keep" or not self.objects):
            matte = matte.with_shadow(style)
        if parse_measure(self.outline).value:
            matte = matte.outlined(self.outline, self.outline_colour)
        if self.kind not in ("mask", "trimap", "overlay"):
            matte.foreground(refine=self.refine)  # the matte keeps it
        return matte

    def parts(self, matte: Matte) -> Iterator[Part]:
        """The objects of a finished matte, the largest first, one at a time, with their shadows."""
        style = self.shadow_style
        for part in matte.objects(parse_measure(self.min_object)):
            if style is not None and style.kind != "keep":
                yield replace(part, matte=part.matte.with_shadow(style))
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
        margin = parse_measure(self.crop_margin)
        ratio = None if self.aspect is None else parse_aspect(self.aspect)
        return matte.frame(margin, aspect=ratio, box=box)

    def render(self, matte: Matte, box: Area | None = None) -> Pixels:
        """The output of a finished matte; see `Matte.render`, and `framed` for `box`."""
        if self.kind == "trimap":
            # Its band follows the whole picture's size and surroundings.
            trimap = matte.trimap(band=self.band)
            frame = self.frame(matte, box)
            return trimap if frame is None else frame.cut(trimap)
        return self.framed(matte, box).render(
            cast(Kind, self.kind), background=self.background, refine=self.refine
        )

    def encode(self, matte: Matte, format: str, box: Area | None = None) -> bytes:
        """`render` as the bytes of a file; see `Matte.encode`."""
        from birefnet.matte import check_format, encode_rendered

        check_format(self.kind, format)
        return encode_rendered(
            self.render(matte, box),
            format,
            quality=self.quality,
            icc_profile=matte.picture.icc_profile if self.keep_profile else None,
            metadata=self.kept_metadata(matte),
        )

    def kept_metadata(self, matte: Matte) -> Metadata | None:
        """The metadata of the picture that files keep."""
        return matte.picture.metadata if self.metadata == "keep" else None


OPTIONS: dict[str, Option] = declared(Options)
"""Field of `Options` → what is known of it."""

VIDEO = (
    *("kind", "background", "resolution", "batch_size"),
    *("refine", "threshold", "mask_blur", "mask_offset"),
)
"""The options that videos have, too."""

Quality = Literal["low", "medium", "high", "maximum"]
Preset = Literal["fast", "balanced", "small"]


@dataclass(frozen=True)
class VideoOptions:
    """Options of a video, in addition to those of its frames, `VIDEO`."""

    quality: str = option(
        "high", "Quality of the video: low, medium, high or maximum.", choices=get_args(Quality)
    )
    preset: str = option(
        "balanced",
        "Faster encoding or a smaller file: fast, balanced or small.",
        choices=get_args(Preset),
    )
    crf: int | None = option(
        None,
        "Rate factor instead of a quality: 0 (best) to 51 for .mp4, to 63 for .webm.",
        usual="by the quality",
        range=Range(0, 63),
    )
    start: str | float | Position | None = option(
        None,
        "Begin at 12.5, 1:02.5 (minutes) or 250f (frame).",
        form="TIME|FRAME",
        parse=parse_position,
    )
    end: str | float | Position | None = option(
        None, "Stop before this time or frame.", form="TIME|FRAME", parse=parse_position
    )
    stride: int = option(1, "Use every Nth frame, and show it longer.", range=Range(1, math.inf))
    stabilise: bool = option(False, "Reduce flicker: combine each matte with its neighbours.")
    audio: bool = option(True, "Keep the sound.")
    rate: str | float | Real | None = option(
        None,
        "Frames per second of a folder or pattern of pictures, such as 30 or 30000/1001.",
        usual="25",
        form="FPS",
        parse=parse_rate,
    )

    def checked(self) -> VideoOptions:
        """The same, if each option by itself makes sense.

        Raises:
            OptionError: one sentence on what makes no sense.
        """
        for name, about in VIDEO_OPTIONS.items():
            about.check(name, getattr(self, name))
        return self


VIDEO_OPTIONS: dict[str, Option] = declared(VideoOptions)
"""Field of `VideoOptions` → what is known of it."""

FILE_OPTIONS = frozenset(name for name, about in OPTIONS.items() if about.names_file)
"""The options that may name a file of this machine."""

for _kind, _options in ((Options, OPTIONS), (VideoOptions, VIDEO_OPTIONS)):
    _kind.__doc__ = f"{_kind.__doc__}\n\n    Attributes:\n" + "\n".join(
        f"        {name}: {about.help}" for name, about in _options.items()
    )


def _read_mask(source: Source | Pixels, limits: Limits | None) -> Pixels:
    import numpy as np

    from birefnet.imaging.io import decode
    from birefnet.imaging.masks import alpha_is_mask, grey_levels

    if isinstance(source, np.ndarray):
        return source.copy()
    picture = decode(source, limits=limits)
    if alpha_is_mask(picture):
        assert picture.alpha is not None
        return picture.alpha
    return grey_levels(picture.rgb8())
