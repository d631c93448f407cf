"""The fields of a request: those of `Options`, whatever they are, and a few of the server's own."""

from __future__ import annotations

import base64
import binascii
import re
import typing
from collections.abc import Collection
from dataclasses import fields
from typing import Annotated, Any, Literal

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
from birefnet.matte import Kind
from birefnet.options import Options

LEFT_OUT = frozenset({"batch_size"})  # the server batches across requests
LONGEST_LIST = 64  # boxes or points
ALIASES = {"type": "kind", "box": "boxes", "point": "points", "not_point": "other_points"}
"""Names of the command's options that differ from those of the fields."""

_LARGEST = {"mask_blur": 64.0, "mask_offset": 64.0, "band": 128.0}  # beyond, they take minutes
_LARGEST_OTHER = 10_000.0
_DATA_URI = re.compile(r"data:[\w.+/;=-]*,", re.ASCII)


def picture_bytes(text: str, field: str = "image") -> bytes:
    """The bytes behind base64 text or a data URI.

    Raises:
        ValueError: it is neither.
    """
    body = text.strip()
    if (found := _DATA_URI.match(body[:200])) is not None:
        if not found.group().endswith(";base64,"):
            raise ValueError(f"{field} is a data URI without base64")
        body = body[found.end() :]
    try:
        data = base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{field} is not base64, nor a data URI with base64") from None
    if not data:
        raise ValueError(f"{field} is empty")
    return data


def _resolution(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(r"\s*\d{1,6}\s*[xX,]\s*\d{1,6}\s*", value):
        return tuple(int(side) for side in re.split("[xX,]", value))
    return value


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


def _annotation(name: str, hint: Any) -> Any:
    if hint is Any:
        return _PICTURE
    if name == "kind":
        return Kind
    if name == "format":
        return Literal[(*FORMATS, "jpg", "tif")] | None
    if name == "resolution":
        return Annotated[
            hint,
            BeforeValidator(_resolution),
            WithJsonSchema(
                {
                    "anyOf": [
                        {"type": "integer", "minimum": 1},
                        {"type": "string", "pattern": r"^(native|\d+x\d+)$"},
                        {"type": "null"},
                    ]
                }
            ),
        ]
    if hint == tuple[str, ...]:
        return Annotated[hint, BeforeValidator(_texts), Field(max_length=LONGEST_LIST)]
    if hint is float or {float, str} & set(typing.get_args(hint)) == {float}:
        most = _LARGEST.get(name, _LARGEST_OTHER)
        return Annotated[hint, Field(ge=-most, le=most)]
    return hint


def descriptions() -> dict[str, str]:
    """What the docstring of `Options` says of each field."""
    text = re.sub(r"\n {12,}", " ", (Options.__doc__ or "").partition("Attributes:")[2])
    found: dict[str, str] = {}
    for names, meaning in re.findall(r"^ {8}([\w, ]+): (.+)$", text, re.MULTILINE):
        for name in names.split(","):
            found[name.strip()] = meaning.strip().replace("`", "")
    return found


class Answer(BaseModel):
    """What a request may say beside the options."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str | None = Field(
        None, description="One of /v1/models; the default if left out.", max_length=200
    )
    answer: Literal["picture", "json"] | None = Field(
        None, description="The picture itself, or JSON; by the Accept header if left out."
    )
    include_image: bool = Field(True, description="Whether JSON holds the picture.")
    include_mask: bool = Field(True, description="Whether JSON holds the mask.")


def option_annotations(names: Collection[str] | None = None) -> dict[str, Any]:
    """Fields of `Options` as pydantic makes models of them; all that clients may set, or some."""
    hints = typing.get_type_hints(Options)
    said = descriptions()
    made: dict[str, Any] = {}
    for item in fields(Options):
        if item.name not in LEFT_OUT and (names is None or item.name in names):
            field = Field(item.default, description=said.get(item.name))
            made[item.name] = (_annotation(item.name, hints[item.name]), field)
    return made


OptionFields: type[Answer] = create_model("OptionFields", __base__=Answer, **option_annotations())
"""Every option of `Options`, with text and JSON read as people write them."""

LISTS = frozenset(
    name for name, hint in typing.get_type_hints(Options).items() if hint == tuple[str, ...]
)
"""Fields that a form may repeat."""


def options_of(asked: BaseModel) -> Options:
    """The options among the fields of a request."""
    names = [item.name for item in fields(Options) if item.name not in LEFT_OUT]
    return Options(**{name: getattr(asked, name) for name in names})
