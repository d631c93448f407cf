"""The fields of a request: those of `Options`, whatever they are, and a few of the server's own."""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from types import NoneType
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    create_model,
)

from birefnet.errors import BiRefNetError
from birefnet.imaging.compose import parse_colour
from birefnet.imaging.encoding import FORMATS
from birefnet.imaging.values import LARGEST_SIDE, parse_resolution
from birefnet.options import OPTIONS, Option, Options
from birefnet.presets import PRESETS
from birefnet.serving.service import MOST_MARKS

LEFT_OUT = frozenset({"batch_size"})  # the server batches across requests
ALIASES = {about.flag.replace("-", "_"): name for name, about in OPTIONS.items() if about.flag}
"""Names of the command's options that differ from those of the fields."""

_LARGEST = {"mask_blur": 64.0, "mask_offset": 64.0, "band": 128.0}  # beyond, they take minutes
_LARGEST_OTHER = 10_000.0
_PIECE = 2**20  # characters of base64 that are read at a time
_LONGEST_COLOUR = 100  # characters
_DATA_URI = re.compile(r"data:[\w.+/;=-]*,", re.ASCII)


def picture_bytes(text: str, field: str = "image") -> bytes:
    """The bytes behind base64 text or a data URI.

    Raises:
        ValueError: it is neither.
    """
    start = len(text) - len(text.lstrip())
    if (match := _DATA_URI.match(text[start : start + 200])) is not None:
        if not match.group().endswith(";base64,"):
            raise ValueError(f"{field} is a data URI without base64")
        start += match.end()
    try:
        data = _from_base64(text, start)
    except (binascii.Error, ValueError):
        raise ValueError(f"{field} is not base64, nor a data URI with base64") from None
    if not data:
        raise ValueError(f"{field} is empty")
    return data


def _from_base64(text: str, start: int) -> bytes:
    """In pieces, between which other threads have their turn.

    Raises:
        ValueError: it is no base64.
    """
    data, rest, is_padded = bytearray(), b"", False
    for position in range(start, len(text), _PIECE):
        piece = text[position : position + _PIECE].encode("ascii").translate(None, b" \t\r\n\f\v")
        if is_padded and piece:
            raise ValueError
        piece = rest + piece
        whole = len(piece) - len(piece) % 4
        data += binascii.a2b_base64(piece[:whole], strict_mode=True)
        is_padded = is_padded or piece[:whole].endswith(b"=")
        rest = piece[whole:]
    if rest:
        raise ValueError
    return bytes(data)


def _texts(value: Any) -> Any:
    """One text for many, and lists of numbers for texts: [[0, 0, 10, 10]] means ("0,0,10,10",)."""
    if isinstance(value, str):
        value = [value] if value.strip() else []
    if isinstance(value, (list, tuple)):
        if value and all(isinstance(item, (int, float)) for item in value):
            value = [value]
        return tuple(
            ",".join(str(part) for part in item) if isinstance(item, (list, tuple)) else item
            for item in value
        )
    return value


_SIZES = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": LARGEST_SIDE},
        {"type": "string", "pattern": r"^(native|\d+x\d+)$"},
        {"type": "null"},
    ]
}


def _picture_or_colour(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        if not all(type(part) is int for part in value):
            raise ValueError("a colour is 3 or 4 whole numbers")
        return tuple(value)
    if not isinstance(value, str):
        if value is None or isinstance(value, bytes):
            return value
        raise ValueError("give a picture in base64, a URL, or a colour")
    if not value.strip():
        return None
    if value.startswith(("http://", "https://")):
        return value
    if len(value) <= _LONGEST_COLOUR:
        try:
            parse_colour(value)
        except BiRefNetError:
            pass
        else:
            return value
    try:
        return picture_bytes(value, "it")
    except ValueError:
        raise ValueError(
            f"{value[:40]!r} is neither a colour nor a picture in base64 or at a URL"
        ) from None


_PICTURE = Annotated[
    Any,
    BeforeValidator(_picture_or_colour),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "null"}]}),
]


def _number_if_it_is_one(value: Any) -> Any:
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value


NumberOrText = Annotated[
    Annotated[float, Field(ge=0, le=1e9)] | str, BeforeValidator(_number_if_it_is_one)
]
"""Pixels or seconds, or what a text says instead, such as "5%"."""


def _annotation(name: str, about: Option) -> Any:
    """The type of a field for pydantic: read as people write it, and within the server's limits."""
    hint = about.type
    if about.names_file:
        return _PICTURE
    if about.choices:
        return Literal[about.choices]
    if name == "format":
        return Literal[(*FORMATS, "jpg", "tif")] | None
    if name == "resolution":
        return Annotated[hint, BeforeValidator(parse_resolution), WithJsonSchema(_SIZES)]
    if {str, float} <= (parts := set(get_args(hint))):
        return NumberOrText | None if NoneType in parts else NumberOrText
    if about.is_list:
        return Annotated[hint, BeforeValidator(_texts), Field(max_length=MOST_MARKS)]
    if about.range is not None:
        most = min(about.range.most, _LARGEST.get(name, _LARGEST_OTHER))
        least = max(about.range.least, -most)
        above, from_ = (least, None) if about.range.is_open else (None, least)
        return Annotated[hint, Field(gt=above, ge=from_, le=most)]
    return hint


def description_of(name: str, about: Option) -> str:
    """A field in the OpenAPI document."""
    if name == "format":
        return "Format of the file. Left out: by the Accept header, else png."
    if about.names_file:
        return f"{about.help} Pictures are files of the form, base64, data URIs or URLs."
    return f"{about.help} Left out: {about.usual}." if about.usual else about.help


class Answer(BaseModel):
    """The fields of a request beside the options."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str | None = Field(
        None, description="One of /v1/models; the default if left out.", max_length=200
    )
    answer: Literal["picture", "json"] | None = Field(
        None, description="The picture itself, or JSON; by the Accept header if left out."
    )
    preset: str | None = Field(
        None,
        description=f"Options by name: {', '.join(PRESETS)}, or one of the server's own. Fields "
        "given beside it come first.",
        max_length=100,
    )
    include_image: bool = Field(True, description="Whether JSON holds the picture.")
    include_mask: bool = Field(True, description="Whether JSON holds the mask.")


def option_annotations(options: Mapping[str, Option] = OPTIONS) -> dict[str, Any]:
    """Options as fields of a model of pydantic; those that clients may set."""
    return {
        name: (
            _annotation(name, about),
            Field(about.default, description=description_of(name, about)),
        )
        for name, about in options.items()
        if name not in LEFT_OUT
    }


OptionFields: type[Answer] = create_model("OptionFields", __base__=Answer, **option_annotations())
"""Every option of `Options`, with text and JSON read as people write them."""


def options_of(fields: BaseModel) -> Options:
    """The options among the fields of a request."""
    return Options(**{name: getattr(fields, name) for name in OPTIONS if name not in LEFT_OUT})
