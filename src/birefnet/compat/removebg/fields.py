"""The fields of a request to remove.bg's API, checked; each bad one has the code its clients know.

Names, values and defaults: https://www.remove.bg/api (read in November 2026). Codes such as
`invalid_roi` are those that its clients tell apart.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from birefnet.compat.removebg.placement import (
    LARGEST_MARGIN_PX,
    LARGEST_MARGIN_SHARE,
    Length,
    Placement,
    parse_lengths,
)
from birefnet.errors import BiRefNetError
from birefnet.imaging.compose import Colour, parse_colour
from birefnet.serving.errors import ServingError

MEGAPIXELS = {
    "preview": 0.25,
    "small": 0.25,
    "regular": 0.25,
    "medium": 1.5,
    "hd": 4,
    "full": 25,
    "4k": 25,
    "auto": 25,
    "50mp": 50,
}
PNG_MEGAPIXELS = 10

CHOICES: dict[str, tuple[str, ...]] = {
    "size": tuple(MEGAPIXELS),
    "type": ("auto", "person", "product", "car", "animal", "graphic", "transportation", "other"),
    "type_level": ("none", "1", "2", "latest"),
    "format": ("auto", "png", "jpg", "webp", "zip"),
    "channels": ("rgba", "alpha"),
    "shadow_type": ("none", "auto", "drop", "car", "3d"),
}


def _choice(name: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(CHOICES[name])}


_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
SCHEMA: dict[str, object] = {
    "image_file_b64": _TEXT | {"description": "base64 or a data URI"},
    "image_url": _TEXT | {"format": "uri"},
    "size": _choice("size") | {"description": "largest result"},
    "type": _choice("type") | {"description": "echoed in X-Type, not used"},
    "type_level": _choice("type_level"),
    "format": _choice("format") | {"default": "auto"},
    "roi": _TEXT | {"description": "x1 y1 x2 y2, each in px or %", "example": "0% 0% 100% 100%"},
    "crop": _FLAG,
    "crop_margin": _TEXT | {"example": "10%", "description": "1, 2 or 4 of px or %"},
    "scale": _TEXT | {"example": "80%"},
    "position": _TEXT | {"example": "center"},
    "channels": _choice("channels"),
    "add_shadow": _FLAG,
    "shadow_type": _choice("shadow_type"),
    "shadow_opacity": {"type": "number", "minimum": 0, "maximum": 100},
    "semitransparency": _FLAG | {"description": "accepted, not used"},
    "bg_color": _TEXT | {"example": "81d4fa"},
    "bg_image_url": _TEXT | {"format": "uri"},
}
"""The fields beside the files, for the OpenAPI document."""

PICTURES = ("image_file_b64", "image_url", "bg_image_url")
"""Those of them that hold a picture, or name one."""

_HEX = re.compile(r"[0-9a-fA-F]{3,4}|[0-9a-fA-F]{6}|[0-9a-fA-F]{8}")
_FALSE = {"", "0", "false", "no", "off", "none"}
_TRUE = {"1", "true", "yes", "on"}


class FieldError(ServingError):
    """One field of a request that cannot be used; `code` names it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def _invalid(name: str, text: str, cure: str) -> FieldError:
    return FieldError(f"invalid_{name}", f"{name} is {text[:60]!r}; {cure}")


@dataclass(frozen=True)
class Fields:
    """A request's fields other than its pictures.

    Attributes:
        size: name of a largest resolution, see `MEGAPIXELS`.
        type: of the foreground, as the client names it; echoed, not used.
        type_level: "none" leaves the type out of the answer.
        format: of the file.
        roi: left, top, right and bottom of the only region that may hold the subject, as shares or
            pixels; `None` for the whole picture.
        channels: rgba, or alpha for the matte alone.
        placement: crop, margin, scale and position.
        bg_color: behind the subject; `None` for transparent.
        shadow: whether to draw one.
        shadow_opacity: 0 to 100; `None` for the usual.
    """

    size: str = "preview"
    type: str = "auto"
    type_level: str = "1"
    format: str = "auto"
    roi: tuple[Length, Length, Length, Length] | None = None
    channels: str = "rgba"
    placement: Placement = field(default_factory=Placement)
    bg_color: Colour | None = None
    shadow: bool = False
    shadow_opacity: float | None = None

    @property
    def max_pixels(self) -> float:
        """Of the result before it is cropped."""
        megapixels = MEGAPIXELS[self.size]
        # The service writes large transparent pictures as ZIP, JPG or WebP only.
        if self.format in ("png", "auto"):
            megapixels = min(megapixels, PNG_MEGAPIXELS)
        return megapixels * 1e6


def read_fields(values: Mapping[str, object], *, default_size: str = "preview") -> Fields:
    """The fields of a form or JSON object; empty ones count as not given.

    Raises:
        FieldError: one that is not among the documented values.
    """
    given = {name: values[name] for name in SCHEMA if values.get(name) is not None}
    for name in given:
        if name not in PICTURES and isinstance(given[name], (bytes, list, dict)):
            raise FieldError(f"invalid_{name}", f"{name} is neither a text nor a number; send one")
    texts = {name: str(value).strip() for name, value in given.items() if name not in PICTURES}

    def choice(name: str, default: str) -> Any:
        value = (texts.get(name) or default).lower()
        if value not in CHOICES[name]:
            raise _invalid(name, value, f"give one of {', '.join(CHOICES[name])}")
        return value

    shadow = choice("shadow_type", "none") != "none"
    return Fields(
        size=choice("size", default_size),
        type=choice("type", "auto"),
        type_level=choice("type_level", "1"),
        format=choice("format", "auto"),
        roi=_roi(texts.get("roi")),
        channels=choice("channels", "rgba"),
        placement=Placement(
            crop=_flag(texts, "crop"),
            margins=_margins(texts.get("crop_margin")),
            scale=_scale(texts.get("scale")),
            position=_position(texts.get("position")),
        ),
        bg_color=_colour(texts.get("bg_color")),
        shadow=_flag(texts, "add_shadow") or shadow,
        shadow_opacity=_opacity(texts.get("shadow_opacity")),
    )


def _flag(texts: Mapping[str, str], name: str) -> bool:
    value = texts.get(name, "").lower()
    if value in _FALSE or value in _TRUE:
        return value in _TRUE
    raise _invalid(name, value, "give true or false")


def _roi(text: str | None) -> tuple[Length, Length, Length, Length] | None:
    if not text:
        return None
    left, top, right, bottom = _lengths("roi", text, (4,))
    for low, high in ((left, right), (top, bottom)):
        if low.is_share == high.is_share and low.value >= high.value:
            raise FieldError("roi_region_empty", f"the roi {text!r} holds no pixel")
    if any(length.is_share and length.value > 1 for length in (left, top, right, bottom)):
        raise FieldError("roi_exceeds_bounds", f"the roi {text!r} exceeds the picture")
    return left, top, right, bottom


def _margins(text: str | None) -> tuple[Length, Length, Length, Length]:
    """One length for all sides, two for vertical and horizontal ones, or four clockwise."""
    if not text:
        return (Length(0),) * 4
    lengths = _lengths("crop_margin", text, (1, 2, 4))
    for length in lengths:
        if length.value > (LARGEST_MARGIN_SHARE if length.is_share else LARGEST_MARGIN_PX):
            most = f"{LARGEST_MARGIN_PX}px or {LARGEST_MARGIN_SHARE:.0%}"
            raise _invalid("crop_margin", text, f"at most {most} can be added to a side")
    top, right, bottom, left = (lengths * (4 // len(lengths)))[:4]
    return top, right, bottom, left


def _scale(text: str | None) -> float | None:
    if not text or text.lower() == "original":
        return None
    (length,) = _lengths("scale", text, (1,))
    if not length.is_share or not 0.1 <= length.value <= 1:
        raise _invalid("scale", text, "give 10% to 100%, or original to leave it")
    return length.value


def _position(text: str | None) -> tuple[float, float] | None:
    if not text or text.lower() == "original":
        return None
    if text.lower() == "center":
        return 0.5, 0.5
    lengths = _lengths("position", text, (1, 2))
    if not all(length.is_share and length.value <= 1 for length in lengths):
        cure = "give original, center, or one or two values of 0% to 100%"
        raise _invalid("position", text, cure)
    return lengths[0].value, lengths[-1].value


def _colour(text: str | None) -> Colour | None:
    if not text:
        return None
    try:
        return parse_colour(f"#{text}" if _HEX.fullmatch(text) else text)
    except BiRefNetError as error:
        cure = "give a name such as green, or 81d4fa, fff or 81d4fa77"
        raise _invalid("bg_color", text, cure) from error


def _opacity(text: str | None) -> float | None:
    if not text or text.lower() == "auto":
        return None
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 100:
        raise _invalid("shadow_opacity", text, "give 0 to 100")
    return value


def _lengths(name: str, text: str, counts: tuple[int, ...]) -> list[Length]:
    try:
        return parse_lengths(text, counts)
    except BiRefNetError as error:
        raise FieldError(f"invalid_{name}", f"{name}: {error}") from error
