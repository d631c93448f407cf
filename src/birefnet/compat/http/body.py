"""Read what clients of other services send: forms and JSON, pictures as files, base64 or URLs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from birefnet.serving.errors import InvalidRequest, Unsupported
from birefnet.serving.json_guard import read_object
from birefnet.serving.native.request import LINE_FORM, decoded, read_line
from birefnet.serving.service import Service

MOST_PARTS = 100
"""Parts of a form; no service that is spoken here has more than thirty."""

Body = dict[str, Any]
"""Text and bytes by name; of what came several times a list, where the name ends in []."""


async def read_body(request: Request, service: Service) -> Body:
    """The fields of a form or of a JSON object, empty ones left out. A form may repeat a name that
    ends in []; its values are a list.

    Raises:
        Unsupported: another content type.
        InvalidRequest: a body that is not what its content type says.
        TooLarge: too many fields.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json" or kind.endswith("+json"):
        values = read_object(await request.body())
        return {name: value for name, value in values.items() if value not in (None, "")}
    if kind == LINE_FORM:
        return _fields(await read_line(request))
    if kind == "multipart/form-data":
        return await _form(request, service)
    if not kind and not await request.body():
        return {}
    raise Unsupported(
        f"the content type is {kind[:60]!r}; send multipart/form-data, "
        "application/x-www-form-urlencoded or application/json"
    )


async def _form(request: Request, service: Service) -> Body:
    parts: list[tuple[str, str | bytes]] = []
    async with request.form(
        max_files=MOST_PARTS, max_fields=MOST_PARTS, max_part_size=service.settings.max_bytes
    ) as form:
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                parts.append((name, value))
            elif value.filename or value.size:  # not a browser's empty file field
                parts.append((name, await value.read()))
    return _fields(parts)


def _fields(parts: Iterable[tuple[str, str | bytes]]) -> Body:
    fields: Body = {}
    for name, value in parts:
        if name.endswith("[]"):
            fields.setdefault(name, []).append(value)
        elif value != "":
            if name in fields:
                raise InvalidRequest(f"{name[:40]} is given twice; give it once")
            fields[name] = value
    return fields


async def picture_of(value: object, name: str, service: Service) -> bytes:
    """A picture that a field holds: bytes of a file, a URL to fetch, a data URI or base64.

    Raises:
        InvalidRequest, TooLarge, FetchError: it holds none.
    """
    if isinstance(value, bytes):
        return value
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} is not text; give a file, a URL, a data URI or base64")
    if value[:8].lower().startswith(("http://", "https://")):
        return await service.fetch(value)
    return await decoded(value, name)


async def file_at(address: object, name: str, service: Service) -> bytes:
    """The file at an http(s) URL or in a data URI.

    Raises:
        InvalidRequest, TooLarge, FetchError: as for `picture_of`.
    """
    if isinstance(address, str) and address[:5].lower() != "data:":
        return await service.fetch(address)
    return await picture_of(address, name, service)
