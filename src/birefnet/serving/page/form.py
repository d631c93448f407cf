"""What a visitor set in the page's panel, and the options that it means."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from birefnet.errors import BiRefNetError
from birefnet.imaging.compose import parse_colour
from birefnet.imaging.picture import Picture
from birefnet.imaging.values import parse_resolution
from birefnet.matte import Matte
from birefnet.options import OPTIONS, Options
from birefnet.presets import Preset

KINDS = {
    "Transparent": "cutout",
    "Colour": "colour",
    "Picture": "picture",
    "Blurred": "blur",
    "Mask": "mask",
    "Trimap": "trimap",
    "Overlay": "overlay",
    "Colours only": "foreground",
}
"""What the page calls the kinds of result; a picture behind the subject is a cut-out on it."""

_COLOURLESS = ("mask", "trimap", "overlay")
_SHADOWLESS = OPTIONS["shadow"].excludes["kind"]
_FLAT = OPTIONS["outline"].excludes["kind"]

ASPECTS = {"As the subject": "", "Square": "square", "4 : 5": "4:5", "16 : 9": "16:9"}
"""Shapes of what is trimmed."""

_SAME = (
    *("refine", "mask_offset", "mask_blur", "matting", "band", "crop", "aspect", "objects"),
    *("shadow", "shadow_strength", "shadow_blur", "shadow_angle", "shadow_length"),
)
"""Fields in which `Options` and the panel say the same in the same way."""

_SHARES = ("crop_margin", "min_object", "outline")
"""Fields that the panel holds in %."""

FORMATS = {"png": "png", "webp": "webp", "tiff": "tif", "jpeg": "jpg"}
"""Files that can be saved, and their suffixes."""

LARGEST_SIDE = 8192  # of the network's input, so that a slip of the finger does not fill the memory


@dataclass(frozen=True)
class FormState:
    """Values of the panel, in the order in which the page lists its controls.

    Those of one name with a field of `Options` mean the same.

    Attributes:
        kind: a value of `KINDS`.
        colour: behind the subject, as a colour picker gives it.
        hard_edge: threshold of `Options`; 0 leaves the edge soft.
        model: a name; None for the default.
        resolution: as typed; empty for what the weights were trained with.
        fine: look at edges again at the picture's own resolution.
        crop_margin: share of the subject's longer side [%].
        band, shadow_strength: 0 for the usual one.
        min_object: share of the picture from which on a part is an object [%].
        outline: share of the subject's longer side [%].
    """

    kind: str = "cutout"
    colour: str = "#ffffff"
    refine: bool = True
    mask_offset: float = 0
    mask_blur: float = 0
    hard_edge: float = 0
    model: str | None = None
    resolution: str = ""
    fine: bool = False
    matting: str = "none"
    shadow: str = "none"
    crop: bool = False
    crop_margin: float = 0
    aspect: str = ""
    objects: bool = False
    band: float = 0
    shadow_strength: float = 0
    shadow_blur: float = 1.0
    shadow_angle: float = 60.0
    shadow_length: float = 0.5
    min_object: float = 0.1
    outline: float = 0
    outline_colour: str = "#ffffff"

    def network(self, guide: dict[str, Any]) -> Options:
        """What the network is to do: the part that takes time.

        Raises:
            BiRefNetError: the resolution or the guidance cannot be understood.
        """
        return Options(
            kind="mask",  # asks for no colours: `finish` refines them if they will be seen
            resolution=parse_resolution(self.resolution, largest=LARGEST_SIDE),
            passes=2 if self.fine else 1,
            **guide,
        )

    def finishing(self, picture: Picture | None) -> Options:
        """What is then made of the matte.

        Args:
            picture: the picture to put behind the subject.

        Raises:
            BiRefNetError: a background is missing or cannot be read.
        """
        if self.kind not in KINDS.values():
            raise BiRefNetError(f"kind is {self.kind!r}; give one of {', '.join(KINDS.values())}")
        kind = self.kind
        background: Any = None
        if kind == "colour":
            background = parse_picked(self.colour)
        if kind == "picture":
            if picture is None:
                raise BiRefNetError("choose a background picture first")
            kind, background = "cutout", picture
        values = {name: getattr(self, name) for name in _SAME}
        values |= {
            "kind": kind,
            "background": background,
            "threshold": self.hard_edge,
            "outline_colour": parse_picked(self.outline_colour),
        }
        values |= {name: f"{float(getattr(self, name) or 0):g}%" for name in _SHARES}
        if kind in _SHADOWLESS:
            values["shadow"] = "none"
        if kind in _FLAT:
            values["outline"] = "0"
        for name, value in values.items():
            default = OPTIONS[name].default
            if value is None or (default is None and not value):  # a control at 0, or empty
                values[name] = default
        return Options.of_form(values).prepared()


def form_of(preset: Preset) -> FormState | None:
    """The panel as a preset sets it, but for its format, which is chosen where a result is saved;
    `None` where the panel has no control for one of its values."""
    values: dict[str, Any] = {}
    for name, value in preset.items():
        if name == "background" and isinstance(value, str) and "kind" not in preset:
            values |= {"kind": "colour", "colour": _hex(value)}
        elif name == "outline_colour":
            values[name] = _hex(value)
        elif name in _SHARES and str(value).endswith("%"):
            values[name] = float(str(value).removesuffix("%"))
        elif name in _SAME and (name != "aspect" or value in ASPECTS.values()):
            values[name] = value
        elif name != "format":
            return None
    return None if None in values.values() else FormState(**values)


def _hex(colour: str) -> str | None:
    """As a colour picker holds it; `None` for one that is not opaque."""
    red, green, blue, opacity = parse_colour(colour)
    return f"#{red:02x}{green:02x}{blue:02x}" if opacity == 255 else None


def edge_of(finishing: Options) -> tuple[object, ...]:
    """What `Options.finish` depends on, to tell whether it must run again."""
    return (
        finishing.mask_offset,
        finishing.mask_blur,
        finishing.threshold,
        finishing.matting,
        finishing.band,
        finishing.refine and finishing.kind not in _COLOURLESS,
        finishing.outline,
        finishing.outline_colour,
        finishing.shadow_style,
        finishing.shadow_style is not None and finishing.objects,
    )


def parse_picked(colour: str | None) -> tuple[int, ...]:
    """A colour as pickers give it: #rrggbb, or rgb and rgba with fractions.

    Raises:
        BiRefNetError: it is not a colour.
    """
    text = (colour or "").strip()
    match = re.fullmatch(r"rgba?\(([^)]*)\)", text)
    if not match:
        return parse_colour(text)
    try:
        *parts, last = [float(part) for part in match.group(1).split(",")]
    except ValueError:
        raise BiRefNetError(f"{text!r} is not a colour; pick one") from None
    values = [*parts, last] if len(parts) == 2 else [*parts, last * 255]
    return parse_colour(tuple(round(value) for value in values))


def saveable(finishing: Options) -> list[str]:
    """Formats of `FORMATS` that can hold the result: JPEG has no transparency."""
    is_see_through = finishing.is_transparent
    if isinstance(finishing.background, tuple) and finishing.background[3] < 255:
        is_see_through = True
    if finishing.kind == "trimap":  # whose three levels JPEG blurs
        is_see_through = True
    return [name for name in FORMATS if name != "jpeg" or not is_see_through]


def verdict(matte: Matte, model: str | None, seconds: float) -> str:
    """What is said under the result, in a sentence or two."""
    if matte.is_empty:
        return (
            "No object found: nothing here stands out clearly. Draw a box around the object, or "
            "try another model."
        )
    parts = [
        f"The subject takes {matte.coverage:.0%} of the picture",
        f"{matte.confidence:.0%} sure",
        f"{matte.width} × {matte.height} px",
        f"{model}, {seconds:.2f} s" if model else f"{seconds:.2f} s",
    ]
    return " · ".join(parts)


def with_name(name: str, finishing: Options, format: str, number: int | None = None) -> str:
    """Name of a saved file; `number` is that of an object."""
    kind = finishing.kind if finishing.kind != "colour" else "cutout"
    which = "" if number is None else f".{number}"
    return f"{name}.{kind}{which}.{FORMATS[format]}"


def for_batch(network: Options, finishing: Options, format: str) -> Options:
    """Both parts in one, for pictures that nobody looks at in between.

    Raises:
        BiRefNetError: the format cannot hold the result.
    """
    if format not in saveable(finishing):
        raise BiRefNetError(f"{format.upper()} cannot hold this result; choose another format")
    return replace(finishing, resolution=network.resolution, passes=network.passes, format=format)
