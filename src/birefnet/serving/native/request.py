"""Read a request, however it is sent: a form with a file, JSON, or the picture as the body."""

from __future__ import annotations

import asyncio
import io
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, BinaryIO, TypeVar
from urllib.parse import parse_qsl

from pydantic import BaseModel, ValidationError
from starlette.datastructures import UploadFile
from starlette.requests import Request

from birefnet.errors import UsageError
from birefnet.options import FILE_OPTIONS, OPTIONS, Options
from birefnet.presets import find_preset
from birefnet.serving.errors import InvalidRequest, Unsupported
from birefnet.serving.json_guard import read_object
from birefnet.serving.native.options import ALIASES, picture_bytes
from birefnet.serving.service import Service
from birefnet.serving.settings import MIB

Fields = TypeVar("Fields", bound=BaseModel)
T = TypeVar("T")

LINE_FORM = "application/x-www-form-urlencoded"
SOURCES = ("file", "image", "url")
_MOST_FIELDS = 200
_LONG = 2**16  # characters


async def read_values(request: Request) -> dict[str, Any]:
    """The fields of a request, query and body together; files are `UploadFile`s.

    Raises:
        InvalidRequest: a body that cannot be understood.
        Unsupported: a body of another kind.
    """
    values = _listed(request.query_params.multi_items())
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == LINE_FORM:
        values |= _listed(await read_line(request))
    elif kind == "multipart/form-data":
        form = await request.form(
            max_files=8,
            max_fields=_MOST_FIELDS,
            max_part_size=request.app.state.settings.max_bytes,
        )
        values |= _listed(form.multi_items())
    elif kind == "application/json" or kind.endswith("+json"):
        values |= read_object(await request.body())
    elif kind.startswith(("image/", "video/")) or kind in (
        "application/octet-stream",
        "application/zip",
        "application/x-zip-compressed",
    ):
        values["file"] = await _spooled(request)
    elif await request.body():
        raise Unsupported(
            f"the body is {kind[:60] or 'of no stated kind'}; send multipart/form-data with a "
            "file, application/json, or a picture as image/*"
        )
    return {ALIASES.get(name, name): value for name, value in values.items()}


async def read_line(request: Request) -> list[tuple[str, str]]:
    """The fields of a form of one line, `a=1&b=2`, read beside the event loop."""
    text = (await request.body()).decode("latin-1")
    return await asyncio.to_thread(parse_qsl, text, keep_blank_values=True)


async def read_source(values: dict[str, object], service: Service) -> tuple[bytes, str]:
    """The picture that a request is about, taken out of its fields, and its name.

    Raises:
        InvalidRequest: none, or more than one.
        FetchError, TooLarge: it is at a URL that does not give it.
    """
    source, is_url = _take_source(values)
    if isinstance(source, UploadFile):
        return await source.read(), source.filename or ""
    if is_url:
        return await service.fetch(source), source.partition("?")[0].rpartition("/")[2]
    return await decoded(source), ""


async def open_source(values: dict[str, object], service: Service) -> BinaryIO:
    """As `read_source` for large files, which stay on disk; the file stands at its beginning."""
    source, is_url = _take_source(values)
    if isinstance(source, UploadFile):
        return source.file
    if not is_url:
        return io.BytesIO(await decoded(source))
    file: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's
    await service.fetch_into(source, file)
    file.seek(0)
    return file


def _take_source(values: dict[str, object]) -> tuple[UploadFile | str, bool]:
    """A file or text, and whether that is a URL."""
    given = [name for name in SOURCES if values.get(name) not in (None, "")]
    if len(given) != 1:
        what = f"got {' and '.join(given)}" if given else "got no file"
        raise InvalidRequest(
            f"{what}; give one of file (of a form), image (base64 or data URI) or url"
        )
    source = values[given[0]]
    for name in SOURCES:
        values.pop(name, None)
    if not isinstance(source, (UploadFile, str)):
        raise InvalidRequest(f"{given[0]} is a {type(source).__name__}; it must be text or a file")
    return source, given[0] == "url" and isinstance(source, str)


async def _aside(texts: Iterable[object], call: Callable[..., T], *arguments: object) -> T:
    """The call, beside the event loop where one of the texts is long base64."""
    if any(isinstance(text, str) and len(text) > _LONG for text in texts):
        return await asyncio.to_thread(call, *arguments)
    return call(*arguments)


async def decoded(text: str, field: str = "image") -> bytes:
    """See `picture_bytes`.

    Raises:
        InvalidRequest: it is neither base64 nor a data URI.
    """
    try:
        return await _aside([text], picture_bytes, text, field)
    except ValueError as error:
        raise InvalidRequest(str(error)) from None


async def _spooled(request: Request) -> UploadFile:
    """A body that is a file, in memory while it is small."""
    file: Any = tempfile.SpooledTemporaryFile(MIB)  # noqa: SIM115 - the caller's
    async for chunk in request.stream():
        file.write(chunk)
    file.seek(0)
    return UploadFile(file)


async def read_options(
    values: Mapping[str, object], service: Service, kind: type[Fields]
) -> Fields:
    """The fields checked and converted; pictures among them read, or fetched from their URLs.

    Raises:
        InvalidRequest: an unknown field, or a value that makes no sense.
    """
    plain: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, UploadFile):
            plain[name] = await value.read()
        elif value == "" and not _is_list(name):
            continue  # an empty field of a form means that nothing was chosen
        else:
            plain[name] = value
    if "preset" in kind.model_fields and plain.get("preset") is not None:
        try:
            plain = {**find_preset(str(plain["preset"]), service.settings.presets), **plain}
        except UsageError as error:
            raise InvalidRequest(str(error)) from None
    try:
        fields = await _aside(plain.values(), kind.model_validate, plain)
    except ValidationError as error:
        raise InvalidRequest(_sentence(error, kind)) from None
    except RecursionError:
        raise InvalidRequest("the fields are nested too deeply") from None
    for name in kind.model_fields:
        value = getattr(fields, name)
        if name in FILE_OPTIONS and isinstance(value, str) and "://" in value:
            setattr(fields, name, await service.fetch(value))
    return fields


def with_format(options: Options, accept: str) -> Options:
    """The options with the format that the Accept header asks for, where they leave it open."""
    if options.format is not None:
        return options
    for part in accept.split(","):
        main, _, sub = part.partition(";")[0].strip().lower().partition("/")
        if main == "image" and sub in ("png", "webp", "jpeg", "tiff", "avif"):
            return replace(options, format=sub)
    return options


def _is_list(name: str) -> bool:
    """Whether a field is an option that holds several values."""
    return name in OPTIONS and OPTIONS[name].is_list


def _listed(items: Sequence[tuple[str, UploadFile | str]]) -> dict[str, Any]:
    """Repeated fields as lists, where a list is meant; otherwise repeating is an error."""
    values: dict[str, Any] = {}
    for name, value in items:
        name = ALIASES.get(name, name)
        if _is_list(name):
            if value != "":
                values.setdefault(name, []).append(value)
        elif name in values:
            raise InvalidRequest(f"{name[:40]} is given twice; give it once")
        else:
            values[name] = value
    return values


def _sentence(error: ValidationError, kind: type[BaseModel]) -> str:
    first = error.errors(include_url=False, include_context=False)[0]
    name = str(first["loc"][0])[:40] if first["loc"] else "the request"
    if first["type"] == "extra_forbidden":
        return f"there is no field {name!r}; there are {', '.join(kind.model_fields)}"
    reason = first["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return f"{name}: {reason[:1].lower()}{reason[1:]}"
